//! How much of the calling thread's stack is left.
//!
//! A native coroutine drives another coroutine by a call in C, and calls that nest without end must
//! end with a RecursionError. The interpreter counts such calls, but before 3.14 with a limit that
//! does not depend on the stack's size: a thread with a small stack, which every thread has with
//! musl, would crash first. So the size of the stack counts as well.

use std::cell::Cell;
use std::marker::PhantomData;

use pyo3::{Python, ffi};

use crate::error::Raised;

/// With less than this many bytes of the stack left, nothing nests any deeper; nor with less than a
/// fraction of the stack left, if that is more. The reserve is for calls that do not check.
const RESERVE: usize = 32 << 10;
const RESERVED_PART: usize = 4;

/// With more than this many bytes of the stack used, nothing nests any deeper, so that endless
/// awaits end on the largest stack too.
const MOST: usize = 4 << 20;

/// With more than this many bytes of the stack used, the stack counts as low.
const PLENTY: usize = 256 << 10;

/// Addresses within a thread's stack, which grows downwards.
#[derive(Clone, Copy)]
struct Bounds {
    /// The lowest address of the stack. An address below is on another stack: some libraries run
    /// Python code on stacks of their own, whose bounds are not known.
    lowest: usize,
    /// The stack counts as low below this address.
    low: usize,
    /// Nothing nests below this address.
    end: usize,
}

/// A thread's bounds, kept as long as it runs.
struct Known(Cell<Option<Bounds>>);

thread_local! {
    static KNOWN: Known = const { Known(Cell::new(None)) };
}

/// Above all addresses.
const NOWHERE: usize = usize::MAX;

/// Addresses at which the stack of one thread is not low; mostly that of the thread which asks.
/// Reading a thread's variables costs more than reading these.
#[cfg(not(Py_GIL_DISABLED))]
mod plenty_left {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{Known, NOWHERE};

    /// From `.0` to below `.1`. They are written with the GIL held, except that a thread which ends
    /// clears the lower one, so that the stack of another thread is never at these addresses.
    static ADDRESSES: (AtomicUsize, AtomicUsize) = (AtomicUsize::new(NOWHERE), AtomicUsize::new(0));

    #[inline(always)]
    pub(super) fn contains(here: usize) -> bool {
        here >= ADDRESSES.0.load(Ordering::Relaxed) && here < ADDRESSES.1.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(super) fn set(low: usize, end: usize) {
        ADDRESSES.0.store(low, Ordering::Relaxed);
        ADDRESSES.1.store(end, Ordering::Relaxed);
    }

    impl Drop for Known {
        fn drop(&mut self) {
            if let Some(bounds) = self.0.get() {
                let lower = &ADDRESSES.0;
                let (low, relaxed) = (bounds.low, Ordering::Relaxed);
                let _ = lower.compare_exchange(low, NOWHERE, relaxed, relaxed);
            }
        }
    }
}

/// Addresses at which the thread's stack is not low. Threads that run at the same time must not
/// share them: one could read the lower of one thread and the upper of another, and each would write
/// what the other reads.
#[cfg(Py_GIL_DISABLED)]
mod plenty_left {
    use std::cell::Cell;

    use super::NOWHERE;

    thread_local! {
        /// From the first to below the second.
        static ADDRESSES: Cell<(usize, usize)> = const { Cell::new((NOWHERE, 0)) };
    }

    #[inline(always)]
    pub(super) fn contains(here: usize) -> bool {
        let (low, end) = ADDRESSES.get();
        here >= low && here < end
    }

    #[inline(always)]
    pub(super) fn set(low: usize, end: usize) {
        ADDRESSES.set((low, end));
    }
}

/// An address in the calling function's frame.
#[inline(always)]
fn here() -> usize {
    let local = 0_u8;
    &raw const local as usize
}

/// Whether the stack is low: code that can avoid nesting in C should do so.
#[inline]
pub fn is_low() -> bool {
    let here = here();
    !plenty_left::contains(here) && look(here)
}

/// Answers [`is_low`] where the addresses are another thread's or not known.
#[cold]
fn look(here: usize) -> bool {
    let Some(bounds) = bounds(here).filter(|bounds| here >= bounds.lowest) else {
        return false;
    };
    if here < bounds.low {
        return true;
    }
    plenty_left::set(bounds.low, here + 1);
    false
}

/// Fails if too little of the stack is left.
///
/// # Errors
/// RecursionError, as at the interpreter's own limit.
#[inline]
pub fn check(py: Python<'_>) -> Result<(), Raised> {
    if is_low() && is_exhausted() {
        return Err(exhausted(py));
    }
    Ok(())
}

#[cold]
fn is_exhausted() -> bool {
    let here = here();
    bounds(here).is_some_and(|bounds| (bounds.lowest..bounds.end).contains(&here))
}

#[cold]
fn exhausted(py: Python<'_>) -> Raised {
    Raised::new::<pyo3::exceptions::PyRecursionError>(py, "maximum recursion depth exceeded")
}

/// A call in C that may nest, until it is dropped. The interpreter counts it where the stack is
/// low.
pub struct Nested {
    counted: bool,
    /// Keeps the value in its thread.
    phantom: PhantomData<*const ()>,
}

impl Nested {
    /// Begins the call.
    ///
    /// # Errors
    /// RecursionError, if too many calls nest or too little of the stack is left.
    #[inline]
    pub fn enter(py: Python<'_>) -> Result<Nested, Raised> {
        let counted = is_low();
        if counted {
            count(py)?;
        }
        Ok(Nested {
            counted,
            phantom: PhantomData,
        })
    }
}

#[cold]
fn count(py: Python<'_>) -> Result<(), Raised> {
    check(py)?;
    // SAFETY: the token proves that we are attached; the text is kept for ever.
    match unsafe { ffi::Py_EnterRecursiveCall(c"".as_ptr()) } {
        0 => Ok(()),
        _ => Err(Raised::by_cpython()),
    }
}

impl Drop for Nested {
    #[inline]
    fn drop(&mut self) {
        if self.counted {
            // SAFETY: counted in this thread.
            unsafe { ffi::Py_LeaveRecursiveCall() };
        }
    }
}

/// The thread's bounds, determined at the first call. Nothing at the thread's very end.
#[cold]
fn bounds(here: usize) -> Option<Bounds> {
    let known = KNOWN.try_with(|known| {
        let bounds = known.0.get().unwrap_or_else(|| divide(here, extent()));
        known.0.set(Some(bounds));
        bounds
    });
    known.ok()
}

/// The bounds within a stack with this lowest address and size, if they are known. The part above
/// `here` is in use.
fn divide(here: usize, extent: Option<(usize, usize)>) -> Bounds {
    let (lowest, size) = extent.unwrap_or((0, 0));
    let reserve = (size / RESERVED_PART).max(RESERVE).min(size / 2);
    Bounds {
        lowest,
        low: here.saturating_sub(PLENTY).max(lowest + size / 2),
        end: here.saturating_sub(MOST).max(lowest + reserve),
    }
}

/// The lowest address and the size of the thread's stack.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn extent() -> Option<(usize, usize)> {
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    let (mut lowest, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the first call fills the attributes if it returns 0, the second reads and the third
    // destroys them.
    unsafe {
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return None;
        }
        let failed = libc::pthread_attr_getstack(attributes.as_ptr(), &mut lowest, &mut size);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        let extent = (failed == 0).then_some((lowest as usize, size))?;
        // For the main thread, whose stack grows, musl gives its present size.
        if cfg!(target_env = "musl") && libc::gettid() == libc::getpid() {
            return grown(extent);
        }
        Some(extent)
    }
}

/// The size that the main thread's stack may reach.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn grown((lowest, size): (usize, usize)) -> Option<(usize, usize)> {
    let mut limit = std::mem::MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: the call fills the limit if it returns 0.
    let limit = unsafe {
        if libc::getrlimit(libc::RLIMIT_STACK, limit.as_mut_ptr()) != 0 {
            return None;
        }
        limit.assume_init().rlim_cur
    };
    if limit == libc::RLIM_INFINITY {
        return None;
    }
    let limit = usize::try_from(limit).ok()?;
    Some(((lowest + size).checked_sub(limit)?, limit))
}

/// The lowest address and the size of the thread's stack.
#[cfg(target_os = "macos")]
fn extent() -> Option<(usize, usize)> {
    // SAFETY: both only read what is known of the calling thread.
    unsafe {
        let thread = libc::pthread_self();
        let size = libc::pthread_get_stacksize_np(thread);
        let highest = libc::pthread_get_stackaddr_np(thread) as usize;
        Some((highest.checked_sub(size)?, size))
    }
}

/// The bounds are not known on this system.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos")))]
fn extent() -> Option<(usize, usize)> {
    None
}
