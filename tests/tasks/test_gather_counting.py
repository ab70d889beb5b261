"""gather counts its children; when each is counted can be seen nowhere but in what asyncio shows.

A child that returns while others are pending is counted at once, without a turn of its own in the
ready queue. These tests look for the difference: at the place in the order where the whole is done,
at the children in between, and with what runs in between.
"""

import asyncio
import gc
import itertools
import sys
import weakref

import pytest

KINDS = "return", "fail", "cancel"


async def child(case, name, steps, kind):
    """Ends `steps` iterations later, with a mark of the place in the order before and after."""
    for _ in range(steps):
        await case.aio.sleep(0)
    case.loop.call_soon(case.record, "before", name)
    try:
        if kind == "fail":
            raise ValueError(name)
        if kind == "cancel":
            raise asyncio.CancelledError(name)
        return name
    finally:
        case.loop.call_soon(case.record, "after", name)


async def watch(case, outer):
    """Records where in the order it is done, and what it is."""
    outer.add_done_callback(lambda outer: case.record("done", outer.cancelled()))
    while not outer.done():
        case.record("pending")
        await case.aio.sleep(0)
    with case.catch():
        case.record(await outer)
    for _ in range(3):
        await case.aio.sleep(0)


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_the_place_in_the_order(agree_everywhere, return_exceptions):
    async def scenario(case):
        for kinds in itertools.product(KINDS, repeat=3):
            for steps in itertools.product((1, 2), repeat=3):
                children = [
                    child(case, name, count, kind)
                    for name, count, kind in zip("abc", steps, kinds, strict=True)
                ]
                outer = case.aio.gather(*children, return_exceptions=return_exceptions)
                await watch(case, outer)

    agree_everywhere(scenario)


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_futures_done_in_one_callback(agree_everywhere, return_exceptions):
    async def scenario(case):
        def end(futures, kinds):
            for name, (future, kind) in enumerate(zip(futures, kinds, strict=True)):
                case.loop.call_soon(case.record, "before", name)
                if kind == "return":
                    future.set_result(name)
                elif kind == "fail":
                    future.set_exception(ValueError(name))
                else:
                    future.cancel(str(name))
                case.loop.call_soon(case.record, "after", name)

        for kinds in itertools.product(KINDS, repeat=3):
            futures = [case.loop.create_future() for _ in kinds]
            outer = case.aio.gather(*futures, return_exceptions=return_exceptions)
            case.loop.call_soon(end, reversed(futures), kinds)
            await watch(case, outer)

    agree_everywhere(scenario)


@pytest.mark.parametrize("first", [False, True])
def test_children_that_others_watch_too(agree_everywhere, first):
    async def scenario(case):
        def add(children):
            for name, task in enumerate(children):
                task.add_done_callback(
                    lambda task, name=name: case.record("callback", name, outer.done())
                )

        for watched in itertools.product((False, True), repeat=3):
            tasks = [
                case.loop.create_task(child(case, name, 2 - (name == "b"), "return"))
                for name in "abc"
            ]
            chosen = [task for task, chosen in zip(tasks, watched, strict=True) if chosen]
            if first:
                add(chosen)
            outer = case.aio.gather(*tasks)
            if not first:
                add(chosen)
            await watch(case, outer)

    agree_everywhere(scenario)


def test_one_child_in_two_gathers_and_twice_in_one(agree_everywhere):
    async def scenario(case):
        one, two = (case.loop.create_task(child(case, name, 1, "return")) for name in "ab")
        outers = case.aio.gather(one, two, one), case.aio.gather(two, child(case, "c", 1, "return"))
        for number, outer in enumerate(outers):
            outer.add_done_callback(lambda outer, number=number: case.record("done", number))
        await watch(case, case.aio.gather(*outers))

    agree_everywhere(scenario)


def test_a_coroutine_given_twice_and_otherwise_unknown(agree_everywhere):
    async def scenario(case):
        def gather():
            one, two = child(case, "a", 1, "return"), child(case, "b", 0, "return")
            return case.aio.gather(two, one, one, child(case, "c", 0, "return"), two)

        def gather_of_the_last():
            one = child(case, "d", 1, "return")
            return case.aio.gather(one, one)

        await watch(case, gather())
        await watch(case, gather_of_the_last())
        for length in range(1, 6):
            coroutines = [child(case, number, number % 2, "return") for number in range(length)]
            coroutines += coroutines[length // 2 :]
            outer = case.aio.gather(*coroutines)
            del coroutines
            await watch(case, outer)

    agree_everywhere(scenario)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no task is eager")
def test_a_coroutine_given_twice_to_an_eager_loop(agree):
    async def scenario(case):
        case.loop.set_task_factory(case.aio.eager_task_factory)
        for steps in range(2):
            one, two = child(case, "a", steps, "return"), child(case, "b", 1 - steps, "return")
            outer = case.aio.gather(one, two, one, two)
            await watch(case, outer)
        case.loop.set_task_factory(None)

    agree(scenario)


def test_cancelled_between_the_end_of_a_child_and_its_turn(agree_everywhere):
    async def scenario(case):
        for steps in range(4):
            outer = case.aio.gather(
                *(child(case, name, count, "return") for name, count in zip("abcd", (1, 1, 2, 3)))
            )

            async def cancel(steps=steps, outer=outer):
                for _ in range(steps):
                    await case.aio.sleep(0)
                case.record("cancel", outer.cancel("now"), outer.done())

            task = case.loop.create_task(cancel())
            await watch(case, outer)
            await task

    agree_everywhere(scenario)


def test_ended_by_somebody_else_in_between(agree_everywhere):
    async def scenario(case):
        for how in "set_result", "set_exception":
            outer = case.aio.gather(child(case, "a", 1, "return"), child(case, "b", 3, "fail"))
            for _ in range(2):
                await case.aio.sleep(0)
            getattr(outer, how)(ValueError("mine"))
            await watch(case, outer)

    agree_everywhere(scenario)


def test_told_by_hand(agree):
    async def scenario(case):
        futures = [case.loop.create_future() for _ in range(3)]
        outer = case.aio.gather(*futures)
        ((told, _),) = futures[0]._callbacks
        case.record(futures[0].remove_done_callback(told))
        futures[0].set_result("a")
        case.loop.call_soon(told, futures[0])
        futures[1].set_result("b")
        case.loop.call_soon(futures[2].set_result, "c")
        await watch(case, outer)

    agree(scenario)


def test_children_of_other_classes(agree):
    async def scenario(case):
        class Other(case.aio.Future):
            def add_done_callback(self, function, *, context=None):
                case.record("watched")
                super().add_done_callback(function, context=context)

        for order in itertools.permutations(range(3)):
            futures = [case.loop.create_future(), Other(loop=case.loop), asyncio.Future()]
            outer = case.aio.gather(*futures)
            for number in order:
                case.loop.call_soon(case.record, "before", number)
                futures[number].set_result(number)
                case.loop.call_soon(case.record, "after", number)
            await watch(case, outer)

    agree(scenario)


def test_a_loop_that_sees_each_call(agree):
    def scenario(case):
        class Seeing(type(case.loop)):
            def call_soon(self, function, *args, context=None):
                case.record("call_soon")
                return super().call_soon(function, *args, context=context)

        case.loop.close()
        case.loop = Seeing()
        case.loop.set_exception_handler(case.report)

        async def main():
            return await case.aio.gather(*(case.aio.sleep(0, number) for number in range(3)))

        case.record(case.loop.run_until_complete(main()))

    agree(scenario)


def test_stopped_between_the_end_of_a_child_and_its_turn(agree):
    def scenario(case):
        async def main():
            await watch(
                case,
                case.aio.gather(child(case, "a", 1, "return"), child(case, "b", 1, "return")),
            )

        task = case.loop.create_task(main())
        while not task.done():
            case.loop.call_soon(case.loop.stop)
            case.loop.run_forever()
            case.record("iteration")

    agree(scenario)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="nobody shows who is awaited by whom")
@pytest.mark.parametrize("known", ["by a callback", "as the current task", "through the outer"])
def test_whom_a_child_is_awaited_by(agree, known):
    async def scenario(case):
        seen = []

        def look(name):
            awaited_by = seen[name]._asyncio_awaited_by
            case.record(name, seen[name].done(), awaited_by and len(awaited_by))

        async def ends(name):
            if known == "as the current task":
                seen.append(case.aio.current_task())
            await case.aio.sleep(0)
            case.loop.call_soon(look, name)
            case.loop.call_soon(case.loop.call_soon, look, name)

        async def gathers():
            outer = case.aio.gather(*(ends(number) for number in range(4)))
            if known == "through the outer":
                seen.extend(outer._children)
            elif known == "by a callback":
                tasks = sorted(
                    case.aio.all_tasks() - {case.aio.current_task(), main},
                    key=lambda task: int(task.get_name().removeprefix("Task-")),
                )
                seen.extend(tasks)
            await outer

        main = case.aio.current_task()
        await case.loop.create_task(gathers())
        for number in range(4):
            look(number)

    agree(scenario)


def test_nothing_keeps_the_children(aio, run):
    async def main():
        tasks = weakref.WeakSet()

        async def ends(number):
            tasks.add(aio.current_task())
            await aio.sleep(number % 3 / 1000)
            return object()

        results = await aio.gather(*(ends(number) for number in range(50)))
        assert len(results) == 50
        await aio.sleep(0)
        gc.collect()
        assert not tasks

    run(main)
