//! Task: a coroutine that the loop drives.
//!
//! - [`task`]: the value, making and ending one, cancelling.
//! - [`step`]: one step: send into the coroutine, wait on what it yields.
//! - [`interface`]: the Python side.
//! - [`registry`]: `current_task`, `all_tasks` and their private relatives.

mod interface;
mod registry;
mod step;
mod task;

pub(crate) use registry::add_functions;
pub(crate) use step::run;
pub(crate) use task::{Task, is_coroutine};

use cpython::{Python, Raised};

use crate::interop::asyncio;

/// Builds the type: a subclass of the accelerator's Task and of our Future.
pub(crate) fn build(py: Python<'_>) -> Result<(), Raised> {
    cpython::build::build::<Task>(py, Some(asyncio(py).c_task.get(py)), 0)?;
    cpython::build::adopt::<Task>(py)
}
