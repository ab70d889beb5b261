//! Future: a result that is not there yet.
//!
//! - [`future`]: the state, its methods, and what happens when it is done.
//! - [`callbacks`]: who is told: the first one inline, the others in a vector.
//! - [`interface`]: the Python side: methods, properties, texts.
//! - [`await_future`]: what `await future` iterates over.

mod await_future;
mod callbacks;
mod future;
mod interface;

pub(crate) use await_future::{FutureIter, step as await_step, thrown};
pub(crate) use callbacks::Waiter;
pub(crate) use future::{Future, State};
pub(crate) use interface::generic_alias;

use cpython::{Obj, Python, Raised, Ref};

use pyo3::sync::PyOnceLock;

use crate::interop::asyncio;
use crate::interop::mirror::{Mirror, Offsets};

/// Builds the types. The Future's base part has room for the Task's, so that a Task can hold a
/// Future's value at the same place.
pub(crate) fn build(py: Python<'_>) -> Result<(), Raised> {
    let imports = asyncio(py);
    let room = cpython::build::basic_size(imports.c_task.get(py));
    cpython::build::build::<Future>(py, Some(imports.c_future.get(py)), room)?;
    cpython::build::build::<FutureIter>(py, None, 0)?;
    Ok(())
}

static MIRROR: PyOnceLock<Option<Mirror<Future>>> = PyOnceLock::new();

/// Looks for the fields of the accelerator's struct that others read; called when the module
/// starts, once the types are built.
pub(crate) fn find_mirror(py: Python<'_>, offsets: Option<Offsets>) {
    let _ = MIRROR.set(
        py,
        offsets.and_then(|offsets| Mirror::verified(py, &offsets)),
    );
}

/// The fields, where they could be verified.
#[inline]
pub(crate) fn mirror(py: Python<'_>) -> Option<&'static Mirror<Future>> {
    MIRROR.get(py).and_then(Option::as_ref)
}

/// A sleeping Future's time has come: it gets its result unless it is done.
pub(crate) fn alarm(object: &Obj) -> Result<(), Raised> {
    if let Some(future) = Ref::<Future>::of(object) {
        if future.state() == State::Pending {
            let result = future
                .take_planned()
                .unwrap_or_else(|| Obj::none(object.py()));
            if let Err(raised) = Future::set_result(future, result) {
                raised.report_unraisable(Some(object));
            }
        }
    }
    Ok(())
}
