"""What a task tells about itself: repr, stacks, private attributes, the call graph."""

import asyncio
import functools
import io
import re
import sys

from peers import program


def test_repr(agree, debug):
    async def scenario(case):
        async def child(future):
            return await future

        def named(task):
            pass

        async def fails():
            raise ValueError("x" * 100)

        future = case.loop.create_future()
        task = case.loop.create_task(child(future), name="named")
        case.record(repr(task))
        await asyncio.sleep(0)
        case.record(repr(task), repr(future))
        for _ in range(3):
            task.add_done_callback(named)
            case.record(repr(task))
        task.cancel()
        case.record(repr(task))
        await asyncio.wait([task])
        case.record(repr(task), task)
        task = case.loop.create_task(fails())
        await asyncio.wait([task])
        case.record(repr(task), task.exception())
        future.cancel()

        class Mine(case.aio.Task):
            pass

        task = Mine(child(case.loop.create_future()), loop=case.loop)
        await asyncio.sleep(0)
        case.record(repr(task))
        task.cancel()

    assert agree(scenario, debug)[0][0].startswith("<Task pending name='named' coro=<")


def test_repr_of_a_task_and_what_it_waits_for(agree):
    async def scenario(case):
        async def bottom():
            await case.loop.create_future()

        async def top():
            await inner

        inner = case.loop.create_task(bottom(), name="inner")
        outer = case.loop.create_task(top(), name="outer")
        case.record(inner, outer)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        case.record(inner, outer, outer._fut_waiter is inner)
        case.record(inner._callbacks[0][0])
        outer.cancel()

    record = agree(scenario)
    assert "wait_for=<Task pending name='inner'" in record[1][1]
    assert "cb=[Task.task_wakeup()]" in record[1][0]


def test_private_attributes(agree):
    names = (
        "_state _result _exception _callbacks _log_traceback _cancel_message "
        "_asyncio_future_blocking _loop _asyncio_awaited_by _must_cancel _coro _fut_waiter "
        "_log_destroy_pending _num_cancels_requested"
    ).split()

    async def scenario(case):
        async def child():
            await future

        future = case.loop.create_future()
        task = case.loop.create_task(child())

        def show():
            for name in names:
                with case.catch(name):
                    case.record(name, getattr(task, name))

        show()
        await asyncio.sleep(0)
        case.record(task._fut_waiter is future, task.get_coro() is task._coro)
        show()
        task.cancel()
        show()
        await asyncio.wait([task])
        show()
        with case.catch():
            task._must_cancel = True
        task._log_destroy_pending = False
        case.record(task._log_destroy_pending)

    agree(scenario)


def test_source_tracebacks_in_debug_mode(agree, debug):
    async def scenario(case):
        def frames(traceback):
            return traceback and [
                (frame.name, frame.lineno) for frame in traceback if frame.filename == __file__
            ][-1]

        task = case.loop.create_task(asyncio.sleep(0))
        case.record(frames(task._source_traceback))
        case.record(frames(case.loop.create_future()._source_traceback))
        handle = case.loop.call_soon(int)
        case.record(frames(handle._source_traceback), repr(handle))
        timer = case.loop.call_later(0, int)
        case.record(frames(timer._source_traceback), repr(timer))
        await task

    record = agree(scenario, debug)
    assert (record[0][0] is not None) == debug


def test_stacks(agree):
    async def scenario(case):
        async def bottom():
            await future

        async def middle():
            await bottom()

        async def top():
            await middle()

        def show(task):
            for limit in (None, 1, 2, 0):
                stack = task.get_stack(limit=limit)
                case.record([frame.f_code.co_name for frame in stack])
                text = io.StringIO()
                task.print_stack(limit=limit, file=text)
                case.record(text.getvalue())

        future = case.loop.create_future()
        task = case.loop.create_task(top(), name="stacked")
        show(task)
        await asyncio.sleep(0)
        show(task)
        future.set_exception(ValueError("at the bottom"))
        await asyncio.wait([task])
        show(task)
        task.exception()
        task = case.loop.create_task(top())
        task.cancel()
        await asyncio.wait([task])
        show(task)
        with case.catch(text=False):
            task.get_stack(1)

    record = agree(scenario)
    assert record[0] == (("top",),)


def test_handle_texts(agree, debug):
    def scenario(case):
        class Callable:
            def __call__(self):
                pass

            def method(self):
                pass

            def __repr__(self):
                return "<Callable>"

        loop = case.loop
        callbacks = [
            print,
            Callable(),
            Callable().method,
            functools.partial(print, 1, end=""),
            lambda: None,
            "text".upper,
        ]
        for callback in callbacks:
            handle = loop.call_soon(callback, *(["argument"] if callback is print else []))
            timer = loop.call_later(100, callback)
            case.record(repr(handle), repr(timer))
            handle.cancel()
            timer.cancel()
            case.record(repr(handle), repr(timer))
        handle = loop.call_soon(print, "x" * 500, list(range(100)))
        case.record(repr(handle))
        handle.cancel()
        for name in ("_callback", "_args", "_cancelled", "_context", "_repr"):
            with case.catch(name):
                case.record(name, type(getattr(handle, name)))

    record = agree(scenario, debug)
    assert ("print" in record[0][0]) and record[0][0].startswith("<Handle ")


def test_format_helpers_know_the_step(agree):
    """Reports name a failing step by the task, not by a method of the implementation."""

    async def scenario(case):
        async def child():
            await asyncio.sleep(0)

        task = case.loop.create_task(child(), name="stepping")
        case.record([repr(callback) for callback, _ in task._callbacks or []])
        await task

    agree(scenario)


if sys.version_info >= (3, 14):

    def test_capture_call_graph(agree):
        async def scenario(case):
            async def bottom():
                await asyncio.sleep(0)
                case.record(shape(asyncio.capture_call_graph()))
                text = asyncio.format_call_graph()
                case.record(sorted(re.sub(r"File '[^']*/", "File '", text).splitlines()))

            async def middle():
                await bottom()

            async def top(task):
                await task

            def shape(graph):
                return (
                    [entry.frame.f_code.co_name for entry in graph.call_stack],
                    graph.future,
                    sorted([shape(inner) for inner in graph.awaited_by], key=repr),
                )

            inner = case.loop.create_task(middle(), name="inner")
            outers = [
                case.loop.create_task(top(inner), name=name) for name in ("first", "second")
            ]
            await asyncio.gather(*outers)
            case.record(asyncio.capture_call_graph(inner).call_stack)
            future = case.loop.create_future()
            waiting = case.loop.create_task(top(future), name="waiting")
            await asyncio.sleep(0)
            case.record(shape(asyncio.capture_call_graph(future)))
            case.record(shape(asyncio.capture_call_graph(waiting)))
            future.set_result(None)
            await waiting

        record = agree(scenario)
        assert "inner" in record[0][0][1] and len(record[0][0][2]) == 2

    def test_the_graph_of_groups_and_gathers(agree):
        async def scenario(case):
            async def leaf():
                await asyncio.sleep(0.001)
                graph = asyncio.capture_call_graph()
                case.record(depth(graph), asyncio.current_task().get_name())

            def depth(graph):
                return 1 + max([depth(inner) for inner in graph.awaited_by], default=0)

            async with asyncio.TaskGroup() as group:
                group.create_task(leaf(), name="in group")
            await asyncio.gather(leaf(), leaf())
            async with asyncio.timeout(10):
                await case.loop.create_task(leaf())

        assert agree(scenario)[0] == (2, "in group")

    def test_awaited_by_is_forgotten(agree):
        async def scenario(case):
            async def waits(future):
                await asyncio.wait([future])

            future = case.loop.create_future()
            task = case.loop.create_task(waits(future))
            await asyncio.sleep(0)
            case.record(future._asyncio_awaited_by == {task})
            task.cancel()
            await asyncio.wait([task])
            case.record(future._asyncio_awaited_by)
            asyncio.future_add_to_awaited_by(future, task)
            case.record(len(future._asyncio_awaited_by))
            asyncio.future_discard_from_awaited_by(future, task)
            case.record(future._asyncio_awaited_by)
            future.cancel()

        assert agree(scenario)[-1] == (None,)

    def test_ps_and_pstree_see_the_tasks(aio):
        """`python -m asyncio ps PID` reads another process's memory."""
        text = """
        import subprocess
        async def leaf(name):
            await asyncio.sleep(100)
        async def parent():
            async with asyncio.TaskGroup() as group:
                group.create_task(leaf("a"), name="child a")
                group.create_task(leaf("b"), name="child b")
        async def main():
            task = asyncio.create_task(parent(), name="the parent")
            await asyncio.sleep(0.01)
            for command in "ps", "pstree":
                process = await asyncio.to_thread(
                    subprocess.run,
                    [sys.executable, "-m", "asyncio", command, str(os.getpid())],
                    capture_output=True, text=True)
                print(process.returncode, process.stdout, process.stderr)
            task.cancel()
            await asyncio.wait([task])
        with asyncio.Runner(loop_factory=aio.new_event_loop) as runner:
            runner.run(main())
        """
        out = program(aio, text).stdout
        if "Permission" in out or "permission" in out:
            return  # the machine forbids it
        for name in ("the parent", "child a", "child b"):
            assert out.count(name) >= 2, out
