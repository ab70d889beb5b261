"""Random programs of futures, tasks and callbacks: all that their methods can be asked for, at odd
moments and from odd places."""

import asyncio
import concurrent.futures
import contextvars
import sys
import types

import _asyncio
from observing import plain
from playing import Abort, Failure, Program, frames, told

VARIABLE = contextvars.ContextVar("VARIABLE", default=0)

# The accelerator's own, also after install().
_CFuture, _CTask = _asyncio.Future, _asyncio.Task


class Callback:
    """A callback with a number; equal to others of the same number, which counts in removals."""

    def __init__(self, program, number):
        self.program = program
        self.number = number

    def __eq__(self, other):
        return isinstance(other, Callback) and self.number == other.number

    def __hash__(self):
        return self.number

    def __repr__(self):
        return f"<callback {self.number}>"

    def __call__(self, *args):
        program = self.program
        names = [program.names.get(arg, "?") for arg in args]
        program.tell("called", self.number, names, VARIABLE.get(), program.aio.current_task() is None)
        for _ in range(program.random.randrange(3)):
            program.odd(self.number)
        choice = program.random.randrange(40)
        if choice < 4:
            raise Failure(self.number)
        if choice == 4:
            raise Abort(self.number)
        if choice == 5:
            raise program.random.choice([KeyboardInterrupt, SystemExit])(self.number)
        if choice == 6:
            raise asyncio.CancelledError(self.number)


class Futures(Program):
    """Futures of all makers, tasks that await them, callbacks that meddle with both."""

    def begin(self):
        self.loop.set_debug(self.chance(0.1))
        self.concurrent = []
        self.handles = []
        self.generators = []
        self.tasks = []
        self.contexts = [contextvars.copy_context() for _ in range(2)]
        for _ in range(self.random.randrange(1, 4)):
            self.future()
        for _ in range(self.random.randrange(1, 4)):
            self.task()

    def let_go(self):
        self.generators.clear()
        self.concurrent.clear()
        self.handles.clear()

    def future(self):
        choice = self.random.randrange(10)
        if choice == 0:
            future = asyncio.futures._PyFuture(loop=self.loop)
        elif choice == 1:
            future = _CFuture(loop=self.loop)
        elif choice == 2:
            self.concurrent.append(concurrent.futures.Future())
            future = self.aio.wrap_future(self.concurrent[-1], loop=self.loop)
        elif choice < 5:
            future = self.aio.Future(loop=self.loop)
        else:
            future = self.loop.create_future()
        self.tell("future", self.know(future))

    def task(self):
        # A task awaits those that are known before it alone: none waits for itself in a ring.
        known = list(self.names)
        coroutine = self.body(known)
        choice = self.random.randrange(12)
        if choice == 0 and sys.version_info < (3, 14):
            # later ones are no current task for the accelerator
            task = asyncio.tasks._PyTask(coroutine, loop=self.loop)
        elif choice == 1:
            task = _CTask(coroutine, loop=self.loop)
        elif choice == 2:
            which = self.random.randrange(len(self.contexts))
            self.tell("in context", which)
            task = self.loop.create_task(coroutine, context=self.contexts[which])
        elif choice == 3 and sys.version_info >= (3, 12):
            # it is known only once it has begun
            task = self.aio.Task(coroutine, loop=self.loop, eager_start=True)
        elif choice == 4:
            task = self.aio.Task(coroutine, loop=self.loop, name="named")
        else:
            task = self.loop.create_task(coroutine)
        self.tasks.append(task)
        self.tell("task", self.know(task), task.done())

    def meddle(self):
        choice = self.random.randrange(6)
        if choice == 0:
            self.odd("from outside")
        elif choice == 1:
            self.loop.call_soon(self.callback())
        elif choice == 2 and self.handles:
            self.handles.pop().cancel()

    def callback(self):
        return Callback(self, self.random.randrange(8))

    def target(self):
        return self.random.choice(list(self.names)[-10:])

    def anyone(self):
        """A future; rarely a task, which takes no result."""
        future = self.target()
        if future in self.tasks and self.chance(0.8):
            future = next((item for item in self.names if item not in self.tasks), future)
        return future

    # one operation

    def odd(self, who):
        """Something, now. What it raises is written down."""
        if not self.spend():
            return
        name = self.random.choice(ODD)
        try:
            result = getattr(self, "odd_" + name)()
        except (Exception, asyncio.CancelledError) as error:
            result = told(error), frames(error, __file__)
        self.tell(who, name, result)

    def odd_future(self):
        self.future()

    def odd_task(self):
        self.task()

    def odd_set_result(self):
        future = self.anyone()
        number = self.next()
        return self.names[future], future.set_result(number)

    def odd_set_exception(self):
        future = self.anyone()
        number = self.next()
        choices = [Failure(number), Failure, StopIteration(number), 42, Abort(number)]
        choices += [asyncio.CancelledError(number), Failure(number), Failure(number)]
        return self.names[future], future.set_exception(self.random.choice(choices))

    def odd_cancel(self):
        future = self.target()
        return self.names[future], future.cancel(*self.message())

    def odd_cancel_twice(self):
        future = self.target()
        return self.names[future], future.cancel(msg=self.next()), future.cancel(*self.message())

    def odd_uncancel(self):
        task = self.random.choice(self.tasks)
        return task.uncancel(), task.cancelling()

    def odd_add(self):
        future = self.target()
        which, context = self.random.choice([*enumerate(self.contexts), (None, None)])
        callback = self.callback()
        future.add_done_callback(callback, context=context)
        return self.names[future], callback.number, which

    def odd_add_more(self):
        future = self.target()
        callback = self.callback()
        for _ in range(self.random.randrange(1, 5)):
            future.add_done_callback(callback)
            future.add_done_callback(self.callback())
        return self.names[future], future.remove_done_callback(self.callback())

    def odd_remove(self):
        future = self.target()
        return self.names[future], future.remove_done_callback(self.callback())

    def odd_state(self):
        future = self.target()
        return self.names[future], future.done(), future.cancelled(), future.get_loop() is self.loop

    def odd_result(self):
        return plain(self.target().result())

    def odd_exception(self):
        return told(self.target().exception(), 0)

    def odd_message(self):
        return self.target()._cancel_message

    def odd_text(self):
        future = self.target()
        # it names awaited futures, and by whom they are, by their own callbacks
        return type(future).__name__, plain(future).partition(" wait_for=")[0].partition(" cb=")[0]

    def odd_callbacks(self):
        callbacks = getattr(self.target(), "_callbacks", None)
        return callbacks and [item[0].number for item in callbacks if isinstance(item[0], Callback)]

    def odd_name(self):
        task = self.random.choice(self.tasks)
        task.set_name(self.next())
        return task.get_name()

    def odd_stack(self):
        stack = [frame.f_code for frame in self.random.choice(self.tasks).get_stack()]
        return [code.co_name for code in stack if code.co_filename == __file__]

    def odd_all_tasks(self):
        return len(self.aio.all_tasks(self.loop))

    def odd_current(self):
        task = self.aio.current_task()
        return task and self.names.get(task)

    def odd_variable(self):
        VARIABLE.set(self.next())

    def odd_in_context(self):
        return self.random.choice(self.contexts).run(self.odd, "in a context")

    def odd_call_soon(self):
        context = self.random.choice([None, *self.contexts])
        self.handles.append(self.loop.call_soon(self.callback(), context=context))

    def odd_call_later(self):
        self.handles.append(self.loop.call_later(self.delay(), self.callback()))

    def odd_threadsafe(self):
        self.handles.append(self.loop.call_soon_threadsafe(self.callback()))

    def odd_handle_cancel(self):
        return self.handles.pop().cancel() if self.handles else None

    def odd_stop(self):
        if self.chance(0.3):
            self.loop.stop()

    def odd_concurrent(self):
        if not self.concurrent:
            return None
        future = self.concurrent.pop()
        choice = self.random.randrange(4)
        if choice == 0:
            return future.cancel()
        if choice == 1:
            return future.set_exception(Failure(self.next()))
        return future.set_result(self.next())

    def odd_run(self):
        return self.loop.run_until_complete(self.target())

    def odd_close(self):
        """A coroutine is closed, perhaps that of a task which runs."""
        # CPython 3.12.1 itself crashes over some of these, with asyncio alone.
        if self.chance(0.2) and sys.version_info[:2] != (3, 12):
            coroutine = self.random.choice(self.tasks).get_coro()
            # of an eager task that is done there is none
            return coroutine and coroutine.close()
        return None

    def odd_drop_generator(self):
        if self.generators:
            self.generators.pop()

    # tasks

    async def body(self, known):
        task = self.aio.current_task()
        number = self.know(task)
        if task not in self.tasks:
            self.tasks.append(task)
        for _ in range(self.random.randrange(1, 6)):
            try:
                await self.act(number, task, known)
            except asyncio.CancelledError as error:
                self.tell(number, "cancelled", told(error), task.cancelling(), frames(error, __file__))
                await self.handling(number, task, known)
                if self.chance(0.6):
                    raise
            except (Exception, Abort) as error:
                self.tell(number, "caught", told(error), frames(error, __file__))
                await self.handling(number, task, known)
                if self.chance(0.2):
                    raise
        choice = self.random.randrange(40)
        self.tell(number, "ends", choice, VARIABLE.get())
        if choice < 6:
            raise Failure(number)
        if choice < 8:
            raise asyncio.CancelledError(*self.message())
        if choice == 8:
            raise StopIteration(number)
        if choice == 9:
            raise Abort(number)
        if choice == 10:
            raise self.random.choice([KeyboardInterrupt, SystemExit])(number)
        return number

    async def act(self, number, task, known):
        if not self.spend():
            return
        choice = self.random.randrange(20)
        if choice < 7:
            self.odd(number)
        elif choice < 9:
            await self.aio.sleep(0)
        elif choice == 9:
            self.tell(number, "slept", await self.aio.sleep(self.delay(), self.next()))
        elif choice < 13 and known:
            future = self.random.choice(known[-6:])
            self.tell(number, "awaits", self.names[future])
            self.tell(number, "got", plain(await future))
        elif choice == 13:
            self.tell(number, "yields", await self.yields(task))
        elif choice == 14:
            self.tell(number, "iterates", await self.iterates(number))
        elif choice == 15:
            VARIABLE.set(number)
        elif choice == 16:
            task.cancel(*self.message())
        elif choice == 17:
            self.tell(number, "bare", await self.bare(known))
        else:
            await self.deeper(number, task, known)

    async def handling(self, number, task, known):
        """Goes on where an exception is being handled: it is the context of the next."""
        if self.chance(0.7):
            return
        try:
            await self.act(number, task, known)
        except Exception as error:
            self.tell(number, "handling", told(error))

    async def deeper(self, number, task, known):
        try:
            return await self.act(number, task, known)
        finally:
            self.odd(number)

    @types.coroutine
    def yields(self, task):
        """What a task can be given by its coroutine, sensible or not."""
        choice = self.random.randrange(6)
        if choice == 0:
            return (yield 42)
        if choice == 1:
            return (yield self.target())
        if choice == 2:
            return (yield task)
        if choice == 3:
            return (yield from (None, None))
        if choice == 4:
            return (yield iter(()))
        return (yield)

    @types.coroutine
    def bare(self, known):
        """A future without its own `__await__`."""
        future = self.random.choice(known[-6:]) if known else self.target()
        if future.done() or future in self.tasks:
            return "not now"
        future._asyncio_future_blocking = True
        return (yield future)

    async def generator(self, number):
        try:
            for step in range(3):
                yield step
                await self.aio.sleep(0)
        except GeneratorExit:
            self.tell(number, "generator exits")
            raise
        finally:
            self.tell(number, "generator", VARIABLE.get())
            await self.aio.sleep(0)
            self.odd("generator")

    async def iterates(self, number):
        generator = self.generator(number)
        choice = self.random.randrange(5)
        seen = []
        async for step in generator:
            seen.append(step)
            if step == choice:
                break
        if self.chance(0.3):
            await generator.aclose()
        elif self.chance(0.3):
            try:
                seen.append(await generator.athrow(Failure(number)))
            except (Failure, StopAsyncIteration) as error:
                seen.append(told(error))
        elif self.chance(0.5):
            self.generators.append(generator)
        return seen


ODD = sorted(name.removeprefix("odd_") for name in vars(Futures) if name.startswith("odd_"))
