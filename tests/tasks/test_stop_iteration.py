"""A StopIteration within a coroutine of asyncio's (PEP 479), and what is thrown into one.

In the interface of a coroutine a StopIteration says that it has returned. One that the program's own
code raises, called by the coroutine, must not be taken for that.
"""

import asyncio
import contextlib
import sys
import types

import pytest


class Stop(StopIteration):
    """One that a program may make of its own."""


def raising(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def tell(error):
    """An exception with what it came from."""
    return (
        error,
        repr(error.__cause__),
        repr(error.__context__),
        error.__cause__ is error.__context__,
        error.__suppress_context__,
    )


@contextlib.contextmanager
def told(case, what):
    try:
        yield
    except BaseException as error:
        case.record(what, *tell(error))
    else:
        case.record(what, "nothing raised")


class Awkward:
    """A number that fails whatever is done with it."""

    def __init__(self, error):
        self.fail = raising(error)

    def _fail(self, *args):
        return self.fail()

    __le__ = __ge__ = __lt__ = __gt__ = __add__ = __radd__ = __float__ = __index__ = _fail


class Fails:
    """An awaitable that fails at once, or in its first step."""

    def __init__(self, error, late=False):
        self.fail = raising(error)
        self.late = late

    def __await__(self):
        if not self.late:
            self.fail()
        return self

    def __iter__(self):
        return self

    def __next__(self):
        self.fail()


class Unlocked:
    """A lock of the program's own, all of whose methods fail."""

    def __init__(self, error):
        self.acquire = self.release = self.locked = raising(error)


def within(manager):
    async def enter():
        async with manager:
            return "inside"

    return enter()


def subclass(base, **methods):
    return type(base.__name__, (base,), methods)


async def condition_with(aio, error):
    condition = aio.Condition()
    await condition.acquire()
    return condition.wait_for(raising(error))


async def condition_woken(aio, error):
    """The predicate fails when it is asked again."""
    condition = aio.Condition()
    answers = iter([False])

    def predicate():
        for answer in answers:
            return answer
        raise error

    async def wait():
        async with condition:
            await condition.wait_for(predicate)

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    async with condition:
        condition.notify_all()
    return task


async def condition_lock(aio, error):
    condition = aio.Condition()
    await condition.acquire()
    waiting = condition.wait()
    condition.release = raising(error)
    return waiting


async def group_leaving(aio, error):
    group = subclass(aio.TaskGroup, _abort=raising(error))()
    await group.__aenter__()
    return group.__aexit__(ValueError, ValueError("block"), None)


async def timeout_entering(aio, error):
    manager = subclass(aio.Timeout, reschedule=raising(error))(None)
    return manager.__aenter__()


async def wait_of(aio, error):
    class Members:
        def __iter__(self):
            raise error

        def __len__(self):
            return 1

    return aio.wait(Members())


async def wait_with_timeout(aio, error):
    future = asyncio.get_running_loop().create_future()
    future.set_result(1)
    return aio.wait([future], timeout=Awkward(error))


async def completed(aio, error):
    class Members:
        def __iter__(self):
            raise error

    async def first():
        for step in aio.as_completed(Members()):
            return await step

    return first()


async def completed_failing(aio, error):
    async def first():
        for step in aio.as_completed([Fails(error)]):
            return await step

    return first()


async def reader_waiting(aio, error, method="read", args=(5,)):
    reader = subclass(aio.StreamReader, _wait_for_data=raising(error))()
    return getattr(reader, method)(*args)


async def reader_error(aio, error):
    reader = aio.StreamReader()
    reader.set_exception(error)
    return reader.read(5)


async def writer_error(aio, error):
    loop = asyncio.get_running_loop()
    reader = aio.StreamReader()
    protocol = aio.StreamReaderProtocol(reader)
    errors = [error]

    def is_closing():
        while errors:
            raise errors.pop()
        return True

    transport = types.SimpleNamespace(is_closing=is_closing)
    return aio.StreamWriter(transport, protocol, reader, loop).drain()


async def thread_with_executor(aio, error):
    loop = asyncio.get_running_loop()
    loop.run_in_executor = raising(error)
    return aio.to_thread(int)


async def of(coroutine):
    return coroutine


HOOKS = {
    "Condition.wait_for": condition_with,
    "Condition.wait_for, woken": condition_woken,
    "Condition.wait": condition_lock,
    "Condition of a lock": lambda aio, error: of(within(aio.Condition(Unlocked(error)))),
    "Queue._get": lambda aio, error: of(subclass(aio.Queue, _get=raising(error), empty=lambda queue: False)().get()),
    "Queue._put": lambda aio, error: of(subclass(aio.Queue, _put=raising(error))().put(1)),
    "Queue.empty": lambda aio, error: of(subclass(aio.Queue, empty=raising(error))().get()),
    "Queue.full": lambda aio, error: of(subclass(aio.Queue, full=raising(error))().put(1)),
    "Queue.get_nowait": lambda aio, error: of(
        subclass(aio.Queue, get_nowait=raising(error), empty=lambda queue: False)().get()
    ),
    "Queue.put_nowait": lambda aio, error: of(subclass(aio.Queue, put_nowait=raising(error))().put(1)),
    "PriorityQueue": lambda aio, error: of(subclass(aio.PriorityQueue, _put=raising(error))().put(1)),
    "Lock.acquire": lambda aio, error: of(within(subclass(aio.Lock, acquire=raising(error))())),
    "Lock.release": lambda aio, error: of(within(subclass(aio.Lock, release=raising(error))())),
    "Semaphore.locked": lambda aio, error: of(subclass(aio.Semaphore, locked=raising(error))().acquire()),
    "Semaphore.release": lambda aio, error: of(within(subclass(aio.Semaphore, release=raising(error))())),
    "Barrier.wait": lambda aio, error: of(within(subclass(aio.Barrier, wait=raising(error))(1))),
    "sleep": lambda aio, error: of(aio.sleep(Awkward(error))),
    "wait_for, timeout": lambda aio, error: of(aio.wait_for(Fails(error), Awkward(error))),
    "wait_for, __await__": lambda aio, error: of(aio.wait_for(Fails(error), None)),
    "wait_for, __await__ in time": lambda aio, error: of(aio.wait_for(Fails(error), 5)),
    "wait_for, a step": lambda aio, error: of(aio.wait_for(Fails(error, late=True), None)),
    "wait": wait_of,
    "wait, timeout": wait_with_timeout,
    "as_completed": completed,
    "as_completed, a step": completed_failing,
    "TaskGroup._abort": group_leaving,
    "Timeout.reschedule": timeout_entering,
    "StreamReader.read": reader_waiting,
    "StreamReader.readline": lambda aio, error: reader_waiting(aio, error, "readline", ()),
    "StreamReader.readexactly": lambda aio, error: reader_waiting(aio, error, "readexactly", (5,)),
    "StreamReader.readuntil": lambda aio, error: reader_waiting(aio, error, "readuntil", ()),
    "StreamReader.__anext__": lambda aio, error: reader_waiting(aio, error, "__anext__", ()),
    "StreamReader.set_exception": reader_error,
    "StreamWriter.drain": writer_error,
    "to_thread": thread_with_executor,
}


@pytest.mark.parametrize("error", [StopIteration, Stop, StopAsyncIteration], ids=lambda error: error.__name__)
@pytest.mark.parametrize("name", HOOKS)
def test_hooks(agree, name, error):
    async def scenario(case):
        # what a failure leaves behind is another test's matter
        sys_hook, sys.unraisablehook = sys.unraisablehook, lambda args: None
        try:
            with told(case, "made"):
                awaitable = await HOOKS[name](case.aio, error("lost"))
            with told(case, "awaited"):
                case.record("returned", await awaitable)
        finally:
            sys.unraisablehook = sys_hook

    record = agree(scenario)
    if error is not StopAsyncIteration and name != "wait_for, a step":
        raised = [entry for entry in record if entry[1] != "nothing raised"]
        assert raised and raised[-1][1] == ("RuntimeError", raised[-1][1][1]), record


class Iterator:
    """What is awaited: yields once for each step, and records what is done with it."""

    def __init__(self, case, methods=(), **errors):
        self.case = case
        self.errors = errors
        for name in methods:
            setattr(self, name, types.MethodType(self.method(name), self))

    @staticmethod
    def method(name):
        def act(self, *args):
            self.case.record("iterator", name, args)
            error = self.errors.get(name)
            if error is not None:
                raise error(name)
            return name

        return act

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return "yielded"


def make(case, name):
    """A coroutine that waits after its first step."""
    aio, loop = case.aio, case.loop
    lock = aio.Lock()
    if name == "sleep(0)":
        return aio.sleep(0)
    if name == "sleep":
        return aio.sleep(100)
    if name == "acquire":
        lock._locked = True
        return lock.acquire()
    if name == "get":
        return aio.Queue().get()
    if name == "event":
        return aio.Event().wait()
    if name == "wait":
        return aio.wait([loop.create_future()])
    if name == "future":
        return aio.wait_for(loop.create_future(), None)
    if name == "read":
        return aio.StreamReader().read(1)
    if name == "join":
        queue = aio.Queue()
        queue.put_nowait(1)
        return queue.join()
    assert name == "coroutine"

    class Once:
        def __await__(self):
            yield

    return aio.wait_for(Once(), None)


WAITING = ["sleep(0)", "sleep", "acquire", "get", "event", "wait", "future", "read", "join", "coroutine"]

THROWN = {
    "StopIteration": lambda: (StopIteration("value"),),
    "its class": lambda: (StopIteration,),
    "a subclass": lambda: (Stop("value"),),
    "StopAsyncIteration": lambda: (StopAsyncIteration("value"),),
    "GeneratorExit": lambda: (GeneratorExit("value"),),
    "ValueError": lambda: (ValueError("value"),),
    "no exception": lambda: (5,),
    "nothing": lambda: (),
}


def again(case, coroutine):
    """Where it stands afterwards."""
    with told(case, "sent"):
        case.record("yielded", type(coroutine.send(None)).__name__)
    with told(case, "closed"):
        case.record("close()", coroutine.close())


@pytest.mark.parametrize("thrown", THROWN)
@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("name", WAITING)
def test_throw(agree, name, steps, thrown):
    stops = ("StopIteration", "its class", "a subclass")
    if steps == 0 and thrown in stops and hasattr(sys, "gettotalrefcount"):
        pytest.skip("CPython's debug build asserts that no StopIteration comes out of a new coroutine")

    async def scenario(case):
        coroutine = make(case, name)
        for _ in range(steps):
            coroutine.send(None)
        try:
            case.record("thrown", coroutine.throw(*THROWN[thrown]()))
        except TypeError as error:
            # worded differently for functions in C
            case.record("thrown", type(error), str(error) if "deriv" in str(error) else None)
        except BaseException as error:
            case.record("thrown", *tell(error))
        again(case, coroutine)

    agree(scenario)


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("name", WAITING)
def test_close(agree, name, steps):
    async def scenario(case):
        coroutine = make(case, name)
        for _ in range(steps):
            coroutine.send(None)
        with told(case, "closed"):
            case.record("close()", coroutine.close())
        again(case, coroutine)

    agree(scenario)


ITERATORS = {
    "plain": ((), {}),
    "throw": (("throw",), {}),
    "close": (("close",), {}),
    "both": (("throw", "close"), {}),
    "throw returns": (("throw",), {"throw": StopIteration}),
    "throw fails": (("throw", "close"), {"throw": KeyError}),
    "close stops": (("throw", "close"), {"close": StopIteration}),
    "close fails": (("throw", "close"), {"close": KeyError}),
    "close stops async": (("close",), {"close": StopAsyncIteration}),
}


@pytest.mark.parametrize("thrown", [*THROWN, "close()"])
@pytest.mark.parametrize("iterator", ITERATORS)
def test_what_is_awaited(agree, iterator, thrown):
    async def scenario(case):
        methods, errors = ITERATORS[iterator]
        awaited = Iterator(case, methods, **errors)
        coroutine = case.aio.wait_for(awaited, None)
        case.record(coroutine.send(None))
        with told(case, "thrown"):
            if thrown == "close()":
                case.record("close()", coroutine.close())
            elif thrown != "nothing":
                case.record("yielded", coroutine.throw(*THROWN[thrown]()))
        for method in methods:
            delattr(awaited, method)
        again(case, coroutine)

    agree(scenario)


def test_a_missing_close_is_looked_for(agree):
    """What its look-up raises is nobody's."""

    class Odd:
        def __await__(self):
            return self

        __iter__ = __await__

        def __next__(self):
            return "yielded"

        def __getattr__(self, name):
            raise ValueError(name)

    async def scenario(case):
        unraisable = []
        hook, sys.unraisablehook = sys.unraisablehook, lambda args: unraisable.append(str(args.exc_value))
        try:
            coroutine = case.aio.wait_for(Odd(), None)
            coroutine.send(None)
            case.record("close()", coroutine.close(), unraisable)
        finally:
            sys.unraisablehook = hook

    agree(scenario)


def test_an_exception_that_is_thrown_keeps_its_traceback(agree):
    async def scenario(case):
        coroutine = case.aio.sleep(100)
        coroutine.send(None)
        stop = StopIteration("value")
        try:
            raise stop
        except StopIteration:
            pass
        task = asyncio.ensure_future(case.aio.Condition().wait_for(raising(stop)))
        with told(case, "awaited"):
            await task
        names = []
        traceback = stop.__traceback__
        while traceback is not None:
            names.append(traceback.tb_frame.f_code.co_name)
            traceback = traceback.tb_next
        case.record("fail" in names)
        coroutine.close()

    agree(scenario)


def test_an_await_still_returns_what_an_iterator_returns(agree):
    class Returns:
        def __await__(self):
            return self

        __iter__ = __await__

        def __next__(self):
            raise StopIteration("value")

    async def scenario(case):
        case.record(await case.aio.wait_for(Returns(), None))
        case.record(await case.aio.wait_for(Returns(), 5))
        with told(case, "future"):
            case.loop.create_future().set_exception(StopIteration("value"))
        future = case.loop.create_future()
        try:
            future.set_exception(StopIteration("value"))
        except TypeError:
            future.cancel()
        with told(case, "awaited"):
            await future

    agree(scenario)
