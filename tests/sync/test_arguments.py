"""Wrong arguments: the exceptions of asyncio's functions, their texts included."""

import asyncio
import math

import pytest

BAD = [
    None,
    "x",
    b"x",
    1.5,
    -1,
    -0.5,
    0,
    2,
    2**31,
    2**63,
    2**70,
    -(2**70),
    math.nan,
    math.inf,
    -math.inf,
    True,
    [],
    len,
]
COUNTED = ["Semaphore", "BoundedSemaphore"]
QUEUES = ["Queue", "PriorityQueue", "LifoQueue"]


def tried(case, what, function, *args, **kwargs):
    with case.catch(what):
        case.record(what, function(*args, **kwargs))


@pytest.mark.parametrize("value", BAD, ids=repr)
def test_notify(agree, value):
    async def scenario(case):
        condition = case.aio.Condition()
        with case.catch("not locked"):
            condition.notify(value)
        async with condition:
            with case.catch("nobody waits"):
                case.record(condition.notify(value), condition.notify(n=value))

        async def wait():
            async with condition:
                await condition.wait()

        waiting = [asyncio.ensure_future(wait()) for _ in range(3)]
        await asyncio.sleep(0)
        async with condition:
            with case.catch("some wait"):
                condition.notify(value)
        for _ in range(5):
            await asyncio.sleep(0)
        case.record([task.done() for task in waiting])
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)

    agree(scenario)


class Reluctant:
    """A number that may be compared only so often."""

    def __init__(self, times):
        self.times = times

    def __le__(self, other):
        self.times -= 1
        if self.times < 0:
            raise KeyError(other)
        return other >= 2


@pytest.mark.parametrize("times", [0, 1, 2, 5])
def test_notify_compares_before_each(agree, times):
    async def scenario(case):
        condition = case.aio.Condition()

        async def wait():
            async with condition:
                await condition.wait()

        waiting = [asyncio.ensure_future(wait()) for _ in range(3)]
        await asyncio.sleep(0)
        async with condition:
            with case.catch("notified"):
                condition.notify(Reluctant(times))
        for _ in range(5):
            await asyncio.sleep(0)
        case.record([task.done() for task in waiting])
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)

    agree(scenario)


def test_an_overridden_private_notify_is_called(agree):
    async def scenario(case):
        class Told(case.aio.Condition):
            def _notify(self, count):
                case.record("private", count)
                super()._notify(count)

        if not hasattr(case.aio.Condition, "_notify"):
            return case.record("not on this version")
        condition = Told()
        async with condition:
            condition.notify(3)
            condition.notify_all()

    agree(scenario)


@pytest.mark.parametrize("value", BAD, ids=repr)
@pytest.mark.parametrize("name", COUNTED)
def test_counts(agree, name, value):
    async def scenario(case):
        cls = getattr(case.aio, name)
        with case.catch("made"):
            item = cls(value)
            case.record(item, repr(item._value), item.locked(), repr(getattr(item, "_bound_value", None)))
            async with asyncio.timeout(0.01):
                async with item:
                    case.record(item, repr(item._value))
            case.record(item, repr(item._value))
            item.release()
            case.record(item, repr(item._value))
        item = cls(2)
        item._value = value
        with case.catch("set"):
            case.record(repr(item._value))
            case.record(item.locked())
            item.release()
            case.record(repr(item._value))

    agree(scenario)


@pytest.mark.parametrize("value", BAD, ids=repr)
@pytest.mark.parametrize("name", QUEUES)
def test_sizes(agree, name, value):
    async def scenario(case):
        with case.catch("made"):
            queue = getattr(case.aio, name)(value)
            case.record(queue, queue.maxsize)
            case.record(queue.full())
            case.record(queue.put_nowait(1), queue.qsize())
            async with asyncio.timeout(0.01):
                await queue.put(2)
            case.record(queue)

    agree(scenario)


@pytest.mark.parametrize("value", BAD, ids=repr)
def test_parties(agree, value):
    async def scenario(case):
        with case.catch("made"):
            barrier = case.aio.Barrier(value)
            case.record(barrier, barrier.parties)

    agree(scenario)


CALLS = [
    ((), {}),
    ((1,), {}),
    ((1, 2, 3, 4, 5, 6), {}),
    ((), {"zzz": 1}),
    ((1,), {"zzz": 1}),
    ((1, 2), {"zzz": 1}),
    ((1, 2), {"timeout": 1}),
    ((1, 2, 3), {"loop": 1, "timeout": 2}),
]


@pytest.mark.parametrize(
    "name",
    [*COUNTED, *QUEUES, "Lock", "Event", "Condition", "Barrier", "sleep", "wait", "as_completed", "ensure_future"],
)
def test_number_and_names(agree, name):
    async def scenario(case):
        for args, kwargs in CALLS:
            with case.catch((args, kwargs)):
                made = getattr(case.aio, name)(*args, **kwargs)
                if hasattr(made, "close"):
                    made.close()
                case.record("made")

    agree(scenario)


@pytest.mark.parametrize("method", ["__aexit__", "wait", "reset", "abort"])
def test_methods_of_a_barrier(agree, method):
    def scenario(case):
        barrier = case.aio.Barrier(1)
        for args, kwargs in CALLS:
            with case.catch((args, kwargs)):
                getattr(barrier, method)(*args, **kwargs).close()
                case.record("made")

    agree(scenario)


def test_futures(agree):
    def scenario(case):
        for method, arguments in [
            ("add_done_callback", [((), {}), ((1, 2, 3), {})]),
            ("cancel", [((1, 2), {}), ((1,), {"msg": 2}), ((1, 2), {"msg": 3})]),
            ("set_exception", [((1,), {}), ((StopIteration,), {}), ((int,), {})]),
        ]:
            for args, kwargs in arguments:
                tried(case, (method, args), getattr(case.loop.create_future(), method), *args, **kwargs)

    agree(scenario)


NUMBERS = [2**31 - 1, 2**31, 2**32 + 5, 2**63, 2**70, -1, -(2**31) - 1, -(2**63) - 1, -(2**70), 1.5, None, "x"]


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
def test_numbers_of_descriptors(agree, number):
    class File:
        def fileno(self):
            return number

    def scenario(case):
        for file in number, File():
            for method in "remove_reader", "remove_writer":
                tried(case, method, getattr(case.loop, method), file)
            for method in "add_reader", "add_writer":
                tried(case, method, getattr(case.loop, method), file, len)

    agree(scenario)
