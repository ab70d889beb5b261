//! The memory of a bytes object that has done its work, for the next one.

use std::cell::UnsafeCell;

use pyo3::{Python, ffi};

use crate::error::Raised;
use crate::obj::Obj;

/// The largest object that is kept, in bytes.
const LARGEST: usize = 16 * 1024;

/// A bytes object that is used again when the next one of its size is wanted, if nothing else
/// refers to it by then. Most received data comes in messages of one size. Declared as a static. In
/// free-threaded builds nothing is kept, as by [`Spare`](crate::Spare).
pub struct SpareBytes(UnsafeCell<Option<Obj>>);

// SAFETY: only used by threads that hold the GIL, which every Obj and every token proves; not used
// where there is none.
unsafe impl Sync for SpareBytes {}

impl SpareBytes {
    /// Keeps nothing yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> SpareBytes {
        SpareBytes(UnsafeCell::new(None))
    }

    /// A bytes object with a copy of the data.
    #[inline]
    pub fn bytes(&self, py: Python<'_>, data: &[u8]) -> Result<Obj, Raised> {
        if cfg!(Py_GIL_DISABLED) {
            return Obj::bytes(py, data);
        }
        // SAFETY: the GIL is held (token), and nothing foreign runs while the field is borrowed.
        let spare = unsafe { &mut *self.0.get() };
        match spare {
            Some(bytes) if bytes.is_unique() && size(bytes) == data.len() => {}
            _ => return Obj::bytes(py, data),
        }
        let Some(bytes) = spare.take() else {
            return Obj::bytes(py, data);
        };
        // SAFETY: the only reference to the object is ours, so that nobody can tell it from a new
        // one; it has as many bytes as the data.
        unsafe {
            let object = bytes.as_ptr().cast::<ffi::PyBytesObject>();
            forget_hash(object);
            let place = (&raw mut (*object).ob_sval).cast::<u8>();
            std::ptr::copy_nonoverlapping(data.as_ptr(), place, data.len());
        }
        Ok(bytes)
    }

    /// Keeps a bytes object instead of the last one, unless something else refers to it.
    #[inline]
    pub fn keep(&self, bytes: Obj) {
        if cfg!(Py_GIL_DISABLED) {
            return;
        }
        // CPython shares one object for each of the shortest values.
        if !bytes.is_unique() || !bytes.is_bytes_exact() || !(2..=LARGEST).contains(&size(&bytes)) {
            return;
        }
        // SAFETY: as in `bytes`; the last one is dropped when the field is whole again, and frees
        // nothing but memory.
        let last = unsafe { (*self.0.get()).replace(bytes) };
        drop(last);
    }
}

/// The size of a bytes object.
#[inline]
fn size(bytes: &Obj) -> usize {
    // SAFETY: the object is alive and has a size.
    unsafe { ffi::Py_SIZE(bytes.as_ptr()) as usize }
}

/// Prepares the object for a change of its bytes.
///
/// # Safety
/// The object is a bytes object to which nothing else refers.
#[inline]
#[allow(deprecated)]
unsafe fn forget_hash(object: *mut ffi::PyBytesObject) {
    // SAFETY: by the contract; -1 is the hash that is not known yet.
    unsafe { (*object).ob_shash = -1 }
}
