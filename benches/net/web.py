"""HTTP on every loop that is there: uvicorn, FastAPI and an aiohttp server under wrk, and aiohttp's
client against a server that is the same for all.

Each measurement has processes of its own; the targets take turns in every round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from load import cpu_seconds
from report import interpreter, machine, output, picture, processors, rounds, table, targets
from report.processors import Processors
from report.spread import spreads

# asyncio is a peer here: no loop is far from it
PEERS = ("asyncio", *targets.PEERS)
CONNECTIONS = 50
ANSWER = b'{"message":"hello"}'

# figures of every round by row and target
Samples = dict[str, dict[str, list[dict[str, float]]]]


# -- what is measured ---------------------------------------------------------


async def plain(listener: socket.socket) -> None:
    """An ASGI application without a framework, under uvicorn."""
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(ANSWER)),
        ],
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start)
        await send({"type": "http.response.body", "body": ANSWER})

    await _uvicorn(app, listener)


async def fast(listener: socket.socket) -> None:
    """FastAPI under uvicorn."""
    import fastapi

    app = fastapi.FastAPI()

    # FastAPI would check an annotated answer, which is not what is measured.
    @app.get("/")
    async def hello():  # type: ignore[no-untyped-def]
        return {"message": "hello"}

    await _uvicorn(app, listener)


async def _uvicorn(app: Any, listener: socket.socket) -> None:
    import uvicorn

    options = {"http": "httptools", "ws": "none", "lifespan": "off", "log_config": None}
    await uvicorn.Server(uvicorn.Config(app, access_log=False, **options)).serve([listener])


async def aiohttp_server(listener: socket.socket) -> None:
    """A server of aiohttp's."""
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=ANSWER, content_type="application/json")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    await asyncio.Event().wait()


async def aiohttp_client(port: int, seconds: float) -> int:
    """aiohttp's client: as many requests as it makes in some seconds."""
    import aiohttp

    ends = time.monotonic() + seconds

    async def ask(session: aiohttp.ClientSession) -> int:
        count = 0
        while time.monotonic() < ends:
            async with session.get("/") as answer:
                assert await answer.read() == ANSWER
            count += 1
        return count

    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as session:
        return sum(await asyncio.gather(*(ask(session) for _ in range(CONNECTIONS))))


SERVERS: dict[str, Callable[[socket.socket], Coroutine[Any, Any, None]]] = {
    "plain": plain,
    "fastapi": fast,
    "aiohttp": aiohttp_server,
}
ROWS = {
    "plain": "uvicorn, plain ASGI",
    "fastapi": "uvicorn, FastAPI",
    "aiohttp": "aiohttp server",
    "client": "aiohttp client",
}


def serve(row: str, target: str) -> None:
    """The server's process: print the port, serve until it is killed."""
    factory = targets.load(target)
    # with the protocol named: otherwise asyncio delays small writes on its connections
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    print(listener.getsockname()[1], flush=True)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(SERVERS[row](listener))


def ask(port: int, target: str, warmup: float, seconds: float) -> None:
    """The client's process."""
    factory = targets.load(target)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(aiohttp_client(port, warmup))
        started, used = time.perf_counter(), time.process_time()
        count = runner.run(aiohttp_client(port, seconds))
        used, took = time.process_time() - used, time.perf_counter() - started
    print(json.dumps({"cpu_us": used / count * 1e6, "requests_per_second": count / took}))


# -- the measuring ------------------------------------------------------------


def measure(options: argparse.Namespace, row: str, target: str) -> dict[str, float]:
    """The figures of one measurement; RuntimeError with the reason if it fails."""
    client = row == "client"
    where: Processors = options.processors
    with ExitStack() as stack:
        # The part that is not measured runs on asyncio, where the load does.
        serving = ("aiohttp", "asyncio") if client else (row, target)
        server = subprocess.Popen(
            [options.python, __file__, "--serve", serving[0], "--targets", serving[1]],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=interpreter.environment(),
            preexec_fn=where.enter_load if client else where.enter_measured,
        )
        stack.callback(server.communicate)
        stack.callback(server.kill)
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        if not port:
            raise RuntimeError("the server does not start")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            if answer.read() != ANSWER:
                raise RuntimeError("a wrong answer")
        if client:
            length = [str(options.warmup), str(options.seconds)]
            asking = [options.python, __file__, "--ask", port, *length, "--targets", target]
            printed = interpreter.printed(asking, 120, where.enter_measured)
            reply: dict[str, float] = json.loads(printed)
            return reply
        _wrk(where, port, options.warmup)
        before = cpu_seconds(server.pid)
        figures = _wrk(where, port, options.seconds)
        used = cpu_seconds(server.pid) - before
    return {"cpu_us": used / figures["requests"] * 1e6, **figures}


def _wrk(where: Processors, port: str, seconds: float) -> dict[str, float]:
    """Load for some seconds. wrk takes only whole ones, at least one."""
    length = f"{max(1, round(seconds))}s"
    address = f"http://127.0.0.1:{port}/"
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d", length, "--latency", address]
    text = interpreter.printed(command, 120, where.enter_load)
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(text.strip().splitlines()[-3])
    total = re.search(r"(\d+) requests in ([\d.]+)s", text)
    latency = re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
    if total is None or latency is None:
        raise RuntimeError("wrk prints no figures")
    requests, took = total.groups()
    worst, unit = latency.groups()
    return {
        "requests": float(requests),
        "requests_per_second": float(requests) / float(took),
        "p99_us": float(worst) * {"us": 1, "ms": 1e3, "s": 1e6}[unit],
    }


def collect(options: argparse.Namespace, names: list[str]) -> tuple[Samples, dict[str, str]]:
    """All samples and the failures."""
    samples, failed = rounds.collect(
        options.rounds,
        [(row, name) for row in options.rows for name in names],
        ROWS.__getitem__,
        lambda row, name: measure(options, row, name),
    )
    return {ROWS[row]: named for row, named in samples.items()}, failed


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", help="interpreter to measure on (default: the benches' venv)")
    parser.add_argument(
        "--targets", default=",".join(targets.ALL), help="names, separated by commas"
    )
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}, by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds of load before it")
    processors.add_option(parser)
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--ask", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=output.FOLDER, help="folder for the results")
    options = parser.parse_args()
    options.rows = options.rows.split(",")
    if unknown := [row for row in options.rows if row not in ROWS]:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    if options.rounds < 1 or options.seconds <= 0 or options.warmup <= 0:
        parser.error("--rounds, --seconds and --warmup must be positive")
    return options


def main() -> None:
    options = arguments()
    if options.serve:
        return serve(options.serve, options.targets)
    if options.ask:
        port, warmup, seconds = options.ask
        return ask(int(port), options.targets, float(warmup), float(seconds))
    if not shutil.which("wrk"):
        sys.exit("no wrk on PATH (Debian: apt install wrk)")
    try:
        wanted = targets.parse(options.targets)
        options.processors = processors.chosen(options.processors)
    except ValueError as error:
        sys.exit(str(error))

    options.python = options.python or interpreter.default()
    probed = targets.probe(options.python, wanted)
    names = list(probed.versions)
    settings = {
        "rounds": options.rounds,
        "seconds each": options.seconds,
        "connections": CONNECTIONS,
        "processors": options.processors.text(),
    }
    head = machine.head(options.python, probed, settings)
    samples, failed = collect(options, names)

    if failed:
        head["Failed"] = "; ".join(f"{what}: {why}" for what, why in failed.items())
    cpu, speed = spreads(samples, "cpu_us"), spreads(samples, "requests_per_second")
    bases = dict.fromkeys(cpu, PEERS)
    text = (
        "Medians of the rounds (least–greatest). Ours against the best of the peers in the same "
        "run, asyncio among them, above 1 being better.\n\n"
        "## CPU microseconds of the whole measured process per request\n\n"
        f"{table.comparison(cpu, names, bases=bases)}\n\n"
        "## Requests per second\n\n"
        f"{table.comparison(speed, names, greatest=True, bases=bases)}"
    )
    subtitle = f"times better than the best peer, longer is better · {head['Machine']}"
    pictures = {
        "web-cpu": picture.bars(
            "HTTP: CPU per request", subtitle, output.ratios(cpu, bases=bases), names
        )
    }
    output.write(options.output, "web", head, text, samples, pictures)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
