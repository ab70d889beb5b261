"""How `copy` and `pickle` see a lock or queue: as an object of a class made in Python.

`object.__reduce_ex__()` refuses native classes, so this module returns what it returns for a class
made in Python. The object is made anew by `cls.__new__()`, which the old protocols pass by, and
gets its attributes by `__dict__`.
"""

import copyreg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def reduce(native: type, item: "Any", protocol: int) -> "tuple[Any, ...]":
    """The value for `pickle` from which `item`, of a subclass of the class `native`, is made
    again."""
    if protocol < 2:
        return _reduce_old(native, item)
    cls = type(item)
    args, kwargs = _arguments(item)
    if kwargs:
        function: Any = copyreg.__newobj_ex__  # type: ignore[attr-defined]
        given: tuple[Any, ...] = (cls, args, kwargs)
    else:
        function, given = copyreg.__newobj__, (cls, *args)  # type: ignore[attr-defined]
    return function, given, item.__getstate__(), None, None


def _reduce_old(native: type, item: "Any") -> "tuple[Any, ...]":
    """The value for protocols 0 and 1, which pass the class's own `__new__()` by."""
    cls = item.__class__
    others = [base for base in type(item).__mro__ if base is not native and base is not object]
    if getattr(item, "__slots__", None) and not any(
        "__getstate__" in vars(base) for base in others
    ):
        raise TypeError(
            "a class that defines __slots__ without defining __getstate__ cannot be pickled"
        )
    state = item.__getstate__()
    made = native.__new__, (cls,)
    return (*made, state) if state else made


def _arguments(item: "Any") -> "tuple[tuple[Any, ...], dict[str, Any]]":
    """The result of `__getnewargs_ex__()` or `__getnewargs__()`, checked as `pickle` checks it."""
    if (get := getattr(item, "__getnewargs_ex__", None)) is not None:
        given = get()
        if not isinstance(given, tuple):
            raise TypeError(
                f"__getnewargs_ex__ should return a tuple, not '{type(given).__name__}'"
            )
        if len(given) != 2:
            raise ValueError(
                f"__getnewargs_ex__ should return a tuple of length 2, not {len(given)}"
            )
        args, kwargs = given
        for number, value, kind in ("first", args, tuple), ("second", kwargs, dict):
            if not isinstance(value, kind):
                raise TypeError(
                    f"{number} item of the tuple returned by __getnewargs_ex__ must be a "
                    f"{kind.__name__}, not '{type(value).__name__}'"
                )
        return args, kwargs
    if (get := getattr(item, "__getnewargs__", None)) is not None:
        args = get()
        if not isinstance(args, tuple):
            raise TypeError(f"__getnewargs__ should return a tuple, not '{type(args).__name__}'")
        return args, {}
    return (), {}
