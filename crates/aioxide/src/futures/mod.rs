//! Future: a result that is not there yet.
//!
//! - [`any_loop`]: making a future of any loop.
//! - [`future`]: the value of a Future, its methods and its end.
//! - [`callbacks`]: the calls of a Future's waiters when it is done.
//! - [`waiters`]: the first waiter, and where the others are.
//! - [`flags`] and [`rare`]: yes-or-no facts in a byte, and the fields that few Futures need.
//! - [`interface`]: the Python side: methods, properties, texts.
//! - [`await_future`]: the iterator of `await future`.

mod any_loop;
mod await_future;
mod callbacks;
mod flags;
mod future;
mod interface;
mod rare;
mod waiters;

pub(crate) use any_loop::{create_future, makes_native_futures, with_native_futures};
pub(crate) use await_future::{FutureIter, Thrown, is_exit, step as await_step};
pub(crate) use flags::Flag;
pub(crate) use future::{Future, FutureState};
pub(crate) use interface::generic_alias;

use cpython::{Obj, Python, Raised, Ref};

use pyo3::sync::PyOnceLock;

use crate::handles::{Handle, served};
use crate::interop::current::running_loop;
use crate::interop::mirror::FutureFields;
use crate::interop::{EndsProgram, asyncio};

/// Builds the types.
pub(crate) fn build(py: Python<'_>) -> Result<(), Raised> {
    cpython::build::build::<Future>(py, Some(asyncio(py).c_future.get(py)), 0)?;
    cpython::build::build::<FutureIter>(py, None, 0)?;
    Ok(())
}

static MIRROR: PyOnceLock<FutureFields<Future>> = PyOnceLock::new();

/// Keeps the fields of the accelerator's struct that other code reads. Called when the module
/// starts.
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
pub(crate) fn alarm(object: &Obj) -> Result<(), EndsProgram> {
    match Ref::<Future>::of(object) {
        Some(future) if future.is_pending() => {
            let result = future
                .take_planned()
                .unwrap_or_else(|| Obj::none(object.py()));
            if future.has_attributes() {
                return end_sleep_by_name(object, result);
            }
            Future::set_result(future, result.clone())
                .or_else(|raised| sleep_failed(object, result, raised))
        }
        Some(_) => Ok(()),
        None => match served::watching(object) {
            Some(watching) => (watching.due)(object).or_else(|raised| due_failed(object, raised)),
            None => served::unserved(object),
        },
    }
}

#[cold]
fn due_failed(watcher: &Obj, raised: Raised) -> Result<(), EndsProgram> {
    let py = watcher.py();
    let exception = EndsProgram::or_caught(py, raised)?;
    match served::due_call_of(watcher) {
        Ok((callback, args)) => report(py, || Ok(callback), &args, Raised::raise(exception)),
        Err(raised) => EndsProgram::after_report(watcher, Err(raised)),
    }
}

/// Ends a sleep through a Future's methods, because the program has set attributes on it.
#[cold]
fn end_sleep_by_name(future: &Obj, result: Obj) -> Result<(), EndsProgram> {
    let set_result = asyncio(future.py())
        .set_result_unless_cancelled
        .get(future.py());
    match set_result.call(&[future, &result]) {
        Ok(_) => Ok(()),
        Err(raised) => sleep_failed(future, result, raised),
    }
}

#[cold]
fn sleep_failed(future: &Obj, result: Obj, raised: Raised) -> Result<(), EndsProgram> {
    let py = future.py();
    let callback = || Ok(asyncio(py).set_result_unless_cancelled.get(py).clone());
    report(py, callback, &[future.clone(), result], raised)
}

/// Tells the next watcher of a Future that it is done.
pub(crate) fn notify(object: &Obj) -> Result<(), EndsProgram> {
    let Some(watcher) = Ref::<Future>::of(object).and_then(|future| future.take_told()) else {
        return Ok(());
    };
    let Some(watching) = served::watching(&watcher) else {
        return served::unserved(&watcher);
    };
    (watching.on_done)(&watcher, object).or_else(|raised| {
        let callback = || (watching.callable)(&watcher, object);
        report(object.py(), callback, std::slice::from_ref(object), raised)
    })
}

/// Reports an exception of a native call that stands for a callback of the running loop.
#[cold]
fn report(
    py: Python<'_>,
    callback: impl FnOnce() -> Result<Obj, Raised>,
    args: &[Obj],
    raised: Raised,
) -> Result<(), EndsProgram> {
    let exception = EndsProgram::or_caught(py, raised)?;
    match running_loop(py) {
        Ok(Some(running)) => {
            let raised = Raised::raise(exception);
            Handle::report_call(&running, callback, args, None, raised)
        }
        Ok(None) => EndsProgram::after_report(&exception, Err(Raised::raise(exception.clone()))),
        Err(raised) => EndsProgram::after_report(&exception, Err(raised)),
    }
}
