"""Legacy mode: what programs of Python 3.5 to 3.9 rely on, each as a program of its own."""

import os
import subprocess
import sys
import textwrap

import pytest

PATH = os.pathsep.join(filter(None, sys.path))


def execute(source, *options, folder, environment=(), hide=True):
    """Exit status, lines on stdout, stderr of a program; without its warnings if `hide`."""
    program = folder / "program.py"
    program.write_text(textwrap.dedent(source))
    command = [sys.executable, *(["-W", "ignore"] if hide else []), "-m", "aioxide"]
    done = subprocess.run(
        [*command, *options, str(program)],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": PATH, **dict(environment)},
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.fixture
def legacy(tmp_path):
    """The lines that a program prints in legacy mode, started by the option or the environment."""

    def legacy(source, stderr=""):
        by_option = execute(source, "--legacy", folder=tmp_path)
        environment = {"AIOXIDE_LEGACY": "1"}.items()
        assert execute(source, folder=tmp_path, environment=environment) == by_option
        loop_only = execute(source, "--loop-only", "--legacy", folder=tmp_path)
        assert loop_only == by_option
        code, out, err = by_option
        assert (code, err) == (0, stderr), err
        return out

    return legacy


# The main thread's loop.


def test_the_loop_is_made_and_set(legacy):
    assert legacy(
        """
        import asyncio
        async def answer():
            return asyncio.get_event_loop() is loop
        loop = asyncio.get_event_loop()
        print(type(loop).__module__, loop is asyncio.get_event_loop())
        print(asyncio.get_event_loop_policy().get_event_loop() is loop)
        print(loop.run_until_complete(answer()))
        """
    ) == ["aioxide True", "True", "True"]


def test_futures_and_tasks_outside_a_loop(legacy):
    assert legacy(
        """
        import asyncio
        async def number(n):
            await asyncio.sleep(0)
            return n
        one = asyncio.ensure_future(number(1))
        both = asyncio.gather(number(2), number(3))
        future = asyncio.Future()
        shielded = asyncio.shield(number(4))
        reader = asyncio.StreamReader()
        loop = asyncio.get_event_loop()
        print({item.get_loop() is loop for item in (one, both, future, shielded)})
        both.add_done_callback(lambda both: (print(both.result()), loop.stop()))
        loop.run_forever()
        print(loop.run_until_complete(one), loop.run_until_complete(shielded))
        """
    ) == ["{True}", "[2, 3]", "1 4"]


def test_only_in_the_main_thread_and_before_a_loop_was_set(legacy):
    assert legacy(
        """
        import asyncio, threading
        def ask():
            try:
                print(asyncio.get_event_loop())
            except RuntimeError as error:
                print(error)
        thread = threading.Thread(target=ask, name="other")
        thread.start()
        thread.join()
        loop = asyncio.get_event_loop()
        asyncio.set_event_loop(None)
        ask()
        asyncio.set_event_loop(loop)
        print(asyncio.get_event_loop() is loop)
        asyncio.run(asyncio.sleep(0))
        ask()
        """
    ) == [
        "There is no current event loop in thread 'other'.",
        "There is no current event loop in thread 'MainThread'.",
        "True",
        "There is no current event loop in thread 'MainThread'.",
    ]


def test_a_closed_loop_stays_the_current_one(legacy):
    assert legacy(
        """
        import asyncio
        asyncio.get_event_loop().close()
        coroutine = asyncio.sleep(0)
        try:
            asyncio.get_event_loop().run_until_complete(coroutine)
        except RuntimeError as error:
            print(error)
        coroutine.close()
        """
    ) == ["Event loop is closed"]


def test_an_unclosed_loop_prints_nothing(tmp_path):
    source = "import asyncio\nasyncio.get_event_loop().run_until_complete(asyncio.sleep(0))\n"
    code, out, err = execute(source, "--legacy", folder=tmp_path, hide=False)
    assert (code, out) == (0, [])
    assert err.splitlines() == [
        f"{tmp_path / 'program.py'}:2: DeprecationWarning: There is no current event loop",
        "  asyncio.get_event_loop().run_until_complete(asyncio.sleep(0))",
    ]


def test_a_policy_of_the_programs_own_keeps_its_rule(legacy):
    assert legacy(
        """
        import asyncio
        class Own(asyncio.DefaultEventLoopPolicy):
            def get_event_loop(self):
                raise RuntimeError("none here")
        asyncio.set_event_loop_policy(Own())
        try:
            asyncio.get_event_loop()
        except RuntimeError as error:
            print(error)
        """
    ) == ["none here"]


# Coroutines made of generators.


def test_the_decorator(legacy):
    assert legacy(
        """
        import asyncio, inspect
        @asyncio.coroutine
        def generator(n):
            got = yield from asyncio.sleep(0)
            yield
            inner = yield from native(n)
            return got, inner
        async def native(n):
            return n + (await plain(n)) + (await of_future(n))
        @asyncio.coroutine
        def plain(n):
            return n
        @asyncio.coroutine
        def of_future(n):
            future = asyncio.get_event_loop().create_future()
            future.set_result(n)
            return future
        @asyncio.coroutine
        def of_awaitable(n):
            return generator(n)
        @asyncio.coroutines.coroutine
        async def kept():
            return "kept"
        loop = asyncio.get_event_loop()
        for coroutine in (generator(1), plain(2), of_future(3), of_awaitable(4), kept()):
            print(loop.run_until_complete(coroutine))
        functions = generator, plain, of_future, kept
        print([asyncio.iscoroutinefunction(function) for function in functions])
        print(inspect.iscoroutinefunction(kept), generator.__name__, plain.__name__)
        """
    ) == [
        "(None, 3)",
        "2",
        "3",
        "(None, 12)",
        "kept",
        "[True, True, True, True]",
        "True generator plain",
    ]


def test_generators_as_coroutines(legacy):
    assert legacy(
        """
        import asyncio
        def hello(n):
            yield
            for _ in range(n):
                yield from asyncio.get_event_loop().create_task(asyncio.sleep(0))
            return n
        loop = asyncio.get_event_loop()
        print(asyncio.iscoroutine(hello(1)), asyncio.iscoroutine(iter([])))
        print(loop.run_until_complete(hello(1)))
        task = loop.create_task(hello(2))
        print("coro=<hello()" in repr(task), repr(task).partition(" ")[0])
        print(loop.run_until_complete(task), repr(task).partition("program")[0].split(" ")[0:2])
        print(loop.run_until_complete(asyncio.Task(hello(3), loop=loop)))
        print(loop.run_until_complete(asyncio.ensure_future(hello(4))))
        async def main():
            print(await asyncio.gather(hello(5), hello(6)))
            print(await asyncio.wait_for(hello(7), 10))
            print(asyncio.run_coroutine_threadsafe(hello(8), loop).cancel())
        loop.run_until_complete(main())
        """
    ) == ["True False", "1", "True <Task", "2 ['<Task', 'finished']", "3", "4", "[5, 6]", "7", "True"]


def test_yield_from_is_a_channel_both_ways(legacy):
    assert legacy(
        """
        import asyncio
        def inner():
            try:
                yield from asyncio.Future()
            except asyncio.CancelledError as error:
                print("inner got", type(error).__name__)
            return "from within"
        @asyncio.coroutine
        def outer():
            print("outer got", (yield from inner()))
            return "end"
        @asyncio.coroutine
        def fails():
            yield from asyncio.sleep(0)
            raise ValueError("to the caller")
        async def main():
            task = asyncio.ensure_future(outer())
            await asyncio.sleep(0)
            task.cancel()
            print(await task)
            try:
                await fails()
            except ValueError as error:
                print(error)
        asyncio.get_event_loop().run_until_complete(main())
        """
    ) == ["inner got CancelledError", "outer got from within", "end", "to the caller"]


# wait() with coroutines.


def test_wait_with_coroutines(legacy):
    assert legacy(
        """
        import asyncio
        async def work(n):
            print("starts", n)
            await asyncio.sleep(0)
            return n
        async def main():
            twice = work(3)
            task = asyncio.ensure_future(work(4))
            done, pending = await asyncio.wait([work(1), work(2), twice, twice, task])
            print(sorted(task.result() for task in done), pending)
            print({isinstance(task, asyncio.Task) for task in done}, task in done)
            done, pending = await asyncio.wait(
                (work(n) for n in (5, 6)), return_when=asyncio.FIRST_COMPLETED, timeout=10
            )
            print(len(done) + len(pending))
            await asyncio.wait(done | pending)
            for wrong in (twice, task, []):
                try:
                    await asyncio.wait(wrong)
                except (TypeError, ValueError) as error:
                    print(type(error).__name__)
        asyncio.get_event_loop().run_until_complete(main())
        """
    ) == [
        *("starts 4", "starts 1", "starts 2", "starts 3"),
        "[1, 2, 3, 4] set()",
        "{True} True",
        *("starts 5", "starts 6", "2"),
        *("TypeError", "TypeError", "ValueError"),
    ]


# The argument `loop`.


def test_loop_arguments(legacy):
    assert legacy(
        """
        import asyncio
        async def work(n):
            return n
        async def main(loop):
            print(await asyncio.sleep(0, "slept", loop=loop))
            print(await asyncio.gather(work(1), work(2), loop=loop, return_exceptions=True))
            print(await asyncio.gather(loop=loop))
            print(await asyncio.shield(work(3), loop=loop))
            print(await asyncio.wait_for(work(4), 10, loop=loop))
            print(len((await asyncio.wait([work(5)], loop=loop))[0]))
            for future in asyncio.as_completed([work(6)], loop=loop):
                print(await future)
            lock, event = asyncio.Lock(loop=loop), asyncio.Event(loop=loop)
            async with asyncio.Condition(loop=loop), asyncio.Condition(lock, loop=loop) as same:
                print(same, lock.locked())
            event.set()
            print(await event.wait())
            print(asyncio.Semaphore(2, loop=loop)._value)
            print(asyncio.BoundedSemaphore(value=3, loop=loop)._value)
            for kind in (asyncio.Queue, asyncio.PriorityQueue, asyncio.LifoQueue):
                queue = kind(5, loop=loop)
                queue.put_nowait(7)
                print(queue.maxsize, await queue.get())
            async def serve(reader, writer):
                writer.write(await reader.readline())
                writer.close()
            server = await asyncio.start_server(serve, "127.0.0.1", 0, loop=loop)
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port, loop=loop, limit=99)
            writer.write(b"line\\n")
            print(await reader.read())
            writer.close()
            server.close()
            child = await asyncio.create_subprocess_exec("true", loop=loop)
            print(await child.wait())
            child = await asyncio.create_subprocess_shell("exit 3", loop=loop)
            print(await child.wait())
        loop = asyncio.get_event_loop()
        loop.run_until_complete(main(loop))
        print(loop.run_until_complete(asyncio.gather(work(8), loop=loop)))
        print(type(asyncio.Lock()).__name__, isinstance(asyncio.Condition()._lock, asyncio.Lock))
        class Own(asyncio.Queue):
            def __init__(self, *, loop=None):
                super().__init__(1, loop=loop)
        print(Own(loop=loop).maxsize)
        """
    ) == [
        *("slept", "[1, 2]", "[]", "3", "4", "1", "6", "None True", "True", "2", "3"),
        *("5 7", "5 7", "5 7", "b'line\\n'", "0", "3", "[8]", "Lock True", "1"),
    ]


def test_locks_are_bound_when_they_first_wait(legacy):
    assert legacy(
        """
        import asyncio
        lock, event, limit = asyncio.Lock(), asyncio.Event(), asyncio.Semaphore(1)
        condition = asyncio.Condition()
        async def one(n):
            async with limit, lock, condition:
                await asyncio.sleep(0)
                condition.notify_all()
            event.set()
            return n
        async def main():
            print(await asyncio.gather(one(1), one(2), event.wait()))
        asyncio.run(main())
        """
    ) == ["[1, 2, True]"]


# How it is seen, and that it is not.


def test_each_has_its_warning(tmp_path):
    source = """
        import asyncio
        @asyncio.coroutine
        def old():
            yield from asyncio.sleep(0)
        async def main():
            await asyncio.wait([old()])
            await asyncio.sleep(0, loop=asyncio.get_event_loop())
            asyncio.Lock(loop=asyncio.get_event_loop())
        asyncio.get_event_loop().run_until_complete(main())
        """
    code, out, err = execute(source, "--legacy", folder=tmp_path, hide=False)
    assert code == 0
    lines = [line for line in err.splitlines() if "Warning" in line]
    places = [line.partition(":")[2].partition(":")[0] for line in lines]
    assert places == ["3", "10", "7", "8", "9"]
    assert ["DeprecationWarning" in line for line in lines] == [True] * 5


@pytest.mark.parametrize("setting", [None, "", "0"])
def test_it_is_off_by_default(tmp_path, setting):
    source = """
        import asyncio, sys
        print(hasattr(asyncio, "coroutine"), hasattr(asyncio.coroutines, "coroutine"))
        print("aioxide._for_programs.legacy" in sys.modules)
        async def main():
            for call in (
                lambda: asyncio.sleep(0, loop=None),
                lambda: asyncio.Lock(loop=None),
                lambda: asyncio.gather(loop=None),
            ):
                try:
                    call()
                except TypeError:
                    print("TypeError")
            coroutine = asyncio.sleep(0)
            try:
                await asyncio.wait([coroutine])
            except TypeError as error:
                print(error)
            coroutine.close()
        asyncio.run(main())
        if sys.version_info >= (3, 14):
            try:
                asyncio.get_event_loop()
            except RuntimeError as error:
                print(error)
        if sys.version_info >= (3, 12):
            print(asyncio.iscoroutine(_ for _ in ()))
        """
    environment = {} if setting is None else {"AIOXIDE_LEGACY": setting}
    code, out, err = execute(source, folder=tmp_path, environment=environment.items())
    assert (code, err) == (0, "")
    assert out[:2] == ["False False", "False"] and out[2:5] == ["TypeError"] * 3
    assert out[5] == "Passing coroutines is forbidden, use tasks explicitly."
    if sys.version_info >= (3, 14):
        assert out[6] == "There is no current event loop in thread 'MainThread'."
    if sys.version_info >= (3, 12):
        assert out[-1] == "False"


def test_child_processes_have_it(legacy):
    assert legacy(
        """
        import asyncio, multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        def old(n):
            @asyncio.coroutine
            def inner():
                yield from asyncio.sleep(0)
                return n
            return asyncio.get_event_loop().run_until_complete(inner())
        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                loop = asyncio.get_event_loop()
                print(loop.run_until_complete(loop.run_in_executor(pool, old, 5)))
        """
    ) == ["5"]


def test_uninstall_takes_it_back(tmp_path):
    source = """
        import asyncio, os
        import aioxide
        from aioxide._ways_in import install
        aioxide.uninstall()
        def state():
            return {
                (id(owner), name): value
                for owner in install._owners()
                for name, value in vars(owner).items()
                if name not in ("__warningregistry__", "_iscoroutine_typecache")
            }
        before = state()
        os.environ["AIOXIDE_LEGACY"] = "1"
        aioxide.install()
        aioxide.install()
        print(hasattr(asyncio, "coroutine"), asyncio.iscoroutine(_ for _ in ()))
        aioxide.uninstall()
        after = state()
        changed = {key[1] for key in before.keys() | after.keys() if before.get(key) is not after.get(key)}
        print(changed - {"__abstractmethods__", "_abc_impl", "__static_attributes__"})
        """
    code, out, err = execute(source, folder=tmp_path)
    assert (code, out, err) == (0, ["True True", "set()"], "")
