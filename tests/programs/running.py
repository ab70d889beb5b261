"""Random programs run by asyncio.Runner, interrupted as by Ctrl-C at any moment."""

import asyncio
import signal
import weakref

from playing import LONGEST, Abort, Failure, Program, Reports, told


class RunnersReports(Reports):
    """Without the pending tasks of a loop that was closed in the middle: which of them complain goes
    by the order in which they are collected."""

    def report(self, loop, context):
        if "was destroyed" not in context["message"]:
            super().report(loop, context)


class Running(Program):
    """Several mains one after another on one Runner; what one leaves behind goes on in the next."""

    budget = 40

    def __init__(self, aio, loop, seed, budget=None):
        super().__init__(aio, loop, seed, budget)
        self.closing = False
        self.reports = RunnersReports()

    def play(self):
        self.tasks = []
        factory = type(self.loop)

        def make():
            self.loop = factory()
            self.loop.set_exception_handler(self.reports.report)
            return self.loop

        old = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            runner = asyncio.Runner(loop_factory=make)
            runner.get_loop().call_soon(self.turn)
            for number in range(self.random.randrange(1, 4)):
                try:
                    self.tell("result", runner.run(self.body(2)))
                except (Exception, KeyboardInterrupt, SystemExit, Abort) as error:
                    self.tell("raised", number, told(error))
                except asyncio.CancelledError as error:
                    self.tell("cancelled", number, told(error))
            # the rest is cancelled in the order of a set
            self.closing = True
            while not self.loop.is_closed():
                try:
                    runner.close()
                except (RuntimeError, KeyboardInterrupt, SystemExit, Abort) as error:
                    # by the end of a main that was left before
                    self.tell("closing", told(error))
        finally:
            signal.signal(signal.SIGINT, old)

    def end(self):
        remains = [weakref.ref(item) for item in (*self.tasks, self.loop)]
        reports, trace = self.reports, self.trace
        self.__dict__ = {"operations": self.operations}
        return remains, trace, reports

    def turn(self):
        if self.closing:
            return
        self.loop.call_soon(self.turn)
        self.loop.now += 1.0
        self.turns += 1
        if self.chance(0.05):
            self.tell("interrupts", self.turns)
            signal.raise_signal(signal.SIGINT)
        elif self.turns > 50 * LONGEST:
            for task in self.tasks:
                task.cancel()

    async def body(self, depth):
        if self.closing:
            return None
        task = self.aio.current_task()
        if task not in self.tasks:
            self.tasks.append(task)
        number = self.tasks.index(task)
        for _ in range(self.random.randrange(1, 5)):
            try:
                self.tell(number, await self.act(depth))
            except asyncio.CancelledError as error:
                if self.closing:
                    raise
                self.tell(number, "cancelled", told(error), task.cancelling())
                choice = self.random.randrange(6)
                if choice < 3:
                    raise
                if choice == 3:
                    task.uncancel()
                if choice == 4:
                    raise Failure(number)
            except Failure as error:
                self.tell(number, "caught", told(error))
            if self.closing:
                return None
        choice = self.random.randrange(30)
        self.tell(number, "ends", choice)
        if choice < 3:
            raise Failure(number)
        if choice == 3:
            raise asyncio.CancelledError(number)
        if choice == 4:
            raise self.random.choice([KeyboardInterrupt, SystemExit])(number)
        if choice == 5:
            raise Abort(number)
        return number

    async def act(self, depth):
        if not self.spend():
            return "nothing"
        choice = self.random.randrange(12 if depth else 6)
        if choice < 2:
            return await self.aio.sleep(0, "turn")
        if choice < 5:
            return await self.aio.sleep(self.delay(), "slept")
        if choice == 5:
            task = self.random.choice(self.tasks)
            return "cancels", self.tasks.index(task), task.cancel(*self.message())
        if choice < 8:
            bodies = [self.body(depth - 1) for _ in range(self.random.randrange(1, 4))]
            return await self.aio.gather(*bodies)
        if choice == 8:
            return await self.aio.wait_for(self.body(depth - 1), self.delay())
        if choice == 9:
            return await self.aio.shield(self.body(depth - 1))
        if choice == 10:
            async with self.aio.timeout(self.delay()):
                return await self.body(depth - 1)
        self.tasks.append(self.loop.create_task(self.body(depth - 1)))
        return "spawned"
