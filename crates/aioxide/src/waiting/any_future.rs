//! Futures of any kind: native ones directly, others through their methods.
//!
//! Native means exactly our types: a subclass may have methods of its own, which are called as
//! asyncio calls them.

use cpython::{Obj, Raised, Ref};

use super::watching;
use crate::event_loop::EventLoop;
use crate::futures::{Flag, Future, State};
use crate::interop::asyncio;
use crate::tasks::Task;

pub(super) use crate::tasks::cancel_waiter as cancel;

/// The object as a native Future, if it is one.
#[inline]
pub(super) fn native(object: &Obj) -> Option<&Ref<Future>> {
    if let Some(task) = Ref::<Task>::of_exact(object) {
        return Some(task.parent());
    }
    Ref::<Future>::of_exact(object).or_else(|| Future::of_plain_subclass(object))
}

/// `asyncio.isfuture(object)`.
pub(super) fn is_future(object: &Obj) -> Result<bool, Raised> {
    if native(object).is_some() {
        return Ok(true);
    }
    let name = pyo3::intern!(object.py(), "_asyncio_future_blocking");
    if object.class().attr_opt(name)?.is_none() {
        return Ok(false);
    }
    Ok(!object.attr(name)?.is_none())
}

/// `future.done()`.
#[inline]
pub(super) fn is_done(future: &Obj) -> Result<bool, Raised> {
    match native(future) {
        Some(native) => Ok(!native.is_pending()),
        None => ask(future, "done"),
    }
}

/// `future.cancelled()`.
#[inline]
pub(super) fn is_cancelled(future: &Obj) -> Result<bool, Raised> {
    match native(future) {
        Some(native) => Ok(native.state() == State::Cancelled),
        None => ask(future, "cancelled"),
    }
}

fn ask(future: &Obj, method: &str) -> Result<bool, Raised> {
    let name = pyo3::types::PyString::intern(future.py(), method);
    future.method(&name, &[])?.truth()
}

/// `future.exception()`, of one that is done and not cancelled: from now on it counts as seen.
#[inline]
pub(super) fn exception(future: &Obj) -> Result<Option<Obj>, Raised> {
    match native(future) {
        Some(native) => Future::exception(native),
        None => {
            let name = pyo3::intern!(future.py(), "exception");
            Ok(future.method(name, &[])?.not_none())
        }
    }
}

/// `future.result()`.
#[inline]
pub(super) fn result(future: &Obj) -> Result<Obj, Raised> {
    match native(future) {
        Some(native) => Future::result(native),
        None => future.method(pyo3::intern!(future.py(), "result"), &[]),
    }
}

/// `future._make_cancelled_error()`.
pub(super) fn cancelled_error(future: &Obj) -> Result<Obj, Raised> {
    match native(future) {
        Some(native) => Future::make_cancelled_error(native),
        None => future.method(pyo3::intern!(future.py(), "_make_cancelled_error"), &[]),
    }
}

/// `future._cancel_message`; none if it is None.
pub(super) fn cancel_message(future: &Obj) -> Result<Option<Obj>, Raised> {
    match native(future) {
        Some(native) => Ok(native.cancel_message().and_then(Obj::not_none)),
        None => {
            let message = future.attr(pyo3::intern!(future.py(), "_cancel_message"))?;
            Ok(message.not_none())
        }
    }
}

/// `future.set_result(None)`, unless it is done.
pub(super) fn release(future: &Obj) -> Result<(), Raised> {
    match native(future) {
        Some(native) => Future::release(native),
        None if ask(future, "done")? => Ok(()),
        None => {
            let name = pyo3::intern!(future.py(), "set_result");
            future.method(name, &[&Obj::none(future.py())]).map(drop)
        }
    }
}

/// Sets a result or an exception.
pub(super) fn set(future: &Obj, outcome: Result<&Obj, &Obj>) -> Result<(), Raised> {
    let py = future.py();
    match (native(future), outcome) {
        (Some(native), Ok(result)) => Future::set_result(native, result.clone()),
        (Some(native), Err(exception)) => Future::set_exception(native, exception),
        (None, Ok(result)) => future
            .method(pyo3::intern!(py, "set_result"), &[result])
            .map(drop),
        (None, Err(exception)) => future
            .method(pyo3::intern!(py, "set_exception"), &[exception])
            .map(drop),
    }
}

/// The loop of a future, as `futures._get_loop()`.
pub(super) fn loop_of(future: &Obj) -> Result<Option<Obj>, Raised> {
    if let Some(native) = native(future) {
        native.ensure_alive(future.py())?;
        return Ok(native.event_loop());
    }
    let py = future.py();
    match future.attr_opt(pyo3::intern!(py, "get_loop"))? {
        Some(get_loop) => get_loop.call0().map(Some),
        None => future.attr(pyo3::intern!(py, "_loop")).map(Some),
    }
}

/// Does without the report of a task that goes while it is pending.
pub(super) fn log_destroy_pending_off(future: &Obj) -> Result<(), Raised> {
    match native(future) {
        Some(native) => {
            native.flags.set(Flag::LogDestroyPending, false);
            Ok(())
        }
        None => {
            let name = pyo3::intern!(future.py(), "_log_destroy_pending");
            future.set_attr(name, &Obj::bool(future.py(), false))
        }
    }
}

/// Has the watcher told when the future is done; soon if it is.
#[inline]
pub(super) fn watch(future: &Obj, watcher: &Obj) -> Result<(), Raised> {
    match native(future) {
        Some(native) => {
            native.ensure_alive(future.py())?;
            Future::add_watcher(native, watcher)
        }
        None => {
            let name = pyo3::intern!(future.py(), "add_done_callback");
            future
                .method(name, &[&watching::callable(watcher)?])
                .map(drop)
        }
    }
}

/// No longer tells the watcher, unless that is scheduled already.
#[inline]
pub(super) fn unwatch(future: &Obj, watcher: &Obj) -> Result<(), Raised> {
    match native(future) {
        Some(native) => {
            native.remove_watcher(watcher);
            Ok(())
        }
        None => {
            let name = pyo3::intern!(future.py(), "remove_done_callback");
            future
                .method(name, &[&watching::callable(watcher)?])
                .map(drop)
        }
    }
}

/// `loop.create_future()`.
#[inline]
pub(super) fn create_future(event_loop: &Obj) -> Result<Obj, Raised> {
    if let Some(native) = Ref::<EventLoop>::of(event_loop) {
        let futures = &asyncio(event_loop.py()).futures_namespace;
        if EventLoop::is_fast(native) && futures.is_unchanged() {
            return Future::create(native).map(Ref::into_obj);
        }
    }
    event_loop.method(pyo3::intern!(event_loop.py(), "create_future"), &[])
}
