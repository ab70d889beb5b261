"""The event loop policy, for programs that choose their loop with asyncio.set_event_loop_policy(),
and the effect of a policy on run()."""

from asyncio import events, runners, unix_events

from .._cold.loop import Loop, _SelectorEventLoop

# Since Python 3.14 the getter has a private name under which it does not warn.
_GETTER = (
    "_get_event_loop_policy"
    if hasattr(events, "_get_event_loop_policy")
    else "get_event_loop_policy"
)


# The base is taken by its private name. Since Python 3.14 the public one warns, and asyncio already
# warns the caller of set_event_loop_policy().
class EventLoopPolicy(unix_events._UnixDefaultEventLoopPolicy):
    """asyncio's default policy, with aioxide's loops."""

    _loop_factory = Loop


EventLoopPolicy.__module__ = "aioxide"


def is_asyncios():
    """Whether the policy is asyncio's own, so that no policy of the program's makes new loops."""
    policy = getattr(events, _GETTER)()
    return (
        type(policy) is unix_events._UnixDefaultEventLoopPolicy
        and "new_event_loop" not in vars(policy)
        and policy._loop_factory in (Loop, _SelectorEventLoop)
    )


def make_current_loop():
    """Make a loop of ours and set it as the policy's current one, as asyncio.run() does."""
    loop = Loop()
    events.set_event_loop(loop)
    return loop


def make_runner(debug, loop_factory):
    """Make the asyncio.Runner of run(): its loop is aioxide's, unless `loop_factory` makes another
    or the program has set a policy of its own, which then makes it."""
    makes_loop = loop_factory is None and is_asyncios()
    if makes_loop:
        loop_factory = make_current_loop
    runner = runners.Runner(debug=debug, loop_factory=loop_factory)
    # Then the runner tells the policy when the loop is no longer the current one.
    runner._set_event_loop |= makes_loop
    return runner
