"""The library of failing system calls (inject.c): building it, arming it, and what each call may say."""

import contextlib
import ctypes
import errno
import functools
import os
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
SUPPORT = os.path.join(os.path.dirname(HERE), "support")

# As in inject.c, in the same order.
CLASSES = """
    recv send read write wake accept connect socket notifier getsockopt setsockopt
    shutdown getsockname getpeername close epoll_create epoll_add epoll_mod epoll_del epoll_wait pidfd wait
    fstat flags readable fork thread sendfile pipe open bind listen signal many precise
    accept4 eventfd
""".split()

# Not errors: one byte (or datagram) only, a half of them, the end.
SHORT, HALF, END = -1, -2, -3
NAMES = {SHORT: "SHORT", HALF: "HALF", END: "END"}

# What a call may fail with, by class.
ERRORS = {
    "recv": "EINTR EAGAIN ECONNRESET EBADF ENOMEM ECONNREFUSED SHORT END",
    "send": "EINTR EAGAIN EPIPE ECONNRESET EBADF ENOBUFS ENOMEM EPERM SHORT HALF",
    "read": "EINTR EAGAIN EIO EBADF ENOMEM SHORT END",
    "write": "EINTR EAGAIN EPIPE ENOSPC EBADF ENOMEM SHORT HALF",
    "wake": "EINTR EAGAIN",
    "accept": "EINTR EAGAIN ECONNABORTED EMFILE ENFILE ENOBUFS ENOMEM EBADF EPERM",
    "connect": "EINTR ECONNREFUSED ENETUNREACH EADDRNOTAVAIL EPERM EBADF ENOBUFS",
    "socket": "EMFILE ENFILE ENOBUFS ENOMEM EAFNOSUPPORT",
    "notifier": "EMFILE ENFILE ENOMEM",
    "getsockopt": "EBADF ENOBUFS",
    "setsockopt": "EBADF ENOBUFS EINVAL",
    "shutdown": "EBADF ENOTCONN",
    "getsockname": "EBADF ENOBUFS",
    "getpeername": "EBADF ENOBUFS ENOTCONN",
    "close": "EINTR EIO",
    "epoll_create": "EMFILE ENFILE ENOMEM ENOSYS",
    "epoll_add": "EBADF EPERM ENOMEM ENOSPC",
    "epoll_mod": "EBADF ENOMEM",
    "epoll_del": "EBADF ENOENT",
    "epoll_wait": "EINTR EBADF EINVAL ENOMEM",
    "pidfd": "ENOSYS EPERM EMFILE ENFILE ENOMEM",
    "wait": "EINTR ECHILD",
    "fstat": "EBADF EIO",
    "flags": "EBADF",
    "readable": "EINVAL EBADF",
    "fork": "EAGAIN ENOMEM",
    "thread": "EAGAIN",
    "sendfile": "EINTR EAGAIN EINVAL ENOSYS EPIPE EIO SHORT HALF",
    "pipe": "EMFILE ENFILE",
    "open": "EMFILE ENFILE ENOMEM",
    "bind": "EADDRINUSE EACCES",
    "listen": "EADDRINUSE",
    "signal": "EINVAL",
    "many": "ENOSYS",
    "precise": "ENOSYS EPERM",
    "accept4": "ENOSYS",
    "eventfd": "ENOSYS EPERM",
}


def number(name):
    """The number of an error, or of what is not one, by name."""
    return {"SHORT": SHORT, "HALF": HALF, "END": END}.get(name) or getattr(errno, name)


def build(folder):
    """Compiles the library into `folder`; its path."""
    path = os.path.join(folder, "inject.so")
    source = os.path.join(HERE, "inject.c")
    command = ["cc", "-O1", "-shared", "-fPIC", "-o", path, source, "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    return path


def missing(name, error="ENOSYS"):
    """The environment variable by which calls of a class fail from the start of a process."""
    return {"INJECT": f"{CLASSES.index(name)} 1 {number(error)} 1000000"}


def environment(library, modules=(), **more):
    """The environment of a Python that has the library."""
    path = os.pathsep.join([HERE, SUPPORT, *modules])
    return os.environ | {"LD_PRELOAD": library, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | more


@functools.cache
def _library():
    """The library that this process was started with."""
    library = ctypes.CDLL(None)
    if library.inject_classes() != len(CLASSES):
        raise RuntimeError("CLASSES and inject.c differ")
    return library


def arm(failing, nth, error, times=1, second=None):
    """From now on calls count, and the nth of class `failing` fails, and as many after it."""
    first, second = (-1 if name is None else CLASSES.index(name) for name in (failing, second))
    _library().inject_arm(first, second, nth, error, times)


def disarm():
    """Lets every call through, and stops counting."""
    _library().inject_disarm()


def fired():
    """How many calls have failed since `arm()`."""
    return _library().inject_fired()


def calls():
    """How many calls there were since `arm()`, by class."""
    library = _library()
    counts = {name: library.inject_calls(index) for index, name in enumerate(CLASSES)}
    return {name: count for name, count in counts.items() if count}


def exempt(fd):
    """Calls on `fd` neither fail nor count, until it is closed."""
    _library().inject_exempt(fd)


def mark_waker(fd):
    """`fd` is a socket by which a loop wakes itself."""
    _library().inject_waker(fd)


@contextlib.contextmanager
def paused():
    """Within the block no call fails or counts."""
    _library().inject_pause(1)
    try:
        yield
    finally:
        _library().inject_pause(0)
