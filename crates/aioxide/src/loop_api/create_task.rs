//! `create_task`.

use cpython::build::function;
use cpython::{Args, Obj, Python, Raised, Ref};

use super::create_task;
use crate::event_loop::EventLoop;
use crate::interop::current::running_loop;

/// `create_task(coro, **kwargs)`: makes a task of the running loop.
fn create_task_of_running_loop(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    let Some(running) = running_loop(py)? else {
        return Err(Raised::runtime_error(py, "no running event loop"));
    };
    if let Some(native) = Ref::<EventLoop>::of(&running) {
        if !EventLoop::is_replaced(native) {
            return create_task(native, args);
        }
    }
    let method = running.attr(pyo3::intern!(py, "create_task"))?;
    let (positional, keywords) = args.to_tuple_and_dict(py)?;
    method.call_with_dict(&positional, keywords.as_ref())
}

/// Adds the function to the module.
pub(super) fn add_function(py: Python<'_>, module: &Obj, name: &Obj) -> Result<(), Raised> {
    let doc = c"create_task(coro, *, name=None, context=None, **kwargs)\n--\n\nSchedule a coroutine in the running loop; return a Task.";
    let made = function(py, c"create_task", doc, name, create_task_of_running_loop)?;
    module.set_attr(pyo3::intern!(py, "create_task"), &made)
}
