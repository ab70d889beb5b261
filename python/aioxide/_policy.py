"""The event loop policy, for programs that choose their loop with asyncio.set_event_loop_policy()."""

from asyncio import unix_events

from ._loop import Loop


# The class under its private name: the public one warns since Python 3.14, and it is for the caller
# of set_event_loop_policy() to be warned, which asyncio does.
class EventLoopPolicy(unix_events._UnixDefaultEventLoopPolicy):
    """asyncio's default policy, with aioxide's loops."""

    _loop_factory = Loop


EventLoopPolicy.__module__ = "aioxide"
