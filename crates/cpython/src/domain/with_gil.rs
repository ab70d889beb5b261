//! Domains where the GIL guards everything: nothing to do.

use pyo3::Python;

use crate::error::Raised;
use crate::hot::{Hot, Ref};
use crate::obj::Obj;

/// The room that an object's domain takes before its value.
pub(crate) const ROOM: usize = 0;

/// A stay in a domain.
pub(crate) struct Section;

impl Section {
    #[inline(always)]
    pub(crate) fn new() -> Section {
        Section
    }

    #[inline(always)]
    pub(crate) fn enter<T: Hot>(&mut self, _: &Ref<T>) {}

    #[inline(always)]
    pub(crate) fn enter_last(&mut self) {}
}

/// Whether the thread may use the object's value.
#[inline(always)]
pub(crate) fn is_here<T: Hot>(_: &Ref<T>) -> bool {
    true
}

/// The domain is the thread's until this goes.
pub(crate) struct Owned;

#[inline(always)]
pub(crate) fn own<T: Hot>(_: &Ref<T>) -> Owned {
    Owned
}

/// The domain was left until this goes.
pub(crate) struct Outside;

#[inline(always)]
pub(crate) fn leave<T: Hot>(_: &Ref<T>) -> Outside {
    Outside
}

#[inline(always)]
pub(crate) fn give_way<T: Hot>(_: &Ref<T>) {}

#[inline(always)]
pub(crate) fn follow<T: Hot, O: Hot>(_: &Ref<T>, _: &Ref<O>) {}

/// Nothing guards values but the GIL.
#[inline(always)]
pub(crate) fn publish() {}

/// Finds where the thread state keeps its critical sections; called at import.
pub(crate) fn probe(_: Python<'_>) -> Result<(), Raised> {
    Ok(())
}

/// Statics keep such objects.
#[inline(always)]
pub(crate) fn keep_spare<T: Hot>(_: &Ref<T>, _: usize) {}

/// Statics keep such objects.
#[inline(always)]
pub(crate) fn take_spare<T: Hot>() -> Option<Ref<T>> {
    None
}

impl Obj {
    /// A new reference, for a call that waits.
    #[inline(always)]
    pub fn clone_to_wait(&self) -> Obj {
        self.clone()
    }

    /// Drops a reference of a call that has waited.
    #[inline(always)]
    pub fn drop_after_wait(self) {
        drop(self);
    }
}
