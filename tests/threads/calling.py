"""Calls of whatever a class offers: its methods by `dir()`, arguments by the names of parameters.

What is not called is in EXCLUDED, each with its reason.
"""

import inspect
import sys
import sysconfig
import types

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

# Until 3.15 a free-threaded CPython crashes where two threads drive one coroutine, generator or
# frame of Python code (gh-120321): such objects are then used by one thread only.
FRAMES_ARE_UNSAFE = FREE_THREADED and sys.version_info < (3, 15)

# Methods with underscores that stand for something a program writes.
SPECIAL = {
    *("__aenter__", "__aexit__", "__aiter__", "__anext__", "__await__", "__enter__", "__exit__"),
    *("__iter__", "__next__", "__copy__", "__reduce_ex__", "__repr__", "__eq__", "__hash__"),
}

FRAMES = "frames of running code may not be looked at from another thread before 3.15"

# (kind of prop or * for all, method): why nobody calls it.
EXCLUDED = {
    ("loop", "close"): "between two runs it succeeds, and nothing could be tried any more",
    ("loop", "run_forever"): "its thread runs it; the spare loops are run by anybody",
    ("loop", "run_until_complete"): "its thread runs it; the spare loops are run by anybody",
    ("loop", "shutdown_default_executor"): "no job could be submitted any more",
    ("default executor", "shutdown"): "no job could be submitted any more",
    ("default executor", "__exit__"): "no job could be submitted any more",
    ("loop", "subprocess_exec"): "children are costly; test_many_loops.py has some",
    ("loop", "subprocess_shell"): "children are costly; test_many_loops.py has some",
    ("spare loop", "subprocess_exec"): "children are costly; test_many_loops.py has some",
    ("spare loop", "subprocess_shell"): "children are costly; test_many_loops.py has some",
    ("spare loop", "set_default_executor"): "its close() would end the executor of the other loop",
    ("*", "default_exception_handler"): "it only logs",
    ("*", "print_stack"): "it prints what get_stack returns",
}
if FRAMES_ARE_UNSAFE:
    EXCLUDED["*", "get_stack"] = FRAMES

# Attributes that nobody reads.
UNREAD = {
    **({name: FRAMES for name in ("cr_frame", "gi_frame", "ag_frame")} if FRAMES_ARE_UNSAFE else {}),
    "__abstractmethods__": "a class has it and an object has not",
}


def is_coroutine_of_python(value):
    """Whether it has a frame, and not only the methods of a coroutine."""
    return isinstance(value, (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType))


# The kinds of the parameters of a method that hands all on.
ANYTHING = [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]

_methods = {}


def methods(kind, value):
    """The names of the methods that are called of this prop, with their parameters."""
    key = kind, type(value)
    found = _methods.get(key)
    if found is None:
        found = _methods[key] = [
            (name, parameters(type(value), name))
            for name in dir(type(value))
            if (not name.startswith("_") or name in SPECIAL)
            and not {(kind, name), ("*", name)} & EXCLUDED.keys()
            and callable(inspect.getattr_static(type(value), name, None))
        ]
    return found


def parameters(owner, name):
    """The parameters of a method but self; None if no class of the object's tells.

    A native class may not tell, and asyncio's class, from which it derives, then does.
    """
    for base in owner.__mro__:
        function = vars(base).get(name)
        if function is None:
            continue
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            continue
        named = list(signature.parameters.values())
        if isinstance(function, (classmethod, staticmethod)):
            return named
        if [one.kind for one in named] == ANYTHING:
            continue
        return named[1:]
    return None


class Arguments:
    """Makes the arguments of calls, of what stands on a stage."""

    def __init__(self, stage, random):
        self.stage = stage
        self.random = random
        # Parameters without a maker that a call cannot do without.
        self.unknown = set()

    def of(self, kind, name, wanted):
        """Positional and keyword arguments."""
        whole = getattr(self, f"call_{name}", None)
        if whole is not None:
            return whole()
        if wanted is None:
            return [self.junk() for _ in range(self.random.randrange(3))], {}
        positional, named = [], {}
        for parameter in wanted:
            if parameter.kind is parameter.VAR_POSITIONAL:
                if parameter.name == "args":
                    positional += range(self.random.randrange(3))
                elif parameter.name == "iterables":
                    positional.append(range(3))
                continue
            if parameter.kind is parameter.VAR_KEYWORD:
                continue
            optional = parameter.default is not parameter.empty
            if optional and self.random.random() < 0.7:
                if parameter.kind is not parameter.KEYWORD_ONLY:
                    # those behind it come by position
                    positional.append(parameter.default)
                continue
            value = self.value(name, parameter.name, optional, parameter.default)
            if parameter.kind is parameter.KEYWORD_ONLY:
                named[parameter.name] = value
            else:
                positional.append(value)
        return positional, named

    def value(self, method, name, optional, default):
        """An argument for a parameter with this name."""
        if self.random.random() < 0.03:
            return self.junk()
        make = getattr(self, f"{method}_{name}", None) or getattr(self, f"a_{name}", None)
        if make is not None:
            return make()
        if optional:
            return default
        self.unknown.add(f"{method}({name})")
        return self.junk()

    def junk(self):
        """What no method expects. No small number, which could be another's descriptor."""
        return self.random.choice([None, "text", b"bytes", object(), (), -1, 1 << 70, 0.5, []])

    # What the parameters of asyncio's methods are called.

    def a_callback(self):
        return self.random.choice([self.stage.note, self.stage.note, self.stage.fail, self.stage.poke])

    a_fn = a_func = a_callback

    def a_context(self):
        return self.random.choice([None, None, self.stage.context])

    def call_exception_handler_context(self):
        return {"message": "of a stranger", "exception": ValueError("reported")}

    def a_delay(self):
        return self.random.choice([-1, 0, 0, 0.0005, 0.002, 3])

    a_timeout = a_delay

    def a_when(self):
        return self.stage.loop.time() + self.a_delay()

    def a_coro(self):
        return self.stage.coroutine(self.random)

    def a_future(self):
        return self.random.choice([self.a_coro, lambda: self.stage.pick("future", self.random)])()

    def a_executor(self):
        return self.random.choice([None, None, self.stage.pick("executor", self.random)])

    def set_default_executor_executor(self):
        return self.stage.pick("default executor", self.random)

    def a_handler(self):
        return self.random.choice([None, self.stage.handle_report])

    def a_factory(self):
        return self.random.choice([None, None, self.stage.task_factory])

    def a_enabled(self):
        return self.random.random() < 0.1

    def a_fd(self):
        return self.random.choice(self.stage.watched)

    def a_sig(self):
        return self.stage.SIGNAL

    def a_sock(self):
        return self.random.choice(self.stage.watched)

    def a_n(self):
        return self.random.choice([1, 2, 64, 65536])

    a_bufsize = a_nbytes = a_size = a_n

    def a_buf(self):
        return bytearray(self.random.choice([1, 64]))

    def a_data(self):
        return self.random.choice([b"", b"some", b"line\n", bytes(70_000), bytearray(b"array")])

    def a_address(self):
        return "127.0.0.1", 9

    a_addr = a_sockaddr = a_address

    def a_host(self):
        return "127.0.0.1"

    def a_port(self):
        return 0

    def a_path(self):
        return None

    def a_protocol_factory(self):
        return self.stage.protocol

    def a_protocol(self):
        return self.stage.protocol()

    def a_transport(self):
        return self.stage.pick("transport", self.random)

    def a_file(self):
        return self.stage.open_file()

    def a_sslcontext(self):
        return self.stage.client_context

    def a_server_side(self):
        return False

    def a_result(self):
        return self.random.choice([None, "result", self])

    def a_exception(self):
        return self.random.choice([ValueError("set"), ValueError, self.stage.cancelled()])

    a_exc = a_exception

    def a_msg(self):
        return self.random.choice([None, "message"])

    def a_limit(self):
        return self.random.choice([None, 1])

    def a_value(self):
        return self.random.choice([None, "value"])

    a_item = a_default = a_value

    def a_predicate(self):
        return lambda: self.random.random() < 0.5

    def a_separator(self):
        return b"\n"

    def a_name(self):
        return "socket"

    def a_high(self):
        return self.random.choice([None, 0, 1000])

    def a_low(self):
        return self.random.choice([None, 0])

    def a_list_of_data(self):
        return [self.a_data() for _ in range(3)]

    def a_immediate(self):
        return self.random.random() < 0.5

    a_wait = a_cancel_futures = a_immediate

    def a_exc_type(self):
        return None

    a_exc_val = a_exc_value = a_exc_tb = a_exc_type
    a_et = a_ev = a_tb = a_exc_type
    a_typ = a_val = a_exc_type

    def a_other(self):
        return self.random.choice([None, self.stage.loop])

    # Methods that need certain arguments together.

    def call_create_connection(self):
        return [self.stage.protocol], {"sock": self.stage.connected()}

    call_create_unix_connection = call_create_connection

    def call_connect_accepted_socket(self):
        return [self.stage.protocol, self.stage.connected()], {}

    def call_create_server(self):
        return [self.stage.protocol, "127.0.0.1", 0], {}

    def call_create_unix_server(self):
        return [self.stage.protocol], {"path": self.stage.unix_path()}

    def call_create_datagram_endpoint(self):
        return [self.stage.protocol], {"local_addr": ("127.0.0.1", 0)}

    def call_connect_read_pipe(self):
        return [self.stage.protocol, self.stage.pipe()[0]], {}

    def call_connect_write_pipe(self):
        return [self.stage.protocol, self.stage.pipe()[1]], {}

    def call_getaddrinfo(self):
        return ["127.0.0.1", 80], {}

    def call_getnameinfo(self):
        return [("127.0.0.1", 80), 3], {}

    def call_throw(self):
        return [self.random.choice([ValueError("thrown"), self.stage.cancelled()])], {}

    def call_send(self):
        return [None], {}

    def call___reduce_ex__(self):
        return [4], {}

    def call___aexit__(self):
        return [None, None, None], {}

    call___exit__ = call___aexit__

    def call___eq__(self):
        return [self.stage.loop], {}
