//! Ints that are given a new value instead of being freed and made.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::{Python, ffi};

use crate::error::Raised;
use crate::obj::Obj;

/// Ints to which nothing else refers any more. Declared as a static; the GIL guards it. In
/// free-threaded builds nothing is kept, as by [`Spare`](crate::Spare).
pub struct Numbers(UnsafeCell<Vec<Obj>>);

// SAFETY: only used by threads that hold the GIL; not used where there is none.
unsafe impl Sync for Numbers {}

/// The number of ints that are kept at most: as many as the freelist of the objects with one int
/// each.
const MOST: usize = 2048;

/// The word between the header and the digit of a positive int with one digit. 0 as long as it is
/// not known, [`UNKNOWN`] where an int does not look as expected.
static TAG: AtomicUsize = AtomicUsize::new(0);
const UNKNOWN: usize = usize::MAX;

/// Ints below this value have one digit.
const DIGIT_END: i64 = 1 << 30;

/// An int as CPython lays it out: a word with the number of digits, then the digits.
#[repr(C)]
struct IntLayout {
    header: ffi::PyObject,
    tag: usize,
    digit: u32,
}

impl Numbers {
    /// Keeps nothing yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Numbers {
        Numbers(UnsafeCell::new(Vec::new()))
    }

    /// An int of a value that is not negative.
    #[inline]
    pub fn make(&self, py: Python<'_>, value: i64) -> Result<Obj, Raised> {
        if cfg!(not(Py_GIL_DISABLED)) && value < DIGIT_END {
            // SAFETY: the GIL is held (token), and nothing foreign runs. The kept object is an int
            // with one digit to which nothing else refers.
            unsafe {
                if let Some(number) = (*self.0.get()).pop() {
                    (*number.as_ptr().cast::<IntLayout>()).digit = value as u32;
                    return Ok(number);
                }
            }
        }
        Obj::int(py, value)
    }

    /// Takes an int that is no longer needed, and keeps it if nothing else refers to it. Returns an
    /// object that is no int.
    #[inline]
    pub fn give_back(&self, number: Obj) -> Option<Obj> {
        if number.class_address() != std::ptr::addr_of!(ffi::PyLong_Type) as usize {
            return Some(number);
        }
        if cfg!(Py_GIL_DISABLED) || !number.is_unique() {
            return None;
        }
        let tag = match TAG.load(Ordering::Relaxed) {
            0 => find_tag(number.py()),
            tag => tag,
        };
        // SAFETY: the GIL is held, as an object is at hand, and nothing foreign runs. An int has a
        // word behind its header.
        unsafe {
            let kept = &mut *self.0.get();
            if (*number.as_ptr().cast::<IntLayout>()).tag == tag && kept.len() < MOST {
                kept.push(number);
            }
        }
        None
    }
}

/// Learns the layout from an int whose value is known.
#[cold]
fn find_tag(py: Python<'_>) -> usize {
    const VALUE: u32 = 0x2345_6789;
    let tag = match Obj::int(py, VALUE.into()) {
        Ok(number) => {
            let int = number.as_ptr().cast::<IntLayout>();
            // SAFETY: an int of this value has at least one digit of at least four bytes behind
            // that word. Nobody else has seen it.
            unsafe {
                let first = (*int).digit;
                (*int).digit = VALUE - 1;
                let is_known = first == VALUE && number.to_i64().ok() == Some((VALUE - 1).into());
                (*int).digit = first;
                if is_known { (*int).tag } else { UNKNOWN }
            }
        }
        Err(raised) => {
            drop(raised.take(py));
            UNKNOWN
        }
    };
    TAG.store(tag, Ordering::Relaxed);
    tag
}
