"""Eager tasks (3.12 and later): the first step runs inside create_task."""

import asyncio
import contextvars
import gc
import sys
import types

if sys.version_info >= (3, 12):
    variable = contextvars.ContextVar("variable", default="outside")

    def factory_of(case):
        return asyncio.create_eager_task_factory(case.aio.Task)

    def test_results_without_an_iteration(agree):
        async def scenario(case):
            case.loop.set_task_factory(factory_of(case))

            async def at_once(value):
                case.record("ran", value, asyncio.current_task().get_name())
                return value

            async def fails():
                raise ValueError("at once")

            task = case.loop.create_task(at_once(1), name="eager")
            case.record(task.done(), task.result(), task in asyncio.all_tasks(), repr(task))
            case.record(await task)
            task = case.loop.create_task(fails())
            case.record(task.done(), task.exception())
            with case.catch():
                await task

        record = agree(scenario)
        # until 3.14 the name is set after the eager step
        assert record[0][:2] == ("ran", 1) and record[1][:3] == (True, 1, False)

    def test_the_first_await_makes_it_an_ordinary_task(agree, debug):
        async def scenario(case):
            case.loop.set_task_factory(factory_of(case))

            async def waits(value):
                case.record("before")
                await asyncio.sleep(0)
                case.record("after")
                return value

            task = case.loop.create_task(waits(1))
            case.record(task.done(), task in asyncio.all_tasks(), asyncio.current_task() is task)
            case.record(await task)
            task = case.loop.create_task(waits(2))
            task.cancel("message")
            with case.catch():
                await task
            case.record(await asyncio.gather(*(waits(n) for n in range(3))))

        record = agree(scenario, debug)
        assert record[:2] == [("before",), (False, True, False)]

    def test_current_task_is_switched_and_put_back(agree):
        async def scenario(case):
            case.loop.set_task_factory(factory_of(case))
            outer = asyncio.current_task()

            async def nested(depth):
                me = asyncio.current_task()
                case.record(depth, me is not outer, me.get_name())
                if depth:
                    inner = case.loop.create_task(nested(depth - 1), name=f"depth {depth - 1}")
                    case.record(inner.done(), asyncio.current_task() is me)
                    await inner
                return depth

            case.record(await case.loop.create_task(nested(3), name="depth 3"))
            case.record(asyncio.current_task() is outer)

        assert agree(scenario)[-1] == (True,)

    def test_contexts(agree):
        async def scenario(case):
            case.loop.set_task_factory(factory_of(case))

            async def changes(name):
                case.record(name, variable.get())
                variable.set(name)
                await asyncio.sleep(0)
                case.record(name, variable.get())

            variable.set("main")
            given = contextvars.copy_context()
            tasks = [
                case.loop.create_task(changes("copy")),
                case.loop.create_task(changes("given"), context=given),
            ]
            case.record(variable.get())
            await asyncio.wait(tasks)
            case.record(variable.get(), given[variable])

        assert agree(scenario)[-1] == ("main", "given")

    def test_eager_start_of_the_constructor(agree):
        async def scenario(case):
            async def at_once():
                return "result"

            async def waits():
                await asyncio.sleep(0)
                return "later"

            for coroutine in at_once(), waits():
                task = case.aio.Task(coroutine, loop=case.loop, eager_start=True, name="eager")
                case.record(task.done(), task)
                case.record(await task)
            task = case.aio.Task(waits(), loop=case.loop, eager_start=False)
            case.record(task.done())
            case.record(await task)

        assert agree(scenario)[0][0] is True

    def test_eager_start_without_a_running_loop(agree):
        def scenario(case):
            async def at_once():
                return "result"

            asyncio.set_event_loop(None)
            coroutine = at_once()
            with case.catch():
                task = case.aio.Task(coroutine, loop=case.loop, eager_start=True)
                case.record(case.loop.run_until_complete(task))
            coroutine.close()

        agree(scenario)

    def test_garbage_and_system_exits_in_the_eager_step(agree):
        @types.coroutine
        def garbage():
            yield "garbage"

        async def scenario(case):
            async def bad():
                await garbage()

            async def leaves():
                raise SystemExit(3)

            case.loop.set_task_factory(factory_of(case))
            task = case.loop.create_task(bad())
            case.record(task.done())
            with case.catch():
                await task
            try:
                raise KeyError("being handled")
            except KeyError:
                task = case.loop.create_task(bad())
            try:
                await task
            except RuntimeError as error:
                # made, not raised, while that was being handled
                case.record(error.__context__)
            with case.catch("leaves"):
                case.loop.create_task(leaves())
            case.record(asyncio.current_task().get_name() != "")

        agree(scenario)

    def test_awaiting_what_is_done(agree):
        async def scenario(case):
            case.loop.set_task_factory(factory_of(case))
            done = case.loop.create_future()
            done.set_result("done")

            async def waits():
                return await done

            task = case.loop.create_task(waits())
            case.record(task.done(), await task)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(waits()) for _ in range(3)]
            case.record([task.result() for task in tasks])
            async with asyncio.timeout(10):
                case.record(await asyncio.wait_for(waits(), 10))

        assert agree(scenario)[0] == (True, "done")

    def test_eager_tasks_that_nobody_looks_at(agree):
        def scenario(case):
            async def fails():
                raise ValueError("nobody looks")

            async def main():
                case.loop.set_task_factory(factory_of(case))
                case.loop.create_task(fails())

            case.loop.run_until_complete(main())
            gc.collect()

        record = agree(scenario)
        assert [entry[1] for entry in record] == ["Task exception was never retrieved"]

    def test_a_start_that_fails_is_told_once(agree):
        """By the exception. asyncio leaves the task current for ever, before 3.15."""

        async def scenario(case):
            context = contextvars.copy_context()

            async def never():
                pass

            def start(context):
                coroutine = never()
                try:
                    with case.catch(text=False):
                        case.aio.Task(coroutine, loop=case.loop, eager_start=True, context=context)
                finally:
                    coroutine.close()

            before = asyncio.current_task()
            context.run(start, context)
            gc.collect()
            case.record(asyncio.current_task() is before, len(asyncio.all_tasks()))

        record = agree(scenario, asyncio_is_wrong=sys.version_info < (3, 15))
        assert record == [("raised", "RuntimeError"), (True, 1)]

    def test_the_standard_eager_task_factory(run):
        async def main():
            loop = asyncio.get_running_loop()
            loop.set_task_factory(asyncio.eager_task_factory)
            task = asyncio.create_task(asyncio.sleep(0, "result"))
            assert isinstance(task, asyncio.Task)
            assert await task == "result"

        run(main)


if sys.version_info >= (3, 14):

    def test_eager_start_of_create_task(agree):
        async def scenario(case):
            async def shows(name):
                case.record(name)
                return name

            for options in ({}, {"eager_start": True}, {"eager_start": False}, {"name": "named"}):
                task = case.loop.create_task(shows("step"), **options)
                case.record(task.done(), sorted(options))
                await task
            with case.catch(text=False):
                coroutine = shows("never")
                case.loop.create_task(coroutine, unknown=1)
            coroutine.close()
            async with asyncio.TaskGroup() as group:
                task = group.create_task(shows("in group"), eager_start=True)
                case.record(task.done())

        record = agree(scenario)
        assert (True, ("eager_start",)) in record
