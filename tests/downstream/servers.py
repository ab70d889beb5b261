"""Servers on free ports of this machine, each in a folder of its own, stopped after use."""

import asyncio
import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent

# Seconds until a server that does not start, or a program that does not end, counts as hung.
PATIENCE = 60


class NotInstalled(Exception):
    """The machine lacks the program of a server."""


def loop_name():
    """The module of the running loop."""
    return type(asyncio.get_running_loop()).__module__


def task_name():
    """The module of the current task."""
    return type(asyncio.current_task()).__module__


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition, process=None):
    """Wait for what a process does; fail if it ends, or takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert process is None or process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < deadline, "hangs"
        time.sleep(0.02)
    return result


def answers(port):
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def write_certificates(authority, folder):
    """The files of a certificate for localhost and 127.0.0.1."""
    issued = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    issued.private_key_pem.write_to_path(folder / "server.key")
    for number, part in enumerate(issued.cert_chain_pems):
        part.write_to_path(folder / "server.pem", append=number > 0)


@contextlib.asynccontextmanager
async def asgi(app, **options):
    """An ASGI application under uvicorn on the running loop; gives its URL."""
    import uvicorn

    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, **options)
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        assert not serving.done(), serving
        await asyncio.sleep(0.005)
    [listener] = server.servers[0].sockets
    scheme = "https" if "ssl_certfile" in options else "http"
    try:
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


# -- programs -------------------------------------------------------------------------------------


class Program:
    """A running python process, what it writes, and how it ended."""

    def __init__(self, command, folder, **variables):
        self.process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "always::ResourceWarning",
                 **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        with self.process.stdout:
            self._lines.extend(iter(self.process.stdout.readline, ""))

    @property
    def output(self):
        return "".join(self._lines)

    def until(self, condition):
        """Wait until `condition()` holds while the process runs; give its result."""
        try:
            return until(condition, self.process)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.output}") from None

    def interrupt(self):
        """Press Ctrl-C: the terminal sends SIGINT to the whole group. Return the exit status."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.ended()

    def ended(self):
        """Wait for the end; return the exit status."""
        try:
            status = self.process.wait(PATIENCE)
            self._reader.join(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"hangs:\n{self.output}") from None
        return status

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join()


# -- Redis ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def redis(folder, certificates):
    """A redis-server; gives the ports without and with TLS and the path of its Unix socket."""
    if not shutil.which("redis-server"):
        raise NotInstalled("no redis-server (Debian: apt install redis-server)")
    port, tls_port, path = free_port(), free_port(), folder / "redis.sock"
    process = subprocess.Popen(
        [
            "redis-server", "--bind", "127.0.0.1", "--port", str(port), "--tls-port", str(tls_port),
            "--tls-cert-file", certificates / "server.pem",
            "--tls-key-file", certificates / "server.key",
            "--tls-ca-cert-file", certificates / "authority.pem", "--tls-auth-clients", "no",
            "--unixsocket", path, "--dir", folder, "--save", "", "--logfile", folder / "log",
        ],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: answers(port), process)
        yield port, tls_port, path
    finally:
        process.terminate()
        process.wait()


# -- PostgreSQL -----------------------------------------------------------------------------------


@contextlib.contextmanager
def postgres(certificates):
    """A PostgreSQL server; gives host, port, user, password and database.

    It takes TLS or not, as the client asks, and refuses to run as root: then it runs as the user
    `postgres`, in a folder that belongs to that user.
    """
    # Debian keeps them off PATH, one folder for each version.
    folders = pathlib.Path("/usr/lib/postgresql").glob("*/bin")
    folders = sorted(folders, key=lambda folder: int(folder.parent.name), reverse=True)
    for programs in [*folders, *map(pathlib.Path, os.get_exec_path())]:
        if all((programs / name).exists() for name in ("initdb", "postgres", "pg_isready")):
            break
    else:
        raise NotInstalled("no PostgreSQL server (Debian: apt install postgresql)")
    user = {}
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        folder = pathlib.Path(folder)
        data, log = folder / "data", folder / "log"
        (folder / "password").write_text("secret")
        for name in ("server.pem", "server.key"):
            shutil.copy(certificates / name, folder)
            (folder / name).chmod(0o600)
        if user:
            for path in (folder, *folder.iterdir()):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        options = {"stdin": subprocess.DEVNULL, "cwd": folder, **user}
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "tester", "-A", "scram-sha-256",
             "--pwfile", folder / "password", "-E", "UTF8", "--locale", "C", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, **options,
        )  # fmt: skip
        port = free_port()
        settings = {"ssl": "on", "ssl_cert_file": folder / "server.pem",
                    "ssl_key_file": folder / "server.key", "fsync": "off"}  # fmt: skip
        with log.open("w") as file:
            process = subprocess.Popen(
                [programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder,
                 *(word for name, value in settings.items() for word in ("-c", f"{name}={value}"))],
                stdout=file, stderr=file, **options,
            )  # fmt: skip
        ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        try:
            until(lambda: subprocess.run(ready).returncode == 0, process)
            yield {"host": "127.0.0.1", "port": port, "user": "tester", "password": "secret",
                   "database": "postgres"}  # fmt: skip
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{log.read_text()}") from None
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
