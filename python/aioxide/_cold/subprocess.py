"""Starting child processes: the code that runs once for each, around the native transport."""

import contextlib
import subprocess
import sys
from asyncio import base_events, events
from asyncio.log import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ASKS_WHAT_IS_ENTERED = sys.version_info < (3, 12)


async def make_transport(
    loop: "Any",
    protocol: "Any",
    args: "Any",
    shell: bool,
    stdin: "Any",
    stdout: "Any",
    stderr: "Any",
    bufsize: int,
    extra: "Any" = None,
    **kwargs: "Any",
) -> "Any":
    """As asyncio's _make_subprocess_transport()."""
    watcher = _watcher_of_program()
    with watcher or contextlib.nullcontext() as entered:
        if _ASKS_WHAT_IS_ENTERED:
            watcher = entered
        if watcher is not None and not watcher.is_active():
            raise RuntimeError(
                "asyncio.get_child_watcher() is not activated, subprocess support is not installed."
            )
        popen = subprocess.Popen(
            args,
            shell=shell,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            universal_newlines=False,
            bufsize=bufsize,
            **kwargs,
        )
        if loop._debug:
            program = args if isinstance(args, (bytes, str)) else args[0]
            logger.debug("process %r created: pid %s", program, popen.pid)
        waiter = loop.create_future()
        transport = _watch(loop, popen, protocol, waiter, extra, watcher)
        try:
            if loop._debug or _connects_itself(loop):
                loop.create_task(_connect_pipes(loop, transport, popen, waiter))
            else:
                _connect_pipes_at_once(transport, popen)
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await transport._wait()
            raise
    return transport


def _watch(
    loop: "Any",
    popen: "subprocess.Popen[bytes]",
    protocol: "Any",
    waiter: "Any",
    extra: "Any",
    watcher: "Any",
) -> "Any":
    """The transport of a child whose exit will be noticed. A child that cannot be watched is
    killed."""
    transport = None
    try:
        transport = loop._make_child_transport(popen, protocol, waiter, extra, watcher is None)
        if watcher is not None:
            watcher.add_child_handler(popen.pid, loop._child_watcher_callback, transport)
    except BaseException:
        if transport is not None:
            transport.close()
        _close_pipes(popen)
        # A child of another user may be out of reach; then its exit cannot be waited for.
        with contextlib.suppress(PermissionError):
            popen.kill()
            popen.wait()
        raise
    return transport


def _connects_itself(loop: "Any") -> bool:
    """Whether the program has overridden how pipes are connected."""
    base = base_events.BaseEventLoop
    return any(
        getattr(getattr(loop, name), "__func__", None) is not getattr(base, name)
        for name in ("connect_read_pipe", "connect_write_pipe")
    )


def _connect_pipes_at_once(transport: "Any", popen: "subprocess.Popen[bytes]") -> None:
    try:
        transport._connect_pipes()
    except BaseException:
        transport.close()
        _close_pipes(popen)
        raise


async def _connect_pipes(
    loop: "Any", transport: "Any", popen: "subprocess.Popen[bytes]", waiter: "Any"
) -> None:
    """Connect the pipes one after another, through the loop's public methods."""
    try:
        for fd, pipe in enumerate((popen.stdin, popen.stdout, popen.stderr)):
            if pipe is not None:
                connect = loop.connect_read_pipe if fd else loop.connect_write_pipe
                connected, _ = await connect(lambda fd=fd: transport._make_pipe_protocol(fd), pipe)
                if transport.is_closing():
                    connected.close()
        transport._pipes_connected()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        transport.close()
        _close_pipes(popen)
        if not waiter.done():
            waiter.set_exception(error)


def _close_pipes(popen: "subprocess.Popen[bytes]") -> None:
    for pipe in (popen.stdin, popen.stdout, popen.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


if sys.version_info < (3, 14):
    from asyncio import unix_events

    # The watchers that asyncio uses where the program sets none. Each looks after its own children
    # only, as the loop does, so the loop can do it.
    _DEFAULT_WATCHERS = (
        type(None),
        unix_events.ThreadedChildWatcher,
        unix_events.PidfdChildWatcher,
    )

    def _watcher_of_program() -> "Any":
        """The child watcher that the program has set, or None.

        A watcher that takes the exit status of every child must be asked: no other code learns the
        status.
        """
        policy: Any = events.get_event_loop_policy()
        stock = unix_events._UnixDefaultEventLoopPolicy.get_child_watcher
        if type(policy).get_child_watcher is not stock:
            try:
                return policy.get_child_watcher()
            except NotImplementedError:
                return None
        watcher = policy._watcher
        return None if type(watcher) in _DEFAULT_WATCHERS else watcher

else:

    def _watcher_of_program() -> "Any":
        """None: this version has no child watchers any more."""
        return None
