"""Several threads and one loop; several loops in several threads."""

import asyncio
import socket
import threading
import time

import pytest

from peers import program


def test_call_soon_threadsafe_keeps_each_threads_order(loop):
    threads, calls = 8, 2000
    seen = []

    def work(name):
        for number in range(calls):
            loop.call_soon_threadsafe(seen.append, (name, number))

    workers = [threading.Thread(target=work, args=(name,)) for name in range(threads)]

    async def main():
        for worker in workers:
            worker.start()
        while len(seen) < threads * calls:
            await asyncio.sleep(0.001)

    loop.run_until_complete(main())
    for worker in workers:
        worker.join()
    assert len(seen) == threads * calls
    for name in range(threads):
        assert [number for other, number in seen if other == name] == list(range(calls))


def test_call_soon_threadsafe_wakes_an_idle_loop(loop):
    """Each round the loop is asleep in the selector and nothing but the call wakes it."""
    wakes = []

    def waker():
        for _ in range(50):
            time.sleep(0.001)
            loop.call_soon_threadsafe(wakes.append, None)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=waker)
    thread.start()
    loop.run_forever()
    thread.join()
    assert len(wakes) == 50


def test_ping_pong_between_a_thread_and_a_loop(loop):
    """No wake-up is lost between the loop's look at its queue and its wait."""
    rounds = 3000
    event = threading.Event()

    def other():
        for _ in range(rounds):
            event.wait()
            event.clear()
            loop.call_soon_threadsafe(pong)
        loop.call_soon_threadsafe(loop.stop)

    count = 0

    def pong():
        nonlocal count
        count += 1
        event.set()

    thread = threading.Thread(target=other)
    thread.start()
    event.set()
    loop.run_forever()
    thread.join()
    assert count == rounds


def test_call_soon_threadsafe_from_the_loops_own_thread(agree):
    async def scenario(case):
        loop = case.loop
        loop.call_soon(case.record, "soon 1")
        handle = loop.call_soon_threadsafe(case.record, "threadsafe")
        case.record(type(handle).__name__, isinstance(handle, asyncio.Handle))
        loop.call_soon(case.record, "soon 2")
        loop.call_soon_threadsafe(case.record, "cancelled").cancel()
        await asyncio.sleep(0.001)

    record = agree(scenario)
    assert [entry for entry in record if len(entry) == 1] == [
        ("soon 1",),
        ("threadsafe",),
        ("soon 2",),
    ]


def test_call_soon_threadsafe_before_the_loop_runs(loop):
    seen = []
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(seen.append, "early"))
    thread.start()
    thread.join()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["early"]


def test_call_soon_threadsafe_after_close(loop):
    loop.close()
    errors = []

    def work():
        try:
            loop.call_soon_threadsafe(print)
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == ["Event loop is closed"]


def test_close_races_with_call_soon_threadsafe(loop_factory):
    """Either the call is taken or RuntimeError is raised; nothing else, and no crash."""
    for _ in range(20):
        loop = loop_factory()
        others = []

        def work(loop=loop, others=others):
            while True:
                # The loop's thread gets its turn, or the queue would grow faster than it is run.
                time.sleep(0)
                try:
                    for _ in range(100):
                        loop.call_soon_threadsafe(int)
                except RuntimeError:
                    return
                except BaseException as error:
                    others.append(error)
                    return

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            loop.run_until_complete(asyncio.sleep(0.001))
        finally:
            # Also if that fails: the threads go on until the loop is closed.
            loop.close()
            for thread in threads:
                thread.join()
        assert others == []


def test_a_handle_cancelled_by_another_thread(loop):
    seen = []
    handle = loop.call_later(0.05, seen.append, "fired")
    soon = loop.call_soon(seen.append, "soon")

    def cancel():
        handle.cancel()
        soon.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    thread.join()
    loop.call_later(0.06, loop.stop)
    loop.run_forever()
    assert seen == [] and handle.cancelled()


def test_loops_in_several_threads(loop_factory):
    results = []

    def work(name):
        loop = loop_factory()
        try:
            for _ in range(3):
                results.append(loop.run_until_complete(main(name)))
        finally:
            loop.close()

    async def echo(sock):
        reader, writer = await asyncio.open_connection(sock=sock)
        while line := await reader.readline():
            writer.write(line)
        writer.close()
        await writer.wait_closed()

    async def main(name):
        assert asyncio.all_tasks() == {asyncio.current_task()}
        ours, theirs = socket.socketpair()
        echoing = asyncio.create_task(echo(theirs))
        reader, writer = await asyncio.open_connection(sock=ours)
        for number in range(20):
            writer.write(b"%d:%d\n" % (name, number))
            assert await reader.readline() == b"%d:%d\n" % (name, number)
            await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()
        await echoing
        return name

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(list(range(4)) * 3)


def test_run_coroutine_threadsafe(loop):
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:

        async def add(a, b):
            await asyncio.sleep(0.001)
            return a + b

        async def fail():
            raise ValueError("in the loop's thread")

        futures = [asyncio.run_coroutine_threadsafe(add(n, 1), loop) for n in range(100)]
        assert [future.result(10) for future in futures] == list(range(1, 101))
        with pytest.raises(ValueError, match="in the loop's thread"):
            asyncio.run_coroutine_threadsafe(fail(), loop).result(10)
        sleeping = asyncio.run_coroutine_threadsafe(asyncio.sleep(100), loop)
        assert sleeping.cancel()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_a_loop_made_here_and_run_there(loop):
    """The thread that runs the loop is its thread, whichever made it."""
    seen = []

    def work():
        async def main():
            seen.append(threading.get_ident())
            await asyncio.sleep(0)

        loop.run_until_complete(main())

    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(seen) == 2
    loop.run_until_complete(asyncio.sleep(0))


def test_daemon_threads_may_outlive_the_program(aio):
    """The interpreter ends while a thread is in the loop."""
    text = """
    import threading
    loop = aio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
    print("end")
    """
    result = program(aio, text)
    assert result.stdout == "end\n" and result.stderr == ""


# What a thread is busy with: tasks, callbacks, bytes, calls on other threads.
BUSY = """
import threading
loop_class = asyncio.SelectorEventLoop
async def switch():
    while True:
        await asyncio.sleep(0)
async def gather():
    while True:
        await asyncio.gather(*(asyncio.sleep(0.0001) for _ in range(10)))
async def echo():
    async def serve(reader, writer):
        while data := await reader.read(100):
            writer.write(data)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    while True:
        writer.write(bytes(50))
        await reader.read(100)
async def call():
    while True:
        asyncio.get_running_loop().call_soon(len, ())
        await asyncio.to_thread(len, ())
def start(make_loop):
    for main in (switch, gather, echo, call):
        run = make_loop().run_until_complete
        threading.Thread(target=lambda run=run, main=main: run(main()), daemon=True).start()
    time.sleep(0.2)
    print("end")
"""


def test_busy_daemon_threads_may_outlive_the_program(aio):
    """Before 3.14 CPython ends such threads in the middle of their work."""
    for _ in range(3):
        assert program(aio, BUSY + "start(aio.new_event_loop)").stdout == "end\n"


@pytest.mark.aioxide_alone
def test_native_tasks_on_a_loop_of_asyncios_in_daemon_threads(aio):
    text = BUSY + "aio.install()\nstart(loop_class)"
    for _ in range(3):
        assert program(aio, text).stdout == "end\n"


def test_threads_of_the_executor_may_be_at_work_when_the_program_ends(aio):
    """The interpreter is told not to wait for a call that never ends."""
    text = """
    import threading
    def interrupt():
        while not threading._SHUTTING_DOWN:
            time.sleep(0.001)
        while True:
            os.kill(os.getpid(), signal.SIGINT)
            # again: where it comes just before the main thread waits, that waits on
            time.sleep(0.2)
    def work():
        working.set()
        while True:
            pass
    working = threading.Event()
    loop = aio.new_event_loop()
    loop.run_in_executor(None, work)
    working.wait()
    threading.Thread(target=interrupt, daemon=True).start()
    """
    assert "KeyboardInterrupt" in program(aio, text).stderr
