"""Where aioxide's journal under a failure may be another than asyncio's, and why."""

import json


def better(scenario, journal):
    """What aioxide may do where asyncio does this: the same, or the same without asyncio's own faults."""
    # Popen leaves the other pipes open where it cannot make a file of one.
    if scenario in ("child", "child_protocol"):
        yield journal
    # Descriptors left open, a loop that is dead afterwards, errors in __del__().
    yield {side: lines for side, lines in journal.items() if side != "left"}
    yield {side: lines for side, lines in journal.items() if side not in ("left", "unraisable")}
    mended = {
        side: [line for line in lines if not _is_fault(line)]
        for side, lines in journal.items()
        if side not in ("left", "unraisable", "loop")
    }
    mended = {side: lines for side, lines in mended.items() if lines}
    yield mended
    # sendfile() without the system's help sends what it has already written over.
    yield json.loads(json.dumps(mended).replace("WRONG: ", "").replace("150003 of 150003 bytes", "all"))


def _is_fault(line):
    # A server that could not accept tries again after it was closed.
    return "Invalid file descriptor: -1" in str(line)


def _is_sound(journal):
    """The loop lives, nothing is left, no byte is wrong."""
    return not {"loop", "left", "process", "unraisable", "thread"} & set(journal) and "WRONG" not in str(journal)


def _ignored(journal, plain):
    return journal == plain


def _reported(journal, plain):
    """Nothing but a report tells of the failure."""
    rest = {side: lines for side, lines in journal.items() if side != "report"}
    return _is_sound(journal) and rest == plain


def _sound(journal, plain):
    return _is_sound(journal)


def _refused(journal, plain):
    """The program was told by an exception; nothing is left."""
    return _is_sound(journal) and "RuntimeError" in str(journal)


def _ended(journal, plain):
    """Both ends hear of the end: nothing waits for ever."""
    return _is_sound(journal) and "stuck" not in str(journal)


# By class of call, and by scenario and class: what is expected, and why.
EXPECTED = {
    # A connection works without TCP_NODELAY. asyncio gives it up, and forgets one of a server's.
    "setsockopt": _ignored,
    # Addresses are asked for when the program wants to know them. A connection that could not be
    # accepted for the lack of its address is closed; asyncio leaves it open.
    "getsockname": _sound,
    "getpeername": _ignored,
    # A descriptor whose close() failed is closed. asyncio's transport forgets to leave its server, or
    # its connection_lost() comes twice.
    "close": _reported,
    # Where asyncio's selector cannot change what it waits for it forgets the descriptor, and a
    # connection that could not wait for writing stops to read too. Where it cannot forget one,
    # a descriptor that is opened later cannot be watched.
    "epoll_mod": _sound,
    "epoll_del": _ignored,
    # The call is made up for by an older one. asyncio looks when it is imported whether it has epoll.
    "accept4": _ignored,
    "epoll_create": _ignored,
    # The descriptors for signals are made when a program has its first handler; asyncio's loop has
    # them from its beginning.
    ("signals", "notifier"): _refused,
    ("signals", "epoll_add"): _refused,
    # Two ends of TLS on one loop: how far the handshake of either has come when a call fails is a
    # matter of luck.
    ("tls", "recv"): _ended,
    ("tls", "send"): _ended,
    ("start_tls", "recv"): _ended,
    ("start_tls", "send"): _ended,
    # A child whose pipes or whose end cannot be watched fails to start. asyncio waits for ever, or
    # reports it and never reads the pipe; what it calls of a protocol after subprocess_exec() has
    # raised is not called.
    ("child", "epoll_add"): _sound,
    ("child", "pidfd"): _sound,
    ("child", "fstat"): _sound,
    ("child", "flags"): _sound,
    ("child_protocol", "fstat"): _sound,
    ("child_protocol", "flags"): _sound,
    ("child_protocol", "pidfd"): _sound,
    ("child_protocol", "epoll_add"): _sound,
}


def compared(scenario, journal):
    """The journal as it is compared."""
    if scenario == "child_protocol" and ["received", "all"] in journal.get("child", ()):
        # When all output has been read, the pipes' ends are read in the order in which they came:
        # which of the two a failing read meets is a matter of luck.
        ends = sorted((journal.get(pipe, []) for pipe in ("pipe 1", "pipe 2")), key=str)
        return {**journal, "pipe 1": ends[0], "pipe 2": ends[1]}
    if scenario != "start_tls":
        return journal
    # An upgrade that fails in its handshake ends a connection of which the protocol was told before.
    # aioxide tells it so; asyncio does in some states of the handshake.
    silent = (["received", "none"], ["connection_lost"])
    lines = {
        side: [line for line in lines if line not in silent and line[:1] not in silent]
        for side, lines in journal.items()
    }
    return {side: lines for side, lines in lines.items() if lines}


def is_expected(scenario, case, journal, plain):
    """Whether the journal may be another than asyncio's."""
    rule = EXPECTED.get(case[0]) or EXPECTED.get((scenario, case[0]))
    return rule is not None and rule(journal, plain)
