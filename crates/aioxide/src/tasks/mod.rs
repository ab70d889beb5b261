//! Task: a coroutine that the loop drives.
//!
//! - [`task`]: the value, making and ending one, cancelling.
//! - [`any_future`]: a future of any kind, ours directly and others through their methods.
//! - [`step`]: one step: send into the coroutine, wait on what it yields.
//! - [`interface`]: the Python side.
//! - [`name`]: where a task's name is kept.
//! - [`registry`]: `current_task`, `all_tasks` and their private relatives.

pub(crate) mod any_future;
mod interface;
mod name;
mod registry;
mod step;
mod task;

pub(crate) use name::set_name;
pub(crate) use registry::{add_functions, ended};
pub(crate) use step::run;
pub(crate) use task::{Task, cancel_bare, is_coroutine};

use cpython::{Python, Raised};
use pyo3::sync::PyOnceLock;

use crate::interop::asyncio;
use crate::interop::mirror::TaskFields;

/// Builds the type: a subclass of the accelerator's Task and of our Future.
pub(crate) fn build(py: Python<'_>) -> Result<(), Raised> {
    cpython::build::build::<Task>(py, Some(asyncio(py).c_task.get(py)), 0)?;
    cpython::build::adopt::<Task>(py)?;
    Ok(())
}

static MIRROR: PyOnceLock<TaskFields<Task>> = PyOnceLock::new();

/// Keeps the fields of the accelerator's struct that debuggers read, when the module starts.
pub(crate) fn keep_mirror(py: Python<'_>, fields: TaskFields<Task>) {
    let _ = MIRROR.set(py, fields);
}

/// The fields, where they could be verified.
#[inline]
fn mirror(py: Python<'_>) -> Option<&'static TaskFields<Task>> {
    MIRROR.get(py)
}
