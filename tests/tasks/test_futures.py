"""Future: states, callbacks, messages, texts, subclasses, finaliser."""

import asyncio
import concurrent.futures
import contextvars
import gc
import sys
import weakref

import pytest

variable = contextvars.ContextVar("variable", default="outside")


def run_once(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


def states(case, future):
    """Everything one may ask a Future for."""
    case.record(future.done(), future.cancelled(), repr(future))
    with case.catch("result"):
        case.record("result", future.result())
    with case.catch("exception"):
        case.record("exception", future.exception())


def test_states(agree, debug):
    def scenario(case):
        futures = [case.aio.Future(loop=case.loop) for _ in range(6)]
        pending, result, error, cancelled, message, own = futures
        result.set_result([1])
        error.set_exception(ValueError("mine"))
        case.record(cancelled.cancel(), cancelled.cancel())
        message.cancel(msg="message")
        own.set_exception(KeyError)
        for future in futures:
            states(case, future)
        for future in futures[1:]:
            with case.catch("again"):
                future.set_result(2)
            with case.catch("again"):
                future.set_exception(ValueError())
            case.record(future.cancel(), future.cancel("late"))
        pending.cancel()

    record = agree(scenario, debug)
    assert ("result", ("InvalidStateError", "Result is not set.")) in record
    assert ("result", ("CancelledError", "message")) in record


def test_wrong_exceptions(agree):
    def scenario(case):
        class Stop(StopIteration):
            pass

        for error in (StopIteration, StopIteration("value"), Stop, 12, "text", None, object, BaseException):
            future = case.loop.create_future()
            with case.catch("set"):
                future.set_exception(error)
            case.record(future.done())
            if future.done():
                with case.catch("result"):
                    future.result()

    assert len(agree(scenario)) >= 14


def test_the_cause_of_a_stop_iteration(agree):
    """Since 3.12.2 it arrives as a RuntimeError that names it as its cause."""

    def scenario(case):
        future = case.loop.create_future()
        with case.catch():
            future.set_exception(StopIteration("value"))
        if future.done():
            error = future.exception()
            case.record(error, error.__cause__, error.__context__)

    agree(scenario)


def test_constructor(agree):
    def scenario(case):
        Future = case.aio.Future
        asyncio.set_event_loop(None)
        with case.catch("no loop"):
            Future().cancel()
        with case.catch("positional", text=False):
            Future(case.loop)
        for loop in (12, None):
            with case.catch("wrong loop"):
                Future(loop=loop)

        async def main():
            future = Future()
            case.record(future.get_loop() is case.loop)
            future.cancel()

        case.loop.run_until_complete(main())
        future = Future(loop=case.loop)
        with case.catch("init again"):
            future.__init__(loop=case.loop)
        future.cancel()
        with case.catch("cancelled, then init"):
            future.__init__(loop=case.loop)
            case.record(future.done(), future.cancelled())

    record = agree(scenario)
    assert (True,) in record


def test_uninitialised(agree):
    def scenario(case):
        future = case.aio.Future.__new__(case.aio.Future)
        for name in "done cancelled result exception get_loop cancel".split():
            with case.catch(name):
                case.record(getattr(future, name)())
        with case.catch():
            future.add_done_callback(print)
        with case.catch():
            case.record(future._callbacks)
        with case.catch():
            iter(future)
        with case.catch():
            future.set_result(1)
        with case.catch():
            future.set_exception(ValueError())
        with case.catch():
            repr(future)

    agree(scenario)


def test_callbacks_run_in_order_each_once(agree):
    def scenario(case):
        future = case.loop.create_future()
        for name in "abc":
            future.add_done_callback(lambda f, name=name: case.record(name, f is future))
        future.set_result(1)
        case.record("set")
        future.add_done_callback(lambda f: case.record("late"))
        run_once(case.loop)
        future.add_done_callback(lambda f: case.record("later"))
        run_once(case.loop)

    record = agree(scenario)
    assert record == [
        ("set",), ("a", True), ("b", True), ("c", True), ("late",), ("later",),
    ]  # fmt: skip


def test_remove_done_callback(agree):
    class Same:
        """Equal to its like, as bound methods are."""

        def __init__(self, case, name):
            self.case, self.name = case, name

        def __call__(self, future):
            self.case.record("called", self.name)

        def __eq__(self, other):
            return self.name == other.name

    def scenario(case):
        callbacks = [Same(case, name) for name in "abacada"]
        for count in range(len(callbacks) + 1):
            future = case.loop.create_future()
            for callback in callbacks[:count]:
                future.add_done_callback(callback)
            case.record(count, future.remove_done_callback(Same(case, "a")))
            case.record(future.remove_done_callback(Same(case, "a")))
            case.record(future.remove_done_callback(Same(case, "nobody")))
            future.set_result(None)
            case.record(future.remove_done_callback(Same(case, "b")))
            run_once(case.loop)

    record = agree(scenario)
    assert (7, 4) in record and ("called", "a") not in record


def test_comparisons_that_change_the_callbacks(agree):
    """__eq__ of a callback may add, remove or raise while callbacks are removed."""

    class Evil:
        action = None

        def __call__(self, future):
            pass

        def __eq__(self, other):
            return self.action and self.action()

    def scenario(case):
        for count in range(1, 6):
            for action in ("remove", "add", "raise", "finish"):
                future = case.loop.create_future()
                evil = [Evil() for _ in range(count)]
                for callback in evil:
                    future.add_done_callback(callback)

                def act(future=future, action=action):
                    Evil.action = None
                    if action == "remove":
                        future.remove_done_callback(evil[0])
                    elif action == "add":
                        future.add_done_callback(print)
                    elif action == "raise":
                        raise ValueError("in __eq__")
                    else:
                        future.cancel()
                    return False

                Evil.action = staticmethod(act)
                with case.catch():
                    case.record(count, action, future.remove_done_callback(Evil()))
                future.remove_done_callback(print)
                future.cancel()
                Evil.action = None
                run_once(case.loop)

    agree(scenario)


def test_callbacks_run_in_their_context(agree):
    def scenario(case):
        future = case.loop.create_future()
        context = contextvars.copy_context()
        context.run(variable.set, "given")
        token = variable.set("current")
        future.add_done_callback(lambda f: case.record(variable.get()))
        future.add_done_callback(lambda f: case.record(variable.get()), context=context)
        variable.reset(token)
        future.add_done_callback(lambda f: case.record(variable.get()))
        future.set_result(None)
        run_once(case.loop)
        with case.catch():
            future.add_done_callback(print, context)

    record = agree(scenario)
    assert record[:3] == [("current",), ("given",), ("outside",)]


def test_no_context_is_that_of_whoever_ends_the_future(agree):
    def scenario(case):
        for make in case.loop.create_future, lambda: case.loop.create_task(case.aio.sleep(0)):
            future = make()
            token = variable.set("current")
            future.add_done_callback(lambda f: case.record(variable.get()), context=None)
            case.record(future._callbacks[0][1])
            variable.set("later")
            if hasattr(future, "get_coro"):
                future.cancel()
            else:
                future.set_result(None)
            run_once(case.loop)
            run_once(case.loop)
            variable.reset(token)

    agree(scenario)


def test_awaiting(agree, debug):
    async def scenario(case):
        for set_state in (
            lambda f: f.set_result("result"),
            lambda f: f.set_exception(ValueError("mine")),
            lambda f: f.cancel("message"),
        ):
            future = case.loop.create_future()
            case.loop.call_soon(set_state, future)
            for _ in range(2):
                with case.catch():
                    case.record(await future)

    assert agree(scenario, debug)[0] == ("result",)


def test_the_iterator_of_a_future(agree):
    def scenario(case):
        future = case.loop.create_future()
        iterator = iter(future)
        case.record(next(iterator) is future, future._asyncio_future_blocking)
        with case.catch("not blocking"):
            iterator.send(None)
        future._asyncio_future_blocking = False
        iterator = future.__await__()
        case.record(iterator.send(None) is future)
        with case.catch("thrown"):
            iterator.throw(ValueError("thrown in"))
        with case.catch("exhausted"):
            next(iterator)
        with case.catch("class"):
            future.__await__().throw(KeyError)
        if sys.version_info < (3, 12):
            with case.catch("three"):
                future.__await__().throw(KeyError, KeyError("a"), None)
        with case.catch("garbage", text=False):
            future.__await__().throw(12)
        iterator = future.__await__()
        iterator.close()
        with case.catch("closed"):
            next(iterator)
        future.set_result((1, 2))
        for value in ((1, 2), None, ValueError("a value"), StopIteration(3)):
            future = case.loop.create_future()
            future.set_result(value)
            try:
                next(iter(future))
            except StopIteration as error:
                case.record("result", error.value)

    record = agree(scenario)
    assert record[0] == (True, True)


def test_private_attributes(agree):
    """Programs and asyncio's own Python code look at them."""

    def scenario(case):
        def named(future):
            pass

        future = case.loop.create_future()
        context = contextvars.copy_context()
        names = (
            "_state _result _exception _callbacks _log_traceback _cancel_message "
            "_asyncio_future_blocking _source_traceback _loop _asyncio_awaited_by"
        ).split()

        def show():
            for name in names:
                with case.catch(name):
                    case.record(name, getattr(future, name))

        show()
        future.add_done_callback(named, context=context)
        future.add_done_callback(named, context=context)
        case.record([(f is named, c is context) for f, c in future._callbacks])
        future.remove_done_callback(named)
        future._asyncio_future_blocking = True
        case.record(future._asyncio_future_blocking)
        with case.catch():
            future._log_traceback = True
        future._cancel_message = "a message"
        case.record(future._cancel_message)
        with case.catch():
            future._state = "FINISHED"
        future.set_exception(ValueError("mine"))
        case.record(future._log_traceback)
        future._log_traceback = False
        show()

    agree(scenario)


def test_make_cancelled_error(agree):
    def scenario(case):
        future = case.loop.create_future()
        case.record(future._make_cancelled_error())
        future.cancel("message")
        case.record(future._make_cancelled_error())
        case.record(future._make_cancelled_error(), future._cancel_message)

    agree(scenario)


def test_texts(agree, debug):
    def named(future):
        pass

    def scenario(case):
        futures = []
        for count in range(5):
            future = case.loop.create_future()
            for _ in range(count):
                future.add_done_callback(named)
            futures.append(future)
            case.record(repr(future), str(future))
        for result in (None, "text", list(range(100)), "x" * 200):
            future = case.loop.create_future()
            future.set_result(result)
            case.record(repr(future))
        future = case.loop.create_future()
        future.set_result(future)
        case.record(repr(future))
        future = case.loop.create_future()
        future.set_exception(ValueError("x" * 100))
        case.record(repr(future), future.exception())
        for future in futures:
            future.cancel()

    assert agree(scenario, debug)[0][0].startswith("<Future pending")


def test_an_exception_that_is_never_retrieved_is_reported_once(agree, debug):
    def scenario(case):
        class Mine(case.aio.Future):
            pass

        for make in (case.aio.Future, Mine):
            future = make(loop=case.loop)
            future.set_exception(ValueError("nobody looks"))
            del future
            gc.collect()
            for look in ("exception", "result", "_log_traceback"):
                future = make(loop=case.loop)
                future.set_exception(ValueError("somebody looks"))
                if look == "_log_traceback":
                    future._log_traceback = False
                else:
                    try:
                        getattr(future, look)()
                    except ValueError:
                        pass
                del future
                gc.collect()
        future = case.loop.create_future()
        future.set_exception(ValueError("in a cycle"))
        future.itself = [future]
        del future
        gc.collect()

    def no_attribute(case):
        with case.catch():
            case.loop.create_future().itself = 1

    agree(no_attribute)
    record = agree(scenario, debug)
    assert [entry[2] for entry in record if entry[0] == "report"][:2] == [
        ("ValueError", "nobody looks"),
        ("ValueError", "nobody looks"),
    ]


def test_subclasses_in_python(agree):
    def scenario(case):
        class Mine(case.aio.Future):
            def __init__(self, *, loop):
                super().__init__(loop=loop)
                self.extra = "extra"

            def set_result(self, value):
                case.record("set_result", value)
                super().set_result(value)

            def cancel(self, msg=None):
                case.record("cancel", msg)
                return super().cancel(msg)

            def add_done_callback(self, callback, *, context=None):
                case.record("add_done_callback")
                super().add_done_callback(callback, context=context)

            def __del__(self):
                case.record("deleted")

        async def main():
            future = Mine(loop=case.loop)
            case.loop.call_soon(future.set_result, "value")
            case.record(await future, future.extra)
            case.record(repr(future).split()[:2])
            future = Mine(loop=case.loop)
            case.loop.call_soon(future.cancel, "message")
            with case.catch():
                await future

        case.loop.run_until_complete(main())
        gc.collect()

    record = agree(scenario)
    assert ("value", "extra") in record and ("cancel", "message") in record


def test_weak_references_and_cycles(aio, loop):
    future = aio.Future(loop=loop)
    gone = weakref.ref(future)
    del future
    gc.collect()
    assert gone() is None
    future = aio.Future(loop=loop)
    future.add_done_callback(lambda f, future=future: None)
    gone = weakref.ref(future)
    del future
    gc.collect()
    assert gone() is None
    future = aio.Future(loop=loop)
    future.set_result([future])
    gone = weakref.ref(future)
    del future
    gc.collect()
    assert gone() is None


def test_class_getitem(agree):
    def scenario(case):
        case.record(str(case.aio.Future[int].__args__), case.aio.Future[int].__origin__.__name__)

    agree(scenario)


def test_wrap_future(agree):
    async def scenario(case):
        for finish in (
            lambda f: f.set_result(1),
            lambda f: f.set_exception(ValueError("x")),
            lambda f: (f.cancel(), f.set_running_or_notify_cancel()),
        ):
            other = concurrent.futures.Future()
            future = asyncio.wrap_future(other)
            case.record(isinstance(future, asyncio.Future), asyncio.wrap_future(future) is future)
            await case.loop.run_in_executor(None, finish, other)
            with case.catch():
                case.record(await future)
        other = concurrent.futures.Future()
        asyncio.wrap_future(other).cancel()
        await asyncio.sleep(0)
        case.record("back", other.cancelled())

    assert agree(scenario)[-1] == ("back", True)


def test_futures_of_another_loop(agree):
    async def scenario(case):
        other = case.aio.new_event_loop()
        future = other.create_future()
        with case.catch():
            await future
        future.cancel()
        other.close()

    (record, *_) = agree(scenario)
    assert record[1][0] == "RuntimeError" and "attached to a different loop" in record[1][1]


def test_isfuture(aio, loop):
    class Duck:
        _asyncio_future_blocking = False

    future = aio.Future(loop=loop)
    assert asyncio.isfuture(future) and asyncio.isfuture(Duck()) and not asyncio.isfuture(12)
    assert asyncio.ensure_future(future, loop=loop) is future
    assert isinstance(future, asyncio.Future) and isinstance(loop.create_future(), asyncio.Future)


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_many_waiters_of_one_future(run, count):
    async def main():
        future = asyncio.get_running_loop().create_future()
        order = []

        async def wait(number):
            result = await future
            order.append(number)
            return result

        tasks = [asyncio.create_task(wait(number)) for number in range(count)]
        await asyncio.sleep(0)
        future.set_result("result")
        assert await asyncio.gather(*tasks) == ["result"] * count
        assert order == list(range(count))

    run(main)


def test_attributes_of_its_own_go_with_the_object(agree):
    # Memory that is used again brings nothing of them to another object.
    async def scenario(case):
        class Attribute:
            pass

        async def nothing():
            pass

        makers = {
            "future": case.loop.create_future,
            "task": lambda: case.loop.create_task(nothing()),
            "gather": lambda: case.aio.gather(nothing()),
            "timeout": lambda: case.aio.timeout(None),
            "group": case.aio.TaskGroup,
        }
        references = []
        for name, make in makers.items():
            for _ in range(3):
                made = make()
                made.attribute = Attribute()
                references.append(weakref.ref(made.attribute))
                if name in ("task", "gather"):
                    await made
                del made
                other = make()
                case.record(name, hasattr(other, "attribute"))
                if name in ("task", "gather"):
                    await other
                del other
        gc.collect()
        case.record([reference() for reference in references])

    agree(scenario)
