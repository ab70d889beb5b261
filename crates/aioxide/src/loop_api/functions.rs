//! `create_task`, `ensure_future` and `iscoroutine`.

use cpython::build::function;
use cpython::{Args, Global, Obj, Python, Raised, Ref};
use pyo3::sync::PyOnceLock;

use super::create_task;
use crate::event_loop::EventLoop;
use crate::futures::Future;
use crate::interop::current::running_loop;
use crate::tasks::{Task, is_coroutine};

/// `asyncio.tasks.ensure_future`, as it was at import.
static ENSURE_FUTURE: PyOnceLock<Global> = PyOnceLock::new();

/// `create_task(coro, **kwargs)`: of the running loop.
fn create_task_of_running_loop(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    let Some(running) = running_loop(py)? else {
        return Err(Raised::runtime_error(py, "no running event loop"));
    };
    if let Some(native) = Ref::<EventLoop>::of(&running) {
        if !EventLoop::is_overridden(native) {
            return create_task(native, args);
        }
    }
    let method = running.attr(pyo3::intern!(py, "create_task"))?;
    let (positional, keywords) = args.to_tuple_and_dict(py)?;
    method.call_with_dict(&positional, keywords.as_ref())
}

/// `ensure_future(coro_or_future, *, loop=None)`: native for our futures, and for coroutines in a
/// running native loop; asyncio's own function for all else.
pub(crate) fn ensure_future(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    if let Some([object]) = args.only_positional() {
        if Ref::<Task>::of_exact(object).is_some() || Ref::<Future>::of_exact(object).is_some() {
            return Ok(object.clone());
        }
        if object.is_coroutine_exact() {
            if let Some(running) = running_loop(py)? {
                if let Some(native) = Ref::<EventLoop>::of(&running) {
                    if EventLoop::is_fast(native) && native.task_factory.is_none() {
                        return create_task(native, args);
                    }
                }
            }
        }
    }
    let Some(theirs) = ENSURE_FUTURE.get(py) else {
        return Err(Raised::runtime_error(py, "aioxide is not imported"));
    };
    let (positional, keywords) = args.to_tuple_and_dict(py)?;
    theirs
        .get(py)
        .call_with_dict(&positional, keywords.as_ref())
}

fn iscoroutine(py: Python<'_>, args: &Args<'_>) -> Result<bool, Raised> {
    let [object] = args.bind("iscoroutine", &["obj"], 1, 1)?;
    is_coroutine(&object.unwrap_or_else(|| Obj::none(py)))
}

/// Adds the functions to the module.
pub(crate) fn add_functions(py: Python<'_>, module: &Obj, name: &Obj) -> Result<(), Raised> {
    let theirs = Obj::import(py, c"asyncio.tasks")?.attr(pyo3::intern!(py, "ensure_future"))?;
    let _ = ENSURE_FUTURE.set(py, Global::new(theirs));
    let doc = c"create_task(coro, *, name=None, context=None, **kwargs)\n--\n\nSchedule a coroutine in the running loop; returns a Task.";
    let made = function(py, c"create_task", doc, name, create_task_of_running_loop)?;
    module.set_attr(pyo3::intern!(py, "create_task"), &made)?;
    let doc = c"ensure_future(coro_or_future, *, loop=None)\n--\n\nA future as it is; a coroutine or another awaitable scheduled as a Task.";
    let made = function(py, c"ensure_future", doc, name, ensure_future)?;
    module.set_attr(pyo3::intern!(py, "ensure_future"), &made)?;
    let doc = c"iscoroutine(obj)\n--\n\nWhether the object is a coroutine object.";
    let made = function(py, c"iscoroutine", doc, name, iscoroutine)?;
    module.set_attr(pyo3::intern!(py, "iscoroutine"), &made)
}
