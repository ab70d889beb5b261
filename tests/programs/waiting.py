"""Random programs of gather and its family: nested in each other, cancelled from all sides."""

import asyncio
import sys

from playing import EAGER, Abort, Failure, Program, frames, told

KINDS = (
    "gather",
    "wait",
    "wait_for",
    "as_completed",
    "shield",
    "timeout",
    "group",
    "ensure_future",
)


class _Awaitable:
    def __init__(self, coroutine):
        self.coroutine = coroutine

    def __await__(self):
        return (yield from self.coroutine.__await__())


class Waiting(Program):
    """Tasks that wait for each other. `kind` is the function that has most of the operations."""

    def __init__(self, aio, loop, seed, kind=None, budget=None):
        super().__init__(aio, loop, seed, budget)
        self.kind = kind
        self.bodies = {}
        self.orderly = False  # whether tasks stand in sets in the order of their numbers

    def begin(self):
        random = self.random
        self.loop.set_task_factory(self.factory(random.randrange(8)))
        self.loop.set_debug(self.chance(0.05))
        self.futures = [self.future() for _ in range(random.randrange(1, 5))]
        self.depth = random.randrange(1, 4)
        for _ in range(random.randrange(1, 9)):
            self.spawn(self.depth)

    def factory(self, choice):
        Task = self.aio.Task
        if choice == 0:
            return lambda loop, coro, **options: Task(coro, loop=loop, **options)
        if choice in (4, 5):
            self.orderly = True

            class Own(Task):
                def __init__(self, *args, number, **options):
                    self.number = number
                    super().__init__(*args, **options)

                def __hash__(self):
                    return self.number

            return lambda loop, coro, **options: Own(
                coro, loop=loop, number=self.next(), **options
            )
        if choice in (2, 3) and EAGER:
            return self.aio.eager_task_factory
        return None

    def future(self):
        choice = self.random.randrange(12)
        if choice == 0:
            future = asyncio.futures._PyFuture(loop=self.loop)
        elif choice < 3:
            future = self.aio.Future(loop=self.loop)
        else:
            future = self.loop.create_future()
        self.know(future)
        return future

    def spawn(self, depth):
        task = self.loop.create_task(self.body(depth))
        self.know(task)
        return task

    def target(self):
        """Any task or future that is known."""
        known = list(self.names)
        return self.random.choice(known[-12:])

    def settle(self, future):
        """Ends a future, or tries to."""
        choice = self.random.randrange(6)
        if choice == 0:
            self.tell("cancels", self.names[future], future.cancel(*self.message()))
        elif future.done():
            return
        elif choice < 4:
            self.number += 1
            future.set_result(self.number)
        else:
            self.number += 1
            future.set_exception(Failure(self.number))

    def meddle(self):
        choice = self.random.randrange(12)
        if choice == 0 and self.names:
            target = self.target()
            self.tell("from outside", self.names[target], target.cancel(*self.message()))
        elif choice < 3 and self.futures:
            future = self.futures.pop(self.random.randrange(len(self.futures)))
            self.settle(future)

    # tasks

    async def body(self, depth):
        task = self.aio.current_task()
        number = self.know(task)
        self.bodies[number] = task
        self.tell(number, "begins")
        for _ in range(self.random.randrange(1, 4)):
            try:
                await self.act(number, depth)
            except asyncio.CancelledError as error:
                self.caught(number, task, error)
                choice = self.random.randrange(10)
                await self.handling(number, depth)
                if choice < 6:
                    raise
                if choice == 6:
                    raise Failure(number)
                if choice == 7:
                    self.tell("uncancels", task.uncancel())
                if choice == 8:
                    return "swallowed"
            except (Exception, Abort) as error:
                self.caught(number, task, error)
                await self.handling(number, depth)
                if self.chance(0.3):
                    raise
            except BaseExceptionGroup as error:
                self.caught(number, task, error)
                if self.chance(0.3):
                    raise
        choice = self.random.randrange(40)
        self.tell(number, "ends", choice)
        if choice < 26:
            return number
        if choice < 34:
            raise Failure(number)
        if choice < 36:
            raise asyncio.CancelledError(*self.message())
        if choice == 36:
            raise Abort(number)
        if choice == 37 and self.chance(0.3):
            raise self.random.choice([KeyboardInterrupt, SystemExit])(number)
        if choice == 38:
            raise asyncio.TimeoutError(number)
        return await self.anything(depth - 1)

    async def handling(self, number, depth):
        """Goes on where an exception is being handled: it is the context of the next."""
        if self.chance(0.7):
            return
        try:
            await self.act(number, depth)
        except (Exception, BaseExceptionGroup) as error:
            self.tell(number, "handling", told(error))

    def caught(self, number, task, error):
        self.tell(number, "caught", told(error), task.cancelling(), frames(error, __file__))

    async def act(self, number, depth):
        if not self.spend():
            return
        if depth > 0 and self.chance(0.7):
            self.tell(number, "did", await self.anything(depth - 1))
            return
        choice = self.random.randrange(14)
        if choice < 4:
            for _ in range(self.random.randrange(3)):
                await self.aio.sleep(0)
        elif choice < 6:
            self.tell(number, "slept", await self.aio.sleep(self.delay(), "slept"))
        elif choice == 6 and self.futures:
            self.tell(number, "got", await self.random.choice(self.futures))
        elif choice == 7:
            target = self.target()
            self.tell(number, "cancels", self.names[target], target.cancel(*self.message()))
        elif choice == 8:
            self.spawn(depth - 1)
        elif choice == 9:
            self.loop.call_later(self.delay(), self.target().cancel, *self.message())
        elif choice == 10 and self.futures:
            self.settle(self.futures.pop())
        elif choice == 11:
            self.futures.append(self.future())
        elif choice == 12:
            self.tell(number, "tasks", len(self.aio.all_tasks(self.loop)))
        else:
            target = self.target()
            self.tell(number, "state", self.names[target], target.done(), target.cancelled())
            if target.done() and not target.cancelled():
                self.tell(told(target.exception(), 0))

    # what a function can be given

    def child(self, depth, plain=False):
        """An awaitable; a task or future that is not done if `plain`."""
        choice = self.random.randrange(12)
        if not plain:
            if choice < 5:
                return self.body(depth)
            if choice == 5:
                return _Awaitable(self.body(depth))
            if choice == 6:
                # only those that began later: a ring of tasks that wait for each other never ends
                number = self.know(self.aio.current_task())
                later = [task for name, task in self.bodies.items() if name > number]
                return self.random.choice(later) if later else self.body(depth)
            if choice == 7 and depth > 0:
                return self.anything(depth - 1)
        if choice == 8 and self.futures:
            return self.random.choice(self.futures)
        if choice == 9:
            self.futures.append(self.future())
            return self.futures[-1]
        if choice == 10:
            return self.keep(self.aio.gather(self.spawn(depth - 1), self.body(depth - 1)))
        if choice == 11:
            return self.keep(self.aio.shield(self.spawn(depth - 1)))
        return self.spawn(depth)

    def keep(self, future):
        self.know(future)
        return future

    def children(self, depth, plain=False):
        count = self.random.choice([0, 1, 2, 2, 3, 4])
        made = [self.child(depth, plain) for _ in range(count)]
        if made and self.chance(0.2):
            made.append(self.random.choice(made))
        return made

    def timeout(self):
        choice = self.random.randrange(8)
        if choice == 0:
            return None
        if choice == 1:
            # over already, each at a time of its own
            return self.next() / 2**20 - self.random.choice([1, 2])
        return self.delay()

    # the functions

    def anything(self, depth):
        kind = self.kind
        if kind is None or self.chance(0.5):
            kind = self.random.choice(KINDS)
        return self.do(getattr(self, "do_" + kind), depth)

    async def do(self, function, depth):
        self.know(self.aio.current_task())
        return await function(depth)

    def named(self, futures):
        return sorted((self.know(future) for future in futures))

    async def do_gather(self, depth):
        children = self.children(depth)
        outer = self.aio.gather(*children, return_exceptions=self.chance(0.5))
        self.know(outer)
        if self.chance(0.1):
            self.loop.call_later(self.delay(), outer.cancel, *self.message())
        if self.chance(0.05):
            return "let go"
        try:
            results = await outer
        finally:
            self.tell("gather", outer.done(), outer.cancelled())
        return [told(item, 1) if isinstance(item, BaseException) else item for item in results]

    async def do_wait(self, depth):
        children = self.children(depth, True)
        when = self.random.choice(["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"])
        try:
            done, pending = await self.aio.wait(children, timeout=self.timeout(), return_when=when)
        finally:
            # whose exceptions it has looked at goes by the order of a set
            for child in children:
                if child.done() and not child.cancelled():
                    child.exception()
        return self.named(done), self.named(pending)

    async def do_wait_for(self, depth):
        timeout = 0 if self.chance(0.1) else self.timeout()
        return await self.aio.wait_for(self.child(depth), timeout)

    async def do_as_completed(self, depth):
        # asyncio takes them in the order of a set: several have no order if they are done already,
        # or if one of them is a coroutine that begins at once
        if self.chance(0.4):
            children = [self.child(depth)]
        else:
            children = [child for child in self.children(depth, True) if not child.done()]
        seen = []
        each = self.aio.as_completed(children, timeout=self.timeout())
        if sys.version_info >= (3, 13) and self.chance(0.4):
            async for future in each:
                seen.append(future in self.names and self.names[future])
                try:
                    seen.append(await future)
                except Failure as error:
                    seen.append(told(error, 1))
                if self.chance(0.1):
                    break
            return seen
        for step in each:
            try:
                seen.append(await step)
            except Failure as error:
                seen.append(told(error, 1))
            if self.chance(0.1):
                break
        return seen

    async def do_shield(self, depth):
        inner = self.child(depth)
        outer = self.aio.shield(inner)
        self.know(outer)
        if self.chance(0.2):
            outer.cancel(*self.message())
        if self.chance(0.05):
            return "let go"
        return await outer

    async def do_timeout(self, depth):
        if self.chance(0.5):
            timeout = self.aio.timeout(self.timeout())
        else:
            delay = self.timeout()
            timeout = self.aio.timeout_at(None if delay is None else self.loop.time() + delay)
        result = None
        try:
            async with timeout:
                if self.chance(0.2):
                    self.reschedule(timeout)
                result = await self.child(depth)
                if self.chance(0.2):
                    self.reschedule(timeout)
                    result = await self.child(depth - 1)
        finally:
            when = timeout.when()
            when = when and when - self.began
            self.tell("timeout", timeout.expired(), when, self.aio.current_task().cancelling())
        return result

    def reschedule(self, timeout):
        delay = self.timeout()
        timeout.reschedule(None if delay is None else self.loop.time() + delay)

    async def do_group(self, depth):
        # It cancels its tasks in the order of a set, by their addresses: unless something gives
        # them an order, one at a time.
        several = self.orderly
        group = self.aio.TaskGroup()

        async def adds(depth):
            task = self.aio.current_task()
            self.know(task)
            await self.aio.sleep(self.delay() if self.chance(0.3) else 0)
            if several:
                self.know(group.create_task(self.body(depth)))
            return await self.child(depth)

        try:
            async with group:
                for _ in range(self.random.randrange(4 if several else 2)):
                    coroutine = adds(depth) if self.chance(0.2) else self.body(depth)
                    self.know(group.create_task(coroutine, name="named" if self.chance(0.2) else None))
                    if self.chance(0.2):
                        await self.aio.sleep(0)
                if self.chance(0.3):
                    await self.child(depth)
                if self.chance(0.1):
                    raise Failure("in the group")
        finally:
            self.tell("group", self.aio.current_task().cancelling())
        return "group"

    async def do_ensure_future(self, depth):
        child = self.child(depth)
        future = self.aio.ensure_future(child, loop=self.loop if self.chance(0.5) else None)
        self.tell("same", future is child)
        self.know(future)
        if self.chance(0.2):
            return "let go"
        return await future
