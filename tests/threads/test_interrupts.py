"""Ctrl-C in run_in_threads(), by real signals in programs of their own."""

import signal
import subprocess
import sys
import textwrap

import pytest

from peers import program

PRELUDE = """\
import contextlib, threading
import aioxide

def say(*words):
    # In one piece, as several threads write.
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def press():
    os.kill(os.getpid(), signal.SIGINT)

def press_soon(seconds=0.1):
    threading.Timer(seconds, press).start()

def run(main, loops=3):
    return aioxide.run_in_threads(main, loops=loops, loop_factory=aio.new_event_loop)

class Meeting:
    def __init__(self, count):
        self.missing, self.lock = count, threading.Lock()

    async def come(self):
        with self.lock:
            self.missing -= 1
        while self.missing > 0:
            await asyncio.sleep(0.001)

"""


@pytest.fixture
def shown(aio):
    """shown(text): what a program prints that ends without an error."""

    def shown(text, **options):
        done = program(aio, PRELUDE + textwrap.dedent(text), **options)
        assert done.stderr == ""
        return done.stdout.splitlines()

    return shown


def test_every_main_is_cancelled(shown):
    lines = shown(
        """
        meeting = Meeting(3)
        ended = []

        async def main(number):
            try:
                await meeting.come()
                if number == 0:
                    say("ready")
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                await asyncio.sleep(0.01)
                ended.append(number)
                raise

        try:
            run(main)
        except KeyboardInterrupt:
            say("interrupted", sorted(ended), threading.active_count())
        say(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        """,
        interrupt_after="ready",
    )
    assert lines == ["ready", "interrupted [0, 1, 2] 1", "True"]


def test_the_exit_status_is_that_of_ctrl_c(aio):
    done = program(
        aio,
        PRELUDE
        + textwrap.dedent(
            """
            async def main(number):
                if number == 0:
                    say("ready")
                await asyncio.sleep(1000)

            run(main)
            """
        ),
        interrupt_after="ready",
        check=False,
    )
    assert done.returncode == -signal.SIGINT
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"


def test_when_the_first_main_is_over(shown):
    """The caller's thread waits for the others then."""
    lines = shown(
        """
        async def main(number):
            if number == 0:
                return
            try:
                say("ready")
                await asyncio.sleep(1000)
            finally:
                say("cancelled")

        try:
            run(main, loops=2)
        except KeyboardInterrupt:
            say("interrupted")
        """,
        interrupt_after="ready",
    )
    assert lines == ["ready", "cancelled", "interrupted"]


def test_before_the_mains_begin(shown):
    lines = shown(
        """
        def factory():
            if threading.current_thread() is threading.main_thread():
                press()
            return aio.new_event_loop()

        called = []

        async def main(number):
            called.append(number)
            await asyncio.sleep(1000)

        try:
            aioxide.run_in_threads(main, loops=2, loop_factory=factory)
        except KeyboardInterrupt:
            say("interrupted", 0 in called)
        """
    )
    assert lines == ["interrupted False"]


def test_mains_that_end_well_all_the_same(shown):
    """As with asyncio.Runner, which raises KeyboardInterrupt only where the main was cancelled."""
    lines = shown(
        """
        meeting = Meeting(2)

        async def main(number):
            with contextlib.suppress(asyncio.CancelledError):
                await meeting.come()
                if number == 0:
                    press()
                await asyncio.sleep(1000)
            return number

        say(run(main, loops=2))
        """
    )
    assert lines == ["[0, 1]"]


def test_one_that_ends_well_and_one_that_does_not(shown):
    lines = shown(
        """
        meeting = Meeting(2)

        async def main(number):
            await meeting.come()
            if number == 0:
                press()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(1000)
                return "well"
            await asyncio.sleep(1000)

        try:
            run(main, loops=2)
        except KeyboardInterrupt:
            say("interrupted")
        """
    )
    assert lines == ["interrupted"]


def test_errors_of_cancelled_mains_have_priority(shown):
    """As in a task group that is cancelled from outside."""
    lines = shown(
        """
        meeting = Meeting(2)

        async def main(number):
            try:
                await meeting.come()
                if number == 0:
                    press()
                await asyncio.sleep(1000)
            finally:
                if number == 1:
                    raise ValueError(number)

        try:
            run(main, loops=2)
        except ExceptionGroup as group:
            say(group.exceptions)
        """
    )
    assert lines == ["(ValueError(1),)"]


def test_one_while_an_error_ends_the_mains(shown):
    """It cancels them again."""
    lines = shown(
        """
        meeting = Meeting(3)

        async def main(number):
            try:
                await meeting.come()
                if number == 1:
                    raise ValueError(number)
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                if number == 2:
                    press_soon()
                try:
                    await asyncio.sleep(1000)
                finally:
                    say("cancelled again")

        try:
            run(main)
        except ExceptionGroup as group:
            say(group.exceptions)
        """
    )
    assert lines == ["cancelled again", "cancelled again", "(ValueError(1),)"]


def test_a_second_one_does_not_wait_for_the_mains(shown):
    """Each main is cancelled again when its loop is closed, as by asyncio.Runner."""
    lines = shown(
        """
        meeting, both_cancelled = Meeting(2), Meeting(2)

        async def main(number):
            try:
                await meeting.come()
                if number == 0:
                    press()
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                try:
                    await both_cancelled.come()
                    if number == 0:
                        press_soon()
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    say("cancelled again")
                    raise

        try:
            run(main, loops=2)
        except KeyboardInterrupt:
            say("interrupted", threading.active_count() <= 2)
        """
    )
    assert lines == ["cancelled again", "cancelled again", "interrupted True"]


def test_a_second_one_when_only_others_are_left(shown):
    lines = shown(
        """
        meeting = Meeting(2)

        async def main(number):
            if number == 0:
                await meeting.come()
                press()
                await asyncio.sleep(1000)
            try:
                await meeting.come()
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                press_soon()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(1000)
                say("cancelled again")

        try:
            run(main, loops=2)
        except KeyboardInterrupt:
            say("interrupted")
        """
    )
    assert lines == ["cancelled again", "interrupted"]


def test_a_third_one_does_not_wait_for_tasks_that_go_on(aio):
    """Each loop is closed where its run ends."""
    done = program(
        aio,
        PRELUDE
        + textwrap.dedent(
            """
            async def main(number):
                if number == 0:
                    press()
                    await asyncio.sleep(1000)
                count = 0
                while True:
                    try:
                        await asyncio.sleep(1000)
                    except asyncio.CancelledError:
                        count += 1
                        press_soon()

            try:
                run(main, loops=2)
            except KeyboardInterrupt:
                say("interrupted", threading.active_count() <= 2)
            # What is still there when the loop is closed is reported; that is not looked at.
            os._exit(0)
            """
        ),
    )
    assert done.stdout.splitlines() == ["interrupted True"]


def test_handlers_of_the_program_are_left_alone(shown):
    lines = shown(
        """
        def handler(signum, frame):
            say("its own")

        signal.signal(signal.SIGINT, handler)

        async def main(number):
            if number == 0:
                press()
            await asyncio.sleep(0.05)
            return number

        say(run(main, loops=2))
        say(signal.getsignal(signal.SIGINT) is handler)
        """
    )
    assert lines == ["its own", "[0, 1]", "True"]


def test_a_handler_that_raises(shown):
    lines = shown(
        """
        def handler(signum, frame):
            raise ValueError("of the handler")

        signal.signal(signal.SIGINT, handler)
        loops = []

        async def main(number):
            if number == 0:
                loops.append(asyncio.get_running_loop())
                return
            while not (loops and loops[0].is_closed()):
                await asyncio.sleep(0.001)
            # The first loop's own handling of errors is over.
            press_soon()
            await asyncio.sleep(1000)

        try:
            run(main, loops=2)
        except ExceptionGroup as group:
            say(group.exceptions)
        """
    )
    assert lines == ["(ValueError('of the handler'),)"]


def test_the_wakeup_descriptor_of_the_program_stays(shown):
    lines = shown(
        """
        import socket
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        signal.set_wakeup_fd(ours.fileno())

        signal.signal(signal.SIGUSR1, lambda signum, frame: None)

        async def main(number):
            await asyncio.sleep(0.1 * number)
            if number:
                os.kill(os.getpid(), signal.SIGUSR1)
                await asyncio.sleep(0.05)

        descriptors = len(os.listdir("/proc/self/fd"))
        say(run(main, loops=2))
        say(signal.set_wakeup_fd(-1) == ours.fileno(), theirs.recv(10) == bytes([signal.SIGUSR1]))
        say(len(os.listdir("/proc/self/fd")) == descriptors)
        ours.close()
        theirs.close()
        """
    )
    assert lines == ["[None, None]", "True True", "True"]


def test_when_no_descriptor_is_left(shown):
    lines = shown(
        """
        may_end = threading.Event()

        async def main(number):
            if number == 0:
                return
            while not may_end.is_set():
                await asyncio.sleep(0.001)

        def no_pipe():
            may_end.set()
            raise OSError("no descriptor")

        os.pipe = no_pipe
        say(run(main, loops=2))
        """
    )
    assert lines == ["[None, None]"]


def test_add_signal_handler_on_the_first_loop(shown):
    lines = shown(
        """
        stop = threading.Event()

        async def main(number):
            if number == 0:
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
                os.kill(os.getpid(), signal.SIGTERM)
            while not stop.is_set():
                await asyncio.sleep(0.001)
            return number

        say(run(main, loops=3))
        """
    )
    assert lines == ["[0, 1, 2]"]


@pytest.mark.parametrize("way", ["-m", "install"])
def test_with_everything_replaced(way, tmp_path):
    """A whole program, under `python -m aioxide` and after install()."""
    text = """
    import asyncio, os, signal, aioxide
    INSTALL

    async def main(number):
        results = await asyncio.gather(*(asyncio.sleep(0, n) for n in range(3)))
        if number == 0:
            os.kill(os.getpid(), signal.SIGINT)
            try:
                await asyncio.sleep(1000)
            finally:
                print(results, type(asyncio.current_task()) is aioxide.Task)
        await asyncio.sleep(1000)

    try:
        aioxide.run_in_threads(main, loops=2)
    except KeyboardInterrupt:
        print("interrupted")
    """
    file = tmp_path / "program.py"
    install = "aioxide.install()" if way == "install" else ""
    file.write_text(textwrap.dedent(text).replace("INSTALL", install))
    command = [sys.executable, *(["-m", "aioxide"] if way == "-m" else []), file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    expected = "[0, 1, 2] True\ninterrupted\n"
    assert (done.stdout, done.stderr, done.returncode) == (expected, "", 0)
