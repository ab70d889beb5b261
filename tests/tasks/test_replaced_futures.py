"""A program puts its own Future in the place of asyncio's, in its module or as the loop's
`create_future()`. Whatever makes a Future on asyncio makes as many of that kind here."""

import asyncio
import contextlib
import socket
import sys

import pytest

Original = asyncio.Future


@contextlib.contextmanager
def in_the_package(case, made):
    """`asyncio.Future`, which asyncio itself does not ask for."""
    asyncio.Future = made
    try:
        yield
    finally:
        asyncio.Future = Original


@contextlib.contextmanager
def in_the_module(case, made):
    """`asyncio.futures.Future`, of which `create_future()` makes an object."""
    kept = asyncio.futures.Future
    asyncio.futures.Future = made
    try:
        yield
    finally:
        asyncio.futures.Future = kept


@contextlib.contextmanager
def on_the_loop(case, made):
    """`create_future` of the loop itself."""
    case.loop.create_future = lambda: made(loop=case.loop)
    try:
        yield
    finally:
        del case.loop.create_future


async def blocked(case, step):
    """Begins to wait, then is cancelled."""
    task = case.loop.create_task(step)
    for _ in range(3):
        await case.aio.sleep(0)
    case.record("waits", not task.done())
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def sleep(case):
    await case.aio.sleep(0.001)
    await case.aio.sleep(0)
    case.record("result", await case.aio.sleep(0.001, "result"))


async def lock(case):
    lock = case.aio.Lock()
    await lock.acquire()
    await blocked(case, lock.acquire())
    taker = case.loop.create_task(lock.acquire())
    await case.aio.sleep(0)
    lock.release()
    case.record("acquired", await taker)


async def event(case):
    event = case.aio.Event()
    waiter = case.loop.create_task(event.wait())
    await case.aio.sleep(0)
    event.set()
    case.record("set", await waiter)


async def condition(case):
    condition = case.aio.Condition()
    async with condition:
        await blocked(case, condition.wait_for(lambda: False))
        with contextlib.suppress(TimeoutError):
            await case.aio.wait_for(condition.wait(), 0.001)


async def semaphore(case):
    semaphore = case.aio.Semaphore(0)
    await blocked(case, semaphore.acquire())


async def barrier(case):
    barrier = case.aio.Barrier(2)
    other = case.loop.create_task(barrier.wait())
    case.record("place", await barrier.wait(), await other)


async def queue(case):
    queue = case.aio.Queue(1)
    await blocked(case, queue.get())
    await queue.put(1)
    await blocked(case, queue.put(2))
    await blocked(case, queue.join())
    getter = case.loop.create_task(case.aio.PriorityQueue().get())
    await case.aio.sleep(0)
    getter.cancel()


async def wait_for(case):
    with contextlib.suppress(TimeoutError):
        await case.aio.wait_for(case.aio.sleep(1), 0.001)
    case.record("in time", await case.aio.wait_for(case.aio.sleep(0, "value"), 5))


async def several(case):
    """What watches several futures."""
    first, second = (case.loop.create_task(case.aio.sleep(0)) for _ in range(2))
    done, _ = await case.aio.wait([first, second])
    case.record("done", len(done))
    case.record("none", await case.aio.gather())
    case.record("shielded", await case.aio.shield(case.aio.sleep(0, "value")))
    for step in case.aio.as_completed([case.aio.sleep(0, "one"), case.aio.sleep(0, "two")]):
        await step
    async with case.aio.TaskGroup() as group:
        group.create_task(case.aio.sleep(0))


async def threads(case):
    case.record("executor", await case.loop.run_in_executor(None, int, "7"))
    case.record("thread", await case.aio.to_thread(int, "8"))


async def sockets(case):
    loop = case.loop
    one, two = socket.socketpair()
    listening = socket.create_server(("127.0.0.1", 0))
    with one, two, listening:
        for sock in (one, two, listening):
            sock.setblocking(False)
        await blocked(case, loop.sock_recv(one, 10))
        await blocked(case, loop.sock_recv_into(one, bytearray(10)))
        await blocked(case, loop.sock_accept(listening))
        two.send(b"there")
        case.record("received", await loop.sock_recv(one, 10))
        receiver = loop.create_task(loop.sock_recv(one, 10))
        await case.aio.sleep(0)
        await loop.sock_sendall(two, b"later")
        case.record("received later", await receiver)
        client = socket.socket()
        client.setblocking(False)
        with client:
            await loop.sock_connect(client, listening.getsockname())
            server, _ = await loop.sock_accept(listening)
            server.close()


STEPS = [sleep, lock, event, condition, semaphore, barrier, queue, wait_for, several, threads, sockets]


def counted():
    """A class of futures, and how many of it were made."""
    made = []

    class Made(Original):
        def __init__(self, *args, **options):
            made.append(None)
            super().__init__(*args, **options)

    return Made, made


REPLACEMENTS = [in_the_package, in_the_module, on_the_loop]


@pytest.fixture(params=REPLACEMENTS, ids=lambda function: function.__name__)
def replacement(request):
    return request.param


@pytest.mark.parametrize("step", STEPS, ids=lambda function: function.__name__)
def test_what_waits_makes_the_programs_futures(agree, debug, replacement, step):
    async def scenario(case):
        kind, made = counted()
        with replacement(case, kind):
            await step(case)
        case.record("made", len(made))
        before = len(made)
        await step(case)
        case.record("no longer made", len(made) - before)

    agree(scenario, debug)


@pytest.mark.parametrize("step", STEPS, ids=lambda function: function.__name__)
def test_a_replaced_class_is_made_at_all(agree, step):
    """The counting sees something: what waits has made futures of the program's."""
    records = agree(lambda case: case.loop.run_until_complete(counting(case, step)))
    assert dict(record for record in records if record[0] == "made")["made"] > 0


async def counting(case, step):
    kind, made = counted()
    with in_the_module(case, kind):
        await step(case)
    case.record("made", len(made))


def test_streams_make_the_programs_futures(agree, debug, replacement):
    async def scenario(case):
        async def serve(reader, writer):
            case.accepted.set_result((reader, writer))

        case.accepted = Original(loop=case.loop)
        server = await case.aio.start_server(serve, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        reader, writer = await case.aio.open_connection(*address)
        peer_reader, peer_writer = await case.accepted
        kind, made = counted()
        with replacement(case, kind):
            reading = case.loop.create_task(reader.readline())
            await case.aio.sleep(0)
            peer_writer.write(b"line\n")
            case.record("read", await reading)
            case.record("made by a reader", len(made))
            await blocked(case, reader.readexactly(5))
            case.record("made by readexactly", len(made))
            writer.transport.set_write_buffer_limits(0)
            writer.write(bytes(1 << 24))
            draining = case.loop.create_task(writer.drain())
            await case.aio.sleep(0)
            await case.aio.sleep(0)
            case.record("drains", not draining.done())
            case.record("made by drain", len(made))
            await peer_reader.readexactly(1 << 24)
            await draining
        writer.close()
        peer_writer.close()
        await writer.wait_closed()
        await peer_writer.wait_closed()
        server.close()

    agree(scenario, debug)


def test_waiting_for_a_child_makes_the_programs_futures(agree, debug, replacement):
    async def scenario(case):
        process = await case.aio.create_subprocess_exec(
            sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE
        )
        kind, made = counted()
        with replacement(case, kind):
            await blocked(case, process.wait())
            case.record("made", len(made))
            waiting = case.loop.create_task(process.wait())
            await case.aio.sleep(0)
            process.stdin.write(b"\n")
            case.record("exit", await waiting)
            case.record("made", len(made))

    agree(scenario, debug)
