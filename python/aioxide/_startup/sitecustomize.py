"""Puts aioxide into the Python processes that a program starts, where the program has asked for it.

`python -m aioxide --children` puts this folder in front of PYTHONPATH, so that Python runs this
file when it starts, in place of the user's own sitecustomize. That one is run afterwards. Any
Python may run this file, of any version and without aioxide, and must not notice it. A Python of
the same kind as the program's puts aioxide in place when asyncio is imported, not before, because
most processes never import it.
"""

# The file has no annotations, because old Pythons cannot read them.
# mypy: allow-untyped-defs, allow-untyped-calls

import os
import sys


def _is_wanted():
    asked = os.environ.get("AIOXIDE_CHILDREN", "") not in ("", "0")
    kind = getattr(sys.implementation, "cache_tag", None), getattr(sys, "abiflags", "")
    return asked and os.environ.get("AIOXIDE_CHILDREN_OF") == "%s%s" % kind  # noqa: UP031 (Python 2 too)


class _Finder:
    """A finder of modules that waits for the import of asyncio."""

    def find_spec(self, name, path=None, target=None):
        if name != "asyncio":
            return None
        sys.meta_path.remove(self)
        from importlib.util import find_spec

        spec = find_spec(name)
        if spec is not None and "aioxide" not in sys.modules:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec


class _Loader:
    """asyncio's loader, which puts aioxide in place afterwards."""

    def __init__(self, loader):
        self._loader = loader

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        try:  # noqa: SIM105 (no import that others may not have)
            _put_in_place()
        except ImportError:
            pass  # there is no aioxide for this process


def _put_in_place():
    folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = sys.path
    # The working folder is left out, and the program's own folder is added if this process's path
    # lacks it.
    sys.path = [entry for entry in path if entry] + [folder]
    try:
        import aioxide._ways_in.children
    finally:
        sys.path = path
    aioxide._ways_in.children.start(os.environ.get("AIOXIDE_CHILDREN") == "loop")


def _run_own():
    """Run the sitecustomize that Python would have found without this folder."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != here]
    getattr(sys, "path_importer_cache", {}).pop(here, None)
    del sys.modules["sitecustomize"]
    # If there is none, this raises what Python expects.
    __import__("sitecustomize")


if __name__ == "sitecustomize":
    if hasattr(sys, "implementation") and _is_wanted():
        sys.meta_path.insert(0, _Finder())
    _run_own()
