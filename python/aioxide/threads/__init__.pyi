from .._aioxide import to_thread as to_thread
from ._queues import AsyncQueue as AsyncQueue
from ._queues import LifoQueue as LifoQueue
from ._queues import PriorityQueue as PriorityQueue
from ._queues import Queue as Queue
from ._queues import QueueShutDown as QueueShutDown
from ._queues import ShutDown as ShutDown
from ._queues import SyncQueue as SyncQueue

__all__: tuple[str, ...] = (
    "AsyncQueue",
    "LifoQueue",
    "PriorityQueue",
    "Queue",
    "QueueShutDown",
    "ShutDown",
    "SyncQueue",
    "to_thread",
)
