"""Child processes: protocols, streams, exits, signals, and what is left behind."""

import asyncio
import gc
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import warnings

import pytest

from peers import program, settle, until

PIPE, DEVNULL, STDOUT = subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT
BIG = bytes(range(256)) * 4096  # 1 MiB
BLOCKED = "sleep", "1000"

# gh-119710: before, wait() waited for the pipes too
WAIT_NEEDS_PIPES = sys.version_info < (3, 14)
CHILD_WATCHERS = sys.version_info < (3, 14)
# then a thread may take the status before anybody else, and it keeps the transport for a while
THREAD_REAPS = sys.version_info < (3, 12)


def children():
    """Process ids of this process's children, zombies included."""
    with open(f"/proc/self/task/{threading.get_native_id()}/children") as file:
        return file.read().split()


@pytest.fixture(autouse=True)
def no_child_left():
    before = children()
    yield
    gc.collect()
    assert children() == before


class Witness(asyncio.SubprocessProtocol):
    """Writes down every call; data of one pipe counts once."""

    def __init__(self, record=None):
        self.calls = []
        self.record = record
        self.data = {1: bytearray(), 2: bytearray()}
        self.lost = asyncio.get_running_loop().create_future()
        self.exited = asyncio.get_running_loop().create_future()

    def note(self, *call):
        self.calls.append(call)
        if self.record is not None:
            self.record(*call)

    def connection_made(self, transport):
        self.transport = transport
        self.note("connection_made")

    def pipe_data_received(self, fd, data):
        if not self.data[fd]:
            self.note("pipe_data_received", fd)
        assert type(data) is bytes
        self.data[fd] += data

    def pipe_connection_lost(self, fd, error):
        self.note("pipe_connection_lost", fd, error)

    def process_exited(self):
        self.note("process_exited")
        self.exited.set_result(None)

    def pause_writing(self):
        self.note("pause_writing")

    def resume_writing(self):
        self.note("resume_writing")

    def connection_lost(self, error):
        self.note("connection_lost", error)
        self.lost.set_result(None)


async def spawn(case, *command, **options):
    make = lambda: Witness(case.record)  # noqa: E731
    return await case.loop.subprocess_exec(make, *command, **options)


async def end(transport, protocol):
    """Ends a `cat` in the one order that does not depend on chance: first the process, then its
    pipes."""
    pipes = [transport.get_pipe_transport(fd) for fd in range(3)]
    for pipe in filter(None, pipes[1:]):
        pipe.pause_reading()
    pipes[0].close()
    await protocol.exited
    for pipe in filter(None, pipes[1:]):
        pipe.resume_reading()
    await protocol.lost


def test_the_life_of_a_child(agree, debug):
    async def scenario(case):
        transport, protocol = await spawn(case, "cat")
        case.record(isinstance(transport, asyncio.SubprocessTransport), transport.is_closing())
        case.record(transport.get_protocol() is protocol, transport.get_returncode())
        popen = transport.get_extra_info("subprocess")
        case.record(popen.args, popen.pid == transport.get_pid(), popen.returncode)
        stdin, stdout, stderr = (transport.get_pipe_transport(fd) for fd in range(3))
        case.record(isinstance(stdin, asyncio.WriteTransport), stdin.get_extra_info("pipe").mode)
        case.record(isinstance(stdout, asyncio.ReadTransport), stderr.is_reading())
        case.record(transport.get_pipe_transport(3), transport.get_extra_info("no", 1))
        stdin.write(b"one")
        await until(lambda: protocol.data[1] == b"one")
        stdout.pause_reading()
        stdin.write(b"two")
        await settle()
        case.record(bytes(protocol.data[1]))
        stdout.resume_reading()
        await until(lambda: protocol.data[1] == b"onetwo")
        # only now can the order be no other
        stdout.pause_reading()
        stderr.pause_reading()
        stdin.close()
        await protocol.exited
        case.record(transport.get_returncode(), popen.returncode, transport.is_closing())
        stdout.resume_reading()
        await until(lambda: ("pipe_connection_lost", 1, None) in protocol.calls)
        stderr.resume_reading()
        await protocol.lost
        case.record(transport.get_protocol(), await transport._wait())
        transport.close()
        transport.close()
        case.record(transport.is_closing())

    record = agree(scenario, debug)
    calls = [call[0] for call in record if isinstance(call[0], str)]
    assert calls == [
        "connection_made", "pipe_data_received", "pipe_connection_lost", "process_exited",
        "pipe_connection_lost", "pipe_connection_lost", "connection_lost",
    ]  # fmt: skip


def test_all_output_comes_before_the_end(agree, debug):
    async def scenario(case):
        script = "printf out; printf err >&2; exit 3"
        make = lambda: Witness()  # noqa: E731
        transport, protocol = await case.loop.subprocess_shell(make, script, stdin=DEVNULL)
        case.record(transport.get_pipe_transport(0))
        await protocol.lost
        case.record(bytes(protocol.data[1]), bytes(protocol.data[2]), transport.get_returncode())
        case.record(sorted(map(repr, protocol.calls)), protocol.calls[-1])
        transport.close()

    assert agree(scenario, debug)[1] == (b"out", b"err", 3)


def test_flow_control_of_stdin(agree):
    async def scenario(case):
        script = "read line; cat >/dev/null"
        transport, protocol = await case.loop.subprocess_exec(
            lambda: Witness(case.record), "sh", "-c", script, stdout=None, stderr=None
        )
        stdin = transport.get_pipe_transport(0)
        stdin.write(BIG)
        case.record(stdin.get_write_buffer_size() > 0)
        await until(lambda: not stdin.get_write_buffer_size())
        stdin.close()
        await protocol.lost
        transport.close()

    assert ("resume_writing",) in agree(scenario)


def test_protocols_that_fail(agree, debug):
    class Fails(Witness):
        def pipe_data_received(self, fd, data):
            super().pipe_data_received(fd, data)
            raise ZeroDivisionError

        def process_exited(self):
            super().process_exited()
            raise IndexError

        def connection_lost(self, error):
            super().connection_lost(error)
            raise KeyError

    async def scenario(case):
        case.loop.set_exception_handler(
            lambda loop, report: case.record(report["exception"], report["message"].split("(")[0])
        )
        transport, protocol = await case.loop.subprocess_exec(
            lambda: Fails(case.record), "cat", stderr=None
        )
        transport.get_pipe_transport(0).write(b"x")
        await until(lambda: protocol.data[1])
        await end(transport, protocol)
        await settle()
        transport.close()

    names = [call[0][0] for call in agree(scenario, debug) if isinstance(call[0], tuple)]
    assert sorted(names) == ["IndexError", "KeyError", "ZeroDivisionError"]


@pytest.mark.parametrize(
    "script, expected",
    [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", -9), ("kill -TERM $$", -15)],
)
def test_exit_status(agree, script, expected):
    async def scenario(case):
        process = await asyncio.create_subprocess_shell(script)
        case.record(await process.wait(), process.returncode, await process.wait())

    assert agree(scenario) == [(expected,) * 3]


def test_signals(agree, debug):
    async def scenario(case):
        for send in (
            lambda process: process.terminate(),
            lambda process: process.kill(),
            lambda process: process.send_signal(signal.SIGINT),
        ):
            process = await asyncio.create_subprocess_exec(*BLOCKED)
            with case.catch(text=False):
                process.send_signal("wrong")
            process.send_signal(0)
            send(process)
            case.record(await process.wait())
            await settle()
            with case.catch():
                process.kill()

    codes = [call[0] for call in agree(scenario, debug) if isinstance(call[0], int)]
    assert codes == [-15, -9, -2]


@pytest.mark.aioxide_alone  # before 3.13 asyncio's send_signal() takes the status away
def test_signal_to_a_child_that_has_just_exited(run):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == -9

    run(main)


def test_communicate(agree, debug):
    async def scenario(case):
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        out, err = await process.communicate(BIG)
        case.record(out == BIG, err, process.returncode)
        process = await asyncio.create_subprocess_shell(
            "echo out; echo error >&2", stdout=DEVNULL, stderr=PIPE
        )
        case.record(await process.communicate(), process.returncode)

    assert agree(scenario, debug) == [(True, b"", 0), ((None, b"error\n"), 0)]


def test_streams_of_a_child(run):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        for size in (1, 1000, 65536):
            process.stdin.write(BIG[:size])
            await process.stdin.drain()
            assert await process.stdout.readexactly(size) == BIG[:size]
        process.stdin.write(b"line\nrest")
        process.stdin.write_eof()
        assert await process.stdout.readline() == b"line\n"
        assert await process.stdout.read() == b"rest"
        assert await process.wait() == 0

    run(main)


def test_child_that_does_not_read(agree):
    async def scenario(case):
        process = await asyncio.create_subprocess_exec("true", stdin=PIPE, stdout=PIPE)
        case.record(await process.communicate(BIG), process.returncode)

    assert agree(scenario) == [((b"", None), 0)]


async def output(*command, **options):
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, **options)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out


def test_arguments_of_popen(run, tmp_path):
    async def main():
        assert await output("pwd", cwd=tmp_path) == bytes(tmp_path) + b"\n"
        assert await output("env", env={"A": "b"}) == b"A=b\n"
        assert await output("sh", "-c", "umask", umask=0o27) == b"0027\n"
        reader, writer = os.pipe()
        script = f"echo passed >/proc/self/fd/{writer}"
        assert await output("sh", "-c", script, pass_fds=[writer]) == b""
        os.close(writer)
        assert os.read(reader, 100) == b"passed\n"
        os.close(reader)
        assert await output("true", preexec_fn=lambda: os.write(1, b"before")) == b"before"
        assert await output("wrong name", "-c", "echo $0", executable="/bin/sh") == b"wrong name\n"
        assert await output("sh", "-c", "echo error >&2", stderr=STDOUT) == b"error\n"
        for options in ({"start_new_session": True}, {"process_group": 0}):
            # pid, process group
            out = await output("sh", "-c", "cut -d' ' -f1,5 /proc/$$/stat", **options)
            pid, group = out.split()
            assert pid == group != str(os.getpgrp()).encode()
        with open(tmp_path / "file", "wb+") as file:
            process = await asyncio.create_subprocess_exec("echo", "to a file", stdout=file)
            assert await process.wait() == 0
            file.seek(0)
            assert file.read() == b"to a file\n"
        process = await asyncio.create_subprocess_exec("cat", stdin=DEVNULL, stdout=PIPE)
        assert await process.communicate() == (b"", None)

    run(main)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become someone else")
def test_other_users(run):
    async def main():
        ids = {"user": 65534, "group": 65533, "extra_groups": [65532]}
        assert await output("sh", "-c", "id -u; id -g; id -G", **ids) == (
            b"65534\n65533\n65533 65532\n"
        )

    run(main)


def test_arguments_that_asyncio_refuses(agree):
    async def scenario(case):
        for wrong in (
            {"text": True},
            {"universal_newlines": True},
            {"bufsize": 1},
            {"encoding": "utf-8"},
            {"errors": "strict"},
            {"shell": True},
            {"unknown": 1},
        ):
            with case.catch(text="unknown" not in wrong):
                await asyncio.create_subprocess_exec("true", **wrong)
        for wrong in ({"shell": False}, {"text": True}):
            with case.catch():
                await asyncio.create_subprocess_shell("true", **wrong)
        with case.catch():
            await asyncio.create_subprocess_shell(["true"])

    assert agree(scenario)[0] == ("raised", ("ValueError", "text must be False"))


def test_pipes_of_a_child_are_pipes(run):
    async def main():
        script = "readlink /proc/self/fd/0 /proc/self/fd/2; echo opened >/proc/self/fd/1"
        out = await output("sh", "-c", script, stdin=PIPE, stderr=PIPE)
        first, second, last = out.split()
        assert first.startswith(b"pipe:") and second.startswith(b"pipe:") and last == b"opened"

    # before 3.12 asyncio takes a socket pair for stdin
    run(main)


if sys.version_info < (3, 12):
    test_pipes_of_a_child_are_pipes = pytest.mark.aioxide_alone(test_pipes_of_a_child_are_pipes)


@(pytest.mark.aioxide_alone if WAIT_NEEDS_PIPES else lambda test: test)
def test_exit_is_told_though_a_grandchild_keeps_the_pipes(run):
    async def main():
        script = "cat <&3 & echo ready"
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", f"exec 3<&0; {script}; exit 5", stdin=PIPE, stdout=PIPE
        )
        assert await process.stdout.readline() == b"ready\n"
        assert await asyncio.wait_for(process.wait(), 20) == 5
        # the other process has the pipes still
        process.stdin.write(b"alive")
        process.stdin.close()
        assert await process.stdout.read() == b"alive"

    run(main)


def test_a_child_writes_to_our_own_stdout(aio):
    done = program(
        aio,
        """
        async def main():
            print("first", flush=True)
            process = await asyncio.create_subprocess_exec(
                "sh", "-c", "echo second; echo third >&2", stdout=sys.stdout, stderr=sys.stderr
            )
            assert process.stdout is None and await process.wait() == 0
            print("last")

        aio.run(main())
        """,
    )
    assert (done.stdout.split(), done.stderr.split()) == (["first", "second", "last"], ["third"])


def test_many_children_at_once(run):
    async def main():
        async def one(number):
            process = await asyncio.create_subprocess_shell(f"exit {number}")
            return await process.wait()

        codes = range(40)
        assert await asyncio.gather(*map(one, codes)) == list(codes)

    run(main)


def test_programs_that_cannot_start(agree, debug):
    async def scenario(case):
        for options in ({}, {"stdin": PIPE}, {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}):
            with case.catch():
                await asyncio.create_subprocess_exec("/no/such/program", **options)
            with case.catch():
                await asyncio.create_subprocess_exec("/dev/null", **options)
            with case.catch():
                await asyncio.create_subprocess_exec("true", preexec_fn=lambda: 1 / 0, **options)
        with case.catch():
            await asyncio.create_subprocess_exec("true", cwd="/no/such/folder", stdout=PIPE)

    assert agree(scenario, debug)[0][1][0] == "FileNotFoundError"


@pytest.mark.parametrize("iterations", range(10))
def test_starting_is_cancelled(run, debug, iterations, monkeypatch):
    # whoever keeps the log keeps the transports alive
    monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", True)

    async def main():
        create = asyncio.create_subprocess_exec(*BLOCKED, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        task = asyncio.ensure_future(create)
        for _ in range(iterations):
            await asyncio.sleep(0)
        task.cancel()
        try:
            process = await task
        except asyncio.CancelledError:
            pass
        else:
            process.kill()
            await process.communicate()
        await settle()

    run(main, debug=debug)


@pytest.mark.aioxide_alone
@pytest.mark.parametrize("iterations", range(1, 6))
def test_starting_is_cancelled_twice(run, iterations):
    async def main():
        task = asyncio.ensure_future(
            asyncio.create_subprocess_exec(*BLOCKED, stdin=PIPE, stdout=PIPE)
        )
        await asyncio.sleep(0)
        for _ in range(2):
            task.cancel()
            for _ in range(iterations):
                await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        # it was killed, and is reaped though nobody waits
        await until(lambda: not children())
        await settle()

    run(main)


@pytest.mark.aioxide_alone
@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
@pytest.mark.parametrize(
    "failing, after, pipes",
    [
        ("connect_write_pipe", 0, {"stdin": PIPE, "stdout": PIPE}),
        ("connect_read_pipe", 0, {"stdin": PIPE, "stdout": PIPE}),
        ("connect_read_pipe", 1, {"stdout": PIPE, "stderr": PIPE}),
    ],
)
def test_connecting_a_pipe_fails(run, error, failing, after, pipes):
    async def main():
        loop = asyncio.get_running_loop()
        connect = getattr(loop, failing)
        calls = []

        async def fails(*args):
            calls.append(args)
            if len(calls) > after:
                raise error
            return await connect(*args)

        setattr(loop, failing, fails)
        with pytest.raises(error):
            await asyncio.create_subprocess_exec(*BLOCKED, **pipes)
        assert len(calls) == after + 1
        await settle()

    run(main)


@pytest.mark.aioxide_alone
def test_no_descriptor_left(run):
    """Each number of free descriptors fails the start at another place."""

    async def main():
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        process, outcomes = None, set()
        for free in range(16):
            used = len(os.listdir("/proc/self/fd")) - 1
            before = sorted(os.listdir("/proc/self/fd"))
            spare = []
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 32, hard))
            try:
                while True:
                    spare.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                pass
            for _ in range(free):
                os.close(spare.pop())
            try:
                process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
            except OSError as error:
                outcomes.add(error.strerror)
            else:
                assert await process.communicate(b"data") == (b"data", None)
                outcomes.add("started")
            finally:
                while spare:
                    os.close(spare.pop())
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            process = None
            await settle()
            assert sorted(os.listdir("/proc/self/fd")) == before
            assert not children()
        assert outcomes == {"Too many open files", "started"}

    run(main)


def test_close_kills(agree, debug):
    async def scenario(case):
        transport, protocol = await case.loop.subprocess_exec(Witness, *BLOCKED)
        transport.close()
        case.record(transport.is_closing(), transport.get_returncode())
        await protocol.lost
        # whether a pipe or the process ends first is a matter of chance
        case.record(sorted(map(repr, protocol.calls)), protocol.calls[-1])
        case.record(transport.get_returncode())

    assert agree(scenario, debug)[-1] == (-9,)


@pytest.mark.aioxide_alone
def test_status_that_popen_has_taken(run, asyncio_log):
    async def main():
        transport, protocol = await asyncio.get_running_loop().subprocess_exec(
            Witness, "sh", "-c", "exit 6", stdin=None, stdout=None, stderr=None
        )
        assert transport.get_extra_info("subprocess").wait() == 6
        await protocol.lost
        assert transport.get_returncode() == 6
        transport.close()

    run(main)
    assert not asyncio_log


def test_status_that_others_have_taken(agree):
    async def scenario(case):
        process = await asyncio.create_subprocess_exec(*BLOCKED)
        process.kill()
        os.waitpid(process.pid, 0)
        case.record(await process.wait())

    async def quiet(case):
        # how the warning is worded is a matter of the version
        recorded, case.record = case.record, lambda *call: call[0] == "log" or recorded(*call)
        await scenario(case)

    assert agree(quiet, asyncio_is_wrong=THREAD_REAPS) == [(255,)]


@pytest.mark.aioxide_alone  # asyncio fails if the child is gone before it is watched
def test_children_whose_ends_the_program_ignores(aio):
    out = program(
        aio,
        """
        async def main():
            for command in ("true", "sleep 0.01"):
                process = await asyncio.create_subprocess_shell(command)
                print(await asyncio.wait_for(process.wait(), 20))

        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        aio.run(main())
        """,
    ).stdout
    assert out.split() == ["255", "255"]


@(pytest.mark.aioxide_alone if THREAD_REAPS else lambda test: test)
def test_unclosed_transports_warn(run):
    async def main():
        transport, protocol = await asyncio.get_running_loop().subprocess_exec(
            Witness, "cat", stdout=None, stderr=None
        )
        transport.get_pipe_transport(0).close()
        await protocol.lost
        return transport

    transports = [run(main)]
    with pytest.warns(ResourceWarning, match="unclosed transport <.*returncode=0"):
        transports.clear()
        gc.collect()


@pytest.mark.aioxide_alone
def test_loop_closed_before_the_child_ends(loop_factory):
    loop = loop_factory()
    process = loop.run_until_complete(asyncio.create_subprocess_exec(*BLOCKED, stdin=PIPE))
    loop.close()
    pid = process.pid
    popen = process._transport.get_extra_info("subprocess")
    process.kill()
    with warnings.catch_warnings():
        # whoever records them keeps the transports alive
        warnings.simplefilter("ignore", ResourceWarning)
        del process
        gc.collect()
    popen.wait()
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)


def test_loops_in_other_threads(aio, loop_factory):
    codes = []

    async def main(number):
        process = await asyncio.create_subprocess_shell(f"exit {number}", stdout=PIPE)
        await process.communicate()
        codes.append(process.returncode)

    def work(number):
        loop = loop_factory()
        try:
            loop.run_until_complete(main(number))
        finally:
            loop.close()

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [0, 1, 2, 3]


def test_protocol_is_swapped(agree):
    async def scenario(case):
        transport, first = await spawn(case, "cat", stderr=None)
        second = Witness(case.record)
        transport.set_protocol(second)
        case.record(transport.get_protocol() is second)
        transport.get_pipe_transport(0).write(b"x")
        await until(lambda: second.data[1])
        await end(transport, second)
        case.record([call[0] for call in first.calls])
        transport.close()

    assert agree(scenario)[-1] == (("connection_made",),)


def test_replaced_methods_are_used(run):
    async def main():
        loop = asyncio.get_running_loop()
        used = []
        for name in ("connect_read_pipe", "connect_write_pipe"):

            def replaced(*args, plain=getattr(loop, name), name=name):
                used.append(name)
                return plain(*args)

            setattr(loop, name, replaced)
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert await process.communicate(b"data") == (b"data", None)
        assert used == ["connect_write_pipe", "connect_read_pipe"]

    run(main)


def test_program_without_pidfds(aio):
    """Where a sandbox refuses pidfd_open, a thread waits."""
    out = program(
        aio,
        """
        import ctypes, struct

        # A filter of system calls: pidfd_open (434 everywhere) gives ENOSYS, all others pass.
        filters = b"".join(struct.pack("HBBI", *line) for line in (
            (0x20, 0, 0, 0), (0x15, 0, 1, 434), (0x06, 0, 0, 0x00050026), (0x06, 0, 0, 0x7FFF0000),
        ))
        lines = ctypes.create_string_buffer(filters, len(filters))
        filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(lines)))
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
        assert libc.prctl(22, 2, filter, 0, 0) == 0  # filter
        # Not every build has os.pidfd_open().
        assert libc.syscall(434, os.getpid(), 0) == -1
        print(ctypes.get_errno())

        async def main():
            async def one(number):
                process = await asyncio.create_subprocess_shell(f"exit {number}")
                return await process.wait()

            print(await asyncio.gather(*map(one, range(5))))
            process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
            print(await process.communicate(b"data"), process.returncode)
            process = await asyncio.create_subprocess_exec("sleep", "1000")
            process.kill()
            print(await process.wait())

        aio.run(main())
        """,
    ).stdout
    assert out.splitlines() == ["38", "[0, 1, 2, 3, 4]", "(b'data', None) 0", "-9"]


if CHILD_WATCHERS:

    @pytest.mark.parametrize(
        "name",
        ["SafeChildWatcher", "FastChildWatcher", "MultiLoopChildWatcher", "ThreadedChildWatcher"],
    )
    def test_child_watchers_that_a_program_sets(aio, name):
        out = program(
            aio,
            f"""
            import warnings
            warnings.simplefilter("ignore", DeprecationWarning)

            async def main():
                watcher = asyncio.{name}()
                watcher.attach_loop(asyncio.get_running_loop())
                asyncio.set_child_watcher(watcher)

                # one by one: asyncio's watchers lose a status where SIGCHLD interrupts their handler
                async def one(number):
                    process = await asyncio.create_subprocess_shell(f"sleep 0.{{number + 1}}; exit {{number}}")
                    return await process.wait()

                print(await asyncio.gather(*map(one, range(5))))
                process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
                print(await process.communicate(b"data"), process.returncode)
                watcher.close()

            aio.run(main())
            """,
        ).stdout
        assert out.splitlines() == ["[0, 1, 2, 3, 4]", "(b'data', None) 0"]

    def test_child_watcher_that_is_not_active(aio):
        out = program(
            aio,
            """
            import warnings
            warnings.simplefilter("ignore", DeprecationWarning)

            async def main():
                asyncio.set_child_watcher(asyncio.SafeChildWatcher())
                try:
                    await asyncio.create_subprocess_exec("true")
                except RuntimeError as error:
                    print(error)

            aio.run(main())
            """,
        ).stdout
        assert "not activated" in out
