"""fork() and multiprocessing from a running loop, threads that fork."""

import multiprocessing
import os
import subprocess
import sys

import pytest

from peers import program


def test_fork_in_a_running_loop(aio):
    """The child is outside: it may run a loop of its own; the parent's loop goes on undisturbed."""
    text = """
    async def child_main():
        await asyncio.sleep(0.001)
        reader, writer = os.pipe()
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.add_reader(reader, future.set_result, "read")
        os.write(writer, b"x")
        assert await future == "read"
        assert await loop.run_in_executor(None, int) == 0
        return 7
    async def main():
        loop = asyncio.get_running_loop()
        reader, writer = os.pipe()
        seen = []
        loop.add_reader(reader, lambda: seen.append(os.read(reader, 10)))
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "signal")
        loop.call_later(0.05, seen.append, "timer")
        pid = os.fork()
        if pid == 0:
            status = 99
            try:
                try:
                    asyncio.get_running_loop()
                    status = 98
                except RuntimeError:
                    child = aio.new_event_loop()
                    status = child.run_until_complete(child_main())
                    child.close()
            finally:
                os._exit(status)
        _, status = await loop.run_in_executor(None, os.waitpid, pid, 0)
        print("child", os.waitstatus_to_exitcode(status))
        os.write(writer, b"parent")
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(0.1)
        print(sorted(map(str, seen)))
        loop.remove_reader(reader)
        loop.remove_signal_handler(signal.SIGUSR1)
    asyncio.Runner(loop_factory=aio.new_event_loop).run(main())
    """
    result = program(aio, text)
    assert result.stdout.splitlines() == ["child 7", "[\"b'parent'\", 'signal', 'timer']"]


@pytest.mark.aioxide_alone  # asyncio's loop in the parent is woken and calls its handler
def test_signals_of_the_child_do_not_reach_the_parents_loop(aio):
    """The wake-up descriptor is shared after fork."""
    text = """
    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "signal")
        pid = os.fork()
        if pid == 0:
            try:
                signal.signal(signal.SIGUSR1, lambda *args: None)
                os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(0.01)
            finally:
                os._exit(0)
        await loop.run_in_executor(None, os.waitpid, pid, 0)
        await asyncio.sleep(0.01)
        print(seen)
        loop.remove_signal_handler(signal.SIGUSR1)
    asyncio.Runner(loop_factory=aio.new_event_loop).run(main())
    """
    assert program(aio, text).stdout == "[]\n"


def test_the_child_may_close_the_parents_loop(aio):
    """Its descriptors are the child's own copies: the parent's epoll keeps its entries."""
    text = """
    async def main():
        loop = asyncio.get_running_loop()
        reader, writer = os.pipe()
        future = loop.create_future()
        loop.add_reader(reader, future.set_result, "read")
        await asyncio.sleep(0)
        pid = os.fork()
        if pid == 0:
            try:
                os.close(reader)
                os.close(writer)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        os.write(writer, b"x")
        print(await asyncio.wait_for(future, 30))
        loop.remove_reader(reader)
    asyncio.Runner(loop_factory=aio.new_event_loop).run(main())
    """
    assert program(aio, text).stdout == "read\n"


def test_a_loop_made_before_the_fork_may_run_in_the_child(aio):
    text = """
    loop = aio.new_event_loop()
    pid = os.fork()
    result = loop.run_until_complete(asyncio.sleep(0.001, "ran"))
    loop.close()
    if pid == 0:
        os._exit(5 if result == "ran" else 6)
    print(result, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    assert program(aio, text).stdout == "ran 5\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(aio, tmp_path, method):
    """A process pool that a running loop drives; the workers run loops of their own."""
    assert method in multiprocessing.get_all_start_methods()
    script = tmp_path / "pool.py"
    script.write_text(
        f"""
import asyncio, concurrent.futures, multiprocessing
import {aio.__name__} as aio

async def double(number):
    await asyncio.sleep(0.001)
    return 2 * number

def work(number):
    with asyncio.Runner(loop_factory=aio.new_event_loop) as runner:
        return runner.run(double(number))

async def main():
    loop = asyncio.get_running_loop()
    context = multiprocessing.get_context({method!r})
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        calls = [loop.run_in_executor(pool, work, number) for number in range(5)]
        print(await asyncio.gather(*calls))

if __name__ == "__main__":
    with asyncio.Runner(loop_factory=aio.new_event_loop) as runner:
        runner.run(main())
"""
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ,
    )
    assert result.stdout == "[0, 2, 4, 6, 8]\n", result.stderr
