"""How large Futures and Tasks are, and the attributes that programs set on them."""

import asyncio
import contextvars
import gc
import sys
import sysconfig
import weakref
from typing import Any

import pytest

import aioxide

# The header of the collector, and since 3.12 the words of the dict and of weak references, where
# objects have no place of their own for these.
PRE_HEADER = 16 if sys.version_info < (3, 13) else 32


# Without the GIL each object knows its domain.
DOMAIN = 8 if sysconfig.get_config_var("Py_GIL_DISABLED") else 0


def size(cls: type) -> int:
    return PRE_HEADER + cls.__basicsize__


def test_a_future_has_four_words_besides_asyncios():
    assert aioxide.Future.__basicsize__ == asyncio.Future.__basicsize__ + 32 + DOMAIN


def test_a_task_has_at_most_eight_words_besides_asyncios():
    # Since 3.14 its name lies in asyncio's field. Without the GIL it knows in which thread's list
    # of tasks it is.
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    own = 56 if sys.version_info >= (3, 14) and not free_threaded else 64
    assert aioxide.Task.__basicsize__ == asyncio.Task.__basicsize__ + own + DOMAIN


@pytest.mark.skipif(sys.version_info < (3, 14), reason="no room for attributes before")
def test_there_is_no_room_for_attributes():
    inline_values = 1 << 2

    async def main() -> None:
        for subclasses in (False, True):
            future, task = objects(asyncio.get_running_loop(), subclasses)
            await task
            for cls in (type(future), type(task)):
                assert not cls.__flags__ & inline_values

    aioxide.run(main())
    if not DOMAIN:
        # CPython gives memory in steps of 16 bytes; asyncio's has 24 for attributes besides.
        assert (size(aioxide.Future) + 15) // 16 == (size(asyncio.Future) + 24 + 15) // 16


class Value:
    pass


def objects(loop: asyncio.AbstractEventLoop, subclasses: bool) -> list[Any]:
    async def coroutine() -> None:
        pass

    future, task = aioxide.Future, aioxide.Task
    if subclasses:
        future = type("SubFuture", (future,), {})
        task = type("SubTask", (task,), {})
    return [future(loop=loop), task(coroutine(), loop=loop)]


@pytest.mark.parametrize("subclasses", [False, True])
@pytest.mark.parametrize("count", [1, 5, 50])
def test_attributes_are_kept_shown_and_released(subclasses: bool, count: int):
    async def main() -> None:
        for _ in range(3):
            remaining = objects(asyncio.get_running_loop(), subclasses)
            while remaining:
                made = remaining.pop()
                values = [Value() for _ in range(count)]
                references = [weakref.ref(value) for value in values]
                expected = {f"a{number}": value for number, value in enumerate(values)}
                for name, value in expected.items():
                    setattr(made, name, value)
                assert [getattr(made, name) for name in expected] == values
                if hasattr(made, "__dict__"):
                    assert vars(made) == expected
                del made.a0
                assert not hasattr(made, "a0")
                await asyncio.sleep(0)
                if isinstance(made, aioxide.Task):
                    await made
                values.clear()
                expected.clear()
                del value, made
                gc.collect()
                assert not any(reference() for reference in references)

    aioxide.run(main())


def test_a_method_that_is_set_on_an_object_is_called():
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for subclasses in (False, True):
            awaited, _task = objects(loop, subclasses)
            called: list[Any] = []
            awaited.cancel = called.append

            async def wait(future: Any) -> None:
                await future

            task = asyncio.ensure_future(wait(awaited))
            await asyncio.sleep(0)
            assert task.cancel("message")  # list.append returns None, so that the task cancels
            assert called == ["message"]
            awaited.set_result(None)
            with pytest.raises(asyncio.CancelledError):
                await task

    aioxide.run(main())


def test_functions_tasks_and_rare_fields_in_any_order():
    """The first waiter moves into the box, and the calls keep their order."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        steps = {
            "function": lambda future, log: future.add_done_callback(lambda _: log.append("f")),
            "two": lambda future, log: [
                future.add_done_callback(lambda _, name=name: log.append(name)) for name in "ab"
            ],
            "task": lambda future, log: asyncio.ensure_future(waits(future, log)),
        }

        async def waits(future: Any, log: list[str]) -> None:
            try:
                await future
            except (asyncio.CancelledError, ValueError):
                pass
            log.append("t")

        ends = {
            "result": lambda future: future.set_result(1),
            "exception": lambda future: future.set_exception(ValueError()),
            "cancel": lambda future: future.cancel("why"),
        }
        for first in steps:
            for second in steps:
                for end in ends.values():
                    logs: list[list[str]] = []
                    for cls in (asyncio.futures._PyFuture, aioxide.Future):  # type: ignore[attr-defined]
                        log: list[str] = []
                        future = cls(loop=loop)
                        for step in (first, second):
                            steps[step](future, log)
                            await asyncio.sleep(0)
                        shown = future._callbacks
                        assert len(shown) == (first == "two") + (second == "two") + 2
                        end(future)
                        for _ in range(4):
                            await asyncio.sleep(0)
                        if not future.cancelled():
                            future.exception()
                        logs.append(log)
                    assert logs[0] == logs[1]

    aioxide.run(main())


def test_a_function_is_removed_and_shown_with_its_context():
    async def main() -> None:
        future = aioxide.Future()
        context = contextvars.copy_context()
        log: list[Any] = []
        future.add_done_callback(log.append, context=context)
        assert future._callbacks == [(log.append, context)]
        assert future.remove_done_callback(log.append) == 1
        assert future._callbacks is None
        future.add_done_callback(log.append, context=context)
        reference = weakref.ref(future)
        log.append(future)  # a cycle through the tuple
        del future, log
        gc.collect()
        assert reference() is None

    aioxide.run(main())
