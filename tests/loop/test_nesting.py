"""Iterations one by one, and loops that run again while they run, as nest_asyncio has them."""

import asyncio
import socket
import textwrap

import pytest

from peers import program


def test_run_once_is_one_iteration(loop):
    seen = []
    loop.call_soon(loop.call_soon, seen.append, "second")
    loop.call_soon(seen.append, "first")
    loop._run_once()
    assert seen == ["first"]
    loop._run_once()
    assert seen == ["first", "second"]


def test_run_once_waits_for_a_timer(loop):
    seen = []
    loop.call_later(0.01, seen.append, "timer")
    while not seen:
        loop._run_once()
    assert seen == ["timer"]


def test_run_once_looks_at_the_selector(loop):
    """In each call, though work is queued."""
    seen = []
    here, there = socket.socketpair()
    with here, there:
        loop.add_reader(here, lambda: seen.append(here.recv(10)))
        loop.call_soon(there.send, b"x")
        loop._run_once()
        assert seen == []
        loop.call_soon(seen.append, "queued")
        loop._run_once()
        assert sorted(seen, key=str) == [b"x", "queued"]
        loop.remove_reader(here)


def test_run_once_in_a_task_runs_the_others(run):
    async def main():
        seen = []
        loop = asyncio.get_running_loop()
        loop.call_soon(seen.append, "callback")
        timer = loop.call_later(0.001, seen.append, "timer")
        while len(seen) < 2:
            loop._run_once()
        assert seen == ["callback", "timer"] and not timer.cancelled()
        await asyncio.sleep(0)

    run(main)


def test_a_loop_has_no_mark_of_nest_asyncio(loop):
    assert not hasattr(loop, "_nest_patched")


# What nest_asyncio.apply() does before it looks at the loop.
APPLIED = """
asyncio._nest_patched = True
loop = aio.new_event_loop()
assert loop._nest_patched
def wait(awaitable):
    return asyncio.get_running_loop().run_until_complete(awaitable)
async def deep(levels):
    task = asyncio.current_task()
    await asyncio.sleep(0.0001)
    below = wait(deep(levels - 1)) if levels else 0
    assert asyncio.current_task() is task
    await asyncio.sleep(0)
    return below + 1
"""


RUNS = {
    "deep": """
    async def main():
        assert wait(deep(20)) == 21
        assert wait(asyncio.gather(deep(3), deep(2))) == [4, 3]
    loop.run_until_complete(main())
    """,
    "in callbacks": """
    seen = []
    async def main():
        loop.call_soon(lambda: seen.append(wait(deep(2))))
        while not seen:
            await asyncio.sleep(0.001)
    loop.run_until_complete(main())
    assert seen == [3]
    """,
    "others go on": """
    async def tick(seen):
        for number in range(3):
            seen.append(number)
            await asyncio.sleep(0.001)
    async def main():
        seen = []
        task = asyncio.create_task(tick(seen))
        wait(asyncio.wait([task]))
        assert seen == [0, 1, 2]
    loop.run_until_complete(main())
    """,
    "what was written leaves": """
    async def main():
        async def serve(reader, writer):
            writer.write(await reader.readline())
            writer.close()
        async def ask(line):
            reader, writer = await asyncio.open_connection(*address)
            for _ in range(3):
                writer.write(line[:1])
                await asyncio.sleep(0)
            writer.write(line[3:])
            answer = wait(reader.readline())
            writer.close()
            return answer
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        assert await ask(b"xxxyz\\n") == b"xxxyz\\n"
        assert wait(ask(b"aaa\\n")) == b"aaa\\n"
        server.close()
    loop.run_until_complete(main())
    """,
    "a connection is set up inside connection_made": """
    seen = []
    class Nests(asyncio.Protocol):
        def connection_made(self, transport):
            seen.append("made")
            transport.close()
            wait(asyncio.sleep(0.01))
            seen.append("left")
        def connection_lost(self, error):
            seen.append("lost")
    async def main():
        import socket
        ours, theirs = socket.socketpair()
        def failed(loop, report):
            seen.append(type(report["exception"]).__name__)
        loop.set_exception_handler(failed)
        connected = asyncio.create_task(loop.connect_accepted_socket(Nests, ours))
        connected.add_done_callback(lambda task: seen.append("connected"))
        await connected
        while "left" not in seen:
            await asyncio.sleep(0)
        theirs.close()
    loop.run_until_complete(main())
    import sys
    # Since 3.15 the callbacks of a connection share a context, and connection_made is still in it.
    lost = "RuntimeError" if sys.version_info >= (3, 15) else "lost"
    assert seen == ["made", lost, "connected", "left"], seen
    """,
    "failures": """
    async def fail():
        await asyncio.sleep(0)
        raise ValueError("inner")
    async def main():
        try:
            wait(fail())
        except ValueError as error:
            assert str(error) == "inner"
        await asyncio.sleep(0)
    loop.run_until_complete(main())
    """,
    "stopped": """
    async def stop():
        loop.stop()
        await asyncio.sleep(1)
    async def main():
        try:
            wait(stop())
        except RuntimeError as error:
            assert str(error) == "Event loop stopped before Future completed."
            return "stopped"
    task = loop.create_task(main())
    loop.run_forever()
    assert loop.run_until_complete(task) == "stopped"
    for left in asyncio.all_tasks(loop):
        left.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    """,
    "another loop": """
    async def main():
        task, running = asyncio.current_task(), asyncio.get_running_loop()
        other = aio.new_event_loop()
        assert other.run_until_complete(deep(2)) == 3
        other.close()
        assert asyncio.current_task() is task and asyncio.get_running_loop() is running
        await asyncio.sleep(0)
    loop.run_until_complete(main())
    """,
    "other threads": """
    import threading
    async def main():
        seen = []
        def work():
            coroutine = asyncio.sleep(0)
            try:
                loop.run_until_complete(coroutine)
            except RuntimeError as error:
                coroutine.close()
                seen.append(str(error))
        wait(asyncio.to_thread(work))
        assert seen == ["This event loop is already running"]
    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    """,
}


@pytest.mark.aioxide_alone
@pytest.mark.parametrize("installed", ["", "aio.install()\n"], ids=["loop", "installed"])
@pytest.mark.parametrize("name", RUNS)
def test_a_run_inside_a_run(aio, name, installed):
    end = "assert asyncio._get_running_loop() is None\nloop.close()\nprint('end')"
    result = program(aio, installed + APPLIED + textwrap.dedent(RUNS[name]) + end)
    assert (result.stdout, result.stderr) == ("end\n", "")
