//! Task: a coroutine that the loop drives.
//!
//! - [`task`]: the value, making and ending one, cancelling.
//! - [`step`]: one step: send into the coroutine, wait on what it yields.
//! - [`interface`]: the Python side.
//! - [`name`]: where its name is kept.
//! - [`registry`]: `current_task`, `all_tasks` and their private relatives.

mod interface;
mod name;
mod registry;
mod step;
mod task;

pub(crate) use registry::add_functions;
pub(crate) use step::run;
pub(crate) use task::{Task, cancel_waiter, is_coroutine};

use cpython::{Python, Raised};
use pyo3::sync::PyOnceLock;

use crate::futures::Future;
use crate::interop::asyncio;
use crate::interop::mirror::TaskFields;

/// Builds the type: a subclass of the accelerator's Task and of our Future.
pub(crate) fn build(py: Python<'_>) -> Result<(), Raised> {
    cpython::build::build::<Task>(py, Some(asyncio(py).c_task.get(py)), 0)?;
    cpython::build::adopt::<Task>(py)?;
    Future::tell_ends(registry::ended);
    Ok(())
}

static MIRROR: PyOnceLock<TaskFields<Task>> = PyOnceLock::new();

/// Keeps the fields of the accelerator's struct that others read; called when the module starts.
pub(crate) fn keep_mirror(py: Python<'_>, fields: TaskFields<Task>) {
    let _ = MIRROR.set(py, fields);
}

/// The fields, where they could be verified.
#[inline]
fn mirror(py: Python<'_>) -> Option<&'static TaskFields<Task>> {
    MIRROR.get(py)
}
