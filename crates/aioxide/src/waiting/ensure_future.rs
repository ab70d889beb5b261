//! `ensure_future()` and `iscoroutine()`.

use cpython::build::function;
use cpython::{Args, Obj, Python, Raised, Ref};

use crate::event_loop::EventLoop;
use crate::interop::asyncio;
use crate::interop::current::{known_loop, running_loop};
use crate::tasks::any_future::AnyFuture;
use crate::tasks::{Task, is_coroutine};

/// `ensure_future(object, loop=event_loop)`.
#[inline]
pub(super) fn ensure_future(object: &Obj, event_loop: Option<&Obj>) -> Result<Obj, Raised> {
    if let (true, Some(event_loop)) = (object.is_coroutine_exact(), event_loop) {
        return start(object, event_loop);
    }
    ensure_any_future(object, event_loop)
}

fn ensure_any_future(object: &Obj, event_loop: Option<&Obj>) -> Result<Obj, Raised> {
    let py = object.py();
    if let AnyFuture::Native(future) = AnyFuture::of(object) {
        match event_loop {
            None => {
                future.ensure_alive(py)?;
                return Ok(object.clone());
            }
            Some(event_loop) if future.has_loop(event_loop) => return Ok(object.clone()),
            Some(_) => {}
        }
    } else if is_coroutine(object)? {
        let event_loop = match event_loop {
            Some(event_loop) => event_loop.clone(),
            None => current_loop(py)?,
        };
        return start(object, &event_loop);
    }
    // asyncio's own function deals with other futures, with awaitables that need a coroutine around
    // them, and with objects that are neither.
    let imports = asyncio(py);
    let original = imports.ensure_future.get(py);
    let none = Obj::none(py);
    let names = Obj::tuple(py, &[Obj::from_bound(pyo3::intern!(py, "loop").clone())])?;
    original.call_named(&[object, event_loop.unwrap_or(&none)], Some(&names))
}

/// Makes a task of a coroutine, and closes the coroutine if the loop cannot.
fn start(coroutine: &Obj, event_loop: &Obj) -> Result<Obj, Raised> {
    let py = coroutine.py();
    let raised = match create_task(event_loop, coroutine) {
        Ok(task) => return Ok(task),
        Err(raised) => raised,
    };
    if raised.matches(&Obj::class_of::<pyo3::exceptions::PyRuntimeError>(py)) {
        let exception = raised.take(py);
        coroutine.method(pyo3::intern!(py, "close"), &[])?;
        return Err(Raised::raise(exception));
    }
    Err(raised)
}

/// `loop.create_task(coroutine)`.
#[inline]
pub(super) fn create_task(event_loop: &Obj, coroutine: &Obj) -> Result<Obj, Raised> {
    if let Some(native) = Ref::<EventLoop>::of(event_loop) {
        if let Some(task) = Task::create_plain(native, coroutine)? {
            return Ok(task.into_obj());
        }
    }
    event_loop.method(pyo3::intern!(event_loop.py(), "create_task"), &[coroutine])
}

/// `asyncio.get_event_loop()`.
pub(super) fn current_loop(py: Python<'_>) -> Result<Obj, Raised> {
    match running_loop(py)? {
        Some(running) => Ok(running),
        None => {
            let name = if cfg!(Py_3_12) {
                pyo3::intern!(py, "get_event_loop")
            } else {
                pyo3::intern!(py, "_get_event_loop")
            };
            asyncio(py).events.get(py).method(name, &[])
        }
    }
}

/// `asyncio.get_running_loop()`.
#[inline]
pub(super) fn get_running_loop(py: Python<'_>) -> Result<Obj, Raised> {
    match known_loop(py) {
        Some(running) => Ok(running),
        None => ask_for_running_loop(py),
    }
}

#[cold]
fn ask_for_running_loop(py: Python<'_>) -> Result<Obj, Raised> {
    running_loop(py)?.ok_or_else(|| Raised::runtime_error(py, "no running event loop"))
}

fn python_ensure_future(_: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    let names = &["coro_or_future", "loop"];
    let [object, event_loop] = args.bind_function_in_part("ensure_future", names, 1, 1)?;
    match object {
        Some(object) => ensure_any_future(&object, event_loop.and_then(Obj::not_none).as_ref()),
        None => Ok(Obj::none(args.positional[0].py())),
    }
}

fn python_iscoroutine(_: Python<'_>, args: &Args<'_>) -> Result<bool, Raised> {
    let [object] = args.bind_function("iscoroutine", &["obj"], 1)?;
    match object {
        Some(object) => is_coroutine(&object),
        None => Ok(false),
    }
}

/// Adds the functions to the module.
pub(super) fn add_functions(py: Python<'_>, module: &Obj, name: &Obj) -> Result<(), Raised> {
    let doc = c"ensure_future(coro_or_future, *, loop=None)\n--\n\n\
        The object itself if it is a future, else a Task of it: of the loop, or of the running or current one.";
    let ensure = function(py, c"ensure_future", doc, name, python_ensure_future)?;
    module.set_attr(pyo3::intern!(py, "ensure_future"), &ensure)?;
    let doc = c"iscoroutine(obj)\n--\n\nWhether the object is a coroutine that a Task can drive.";
    let iscoroutine = function(py, c"iscoroutine", doc, name, python_iscoroutine)?;
    module.set_attr(pyo3::intern!(py, "iscoroutine"), &iscoroutine)
}
