"""A module that has a `__getattr__` and whose other attributes are found fast all the same.

CPython 3.14 finds each attribute of such a module the long way, at each call of `asyncio.sleep()`
anew. Earlier versions do so too, but their asyncio has no `__getattr__`; later ones do not.
"""

import operator
import sys
import types


def make_quick(module, names):
    """Let the class of a module give all the names that its `__getattr__` gives.

    Returns the change, which can be reverted; None where it would not help, or where the module is
    no longer as it was imported.
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

    def __init__(self, module, on_request, names):
        self._module = module
        self._on_request = on_request
        properties = {name: self._property(name) for name in names}
        # By way of a method written in C: the warning that asking for the name brings is for the
        # caller of whoever gives it.
        properties["_on_request"] = staticmethod(self._on_request)
        self._class = type("module", (types.ModuleType,), properties)

    def _property(self, name):
        def set_(module, value):
            self.revert()
            setattr(module, name, value)

        def delete(module):
            self.revert()
            delattr(module, name)

        return property(operator.methodcaller("_on_request", name), set_, delete)

    def apply(self):
        self._module.__class__ = self._class
        del self._module.__getattr__

    def revert(self):
        # What others have made of the module since then stays.
        if type(self._module) is self._class:
            vars(self._module).setdefault("__getattr__", self._on_request)
            self._module.__class__ = types.ModuleType
