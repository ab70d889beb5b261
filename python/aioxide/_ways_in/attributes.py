"""Makes the attributes of a module that has a `__getattr__` quick to find.

CPython 3.14 looks up every attribute of such a module slowly, at each call of `asyncio.sleep()`
anew. Earlier versions do so too, but their asyncio has no `__getattr__`; later versions do not.
"""

import operator
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def make_quick(module: types.ModuleType, names: "Iterable[str]") -> "QuickModule | None":
    """Let the class of a module provide all the names that its `__getattr__` provides.

    Returns the change, which can be reverted. Returns None where it would not help, or where the
    module is no longer as it was imported.
    """
    on_request = vars(module).get("__getattr__")
    as_imported = (
        type(module) is types.ModuleType
        and isinstance(on_request, types.FunctionType)
        and on_request.__globals__ is vars(module)
    )
    if sys.version_info[:2] != (3, 14) or not as_imported:
        return None
    change = QuickModule(module, on_request, names)
    change.apply()
    return change


class QuickModule:
    """How to make a module quick, and how to undo it; one of the changes of install()."""

    before = after = None

    def __init__(self, module: types.ModuleType, on_request: "Any", names: "Iterable[str]") -> None:
        self._module = module
        self._on_request = on_request
        properties: dict[str, object] = {name: self._property(name) for name in names}
        # The getter is a method written in C, so that the warning about the name points to the
        # caller.
        properties["_on_request"] = staticmethod(self._on_request)
        self._class = type("module", (types.ModuleType,), properties)

    def _property(self, name: str) -> property:
        def set_(module: types.ModuleType, value: object) -> None:
            self.revert()
            setattr(module, name, value)

        def delete(module: types.ModuleType) -> None:
            self.revert()
            delattr(module, name)

        return property(operator.methodcaller("_on_request", name), set_, delete)

    def apply(self) -> None:
        self._module.__class__ = self._class
        del self._module.__getattr__

    def revert(self) -> None:
        # A class that other code has given the module since then stays.
        if type(self._module) is self._class:
            vars(self._module).setdefault("__getattr__", self._on_request)
            self._module.__class__ = types.ModuleType
