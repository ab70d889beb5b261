"""The clients of idle connections, a process of their own: open COUNT connections to PORT and keep
them until standard input ends."""

import socket
import sys


def main() -> None:
    port, count = map(int, sys.argv[1:])
    kept = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    sys.stdin.read()
    for connection in kept:
        connection.close()


main()
