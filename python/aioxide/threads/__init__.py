"""For programs with several loops, or with loops and threads: a queue between them.

`aioxide.run_in_threads()` runs the loops. As asyncio's module of this name this one has
`to_thread()`, so that `import aioxide as asyncio` keeps it.
"""

from .._aioxide import to_thread as to_thread
from ._queues import AsyncQueue as AsyncQueue
from ._queues import LifoQueue as LifoQueue
from ._queues import PriorityQueue as PriorityQueue
from ._queues import Queue as Queue
from ._queues import QueueShutDown as QueueShutDown
from ._queues import ShutDown as ShutDown
from ._queues import SyncQueue as SyncQueue

__all__ = (
    "AsyncQueue",
    "LifoQueue",
    "PriorityQueue",
    "Queue",
    "QueueShutDown",
    "ShutDown",
    "SyncQueue",
    "to_thread",
)
