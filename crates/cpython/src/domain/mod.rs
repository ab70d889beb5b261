//! Domains: what guards the values of hot types where there is no GIL.
//!
//! In a free-threaded build each object of a hot type belongs to a *domain*: a lock, entered by
//! CPython's critical sections. A loop has a domain of its own, and enters it while it runs. What is
//! made within a domain belongs to it, so all that a loop works with is the loop's, and its thread
//! pays for a comparison only. Another thread that calls a method waits for the domain, and gets it
//! between two entries of the loop or when the loop waits. A critical section is suspended whenever
//! its thread detaches, as the GIL is given up. So a domain is to its objects what the GIL is to all
//! objects, and code that is sound with the GIL is sound within a domain. What is made while no
//! loop runs belongs to the thread's *limbo*, a domain of the thread.
//!
//! The rules:
//! - CPython calls us through trampolines, which enter the domain of the object they are called on
//!   ([`Section::enter`]); a function without an object enters the one that its thread has
//!   entered last ([`Section::enter_last`]).
//! - A checked reference to a native object ([`Ref::of`] and its kin) is given only for an object of
//!   the domain that the thread is in. An object of another domain is treated as a foreign one, by
//!   its Python methods, which are trampolines. [`Ref::of_any`] gives any, and [`Ref::within`] enters
//!   its domain.
//! - Nothing is half done, and nothing borrowed, when CPython is called in a way that may wait: the
//!   thread may lose the domain meanwhile.
//!
//! The objects of a type with [`Hot::MOVES`] change their domain: one that has nothing to do with
//! the loop it came from goes over to the loop that uses it.
//!
//! Where there is the GIL, nothing of this exists: all types here are empty and all checks constant.

#[cfg(Py_GIL_DISABLED)]
mod free_threaded;
#[cfg(Py_GIL_DISABLED)]
mod impatience;
#[cfg(Py_GIL_DISABLED)]
mod kept;
#[cfg(Py_GIL_DISABLED)]
pub(crate) use free_threaded::*;
#[cfg(Py_GIL_DISABLED)]
mod stock;
#[cfg(Py_GIL_DISABLED)]
pub(crate) use kept::{keep_freed, keep_spare, take_freed, take_spare};

#[cfg(not(Py_GIL_DISABLED))]
mod with_gil;
#[cfg(not(Py_GIL_DISABLED))]
pub(crate) use with_gil::*;

use pyo3::Python;

use crate::error::Raised;
use crate::hot::{Hot, Ref};
use crate::obj::Obj;

/// Prepares what domains need of the interpreter. Called when the module starts. Raises RuntimeError
/// on a free-threaded build that keeps critical sections where they are not looked for.
pub fn start(py: Python<'_>) -> Result<(), Raised> {
    probe(py)
}

/// Tells ThreadSanitizer that other threads may be in the domain from now on. To be called before the
/// thread detaches.
#[inline(always)]
pub fn before_wait(_py: Python<'_>) {
    publish();
}

impl<T: Hot> Ref<T> {
    /// Whether the thread is in the object's domain, so that its value can be used.
    #[inline(always)]
    pub fn is_here(&self) -> bool {
        is_here(self)
    }

    /// The object, if it belongs to this domain or can be moved there ([`Hot::may_move`]).
    #[inline(always)]
    pub fn brought(&self) -> Option<&Ref<T>> {
        if T::MOVES && !self.is_here() {
            // To enter an object's domain moves the object, if that may be.
            self.within(|_| ());
        }
        Some(self).filter(|this| this.is_here())
    }

    /// As [`Ref::of`], for an object that comes over from another domain if it may.
    #[inline]
    pub fn bring(object: &Obj) -> Option<&Ref<T>> {
        Ref::<T>::of_any(object)?.brought()
    }

    /// Runs the body in the object's domain.
    #[inline(always)]
    pub fn within<R>(&self, body: impl FnOnce(&Ref<T>) -> R) -> R {
        let mut section = Section::new();
        section.enter(self);
        body(self)
    }

    /// Runs the body in the object's domain, which belongs to the thread meanwhile: what the body
    /// calls enters it by a comparison.
    pub fn run_within<R>(&self, body: impl FnOnce(&Ref<T>) -> R) -> R {
        let mut section = Section::new();
        section.enter(self);
        let _owned = own(self);
        body(self)
    }

    /// Leaves the object's domain, which was entered last, while the body runs. So other threads may
    /// use the object during a long call.
    pub fn outside<R>(&self, body: impl FnOnce() -> R) -> R {
        let _outside = leave(self);
        body()
    }

    /// Lets the threads in that wait for the object's domain. The thread must be in it.
    #[inline(always)]
    pub fn give_way(&self) {
        give_way(self);
    }

    /// Gives the object into the domain of another one. The object must be new, or used by nobody.
    /// Its value must not be used any more but within its new domain.
    pub fn follow<O: Hot>(&self, other: &Ref<O>) {
        follow(self, other);
    }
}
