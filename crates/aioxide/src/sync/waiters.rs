//! The waiters of a lock or queue: Futures of a native loop or of another one, or whatever objects
//! a program has put in their place.

use std::ops::ControlFlow;

use cpython::build::Builder;
use cpython::{Obj, Raised, Ref};

use super::binding::new_waiter;
use super::deque::Deque;
use super::imports::imports;
use super::in_dict;
use super::primitive::Primitive;
use crate::tasks::any_future::AnyFuture;

/// Whether all waiters are cancelled.
#[inline]
pub(super) fn all_cancelled(waiters: &Deque) -> Result<bool, Raised> {
    if waiters.is_plainly_empty() {
        return Ok(true);
    }
    match waiters.first_plain() {
        Some(first) if !AnyFuture::of_waiter(&first).is_cancelled()? => Ok(false),
        _ => ask_all(waiters),
    }
}

#[inline(never)]
fn ask_all(waiters: &Deque) -> Result<bool, Raised> {
    let mut all = true;
    waiters.each(|waiter| {
        all = AnyFuture::of_waiter(waiter).is_cancelled()?;
        Ok(if all {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })?;
    Ok(all)
}

/// A new Future to wait on, at the end of the waiters.
#[inline]
pub(super) fn add_waiter<T: Primitive>(this: &Ref<T>, waiters: &Deque) -> Result<Obj, Raised> {
    let waiter = new_waiter(this)?;
    waiters.push(waiter.clone())?;
    Ok(waiter)
}

/// `, waiters:N`, or nothing without waiters.
pub(super) fn count_text(waiters: &Deque) -> Result<String, Raised> {
    if waiters.is_empty()? {
        return Ok(String::new());
    }
    Ok(format!(", waiters:{}", waiters.len()?))
}

/// The value of the attribute `_waiters`.
pub(super) fn show_waiters<T: Primitive>(
    this: &Ref<T>,
    waiters: &Deque,
) -> Result<Option<Obj>, Raised> {
    let py = this.py();
    waiters.show(py, imports(py).deque.get(py))
}

/// The waiters, for the attributes in the object's dict.
pub(super) fn give_waiters<T: Primitive>(this: &Ref<T>, waiters: &Deque) -> Result<Obj, Raised> {
    Ok(show_waiters(this, waiters)?.unwrap_or_else(|| Obj::none(this.py())))
}

/// Takes the waiters back from the object's dict.
pub(super) fn take_waiters<T: Primitive>(
    this: &Ref<T>,
    waiters: &Deque,
    value: Obj,
) -> Result<(), Raised> {
    if value.is_none() {
        waiters.put_in_place(None);
        return Ok(());
    }
    waiters.take(value, imports(this.py()).deque.get(this.py()))
}

/// Adds the attribute `_waiters`, whose value the field `waiters` keeps.
pub(super) fn build_waiters<T, F>(builder: &mut Builder<T>, waiters: F)
where
    T: Primitive,
    F: Fn(&T) -> &Deque + Copy + 'static,
{
    builder.get_set(
        c"_waiters",
        c"The Futures of the calls that wait.",
        move |this| {
            if in_dict::is_there(this) {
                return in_dict::get(this, "_waiters").map(Some);
            }
            show_waiters(this, waiters(this))
        },
        move |this, value| {
            if in_dict::is_there(this) {
                return in_dict::set(this, "_waiters", value);
            }
            waiters(this).put_in_place(value.cloned().and_then(Obj::not_none));
            Ok(())
        },
    );
}
