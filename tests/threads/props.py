"""The stage of tests/threads/misuse.py: two loops on two threads, and one object of each kind that
has methods, made anew again and again."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import os
import signal
import socket
import ssl
import tempfile
import threading

import calling

# Of each kind, the number of objects that stay on the stage.
KEPT = 3


class Protocol(asyncio.Protocol):
    """Takes all that comes, as any kind of protocol, and sends some of it back."""

    transport = None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if self.transport is not None and len(data) < 100:
            self.transport.write(data)

    def datagram_received(self, data, address):
        pass

    def error_received(self, error):
        pass


class Stage:
    """One loop with its props. `aio` is the module under test."""

    SIGNAL = signal.SIGUSR2

    def __init__(self, aio, loop, certificate=None, only=None):
        self.aio = aio
        self.loop = loop
        self.only = only
        self.context = contextvars.copy_context()
        self.protocol = Protocol
        self.folder = tempfile.mkdtemp()
        self.files = 0
        self.props = {}
        # All that there were: the last ones may run when they have left the stage.
        self.spares = []
        self.lock = threading.Lock()
        # Descriptors that stay open, so that no call ever meets another's.
        self.watched = [sock for _ in range(3) for sock in socket.socketpair()]
        for sock in self.watched:
            sock.setblocking(False)
        self.server_context = self.client_context = None
        if certificate:
            self.server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.server_context.load_cert_chain(certificate)
            self.client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.client_context.check_hostname = False
            self.client_context.verify_mode = ssl.CERT_NONE
        self.reports = []
        self.poked = None
        self.add("loop", loop)

    # What stands on the stage.

    def add(self, kind, *values):
        """Put objects on the stage; the oldest of the kind leave it."""
        if calling.FRAMES_ARE_UNSAFE:
            values = [value for value in values if not calling.is_coroutine_of_python(value)]
        if not values:
            return
        if kind == "spare loop":
            self.spares += values
        with self.lock:
            self.props[kind] = (*values, *self.props.get(kind, ()))[:KEPT]

    def kinds(self):
        """The kinds of which something is there."""
        return [kind for kind in self.props.copy() if not self.only or kind in self.only]

    def pick(self, kind, random):
        """An object of a kind, whose name may begin with a word more; None if there is none."""
        fitting = [
            values
            for name, values in self.props.copy().items()
            if name == kind or name.endswith(f" {kind}")
        ]
        return random.choice(random.choice(fitting)) if fitting else None

    def take(self, value, random):
        """Do something with what a call has returned: mostly, let others use it."""
        if hasattr(value, "send") and hasattr(value, "close") and not isinstance(value, socket.socket):
            self.take_coroutine(value, random)
        elif isinstance(value, asyncio.TimerHandle):
            self.add("timer handle", value)
        elif isinstance(value, asyncio.Handle):
            self.add("handle", value)
        elif isinstance(value, asyncio.Task):
            self.add("task", value)
        elif isinstance(value, asyncio.Future):
            self.add("future", value)
        elif isinstance(value, asyncio.AbstractServer):
            self.add("server", value)
        elif isinstance(value, tuple) and value and isinstance(value[0], asyncio.BaseTransport):
            self.add("transport", value[0])

    def take_coroutine(self, value, random):
        """Close it, run it on the loop, start it here, or let everybody have it."""
        way = random.randrange(4)
        if way == 0:
            value.close()
        elif way == 1:
            future = asyncio.run_coroutine_threadsafe(value, self.loop)
            future.add_done_callback(lambda future: self.note_outcome(future, random))
        elif way == 2 or (calling.FRAMES_ARE_UNSAFE and calling.is_coroutine_of_python(value)):
            with contextlib.suppress(StopIteration):
                value.send(None)
            value.close()
        else:
            self.add("coroutine", value)

    def note_outcome(self, future, random):
        """What a coroutine of a stranger's has returned is used as well."""
        if not future.cancelled() and future.exception() is None:
            self.take(future.result(), random)

    # What arguments are made of.

    def note(self, *args):
        """A callback that does nothing."""

    def fail(self, *args):
        """A callback that raises."""
        raise ValueError("of a callback")

    def poke(self, *args):
        """A callback that misuses the stage itself."""
        if self.poked is not None:
            self.poked()

    def handle_report(self, loop, report):
        """The exception handler, which looks for what no program may cause."""
        self.reports.append(report.get("exception"))

    def task_factory(self, loop, coro, **options):
        """What asyncio does without a factory."""
        options.pop("eager_start", None)
        return self.aio.Task(coro, loop=loop, **options)

    def cancelled(self):
        """An exception that ends a task as cancelled."""
        return asyncio.CancelledError("of a stranger")

    def coroutine(self, random):
        """A fresh coroutine object, with a frame or without."""
        aio = self.aio
        make = random.choice([
            self.wait_a_little,
            self.wait_a_little,
            lambda: aio.sleep(0),
            lambda: aio.sleep(0.001, "slept"),
            lambda: self.shared("lock", "acquire", random),
            lambda: self.shared("queue", "get", random),
            lambda: self.shared("event", "wait", random),
            lambda: aio.to_thread(self.note),
        ])
        return make()

    def shared(self, kind, method, random):
        """A coroutine of a method of a prop."""
        prop = self.pick(kind, random)
        return self.wait_a_little() if prop is None else getattr(prop, method)()

    async def wait_a_little(self):
        """A coroutine of Python code."""
        for _ in range(3):
            await asyncio.sleep(0)

    def connected(self):
        """A connected socket; nobody keeps the other end, so it is at its end soon."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.send(b"last words")
        theirs.close()
        return ours

    def pipe(self):
        """The two ends of a pipe, as files."""
        reader, writer = os.pipe()
        return os.fdopen(reader, "rb", 0), os.fdopen(writer, "wb", 0)

    def open_file(self):
        """A file to send."""
        file = tempfile.TemporaryFile()
        file.write(bytes(1000))
        file.seek(0)
        return file

    def unix_path(self):
        """Where no socket is yet."""
        with self.lock:
            self.files += 1
            return os.path.join(self.folder, f"{self.files}.sock")

    # The making of props, on the loop's own thread.

    async def make(self):
        """A new object of each kind."""
        await self.make_futures()
        self.make_primitives()
        await self.make_connections()
        await self.make_others()

    async def make_futures(self):
        """Futures, tasks, handles, and what waits for several."""
        aio, loop = self.aio, self.loop
        future = loop.create_future()
        self.add("future", future, aio.Future(loop=loop))
        task = loop.create_task(self.wait_for(future))
        self.add("task", task, loop.create_task(self.wait_a_little()), loop.create_task(aio.sleep(0.01)))
        self.add("handle", loop.call_soon(self.note))
        self.add("handle", loop.call_soon_threadsafe(self.note))
        self.add("timer handle", loop.call_later(0.005, self.note), loop.call_later(5, self.note))
        self.add("gathering future", aio.gather(loop.create_future(), aio.sleep(0.005)))
        self.add("shielding future", aio.shield(loop.create_future()))
        self.add("waiting task", loop.create_task(aio.wait([future, loop.create_task(aio.sleep(0.01))])))
        self.add("limited task", loop.create_task(aio.wait_for(loop.create_future(), 0.01)))
        self.add("completed iterator", aio.as_completed([loop.create_future(), loop.create_future()]))
        self.add("task", loop.create_task(self.hold_timeout()), loop.create_task(self.hold_group()))
        self.add("iterator", loop.create_future().__await__())
        self.add("coroutine", aio.sleep(0), aio.sleep(0.005), aio.to_thread(self.note))
        # In a free-threaded build, collections of garbage beside tasks of asyncio's hang (gh-153809).
        if not calling.FREE_THREADED:
            self.add("foreign task", asyncio.Task(self.wait_a_little(), loop=loop))

    async def wait_for(self, future):
        """A coroutine that awaits a future that others end."""
        return await future

    async def hold_timeout(self):
        """A timeout in use."""
        async with self.aio.timeout(0.02) as timeout:
            self.add("timeout", timeout)
            await self.loop.create_future()

    async def hold_group(self):
        """A task group in use."""
        async with self.aio.TaskGroup() as group:
            self.add("task group", group)
            group.create_task(self.aio.sleep(0.005))
            group.create_task(self.aio.sleep(0))

    def make_primitives(self):
        """Locks and queues."""
        aio = self.aio
        self.add("lock", aio.Lock())
        self.add("event", aio.Event())
        condition = aio.Condition()
        self.add("condition", condition)
        self.add("semaphore", aio.Semaphore(2), aio.BoundedSemaphore(2))
        self.add("barrier", aio.Barrier(2))
        self.add("queue", aio.Queue(), aio.Queue(2))
        self.add("ordered queue", aio.LifoQueue(2), aio.PriorityQueue())
        # asyncio's lock is in the condition: both are one another's
        self.add("lock", condition._lock)
        lock, queue, event = aio.Lock(), aio.Queue(), aio.Event()
        self.add("coroutine", lock.acquire(), queue.get(), event.wait())

    async def make_connections(self):
        """Transports of each kind, with streams above some of them."""
        aio, loop = self.aio, self.loop
        ours, theirs = socket.socketpair()
        transport, protocol = await loop.create_connection(Protocol, sock=ours)
        other, _ = await loop.create_connection(Protocol, sock=theirs)
        self.add("stream transport", transport, other)
        transport.write(b"begin")
        ours, theirs = socket.socketpair()
        reader, writer = await aio.open_connection(sock=ours)
        _, other = await aio.open_connection(sock=theirs)
        self.add("reader", reader)
        self.add("writer", writer, other)
        self.add("stream protocol", writer.transport.get_protocol())
        self.add("coroutine", reader.read(10), writer.drain())
        reader_end, writer_end = self.pipe()
        taking, _ = await loop.connect_read_pipe(Protocol, reader_end)
        putting, _ = await loop.connect_write_pipe(Protocol, writer_end)
        self.add("pipe transport", taking, putting)
        datagrams, _ = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
        self.add("datagram transport", datagrams)
        self.add("server", await loop.create_server(Protocol, "127.0.0.1", 0))
        if self.server_context is not None:
            await self.make_tls()

    async def make_tls(self):
        """Both ends of a TLS connection."""
        ours, theirs = socket.socketpair()
        accepting = self.loop.create_task(
            self.loop.connect_accepted_socket(Protocol, theirs, ssl=self.server_context)
        )
        transport, _ = await self.loop.create_connection(
            Protocol, sock=ours, ssl=self.client_context, server_hostname="localhost"
        )
        other, _ = await accepting
        transport.write(b"begin")
        self.add("tls transport", transport, other)

    async def make_others(self):
        """Executors, spare loops."""
        executor = concurrent.futures.ThreadPoolExecutor(2)
        self.add("executor", executor)
        self.add("job", self.loop.run_in_executor(None, self.note))
        if self.loop._default_executor is not None:
            self.add("default executor", self.loop._default_executor)
        self.add("spare loop", self.aio.new_event_loop())
        self.add("coroutine", self.loop.sock_recv(self.watched[0], 10))

    def end_spares(self):
        """Stops the spare loops that somebody runs."""
        for spare in self.spares[-100:]:
            with contextlib.suppress(RuntimeError):
                spare.call_soon_threadsafe(spare.stop)
