//! Whole numbers that are written anew instead of being freed and made.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::{Python, ffi};

use crate::error::Raised;
use crate::obj::Obj;

/// Ints that nobody has any more. Declared as a static; guarded by the GIL.
pub struct Numbers(UnsafeCell<Vec<Obj>>);

// SAFETY: only used by threads that hold the GIL.
unsafe impl Sync for Numbers {}

/// How many are kept: as many as the freelist of the objects that have one each.
const MOST: usize = 2048;

/// What lies between the header and the digit of a positive int with one digit; 0 as long as that is
/// not known, [`UNKNOWN`] where an int does not look as expected.
static TAG: AtomicUsize = AtomicUsize::new(0);
const UNKNOWN: usize = usize::MAX;

/// Ints below have one digit.
const DIGIT_END: i64 = 1 << 30;

/// An int as CPython lays it out: a word that tells the number of digits, then these.
#[repr(C)]
struct Int {
    header: ffi::PyObject,
    tag: usize,
    digit: u32,
}

impl Numbers {
    /// None so far.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Numbers {
        Numbers(UnsafeCell::new(Vec::new()))
    }

    /// An int of a value that is not negative.
    #[inline]
    pub fn make(&self, py: Python<'_>, value: i64) -> Result<Obj, Raised> {
        if value < DIGIT_END {
            // SAFETY: the GIL is held (token), and nothing foreign runs. What was kept is an int
            // with one digit that nobody else has.
            unsafe {
                if let Some(number) = (*self.0.get()).pop() {
                    (*number.as_ptr().cast::<Int>()).digit = value as u32;
                    return Ok(number);
                }
            }
        }
        Obj::int(py, value)
    }

    /// Takes an int that is no longer needed, and keeps it if nobody else has it. Returns what is no
    /// int.
    #[inline]
    pub fn give_back(&self, number: Obj) -> Option<Obj> {
        if number.class_address() != std::ptr::addr_of!(ffi::PyLong_Type) as usize {
            return Some(number);
        }
        if number.refcount() != 1 {
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
            if (*number.as_ptr().cast::<Int>()).tag == tag && kept.len() < MOST {
                kept.push(number);
            }
        }
        None
    }
}

/// Looks at an int whose value is known.
#[cold]
fn find_tag(py: Python<'_>) -> usize {
    const VALUE: u32 = 0x2345_6789;
    let tag = match Obj::int(py, VALUE.into()) {
        Ok(number) => {
            let int = number.as_ptr().cast::<Int>();
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
