"""The resident memory of idle connections, whose clients are another process."""

import asyncio
import resource
import subprocess
import sys
from pathlib import Path

from .resident import resident

CLIENTS = Path(__file__).with_name("clients.py")
# connections that wait to be accepted; where there is room for all, no client has to try again
BACKLOG = 4096
# descriptors of a process besides its connections
OTHERS = 100
# In seconds: for the last connections to become idle, and for all of them to come.
SETTLING = 0.2
PATIENCE = 60.0


class Arrivals:
    """Counts connections, and says when all are there."""

    def __init__(self, count: int) -> None:
        self.count = self.left = count
        self.all = asyncio.Event()

    def one(self) -> None:
        self.left -= 1
        if not self.left:
            self.all.set()


def allow(descriptors: int) -> None:
    """Raise this process's limit, which the clients' process inherits."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < descriptors:
        raise RuntimeError(f"{descriptors} descriptors are needed, the hard limit is {most}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, most))


async def idle(server: asyncio.Server, arrivals: Arrivals) -> float:
    """Bytes that the connections take; the server tells `arrivals` of each."""
    allow(arrivals.count + OTHERS)
    port = server.sockets[0].getsockname()[1]
    command = [sys.executable, str(CLIENTS), str(port), str(arrivals.count)]
    before = resident()
    with subprocess.Popen(command, stdin=subprocess.PIPE):
        async with asyncio.timeout(PATIENCE):
            await arrivals.all.wait()
        await asyncio.sleep(SETTLING)
        used = resident() - before
    server.close()
    await asyncio.sleep(SETTLING)
    return used
