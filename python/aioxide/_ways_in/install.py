"""install() and uninstall(): asyncio's own names for aioxide's objects.

asyncio knows each of its objects under several names: `asyncio.Task`, `asyncio.tasks.Task`,
`_asyncio.Task`, `asyncio.tasks._CTask`. All that *are* the object are replaced, found by identity,
so that no alias is forgotten and no namesake is hit. The pure Python variants (`_PyTask`,
`_py_current_task`) stay, and so does what a program or a library put in asyncio's place before.

First the whole list of changes is made, then it is carried out; a change that fails undoes those
before it. Modules outside asyncio are left alone: what they imported before keeps working.

On 3.14 the class of the module asyncio gives the deprecated names that its `__getattr__` gave, for
the sake of all the others (see attributes).

Not replaced: Handle and TimerHandle. Loops of other makers construct them by asyncio's name and
drive them through their private attributes, which native handles keep for the native loop; as
subclasses of asyncio's they pass isinstance() either way. Nor asyncio.new_event_loop(): it asks
the policy, and a program's own policy keeps its word.
"""

import _asyncio
import asyncio
import os
import sys
import threading
from asyncio import tasks

from .. import _aioxide
from .._cold import futures, streams
from .._cold.loop import Loop, _SelectorEventLoop
from .attributes import make_quick

_NAMES = (
    "Future",
    "Task",
    "sleep",
    "create_task",
    "ensure_future",
    "iscoroutine",
    "to_thread",
    "gather",
    "wait",
    "wait_for",
    "as_completed",
    "shield",
    "Timeout",
    "timeout",
    "timeout_at",
    "TaskGroup",
    "current_task",
    "all_tasks",
    "_enter_task",
    "_leave_task",
    "_swap_current_task",
    "_register_task",
    "_unregister_task",
    "_register_eager_task",
    "_unregister_eager_task",
    "Lock",
    "Event",
    "Condition",
    "Semaphore",
    "BoundedSemaphore",
    "Barrier",
    "Queue",
    "PriorityQueue",
    "LifoQueue",
)

_PYTHON_NAMES = ("run_coroutine_threadsafe", "wrap_future")

# Names that asyncio's `__getattr__` provides on 3.14, with a warning.
DEPRECATED = ("AbstractEventLoopPolicy", "DefaultEventLoopPolicy")

_eager_task_factory = getattr(tasks, "create_eager_task_factory", lambda task: None)(_aioxide.Task)

_lock = threading.Lock()
_changes = []


class _Change:
    """One attribute, before and after."""

    __slots__ = ("after", "before", "name", "owner")

    def __init__(self, owner, name, before, after):
        self.owner = owner
        self.name = name
        self.before = before
        self.after = after

    def apply(self):
        setattr(self.owner, self.name, self.after)

    def revert(self):
        # If other code has replaced the attribute after us, its replacement stays.
        if vars(self.owner).get(self.name) is self.after:
            setattr(self.owner, self.name, self.before)


def install():
    """Put aioxide's objects in the place of asyncio's, in asyncio and all its modules.

    Call it before the modules that use asyncio are imported: a module imported earlier keeps the
    old Task by its `from asyncio import Task`, and that Task goes on working. A second call changes
    nothing. If an error is raised, nothing is replaced.
    """
    _replace([*_objects(), *_loops()])
    _quicken()
    _begin_legacy_mode()


def install_loop():
    """As install(), for the event loop alone: Future, Task and the rest stay asyncio's."""
    _replace(_loops())
    _begin_legacy_mode()


def _quicken():
    with _lock:
        if change := make_quick(asyncio, DEPRECATED):
            _changes.append(change)


def _begin_legacy_mode():
    if os.environ.get("AIOXIDE_LEGACY", "") not in ("", "0"):
        from .._for_programs import legacy

        legacy.begin(_replace)


def uninstall():
    """Undo install(), to the last attribute. Attributes that other code has replaced since then
    stay."""
    legacy = sys.modules.get("aioxide._for_programs.legacy")
    if legacy is not None:
        legacy.end()
    children = sys.modules.get(f"{__package__}.children")
    if children is not None:
        children.stop()
    with _lock:
        back = [(change.after, change.before) for change in _changes]
        for change in reversed(_changes):
            change.revert()
        # Modules of asyncio that were imported since then took our objects from the others.
        while changes := _list_changes(back):
            for change in changes:
                change.apply()
        _changes.clear()


def replacements():
    """Our objects by the id of asyncio's."""
    return {id(theirs): ours for theirs, ours in [*_objects(), *_loops()]}


def _objects():
    """Pairs of asyncio's objects and ours."""
    for name in _NAMES:
        ours = getattr(_aioxide, name, None)
        theirs = next(
            (vars(module)[name] for module in (_asyncio, tasks, asyncio) if name in vars(module)),
            None,
        )
        if ours is not None and theirs is not None:
            yield theirs, ours
    for name in _PYTHON_NAMES:
        yield getattr(asyncio, name), getattr(futures, name)
    yield from streams.PAIRS
    if _eager_task_factory is not None:
        yield tasks.eager_task_factory, _eager_task_factory


def _loops():
    yield _SelectorEventLoop, Loop


def _replace(pairs):
    with _lock:
        done = []
        try:
            for change in _list_changes(pairs):
                done.append(change)
                change.apply()
        except BaseException:
            for change in reversed(done):
                change.revert()
            raise
        _changes.extend(done)


def _list_changes(pairs):
    """Every attribute of asyncio's modules and their classes that is the first of a pair."""
    replacement = {id(theirs): ours for theirs, ours in pairs if theirs is not ours}
    return [
        _Change(owner, name, value, replacement[id(value)])
        for owner in _owners()
        for name, value in vars(owner).items()
        if id(value) in replacement and not name.startswith(("_Py", "_py_"))
    ]


def _owners():
    """asyncio's modules and the classes defined there. A policy has its loop's class as an
    attribute."""
    for module_name, module in list(sys.modules.items()):
        if module is None or module_name.partition(".")[0] not in ("asyncio", "_asyncio"):
            continue
        yield module
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == module_name:
                yield value
