"""The work of `python -m aioxide`: put aioxide in place, then become the program.

The program must not notice. So its code runs in the `__main__` module that the interpreter itself
made, emptied of what the runner left there. An error that leaves the program goes on to the
interpreter, which knows best what to print and how to exit. Only when it is printed are the
runner's own lines taken out of the traceback.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, TracebackType
    from typing import Any, NoReturn, Self

_USAGE = """\
Run an unchanged asyncio program on aioxide.

usage: python -m aioxide [option ...] program.py [argument ...]
       python -m aioxide [option ...] -m module [argument ...]
       python -m aioxide [option ...] -c code [argument ...]
       python -m aioxide [option ...] - [argument ...]

A program may also be a folder or a zip file with a __main__.py in it; - is standard input.

options:
  --loop-only    use aioxide's event loop only: Future, Task and sleep() stay asyncio's
  --legacy       allow what Python 3.5 to 3.9 allowed and later ones do not: a loop
                 by get_event_loop(), @asyncio.coroutine, wait() with coroutines and
                 the argument loop; as with AIOXIDE_LEGACY=1
  --children     run the program's child processes on aioxide too, if they are Python
                 and keep the environment; as with AIOXIDE_CHILDREN=1. Without this
                 option only the processes of multiprocessing run on it
  --debug        turn on asyncio's debug mode, as with PYTHONASYNCIODEBUG=1
  -V, --version  print the version and exit
  -h, --help     print this and exit

examples:
  python -m aioxide server.py --port 8000
  python -m aioxide -m uvicorn web:app --reload
  python -m aioxide --debug -m pytest tests
"""


def main() -> None:
    """Read the command line and run the program that it names."""
    debug = loop_only = False
    arguments = sys.argv[1:]
    while arguments:
        argument = arguments.pop(0)
        if argument in ("-h", "--help"):
            print(_USAGE, end="")
            return
        if argument in ("-V", "--version"):
            print(_version())
            return
        if argument == "--debug":
            debug = True
        elif argument == "--children":
            os.environ["AIOXIDE_CHILDREN"] = "1"
        elif argument == "--loop-only":
            loop_only = True
        elif argument == "--legacy":
            # In the environment, so that child processes have it too.
            os.environ["AIOXIDE_LEGACY"] = "1"
        elif argument[:2] in ("-m", "-c"):
            # As with python, the text may follow without a space.
            if not argument[2:] and not arguments:
                _refuse(f"option {argument} needs {'a module' if argument == '-m' else 'code'}")
            text = argument[2:] or arguments.pop(0)
            _start(debug, loop_only)
            (_run_module if argument[:2] == "-m" else _run_code)(text, arguments)
            return
        elif argument == "-" or not argument.startswith("-") or (argument == "--" and arguments):
            program = arguments.pop(0) if argument == "--" else argument
            if program == "-":
                _start(debug, loop_only)
                _run_stdin(arguments)
            else:
                _run_path(program, arguments, debug, loop_only)
            return
        else:
            _refuse("no program" if argument == "--" else f"unknown option {argument}")
    _refuse("no program")


def _refuse(reason: str) -> "NoReturn":
    print(f"aioxide: {reason}; python -m aioxide --help tells more", file=sys.stderr)
    sys.exit(2)


def _version() -> str:
    import platform

    from aioxide import __version__

    return (
        f"aioxide {__version__} on {platform.python_implementation()} "
        f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    )


def _start(debug: bool, loop_only: bool) -> None:
    from . import children

    if debug:
        # In the environment, so that child processes have it too.
        os.environ["PYTHONASYNCIODEBUG"] = "1"
    children.start(loop_only)


# The ways to name a program. Each sets sys.argv, sys.path and __main__ as python does.


def _run_module(name: str, arguments: list[str]) -> None:
    sys.argv = ["-m", *arguments]
    _run_by_runpy(name, alter_argv=True)


def _run_code(source: str, arguments: list[str]) -> None:
    sys.argv = ["-c", *arguments]
    _set_first_path("")
    namespace = _emptied_main()
    if sys.version_info >= (3, 14):
        import textwrap

        source = textwrap.dedent(source)
    source += "\n"

    def load() -> "CodeType":
        code = compile(source, "<string>", "exec", dont_inherit=True)
        if sys.version_info >= (3, 13):
            # Tracebacks show the lines.
            import linecache

            by_code = hasattr(linecache, "_interactive_cache")
            register = linecache._register_code  # type: ignore[attr-defined, unused-ignore]
            register(code if by_code else "<string>", source, "<string>")
        return code

    _execute(load, namespace)


def _run_stdin(arguments: list[str]) -> None:
    sys.argv = ["-", *arguments]
    _set_first_path("")
    namespace = _emptied_main()
    _set_file(namespace, "<stdin>")
    _execute(
        lambda: compile(sys.stdin.buffer.read(), "<stdin>", "exec", dont_inherit=True), namespace
    )


def _run_path(path: str, arguments: list[str], debug: bool, loop_only: bool) -> None:
    import pkgutil

    sys.argv = [path, *arguments]
    absolute = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
    if pkgutil.get_importer(path) is not None:
        _start(debug, loop_only)
        # For a folder or a zip file, python does not look at the option for a safe path.
        if sys.flags.safe_path:
            sys.path.insert(0, absolute)
        else:
            sys.path[0] = absolute
        _run_by_runpy("__main__", alter_argv=False)
        return
    try:
        with open(absolute, "rb") as file:
            content = file.read()
    except OSError as error:
        print(
            f"{sys.orig_argv[0]}: can't open file {absolute!r}: "
            f"[Errno {error.errno}] {error.strerror}",
            file=sys.stderr,
        )
        sys.exit(2)
    _start(debug, loop_only)
    _set_first_path(os.path.dirname(os.path.realpath(absolute)))
    namespace = _emptied_main()
    _set_file(namespace, absolute)
    _execute(lambda: _load_file(content, absolute, namespace), namespace)


def _load_file(content: bytes, path: str, namespace: "dict[str, Any]") -> "CodeType":
    import importlib.machinery
    import importlib.util

    if content.startswith(importlib.util.MAGIC_NUMBER):
        import marshal

        namespace["__loader__"] = importlib.machinery.SourcelessFileLoader("__main__", path)
        code: CodeType = marshal.loads(content[16:])
        return code
    namespace["__loader__"] = importlib.machinery.SourceFileLoader("__main__", path)
    return compile(content, path, "exec", dont_inherit=True)


def _set_first_path(entry: str) -> None:
    # python -m has put the working folder there, unless an option forbids it.
    if not sys.flags.safe_path:
        sys.path[0] = entry


def _set_file(namespace: "dict[str, Any]", path: str) -> None:
    namespace["__file__"] = path
    if sys.version_info < (3, 15):
        namespace["__cached__"] = None


def _emptied_main() -> "dict[str, Any]":
    """The namespace of the interpreter's own __main__, as it is before a program starts."""
    from importlib.machinery import BuiltinImporter

    namespace = sys.modules["__main__"].__dict__
    builtins = namespace.get("__builtins__")
    namespace.clear()
    namespace.update(
        __name__="__main__",
        __doc__=None,
        __package__=None,
        __loader__=BuiltinImporter,
        __spec__=None,
        __builtins__=builtins,
    )
    if sys.version_info < (3, 14):
        namespace["__annotations__"] = {}
    return namespace


def _execute(load: "Callable[[], CodeType]", namespace: "dict[str, Any]") -> None:
    with _Unnoticed():
        exec(load(), namespace)


def _run_by_runpy(name: str, alter_argv: bool) -> None:
    import runpy

    _emptied_main()
    with _Unnoticed():
        # The interpreter itself calls this for -m, for folders and for zip files.
        runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]


class _Unnoticed:
    """Takes the runner's frames out of the traceback of an error that leaves the program."""

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self,
        kind: "type[BaseException] | None",
        error: "BaseException | None",
        traceback: "TracebackType | None",
    ) -> None:
        if isinstance(error, SystemExit):
            # The Task that raised it may still show it: the way out must not add to its traceback.
            error.__traceback__ = _program_part(traceback)
            end = SystemExit(error.code)
            try:
                raise end
            finally:
                end.__context__ = None
        if error is None:
            return
        hook = getattr(sys, "excepthook", None)
        if hook is None:
            return

        def show(
            kind: type[BaseException], error: BaseException, traceback: "TracebackType | None"
        ) -> None:
            sys.excepthook = hook
            error.__traceback__ = traceback = _program_part(traceback)
            if hasattr(sys, "last_traceback"):
                sys.last_traceback = traceback
            hook(kind, error, traceback)

        sys.excepthook = show


def _program_part(traceback: "TracebackType | None") -> "TracebackType | None":
    """The part of `traceback` from the first frame after the runner's last."""
    part = traceback
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == __file__:
            part = traceback.tb_next
        traceback = traceback.tb_next
    return part
