//! Counting references.
//!
//! In free-threaded builds PyO3 calls functions of the interpreter for it. Here it is done in place,
//! as CPython's own header does (`Include/refcount.h`, the same in 3.14 and 3.15). Each object has
//! two counts there: one for the thread that has made it, which needs no atomic operation, and one
//! for all others. Where the thread's number is not known to be CPython's, and in builds of CPython
//! that count all references for debugging, PyO3's functions stay.

use crate::obj::Obj;

#[cfg(any(not(Py_GIL_DISABLED), py_sys_config = "Py_REF_DEBUG"))]
pub(crate) use pyo3::ffi::{Py_DECREF as decrement, Py_INCREF as increment};

#[cfg(all(Py_GIL_DISABLED, not(py_sys_config = "Py_REF_DEBUG")))]
pub(crate) use two_counts::{decrement, increment};

#[cfg(Py_GIL_DISABLED)]
pub(crate) use in_bulk::{add, is_shared_and_deferred, subtract};

/// Many references at once to objects that other threads have made.
#[cfg(Py_GIL_DISABLED)]
mod in_bulk {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::obj::Obj;
    use crate::thread_pointer::{IS_CPYTHONS, thread_pointer};

    /// `_PyGC_BITS_DEFERRED`: the interpreter does not count its references to the object.
    const DEFERRED: u8 = 1 << 6;

    /// One reference in the count of the other threads.
    const SHARED: isize = 1 << 2;

    /// Whether another thread owns the object's count, and the interpreter does not count its own
    /// references to it. In builds that count all references for debugging, no object is meant.
    #[inline(always)]
    pub(crate) fn is_shared_and_deferred(object: &Obj) -> bool {
        if !IS_CPYTHONS || cfg!(py_sys_config = "Py_REF_DEBUG") {
            return false;
        }
        // SAFETY: the object is alive. Another thread may write to both fields, but never this
        // thread's number nor this bit, which is set while the object is made.
        unsafe {
            let pointer = object.as_ptr();
            let owner = AtomicUsize::from_ptr(&raw mut (*pointer).ob_tid);
            owner.load(Ordering::Relaxed) != thread_pointer()
                && (*pointer).ob_gc_bits & DEFERRED != 0
        }
    }

    /// Adds references.
    ///
    /// # Safety
    /// [`is_shared_and_deferred`] has just been true of the object. The caller has that many more
    /// references to give back.
    pub(crate) unsafe fn add(object: &Obj, count: usize) {
        // SAFETY: the object is alive.
        unsafe {
            let shared = &(*object.as_ptr()).ob_ref_shared;
            shared.fetch_add(SHARED * count as isize, Ordering::Relaxed);
        }
    }

    /// Gives references back.
    ///
    /// # Safety
    /// The caller has that many besides the one at hand, so that none of them is the last.
    pub(crate) unsafe fn subtract(object: &Obj, count: usize) {
        // SAFETY: the object is alive, and stays so.
        unsafe {
            let shared = &(*object.as_ptr()).ob_ref_shared;
            shared.fetch_sub(SHARED * count as isize, Ordering::Release);
        }
    }
}

#[cfg(all(Py_GIL_DISABLED, not(py_sys_config = "Py_REF_DEBUG")))]
mod two_counts {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use pyo3::ffi;

    use crate::thread_pointer::{IS_CPYTHONS, thread_pointer};

    /// The owner's count of an object that is never freed.
    const IMMORTAL: u32 = u32::MAX;

    /// One reference in the count of the other threads, below which are two flags.
    const SHARED: isize = 1 << 2;

    // SAFETY: the declarations are those of CPython's header; PyO3 has none of them.
    unsafe extern "C" {
        fn _Py_DecRefShared(object: *mut ffi::PyObject);
        fn _Py_MergeZeroLocalRefcount(object: *mut ffi::PyObject);
    }

    /// Whether the calling thread is the one whose count needs no atomic operation.
    ///
    /// # Safety
    /// The object is alive.
    #[inline(always)]
    unsafe fn is_own(object: *mut ffi::PyObject) -> bool {
        // SAFETY: by the contract. Another thread may write 0 there, never this thread's number.
        let owner = unsafe { AtomicUsize::from_ptr(&raw mut (*object).ob_tid) };
        owner.load(Ordering::Relaxed) == thread_pointer()
    }

    /// `Py_INCREF`.
    ///
    /// # Safety
    /// The object is alive and the thread attached.
    #[inline(always)]
    pub(crate) unsafe fn increment(object: *mut ffi::PyObject) {
        // SAFETY: by the contract.
        unsafe {
            if !IS_CPYTHONS {
                return ffi::Py_INCREF(object);
            }
            let local = (*object).ob_ref_local.load(Ordering::Relaxed);
            if local == IMMORTAL {
                return;
            }
            if is_own(object) {
                (*object).ob_ref_local.store(local + 1, Ordering::Relaxed);
            } else {
                (*object).ob_ref_shared.fetch_add(SHARED, Ordering::Relaxed);
            }
        }
    }

    /// `Py_DECREF`.
    ///
    /// # Safety
    /// The thread is attached, and the caller gives a reference to the object away.
    #[inline(always)]
    pub(crate) unsafe fn decrement(object: *mut ffi::PyObject) {
        // SAFETY: by the contract.
        unsafe {
            if !IS_CPYTHONS {
                return ffi::Py_DECREF(object);
            }
            let local = (*object).ob_ref_local.load(Ordering::Relaxed);
            if local == IMMORTAL {
                return;
            }
            if is_own(object) {
                (*object).ob_ref_local.store(local - 1, Ordering::Relaxed);
                if local == 1 {
                    _Py_MergeZeroLocalRefcount(object);
                }
            } else {
                _Py_DecRefShared(object);
            }
        }
    }
}

/// Stops counting the references to an object that lives as long as the process anyway. Without the
/// GIL, threads that count references to one object wait for each other's writes.
///
/// # Safety
/// The calling thread has just made the object, so that no other one owns its count.
#[inline]
pub(crate) unsafe fn keep_for_ever(object: &Obj) {
    #[cfg(Py_GIL_DISABLED)]
    {
        // SAFETY: the declaration is that of CPython's header; PyO3 has none of it.
        unsafe extern "C" {
            fn _Py_SetRefcnt(object: *mut pyo3::ffi::PyObject, count: pyo3::ffi::Py_ssize_t);
        }
        // More references than fit into the owner's count, by which CPython makes an object immortal.
        const FOR_EVER: pyo3::ffi::Py_ssize_t = 1 << 33;
        // SAFETY: the object is alive and the thread attached; the rest by the contract.
        unsafe { _Py_SetRefcnt(object.as_ptr(), FOR_EVER) }
    }
    #[cfg(not(Py_GIL_DISABLED))]
    let _ = object;
}
