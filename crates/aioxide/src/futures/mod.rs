//! Future: a result that is not there yet.
//!
//! - [`future`]: the state, its methods, and what happens when it is done.
//! - [`callbacks`]: who is told when it is done.
//! - [`flags`] and [`rare`]: yes-or-no facts in a byte, and what few Futures have.
//! - [`interface`]: the Python side: methods, properties, texts.
//! - [`await_future`]: what `await future` iterates over.

mod await_future;
mod callbacks;
mod flags;
mod future;
mod interface;
mod rare;

pub(crate) use await_future::{FutureIter, step as await_step, thrown};
pub(crate) use callbacks::Watching;
pub(crate) use flags::Flag;
pub(crate) use future::{Future, State};
pub(crate) use interface::generic_alias;

use cpython::{Obj, Python, Raised, Ref};

use pyo3::sync::PyOnceLock;

use crate::interop::asyncio;
use crate::interop::imports::ends_program;
use crate::interop::mirror::FutureFields;

/// Builds the types.
pub(crate) fn build(py: Python<'_>) -> Result<(), Raised> {
    cpython::build::build::<Future>(py, Some(asyncio(py).c_future.get(py)), 0)?;
    cpython::build::build::<FutureIter>(py, None, 0)?;
    Ok(())
}

static MIRROR: PyOnceLock<FutureFields<Future>> = PyOnceLock::new();

/// Keeps the fields of the accelerator's struct that others read; called when the module starts.
pub(crate) fn keep_mirror(py: Python<'_>, fields: FutureFields<Future>) {
    let _ = MIRROR.set(py, fields);
}

/// The fields, where they could be verified.
#[inline]
pub(crate) fn mirror(py: Python<'_>) -> Option<&'static FutureFields<Future>> {
    MIRROR.get(py)
}

/// An alarm's time has come: a sleeping Future gets its result unless it is done, others know
/// themselves what to do.
pub(crate) fn alarm(object: &Obj) -> Result<(), Raised> {
    let outcome = match Ref::<Future>::of(object) {
        Some(future) if future.is_pending() => {
            let result = future
                .take_planned()
                .unwrap_or_else(|| Obj::none(object.py()));
            Future::set_result(future, result)
        }
        Some(_) => Ok(()),
        None => match callbacks::Watching::get() {
            Some(watching) => (watching.due)(object),
            None => Ok(()),
        },
    };
    outcome.or_else(|raised| report(object, raised))
}

/// Tells the next watcher of a Future that it is done.
pub(crate) fn tell(object: &Obj) -> Result<(), Raised> {
    let Some(watcher) = Ref::<Future>::of(object).and_then(|future| future.take_told()) else {
        return Ok(());
    };
    let outcome = match callbacks::Watching::get() {
        Some(watching) => (watching.told)(&watcher, object),
        None => Ok(()),
    };
    outcome.or_else(|raised| report(&watcher, raised))
}

/// What is no exception that ends the program is nobody's.
#[cold]
fn report(object: &Obj, raised: Raised) -> Result<(), Raised> {
    let exception = raised.take(object.py());
    if ends_program(object.py(), &exception) {
        return Err(Raised::raise(exception));
    }
    Raised::raise(exception).report_unraisable(Some(object));
    Ok(())
}
