"""StreamReader by itself: what its coroutines return, wait for and raise."""

import asyncio
import gc
import inspect
import random
import sys
import weakref

import pytest

import aioxide

READS = ("read", "readline", "readexactly", "readuntil")
SEVERAL = sys.version_info >= (3, 13)


async def turns(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


def state(reader):
    return (bytes(reader._buffer), reader._eof, reader._paused, reader._waiter, reader.at_eof(),
            repr(reader.exception()))


class FakeTransport:
    def __init__(self, calls, refuses=False):
        self.calls = calls
        self.refuses = refuses

    def __repr__(self):
        return "<FakeTransport>"

    def pause_reading(self):
        if self.refuses:
            raise NotImplementedError
        self.calls.append("pause")

    def resume_reading(self):
        self.calls.append("resume")


def test_what_is_there_is_returned_without_suspending(agree):
    async def scenario(case):
        reader = case.aio.StreamReader()
        reader.feed_data(b"one\ntwo\nthree;four")
        for coroutine in (reader.readline(), reader.readexactly(4), reader.readuntil(b";"),
                          reader.read(2), reader.read(0), reader.readexactly(0), reader.read(100)):
            try:
                coroutine.send(None)
            except StopIteration as done:
                case.record(done.value, type(done.value))
            case.record(state(reader))

    assert agree(scenario)[0] == (b"one\n", "bytes")


def test_what_is_left_on_an_exception_with_a_result_stays_with_it():
    """Native iterators use the exception that ends them again: never one that somebody has, nor
    one that is no longer as it was made."""

    async def main():
        reader = aioxide.StreamReader()
        lines = [b"%d\n" % number for number in range(12)]
        reader.feed_data(b"".join(lines))

        def end():
            try:
                next(reader.readline().__await__())
            except StopIteration as done:
                return done

        kept = [end() for _ in range(3)]
        assert [done.value for done in kept] == lines[:3]
        assert len(set(map(id, kept))) == 3
        changes = (
            lambda done: setattr(done, "args", ("other",)),
            lambda done: setattr(done, "note", "an attribute"),
            lambda done: done.add_note("a note"),
            lambda done: setattr(done, "__cause__", ValueError()),
            lambda done: setattr(done, "__context__", ValueError()),
            lambda done: setattr(done, "__suppress_context__", True),
            lambda done: done.with_traceback(None),
        )
        for change, line in zip(changes, lines[3:], strict=False):
            done = end()
            assert (done.value, done.args, done.__dict__) == (line, (), {})
            assert (done.__cause__, done.__context__, done.__suppress_context__) == (
                None, None, False)
            change(done.with_traceback(None))
            del done
        # A value is released with its exception, not with the next one.
        future = asyncio.get_running_loop().create_future()
        value = type("Value", (), {})()
        gone = weakref.ref(value)
        future.set_result(value)
        assert await future is value
        del future, value
        gc.collect()
        assert gone() is None
        assert await reader.readline() == lines[10]

    aioxide.run(main())


def test_messages_over_several_pieces(agree):
    async def scenario(case):
        reader = case.aio.StreamReader()
        for read, pieces in (
            (reader.readline, [b"a", b"bc", b"d\ne"]),
            (lambda: reader.readuntil(b"--"), [b"f-", b"-g--"]),
            (lambda: reader.readexactly(9), [b"h", b"ijk", b"lmnopqr"]),
            (lambda: reader.read(5), [b"stuvwxyz"]),
        ):
            task = case.loop.create_task(read())
            await turns()
            for piece in pieces:
                case.record(task.done())
                reader.feed_data(piece)
                await turns()
            case.record(await task, bytes(reader._buffer))

    agree(scenario)


def test_end(agree):
    async def scenario(case):
        for name, args in (("read", ()), ("read", (5,)), ("readline", ()), ("readexactly", (5,)),
                           ("readuntil", ()), ("readuntil", (b";",)), ("__anext__", ())):
            for data in (b"", b"abc"):
                for late in (False, True):
                    reader = case.aio.StreamReader(limit=2)
                    reader.feed_data(data)
                    task = case.loop.create_task(getattr(reader, name)(*args))
                    if late:
                        await turns()
                    reader.feed_eof()
                    with case.catch():
                        try:
                            case.record(name, await task)
                        except asyncio.IncompleteReadError as error:
                            case.record(error.partial, error.expected)
                            raise
                    case.record(state(reader), repr(reader))
                    with pytest.raises(AssertionError, match="feed_data after feed_eof"):
                        reader.feed_data(b"more")

    agree(scenario)


def test_limits(agree):
    async def scenario(case):
        for data in (b"x" * 12, b"x" * 12 + b"\nrest", b"x" * 10 + b"\n", b"x" * 11 + b"\n"):
            for name in ("readline", "readuntil", "__anext__"):
                reader = case.aio.StreamReader(limit=10)
                reader.set_transport(FakeTransport([]))
                reader.feed_data(data)
                with case.catch():
                    try:
                        case.record(await asyncio.wait_for(getattr(reader, name)(), 0.01))
                    except (ValueError, asyncio.LimitOverrunError) as error:
                        case.record(getattr(error, "consumed", None), error.__context__)
                        raise
                    except TimeoutError:
                        case.record("waits")
                case.record(state(reader))
        for limit in (0, -1):
            with case.catch():
                case.aio.StreamReader(limit=limit)

    agree(scenario)


def test_long_line_in_pieces(agree):
    async def scenario(case):
        reader = case.aio.StreamReader(limit=10)
        task = case.loop.create_task(reader.readline())
        for _ in range(4):
            await turns()
            reader.feed_data(b"abcd")
        with case.catch():
            await task
        case.record(state(reader))

    agree(scenario)


def test_transport_is_paused_and_resumed(agree):
    async def scenario(case):
        calls = []
        reader = case.aio.StreamReader(limit=4)
        reader.set_transport(FakeTransport(calls))
        with case.catch():
            reader.set_transport(FakeTransport(calls))
        reader.feed_data(b"12345678")
        case.record(calls)
        reader.feed_data(b"9\n")
        case.record(calls, repr(reader))
        case.record(await reader.read(3), calls, await reader.read(3), calls)
        reader.feed_data(b"a" * 9)
        task = case.loop.create_task(reader.readexactly(20))
        await turns()
        case.record(calls, repr(reader))
        reader.feed_data(b"b" * 7)
        case.record(await task, calls)
        ended = case.aio.StreamReader(limit=1)
        ended.set_transport(FakeTransport(calls))
        ended.feed_data(b"abc")
        ended.feed_eof()
        with case.catch():
            await ended.readexactly(10)
        case.record(ended._paused, await ended.read(), calls, ended._paused)
        unwilling = case.aio.StreamReader(limit=1)
        unwilling.set_transport(FakeTransport(calls, refuses=True))
        unwilling.feed_data(b"abc")
        case.record(unwilling._transport, unwilling._paused)

    agree(scenario)


def test_two_coroutines_at_once(agree):
    async def scenario(case):
        reader = case.aio.StreamReader()
        first = case.loop.create_task(reader.readline())
        await turns()
        for coroutine in (reader.read(1), reader.read(), reader.readline(), reader.readexactly(2),
                          reader.readuntil(b"x"), reader.__anext__()):
            with case.catch():
                await coroutine
        reader.feed_data(b"line\n")
        case.record(await first)

    assert agree(scenario)[0][1][1].startswith("read() called while another coroutine")


@pytest.mark.parametrize("name, args", [
    ("read", (3,)), ("read", ()), ("readline", ()), ("readexactly", (8,)), ("readuntil", (b";",)),
    ("__anext__", ()),
])
def test_cancelled_while_it_waits(agree, name, args):
    async def scenario(case):
        reader = case.aio.StreamReader()
        if name == "readexactly":
            reader.feed_data(b"ab")
        task = case.loop.create_task(getattr(reader, name)(*args))
        await turns()
        case.record(reader._waiter is not None)
        task.cancel("enough")
        with case.catch():
            await task
        case.record(state(reader))
        # woken and cancelled at once: the data stays
        task = case.loop.create_task(getattr(reader, name)(*args))
        await turns()
        reader.feed_data(b"cdefghi;\n")
        task.cancel()
        with case.catch():
            await task
        case.record(state(reader))
        # cancelled before its first step
        task = case.loop.create_task(getattr(reader, name)(*args))
        task.cancel()
        with case.catch():
            await task
        case.record(await reader.readline(), state(reader))

    agree(scenario)


def test_exceptions(agree):
    async def scenario(case):
        reader = case.aio.StreamReader()
        task = case.loop.create_task(reader.readline())
        await turns()
        reader.set_exception(OSError("gone"))
        with case.catch():
            await task
        case.record(repr(reader), repr(reader.exception()))
        reader.feed_data(b"data\n")
        for name, args in (("read", (0,)), ("read", ()), ("readline", ()), ("readexactly", (0,)),
                           ("readuntil", ()), ("__anext__", ())):
            with case.catch():
                await getattr(reader, name)(*args)
        for coroutine in (lambda: reader.readexactly(-1), lambda: reader.readuntil(b""),
                          lambda: reader.readuntil(())):
            with case.catch(text=SEVERAL):
                await coroutine()

    agree(scenario)


def test_wrong_arguments(agree):
    async def scenario(case):
        reader = case.aio.StreamReader()
        reader.feed_data(b"data\n")
        for call in (lambda: reader.readline(1), lambda: reader.read(1, 2),
                     lambda: reader.readexactly(), lambda: reader.feed_data(),
                     lambda: reader.read(x=1), lambda: case.aio.StreamReader(1, None, 2)):
            with case.catch():
                await call()
        for read in (lambda: reader.read("1"), lambda: reader.readexactly("1"),
                     lambda: reader.readuntil(1), lambda: reader.readuntil("x")):
            with case.catch(text=False):
                await read()
        case.record(await reader.read(n=1), await reader.readuntil(separator=bytearray(b"t")))
        with case.catch():
            reader.feed_data("text")
        reader.feed_data(memoryview(b"view"))
        reader.feed_data(bytearray(b"array"))
        case.record(await reader.readexactly(n=9))

    agree(scenario)


@pytest.mark.skipif(not SEVERAL, reason="a tuple of separators is new in 3.13")
def test_several_separators(agree):
    async def scenario(case):
        reader = case.aio.StreamReader()
        reader.feed_data(b"one\r\ntwo\nthree\rfour")
        separators = (b"\r\n", b"\n", b"\r")
        case.record([await reader.readuntil(separators) for _ in range(4)])
        task = case.loop.create_task(reader.readuntil((b"END", b"E")))
        await turns()
        reader.feed_data(b"EN")
        case.record(await task)

    agree(scenario)


def test_iteration(agree):
    async def scenario(case):
        reader = case.aio.StreamReader()
        reader.feed_data(b"1\n2\n\n3")
        reader.feed_eof()
        case.record([line async for line in reader], reader.at_eof())
        with case.catch():
            await anext(reader)

    agree(scenario)


def test_the_buffer_is_everybodys(agree):
    async def scenario(case):
        reader = case.aio.StreamReader()
        task = case.loop.create_task(reader.readline())
        await turns()
        buffer = reader._buffer
        buffer += b"put"
        reader.feed_data(b" here\nnext\nlast")
        case.record(await task, bytes(buffer), await reader.readline(), bytes(buffer))
        del buffer[:2]
        case.record(await reader.read(10), reader._buffer is buffer)
        del buffer
        reader.feed_data(b"again\n")
        reader._buffer.extend(b"more")
        case.record(await reader.readline(), bytes(reader._buffer), repr(reader))
        reader._buffer = bytearray(b"other\n")
        case.record(await reader.readline())
        waiting = case.loop.create_task(reader.read())
        await turns()
        reader.feed_data(b"all")
        await turns()
        buffer = reader._buffer
        reader.feed_data(b" of it")
        reader.feed_eof()
        case.record(await waiting)

    agree(scenario)


def test_attributes(agree):
    async def scenario(case):
        reader = case.aio.StreamReader(limit=5, loop=case.loop)
        case.record(reader._limit, reader._loop is case.loop, reader._eof, reader._waiter,
                    reader._exception, reader._transport, reader._paused, type(reader).__name__)
        reader._limit = 2
        reader.feed_data(b"abcd\n")
        with case.catch():
            await reader.readline()
        reader._eof = True
        case.record(reader.at_eof(), await reader.read())
        reader.anything = 1
        case.record(reader.anything, weakref.ref(reader)() is reader)
        case.record(case.aio.StreamReader()._limit)

    agree(scenario)


def test_subclasses(agree):
    async def scenario(case):
        class Recording(case.aio.StreamReader):
            def __init__(self, name, **options):
                super().__init__(**options)
                self.name = name

            async def readuntil(self, separator=b"\n"):
                case.record("readuntil", self.name)
                return await super().readuntil(separator)

            async def _wait_for_data(self, name):
                case.record("waits", name)
                await super()._wait_for_data(name)

            def feed_data(self, data):
                super().feed_data(data.upper())

        reader = Recording("r", limit=10)
        task = case.loop.create_task(reader.readline())
        await turns()
        reader.feed_data(b"abc\nd")
        case.record(await task, await reader.read(1), isinstance(reader, case.aio.StreamReader))

        plain = case.aio.StreamReader()
        plain.feed_data(b"x\n")

        async def other(separator):
            return b"replaced"

        plain.readuntil = other
        case.record(await plain.readline(), await case.aio.StreamReader.read(plain, 2))

        class Sized(case.aio.StreamReader):
            _limit = 3

            def __init__(self):
                self._loop = case.loop

        case.record(Sized()._limit)

    agree(scenario)


def test_foreign_futures(agree):
    async def scenario(case):
        reader = case.aio.StreamReader()
        waiter = case.loop.create_future()
        reader._waiter = waiter
        with case.catch():
            await reader.read(1)
        case.record(bool(reader._waiter))
        reader.feed_data(b"x")
        case.record(waiter.done(), reader._waiter)

    agree(scenario)


def test_without_a_loop(agree):
    def scenario(case):
        asyncio.set_event_loop(None)
        with case.catch(text=False):
            case.record(type(case.aio.StreamReader()).__name__)
        asyncio.set_event_loop(case.loop)
        try:
            case.record(case.aio.StreamReader()._loop is case.loop)
        finally:
            asyncio.set_event_loop(None)

    agree(scenario)


def test_coroutines_look_like_asyncios():
    for name in READS:
        ours, theirs = (getattr(kind, name) for kind in (aioxide.StreamReader, asyncio.StreamReader))
        assert inspect.iscoroutinefunction(ours)
        assert inspect.signature(ours) == inspect.signature(theirs)
        assert ours.__qualname__ == theirs.__qualname__ and ours.__doc__
    assert issubclass(aioxide.StreamReader, asyncio.StreamReader)


def test_never_awaited(agree):
    async def scenario(case):
        reader = case.aio.StreamReader()
        reader.readline()
        gc.collect()
        coroutine = reader.read(1)
        case.record(asyncio.iscoroutine(coroutine), repr(coroutine))
        coroutine.close()

    assert agree(scenario)[0][2] == "coroutine 'StreamReader.readline' was never awaited"


SEPARATORS = [b"\n", b";", b"a;", b"ab", *([(b"ab", b"\n"), (b"a\n", b";")] if SEVERAL else [])]
STEPS = {
    "feed": lambda: (bytes(random.choices(b"ab\n;", k=random.randrange(7))),),
    "read": lambda: (random.randrange(-1, 10),),
    "readexactly": lambda: (random.randrange(10),),
    "readline": tuple,
    "readuntil": lambda: (random.choice(SEPARATORS),),
    "cancel": tuple,
    "look": tuple,
    "eof": tuple,
}


@pytest.mark.parametrize("seed", range(5))
def test_any_order(seed):
    """Whatever is fed, read, looked at and cancelled in whatever order: as asyncio does it."""
    random.seed(seed)

    async def run(kind, loop, steps, limit):
        seen, calls = [], []
        reader = kind(limit=limit, loop=loop)
        reader.set_transport(FakeTransport(calls))
        tasks = []
        for name, *args in steps:
            try:
                if name == "feed":
                    reader.feed_data(*args)
                elif name == "eof":
                    reader.feed_eof()
                elif name == "look":
                    seen.append((bytes(reader._buffer), repr(reader)))
                elif name == "cancel":
                    for task in tasks:
                        task.cancel()
                else:
                    tasks.append(loop.create_task(getattr(reader, name)(*args)))
            except AssertionError as error:
                seen.append(str(error))
            await turns(2)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        return [*map(repr, (*seen, *outcomes, calls, state(reader)))]

    loop = aioxide.new_event_loop()
    try:
        for _ in range(100):
            names = random.choices([*STEPS], [5, 2, 2, 3, 3, 1, 1, 0.4], k=random.randrange(1, 25))
            steps = [(name, *STEPS[name]()) for name in names]
            limit = random.randrange(1, 13)
            theirs, ours = (
                loop.run_until_complete(run(kind, loop, steps, limit))
                for kind in (asyncio.StreamReader, aioxide.StreamReader)
            )
            assert ours == theirs, (steps, limit)
    finally:
        loop.close()
