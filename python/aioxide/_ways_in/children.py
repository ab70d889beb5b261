"""aioxide in the processes that a program starts.

A forked process has it already. For spawn and forkserver, multiprocessing starts `python -c "from
multiprocessing.… import …"`, also for process pools and server workers. A few words are added to
that line, so that aioxide is in place before the child looks for the program's module.

Other child processes are programs of their own, so they have it only where that is asked for, by
`--children` or AIOXIDE_CHILDREN=1. It reaches them through the environment, by a folder in front of
PYTHONPATH (see _startup/sitecustomize.py). So it reaches the children's children as well, but no
child that gets another environment or ignores it.
"""

import os
import sys
from multiprocessing import util

from . import install

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

_STARTS = ("from multiprocessing.spawn import", "from multiprocessing.forkserver import")
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_STARTUP = os.path.join(_PACKAGE, "_startup")


def start(loop_only: bool = False) -> None:
    """Put aioxide in asyncio's place here and in the processes that multiprocessing starts from
    here. If the environment asks for it, put it into all processes started from here."""
    if loop_only:
        install.install_loop()
    else:
        install.install()
    if not isinstance(util.spawnv_passfds, _Spawn):
        util.spawnv_passfds = _Spawn(util.spawnv_passfds, loop_only)
    if os.environ.get("AIOXIDE_CHILDREN", "") not in ("", "0"):
        reach_children(loop_only)


def reach_children(loop_only: bool) -> None:
    """Change the environment so that it puts aioxide into all Python processes of this kind."""
    others = os.environ.get("PYTHONPATH")
    paths = others.split(os.pathsep) if others else []
    os.environ["PYTHONPATH"] = os.pathsep.join([_STARTUP, *_without_startup(paths)])
    os.environ["AIOXIDE_CHILDREN"] = "loop" if loop_only else "1"
    os.environ["AIOXIDE_CHILDREN_OF"] = f"{sys.implementation.cache_tag}{sys.abiflags}"


def stop() -> None:
    """Undo start(), except for processes that run already."""
    if isinstance(util.spawnv_passfds, _Spawn):
        util.spawnv_passfds = util.spawnv_passfds.spawn
    if os.environ.pop("AIOXIDE_CHILDREN_OF", None) is not None:
        os.environ.pop("AIOXIDE_CHILDREN", None)
        paths = _without_startup(os.environ.get("PYTHONPATH", "").split(os.pathsep))
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        if not paths:
            del os.environ["PYTHONPATH"]


def _without_startup(paths: "Iterable[str]") -> list[str]:
    return [path for path in paths if path != _STARTUP]


class _Spawn:
    """multiprocessing's function that starts Python."""

    def __init__(self, spawn: "Callable[..., Any]", loop_only: bool) -> None:
        self.spawn = spawn
        self.loop_only = loop_only

    def __call__(self, path: "Any", args: "Iterable[Any]", passfds: "Any") -> "Any":
        return self.spawn(path, self.extended(args), passfds)

    def extended(self, args: "Iterable[Any]") -> "list[Any]":
        """`args` changed so that aioxide starts before multiprocessing; unchanged if they start
        something else."""
        args = list(args)
        for index in range(1, len(args)):
            text = os.fsdecode(args[index])
            if args[index - 1] in ("-c", b"-c") and any(start in text for start in _STARTS):
                args[index] = f"{self.words()}; {text}"
                break
        return args

    def words(self) -> str:
        # The working folder is left out, and this process's own folder is added if the child's path
        # lacks it.
        folder = os.path.dirname(_PACKAGE)
        return (
            f"import sys; path = sys.path; sys.path = [*filter(None, path), {folder!r}]; "
            f"import aioxide._ways_in.children; sys.path = path; del path; "
            f"aioxide._ways_in.children.start({self.loop_only}); del aioxide"
        )
