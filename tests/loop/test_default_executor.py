"""The default executor: what concurrent.futures.ThreadPoolExecutor promises, through a loop, and
to_thread()."""

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import inspect
import os
import random
import subprocess
import sys
import textwrap
import threading
import weakref

import pytest

variable = contextvars.ContextVar("variable", default="outside")


def python(source, *options):
    """What a program prints, run on asyncio and on aioxide; both alike."""
    seen = []
    for name in ("asyncio", "aioxide"):
        program = f"import {name} as aio\nimport asyncio, threading, sys, time, os\n"
        program += textwrap.dedent(source)
        done = subprocess.run(
            [sys.executable, *options, "-c", program],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        seen.append((done.returncode, done.stdout, done.stderr))
    assert seen[0] == seen[1]
    return seen[1]


def test_the_executor_is_seen(agree):
    async def scenario(case):
        loop = case.loop
        case.record(loop._default_executor)
        name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
        executor = loop._default_executor
        case.record(name, isinstance(executor, concurrent.futures.ThreadPoolExecutor))
        case.record(executor._max_workers, len(executor._threads))
        case.record([thread.daemon for thread in executor._threads])
        case.record(all(thread in threading.enumerate() for thread in executor._threads))
        case.record(executor.submit(pow, 2, exp=5).result(10))
        case.record(list(executor.map(abs, [-1, -2, 3])))
        failed = executor.submit(int, "x")
        case.record(isinstance(failed, concurrent.futures.Future), type(failed.exception(10)))

    assert agree(scenario)[1] == ("asyncio_0", True)


def test_another_executor_makes_no_default_one(run):
    async def main():
        loop = asyncio.get_running_loop()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            assert await loop.run_in_executor(pool, abs, -1) == 1
            assert await loop.run_in_executor(executor=pool, func=int) == 0
        assert loop._default_executor is None

    run(main)


def test_calls_run_side_by_side(run):
    """As many as there may be threads, and no more; each call finds a thread if there may be one."""

    async def main():
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, int)
        most = loop._default_executor._max_workers
        barrier = threading.Barrier(most)
        extra = threading.Event()
        futures = [loop.run_in_executor(None, barrier.wait, 20) for _ in range(most)]
        futures.append(loop.run_in_executor(None, extra.set))
        await asyncio.gather(*futures)
        assert extra.is_set() and len(loop._default_executor._threads) == most

    run(main)


def test_an_idle_thread_is_used_again(run):
    async def main():
        loop = asyncio.get_running_loop()
        for _ in range(20):
            await loop.run_in_executor(None, int)
            while loop._default_executor._work_queue.qsize():
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.002)
        assert len(loop._default_executor._threads) <= 2

    run(main)


def test_many_results_in_order(run):
    async def main():
        loop = asyncio.get_running_loop()
        for count in (1, 10, 3000):
            calls = [loop.run_in_executor(None, divmod, number, 7) for number in range(count)]
            assert await asyncio.gather(*calls) == [divmod(number, 7) for number in range(count)]
        ended = []
        for number in range(50):
            future = loop.run_in_executor(None, int, number)
            future.add_done_callback(lambda future: ended.append(future.result()))
        await asyncio.to_thread(int)
        while len(ended) < 50:
            await asyncio.sleep(0.001)
        assert sorted(ended) == list(range(50))

    run(main)


def test_a_traceback_leads_into_the_call(aio, run):
    def fail():
        raise ValueError

    async def main():
        loop = asyncio.get_running_loop()
        for call in (lambda: loop.run_in_executor(None, fail), lambda: aio.to_thread(fail)):
            with pytest.raises(ValueError) as caught:
                await call()
            names = [entry.name for entry in caught.traceback]
            assert names[0] == "main" and names[-1] == "fail"

    run(main)


@pytest.mark.parametrize("seed", range(3))
def test_random_cancellation(run, seed):
    """Each call either has its result or was cancelled; who has a result has run, once."""
    chance = random.Random(seed)

    async def main():
        loop = asyncio.get_running_loop()
        ran, tasks, cancelled = [], [], set()
        for number in range(2000):
            if chance.random() < 0.5:
                tasks.append(loop.create_task(asyncio.to_thread(ran.append, number)))
            else:
                tasks.append(loop.run_in_executor(None, ran.append, number))
            if chance.random() < 0.3:
                victim = chance.randrange(len(tasks))
                if tasks[victim].cancel():
                    cancelled.add(victim)
            if chance.random() < 0.05:
                await asyncio.sleep(chance.choice((0, 0, 0.001)))
        await asyncio.gather(*tasks, return_exceptions=True)
        await loop.shutdown_default_executor()
        assert len(ran) == len(set(ran))
        for number, task in enumerate(tasks):
            assert task.cancelled() == (number in cancelled)
            assert task.cancelled() or number in ran
            assert task.cancelled() or task.result() is None

    run(main)


class Own(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [
        ValueError("text"),
        Own("text"),
        asyncio.CancelledError("from the thread"),
        concurrent.futures.CancelledError("from the thread"),
        concurrent.futures.InvalidStateError("from the thread"),
        TimeoutError(),
        GeneratorExit(),
        StopAsyncIteration(5),
    ],
    ids=lambda error: type(error).__module__ + "." + type(error).__name__,
)
def test_exceptions(agree, error):
    async def scenario(case):
        def fail():
            raise type(error)(*error.args)

        for call in (lambda: case.loop.run_in_executor(None, fail), lambda: case.aio.to_thread(fail)):
            try:
                await call()
            except BaseException as caught:
                case.record(type(caught), caught.args)

    assert len(agree(scenario)) == 2


def test_stop_iteration(agree, asyncio_log):
    """A future cannot have it: an error takes its place, or since then a RuntimeError."""

    async def scenario(case):
        reports = []
        case.loop.set_exception_handler(lambda loop, report: reports.append(report))
        future = case.loop.run_in_executor(None, next, iter(()))
        try:
            await asyncio.wait_for(future, 0.5)
        except BaseException as error:
            case.record(type(error).__name__, str(error))
        for report in reports:
            case.record(type(report["exception"]), str(report["exception"]))

    agree(scenario)


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit"])
def test_what_ends_the_program(error):
    code, out, err = python(
        f"""
        def fail():
            raise {error}("from the thread")

        async def main():
            future = asyncio.get_running_loop().run_in_executor(None, fail)
            await asyncio.wait([future])
            print(type(future.exception()).__name__, future.exception())
            try:
                await asyncio.get_running_loop().run_in_executor(None, fail)
            finally:
                print("left")

        try:
            aio.run(main())
        except BaseException as error:
            print(repr(error))
        """
    )
    assert out.count("from the thread") == 2 and err == ""


def test_cancelled_before_it_began(agree):
    async def scenario(case):
        loop = case.loop
        await loop.run_in_executor(None, int)
        most = loop._default_executor._max_workers
        leave = threading.Event()
        ran = []
        blocking = [loop.run_in_executor(None, leave.wait, 20) for _ in range(most)]
        waiting = [loop.run_in_executor(None, ran.append, number) for number in range(10)]
        for future in waiting[::2]:
            case.record(future.cancel())
        await asyncio.sleep(0.01)
        leave.set()
        case.record(await asyncio.gather(*blocking))
        for future in waiting:
            try:
                case.record(await future)
            except asyncio.CancelledError:
                case.record("cancelled")
        case.record(sorted(ran))

    assert agree(scenario)[-1] == ((1, 3, 5, 7, 9),)


def test_cancelled_while_it_runs(agree):
    async def scenario(case):
        began, leave, ended = threading.Event(), threading.Event(), threading.Event()

        def call():
            began.set()
            leave.wait(20)
            ended.set()
            return "too late"

        task = case.loop.create_task(case.aio.to_thread(call))
        while not began.is_set():
            await asyncio.sleep(0.001)
        case.record(task.cancel("message"))
        try:
            await task
        except asyncio.CancelledError as error:
            case.record(error.args, ended.is_set())
        leave.set()
        while not ended.is_set():
            await asyncio.sleep(0.001)
        case.record(await case.loop.run_in_executor(None, abs, -1), task.cancelled())

    assert agree(scenario)[:2] == [(True,), (("message",), False)]


def test_nothing_else_touches_the_future_first(run):
    """A result that the program sets itself stays; the call runs all the same."""

    async def main():
        loop = asyncio.get_running_loop()
        leave, ran = threading.Event(), threading.Event()
        blocking = loop.run_in_executor(None, lambda: (leave.wait(20), ran.set()))
        blocking.remove_done_callback(int)
        if type(blocking).__module__ == "aioxide":
            blocking.set_result("own")
            leave.set()
            assert await blocking == "own"
        leave.set()
        while not ran.is_set():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)

    run(main)


def test_shutdown_runs_what_was_put_before(agree):
    async def scenario(case):
        loop = case.loop
        ran = []
        futures = [loop.run_in_executor(None, ran.append, number) for number in range(100)]
        executor = loop._default_executor
        await loop.shutdown_default_executor()
        case.record(sorted(ran) == list(range(100)), any(t.is_alive() for t in executor._threads))
        with case.catch():
            loop.run_in_executor(None, int)
        with case.catch():
            executor.submit(int)
        with case.catch():
            await case.aio.to_thread(int)
        await asyncio.gather(*futures)

    assert agree(scenario)[2] == (
        "raised",
        ("RuntimeError", "cannot schedule new futures after shutdown"),
    )


def test_the_executor_is_shut_down_by_the_program(agree):
    async def scenario(case):
        await case.loop.run_in_executor(None, int)
        case.loop._default_executor.shutdown()
        with case.catch():
            case.loop.run_in_executor(None, int)
        with case.catch():
            await case.aio.to_thread(int)

    assert [record[1] for record in agree(scenario)] == [
        ("RuntimeError", "cannot schedule new futures after shutdown")
    ] * 2


def test_shutdown_cancels_what_waits(agree):
    async def scenario(case):
        loop = case.loop
        await loop.run_in_executor(None, int)
        executor = loop._default_executor
        leave, begun = threading.Event(), []
        most = executor._max_workers

        def block():
            begun.append(None)
            return leave.wait(20)

        blocking = [loop.run_in_executor(None, block) for _ in range(most)]
        waiting = [loop.run_in_executor(None, pytest.fail, "ran") for _ in range(5)]
        outside = executor.submit(pytest.fail, "ran")
        while len(begun) < most:
            await asyncio.sleep(0.001)
        executor.shutdown(wait=False, cancel_futures=True)
        for future in waiting:
            with pytest.raises(asyncio.CancelledError):
                await future
        case.record([future.cancelled() for future in waiting], outside.cancelled())
        leave.set()
        case.record(await asyncio.gather(*blocking) == [True] * len(blocking))

    agree(scenario)


@pytest.mark.skipif(sys.version_info < (3, 12, 2), reason="asyncio ignores its timeout before 3.12.2")
def test_shutdown_gives_up_after_its_timeout(agree):
    async def scenario(case):
        threads = threading.active_count()
        leave = threading.Event()
        future = case.loop.run_in_executor(None, leave.wait, 20)
        with pytest.warns(RuntimeWarning) as caught:
            await case.loop.shutdown_default_executor(0.02)
        case.record([str(warning.message) for warning in caught])
        leave.set()
        case.record(await future)
        while threading.active_count() > threads:  # one joins the others, and has the loop
            await asyncio.sleep(0.001)

    assert "did not finishing joining its threads" in agree(scenario)[0][0][0]


def test_the_loop_closes_while_a_call_runs(loop_factory):
    began, leave, ended = threading.Event(), threading.Event(), threading.Event()

    def call():
        began.set()
        leave.wait(20)
        ended.set()

    loop = loop_factory()
    future = loop.run_in_executor(None, call)
    threads = list(loop._default_executor._threads)
    began.wait(20)
    loop.close()
    assert loop._default_executor is None
    leave.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert ended.is_set() and not future.done()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_in_executor(None, int)


def test_threads_end_with_a_lost_executor(loop_factory):
    loop = loop_factory()
    loop.run_until_complete(loop.run_in_executor(None, int))
    (thread,) = loop._default_executor._threads
    loop._default_executor = None
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()
    assert loop.run_until_complete(loop.run_in_executor(None, int)) == 0
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_nothing_is_kept(run):
    class Thing:
        def call(self, other):
            return self

    async def main():
        loop = asyncio.get_running_loop()
        things = []
        for _ in range(20):
            thing, argument = Thing(), Thing()
            things += weakref.ref(thing), weakref.ref(argument)
            assert await loop.run_in_executor(None, thing.call, argument) is thing
            assert await asyncio.to_thread(thing.call, other=argument) is thing
        del thing, argument
        # The last result is still its thread's for a moment.
        for _ in range(200):
            if not any(thing() for thing in things):
                return
            gc.collect()
            await asyncio.sleep(0.005)
        pytest.fail("something is still referred to")

    run(main)


def test_a_loop_dies_with_what_waits_for_it(loop_factory):
    loop = loop_factory()
    leave = threading.Event()
    most = loop.run_until_complete(loop.run_in_executor(None, os.cpu_count)) and 40
    futures = [loop.run_in_executor(None, leave.wait, 20) for _ in range(most)]
    for future in futures:
        future.cancel()
    leave.set()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    seen = weakref.ref(futures[-1])
    del futures, future
    gc.collect()
    assert seen() is None


def test_hooks_and_locals_of_threads(loop_factory):
    """The threads are threading's: its hooks see them, its locals belong to them."""
    calls, local = set(), threading.local()

    def profile(frame, event, argument):
        if event == "call":
            calls.add(frame.f_code.co_name)

    def marked():
        local.count = getattr(local, "count", 0) + 1
        return threading.current_thread(), local.count

    loop = loop_factory()
    threading.setprofile(profile)
    try:
        thread, count = loop.run_until_complete(loop.run_in_executor(None, marked))
    finally:
        threading.setprofile(None)
    assert (type(thread), thread.name, count) == (threading.Thread, "asyncio_0", 1)
    assert "marked" in calls
    counts = [loop.run_until_complete(loop.run_in_executor(None, marked))[1] for _ in range(3)]
    assert max(counts) >= 2
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_others_see_each_submit(loop_factory, monkeypatch):
    """Tools that follow calls into threads replace ThreadPoolExecutor.submit."""
    seen = []
    submit = concurrent.futures.ThreadPoolExecutor.submit

    def spy(self, function, *args, **kwargs):
        seen.append(function)
        return submit(self, function, *args, **kwargs)

    loop = loop_factory()
    assert loop.run_until_complete(loop.run_in_executor(None, abs, -1)) == 1
    monkeypatch.setattr(concurrent.futures.ThreadPoolExecutor, "submit", spy)
    assert loop.run_until_complete(loop.run_in_executor(None, abs, -2)) == 2
    assert loop.run_until_complete(asyncio.to_thread(abs, -3)) == 3
    assert len(seen) == 2 and seen[0] is abs
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_several_loops(loop_factory):
    def work(results):
        loop = loop_factory()

        async def main():
            numbers = [loop.run_in_executor(None, int, number) for number in range(200)]
            results.append(sum(await asyncio.gather(*numbers)))
            await loop.shutdown_default_executor()

        loop.run_until_complete(main())
        loop.close()

    results = []
    threads = [threading.Thread(target=work, args=(results,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(25)
    assert results == [199 * 100] * 4


def test_wrong_arguments(agree):
    async def scenario(case):
        loop = case.loop
        for call in (
            lambda: loop.run_in_executor(None),
            lambda: loop.run_in_executor(),
            lambda: loop.run_in_executor(None, int, key=1),
            lambda: case.aio.to_thread(),
        ):
            try:
                await call()
            except TypeError:
                case.record("TypeError")
        for function in (5, None):
            try:
                await loop.run_in_executor(None, function)
            except TypeError as error:
                case.record(str(error))
        case.record(await loop.run_in_executor(executor=None, func=int))

    assert len(agree(scenario)) == 7


def test_debug_mode(agree):
    async def scenario(case):
        case.record(await case.loop.run_in_executor(None, abs, -1))
        case.record(await case.aio.to_thread(abs, -1))
        with case.catch():
            case.loop.run_in_executor(None, case.loop.create_future)
        coroutine = asyncio.sleep(0)
        with case.catch():
            case.loop.run_in_executor(None, coroutine)
        coroutine.close()

    async def enters_it(case):
        leave = threading.Event()
        future = case.loop.run_in_executor(None, leave.wait, 20)
        case.loop.set_debug(True)
        leave.set()
        case.record(await future)
        case.loop.set_debug(False)

    agree(scenario, debug=True)
    agree(enters_it)


def test_fork(loop_factory):
    """A child that goes on with its parent's loop is not left to threads that only the parent has."""
    if loop_factory.__module__ != "aioxide":
        return  # asyncio's child waits for them forever
    loop = loop_factory()
    assert loop.run_until_complete(loop.run_in_executor(None, abs, -1)) == 1
    out, into = os.pipe()
    child = os.fork()
    if not child:
        try:
            loop.run_in_executor(None, lambda: os.write(into, b"ran"))
            loop._default_executor.shutdown()
        finally:
            os._exit(0)
    os.close(into)
    os.waitpid(child, 0)
    assert os.read(out, 100) == b"ran"
    os.close(out)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_threads_are_joined_when_the_program_ends():
    code, out, err = python(
        """
        loop = aio.new_event_loop()
        def call():
            time.sleep(0.2)
            print("ran to its end")
        loop.run_in_executor(None, call)
        print("main ends")
        """,
        "-W", "ignore",
    )
    assert (code, out) == (0, "main ends\nran to its end\n")


def test_no_call_after_the_interpreters_end():
    code, out, err = python(
        """
        import atexit
        loop = aio.new_event_loop()
        loop.run_until_complete(loop.run_in_executor(None, int))
        def late():
            try:
                loop.run_in_executor(None, int)
            except RuntimeError as error:
                print(error)
        atexit.register(late)
        """,
        "-W", "ignore",
    )
    assert out == "cannot schedule new futures after shutdown\n" or "interpreter shutdown" in out


# to_thread


def test_to_thread(agree):
    async def scenario(case):
        def call(*args, **kwargs):
            seen = variable.get()
            variable.set("thread")
            return args, sorted(kwargs.items()), seen, threading.current_thread().name

        variable.set("task")
        case.record(await case.aio.to_thread(call, 1, 2, a=3, func=4))
        case.record(variable.get())
        case.record(await case.loop.run_in_executor(None, variable.get))
        coroutine = case.aio.to_thread(variable.get)
        variable.set("before the await")
        case.record(await coroutine)
        case.record(await asyncio.gather(*(case.aio.to_thread(int, n) for n in range(20))))
        with case.catch():
            coroutine.send(None)

    assert agree(scenario)[0][0][2] == "task"


def test_to_thread_is_a_coroutine_function(aio):
    assert inspect.iscoroutinefunction(aio.to_thread)
    assert str(inspect.signature(aio.to_thread)) == "(func, /, *args, **kwargs)"
    assert aio.to_thread.__name__ == "to_thread" and aio.to_thread.__doc__
    coroutine = aio.to_thread(int)
    assert asyncio.iscoroutine(coroutine) and coroutine.__name__ == "to_thread"
    assert repr(coroutine).startswith("<coroutine object to_thread at 0x")
    with pytest.warns(RuntimeWarning, match="coroutine 'to_thread' was never awaited"):
        del coroutine
        gc.collect()
    with pytest.raises(RuntimeError, match="no running event loop"):
        aio.to_thread(int).send(None)


def test_to_thread_asks_the_loop(loop_factory, aio):
    """A loop whose run_in_executor() is the program's own, and one of another maker."""

    loop = loop_factory()
    loop.close()

    class Mine(type(loop)):
        def run_in_executor(self, executor, function, *args):
            calls.append(executor)
            return super().run_in_executor(executor, function, *args)

    for make in (Mine, asyncio.SelectorEventLoop):
        calls = []
        loop = make()
        assert loop.run_until_complete(aio.to_thread(divmod, 7, 2)) == (3, 1)
        assert calls == ([None] if make is Mine else [])
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def test_to_thread_with_a_context_in_use(agree):
    async def scenario(case):
        leave = threading.Event()
        first = case.loop.create_task(case.aio.to_thread(leave.wait, 20))
        await asyncio.sleep(0)
        leave.set()
        case.record(await first)
        partial = functools.partial(contextvars.copy_context().run, variable.get)
        case.record(await case.loop.run_in_executor(None, partial))

    agree(scenario)
