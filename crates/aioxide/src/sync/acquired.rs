//! What Lock, Semaphore and Event share: one await acquires the object, and a Future in its row of
//! waiters is done when that may happen. [`Acquire`], [`Enter`] and [`Leave`] are the operations.

use std::marker::PhantomData;

use cpython::{Obj, Raised, Ref};

use super::call::{Op, Shortcut, SyncCall};
use super::primitive::Primitive;
use crate::coroutines::coroutine::Turn;

/// An object that is acquired, or waited for, with one await.
pub(super) trait Acquired: Primitive {
    /// The plain and the qualified name of the coroutine function that acquires it.
    const ACQUIRE: (&'static str, &'static str);

    /// Acquires the object, if that needs only a look at its fields. Returns whether it has.
    fn acquires_at_once(this: &Ref<Self>) -> bool;

    /// Acquires the object, or returns the Future to wait on.
    fn begin(this: &Ref<Self>) -> Result<Option<Obj>, Raised>;

    /// Ends the wait: the object is acquired, or the wait has failed.
    fn finish(this: &Ref<Self>, waiter: &Obj, outcome: Result<Obj, Raised>) -> Result<(), Raised>;
}

/// An object that is released again.
pub(super) trait Released: Acquired {
    /// Releases the object, if it is acquired and has no waiters. Returns whether it has.
    fn releases_at_once(this: &Ref<Self>) -> bool;

    /// `release()`.
    fn release(this: &Ref<Self>) -> Result<(), Raised>;
}

#[inline(always)]
fn resume<T: Acquired>(
    target: &Ref<T>,
    call: &Ref<SyncCall>,
    outcome: Result<Obj, Raised>,
    value: Obj,
) -> Result<Turn, Raised> {
    match call.waiter.take() {
        Some(waiter) => T::finish(target, &waiter, outcome)?,
        None => drop(outcome?),
    }
    SyncCall::done(call, value)
}

#[inline(always)]
fn begin<T: Acquired>(target: &Ref<T>, call: &Ref<SyncCall>, value: Obj) -> Result<Turn, Raised> {
    match T::begin(target)? {
        None => SyncCall::done(call, value),
        Some(waiter) => SyncCall::wait_on(call, waiter),
    }
}

/// `acquire()`, or `wait()` of an Event: returns True.
pub(super) struct Acquire<T>(PhantomData<T>);

impl<T: Acquired> Op for Acquire<T> {
    type Target = T;
    const NAME: &'static str = T::ACQUIRE.0;
    const QUALIFIED_NAME: &'static str = T::ACQUIRE.1;
    const LEAVES_FIELDS: bool = false;
    const SHORTCUT: Option<Shortcut<T>> =
        Some(|target, _| T::acquires_at_once(target).then(|| Obj::bool(target.py(), true)));

    #[inline]
    fn begin(target: &Ref<T>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
        begin(target, call, Obj::bool(target.py(), true))
    }

    #[inline]
    fn resume(
        target: &Ref<T>,
        call: &Ref<SyncCall>,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        resume(target, call, outcome, Obj::bool(target.py(), true))
    }
}

/// `__aenter__()`: acquires the object and returns None.
pub(super) struct Enter<T>(PhantomData<T>);

impl<T: Acquired> Op for Enter<T> {
    type Target = T;
    const NAME: &'static str = "__aenter__";
    const QUALIFIED_NAME: &'static str = "_ContextManagerMixin.__aenter__";
    const LEAVES_FIELDS: bool = false;
    const SHORTCUT: Option<Shortcut<T>> =
        Some(|target, _| T::acquires_at_once(target).then(|| Obj::none(target.py())));

    #[inline]
    fn begin(target: &Ref<T>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
        if !T::is_native(target) {
            let acquire = pyo3::intern!(target.py(), "acquire");
            return Ok(Turn::Await(target.as_obj().method(acquire, &[])?));
        }
        begin(target, call, Obj::none(target.py()))
    }

    #[inline]
    fn resume(
        target: &Ref<T>,
        call: &Ref<SyncCall>,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        resume(target, call, outcome, Obj::none(target.py()))
    }
}

/// `__aexit__()`: releases the object and returns None.
pub(super) struct Leave<T>(PhantomData<T>);

impl<T: Released> Op for Leave<T> {
    type Target = T;
    const NAME: &'static str = "__aexit__";
    const QUALIFIED_NAME: &'static str = "_ContextManagerMixin.__aexit__";
    const IS_EXIT: bool = true;
    const LEAVES_FIELDS: bool = false;
    const SHORTCUT: Option<Shortcut<T>> =
        Some(|target, _| T::releases_at_once(target).then(|| Obj::none(target.py())));

    #[inline]
    fn begin(target: &Ref<T>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
        if T::is_native(target) {
            T::release(target)?;
        } else {
            let name = pyo3::intern!(target.py(), "release");
            target.as_obj().method(name, &[])?;
        }
        SyncCall::done(call, Obj::none(target.py()))
    }
}
