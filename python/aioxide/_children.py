"""aioxide in the processes that multiprocessing starts, process pools and server workers among them.

A forked process has it already. For spawn and forkserver, multiprocessing starts `python -c "from
multiprocessing.… import …"`; that line gets a few words more, so that aioxide is in place before
the child looks for the program's module. Other child processes are none of the runner's business,
so this is not done by an environment variable.
"""

import os
from multiprocessing import util

from . import _install

_STARTS = ("from multiprocessing.spawn import", "from multiprocessing.forkserver import")


def start(loop_only=False):
    """Put aioxide in asyncio's place here and in what multiprocessing starts from here."""
    if loop_only:
        _install.install_loop()
    else:
        _install.install()
    if not isinstance(util.spawnv_passfds, _Spawn):
        util.spawnv_passfds = _Spawn(util.spawnv_passfds, loop_only)


class _Spawn:
    """multiprocessing's function that starts Python."""

    def __init__(self, spawn, loop_only):
        self.spawn = spawn
        self.loop_only = loop_only

    def __call__(self, path, args, passfds):
        return self.spawn(path, self.extended(args), passfds)

    def extended(self, args):
        """`args` with aioxide started before multiprocessing; as they are if it is not about it."""
        args = list(args)
        for index in range(1, len(args)):
            text = os.fsdecode(args[index])
            if args[index - 1] in ("-c", b"-c") and any(start in text for start in _STARTS):
                args[index] = f"{self.words()}; {text}"
                break
        return args

    def words(self):
        # Not from the working folder, and from where this process has it if the child's own path
        # lacks that.
        folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        return (
            f"import sys; path = sys.path; sys.path = [*filter(None, path), {folder!r}]; "
            f"import aioxide._children; sys.path = path; del path; "
            f"aioxide._children.start({self.loop_only}); del aioxide"
        )
