"""Random programs of a StreamReader that is fed in pieces while tasks read from it."""

import asyncio
import sys

from observing import plain
from playing import Abort, Failure, Program, told

SEPARATORS = [b"\n", b";", b"\r\n", b"ab", bytearray(b"\n"), b"aab", b""]
if sys.version_info >= (3, 13):
    SEPARATORS += [(b"\n", b";"), (b"\r\n", b"\n"), (b"ab", b"b", b"aab"), ()]


class Transport(asyncio.Transport):
    """One that is told to stop reading, or that cannot."""

    def __init__(self, program, able):
        super().__init__()
        self.program = program
        self.able = able

    def pause_reading(self):
        self.program.tell("pause", self.able)
        if not self.able:
            raise NotImplementedError

    def resume_reading(self):
        self.program.tell("resume")

    def __repr__(self):
        return "<transport>"


class Reading(Program):
    """Pieces that a seed makes, from outside and from tasks."""

    def begin(self):
        self.loop.set_debug(self.chance(0.05))
        limit = self.random.choice([1, 2, 5, 8, 20, 2**16])
        self.reader = self.aio.StreamReader(limit=limit, loop=self.loop)
        if self.chance(0.7):
            self.reader.set_transport(Transport(self, self.chance(0.8)))
        for _ in range(self.random.choice([1, 1, 1, 2, 3])):
            self.task()

    def task(self):
        self.know(self.loop.create_task(self.body()))

    def piece(self):
        letters = self.random.choice([b"ab", b"ab\n", b"ab;\r\n", b"a"])
        return bytes(self.random.choices(letters, k=self.random.randrange(12)))

    def meddle(self):
        choice = self.random.randrange(30)
        try:
            if choice < 10:
                self.feed()
            elif choice == 10 and self.chance(0.4):
                self.reader.feed_eof()
                self.tell("eof")
            elif choice == 11 and self.chance(0.3):
                self.reader.set_exception(Failure(self.next()))
                self.tell("exception is set")
            elif choice < 15:
                task = self.random.choice(list(self.names))
                self.tell("cancels", self.names[task], task.cancel(*self.message()))
            elif choice == 15 and len(self.names) < 6:
                self.task()
        except AssertionError as error:
            self.tell("refused", told(error))

    def feed(self):
        piece = self.piece()
        if self.chance(0.2):
            piece = self.random.choice([bytearray, memoryview])(piece)
        self.tell("feeds", bytes(piece))
        self.reader.feed_data(piece)

    async def body(self):
        number = self.know(self.aio.current_task())
        while self.spend():
            try:
                self.tell(number, await self.act(number))
            except asyncio.CancelledError as error:
                self.tell(number, "cancelled", told(error))
                if self.chance(0.2):
                    raise
            except (Exception, Abort) as error:
                self.tell(number, "caught", told(error), vars(error) and plain(vars(error)))
                await self.handling(number)
                if self.chance(0.1):
                    raise
            if self.reader.at_eof() and self.chance(0.3):
                break
        self.tell(number, "ends", self.reader.at_eof())

    async def handling(self, number):
        """Reads where an exception is being handled: it is the context of the next."""
        if self.chance(0.5) or not self.spend():
            return
        try:
            self.tell(number, "handling", await self.act(number))
        except (Exception, asyncio.CancelledError) as error:
            self.tell(number, "handling", told(error), vars(error) and plain(vars(error)))

    async def act(self, number):
        reader = self.reader
        choice = self.random.randrange(24)
        if choice < 4:
            return "read", await reader.read(self.random.choice([1, 2, 3, 5, 10, 100, 0]))
        if choice == 4 and self.chance(0.3):
            return "all", await reader.read(*self.random.choice([(), (-1,)]))
        if choice < 9:
            return "line", await reader.readline()
        if choice < 12:
            return "exactly", await reader.readexactly(self.random.choice([0, 1, 2, 3, 5, 7, 30, -1]))
        if choice < 16:
            separator = self.random.choice(SEPARATORS)
            return "until", plain(separator), await reader.readuntil(separator)
        if choice == 16:
            lines = []
            async for line in reader:
                lines.append(line)
                if self.chance(0.4):
                    break
            return "lines", lines
        if choice == 17:
            self.feed()
        if choice == 18:
            return "text", plain(repr(reader)).partition(" waiter=")[0].partition(" exception=")[0]
        if choice == 19:
            return "state", reader.at_eof(), told(reader.exception())
        if choice == 20:
            await self.aio.sleep(self.delay())
        if choice == 21:
            return "in time", await self.aio.wait_for(reader.readline(), self.delay())
        if choice == 22:
            return "buffer", bytes(reader._buffer) if self.chance(0.1) else None
        await self.aio.sleep(0)
        return "nothing"
