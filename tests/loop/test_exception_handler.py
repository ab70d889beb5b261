"""What the loop reports, to whom and in which words."""

import asyncio
import contextvars
import gc
import sys

import pytest

from peers import program


def test_a_failing_callback_is_reported(agree, debug):
    def scenario(case):
        def fail(error):
            raise error

        case.loop.call_soon(fail, ValueError("mine"))
        case.loop.call_later(0, fail, asyncio.CancelledError("late"))
        case.loop.call_soon_threadsafe(fail, GeneratorExit())
        case.loop.call_later(0.001, case.loop.stop)
        case.loop.run_forever()

    record = agree(scenario, debug)
    assert record[0][2] == ("ValueError", "mine")
    assert record[0][1].startswith("Exception in callback ")
    assert len(record) == 3


def test_the_default_handler_logs(agree, debug):
    def scenario(case):
        def fail():
            raise ValueError("mine")

        loop = case.loop
        loop.set_exception_handler(None)
        case.record(loop.get_exception_handler())
        loop.call_soon(fail)
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.call_exception_handler({"message": "given", "extra": [1, 2]})
        loop.call_exception_handler({})
        loop.call_exception_handler({"exception": KeyError("key"), "handle": None})
        loop.default_exception_handler({"message": "direct"})

    record = agree(scenario, debug)
    assert [entry[:2] for entry in record[1:]] == [("log", "ERROR")] * 5
    assert record[2][2] == "given\nextra: [1, 2]"
    assert record[3][2] == "Unhandled exception in event loop"


def test_a_failing_handler_is_reported_too(agree):
    def scenario(case):
        def handler(loop, report):
            case.record("called", report["message"])
            raise ZeroDivisionError("in the handler")

        case.loop.set_exception_handler(handler)
        case.record(case.loop.get_exception_handler() is handler)
        case.loop.call_exception_handler({"message": "first"})
        case.loop.call_soon(int, "no number")
        case.loop.call_soon(case.record, "next")
        case.loop.call_soon(case.loop.stop)
        case.loop.run_forever()

    record = agree(scenario)
    assert record[1] == ("called", "first")
    assert record[2][:2] == ("log", "ERROR")
    assert "Unhandled error in exception handler" in record[2][2]
    assert record[-1] == ("next",)


def test_a_failing_default_handler_of_a_subclass(agree):
    def scenario(case):
        class Mine(type(case.loop)):
            def default_exception_handler(self, report):
                case.record("mine", report["message"])
                raise ValueError("default handler")

        loop = Mine()
        loop.call_exception_handler({"message": "given"})
        loop.call_soon(int, "no number")
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()

    record = agree(scenario)
    assert record[0] == ("mine", "given")
    assert record[1] == ("log", "ERROR", "Exception in default exception handler")


def test_a_system_exit_in_a_handler_passes_through(agree):
    def scenario(case):
        def handler(loop, report):
            raise SystemExit("from the handler")

        case.loop.set_exception_handler(handler)
        case.loop.call_soon(int, "no number")
        case.loop.call_soon(case.record, "kept")
        with case.catch():
            case.loop.run_forever()
        case.loop.call_soon(case.loop.stop)
        case.loop.run_forever()

    record = agree(scenario)
    assert record == [("raised", ("SystemExit", "from the handler")), ("kept",)]


def test_handlers_run_in_the_context_of_the_callback(agree):
    """Since 3.12 the handler runs in the context of the task or the handle it reports on."""
    variable = contextvars.ContextVar("variable", default="outside")

    def scenario(case):
        def fail():
            raise ValueError

        def handler(loop, report):
            case.record(report["message"].split(" ")[0], variable.get())

        context = contextvars.copy_context()
        context.run(variable.set, "inside")
        case.loop.set_exception_handler(handler)
        case.loop.call_soon(fail, context=context)
        case.loop.call_later(0, fail, context=context)

        async def main():
            async def failing():
                raise ValueError

            case.loop.create_task(failing(), context=context)
            await asyncio.sleep(0.002)

        case.loop.run_until_complete(main())
        gc.collect()

    assert len(agree(scenario)) == 3


def test_a_failing_done_callback_is_reported(agree):
    async def scenario(case):
        future = case.loop.create_future()

        def fail(future):
            raise ValueError("in a done callback")

        future.add_done_callback(fail)
        future.add_done_callback(lambda future: case.record("next"))
        future.set_result(None)
        await asyncio.sleep(0)

    record = agree(scenario)
    assert record[0][2] == ("ValueError", "in a done callback")
    assert record[1] == ("next",)


def test_reports_at_the_end_of_a_program(aio):
    text = """
    async def fail():
        raise ValueError("nobody looks")
    async def main():
        global task
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
    asyncio.Runner(loop_factory=aio.new_event_loop).run(main())
    del task
    print("end")
    """
    result = program(aio, text)
    assert result.stdout == "end\n"
    assert result.stderr.count("Task exception was never retrieved") == 1
    assert result.stderr.count("ValueError: nobody looks") == 1


def test_set_wrong_handlers(agree):
    def scenario(case):
        for handler in ("text", 12, object):
            with case.catch():
                case.loop.set_exception_handler(handler)

    record = agree(scenario)
    assert record[0] == (
        "raised",
        ("TypeError", "A callable object or None is expected, got 'text'"),
    )
    assert record[2] == ("raised", None)


class Rude:
    """A callback whose repr and call raise."""

    def __init__(self, error):
        self.error = error

    def __repr__(self):
        raise self.error("in the repr")

    def __call__(self, *args):
        raise KeyError("in the callback")


class Odd(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError, Odd])
def test_a_repr_that_raises_in_a_report(agree, error, debug, monkeypatch):
    """asyncio's loop ends there; ours goes on, and the same exception goes to the hook."""

    def scenario(case):
        def failed(raised):
            case.record("failed", raised, raised.__context__)

        def run():
            case.loop.call_soon(case.loop.stop)
            try:
                case.loop.run_forever()
            except BaseException as raised:
                assert case.aio is asyncio
                failed(raised)

        monkeypatch.setattr(sys, "unraisablehook", lambda hook: failed(hook.exc_value))
        loop = case.loop
        loop.call_soon(Rude(error))
        run()
        loop.call_soon(lambda argument: 1 / 0, Rude(error))
        run()
        future = loop.create_future()
        future.add_done_callback(Rude(error))
        future.set_result(None)
        run()

        class Task(case.aio.Task):
            cancelled = Rude.__call__

            def __repr__(self):
                raise error("in the repr")

        async def gather():
            case.aio.gather(Task(case.aio.sleep(0), loop=loop))
            await case.aio.sleep(0)

        loop.create_task(gather())
        for _ in range(4):
            run()
        monkeypatch.undo()

    agree(scenario, debug)


def test_handlers_run_while_the_exception_is_handled(agree):
    async def scenario(case):
        def handler(loop, report):
            case.record(report["message"], sys.exc_info()[1])
            raise KeyError("in the handler")

        class Task(case.aio.Task):
            cancelled = Rude.__call__

        case.loop.set_exception_handler(handler)
        case.loop.call_soon(Rude.__call__, None)
        case.loop.call_later(0, Rude.__call__, None)
        case.aio.gather(Task(case.aio.sleep(0), loop=case.loop))
        for _ in range(4):
            await case.aio.sleep(0.001)

    agree(scenario)


def test_a_report_that_raises_as_an_object_goes(agree):
    def scenario(case):
        def hook(unraisable):
            case.record(
                "unraisable", unraisable.exc_value, unraisable.object, unraisable.err_msg
            )

        def refuse(report):
            raise KeyError(report["message"])

        async def wait():
            await case.loop.create_future()

        case.loop.call_exception_handler = refuse
        sys.unraisablehook = hook
        try:
            case.loop.create_future().set_exception(ValueError("unseen"))
            task = case.loop.create_task(wait())
            case.loop.call_soon(case.loop.stop)
            case.loop.run_forever()
            del task
            gc.collect()
        finally:
            sys.unraisablehook = sys.__unraisablehook__
            del case.loop.call_exception_handler

    agree(scenario)
