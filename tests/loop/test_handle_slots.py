"""Handles whose fields are the slots of asyncio's classes: what every way to them shows."""

import asyncio
import contextlib
import contextvars
import copy
import gc
import pathlib
import socket
import subprocess
import sys
import sysconfig
import weakref

import pytest

import aioxide

SUPPORT = pathlib.Path(__file__).parent.parent / "support"
IN_SLOTS = pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="without the GIL the fields lie behind asyncio's slots",
)
NAMES = ("_args", "_callback", "_cancelled", "_context", "_loop", "_repr", "_source_traceback")


@IN_SLOTS
def test_sizes():
    """No larger than asyncio's, but for the time and the rank of a timer."""
    pre_header = sys.getsizeof(asyncio.Handle.__new__(asyncio.Handle)) - asyncio.Handle.__basicsize__
    assert pre_header + aioxide.Handle.__basicsize__ == (96 if sys.version_info < (3, 12) else 104)
    assert pre_header + aioxide.TimerHandle.__basicsize__ == (
        128 if sys.version_info < (3, 12) else 136
    )


def test_attributes_are_read_and_set(agree):
    async def main(case):
        def callback(*args):
            case.record("called", args)

        loop = case.loop
        makers = [
            lambda *args: loop.call_soon(callback, *args),
            lambda *args: loop.call_soon(callback, *args, context=contextvars.Context()),
            lambda *args: loop.call_later(0, callback, *args),
            lambda *args: loop.call_soon_threadsafe(callback, *args),
        ]
        for make in makers:
            for args in ((), (1,), ((1, 2),), (1, 2), (None,), ([1],)):
                handle = make(*args)
                case.record(handle._args, handle._callback is callback, handle._cancelled)
                case.record(handle._loop is loop, handle._repr, handle._source_traceback)
                case.record(type(handle._context).__name__, handle._context is handle._context)
                handle._repr = "a text"
                case.record(repr(handle), handle._repr, handle._args)
                handle._repr = None
                case.record(handle._repr, handle._args)
                context = handle._context
                handle._source_traceback = [1]
                case.record(handle._source_traceback, handle._context is context)
                handle._source_traceback = None
                case.record(handle._source_traceback, handle._args)
                await asyncio.sleep(0.001)
        for make in makers:
            handle = make(1)
            handle._cancelled = True
            case.record(handle.cancelled(), handle._cancelled)
            await asyncio.sleep(0.001)
            handle = make(1)
            handle._cancelled = True
            handle._cancelled = False
            case.record(handle.cancelled(), handle._cancelled)
            await asyncio.sleep(0.001)
            handle = make(1)
            handle.cancel()
            case.record(handle._args, handle._callback, handle._cancelled, handle._repr)
            await asyncio.sleep(0.001)

    agree(main)


def test_other_arguments(agree):
    async def main(case):
        for args in ([1, 2], [], "ab", {1: 2}, (3,), range(2)):
            handle = case.loop.call_soon(lambda *args: case.record(args), 0)
            handle._args = args
            case.record(handle._args is args)
            await asyncio.sleep(0)
        for args in ([1, 2], (3,)):
            handle = case.loop.call_soon(case.record, 0, 1)
            handle._args = args
            handle._run()
            handle.cancel()

    agree(main)


@IN_SLOTS
def test_what_the_bases_descriptors_show():
    """Each shows what the attribute is, or nothing; one argument lies there without its tuple."""

    async def main():
        loop = asyncio.get_running_loop()
        context = contextvars.Context()
        made = [
            loop.call_soon(print),
            loop.call_soon(print, "one", context=context),
            loop.call_later(60, print, "one", "two"),
            loop.call_later(60, print, context=context),
        ]
        made[0].cancel()
        for handle in made:
            for name in NAMES:
                try:
                    found = getattr(asyncio.Handle, name).__get__(handle)
                except AttributeError:
                    assert name not in ("_loop", "_context")
                    continue
                if name == "_args" and found == "one":
                    found = ("one",)
                if name != "_context" or handle._context is context:
                    assert found == getattr(handle, name), name
        assert asyncio.TimerHandle._scheduled.__get__(made[2]) is True
        for handle in made:
            handle.cancel()
        await asyncio.sleep(0)

    aioxide.run(main())


def test_anything_put_in_through_the_bases_descriptors(monkeypatch):
    """Nothing breaks, whatever lies in a slot, and each object is released."""
    # pytest would keep what a report of a failure refers to
    monkeypatch.setattr(sys, "unraisablehook", lambda report: None)

    class Thing:
        def __call__(self, *args):
            pass

        get_debug = call_exception_handler = _timer_handle_cancelled = __call__

    async def main():
        loop = asyncio.get_running_loop()
        loop.call_exception_handler = lambda report: None
        references = []
        for name in (*NAMES, "_scheduled", "_when"):
            for make in (
                lambda: loop.call_soon(print, 1),
                lambda: loop.call_later(0, print, 1),
                lambda: loop.call_later(0.0, lambda *args: None, 1, 2),
            ):
                handle = make()
                if not hasattr(type(handle), name):
                    continue
                thing = Thing()
                references.append(weakref.ref(thing))
                vars(asyncio.TimerHandle).get(name, getattr(asyncio.Handle, name, None)).__set__(
                    handle, thing
                )
                if name in ("_args", "_callback", "_context"):
                    # released by the run, after which the collector need not know the handle
                    thing.handle = handle
                for shown in (*NAMES, "_when", "_scheduled"):
                    with contextlib.suppress(AttributeError, TypeError):
                        getattr(handle, shown)
                del thing, handle
                await asyncio.sleep(0.001)
        handle = None
        return references

    with asyncio.Runner(loop_factory=aioxide.new_event_loop) as runner:
        references = runner.run(main())
    gc.collect()
    assert [reference() for reference in references] == [None] * len(references)


@IN_SLOTS
def test_copies(agree):
    async def main(case):
        def callback(*args):
            case.record("called", args)

        loop = case.loop
        handles = [
            loop.call_soon(callback),
            loop.call_soon(callback, 1),
            loop.call_later(60, callback, 1, 2),
            loop.call_soon_threadsafe(callback, 3),
        ]
        for handle in handles:
            twin = copy.copy(handle)
            case.record(type(twin) is type(handle), twin._args, twin._callback is callback)
            case.record(twin._loop is loop, twin._context is handle._context, twin.cancelled())
            if hasattr(handle, "when"):
                case.record(twin.when() == handle.when(), twin == handle, twin._scheduled)
            twin._run()
            handle.cancel()
            case.record(twin.cancelled(), twin._callback is callback)
        await asyncio.sleep(0)

    agree(main)


def test_a_callback_sees_its_handle(agree):
    async def main(case):
        def callback(*args):
            case.record(args, handle.cancelled())
            handle._repr = None
            handle._source_traceback = None
            handle._args = [1]
            handle.cancel()

        for make in (case.loop.call_soon, lambda *call: case.loop.call_later(0, *call)):
            for args in ((1,), (1, 2)):
                handle = make(callback, *args)
                await asyncio.sleep(0.001)
                case.record(handle.cancelled(), handle._args, handle._callback)

    agree(main)


def test_a_readers_handle_keeps_its_callback(agree):
    async def main(case):
        ours, theirs = socket.socketpair()
        case.loop.add_reader(ours, lambda *args: case.record(args, ours.recv(1)), "one")
        for byte in (b"a", b"b"):
            theirs.send(byte)
            await asyncio.sleep(0.01)
        key = case.loop._selector.get_key(ours)
        case.record(key.data[0]._cancelled, key.data[0]._args)
        case.loop.remove_reader(ours)
        ours.close()
        theirs.close()
        case.record(key.data[0]._cancelled, key.data[0]._args)

    agree(main)


@IN_SLOTS
def test_a_class_of_both_modules_handles():
    """A class from both aioxide's Handle and asyncio's timer has the slots of the timer."""

    class Both(aioxide.Handle, asyncio.TimerHandle):
        pass

    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        both = Both(seen.append, [1], loop)
        both._when, both._scheduled = 2.0, False
        loop._add_callback(both)
        await asyncio.sleep(0)
        assert seen == [1]
        assert asyncio.TimerHandle._when.__get__(both) == 2.0
        cycle = Both(print, (both,), loop)
        cycle._callback = cycle.itself = cycle
        reference = weakref.ref(cycle)
        del cycle
        gc.collect()
        assert reference() is None
        both.cancel()
        assert both.cancelled() and both._callback is None
        return both

    with asyncio.Runner(loop_factory=aioxide.new_event_loop) as runner:
        reference = weakref.ref(runner.run(main()))
    gc.collect()
    assert reference() is None


SCENARIO = """
import asyncio, gc, sys, weakref
sys.path.insert(0, sys.argv[1])
import widened_handles
widened_handles.widen(sys.argv[2])
import aioxide

assert issubclass(aioxide.Handle, asyncio.Handle)
assert issubclass(aioxide.TimerHandle, asyncio.TimerHandle)

async def main():
    loop = asyncio.get_running_loop()
    seen = []
    class Thing:
        def __call__(self, *args):
            seen.append(args)
    references = []
    for make in (loop.call_soon, lambda *call: loop.call_later(0, *call), loop.call_soon_threadsafe):
        for args in ((), (1,), (1, 2)):
            thing = Thing()
            references.append(weakref.ref(thing))
            handle = make(thing, *args)
            assert handle._args == args and handle._callback is thing
            for name, slot in [*vars(asyncio.Handle).items(), *vars(asyncio.TimerHandle).items()]:
                if type(slot).__name__ == "member_descriptor" and isinstance(handle, slot.__objclass__):
                    try:
                        slot.__get__(handle)
                    except AttributeError:
                        pass
            del handle, thing
            await asyncio.sleep(0.01)
    assert seen == [(), (1,), (1, 2)] * 3, seen
    timer = loop.call_later(60, seen.append, 1)
    assert timer._scheduled and timer.when() > loop.time() + 50
    timer.cancel()
    assert timer._args is None or timer._args == ()
    timers = [loop.call_later(0, seen.append, 1) for _ in range(5000)]
    timers += [loop.call_soon(seen.append, 1) for _ in range(5000)]
    await asyncio.sleep(0.1)
    assert len(seen) == 10009
    del timers, timer
    gc.collect()
    assert [reference() for reference in references] == [None] * 9
    handle = aioxide.Handle(print, (1,), loop)
    handle._callback = handle
    reference = weakref.ref(handle)
    del handle
    gc.collect()
    assert reference() is None

aioxide.run(main())
print(aioxide.Handle.__basicsize__ - asyncio.Handle.__basicsize__)
"""


@IN_SLOTS
@pytest.mark.parametrize(
    ("what", "added"),
    [("none", 0), ("moved", 0), ("timer", 0), ("parted", 72), ("unrelated", 80), ("property", 72)],
)
def test_handles_of_another_layout(what, added):
    """A value lies over the slots if these lie side by side, else behind the objects of asyncio's
    largest class."""
    command = [sys.executable, "-c", SCENARIO, str(SUPPORT), what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == added
