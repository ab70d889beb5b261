"""The API reference: a directive that writes down names of the package, and the check that none
is missing.

    ```{aioxide-api} run new_event_loop
    ```

A name's signature comes from the stubs where they have one, else from the object itself; its text
is the docstring. Of a class the methods are listed that aioxide has of its own; those that it
inherits from asyncio are asyncio's. A name that is asyncio's own object gets a line with a link.
"""

import ast
import asyncio
import inspect
import pathlib
import re
import sys

import aioxide
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.errors import ExtensionError
from sphinx.util import logging

log = logging.getLogger(__name__)

STUBS = pathlib.Path(__file__).resolve().parents[2] / "python" / "aioxide"

PYTHON_DOCS = "https://docs.python.org/3/library/"
# Where Python's documentation describes what is asyncio's own.
PAGES = {
    "asyncio-eventloop.html": "AbstractEventLoop BaseEventLoop EventLoop Server AbstractServer "
    "get_event_loop get_running_loop set_event_loop new_event_loop "
    "SendfileNotAvailableError SelectorEventLoop Handle TimerHandle",
    "asyncio-policy.html": "AbstractEventLoopPolicy DefaultEventLoopPolicy get_event_loop_policy "
    "set_event_loop_policy AbstractChildWatcher FastChildWatcher MultiLoopChildWatcher "
    "PidfdChildWatcher SafeChildWatcher ThreadedChildWatcher get_child_watcher set_child_watcher",
    "asyncio-protocol.html": "BaseProtocol Protocol BufferedProtocol DatagramProtocol "
    "SubprocessProtocol BaseTransport ReadTransport WriteTransport Transport DatagramTransport "
    "SubprocessTransport",
    "asyncio-exceptions.html": "CancelledError InvalidStateError TimeoutError IncompleteReadError "
    "LimitOverrunError",
    "asyncio-sync.html": "BrokenBarrierError",
    "asyncio-queue.html": "QueueEmpty QueueFull QueueShutDown",
    "asyncio-runner.html": "Runner",
    "asyncio-subprocess.html": "create_subprocess_exec create_subprocess_shell",
    "asyncio-task.html": "ALL_COMPLETED FIRST_COMPLETED FIRST_EXCEPTION "
    "create_eager_task_factory eager_task_factory iscoroutinefunction",
    "asyncio-future.html": "isfuture",
    "asyncio-graph.html": "FrameCallGraphEntry FutureCallGraph capture_call_graph "
    "format_call_graph print_call_graph future_add_to_awaited_by future_discard_from_awaited_by",
    "asyncio-extending.html": "_enter_task _leave_task _register_task _unregister_task",
    "asyncio-llapi-index.html": "_get_running_loop _set_running_loop",
}
PAGE_OF = {name: page for page, names in PAGES.items() for name in names.split()}


def public_names():
    """Each public name with the versions that have it, read from the stubs' `__all__`."""
    found = {}

    def collect(statements, versions):
        for statement in statements:
            if isinstance(statement, ast.If):
                collect(statement.body, versions_of(statement.test))
            elif isinstance(statement, (ast.AnnAssign, ast.AugAssign)) and (
                getattr(statement.target, "id", None) == "__all__"
            ):
                for item in ast.literal_eval(statement.value):
                    found.setdefault(item, versions)

    collect(ast.parse((STUBS / "__init__.pyi").read_text()).body, "")
    return found


def versions_of(test):
    """`sys.version_info >= (3, 14)` as words."""
    number = ".".join(map(str, ast.literal_eval(test.comparators[0])))
    if isinstance(test.ops[0], ast.GtE):
        return f"from Python {number} on"
    return f"before Python {number}"


def stub_signatures():
    """The signatures of functions in the stubs: parameters, and what is returned."""
    found = {}
    for file in sorted(STUBS.glob("**/*.pyi")):
        for statement in ast.parse(file.read_text()).body:
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                returned = f" -> {ast.unparse(statement.returns)}" if statement.returns else ""
                found[statement.name] = f"({ast.unparse(statement.args)}){returned}"
    return found


def is_asyncios(class_):
    """Whether a class is one of the standard library's."""
    module = sys.modules.get(class_.__module__)
    return getattr(module, class_.__name__, None) is class_ and not (
        class_.__module__.startswith("aioxide")
    )


def own_members(class_):
    """Public methods and attributes that a class has from aioxide, not from asyncio."""
    found = {}
    for base in class_.__mro__:
        if is_asyncios(base):
            continue
        for name, member in vars(base).items():
            if not name.startswith("_"):
                found.setdefault(name, member)
    return found


def signature(value):
    """The object's own signature, without `self` and the mark of positional parameters after it."""
    try:
        text = str(inspect.signature(value))
    except (TypeError, ValueError):
        # A default that is no constant.
        text = (getattr(value, "__text_signature__", None) or "(…)").replace("$self", "self")
        text = text.replace("<unrepresentable>", "…")
    for head in ("(self, /, ", "(self, /", "(self, ", "(self"):
        if text.startswith(head):
            return "(" + text[len(head) :]
    return text


def block(kind, head, text, colons, options=()):
    fence = ":" * colons
    lines = [f"{fence}{{py:{kind}}} {head}", *options, "", text, fence, ""]
    return "\n".join(lines)


def described(value):
    """A docstring as Markdown: text outside of backticks is escaped, and lines that each describe a
    parameter become a list."""
    text = re.sub(r"(?m)^(\w+): (?=\S)", r"- `\1`: ", (inspect.getdoc(value) or "").strip())
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*_<>\[\]])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def entry(name, versions, signatures):
    """One name as Markdown."""
    ours = getattr(aioxide, name, None)
    theirs = getattr(asyncio, name, None)
    note = f"*Only {versions}.*\n\n" if versions else ""
    if name == "__version__":
        return block("data", f"aioxide.{name}", "The version of aioxide, as a string.", 4)
    if ours is None or ours is theirs:
        page = PAGE_OF.get(name)
        if page is None:
            raise ExtensionError(f"{name} is asyncio's, and PAGES in {__file__} does not name it")
        kind = (
            "class"
            if inspect.isclass(theirs) or (name[0].isupper() and not name.isupper())
            else ("data" if name.isupper() else "function")
        )
        text = f"{note}asyncio's own: [asyncio.{name}]({PYTHON_DOCS}{page})."
        return block(kind, f"aioxide.{name}", text, 4, [":no-contents-entry:"])
    text = note + described(ours)
    if not inspect.isclass(ours):
        head = signatures.get(name) or signature(ours)
        options = [":async:"] if inspect.iscoroutinefunction(ours) else []
        return block("function", f"aioxide.{name}{head}", text, 4, options)
    if isinstance(ours, type) and ours.__name__ != name:
        return block(
            "class",
            f"aioxide.{name}",
            f"{note}Another name of {{py:class}}`aioxide.{ours.__name__}`.",
            4,
        )
    members = []
    for member_name, member in sorted(own_members(ours).items()):
        if callable(member):
            options = [":async:"] if inspect.iscoroutinefunction(member) else []
            members.append(
                block("method", f"{member_name}{signature(member)}", described(member), 4, options)
            )
        else:
            members.append(block("attribute", member_name, described(member), 4))
    return block("class", f"aioxide.{name}{signature(ours)}", f"{text}\n\n" + "\n".join(members), 5)


class AioxideApi(Directive):
    """The reference of the names in the argument, or in the content, one or more a line."""

    optional_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self):
        environment = self.state.document.settings.env
        names = " ".join([*self.arguments, *self.content]).split()
        environment.aioxide_names = getattr(environment, "aioxide_names", []) + names
        public, signatures = public_names(), stub_signatures()
        for name in names:
            if name not in public:
                raise self.error(f"{name} is no public name of aioxide")
        text = "\n".join(entry(name, public[name], signatures) for name in names)
        holder = nodes.container()
        self.state.nested_parse(text.splitlines(), self.content_offset, holder)
        return holder.children


def check_completeness(app, environment):
    """Check that every public name stands on exactly one page."""
    named = getattr(environment, "aioxide_names", [])
    for name in public_names():
        if named.count(name) != 1:
            log.warning("the API reference has %s %s times", name, named.count(name))


def setup(app):
    app.add_directive("aioxide-api", AioxideApi)
    app.connect("env-updated", check_completeness)
    return {"parallel_read_safe": False}
