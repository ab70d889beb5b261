//! The callables that stand for watchers where a loop or a future wants a callback.
//!
//! They have the names of asyncio's functions, and the place where those are written. So messages
//! about them, as "Exception in callback ...", read like asyncio's.

use cpython::callable::{bound, callable, seal};
use cpython::{Args, Global, Obj, Python, Raised, Ref};
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use crate::handles::served::Watcher;

/// The callbacks of asyncio's for which they stand.
#[derive(Clone, Copy)]
pub(super) enum CallableName {
    GatherDone,
    ShieldInnerDone,
    ShieldOuterDone,
    ShieldClear,
    WaitDone,
    WaitDue,
    WaitForDone,
    WaitForDue,
    CompletedDone,
    CompletedDue,
}

/// A function of asyncio's: its qualified name, and whether it is a plain function, whose place
/// messages show, or a method.
struct CallablePlace {
    name: &'static str,
    is_function: bool,
}

const fn function(name: &'static str) -> CallablePlace {
    CallablePlace {
        name,
        is_function: true,
    }
}

const fn method(name: &'static str) -> CallablePlace {
    CallablePlace {
        name,
        is_function: false,
    }
}

/// In the order of [`CallableName`], all in `asyncio.tasks`.
const PLACES: [CallablePlace; 10] = [
    function("gather.<locals>._done_callback"),
    function("shield.<locals>._inner_done_callback"),
    function("shield.<locals>._outer_done_callback"),
    function("shield.<locals>._clear_awaited_by_callback"),
    function("_wait.<locals>._on_completion"),
    function("_release_waiter"),
    function("_release_waiter"),
    if cfg!(Py_3_12) {
        method("Timeout._on_timeout")
    } else {
        function("_release_waiter")
    },
    if cfg!(Py_3_13) {
        method("_AsCompletedIterator._handle_completion")
    } else {
        function("as_completed.<locals>._on_completion")
    },
    if cfg!(Py_3_13) {
        method("_AsCompletedIterator._handle_timeout")
    } else {
        function("as_completed.<locals>._on_timeout")
    },
];

static CALLABLES: PyOnceLock<[Global; 10]> = PyOnceLock::new();

/// The function that calls a watcher when a future is done.
pub(super) fn on_done_callable<T: Watcher>(py: Python<'_>, doc: &str) -> Result<Obj, Raised> {
    callable(py, "", doc, call_on_done::<T>)
}

/// The function that calls a watcher when its time has come.
pub(super) fn on_time_callable<T: Watcher>(py: Python<'_>, doc: &str) -> Result<Obj, Raised> {
    callable(py, "", doc, due::<T>)
}

/// Keeps the functions, in the order of [`CallableName`], and describes them as those of `tasks`,
/// asyncio's module.
pub(super) fn load(py: Python<'_>, tasks: &Obj, made: [Obj; 10]) -> Result<(), Raised> {
    for (made, place) in made.iter().zip(&PLACES) {
        describe(tasks, made, place)?;
    }
    let _ = CALLABLES.set(py, made.map(Global::new));
    Ok(())
}

/// A watcher as the callable of this name.
pub(super) fn callable_of(name: CallableName, watcher: &Obj) -> Result<Obj, Raised> {
    let py = watcher.py();
    match CALLABLES.get(py) {
        Some(callables) => bound(callables[name as usize].get(py), watcher),
        None => Err(Raised::runtime_error(py, "the module has not started")),
    }
}

fn call_on_done<T: Watcher>(py: Python<'_>, args: &Args<'_>) -> Result<(), Raised> {
    if let [watcher, future] = args.positional {
        if let Some(watcher) = Ref::<T>::of_any(watcher) {
            return watcher.within(|watcher| T::on_done(watcher, future));
        }
    }
    Err(Raised::type_error(
        py,
        "a watcher and a future are required",
    ))
}

fn due<T: Watcher>(py: Python<'_>, args: &Args<'_>) -> Result<(), Raised> {
    match args.positional.first().and_then(Ref::<T>::of_any) {
        Some(watcher) => watcher.within(T::due),
        None => Err(Raised::type_error(py, "a watcher is required")),
    }
}

fn describe(tasks: &Obj, made: &Obj, place: &CallablePlace) -> Result<(), Raised> {
    let py = tasks.py();
    let own = place.name.rsplit('.').next().unwrap_or(place.name);
    let set = |name: &str, value: &Obj| made.set_attr(&PyString::intern(py, name), value);
    set("__name__", &Obj::str(py, own)?)?;
    set("__qualname__", &Obj::str(py, place.name)?)?;
    set("__module__", &Obj::str(py, "asyncio.tasks")?)?;
    if place.is_function {
        if let Some(original) = original(tasks, place.name)? {
            set("__wrapped__", &original)?;
        }
    }
    seal(made);
    Ok(())
}

/// A function of asyncio's, for its place. A function inside another one cannot be reached.
fn original(tasks: &Obj, path: &str) -> Result<Option<Obj>, Raised> {
    let py = tasks.py();
    let get = |object: &Obj, name: &str| object.attr(&PyString::intern(py, name));
    let (outer, inner) = match path.split_once(".<locals>.") {
        Some((outer, inner)) => (outer, inner),
        None => return tasks.attr_opt(&PyString::intern(py, path)),
    };
    let Some(outer) = tasks.attr_opt(&PyString::intern(py, outer))? else {
        return Ok(None);
    };
    let constants = get(&get(&outer, "__code__")?, "co_consts")?.iter()?;
    while let Some(constant) = constants.next()? {
        let name = constant.attr_opt(&PyString::intern(py, "co_name"))?;
        let is_it = match &name {
            Some(name) => name.as_str()? == inner,
            None => false,
        };
        if is_it {
            let types = Obj::import(py, c"types")?;
            let cell = get(&types, "CellType")?;
            let count = get(&constant, "co_freevars")?.tuple_len();
            let cells = (0..count)
                .map(|_| cell.call0())
                .collect::<Result<Vec<_>, _>>()?;
            let (globals, none) = (Obj::dict(py)?, Obj::none(py));
            let made = get(&types, "FunctionType")?;
            let cells = Obj::tuple(py, &cells)?;
            return made
                .call(&[&constant, &globals, &none, &none, &cells])
                .map(Some);
        }
    }
    Ok(None)
}
