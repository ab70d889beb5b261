"""Ctrl-C, signal.signal handlers and add_signal_handler."""

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time

import pytest

from peers import program, settle, until


@pytest.fixture
def usr1():
    """SIGUSR1's handler is put back afterwards."""
    old = signal.getsignal(signal.SIGUSR1)
    yield signal.SIGUSR1
    signal.signal(signal.SIGUSR1, old)


def press(signum=signal.SIGINT):
    signal.raise_signal(signum)


def press_soon(loop, signum=signal.SIGINT):
    """Send this process a signal, Ctrl-C by default, when the loop has run for a while."""

    def wait_and_press():
        while not loop.is_running():
            time.sleep(0.001)
        time.sleep(0.02)
        os.kill(os.getpid(), signum)

    thread = threading.Thread(target=wait_and_press)
    thread.start()
    return thread


def test_ctrl_c_while_idle_in_the_selector(loop):
    thread = press_soon(loop)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    thread.join()
    assert not loop.is_running()
    assert loop.run_until_complete(asyncio.sleep(0, "goes on")) == "goes on"


def test_ctrl_c_while_waiting_for_a_timer(loop):
    thread = press_soon(loop)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(50))
    assert time.monotonic() - start < 40
    thread.join()


def test_ctrl_c_in_a_callback(agree):
    def scenario(case):
        loop = case.loop
        loop.call_soon(case.record, "before")
        loop.call_soon(press)
        loop.call_soon(case.record, "after")
        loop.call_later(0, case.record, "timer")
        with case.catch():
            loop.run_forever()
        case.record("caught", loop.is_running())
        loop.call_later(0.005, loop.stop)
        loop.run_forever()

    record = agree(scenario)
    assert [entry[0] for entry in record] == ["before", "raised", "caught", "after", "timer"]


def test_ctrl_c_in_a_task(agree):
    def scenario(case):
        async def main():
            case.loop.call_soon(case.record, "callback")
            press()
            case.record("unreachable, or the next step")
            await asyncio.sleep(0)

        with case.catch():
            case.loop.run_until_complete(main())
        case.loop.run_until_complete(asyncio.sleep(0))

    assert ("raised", ("KeyboardInterrupt",)) in agree(scenario)


def test_ctrl_c_while_callbacks_never_stop_coming(loop):
    def again():
        loop.call_soon(again)

    loop.call_soon(again)
    thread = press_soon(loop)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    thread.join()


def test_a_busy_python_callback_is_interrupted(loop):
    def spin():
        while True:
            pass

    loop.call_soon(spin)
    thread = press_soon(loop)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    thread.join()


@pytest.mark.parametrize("where", ["idle", "task", "callback", "busy"])
def test_runner_cancels_the_main_task(aio, where):
    """asyncio.Runner turns the first Ctrl-C into a cancellation of the main task."""
    seen = []

    async def main():
        try:
            if where == "task":
                press()
            elif where == "callback":
                asyncio.get_running_loop().call_soon(press)
            else:
                seen.append(press_soon(asyncio.get_running_loop()))
            while where == "busy":
                await asyncio.sleep(0)
            await asyncio.sleep(50)
        except asyncio.CancelledError:
            seen.append("cancelled")
            await settle()
            seen.append("cleaned up")
            raise

    with pytest.raises(KeyboardInterrupt):
        with asyncio.Runner(loop_factory=aio.new_event_loop) as runner:
            runner.run(main())
    assert seen[-2:] == ["cancelled", "cleaned up"]
    if len(seen) == 3:
        seen[0].join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_runner_second_ctrl_c_raises_at_once(aio):
    seen = []

    async def main():
        try:
            press()
            await asyncio.sleep(50)
        except asyncio.CancelledError:
            seen.append("cancelled")
            asyncio.get_running_loop().call_soon(press)
            try:
                await asyncio.sleep(50)
            except asyncio.CancelledError:
                seen.append("by the runner")
                raise

    with pytest.raises(KeyboardInterrupt):
        with asyncio.Runner(loop_factory=aio.new_event_loop) as runner:
            runner.run(main())
    assert seen == ["cancelled", "by the runner"]


@pytest.mark.parametrize("uncancel", [False, True])
def test_runner_main_may_swallow_the_cancellation(aio, uncancel):
    async def main():
        try:
            press()
            await asyncio.sleep(50)
        except asyncio.CancelledError:
            if uncancel:
                asyncio.current_task().uncancel()
            return "returned"

    with asyncio.Runner(loop_factory=aio.new_event_loop) as runner:
        assert runner.run(main()) == "returned"


def test_ctrl_c_ends_a_program_once(aio):
    """From outside, in the shell's way: one traceback, the status of SIGINT."""
    text = """
    async def main():
        try:
            print("ready")
            await asyncio.sleep(50)
        finally:
            print("finally")
    with asyncio.Runner(loop_factory=aio.new_event_loop) as runner:
        runner.run(main())
    """
    result = program(aio, text, check=False, interrupt_after="ready")
    assert result.returncode == -signal.SIGINT
    assert result.stdout.split() == ["ready", "finally"]
    # the traceback's last line; CancelledError is its context
    assert result.stderr.count("\nKeyboardInterrupt") == 1


def test_ctrl_c_during_shutdown(aio):
    """While the runner waits for a task that cleans up."""
    text = """
    async def stubborn():
        try:
            await asyncio.sleep(50)
        finally:
            print("cleaning")
            await asyncio.sleep(50)
    async def main():
        global task
        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
    try:
        with asyncio.Runner(loop_factory=aio.new_event_loop) as runner:
            runner.run(main())
    except KeyboardInterrupt:
        print("interrupted")
    """
    result = program(aio, text, check=False, interrupt_after="cleaning")
    assert result.stdout.split() == ["cleaning", "interrupted"]


def test_exceptions_of_signal_handlers_propagate(loop, usr1):
    class Mine(Exception):
        pass

    def handler(signum, frame):
        raise Mine

    signal.signal(usr1, handler)
    thread = press_soon(loop, usr1)
    with pytest.raises(Mine):
        loop.run_forever()
    thread.join()
    assert loop.run_until_complete(asyncio.sleep(0, "goes on")) == "goes on"


def test_signal_handlers_run_while_the_loop_sleeps(loop, usr1):
    seen = []
    signal.signal(usr1, lambda signum, frame: (seen.append(signum), loop.call_soon(loop.stop)))
    thread = press_soon(loop, usr1)
    loop.call_later(50, print)
    # without a wake-up descriptor asyncio notices at the next event; aioxide and asyncio alike
    # are woken by one that add_signal_handler sets
    loop.add_signal_handler(signal.SIGUSR2, print)
    loop.run_forever()
    thread.join()
    loop.remove_signal_handler(signal.SIGUSR2)
    assert seen == [usr1]


def test_add_and_remove_signal_handler(agree, usr1):
    def scenario(case):
        loop = case.loop

        async def main():
            loop.add_signal_handler(usr1, case.record, "handler", 1)
            press(usr1)
            await settle()
            loop.add_signal_handler(usr1, case.record, "replaced")
            press(usr1)
            case.record("raised")
            await settle()
            for _ in range(2):
                case.record(loop.remove_signal_handler(usr1))
            case.record(signal.getsignal(usr1) == signal.SIG_DFL)

        loop.run_until_complete(main())

    record = agree(scenario)
    assert record == [
        ("handler", 1),
        ("raised",),
        ("replaced",),
        (True,),
        (False,),
        (True,),
    ]


def test_signals_from_a_thread_wake_the_loop(run, usr1):
    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        loop.add_signal_handler(usr1, seen.append, 1)

        def send():
            for _ in range(20):
                count = len(seen)
                os.kill(os.getpid(), usr1)
                while len(seen) == count:
                    time.sleep(0.001)

        await loop.run_in_executor(None, send)
        loop.remove_signal_handler(usr1)
        return len(seen)

    assert run(main) == 20


def test_a_handler_for_sigint_replaces_ctrl_c(run):
    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        loop.add_signal_handler(signal.SIGINT, seen.append, "pressed")
        press()
        await until(lambda: seen)
        assert loop.remove_signal_handler(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        return seen

    assert run(main) == ["pressed"]


def test_closing_the_loop_removes_its_handlers(loop, usr1):
    before = signal.getsignal(signal.SIGUSR1)
    loop.add_signal_handler(usr1, print)
    assert signal.getsignal(usr1) != before
    loop.close()
    assert signal.getsignal(usr1) == signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1


def test_a_signal_storm_is_survived(run, usr1):
    async def main():
        loop = asyncio.get_running_loop()
        seen = []
        loop.add_signal_handler(usr1, seen.append, 1)
        # more than the wake-up socket holds would make CPython complain
        for _ in range(200):
            press(usr1)
        await until(lambda: seen)
        await asyncio.sleep(0)
        seen.clear()
        press(usr1)
        await until(lambda: seen)
        loop.remove_signal_handler(usr1)

    run(main)


def test_wrong_signals(agree):
    def scenario(case):
        async def coroutine():
            pass

        loop = case.loop
        for number, callback in (
            ("SIGUSR1", print),
            (0, print),
            (1000, print),
            (-1, print),
            (signal.SIGKILL, print),
            (signal.SIGUSR1, coroutine),
        ):
            with case.catch():
                loop.add_signal_handler(number, callback)
        for number in ("SIGUSR1", 0, 1000):
            with case.catch():
                loop.remove_signal_handler(number)

        def elsewhere():
            with case.catch("thread"):
                loop.add_signal_handler(signal.SIGUSR1, print)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    record = agree(scenario)
    assert record[0] == ("raised", ("TypeError", "sig must be an int, not 'SIGUSR1'"))
    assert record[4] == ("raised", ("RuntimeError", "sig 9 cannot be caught"))
    assert len(record) == 10


def test_a_failing_handler_is_reported(agree, usr1):
    async def scenario(case):
        case.loop.add_signal_handler(usr1, int, "no number")
        press(usr1)
        await settle()
        case.loop.remove_signal_handler(usr1)

    record = agree(scenario)
    assert record[0][2][0] == "ValueError"


def test_interrupted_system_calls_do_not_matter(run, usr1):
    """EINTR reaches nobody, and a timer does not fire early for it."""

    async def main():
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(usr1, int)
        timer = threading.Thread(
            target=lambda: [(time.sleep(0.001), os.kill(os.getpid(), usr1)) for _ in range(20)]
        )
        timer.start()
        start = loop.time()
        await asyncio.sleep(0.05)
        assert loop.time() - start >= 0.05
        timer.join()
        loop.remove_signal_handler(usr1)

    run(main)


def test_the_programs_own_wakeup_descriptor(loop):
    """A loop without signal handlers leaves signal.set_wakeup_fd to the program."""
    reading, writing = socket.socketpair()
    with reading, writing:
        writing.setblocking(False)
        old = signal.set_wakeup_fd(writing.fileno())
        try:
            loop.run_until_complete(asyncio.sleep(0))
            assert signal.set_wakeup_fd(writing.fileno()) == writing.fileno()
        finally:
            signal.set_wakeup_fd(old)


class Stop(Exception):
    """Raised by a signal handler of the program's, as soft time limits do."""


def raise_stop(*_):
    raise Stop


def test_raising_signal_handler_loses_no_readiness(loop, usr1):
    """The signal comes with what a wait for one event was waiting for."""
    signal.signal(usr1, raise_stop)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    task = loop.create_task(loop.sock_recv(ours, 5))

    def signal_and_send():
        while not loop.is_running():
            time.sleep(0.001)
        time.sleep(0.02)
        # another thread's, so that the loop's own goes on waiting until there is something to read
        signal.pthread_kill(threading.get_ident(), usr1)
        theirs.send(b"x")

    with ours, theirs:
        thread = threading.Thread(target=signal_and_send)
        thread.start()
        try:
            got = loop.run_until_complete(task)
        except Stop:
            got = loop.run_until_complete(asyncio.wait_for(task, 20))
        thread.join()
    assert got == b"x"


def test_raising_signal_handler_loses_no_signal(loop, usr1):
    """What another handler of the loop's waits for comes with the next run, which nothing else
    wakes."""
    handled = []

    def handle():
        handled.append("usr2")
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR2, handle)
    signal.signal(usr1, raise_stop)
    loop.set_exception_handler(lambda *_: loop.stop())

    def press_both():
        while not loop.is_running():
            time.sleep(0.001)
        time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), usr1)

    thread = threading.Thread(target=press_both)
    thread.start()
    with contextlib.suppress(Stop):
        loop.run_forever()
    thread.join()
    if not handled:
        loop.run_forever()
    assert handled == ["usr2"]
    loop.remove_signal_handler(signal.SIGUSR2)
