"""The event loop: the code of every callback is native, the cold code is asyncio's own Python.

`Loop` takes its methods from the native `EventLoop` first and from asyncio's selector loop second.
So connecting, serving, executors, subprocesses and the texts of reports are those of the running
version without a line of ours. This has a price: asyncio's code expects its private attributes,
which `__init__` makes here, and a selector and a self-pipe, which this loop does not have. The
methods that use those two are replaced below.
"""

import functools
import os
import selectors
import signal
import socket
import sys
import warnings
import weakref
from asyncio import constants, coroutines, tasks, unix_events
from asyncio.log import logger

# The names are our own: blockbuster replaces the functions of `os` by ones that let only asyncio's
# file call them in a coroutine.
from os import stat as _stat
from os import unlink as _unlink

from .._aioxide import EventLoop
from .._for_programs import native_selector, own_selector, waiting_handles
from . import resolver, subprocess

try:
    from . import tls
except ImportError:  # a Python without the ssl module
    tls = None

# This is asyncio's class before install() puts ours under its name.
_SelectorEventLoop = unix_events._UnixSelectorEventLoop
_CLEANS_UNIX_SOCKETS = sys.version_info >= (3, 13)
_ASKS_FOR_DESCRIPTOR = sys.version_info >= (3, 12)

# Since 3.12 asyncio itself takes the wake-up descriptor from a forked child.
_FORK_KEEPS_WAKEUP = sys.version_info < (3, 12)
_woken_by_signals = weakref.WeakSet()


class _CallersSocket:
    """Stands for a socket that the caller has given to a server that could not be made. It accepts
    no more, but stays open."""

    def __init__(self, sock):
        self.fileno = sock.fileno

    def close(self):
        pass


def _closed_unless_returned(create):
    """Run create_server() or create_unix_server(), and close the server if the caller never gets it
    because it was cancelled meanwhile. A socket of the caller's stays open."""

    @functools.wraps(create)
    async def create_server(self, *args, start_serving=True, **options):
        server = await create(self, *args, start_serving=False, **options)
        if start_serving:
            try:
                server._start_serving()
                await tasks.sleep(0)
            except BaseException:
                sock = options.get("sock")
                if sock is not None:
                    server._sockets = [_CallersSocket(sock)]
                    if _CLEANS_UNIX_SOCKETS:
                        self._unix_server_sockets.pop(sock, None)
                server.close()
                raise
        return server

    return create_server


class Loop(EventLoop, _SelectorEventLoop):
    """aioxide's event loop.

    With a selector of the program's own it is asyncio's own loop, which waits by that selector. A
    selector of the standard library's is not used, and is closed with the loop.
    """

    # The attributes that asyncio's methods set on a loop. They are slots, so that the loop has no
    # __dict__ until the program sets another attribute, which the native base takes for an
    # override.
    __slots__ = (
        "_asyncgens",
        "_asyncgens_shutdown_called",
        "_coroutine_origin_tracking_enabled",
        "_coroutine_origin_tracking_saved_depth",
        "_exception_handler",
        "_old_agen_hooks",
        "_resolver_threads",
        "_shown_selector",
        "_signal_handlers",
        "_transports",
        "_unix_server_sockets",
        "_unused_selector",
    )

    # True for the loops of own_selector. A loop without the attribute is of asyncio's class alone.
    _is_asyncios = False

    def __init__(self, selector=None):
        if own_selector.is_wanted(self, selector):
            own_selector.make(self, selector)
            return
        if type(self) is not Loop:
            own_selector.native_made(self)
        self._unused_selector = selector
        self._shown_selector = None
        self._resolver_threads = None
        self._default_executor = None
        self._executor_shutdown_called = False
        self._exception_handler = None
        self._old_agen_hooks = None
        self._asyncgens = weakref.WeakSet()
        self._asyncgens_shutdown_called = False
        self._coroutine_origin_tracking_enabled = False
        self._coroutine_origin_tracking_saved_depth = None
        self._transports = weakref.WeakValueDictionary()
        self._signal_handlers = {}
        if _CLEANS_UNIX_SOCKETS:
            self._unix_server_sockets = {}
        self.set_debug(coroutines._is_debug_mode())

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        own_selector.class_made(cls)

    def close(self):
        """Drop what is scheduled, and give signals and executors back. A running loop refuses."""
        if getattr(self, "_is_asyncios", True):
            _SelectorEventLoop.close(self)
            return
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        if self._debug:
            logger.debug("Close %r", self)
        self._close_native()
        self._executor_shutdown_called = True
        for name in ("_default_executor", "_resolver_threads"):
            executor = getattr(self, name)
            if executor is not None:
                setattr(self, name, None)
                executor.shutdown(wait=False)
        if self._unused_selector is not None:
            self._unused_selector.close()
            self._unused_selector = None
        self._shown_selector = None
        self._release_signals()

    # Every native type has a finaliser; the loop's does what asyncio's does.
    __del__ = _SelectorEventLoop.__del__

    def _release_signals(self):
        if not sys.is_finalizing():
            for number in list(self._signal_handlers):
                self.remove_signal_handler(number)
        elif self._signal_handlers:
            warnings.warn(
                f"Closing the loop {self!r} on interpreter shutdown stage, "
                f"skipping signal handlers removal",
                ResourceWarning,
                stacklevel=1,
                source=self,
            )
            self._signal_handlers.clear()

    # Name resolution.

    async def getaddrinfo(self, host, port, *, family=0, type=0, proto=0, flags=0):  # noqa: A002
        """socket.getaddrinfo() without blocking the loop."""
        look_up = self._getaddrinfo_debug if self._debug else socket.getaddrinfo
        arguments = host, port, family, type, proto, flags
        if resolver.address_needs_no_thread(host, port, flags):
            self._check_closed()
            return look_up(*arguments)
        return await self._resolve(look_up, *arguments)

    async def getnameinfo(self, sockaddr, flags=0):
        """socket.getnameinfo() without blocking the loop."""
        if resolver.name_needs_no_thread(flags):
            self._check_closed()
            return socket.getnameinfo(sockaddr, flags)
        return await self._resolve(socket.getnameinfo, sockaddr, flags)

    def _resolve(self, look_up, *arguments):
        self._check_closed()
        self._check_default_executor()
        if self._resolver_threads is None:
            self._resolver_threads = resolver.make_threads()
        return self.run_in_executor(self._resolver_threads, look_up, *arguments)

    if sys.version_info >= (3, 12):

        async def shutdown_default_executor(self, timeout=None):
            """Wait for the threads of the default executor and of look-ups to end."""
            self._leave_look_ups_to_shutdown()
            await super().shutdown_default_executor(timeout)
    else:

        async def shutdown_default_executor(self):
            """Wait for the threads of the default executor and of look-ups to end."""
            self._leave_look_ups_to_shutdown()
            await super().shutdown_default_executor()

    def _leave_look_ups_to_shutdown(self):
        # Without a default executor asyncio's method does nothing.
        if self._default_executor is None:
            self._default_executor, self._resolver_threads = self._resolver_threads, None

    def _do_shutdown(self, future):
        if self._resolver_threads is not None:
            self._resolver_threads.shutdown(wait=True)
        super()._do_shutdown(future)

    # Servers.

    create_server = _closed_unless_returned(_SelectorEventLoop.create_server)
    create_unix_server = _closed_unless_returned(_SelectorEventLoop.create_unix_server)

    # Signals: add_signal_handler(), remove_signal_handler() and _handle_signal() are asyncio's. The
    # native loop calls _process_self_data() with the bytes that the wake-up descriptor received.

    if _FORK_KEEPS_WAKEUP:

        def add_signal_handler(self, sig, callback, *args):
            """As asyncio's; a forked child's signals do not reach this loop."""
            super().add_signal_handler(sig, callback, *args)
            _woken_by_signals.add(self)

    @property
    def _csock(self):
        """The object whose descriptor add_signal_handler() writes signals to."""
        return None if self.is_closed() else _WakeupDescriptor(self)

    @property
    def _ssock(self):
        """The other end. Nothing uses it, but asyncio's code expects both or neither."""
        return self._csock

    @property
    def _internal_fds(self):
        return 0 if self.is_closed() else 1

    def _add_callback(self, handle):
        """Run a Handle of asyncio's in the next iteration."""
        if not handle._cancelled:
            EventLoop.call_soon(self, _run_handle, handle)

    # TLS.

    def _make_ssl_transport(
        self,
        rawsock,
        protocol,
        sslcontext,
        waiter=None,
        *,
        server_side=False,
        server_hostname=None,
        extra=None,
        server=None,
        ssl_handshake_timeout=constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout=constants.SSL_SHUTDOWN_TIMEOUT,
        **context,
    ):
        """TLS over a native transport."""
        if _ASKS_FOR_DESCRIPTOR:
            self._ensure_fd_no_transport(rawsock)
        below = tls.SSLProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        self._make_socket_transport(rawsock, below, extra=extra, server=server, **context)
        return below._app_transport

    async def start_tls(
        self,
        transport,
        protocol,
        sslcontext,
        *,
        server_side=False,
        server_hostname=None,
        ssl_handshake_timeout=None,
        ssl_shutdown_timeout=None,
    ):
        """Upgrade a transport to TLS; return the transport that the protocol goes on with."""
        if tls is None:
            raise RuntimeError("Python ssl module is not available")
        return await tls.start_tls(
            self,
            transport,
            protocol,
            sslcontext,
            server_side,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    if _CLEANS_UNIX_SOCKETS:

        def _stop_serving(self, sock):
            """Close a listening socket; remove its file if it is still the one that was bound."""
            inode = self._unix_server_sockets.pop(sock, None)
            path = sock.getsockname() if inode is not None else None
            EventLoop._stop_serving(self, sock)
            if path is None:
                return
            try:
                if _stat(path).st_ino == inode:
                    _unlink(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                logger.error("Unable to clean up listening UNIX socket %r: %r", path, error)

    _make_subprocess_transport = subprocess.make_transport

    @property
    def _nest_patched(self):
        """The mark that nest_asyncio.apply() looks for: this loop can run while it runs."""
        from .._for_programs import nesting

        if not nesting.is_wanted():
            raise AttributeError(f"{type(self).__name__!r} object has no attribute '_nest_patched'")
        nesting.allow(Loop)
        return True

    # For programs that look into the queue, the timers and the selector.

    @property
    def _selector(self):
        if self._shown_selector is None and not self.is_closed():
            self._shown_selector = native_selector.NativeSelector(self)
        return self._shown_selector

    @_selector.setter
    def _selector(self, selector):
        if isinstance(selector, selectors.BaseSelector) and selector is not self._shown_selector:
            own_selector.change(self, selector)
        else:
            self._shown_selector = selector

    def _process_events(self, events):
        """Pass on the events that a function in the place of the selector's select() has added."""
        added = [event for event in events if type(event[0]) is not native_selector.Key]
        super()._process_events(added)

    @property
    def _ready(self):
        return waiting_handles.Ready(self)

    @_ready.setter
    def _ready(self, handles):
        waiting_handles.Ready(self).replace(handles)

    @property
    def _scheduled(self):
        return waiting_handles.Scheduled(self)

    @_scheduled.setter
    def _scheduled(self, handles):
        waiting_handles.Scheduled(self).replace(handles)

    # These methods have no self-pipe and no list of handles to work on.

    def _not_here(self, *args, **kwargs):
        raise NotImplementedError("aioxide's loop lacks this inner method of asyncio's loop")

    _call_soon = _make_self_pipe = _close_self_pipe = _read_from_self = _not_here


Loop.__module__ = "aioxide"
own_selector.begin(Loop)


def _run_handle(handle):
    # The handle may have been cancelled since it was scheduled.
    if not handle._cancelled:
        handle._run()


class _WakeupDescriptor:
    """Stands for the writing end of asyncio's self-pipe."""

    __slots__ = ("fileno",)

    def __init__(self, loop):
        self.fileno = loop._signal_wakeup_fd


def _forget_wakeup():
    """Forget the wake-up descriptor in a forked child, whose signals are not for the parent's
    loop."""
    try:
        descriptor = signal.set_wakeup_fd(-1)
    except ValueError:
        return  # forked by another thread than the main one
    if all(descriptor != loop._signal_wakeup_fd() for loop in _woken_by_signals):
        signal.set_wakeup_fd(descriptor)


if _FORK_KEEPS_WAKEUP:
    os.register_at_fork(after_in_child=_forget_wakeup)
