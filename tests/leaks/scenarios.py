"""Small programs that must leave nothing behind; each takes the module under test."""

import asyncio
import contextlib
import contextvars
import gc
import os
import socket
import sys
import tempfile

ALL = {}
variable = contextvars.ContextVar("variable")


def whole(function):
    """A scenario that makes its own loops."""
    ALL[function.__name__] = function
    return function


def on_loop(function):
    """A coroutine function that runs on a fresh loop, which is closed afterwards."""

    def play(aio):
        loop = aio.new_event_loop()
        loop.set_exception_handler(lambda loop, report: None)
        try:
            loop.run_until_complete(function(aio, loop))
        finally:
            loop.close()

    ALL[function.__name__] = play
    return function


async def one():
    await asyncio.sleep(0)
    return object()


async def fails():
    await asyncio.sleep(0)
    raise ValueError(object())


@whole
def loop_opened_and_closed(aio):
    aio.new_event_loop().close()


@whole
def loop_never_closed(aio):
    loop = aio.new_event_loop()
    loop.call_soon(print)
    loop.call_later(1000, print, loop)


@whole
def loop_never_closed_after_use(aio):
    loop = aio.new_event_loop()
    loop.run_until_complete(one())


@whole
def loop_holds_itself(aio):
    loop = aio.new_event_loop()
    loop.own = loop
    loop.call_soon(lambda: loop)
    loop.create_future().add_done_callback(lambda future: loop)
    loop.close()


@whole
def loop_in_debug_mode(aio):
    loop = aio.new_event_loop()
    loop.set_debug(True)
    loop.call_later(1000, print).cancel()
    loop.run_until_complete(one())
    loop.close()


@whole
def run(aio):
    aio.run(one())


@whole
def loop_subclasses(aio):
    opened = aio.new_event_loop()

    class Loop(type(opened)):
        def call_soon(self, callback, *args, context=None):
            return super().call_soon(callback, *args, context=context)

    opened.close()
    loop = Loop()
    loop.run_until_complete(one())
    loop.close()


@on_loop
async def tasks(aio, loop):
    await asyncio.gather(*(loop.create_task(one(), name=str(n)) for n in range(5)))
    await aio.Task(one(), loop=loop, context=contextvars.copy_context())
    task = loop.create_task(one())
    task.add_done_callback(lambda task: task.result())
    task.remove_done_callback(print)
    await task
    repr(task), task.get_stack(), task.get_name(), task.get_coro()
    aio.all_tasks(), aio.current_task()


@on_loop
async def tasks_cancelled(aio, loop):
    async def waits(future):
        variable.set(object())
        try:
            await future
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            raise

    futures = [loop.create_future() for _ in range(3)]
    waiting = [loop.create_task(waits(future)) for future in futures]
    never_begun = loop.create_task(waits(futures[0]))
    never_begun.cancel("a message")
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel(object())
    await asyncio.wait([*waiting, never_begun])
    with contextlib.suppress(asyncio.CancelledError):
        await waiting[0]


@on_loop
async def tasks_that_fail(aio, loop):
    task = loop.create_task(fails())
    with contextlib.suppress(ValueError):
        await task
    loop.create_task(fails())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.gather(loop.create_task(fails()), return_exceptions=True)


@on_loop
async def tasks_that_wait_for_the_wrong_thing(aio, loop):
    class Awaitable:
        def __init__(self, value):
            self.value = value

        def __await__(self):
            yield self.value

    async def awaits(value):
        await Awaitable(value)

    for value in (object(), 3, loop.create_future(), aio.Future(loop=aio.new_event_loop())):
        with contextlib.suppress(RuntimeError):
            await loop.create_task(awaits(value))
    holder = []
    holder.append(loop.create_task(awaits_first(holder)))
    with contextlib.suppress(RuntimeError):
        await holder[0]
    del holder[:]


async def awaits_first(holder):
    await holder[0]


@whole
def tasks_left_pending(aio):
    loop = aio.new_event_loop()
    loop.set_exception_handler(lambda loop, report: None)

    async def waits():
        await loop.create_future()

    task = loop.create_task(waits())
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    task.holds_itself = task


@whole
def tasks_never_begun(aio):
    loop = aio.new_event_loop()
    loop.set_exception_handler(lambda loop, report: None)
    loop.create_task(one())
    loop.close()


@on_loop
async def tasks_ended_through_future(aio, loop):
    """What is done must not stay in the thread's list: a debug build aborts in all_tasks()."""
    for end in (
        lambda task: aio.Future.set_result(task, object()),
        lambda task: aio.Future.set_exception(task, ValueError()),
        aio.Future.cancel,
    ):
        task = loop.create_task(one())
        end(task)
        assert task not in asyncio.all_tasks(loop)
        await asyncio.wait([task])
        task.cancelled() or task.exception()


@on_loop
async def tasks_initialized_again(aio, loop):
    task = aio.Task(one(), loop=loop)
    await task
    coro = one()
    with contextlib.suppress(RuntimeError):
        task.__init__(coro, loop=loop)
        assert task in asyncio.all_tasks(loop)
        await task
    coro.close()
    with contextlib.suppress(TypeError):
        aio.Task(object(), loop=loop)
    with contextlib.suppress(TypeError):
        aio.Task()
    aio.Task.__new__(aio.Task)


@on_loop
async def eager_tasks(aio, loop):
    async def at_once():
        return object()

    if sys.version_info < (3, 12):
        await aio.Task(at_once(), loop=loop)
        return
    await aio.Task(at_once(), loop=loop, eager_start=True)
    await aio.Task(one(), loop=loop, eager_start=True)
    loop.set_task_factory(asyncio.eager_task_factory)
    await asyncio.gather(loop.create_task(at_once()), loop.create_task(one()))
    with contextlib.suppress(ValueError):
        await loop.create_task(fails())


@on_loop
async def task_subclasses(aio, loop):
    class Task(aio.Task):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.own = self

        def cancel(self, msg=None):
            return super().cancel(msg)

    task = Task(one(), loop=loop)
    await task
    task = Task(one(), loop=loop)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    loop.set_task_factory(lambda loop, coro, **kwargs: Task(coro, loop=loop, **kwargs))
    with contextlib.suppress(ValueError):
        await loop.create_task(fails())


@on_loop
async def futures(aio, loop):
    def callback(future):
        pass

    future = loop.create_future()
    for _ in range(3):
        future.add_done_callback(callback)
        future.add_done_callback(lambda future: future, context=contextvars.copy_context())
    future.remove_done_callback(callback)
    future.set_result(object())
    await future
    future.add_done_callback(callback)
    repr(future), future.result(), future.exception(), future.get_loop()
    for error in (ValueError(object()), ValueError, StopIteration):
        failed = aio.Future(loop=loop)
        with contextlib.suppress(TypeError):
            failed.set_exception(error)
            with contextlib.suppress(ValueError, RuntimeError):
                await failed
            with contextlib.suppress(ValueError, RuntimeError):
                failed.result()
            failed.exception()
    with contextlib.suppress(asyncio.InvalidStateError):
        future.set_result(1)
    with contextlib.suppress(asyncio.InvalidStateError):
        loop.create_future().result()
    cancelled = loop.create_future()
    cancelled.cancel(object())
    with contextlib.suppress(asyncio.CancelledError):
        await cancelled
    await asyncio.sleep(0)


@on_loop
async def futures_never_looked_at(aio, loop):
    loop.create_future().set_exception(ValueError(object()))
    loop.create_future().add_done_callback(print)


@on_loop
async def future_subclasses(aio, loop):
    class Future(aio.Future):
        def add_done_callback(self, callback, *, context=None):
            self.callback = callback
            super().add_done_callback(callback, context=context)

    future = Future(loop=loop)
    loop.call_soon(future.set_result, future)
    await future

    async def waits(future):
        await future

    future = Future(loop=loop)
    task = loop.create_task(waits(future))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


@on_loop
async def futures_by_hand(aio, loop):
    """Iterators of futures, driven as a generator is."""
    for ends in (True, False):
        future = loop.create_future()
        iterator = future.__await__()
        next(iterator)
        if not ends:
            iterator.close()
            continue
        future.set_result(object())
        with contextlib.suppress(StopIteration):
            iterator.send(None)
    iterator = loop.create_future().__await__()
    with contextlib.suppress(ValueError):
        iterator.throw(ValueError(object()))


@on_loop
async def cycles(aio, loop):
    future = loop.create_future()
    future.add_done_callback(lambda _: future)
    future.own = future

    handle = loop.call_later(1000, lambda: handle)
    soon = loop.call_soon(lambda *args: soon, object())
    soon.cancel()

    async def waits():
        await loop.create_future()
        return task

    task = loop.create_task(waits())
    task.add_done_callback(lambda _: task)
    await asyncio.sleep(0)
    result = loop.create_future()
    result.set_result(result)
    failed = loop.create_future()
    error = ValueError()
    error.future = failed
    failed.set_exception(error)
    failed.exception()


@whole
def handles_that_hold_themselves(aio):
    """Waiting when the loop is closed or forgotten, run in debug mode, failed."""

    def wrong():
        return soon, timer, threadsafe, 1 / 0

    for debug, runs, closes in ((0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1), (1, 0, 1)):
        loop = aio.new_event_loop()
        loop.set_exception_handler(lambda loop, report: None)
        loop.set_debug(debug)
        soon = loop.call_soon(wrong)
        timer = loop.call_later(0 if runs else 1000, wrong)
        threadsafe = loop.call_soon_threadsafe(wrong)
        if runs:
            loop.call_later(0.0001, loop.stop)
            loop.run_forever()
        if closes:
            loop.close()


@on_loop
async def collected_while_running(aio, loop):
    future = loop.create_future()
    future.add_done_callback(lambda _: future)
    gc.collect(0)
    task = loop.create_task(one())
    gc.collect(0)
    await task


@on_loop
async def callbacks(aio, loop):
    done = loop.create_future()
    context = contextvars.copy_context()
    for _ in range(3):
        loop.call_soon(lambda *args: None, object(), 1, 2, 3, 4)
        loop.call_soon(lambda: None, context=context)
        loop.call_soon_threadsafe(lambda *args: None, object())
        loop.call_soon(print, object()).cancel()
        repr(loop.call_later(0, lambda: None))
        loop.call_at(loop.time(), lambda *args: None, object())
        loop.call_later(1000, print, object()).cancel()
    kept = loop.call_later(1000, print, object())
    loop.call_later(0.0001, done.set_result, None)
    await done
    kept.cancel()
    kept.when(), kept.cancelled(), kept == kept, hash(kept)
    with contextlib.suppress(TypeError):
        loop.call_soon()
    with contextlib.suppress(TypeError):
        loop.call_later("soon", print)


@on_loop
async def callbacks_that_fail(aio, loop):
    def wrong(*args):
        raise ValueError(object())

    loop.call_soon(wrong)
    loop.call_soon(wrong, object())
    loop.call_later(0, wrong)
    loop.call_soon_threadsafe(wrong)
    loop.call_soon(object)
    future = loop.create_future()
    future.add_done_callback(wrong)
    future.set_result(None)
    await asyncio.sleep(0.0001)
    await asyncio.sleep(0)


@whole
def callbacks_that_end_the_program(aio):
    def wrong():
        raise SystemExit(object())

    loop = aio.new_event_loop()
    loop.call_soon(wrong)
    loop.call_soon(object)
    with contextlib.suppress(SystemExit):
        loop.run_forever()
    loop.close()


@on_loop
async def sleeps(aio, loop):
    await aio.sleep(0, object())
    await aio.sleep(0.0001, object())
    await asyncio.sleep(0.0001)
    task = loop.create_task(aio.sleep(1000, object()))
    await aio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    aio.sleep(1).close()
    coro = aio.sleep(1000)
    coro.send(None)
    with contextlib.suppress(ValueError):
        coro.throw(ValueError(object()))
    coro = aio.sleep(1000)
    coro.send(None)
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(aio.sleep(1000), 0.0001)


@on_loop
async def echo(aio, loop):
    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"some data")
    writer.writelines([b"x" * 100_000, bytearray(b"y" * 10), memoryview(b"z")])
    await reader.readexactly(9 + 100_011)
    writer.get_extra_info("peername"), repr(writer.transport)
    writer.close()
    await writer.wait_closed()
    # left open by the client
    reader, writer = await asyncio.open_connection(*address)
    writer.transport.abort()
    server.close()
    await asyncio.sleep(0.001)


@on_loop
async def echo_with_streams(aio, loop):
    async def serve(reader, writer):
        while data := await reader.readline():
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for _ in range(3):
        writer.write(b"a line\n")
        await reader.readline()
    writer.write_eof()
    await reader.read()
    writer.close()
    await writer.wait_closed()
    server.close()
    await asyncio.sleep(0.001)


@on_loop
async def buffered_protocols(aio, loop):
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self):
            self.buffer = bytearray(100)
            self.done = loop.create_future()

        def get_buffer(self, hint):
            return self.buffer

        def buffer_updated(self, count):
            self.done.set_result(bytes(self.buffer[:count]))

    ours, theirs = socket.socketpair()
    with theirs:
        transport, protocol = await loop.create_connection(Buffered, sock=ours)
        theirs.send(b"data")
        await protocol.done
        transport.pause_reading()
        transport.resume_reading()
        transport.set_protocol(asyncio.Protocol())
        theirs.send(b"data")
        await asyncio.sleep(0)
        transport.close()
        await asyncio.sleep(0)


@on_loop
async def protocols_that_fail(aio, loop):
    class Wrong(asyncio.Protocol):
        def data_received(self, data):
            raise ValueError(object())

        def connection_lost(self, error):
            raise ValueError(error)

    ours, theirs = socket.socketpair()
    with theirs:
        await loop.create_connection(Wrong, sock=ours)
        theirs.send(b"data")
        await asyncio.sleep(0.001)
        await asyncio.sleep(0)


@whole
def transports_never_closed(aio):
    loop = aio.new_event_loop()
    ours, theirs = socket.socketpair()
    with theirs:
        loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
    loop.close()


@on_loop
async def executors(aio, loop):
    await loop.run_in_executor(None, object)
    await loop.shutdown_default_executor()


@on_loop
async def primitives(aio, loop):
    queue = asyncio.Queue(1)
    lock = asyncio.Lock()

    async def produce():
        for _ in range(3):
            async with lock:
                await queue.put(object())
        await queue.join()

    async def consume():
        for _ in range(3):
            await queue.get()
            queue.task_done()

    async with asyncio.TaskGroup() as group:
        group.create_task(produce())
        group.create_task(consume())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.0001):
            await loop.create_future()
    with contextlib.suppress(BaseExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            group.create_task(asyncio.sleep(1000))


@on_loop
async def pipes(aio, loop):
    class Wrong(asyncio.Protocol):
        def data_received(self, data):
            raise ValueError(object())

    for make in (asyncio.Protocol, Wrong):
        reader, writer = (open(fd, mode, 0) for fd, mode in zip(os.pipe(), ("rb", "wb")))
        receiver, _ = await loop.connect_read_pipe(make, reader)
        sender, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, writer)
        sender.write(b"data")
        await asyncio.sleep(0.0001)
        receiver.pause_reading()
        sender.write(bytearray(200_000))
        sender.write(b"more")
        repr(receiver), repr(sender), sender.get_extra_info("pipe")
        receiver.close()
        await asyncio.sleep(0.0001)
        sender.abort() if not sender.is_closing() else None
        await asyncio.sleep(0)
    with tempfile.TemporaryFile() as file, contextlib.suppress(ValueError):
        await loop.connect_read_pipe(asyncio.Protocol, file)
    reader, writer = os.pipe()
    task = loop.create_task(loop.connect_read_pipe(asyncio.Protocol, open(reader, "rb", 0)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    os.close(writer)
    await asyncio.sleep(0.0001)


@on_loop
async def children(aio, loop):
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1, stderr=-1)
    await process.communicate(b"data")
    repr(process._transport)
    process = await asyncio.create_subprocess_exec("sleep", "1000", stdin=-1)
    process.kill()
    await asyncio.gather(process.wait(), process.wait())


@on_loop
async def children_that_fail(aio, loop):
    with contextlib.suppress(FileNotFoundError):
        await asyncio.create_subprocess_exec("/no/such/program", stdin=-1, stdout=-1)
    for iterations in (1, 2, 3):
        create = asyncio.create_subprocess_exec("sleep", "1000", stdin=-1, stdout=-1)
        task = loop.create_task(create)
        for _ in range(iterations):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()._transport.close()
            await task.result().wait()

    class Wrong(asyncio.SubprocessProtocol):
        def __init__(self):
            self.lost = loop.create_future()

        def pipe_data_received(self, fd, data):
            raise ValueError(object())

        def connection_lost(self, error):
            self.lost.set_result(None)
            raise ValueError(error)

    transport, protocol = await loop.subprocess_exec(Wrong, "echo", stderr=None)
    await protocol.lost
    transport.close()

    async def connect_read_pipe(*args):
        raise ValueError(object())

    loop.connect_read_pipe = connect_read_pipe
    with contextlib.suppress(ValueError):
        await asyncio.create_subprocess_exec("sleep", "1000", stdin=-1, stdout=-1)
    del loop.connect_read_pipe


@whole
def children_left_to_a_closed_loop(aio):
    loop = aio.new_event_loop()
    process = loop.run_until_complete(asyncio.create_subprocess_exec("sleep", "1000", stdin=-1))
    popen = process._transport.get_extra_info("subprocess")
    loop.close()
    popen.kill()
    popen.wait()


@on_loop
async def functions_over_tasks(aio, loop):
    await aio.gather(one(), one(), loop.create_task(one()))
    await aio.gather(one(), fails(), return_exceptions=True)
    with contextlib.suppress(ValueError):
        await aio.gather(fails(), fails(), one())
    await aio.wait([loop.create_task(one()) for _ in range(3)])
    never = loop.create_future()
    await aio.wait([never, loop.create_task(fails())], timeout=0.001)
    for step in aio.as_completed([one(), fails(), never], timeout=0.01):
        with contextlib.suppress(ValueError, TimeoutError):
            await step
    with contextlib.suppress(ValueError):
        await aio.shield(fails())
    aio.shield(never).cancel()
    await aio.sleep(0)
    never.cancel()


@on_loop
async def limits_and_groups(aio, loop):
    await aio.wait_for(one(), 10)
    for delay in (0, 0.001):
        with contextlib.suppress(TimeoutError):
            await aio.wait_for(aio.sleep(10), delay)
        with contextlib.suppress(TimeoutError):
            async with aio.timeout(delay):
                await aio.sleep(10)
    async with aio.timeout(10) as timeout, aio.TaskGroup() as group:
        group.create_task(one())
        timeout.owner = group
        group.owner = timeout
    with contextlib.suppress(BaseExceptionGroup):
        async with aio.TaskGroup() as group:
            group.create_task(fails())
            await aio.sleep(10)
    outer = aio.gather(aio.sleep(10), aio.sleep(10))
    await aio.sleep(0)
    outer.cancel()
    with contextlib.suppress(aio.CancelledError):
        await outer


@on_loop
async def functions_over_tasks_abandoned(aio, loop):
    never = loop.create_future()
    never.self = [aio.shield(never), aio.gather(never), aio.as_completed([never])]
    never.add_done_callback(never.self.append)
    waiting = aio.wait([never])
    waiting.send(None)
    waiting.close()
