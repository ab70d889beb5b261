//! [`Slot`]: a field that holds a reference, or nothing, and may be replaced at any time.

use std::cell::UnsafeCell;

use crate::hot::{Hot, Ref};
use crate::obj::Obj;

/// A kind of owned reference that fits into a [`Slot`].
///
/// # Safety
/// `object` is the object that dropping the value would release.
pub unsafe trait Reference: Clone {
    /// The object referred to.
    fn object(&self) -> &Obj;
}

// SAFETY: an Obj is itself the reference.
unsafe impl Reference for Obj {
    fn object(&self) -> &Obj {
        self
    }
}

// SAFETY: a Ref owns exactly the reference of its Obj.
unsafe impl<T: Hot> Reference for Ref<T> {
    fn object(&self) -> &Obj {
        self.as_obj()
    }
}

/// A field that holds a reference or nothing.
///
/// Releasing a reference can run any Python code, which may come back to the same field. So
/// nothing borrowed from the inside ever leaves a `Slot`: reading clones, writing puts the new
/// value in place before the old one is dropped.
pub struct Slot<P: Reference = Obj>(UnsafeCell<Option<P>>);

impl<P: Reference> Default for Slot<P> {
    fn default() -> Self {
        Slot(UnsafeCell::new(None))
    }
}

impl<P: Reference> Slot<P> {
    /// A field that holds the value.
    #[inline]
    pub fn new(value: Option<P>) -> Self {
        Slot(UnsafeCell::new(value))
    }

    /// A new reference to the value.
    #[inline]
    pub fn get(&self) -> Option<P> {
        // SAFETY: one thread at a time (a Slot is not Sync); cloning counts a reference and runs
        // no foreign code.
        unsafe { (*self.0.get()).clone() }
    }

    /// Replaces the value; the old one is released last.
    #[inline]
    pub fn set(&self, value: Option<P>) {
        drop(self.replace(value));
    }

    /// Replaces the value and returns the old one.
    #[inline]
    pub fn replace(&self, value: Option<P>) -> Option<P> {
        // SAFETY: as above; moving values runs no foreign code.
        unsafe { std::mem::replace(&mut *self.0.get(), value) }
    }

    /// Takes the value out.
    #[inline]
    pub fn take(&self) -> Option<P> {
        self.replace(None)
    }

    /// Whether there is a value.
    #[inline]
    pub fn is_some(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0.get()).is_some() }
    }

    /// Whether there is no value.
    #[inline]
    pub fn is_none(&self) -> bool {
        !self.is_some()
    }

    /// Whether the field holds this very object.
    #[inline]
    pub fn holds(&self, object: &Obj) -> bool {
        // SAFETY: as above; only compares addresses.
        unsafe {
            (*self.0.get())
                .as_ref()
                .is_some_and(|held| held.object().is(object))
        }
    }

    /// Whether there is no value, or it is None.
    #[inline]
    pub fn is_none_or_empty(&self) -> bool {
        self.inspect(|held| held.object().is_none()).unwrap_or(true)
    }

    /// Whether the value is True itself.
    #[inline]
    pub fn is_true_object(&self) -> bool {
        self.inspect(|held| held.object().is_true_object())
            .unwrap_or(false)
    }

    /// Whether both fields hold the same object.
    #[inline]
    pub fn holds_same(&self, other: &Slot<P>) -> bool {
        // SAFETY: as above; only compares addresses.
        unsafe {
            match (&*self.0.get(), &*other.0.get()) {
                (Some(own), Some(its)) => own.object().is(its.object()),
                _ => false,
            }
        }
    }

    /// The address of the held object's type, for comparisons; 0 if there is none.
    #[inline]
    pub fn class_address(&self) -> usize {
        self.inspect(|held| held.object().class_address())
            .unwrap_or(0)
    }

    /// Has the processor fetch the object's first cache lines ahead of their use.
    #[inline]
    pub fn prefetch(&self, lines: usize) {
        self.peek(|object| object.prefetch(lines));
    }

    /// Copies something out of the value, such as a number; never a borrow. The function must not
    /// run Python code nor change the field.
    #[inline]
    pub(crate) fn inspect<R: Copy + 'static>(&self, look: impl FnOnce(&P) -> R) -> Option<R> {
        // SAFETY: one thread at a time (a Slot is not Sync); the result cannot borrow from the
        // value, which the function leaves in place.
        unsafe { (*self.0.get()).as_ref().map(look) }
    }

    /// Calls a function with the pointer of the value; it must not touch Python (used by
    /// garbage collection).
    #[inline]
    pub(crate) fn peek(&self, look: impl FnOnce(&Obj)) {
        // SAFETY: the function only looks at the pointer.
        unsafe {
            if let Some(held) = &*self.0.get() {
                look(held.object());
            }
        }
    }
}
