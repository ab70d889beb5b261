//! Which object is told what.
//!
//! Futures and alarms know their watchers only as objects; here each is recognised by its type.

use cpython::build::{MethodDef, bound_method};
use cpython::{Hot, Obj, Raised, Ref};

use super::as_completed::AsCompleted;
use super::gather::GatheringFuture;
use super::shield::Shield;
use super::task_group::TaskGroup;
use super::timeout::Timeout;
use super::wait::Wait;
use super::wait_for::WaitFor;
use crate::futures::{Future, Watching};

/// An object that watches futures, or has alarms.
pub(super) trait Watcher: Hot {
    /// The name of the callable that stands for it among the callbacks of other futures.
    const CALLABLE: &'static MethodDef;
    /// The same among the timers of other loops, of those that have alarms.
    const DUE: &'static MethodDef = Self::CALLABLE;

    /// A future that it watches is done.
    fn told(this: &Ref<Self>, future: &Obj) -> Result<(), Raised>;

    /// From now on a callable stands for it, by which anybody may tell it anything.
    fn has_callable(_this: &Ref<Self>) {}

    /// The time of its alarm has come.
    fn due(_this: &Ref<Self>) -> Result<(), Raised> {
        Ok(())
    }
}

/// Has futures and alarms find their watchers.
pub(super) fn register() {
    Watching {
        told,
        callable,
        due,
        counting: Ref::<GatheringFuture>::class_address(),
        count,
        to_be_told,
    }
    .register();
}

/// Calls a generic function for the type of a watcher.
macro_rules! by_type {
    ($watcher:expr, $typed:ident => $call:expr; $($type:ty),*) => {
        $(if let Some($typed) = Ref::<$type>::of_exact($watcher) {
            return $call;
        })*
    };
}

fn told(watcher: &Obj, future: &Obj) -> Result<(), Raised> {
    fn tell<T: Watcher>(watcher: &Ref<T>, future: &Obj) -> Result<(), Raised> {
        T::told(watcher, future)
    }
    by_type!(watcher, typed => tell(typed, future);
        GatheringFuture, TaskGroup, Wait, AsCompleted, Shield, WaitFor);
    Ok(())
}

fn count(watcher: &Obj, future: &Ref<Future>) -> bool {
    Ref::<GatheringFuture>::of_exact(watcher)
        .is_some_and(|outer| GatheringFuture::count(outer, future))
}

fn to_be_told(watcher: &Obj) {
    if let Some(outer) = Ref::<GatheringFuture>::of_exact(watcher) {
        outer.to_be_told();
    }
}

/// The watcher as a callback that gets the future.
pub(super) fn callable(watcher: &Obj) -> Result<Obj, Raised> {
    fn bind<T: Watcher>(watcher: &Ref<T>) -> Result<Obj, Raised> {
        T::has_callable(watcher);
        let told = |watcher: &Ref<T>, future: &Obj| T::told(watcher, future);
        bound_method(watcher, T::CALLABLE, told)
    }
    by_type!(watcher, typed => bind(typed);
        GatheringFuture, TaskGroup, Wait, AsCompleted, Shield, WaitFor);
    Err(Raised::type_error(watcher.py(), "not a watcher"))
}

fn due(watcher: &Obj) -> Result<(), Raised> {
    fn ring<T: Watcher>(watcher: &Ref<T>) -> Result<(), Raised> {
        T::due(watcher)
    }
    by_type!(watcher, typed => ring(typed); WaitFor, Timeout, Wait, AsCompleted);
    // A subclass of it.
    Ref::<Timeout>::of(watcher).map_or(Ok(()), ring)
}

/// The watcher as a callback of a timer, which gets None.
pub(super) fn due_callable(watcher: &Obj) -> Result<Obj, Raised> {
    fn bind<T: Watcher>(watcher: &Ref<T>) -> Result<Obj, Raised> {
        bound_method(watcher, T::DUE, |watcher: &Ref<T>, _: &Obj| T::due(watcher))
    }
    by_type!(watcher, typed => bind(typed); WaitFor, Timeout, Wait, AsCompleted);
    match Ref::<Timeout>::of(watcher) {
        Some(timeout) => bind(timeout),
        None => Err(Raised::type_error(watcher.py(), "not a watcher")),
    }
}
