//! Objects of hot types that are kept alive to be used again, once nothing else refers to them.
//!
//! In free-threaded builds the domain of a running loop keeps them, and the statics nothing.

use std::cell::UnsafeCell;
use std::collections::VecDeque;

use pyo3::Python;

use crate::domain;
use crate::hot::{Hot, Ref};

/// Objects of a hot type to which soon nothing else may refer. They are kept alive, to be used
/// again instead of being freed and made anew. Declared as a static; the GIL guards it, as it
/// guards the freelists. Only for types whose objects have neither a dict nor weak references.
pub struct SpareQueue<T: Hot>(UnsafeCell<VecDeque<Ref<T>>>);

// SAFETY: only used by threads that hold the GIL, which every Ref at hand proves; not used where
// there is none.
unsafe impl<T: Hot> Sync for SpareQueue<T> {}

impl<T: Hot> SpareQueue<T> {
    /// Keeps nothing yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> SpareQueue<T> {
        const { assert!(!T::SUBCLASSABLE) };
        SpareQueue(UnsafeCell::new(VecDeque::new()))
    }

    /// Keeps an object. If the type's freelist would not take more objects, it replaces the oldest.
    #[inline]
    pub fn keep(&self, object: &Ref<T>) {
        if cfg!(Py_GIL_DISABLED) {
            return domain::keep_spare(object, T::FREELIST);
        }
        // SAFETY: the GIL is held; nothing foreign runs while the queue is borrowed, and dropping
        // the oldest comes after.
        let oldest = unsafe {
            let kept = &mut *self.0.get();
            let full = kept.len() >= T::FREELIST;
            let oldest = if full { kept.pop_front() } else { None };
            kept.push_back(object.clone());
            oldest
        };
        drop(oldest);
    }

    /// The object that was kept first, if nothing else refers to it any more.
    #[inline]
    pub fn take(&self, _py: Python<'_>) -> Option<Ref<T>> {
        if cfg!(Py_GIL_DISABLED) {
            return domain::take_spare();
        }
        // SAFETY: as in `keep`.
        let kept = unsafe { &mut *self.0.get() };
        if !kept.front()?.as_obj().is_unique() {
            return None;
        }
        debug_assert!(kept.front()?.is_unshared());
        kept.pop_front()
    }
}

/// One object that has done its work, to be used again once nothing else refers to it. Declared as
/// a static, as [`SpareQueue`]. It costs less where the next object is mostly needed just after the last
/// one has ended. Only for types whose objects have neither a dict nor weak references.
pub struct Spare<T: Hot>(UnsafeCell<Option<Ref<T>>>);

// SAFETY: only used by threads that hold the GIL, which every Ref at hand proves; not used where
// there is none.
unsafe impl<T: Hot> Sync for Spare<T> {}

impl<T: Hot> Spare<T> {
    /// Keeps nothing yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Spare<T> {
        const { assert!(!T::SUBCLASSABLE) };
        Spare(UnsafeCell::new(None))
    }

    /// Keeps an object instead of the last one.
    #[inline]
    pub fn keep(&self, object: &Ref<T>) {
        if cfg!(Py_GIL_DISABLED) {
            return domain::keep_spare(object, 1);
        }
        // SAFETY: the GIL is held; the old object is dropped when the field is whole again.
        if let Some(last) = unsafe { (*self.0.get()).replace(object.clone()) } {
            release(last);
        }
    }

    /// The object, if nothing else refers to it any more.
    #[inline]
    pub fn take(&self, _py: Python<'_>) -> Option<Ref<T>> {
        if cfg!(Py_GIL_DISABLED) {
            return domain::take_spare();
        }
        // SAFETY: as in `keep`; nothing foreign runs.
        let kept = unsafe { &mut *self.0.get() };
        if !kept.as_ref()?.as_obj().is_unique() {
            return None;
        }
        debug_assert!(kept.as_ref()?.is_unshared());
        kept.take()
    }
}

#[cold]
fn release<T: Hot>(last: Ref<T>) {
    drop(last);
}
