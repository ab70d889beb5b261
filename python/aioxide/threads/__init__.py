"""For programs with several loops, or with loops and threads: a queue between them.

`aioxide.run_in_threads()` runs the loops. As asyncio's module of this name this one has
`to_thread()`, so that `import aioxide as asyncio` keeps it.
"""

from .._aioxide import to_thread

_QUEUES = (
    "AsyncQueue",
    "LifoQueue",
    "PriorityQueue",
    "Queue",
    "QueueShutDown",
    "ShutDown",
    "SyncQueue",
)

__all__ = (*_QUEUES, "to_thread")


def __getattr__(name):
    # Most programs need no such queue, and asyncio does not import the module queue.
    if name in _QUEUES:
        from . import _queues

        globals().update((name, getattr(_queues, name)) for name in _QUEUES)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
