"""Several loops on several threads, each of which does all that a loop can do."""

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref

import pytest

from peers import program
from test_handing_over import start
from tls_peers import HOST, client_context, server_context

THREADS = 4
PATIENCE = 60

pytestmark = pytest.mark.hung_after(120)


def in_threads(aio, main, count=THREADS):
    """Run `main(number)` on a loop of its own in each of some threads."""

    def work(number):
        loop = aio.new_event_loop()
        try:
            loop.run_until_complete(asyncio.wait_for(main(number), PATIENCE))
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()

    start(work, count)()


async def echo(reader, writer):
    while data := await reader.read(1000):
        writer.write(data)
        await writer.drain()
    writer.close()


async def talk(aio, number, size=20_000, **options):
    """A server of streams and its client."""
    tls = options.pop("tls", False)
    server_options = {"ssl": server_context()} if tls else {}
    if tls:
        options.update(ssl=client_context(), server_hostname=HOST)
    server = await aio.start_server(echo, "127.0.0.1", 0, **server_options)
    address = server.sockets[0].getsockname()
    sent = bytes([number]) * size
    for _ in range(3):
        reader, writer = await aio.open_connection(*address, **options)
        writer.write(sent)
        assert await reader.readexactly(size) == sent
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()


class Collecting(asyncio.DatagramProtocol):
    def __init__(self, expected):
        self.received, self.expected = [], expected
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.received.append(data)
        if len(self.received) == self.expected:
            self.done.set_result(None)


@pytest.fixture(scope="session")
def authority():
    """The one that all threads trust is made before there are threads."""
    server_context()


def test_streams(aio):
    async def main(number):
        await asyncio.gather(*(talk(aio, number) for _ in range(5)))

    in_threads(aio, main)


def test_tls(aio, authority):
    async def main(number):
        await talk(aio, number, tls=True)
        await talk(aio, number, tls=True)

    in_threads(aio, main)


def test_one_tls_context_for_all(aio):
    """The contexts are shared by the loops; the connections are not."""
    server_side, client_side = server_context(), client_context()

    async def main(number):
        server = await aio.start_server(echo, "127.0.0.1", 0, ssl=server_side)
        for _ in range(5):
            reader, writer = await aio.open_connection(
                *server.sockets[0].getsockname(), ssl=client_side, server_hostname=HOST
            )
            writer.write(bytes([number]) * 1000)
            assert await reader.readexactly(1000) == bytes([number]) * 1000
            writer.close()
            await writer.wait_closed()
        server.close()

    in_threads(aio, main)


def test_datagrams(aio):
    async def main(number):
        loop = asyncio.get_running_loop()
        for _ in range(5):
            transport, protocol = await loop.create_datagram_endpoint(
                lambda: Collecting(20), local_addr=("127.0.0.1", 0)
            )
            address = transport.get_extra_info("sockname")
            for item in range(20):
                transport.sendto(b"%d %d" % (number, item), address)
                await asyncio.sleep(0)
            await protocol.done
            assert protocol.received == [b"%d %d" % (number, item) for item in range(20)]
            transport.close()
            await asyncio.sleep(0)

    in_threads(aio, main)


def test_children(aio):
    async def main(number):
        for turn in range(3):
            process = await aio.create_subprocess_exec(
                "/bin/sh", "-c", f"cat; exit {number}", stdin=-1, stdout=-1
            )
            sent = b"%d" % number * 10_000
            output, _ = await process.communicate(sent)
            assert (output, process.returncode) == (sent, number)

    in_threads(aio, main)


def test_sendfile(aio):
    async def main(number):
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        reader, writer = await aio.open_connection(sock=theirs)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        with tempfile.TemporaryFile() as file:
            file.write(bytes([number]) * 300_000)
            file.flush()
            reading = asyncio.ensure_future(reader.readexactly(300_000))
            assert await loop.sendfile(transport, file) == 300_000
            assert await reading == bytes([number]) * 300_000
        transport.close()
        writer.close()
        await asyncio.sleep(0)

    in_threads(aio, main)


def test_pipes_and_sockets_without_transports(aio):
    async def main(number):
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            for item in range(100):
                receiving = loop.create_task(loop.sock_recv(ours, 100))
                await asyncio.sleep(0)
                await loop.sock_sendall(theirs, b"%d %d" % (number, item))
                assert await receiving == b"%d %d" % (number, item)

    in_threads(aio, main)


def test_all_that_waits(aio):
    """Tasks, timers, locks and queues of each loop beside those of the others."""

    async def give_and_take(queue, lock, items):
        total = 0
        for item in range(items):
            await queue.put(item)
            async with lock:
                total += await queue.get()
                await asyncio.sleep(0)
        return total

    async def main(number):
        for _ in range(5):
            queue, lock = aio.Queue(3), aio.Lock()
            totals = await aio.gather(*(give_and_take(queue, lock, 50) for _ in range(3)))
            assert sum(totals) == 3 * sum(range(50))
            with pytest.raises(TimeoutError):
                async with aio.timeout(0.001):
                    await asyncio.get_running_loop().create_future()
            with pytest.raises(TimeoutError):
                await aio.wait_for(aio.sleep(10), 0.001)
            async with aio.TaskGroup() as group:
                tasks = [group.create_task(aio.sleep(0.001 * n, n)) for n in range(10)]
            assert [task.result() for task in tasks] == list(range(10))
            assert [await one for one in aio.as_completed([aio.sleep(0, "done")])] == ["done"]
            done, pending = await aio.wait([asyncio.ensure_future(aio.sleep(0.001)) for _ in range(5)])
            assert (len(done), pending) == (5, set())

    in_threads(aio, main)


def test_signals_in_the_main_thread(aio, loop):
    """The main thread's loop gets its signals, whatever loops run beside it."""
    sent, seen = 50, []
    over = threading.Event()

    async def beside(number):
        while not over.is_set():
            await asyncio.gather(*(asyncio.sleep(0.0001) for _ in range(5)))

    async def main():
        loop.add_signal_handler(signal.SIGUSR1, seen.append, None)
        for turn in range(sent):
            os.kill(os.getpid(), signal.SIGUSR1)
            while len(seen) <= turn:
                await asyncio.sleep(0.0005)
        loop.remove_signal_handler(signal.SIGUSR1)

    thread = threading.Thread(target=in_threads, args=(aio, beside, 2))
    thread.start()
    try:
        loop.run_until_complete(asyncio.wait_for(main(), PATIENCE))
    finally:
        over.set()
        thread.join()
    assert len(seen) == sent


def test_loops_made_and_closed_again_and_again(aio):
    def work(number):
        for turn in range(40):
            assert aio.run(aio.sleep(0, (number, turn))) == (number, turn)
            loop = aio.new_event_loop()
            loop.call_soon(loop.stop)
            loop.run_forever()
            loop.close()

    start(work, THREADS)()


def test_a_loop_made_in_one_thread_runs_in_others(aio):
    """Several threads run a loop one after the other."""
    loop = aio.new_event_loop()
    queue = aio.Queue()

    def work(number):
        with turn:
            loop.run_until_complete(queue.put(number))
            loop.run_until_complete(asyncio.sleep(0))

    turn = threading.Lock()
    try:
        start(work, THREADS)()
        assert sorted(queue.get_nowait() for _ in range(THREADS)) == list(range(THREADS))
    finally:
        loop.close()


@pytest.mark.leftovers
def test_a_thread_ends_while_tasks_are_pending(aio, asyncio_log):
    """They are still seen, and another thread can run and end them."""
    loops = []

    def work(number):
        loop = aio.new_event_loop()
        loops.append(loop)
        for _ in range(5):
            loop.create_task(asyncio.sleep(3600))
        loop.call_soon(loop.stop)
        loop.run_forever()

    start(work, THREADS)()
    for loop in loops:
        left = aio.all_tasks(loop)
        assert len(left) == 5
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.wait(left))
        assert all(task.cancelled() for task in left)
        assert aio.all_tasks(loop) == set()
        loop.close()


@pytest.mark.leftovers
def test_a_thread_ends_and_its_tasks_are_garbage(aio, asyncio_log):
    """The collector of another thread finds loop and tasks; each task is reported once."""
    reports, gone = [], []

    def work(number):
        loop = aio.new_event_loop()
        loop.set_exception_handler(lambda loop, report: reports.append(report["message"]))
        for _ in range(5):
            weakref.finalize(loop.create_task(forever(loop)), gone.append, number)
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()

    async def forever(loop):
        await loop.create_future()

    start(work, THREADS)()
    gc.collect()
    gc.collect()
    assert sorted(gone) == sorted([*range(THREADS)] * 5)
    assert reports == ["Task was destroyed but it is pending!"] * 5 * THREADS


def test_objects_dropped_by_another_thread(aio, loop):
    """What one thread has made, another gives up: nothing stays, nothing is released twice."""
    box, gone = [], []

    def fill():
        async def main():
            for number in range(200):
                future = loop.create_future()
                future.add_done_callback(print)
                future.remove_done_callback(print)
                box.append((future, loop.call_later(3600, print), aio.Lock(), aio.Queue(), aio.sleep(0)))
                box.append((loop.create_task(aio.sleep(0)), loop.call_soon(int)))
                weakref.finalize(future, gone.append, number)
                del future
            await asyncio.sleep(0.001)

        loop.run_until_complete(main())

    def drop(number):
        for _, timer, *_, coroutine in box[::2]:
            timer.cancel()
            coroutine.close()
        del timer, coroutine, _
        box.clear()

    for _ in range(3):
        fill()
        start(drop, 1)()
        loop.run_until_complete(asyncio.sleep(0))
        gc.collect()
        assert sorted(gone) == list(range(200))
        gone.clear()


def test_fork_beside_running_loops(aio):
    """The child has one thread; it can run a new loop, and nothing of the others disturbs it."""
    text = """
    import threading
    async def busy(over, running):
        queue = aio.Queue()
        running.set()
        while not over.is_set():
            await asyncio.gather(queue.put(1), queue.get(), asyncio.sleep(0))
            await asyncio.sleep(0.0001)
    def work(over, running):
        loop = aio.new_event_loop()
        loop.run_until_complete(busy(over, running))
        loop.close()
    async def child_main():
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, int) == 0
        await asyncio.gather(*(asyncio.sleep(0.001) for _ in range(3)))
        return 7
    over = threading.Event()
    running = [threading.Event() for _ in range(2)]
    threads = [threading.Thread(target=work, args=(over, one)) for one in running]
    for thread, one in zip(threads, running):
        thread.start()
        one.wait()
    statuses = []
    for _ in range(20):
        pid = os.fork()
        if not pid:
            signal.alarm(20)
            status = 99
            try:
                loop = aio.new_event_loop()
                status = loop.run_until_complete(child_main())
                loop.close()
            finally:
                os._exit(status)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    over.set()
    for thread in threads:
        thread.join()
    print(statuses)
    """
    result = program(aio, text, env={"PYTHONWARNINGS": "ignore"})
    assert result.stdout.strip() == str([7] * 20), result.stderr


def test_the_import_in_several_threads():
    """Whoever comes first imports; the others wait for it."""
    text = (
        "import sys, threading\n"
        "def work():\n"
        "    import aioxide\n"
        "    results.append(aioxide.run(aioxide.sleep(0, 'slept')))\n"
        "results = []\n"
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "print(results)\n"
    )


    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{['slept'] * 4}\n", done.stderr
