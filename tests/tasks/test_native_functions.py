"""Native functions that stand for coroutine functions: what libraries do with a function object."""

import functools
import gc
import inspect
import pickle
import sys
import weakref

import pytest

FUNCTIONS = ("sleep", "wait", "wait_for", "to_thread")
METHODS = (("Lock", "acquire"), ("Queue", "get"), ("StreamReader", "readline"), ("Event", "wait"))


@pytest.fixture(params=[*FUNCTIONS, *METHODS], ids=str)
def function(aio, request):
    if isinstance(request.param, str):
        return getattr(aio, request.param)
    class_name, name = request.param
    return getattr(getattr(aio, class_name), name)


def test_nothing_is_in_their_dict(function):
    assert vars(function) == {}


def test_what_wraps_one_is_only_what_it_is_itself(function):
    @functools.wraps(function)
    def plain():
        pass

    @functools.wraps(function)
    async def coroutine():
        pass

    assert plain.__name__ == function.__name__
    assert vars(plain) == {"__wrapped__": function}
    assert not inspect.iscoroutinefunction(plain)
    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.signature(plain) == inspect.signature(function)


def test_weak_references(function):
    reference = weakref.ref(function)
    assert reference() is function
    known = weakref.WeakKeyDictionary({function: 1})
    assert known[function] == 1


def test_weak_references_to_bound_methods(loop, aio):
    queue = aio.Queue()
    reference = weakref.WeakMethod(queue.get)
    assert reference() == queue.get
    del queue
    gc.collect()
    assert reference() is None


def test_attributes_of_the_programs_own(function):
    function.marked = True
    try:
        assert function.marked is True
        assert vars(function) == {"marked": True}
        wrapped = functools.wraps(function)(lambda: None)
        assert wrapped.marked is True
    finally:
        del function.marked
    with pytest.raises(AttributeError):
        function.marked


def test_attributes_that_functions_have(function):
    assert {"__name__", "__qualname__", "__code__", "__defaults__", "__wrapped__"} - set(
        dir(function)
    ) == {"__wrapped__"}
    before = function.__doc__
    function.__doc__ = "another"
    assert function.__doc__ == "another"
    function.__doc__ = before
    assert vars(function) == {}


def test_methods_still_bind_and_functions_pickle(aio, run):
    async def main():
        queue = aio.Queue()
        queue.put_nowait(1)
        get = queue.get
        assert get.__func__ is aio.Queue.get and get.__self__ is queue
        return await get()

    assert run(main) == 1
    assert pickle.loads(pickle.dumps(aio.sleep)) is aio.sleep


def test_a_coroutine_awaited_by_two(agree):
    """The second to await it is refused, the first gets its outcome."""

    async def scenario(case):
        aio, loop = case.aio, case.loop
        event, queue, lock = aio.Event(), aio.Queue(), aio.Lock()
        await lock.acquire()

        def end():
            event.set()
            queue.put_nowait(1)
            lock.release()

        for make in (
            lambda: aio.sleep(0.001, "slept"),
            lambda: aio.sleep(0),
            lambda: aio.wait_for(event.wait(), 5),
            event.wait,
            queue.get,
            lock.acquire,
        ):
            event.clear()
            coro = make()
            first = loop.create_task(coro)
            await aio.sleep(0)
            loop.call_soon(end)
            with case.catch(coro.__qualname__):
                await coro
            case.record(await first)
            with case.catch("afterwards"):
                await coro
            if not lock.locked():
                await lock.acquire()

    agree(scenario)


def test_an_await_of_the_programs_own(agree):
    """A native coroutine awaits a Future of a class with an `__await__` of its own by that."""

    async def scenario(case):
        class Lazy(case.aio.Future):
            def __await__(self):
                case.record("awaited")
                self.get_loop().call_soon(self.set_result, 1)
                return (yield from super().__await__()) + 1

        class Plain(case.aio.Future):
            pass

        # With a timeout, 3.11 asks for the result without awaiting.
        for timeout in (None, 60) if sys.version_info >= (3, 12) else (None,):
            case.record(await case.aio.wait_for(Lazy(), timeout))
        plain = Plain()
        case.loop.call_soon(plain.set_result, 3)
        case.record(await case.aio.wait_for(plain, 5))

    agree(scenario)


def test_asking_keeps_nothing(aio):
    code = aio.sleep.__code__
    before = sys.getrefcount(code), sys.getrefcount(aio.sleep)
    for _ in range(100):
        vars(aio.sleep), aio.sleep.__code__, dir(aio.sleep), weakref.ref(aio.sleep)
    assert (sys.getrefcount(code), sys.getrefcount(aio.sleep)) == before
