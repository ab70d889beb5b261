//! Futures that tasks wait on: of a native loop, of a foreign one, or what a program has put in
//! their place.

use std::ops::ControlFlow;

use cpython::build::Builder;
use cpython::{Obj, Raised, Ref};

use super::bound::{Primitive, new_waiter};
use super::deque::Deque;
use super::originals;
use crate::futures::Future;

/// `waiter.done()`.
#[inline]
pub(super) fn is_done(waiter: &Obj) -> Result<bool, Raised> {
    match Ref::<Future>::of_exact(waiter) {
        Some(future) => Ok(!future.is_pending()),
        None => ask(waiter, pyo3::intern!(waiter.py(), "done")),
    }
}

/// `waiter.cancelled()`.
#[inline]
pub(super) fn is_cancelled(waiter: &Obj) -> Result<bool, Raised> {
    match Ref::<Future>::of_exact(waiter) {
        Some(future) => Ok(future.is_cancelled()),
        None => ask(waiter, pyo3::intern!(waiter.py(), "cancelled")),
    }
}

/// `waiter.cancel()`.
pub(super) fn cancel(waiter: &Obj) -> Result<(), Raised> {
    match Ref::<Future>::of_exact(waiter) {
        Some(future) => Future::cancel(future, None).map(drop),
        None => ask(waiter, pyo3::intern!(waiter.py(), "cancel")).map(drop),
    }
}

/// `waiter.set_result(result)` if it is not done; whether it was not.
#[inline]
pub(super) fn wake(waiter: &Obj, result: Obj) -> Result<bool, Raised> {
    if let Some(future) = Ref::<Future>::of_exact(waiter) {
        if !future.is_pending() {
            return Ok(false);
        }
        return Future::set_result(future, result).map(|()| true);
    }
    if is_done(waiter)? {
        return Ok(false);
    }
    let name = pyo3::intern!(waiter.py(), "set_result");
    waiter.method(name, &[&result]).map(|_| true)
}

#[cold]
fn ask(waiter: &Obj, name: &pyo3::Bound<'_, pyo3::types::PyString>) -> Result<bool, Raised> {
    waiter.method(name, &[])?.truth()
}

/// Whether all are cancelled.
#[inline]
pub(super) fn all_cancelled(waiters: &Deque) -> Result<bool, Raised> {
    if waiters.is_plainly_empty() {
        return Ok(true);
    }
    ask_all(waiters)
}

#[inline(never)]
fn ask_all(waiters: &Deque) -> Result<bool, Raised> {
    let mut all = true;
    waiters.each(|waiter| {
        all = is_cancelled(waiter)?;
        Ok(if all {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })?;
    Ok(all)
}

/// A new Future to wait on, the last of those who wait.
#[inline]
pub(super) fn add_waiter<T: Primitive>(this: &Ref<T>, waiters: &Deque) -> Result<Obj, Raised> {
    let waiter = new_waiter(this)?;
    waiters.push(waiter.clone())?;
    Ok(waiter)
}

/// `, waiters:N` where there are some.
pub(super) fn count_text(waiters: &Deque) -> Result<String, Raised> {
    if waiters.is_empty()? {
        return Ok(String::new());
    }
    Ok(format!(", waiters:{}", waiters.len()?))
}

/// Adds the attribute `_waiters`, with this field behind it.
pub(super) fn build_waiters<T, F>(builder: &mut Builder<T>, waiters: F)
where
    T: Primitive,
    F: Fn(&T) -> &Deque + Copy + 'static,
{
    builder.get_set(
        c"_waiters",
        c"The Futures of those who wait.",
        move |this| {
            let py = this.py();
            waiters(this).show(py, originals(py).deque.get(py))
        },
        move |this, value| {
            waiters(this).put_in_place(value.cloned().and_then(Obj::not_none));
            Ok(())
        },
    );
}
