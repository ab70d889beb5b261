//! Native functions that stand for an `async def`.

use cpython::{Obj, Python, Raised, callable};
use pyo3::types::PyString;

/// Puts a native method into a class, and gives it the description of asyncio's method of that
/// name.
pub(crate) fn put_method(class: &Obj, theirs: &Obj, name: &str, made: &Obj) -> Result<(), Raised> {
    let py = class.py();
    let name = PyString::intern(py, name);
    describe(py, made, &theirs.attr(&name)?)?;
    class.set_attr(&name, made)
}

/// Makes a native function or method (`cpython::callable`) a coroutine function for `inspect`, with
/// the parameters of asyncio's. `inspect` looks for a code object that says "coroutine" and names
/// the parameters, and on later versions for a marker as well.
pub(crate) fn describe(py: Python<'_>, made: &Obj, original: &Obj) -> Result<(), Raised> {
    for name in [
        "__qualname__",
        "__code__",
        "__defaults__",
        "__kwdefaults__",
        "__annotations__",
    ] {
        let name = PyString::intern(py, name);
        made.set_attr(&name, &original.attr(&name)?)?;
    }
    made.set_attr(pyo3::intern!(py, "__module__"), &Obj::str(py, "aioxide")?)?;
    let inspect = Obj::import(py, c"inspect")?;
    if let Some(mark) = inspect.attr_opt(pyo3::intern!(py, "markcoroutinefunction"))? {
        mark.call1(made)?;
    }
    callable::seal(made);
    Ok(())
}
