"""The event loop: what runs per callback is native, what is cold is asyncio's own Python.

`Loop` takes its methods from the native `EventLoop` first and from asyncio's selector loop second.
So connecting, serving, executors, subprocesses and the texts of reports are those of the running
version without a line of ours. The price: asyncio's code expects its private attributes, which
`__init__` makes here, and a selector and a self-pipe, which this loop does not have. The methods
that touch those two are replaced below.
"""

import functools
import os
import signal
import socket
import sys
import warnings
import weakref
from asyncio import constants, coroutines, tasks, unix_events
from asyncio.log import logger

# By names of our own: blockbuster replaces those of `os` by functions that let asyncio's file
# alone call them in a coroutine.
from os import stat as _stat
from os import unlink as _unlink

from . import _resolver, _subprocess
from ._aioxide import EventLoop

try:
    from . import _tls
except ImportError:  # a Python without the ssl module
    _tls = None

# asyncio's class as it is now: install() puts ours under this name later.
_SelectorEventLoop = unix_events._UnixSelectorEventLoop
_CLEANS_UNIX_SOCKETS = sys.version_info >= (3, 13)
_ASKS_FOR_DESCRIPTOR = sys.version_info >= (3, 12)

# Since 3.12 asyncio takes the wake-up descriptor from a forked child by itself.
_FORK_KEEPS_WAKEUP = sys.version_info < (3, 12)
_woken_by_signals = weakref.WeakSet()


def _closed_unless_returned(create):
    """create_server() and create_unix_server(), but that a server is closed if the caller will
    never see it, being cancelled while it starts."""

    @functools.wraps(create)
    async def create_server(self, *args, start_serving=True, **options):
        server = await create(self, *args, start_serving=False, **options)
        if start_serving:
            try:
                server._start_serving()
                await tasks.sleep(0)
            except BaseException:
                server.close()
                raise
        return server

    return create_server


class Loop(EventLoop, _SelectorEventLoop):
    """aioxide's event loop.

    A selector passed by programs written for asyncio.SelectorEventLoop is not used; the loop owns
    and closes it all the same.
    """

    # What asyncio's methods keep on a loop. In slots, so that the loop has no __dict__ until the
    # program gives it an attribute, which the native base takes for an override.
    __slots__ = (
        "_asyncgens",
        "_asyncgens_shutdown_called",
        "_coroutine_origin_tracking_enabled",
        "_coroutine_origin_tracking_saved_depth",
        "_exception_handler",
        "_old_agen_hooks",
        "_resolver_threads",
        "_signal_handlers",
        "_transports",
        "_unix_server_sockets",
        "_unused_selector",
    )

    def __init__(self, selector=None):
        self._unused_selector = selector
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

    def close(self):
        """Drop what is scheduled, give signals and executors back; running loops refuse."""
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
        self._release_signals()

    # Every native type has a finaliser; what a loop does in its own is asyncio's.
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
                source=self,
            )
            self._signal_handlers.clear()

    # Name resolution.

    async def getaddrinfo(self, host, port, *, family=0, type=0, proto=0, flags=0):
        """socket.getaddrinfo() without blocking the loop."""
        look_up = self._getaddrinfo_debug if self._debug else socket.getaddrinfo
        arguments = host, port, family, type, proto, flags
        if _resolver.address_needs_no_thread(host, port, flags):
            self._check_closed()
            return look_up(*arguments)
        return await self._resolve(look_up, *arguments)

    async def getnameinfo(self, sockaddr, flags=0):
        """socket.getnameinfo() without blocking the loop."""
        if _resolver.name_needs_no_thread(flags):
            self._check_closed()
            return socket.getnameinfo(sockaddr, flags)
        return await self._resolve(socket.getnameinfo, sockaddr, flags)

    def _resolve(self, look_up, *arguments):
        self._check_closed()
        self._check_default_executor()
        if self._resolver_threads is None:
            self._resolver_threads = _resolver.make_threads()
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
        # asyncio's method does nothing without a default executor.
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
    # native loop calls _process_self_data() with what the wake-up descriptor received.

    if _FORK_KEEPS_WAKEUP:

        def add_signal_handler(self, sig, callback, *args):
            """asyncio's; a forked child's signals must not reach this loop."""
            super().add_signal_handler(sig, callback, *args)
            _woken_by_signals.add(self)

    @property
    def _csock(self):
        """What add_signal_handler() asks for the descriptor that signals are written to."""
        return None if self.is_closed() else _WakeupDescriptor(self)

    @property
    def _ssock(self):
        """The other end; nobody needs it, but both are there or neither."""
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
        tls = _tls.SSLProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        self._make_socket_transport(rawsock, tls, extra=extra, server=server, **context)
        return tls._app_transport

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
        if _tls is None:
            raise RuntimeError("Python ssl module is not available")
        return await _tls.start_tls(
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

    _make_subprocess_transport = _subprocess.make_transport

    @property
    def _nest_patched(self):
        """What nest_asyncio.apply() looks for: that this loop can run while it runs."""
        from . import _nesting

        if not _nesting.is_wanted():
            raise AttributeError(f"{type(self).__name__!r} object has no attribute '_nest_patched'")
        _nesting.allow(Loop)
        return True

    # There is no selector, no self-pipe and no list of handles for these to work on.

    def _not_here(self, *args, **kwargs):
        raise NotImplementedError("an inner method of asyncio's loop that aioxide's has no use for")

    _call_soon = _process_events = _not_here
    _make_self_pipe = _close_self_pipe = _read_from_self = _not_here


Loop.__module__ = "aioxide"


def _run_handle(handle):
    # It may have been cancelled since it was scheduled.
    if not handle._cancelled:
        handle._run()


class _WakeupDescriptor:
    """Stands where asyncio has the writing end of its self-pipe."""

    __slots__ = ("fileno",)

    def __init__(self, loop):
        self.fileno = loop._signal_wakeup_fd


def _forget_wakeup():
    """In a forked child: its signals are not for the parent's loop."""
    try:
        descriptor = signal.set_wakeup_fd(-1)
    except ValueError:
        return  # forked by another thread than the main one
    if all(descriptor != loop._signal_wakeup_fd() for loop in _woken_by_signals):
        signal.set_wakeup_fd(descriptor)


if _FORK_KEEPS_WAKEUP:
    os.register_at_fork(after_in_child=_forget_wakeup)
