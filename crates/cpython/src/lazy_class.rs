//! Types that are built at their first use.

use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::{Python, ffi};

use crate::error::Raised;
use crate::obj::Obj;
use crate::refcount::keep_for_ever;

/// A type, built once and kept for ever. Declared as a static.
pub(crate) struct LazyClass(AtomicPtr<ffi::PyTypeObject>);

/// What makes a type visible whole to another thread. The GIL does it where there is one.
const LOAD: Ordering = match cfg!(Py_GIL_DISABLED) {
    true => Ordering::Acquire,
    false => Ordering::Relaxed,
};

impl LazyClass {
    /// Not built yet.
    pub(crate) const fn new() -> LazyClass {
        LazyClass(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// The type, which `build` makes if nobody has built it.
    #[inline(always)]
    pub(crate) fn get(
        &self,
        py: Python<'_>,
        build: fn(Python<'_>) -> Result<Obj, Raised>,
    ) -> Result<*mut ffi::PyTypeObject, Raised> {
        match self.0.load(LOAD) {
            class if class.is_null() => self.build(py, build),
            class => Ok(class),
        }
    }

    /// Builds the type. If another thread has been faster, its type is the one.
    #[cold]
    fn build(
        &self,
        py: Python<'_>,
        build: fn(Python<'_>) -> Result<Obj, Raised>,
    ) -> Result<*mut ffi::PyTypeObject, Raised> {
        let built = build(py)?;
        // SAFETY: it is new, or a type of CPython's own, which is immortal already.
        unsafe { keep_for_ever(&built) };
        let (nothing, class) = (std::ptr::null_mut(), built.as_ptr().cast());
        match (self.0).compare_exchange(nothing, class, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(built.into_ptr().cast()),
            Err(first) => Ok(first),
        }
    }

    /// Whether this is the type.
    pub(crate) fn is(&self, class: &Obj) -> bool {
        self.0.load(LOAD) == class.as_ptr().cast()
    }
}
