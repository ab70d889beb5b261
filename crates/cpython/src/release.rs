//! A limit to how deep deallocations nest.
//!
//! An object releases what it holds within its own `tp_dealloc`, and each of those objects does the
//! same within its own. A long chain, such as Handles of which each is an argument of the next,
//! would need more stack than there is. So from a certain depth on an object stays alive a little
//! longer: it gets a reference back and waits until the objects above it are gone.
//!
//! CPython's containers do the same, each in its `tp_dealloc`, by macros around private fields that
//! differ from version to version. Since 3.14 the interpreter does it for every object that the
//! garbage collector may know, and nothing in this file is called.

use std::cell::UnsafeCell;

use pyo3::ffi;

use crate::obj::new_reference;

/// The number of deallocations that may nest. Each needs a few hundred bytes of stack, and so does
/// what lies between two of them; the smallest stacks have 128 KiB.
const LIMIT: usize = 16;

/// The bit of the depth that says that objects wait.
const SOME_WAIT: usize = 1 << (usize::BITS - 1);

/// A variable that the GIL guards.
struct Guarded<T>(UnsafeCell<T>);

// SAFETY: only used by threads that hold the GIL.
unsafe impl<T> Sync for Guarded<T> {}

/// The number of deallocations under way, of all threads together: a thread may give up the GIL in
/// a finaliser.
static DEPTH: Guarded<usize> = Guarded(UnsafeCell::new(0));

/// The objects that wait.
static WAITING: Guarded<Vec<*mut ffi::PyObject>> = Guarded(UnsafeCell::new(Vec::new()));

/// An object is about to go. True if it may, and [`end`] must follow; otherwise it waits, by a
/// reference that it has got back, and the caller returns.
///
/// # Safety
/// The last reference to the object is gone, and nothing has been done to it yet, unless it may not
/// wait: an object that the `tp_dealloc` of a subclass has begun to take apart may not. The thread
/// is attached.
#[inline(always)]
pub(crate) unsafe fn begin(object: *mut ffi::PyObject, may_wait: bool) -> bool {
    if cfg!(Py_3_14) {
        return true;
    }
    // SAFETY: the GIL is held, as the thread is attached; the rest by the contract.
    unsafe {
        if *DEPTH.0.get() >= LIMIT && may_wait && put_off(object) {
            return false;
        }
        *DEPTH.0.get() += 1;
    }
    true
}

/// Ends the deallocation of an object.
///
/// # Safety
/// [`begin`] has returned true for it. The thread is attached.
#[inline(always)]
pub(crate) unsafe fn end() {
    if cfg!(Py_3_14) {
        return;
    }
    // SAFETY: the GIL is held, as the thread is attached.
    unsafe {
        *DEPTH.0.get() -= 1;
        if *DEPTH.0.get() >= LIMIT {
            go_on();
        }
    }
}

/// Lets an object wait, unless the depth is small again although others wait.
///
/// # Safety
/// As for [`begin`].
#[cold]
unsafe fn put_off(object: *mut ffi::PyObject) -> bool {
    // SAFETY: the object is whole and alive again; nothing foreign runs while the list is borrowed.
    unsafe {
        if *DEPTH.0.get() & !SOME_WAIT < LIMIT {
            return false;
        }
        new_reference(object);
        (*WAITING.0.get()).push(object);
        *DEPTH.0.get() |= SOME_WAIT;
    }
    true
}

/// Releases the objects that wait, if the depth is small.
///
/// # Safety
/// As for [`end`].
#[cold]
unsafe fn go_on() {
    // SAFETY: nothing foreign runs while the list is borrowed; each object is released by the
    // reference that it got back, which may run any code, this function too.
    unsafe {
        if *DEPTH.0.get() & !SOME_WAIT > LIMIT / 2 {
            return;
        }
        // This loop nests within the deallocation of one of them, so it counts as well.
        *DEPTH.0.get() += 1;
        while let Some(object) = (*WAITING.0.get()).pop() {
            ffi::Py_DECREF(object);
        }
        *DEPTH.0.get() &= !SOME_WAIT;
        *DEPTH.0.get() -= 1;
    }
}
