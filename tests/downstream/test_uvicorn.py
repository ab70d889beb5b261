"""uvicorn as people start it: from the command line, with workers, with reload, until Ctrl-C."""

import contextlib
import re
import shutil
import signal
import ssl
import urllib.request

import pytest

import servers

APPS = servers.HERE / "apps"


@pytest.fixture
def uvicorn(way, tmp_path):
    """uvicorn(*options): the program `uvicorn plain:app` on a free port, in this session's way."""
    command = {
        "factory": ["-m", "uvicorn", "--loop", "aioxide:new_event_loop"],
        "runner": ["-m", "aioxide", "-m", "uvicorn"],
        "install": [APPS / "installed.py"],
        "asyncio": ["-m", "uvicorn", "--loop", "asyncio"],
    }[way]
    for name in ("plain.py", "../servers.py"):
        shutil.copy(APPS / name, tmp_path)

    @contextlib.contextmanager
    def uvicorn(*options):
        port = servers.free_port()
        arguments = ["plain:app", "--port", port, "--app-dir", tmp_path, *options]
        with servers.Program([*command, *arguments], tmp_path) as program:
            program.port = port
            program.folder = tmp_path
            program.until(lambda: "lifespan.startup" in program.output and servers.answers(port))
            yield program

    return uvicorn


def get(program, path, body=None, tls=None):
    url = f"{'https' if tls else 'http'}://127.0.0.1:{program.port}{path}"
    with urllib.request.urlopen(url, body, timeout=servers.PATIENCE, context=tls) as response:
        assert response.headers["x-app"] == "plain"
        return response.read()


def assert_clean(program):
    """Nothing in the output that a user would have to ask about."""
    # uvicorn leaves two files to the end of its programs: the socket of the process that looks
    # after workers, and the standard input that these open again.
    left = rf"<[^>]*laddr=\('127.0.0.1', {program.port}\)>|file <[^>]*name=0 [^>]*>"
    output = re.sub(rf"ResourceWarning: unclosed ({left})", "", program.output)
    unclean = "Traceback|Error|ResourceWarning: (?!Enable)|never retrieved|never awaited"
    assert not re.search(unclean, output), output


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_serves_until_interrupted(uvicorn, loop_name, http):
    with uvicorn("--http", http) as program:
        path, version, pid, loop = get(program, "/a/path").decode().split()
        assert (path, version, int(pid)) == ("/a/path", "1", program.process.pid)
        assert loop == loop_name
        body = bytes(range(256)) * 4000
        assert get(program, "/echo", body) == body
        assert program.interrupt() == 0
    assert f"lifespan.startup {loop_name}" in program.output
    assert f"lifespan.shutdown {loop_name}" in program.output
    assert "Finished server process" in program.output
    assert_clean(program)


def test_ends_when_terminated(uvicorn):
    with uvicorn() as program:
        get(program, "/")
        program.process.terminate()
        assert program.ended() == -signal.SIGTERM
    assert "lifespan.shutdown" in program.output
    assert_clean(program)


def test_interrupt_lets_a_request_finish(uvicorn):
    """Ctrl-C while a client is still sending its request."""
    import socket

    with uvicorn() as program, socket.create_connection(("127.0.0.1", program.port), 60) as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc")
        # An answer to another client: the server has seen the first one by now.
        get(program, "/")
        program.process.send_signal(signal.SIGINT)
        program.until(lambda: "Shutting down" in program.output)
        client.sendall(b"def")
        answer = b""
        while part := client.recv(65536):
            answer += part
        assert answer.startswith(b"HTTP/1.1 200") and b"abcdef" in answer
        assert program.ended() == 0
    assert_clean(program)


def test_several_workers(uvicorn, loop_name):
    with uvicorn("--workers", "2") as program:
        program.until(lambda: program.output.count("lifespan.startup") == 2)
        workers = set()
        program.until(lambda: workers.add(get(program, "/busy")) or len(workers) == 2)
        assert str(program.process.pid).encode() not in workers
        assert program.interrupt() == 0
    assert program.output.count(f"lifespan.shutdown {loop_name}") == 2
    assert_clean(program)


def test_reload(uvicorn, loop_name):
    with uvicorn("--reload", "--reload-dir", ".", "--reload-delay", "0.05") as program:
        first = get(program, "/").decode().split()
        assert first[1] == "1" and first[3] == loop_name
        file = program.folder / "plain.py"
        file.write_text(file.read_text().replace("VERSION = 1", "VERSION = 22"))
        program.until(lambda: program.output.count("lifespan.startup") == 2)
        program.until(lambda: servers.answers(program.port))
        second = get(program, "/").decode().split()
        assert second[1] == "22" and second[3] == loop_name
        assert first[2] != second[2]
        assert program.interrupt() == 0
    assert program.output.count(f"lifespan.shutdown {loop_name}") == 2
    assert_clean(program)


def test_tls(uvicorn, certificates):
    options = ("--ssl-certfile", certificates / "server.pem", "--ssl-keyfile", certificates / "server.key")
    context = ssl.create_default_context(cafile=certificates / "authority.pem")
    with uvicorn(*options) as program:
        body = bytes(range(256)) * 4000
        assert get(program, "/echo", body, context) == body
        assert program.interrupt() == 0
    assert_clean(program)


