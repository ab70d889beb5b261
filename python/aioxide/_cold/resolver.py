"""Which name look-ups need no thread, and the threads for those that do.

The C library answers for addresses and port numbers by itself, so they need no thread. Any other
look-up may take as long as the network takes. Those run on threads of their own, because a full
default executor must not delay a connection.
"""

import concurrent.futures
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NUMERIC_NAME = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


def is_address(host: "Any") -> bool:
    """Whether `host` is an IP address, as str or bytes, with a zone or without."""
    try:
        if isinstance(host, bytes):
            host = host.decode("ascii")
        if ":" in host:
            socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
        else:
            socket.inet_pton(socket.AF_INET, host)
    except (OSError, TypeError, ValueError):
        return False
    return True


def address_needs_no_thread(host: "Any", port: "Any", flags: int) -> bool:
    """Whether getaddrinfo() answers these arguments without a look-up."""
    host_known = host is None or bool(flags & socket.AI_NUMERICHOST) or is_address(host)
    port_known = (
        port is None
        or isinstance(port, int)
        or bool(flags & socket.AI_NUMERICSERV)
        or (isinstance(port, (str, bytes)) and port.isdigit())
    )
    return host_known and port_known


def name_needs_no_thread(flags: int) -> bool:
    """Whether getnameinfo() answers with these flags without a look-up."""
    return flags & _NUMERIC_NAME == _NUMERIC_NAME


def make_threads() -> "concurrent.futures.ThreadPoolExecutor":
    """Make the threads. Their number is limited as in asyncio's default executor, and each is made
    when it is needed."""
    return concurrent.futures.ThreadPoolExecutor(thread_name_prefix="aioxide-resolver")
