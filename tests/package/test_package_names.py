"""`import aioxide as asyncio`: every public name of asyncio is there."""

import asyncio
import collections.abc
import functools
import inspect
import socket
import subprocess
import sys
import types

import pytest

import aioxide
from aioxide._ways_in import install

NAMES = sorted(
    name
    for name, value in vars(asyncio).items()
    if not name.startswith("_") and not isinstance(value, types.ModuleType)
)


def test_every_public_name_is_there():
    assert set(asyncio.__all__) <= set(aioxide.__all__)
    assert [name for name in NAMES if not hasattr(aioxide, name)] == []
    assert set(NAMES) <= set(dir(aioxide))


def test_they_are_ours_where_there_is_one():
    ours = install.replacements()
    # Not put in the place of asyncio's by install().
    own = {"run", "new_event_loop", "Handle", "TimerHandle"}
    for name in NAMES:
        theirs = getattr(asyncio, name)
        if name not in own:
            assert getattr(aioxide, name) is ours.get(id(theirs), theirs), name
    assert aioxide.SelectorEventLoop is aioxide.Loop
    assert aioxide.to_thread is not asyncio.to_thread


@pytest.mark.parametrize("name", ["ensure_future", "to_thread", "run_coroutine_threadsafe",
                                  "wrap_future", "create_task", "iscoroutine", "sleep"])
def test_signatures_and_docs(name):
    ours, theirs = getattr(aioxide, name), getattr(asyncio, name)
    assert ours is not theirs and ours.__doc__ and ours.__name__ == theirs.__name__
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)
    if name != "create_task":  # whose keyword arguments each version adds to
        assert str(inspect.signature(ours)) == str(inspect.signature(theirs))


def test_asyncios_modules_are_there():
    assert aioxide.subprocess.PIPE == -1
    for name in ("events", "exceptions", "futures", "locks", "queues", "tasks", "transports"):
        assert getattr(aioxide, name) is getattr(asyncio, name)


def test_what_is_not_there():
    for name in ("no_such_name", "_no_such_name"):
        with pytest.raises(AttributeError, match=f"module 'aioxide' has no attribute '{name}'"):
            getattr(aioxide, name)


def test_a_program_that_imports_it_as_asyncio():
    source = """if True:
        import aioxide as asyncio
        from aioxide import *
        async def work(n):
            await asyncio.sleep(0)
            return n
        async def main():
            lock = asyncio.Lock()
            async with lock, asyncio.timeout(20):
                print(await asyncio.gather(work(1), asyncio.to_thread(int, 2)))
            done, pending = await asyncio.wait([asyncio.create_task(work(3))])
            print(done.pop().result(), await wait_for(work(4), 20))
            try:
                await asyncio.wait_for(asyncio.Event().wait(), 0.01)
            except asyncio.TimeoutError:
                print("timeout")
            child = await asyncio.create_subprocess_exec("echo", "5", stdout=asyncio.subprocess.PIPE)
            print((await child.communicate())[0])
            print(type(asyncio.get_running_loop()), type(asyncio.current_task()))
        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "[1, 2]",
        "3 4",
        "timeout",
        "b'5\\n'",
        "<class 'aioxide.Loop'> <class 'aioxide.Task'>",
    ]


def test_ensure_future(agree):
    async def scenario(case):
        async def work(n):
            return n

        class Awaitable:
            def __await__(self):
                return work(3).__await__()

        task = case.aio.ensure_future(work(1))
        case.record(isinstance(task, asyncio.Task), await task, case.aio.ensure_future(task) is task)
        future = case.loop.create_future()
        case.record(case.aio.ensure_future(future, loop=case.loop) is future)
        case.record(await case.aio.ensure_future(work(2), loop=case.loop))
        case.record(await case.aio.ensure_future(Awaitable()))
        other = case.aio.new_event_loop()
        with case.catch():
            case.aio.ensure_future(future, loop=other)
        other.close()
        for wrong in (5, None, iter(())):
            with case.catch():
                case.aio.ensure_future(wrong)
        coroutine = work(4)
        with case.catch():
            case.aio.ensure_future(coroutine, loop=other)
        case.record(coroutine.cr_frame)
        case.loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))
        case.record(await case.aio.ensure_future(work(5)))

    assert agree(scenario)[0] == (True, 1, True)


def test_iscoroutine(agree):
    def scenario(case):
        async def work():
            pass

        async def generator():
            yield

        @types.coroutine
        def flagged():
            yield

        coroutine, sleep, asynchronous = work(), case.aio.sleep(0), generator()
        for item in (coroutine, sleep, asynchronous, flagged(), work, 5, None, case.aio.Future):
            case.record(case.aio.iscoroutine(item), asyncio.iscoroutine(item))
        coroutine.close()
        sleep.close()

    assert agree(scenario)[:2] == [(True, True)] * 2


def test_what_coroutines_are_to_inspect(agree):
    """Those of native functions too, which are of types of their own."""

    @functools.singledispatch
    def told(thing):
        return "something"

    @told.register
    def _(thing: types.CoroutineType):
        return "a coroutine"

    async def scenario(case):
        aio, loop = case.aio, case.loop
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.send(b"data")
        reader = aio.StreamReader()
        reader.feed_data(b"line\n")
        for coroutine in (
            aio.sleep(0),
            aio.sleep(0, 5),
            aio.Lock().acquire(),
            aio.Queue().put(1),
            aio.wait([loop.create_task(aio.sleep(0))]),
            aio.wait_for(aio.sleep(0), 20),
            aio.to_thread(int),
            aio.Condition().__aenter__(),
            reader.readline(),
            loop.sock_recv(ours, 10),
        ):
            case.record(
                inspect.iscoroutine(coroutine),
                inspect.isawaitable(coroutine),
                inspect.isgenerator(coroutine),
                isinstance(coroutine, types.CoroutineType),
                issubclass(coroutine.__class__, collections.abc.Coroutine),
                told(coroutine),
            )
            await coroutine
        ours.close()
        theirs.close()

    assert agree(scenario)[0] == (True, True, False, True, True, "a coroutine")


def test_run_coroutine_threadsafe(agree):
    async def scenario(case):
        loop = case.loop

        async def work(n):
            await asyncio.sleep(0)
            if n < 0:
                raise ValueError(n)
            return n

        def elsewhere():
            case.record(case.aio.run_coroutine_threadsafe(work(1), loop).result(20))
            with case.catch():
                case.aio.run_coroutine_threadsafe(work(-1), loop).result(20)
            with case.catch():
                case.aio.run_coroutine_threadsafe(work, loop)
            waiting = case.aio.run_coroutine_threadsafe(asyncio.Event().wait(), loop)
            case.record(waiting.cancel(), waiting.cancelled())

        await loop.run_in_executor(None, elsewhere)
        await asyncio.sleep(0.01)

        def refuse(loop, coro, **options):
            coro.close()
            raise RuntimeError("refused")

        reports = []
        loop.set_exception_handler(lambda loop, report: reports.append(report))
        loop.set_task_factory(refuse)
        future = case.aio.run_coroutine_threadsafe(work(2), loop)
        while not future.done():
            await asyncio.sleep(0)
        loop.set_task_factory(None)
        case.record(repr(future.exception()), [repr(report["exception"]) for report in reports])

    assert agree(scenario)[0] == (1,)


def test_wrap_future(agree):
    async def scenario(case):
        import concurrent.futures

        source = concurrent.futures.Future()
        wrapped = case.aio.wrap_future(source)
        case.record(isinstance(wrapped, asyncio.Future), case.aio.wrap_future(wrapped) is wrapped)
        source.set_result(5)
        case.record(await wrapped)
        source = concurrent.futures.Future()
        wrapped = case.aio.wrap_future(source, loop=case.loop)
        wrapped.cancel()
        await asyncio.sleep(0)
        case.record(source.cancelled())
        with case.catch():
            case.aio.wrap_future("text")

    assert agree(scenario)[:2] == [(True, True), (5,)]
