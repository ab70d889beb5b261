"""The measured process: one echo server on one loop, with TLS if it gets a certificate. Prints its
port (0 for a Unix socket) and serves until SIGTERM."""

import argparse
import asyncio
import importlib
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from report import targets

SERVERS = ("protocol", "buffered", "streams", "lines", "sock", "datagram")


async def serve(program: Any, tcp: str, unix: str | None, tls: ssl.SSLContext | None) -> None:
    server = await program.start(tcp, unix, tls)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    port = 0 if unix else server.sockets[0].getsockname()[1]
    print(port, flush=True)
    await stopped.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", choices=SERVERS)
    parser.add_argument("--loop", choices=targets.ALL, default="asyncio")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--tcp", metavar="HOST", default="127.0.0.1")
    where.add_argument("--unix", metavar="PATH")
    parser.add_argument("--tls", metavar="FOLDER", help="with server.pem and server.key from there")
    options = parser.parse_args()

    # first the target: aioxide+install must be in place before the program's imports
    factory = targets.load(options.loop)
    program = importlib.import_module(f"servers.{options.server}")
    # after the target: rsloop watches how contexts get their certificates
    tls = None
    if options.tls:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(f"{options.tls}/server.pem", f"{options.tls}/server.key")
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(program, options.tcp, options.unix, tls))


main()
