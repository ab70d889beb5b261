#!/usr/bin/env python3
"""Mixed traffic for as long as you like: nothing may be lost and nothing may stay behind.

    python tests/soak/soak.py [--seconds 600] [--loops 1] [--target MODULE] [--seed N]

Connections of all kinds with and without TLS, datagrams, pipes, files, child processes, threads,
cancelled calls and peers that hang up, on one loop or on several in threads of their own. After
each round all loops are quiet: every connection that was made is lost, no descriptor, child, task
or transport is left. At the end the memory has not grown. It needs what tests/requirements.txt
names.
"""

import argparse
import array
import asyncio
import collections
import gc
import importlib
import os
import pathlib
import random
import sys
import tempfile
import threading
import time
from statistics import median

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

import traffic
from observing import descriptors, live_objects
from tls_peers import client_context, server_context

# Until caches and free lists are full; these rounds do not count.
WARM_UP = 3

AT_ONCE = 25


class Failed(AssertionError):
    """Something was lost, or left behind."""


class Together:
    """Where several loops wait for each other. One that fails breaks it for all."""

    def __init__(self, loops):
        self.loops = loops
        self.lock = threading.Lock()
        self.here, self.meetings, self.broken = 0, 0, False
        # Whether the round was the last one; the first loop says it.
        self.done = False

    async def meet(self):
        """Returns when all loops are here."""
        with self.lock:
            meeting = self.meetings
            self.here += 1
            if self.here == self.loops:
                self.here, self.meetings = 0, meeting + 1
        while self.meetings == meeting:
            if self.broken:
                raise Failed("another loop has failed")
            await asyncio.sleep(0.002)


class Soak:
    """One loop's part of a run: its servers, its books, its measurements."""

    def __init__(self, seed, lives=150, together=None, number=0):
        self.together = together or Together(1)
        # Only the first loop looks at the whole process.
        self.looks = number == 0
        self.rng = random.Random(seed)
        self.lives = lives
        self.counts = collections.Counter()
        self.served = set()
        self.addresses = {}
        self.reports = []
        # after each round; in arrays, so that the measurements are no memory of their own
        self.memory, self.blocks = array.array("q"), array.array("q")
        self.started = time.monotonic()

    def count(self, what, number=1):
        self.counts[what] += number

    def report(self, loop, report):
        """The loop's exception handler: nothing may be reported."""
        self.reports.append((report["message"], repr(report.get("exception"))))

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self.report)
        self.context, self.server_context = client_context(), server_context()
        self.folder = tempfile.TemporaryDirectory()
        self.servers = []
        for number, kind in enumerate(traffic.KINDS):
            tls = self.server_context if kind.startswith("tls") else None
            make = (traffic.Echo, traffic.BufferedEcho)[number // 2 ^ number % 2]
            if kind.endswith("unix"):
                address = f"{self.folder.name}/{number}.sock"
                server = await loop.create_unix_server(lambda m=make: m(self), address, ssl=tls)
            else:
                server = await loop.create_server(lambda m=make: m(self), "127.0.0.1", 0, ssl=tls)
                address = server.sockets[0].getsockname()
            self.servers.append(server)
            self.addresses[kind] = address

        class Back(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, address):
                self.transport.sendto(data, address)

        self.udp, _ = await loop.create_datagram_endpoint(Back, local_addr=("127.0.0.1", 0))
        self.addresses["udp"] = self.udp.get_extra_info("sockname")
        return self

    async def __aexit__(self, *error):
        for server in self.servers:
            server.close()
        self.udp.close()
        await asyncio.sleep(0)
        self.folder.cleanup()

    async def round(self):
        """Some lives, several at once; then what must be true when all is quiet."""
        await self.together.meet()
        descriptors_before, objects_before = descriptors(), census()
        await self.together.meet()
        left = [self.rng.choice(traffic.ALL) for _ in range(self.lives)]

        async def live():
            while left:
                play, seed = left.pop(), self.rng.random()
                try:
                    await asyncio.wait_for(play(self, random.Random(seed)), 60)
                except asyncio.TimeoutError:
                    raise Failed(f"{play.__name__} with seed {seed} hangs") from None

        workers = [asyncio.create_task(live()) for _ in range(AT_ONCE)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        del workers, worker
        await self.together.meet()
        await self.quiet(descriptors_before, objects_before)
        await self.together.meet()
        if self.reports:
            raise Failed(f"reported: {self.reports[:5]}")
        self.memory.append(resident())
        self.blocks.append(sys.getallocatedblocks())

    async def quiet(self, descriptors_before, objects_before):
        """Waits until all has ended; not for ever."""
        me = asyncio.current_task()
        deadline = time.monotonic() + 30
        while True:
            # what only now is closed, since nobody holds it, ends in the next iterations
            more = census() - objects_before if self.looks else {}
            now = descriptors() if self.looks else descriptors_before
            opened = {fd: now[fd] for fd in now if now[fd] != descriptors_before.get(fd)}
            lost = {fd: descriptors_before[fd] for fd in descriptors_before if fd not in now}
            tasks = asyncio.all_tasks() - {me}
            troubles = {
                "descriptors left open": opened,
                "descriptors of others closed": lost,
                "connections not lost": len(self.served),
                "tasks left": [repr(task) for task in tasks],
                "children left": self.looks and children(),
                "objects left": dict(more),
            }
            troubles = {name: what for name, what in troubles.items() if what}
            if not troubles:
                return
            if time.monotonic() > deadline or lost:
                raise Failed(troubles)
            await asyncio.sleep(0.01)

    @property
    def seconds(self):
        return time.monotonic() - self.started

    @property
    def rounds(self):
        return len(self.memory)

    def growth(self):
        """(KiB, blocks) between the rounds after the warm-up and the last ones."""
        found = []
        for measured in (self.memory[WARM_UP:], self.blocks[WARM_UP:]):
            part = max(1, len(measured) // 5)
            found.append(median(measured[-part:]) - median(measured[:part]))
        return tuple(found)

    def check_growth(self):
        """A leak goes on and on; what allocators keep does not."""
        memory, blocks = self.growth()
        if blocks > 4000 + self.rounds or memory > 12 * 1024 + 4 * self.rounds:
            raise Failed(f"{memory} KiB and {blocks} blocks more after {self.rounds} rounds")


def census():
    """How many loops, transports, servers, handles, futures and tasks there are, by class."""
    gc.collect()
    found = collections.Counter(type(item).__name__ for item in live_objects())
    # these wait for the next child or the next call, as long as the loop lives
    return collections.Counter({name: found[name] for name in found if "Handle" not in name})


def children():
    """Whether this process has a child, running or not waited for."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def resident():
    """The process's memory in KiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


async def soak(seconds, rounds, seed, tell=lambda soak: None, together=None, number=0):
    """At least `rounds` rounds, and more until `seconds` have passed; the soak with its books."""
    run = Soak(seed, together=together, number=number)
    try:
        async with run:
            # Nobody counts what another loop is still making.
            await run.together.meet()
            while not run.together.done:
                await run.round()
                tell(run)
                # All loops take as many rounds as the first one.
                if run.looks:
                    run.together.done = not (run.rounds < rounds or run.seconds < seconds)
                await run.together.meet()
    except BaseException:
        run.together.broken = True
        raise
    if run.looks:
        run.check_growth()
    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--seconds", type=float, default=600, help="how long at least (default: 600)")
    add("--loops", type=int, default=1, help="each in a thread of its own (default: 1)")
    add("--target", default="aioxide", help="the module to test (default: aioxide)")
    add("--seed", type=int, default=None, help="for the random choices (default: another each time)")
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    target = importlib.import_module(options.target)
    print(f"{options.target} on Python {sys.version.split()[0]}, seed {seed}", flush=True)

    def tell(run):
        if run.looks and run.rounds % 50 == WARM_UP:
            now = f"{run.memory[-1]} KiB  {run.blocks[-1]} blocks"
            print(f"{run.seconds:6.0f} s  round {run.rounds:5}  {now}", flush=True)

    together, runs, errors = Together(options.loops), {}, []

    def play(number):
        loop = target.new_event_loop()
        try:
            part = soak(options.seconds, WARM_UP + 5, seed + number, tell, together, number)
            runs[number] = loop.run_until_complete(part)
            loop.run_until_complete(loop.shutdown_default_executor())
        except BaseException as error:
            errors.append(error)
        finally:
            loop.close()

    threads = [
        threading.Thread(target=play, args=(number,)) for number in range(1, options.loops)
    ]
    for thread in threads:
        thread.start()
    play(0)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    run = runs[0]
    run.counts = sum((part.counts for part in runs.values()), collections.Counter())
    memory, blocks = run.growth()
    for what, number in sorted(run.counts.items()):
        print(f"{number:12,}  {what}")
    print(f"{run.rounds} rounds in {run.seconds:.0f} s; growth {memory:.0f} KiB, {blocks:.0f} blocks")


if __name__ == "__main__":
    main()
