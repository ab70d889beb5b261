//! A future of any kind: ours directly, any other through its methods.
//!
//! A future is ours if it is of exactly one of our types and has no attributes of its own. A
//! subclass or an object with attributes may have methods in the place of ours, which are called by
//! name as asyncio calls them.
//!
//! [`AnyFuture::of`] looks once, and the answer serves for several questions. It holds until code
//! of the program may run, which may replace a method: after that, look again. Asking a future of
//! ours runs no such code.

use cpython::{Obj, Raised, Ref};

use super::{Task, cancel_bare};
use crate::futures::{Flag, Future};
use crate::handles::served::callable_of;
use crate::interop::asyncio;

/// A future, and whether it is one of ours.
#[derive(Clone, Copy)]
pub(crate) enum AnyFuture<'a> {
    /// A Future or Task of ours, of which nothing is replaced.
    Native(&'a Ref<Future>),
    /// Anything else.
    Other(&'a Obj),
}

impl<'a> AnyFuture<'a> {
    /// Looks at the object.
    #[inline]
    pub(crate) fn of(object: &'a Obj) -> AnyFuture<'a> {
        if let Some(task) = Ref::<Task>::of_exact(object) {
            return match task.has_attributes() {
                false => AnyFuture::Native(task.parent()),
                true => AnyFuture::Other(object),
            };
        }
        match Ref::<Future>::of_bare(object).or_else(|| Future::of_subclass_as_it_is(object)) {
            Some(future) => AnyFuture::Native(future),
            None => AnyFuture::Other(object),
        }
    }

    /// Looks at the Future on which a coroutine of ours waits, which is hardly ever a Task. A Task
    /// is asked through its methods.
    #[inline(always)]
    pub(crate) fn of_waiter(object: &'a Obj) -> AnyFuture<'a> {
        match Ref::<Future>::of_bare(object) {
            Some(future) => AnyFuture::Native(future),
            None => AnyFuture::Other(object),
        }
    }

    /// The future, if it is one of ours.
    #[inline]
    pub(crate) fn native(self) -> Option<&'a Ref<Future>> {
        match self {
            AnyFuture::Native(future) => Some(future),
            AnyFuture::Other(_) => None,
        }
    }

    /// `future.done()`.
    #[inline]
    pub(crate) fn is_done(self) -> Result<bool, Raised> {
        match self {
            AnyFuture::Native(future) => Ok(!future.is_pending()),
            AnyFuture::Other(other) => ask(other, pyo3::intern!(other.py(), "done")),
        }
    }

    /// `future.cancelled()`.
    #[inline]
    pub(crate) fn is_cancelled(self) -> Result<bool, Raised> {
        match self {
            AnyFuture::Native(future) => Ok(future.is_cancelled()),
            AnyFuture::Other(other) => ask(other, pyo3::intern!(other.py(), "cancelled")),
        }
    }

    /// `future.exception()` of a future that is done and not cancelled. The exception counts as
    /// retrieved from now on.
    #[inline]
    pub(crate) fn exception(self) -> Result<Option<Obj>, Raised> {
        match self {
            AnyFuture::Native(future) => Future::exception(future),
            AnyFuture::Other(other) => {
                let name = pyo3::intern!(other.py(), "exception");
                Ok(other.method(name, &[])?.not_none())
            }
        }
    }

    /// `future.result()`.
    #[inline]
    pub(crate) fn result(self) -> Result<Obj, Raised> {
        match self {
            AnyFuture::Native(future) => Future::result(future),
            AnyFuture::Other(other) => other.method(pyo3::intern!(other.py(), "result"), &[]),
        }
    }

    /// `future._make_cancelled_error()`.
    pub(crate) fn cancelled_error(self) -> Result<Obj, Raised> {
        match self {
            AnyFuture::Native(future) => Future::make_cancelled_error(future),
            AnyFuture::Other(other) => {
                other.method(pyo3::intern!(other.py(), "_make_cancelled_error"), &[])
            }
        }
    }

    /// `future._cancel_message`, unless it is None.
    pub(crate) fn cancel_message(self) -> Result<Option<Obj>, Raised> {
        match self {
            AnyFuture::Native(future) => Ok(future.cancel_message().and_then(Obj::not_none)),
            AnyFuture::Other(other) => {
                let message = other.attr(pyo3::intern!(other.py(), "_cancel_message"))?;
                Ok(message.not_none())
            }
        }
    }

    /// `future.set_result(result)`, or with an exception `future.set_exception(exception)`.
    #[inline]
    pub(crate) fn set(self, outcome: Result<Obj, Obj>) -> Result<(), Raised> {
        match (self, outcome) {
            (AnyFuture::Native(future), Ok(result)) => Future::set_result(future, result),
            (AnyFuture::Native(future), Err(exception)) => {
                Future::set_exception(future, &exception)
            }
            (AnyFuture::Other(other), outcome) => set_by_name(other, outcome),
        }
    }

    /// As `set`, unless the future is done. Returns whether it was not.
    #[inline]
    pub(crate) fn set_unless_done(self, outcome: Result<Obj, Obj>) -> Result<bool, Raised> {
        if self.is_done()? {
            return Ok(false);
        }
        self.set(outcome).map(|()| true)
    }

    /// As `set`, unless the future was cancelled.
    #[inline]
    pub(crate) fn set_unless_cancelled(self, outcome: Result<Obj, Obj>) -> Result<(), Raised> {
        if self.is_cancelled()? {
            return Ok(());
        }
        self.set(outcome)
    }

    /// `future.set_result(None)`, unless the future is done.
    #[inline]
    pub(crate) fn release(self) -> Result<(), Raised> {
        match self {
            AnyFuture::Native(future) => Future::release(future),
            AnyFuture::Other(other) => self.set_unless_done(Ok(Obj::none(other.py()))).map(drop),
        }
    }

    /// The loop of the future, as `futures._get_loop()`.
    pub(crate) fn event_loop(self) -> Result<Option<Obj>, Raised> {
        match self {
            AnyFuture::Native(future) => {
                future.ensure_alive(future.py())?;
                Ok(future.event_loop())
            }
            AnyFuture::Other(other) => {
                let py = other.py();
                match other.attr_opt(pyo3::intern!(py, "get_loop"))? {
                    Some(get_loop) => get_loop.call0().map(Some),
                    None => other.attr(pyo3::intern!(py, "_loop")).map(Some),
                }
            }
        }
    }

    /// Turns off the report of a task that is destroyed while it is pending.
    pub(crate) fn log_destroy_pending_off(self) -> Result<(), Raised> {
        match self {
            AnyFuture::Native(future) => {
                future.flags.set(Flag::LogDestroyPending, false);
                Ok(())
            }
            AnyFuture::Other(other) => {
                let name = pyo3::intern!(other.py(), "_log_destroy_pending");
                other.set_attr(name, &Obj::bool(other.py(), false))
            }
        }
    }

    /// Calls the watcher when the future is done, or soon if it is done already.
    #[inline]
    pub(crate) fn watch(self, watcher: &Obj) -> Result<(), Raised> {
        match self {
            AnyFuture::Native(future) => {
                future.ensure_alive(future.py())?;
                Future::add_watcher(future, watcher)
            }
            AnyFuture::Other(other) => add_callback(other, &callable_of(watcher, other)?),
        }
    }

    /// Removes the watcher, unless its call is scheduled already.
    #[inline]
    pub(crate) fn unwatch(self, watcher: &Obj) -> Result<(), Raised> {
        match self {
            AnyFuture::Native(future) => {
                future.remove_watcher(watcher);
                Ok(())
            }
            AnyFuture::Other(other) => remove_callback(other, &callable_of(watcher, other)?),
        }
    }
}

#[cold]
fn ask(other: &Obj, name: &pyo3::Bound<'_, pyo3::types::PyString>) -> Result<bool, Raised> {
    other.method(name, &[])?.truth()
}

#[cold]
fn set_by_name(other: &Obj, outcome: Result<Obj, Obj>) -> Result<(), Raised> {
    let py = other.py();
    let (name, value) = match outcome {
        Ok(result) => (pyo3::intern!(py, "set_result"), result),
        Err(exception) => (pyo3::intern!(py, "set_exception"), exception),
    };
    other.method(name, &[&value]).map(drop)
}

/// The object as one of our Futures, whatever attributes of its own it has. This serves for fields
/// that no method stands for.
#[inline]
pub(crate) fn of_native_class(object: &Obj) -> Option<&Ref<Future>> {
    if let Some(task) = Ref::<Task>::of_exact(object) {
        return Some(task.parent());
    }
    Ref::<Future>::of(object)
}

/// `asyncio.isfuture(object)`.
pub(crate) fn is_future(object: &Obj) -> Result<bool, Raised> {
    if AnyFuture::of(object).native().is_some() {
        return Ok(true);
    }
    let name = pyo3::intern!(object.py(), "_asyncio_future_blocking");
    if object.class().attr_opt(name)?.is_none() {
        return Ok(false);
    }
    Ok(!object.attr(name)?.is_none())
}

/// `future.cancel()`.
#[inline]
pub(crate) fn cancel(future: &Obj) -> Result<(), Raised> {
    match cancel_bare(future, None) {
        Some(cancelled) => cancelled.map(drop),
        None => future
            .method(pyo3::intern!(future.py(), "cancel"), &[])
            .map(drop),
    }
}

/// `future.cancel(msg=message)`. Returns what the method returns.
#[inline]
pub(crate) fn cancel_with(future: &Obj, message: Option<&Obj>) -> Result<bool, Raised> {
    if let Some(cancelled) = cancel_bare(future, message) {
        return cancelled;
    }
    let py = future.py();
    let none = Obj::none(py);
    let message = message.unwrap_or(&none);
    let names = asyncio(py).msg_name.get(py);
    let name = pyo3::intern!(py, "cancel");
    future.method_named(name, &[message], Some(names))?.truth()
}

/// `task.cancelling()`.
#[inline]
pub(crate) fn cancelling(task: &Obj) -> Result<i64, Raised> {
    match Ref::<Task>::of_bare(task) {
        Some(native) => Ok(native.parent_value().cancel_requests.get().into()),
        None => task
            .method(pyo3::intern!(task.py(), "cancelling"), &[])?
            .to_i64(),
    }
}

/// `task.uncancel()`.
#[inline]
pub(crate) fn uncancel(task: &Obj) -> Result<i64, Raised> {
    match Ref::<Task>::of_bare(task) {
        Some(native) => Ok(Task::uncancel(native)),
        None => task
            .method(pyo3::intern!(task.py(), "uncancel"), &[])?
            .to_i64(),
    }
}

/// `future.add_done_callback(callback)`.
pub(crate) fn add_callback(future: &Obj, callback: &Obj) -> Result<(), Raised> {
    let name = pyo3::intern!(future.py(), "add_done_callback");
    future.method(name, &[callback]).map(drop)
}

/// `future.remove_done_callback(callback)`.
pub(crate) fn remove_callback(future: &Obj, callback: &Obj) -> Result<(), Raised> {
    let name = pyo3::intern!(future.py(), "remove_done_callback");
    future.method(name, &[callback]).map(drop)
}
