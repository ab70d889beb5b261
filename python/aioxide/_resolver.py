"""Which name look-ups need no thread, and the threads for those that do.

The C library answers for addresses and port numbers without asking anyone, so the loop does not
wait for a thread to be told so. Everything else may take as long as the network likes, on threads
that no other work occupies: a full default executor must not delay a connection.
"""

import concurrent.futures
import socket

_NUMERIC_NAME = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


def is_address(host):
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


def address_needs_no_thread(host, port, flags):
    """Whether getaddrinfo() answers these arguments without a look-up."""
    host_known = host is None or bool(flags & socket.AI_NUMERICHOST) or is_address(host)
    port_known = (
        port is None
        or isinstance(port, int)
        or bool(flags & socket.AI_NUMERICSERV)
        or (isinstance(port, (str, bytes)) and port.isdigit())
    )
    return host_known and port_known


def name_needs_no_thread(flags):
    """Whether getnameinfo() answers with these flags without a look-up."""
    return flags & _NUMERIC_NAME == _NUMERIC_NAME


def make_threads():
    """As many threads at most as asyncio's default executor has, each made when it is needed."""
    return concurrent.futures.ThreadPoolExecutor(thread_name_prefix="aioxide-resolver")
