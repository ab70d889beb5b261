//! References to functions, taken in bulk.
//!
//! A function of a module is called by the loops of all threads. Each call that waits holds a
//! reference, and threads that count references to one object wait for each other's writes. So a
//! running loop takes a thousand references to such a function at once, and hands them out and takes
//! them back without counting. Each is a true reference: it may also be dropped as any other.
//!
//! This is for functions whose references CPython does not count at each use either ("deferred"),
//! and which only the garbage collector frees: those that are not defined inside another function.
//! Others would live longer than with asyncio.

use std::cell::UnsafeCell;

use super::free_threaded::ENTERED;
use crate::obj::Obj;
use crate::refcount;

/// The number of references that are taken at once.
const AT_ONCE: usize = 1024;

/// The number of functions of which a loop has references. One in the place of another takes over.
const FUNCTIONS: usize = 8;

/// What a loop has. Only the thread that owns the loop's domain touches it.
pub(super) struct Stock(UnsafeCell<[Supply; FUNCTIONS]>);

// SAFETY: only the thread that owns the domain looks inside, while it owns it.
unsafe impl Sync for Stock {}

/// References to one function.
struct Supply {
    function: Option<Obj>,
    /// The number of references besides the one above.
    count: usize,
}

impl Supply {
    const NONE: Supply = Supply {
        function: None,
        count: 0,
    };

    /// Gives the references back.
    fn release(self) {
        if let Some(function) = &self.function {
            // SAFETY: the entry has these references, and one more.
            unsafe { refcount::subtract(function, self.count) }
        }
    }
}

impl Stock {
    pub(super) const fn new() -> Stock {
        Stock(UnsafeCell::new([Supply::NONE; FUNCTIONS]))
    }

    /// Gives everything back, when the thread ceases to own the domain.
    pub(super) fn give_back(&self) {
        // SAFETY: the domain is this thread's; the entries are taken out before they are released.
        let entries = unsafe { std::mem::replace(&mut *self.0.get(), [Supply::NONE; FUNCTIONS]) };
        entries.into_iter().for_each(Supply::release);
    }
}

/// Where the references to an object are, if it is of those that are taken in bulk and the thread is
/// in a domain that it owns.
///
/// # Safety
/// Nobody else has the same, and no foreign code runs while it is used.
#[inline(always)]
unsafe fn entry<'a>(object: &Obj) -> Option<&'a mut Supply> {
    if !refcount::is_shared_and_deferred(object) {
        return None;
    }
    let domain = ENTERED.get().filter(|domain| domain.is_owned_here())?;
    let place = (object.as_ptr() as usize >> 5) % FUNCTIONS;
    // SAFETY: by the contract, and because the domain is this thread's.
    unsafe { (*domain.stock.0.get()).get_mut(place) }
}

impl Obj {
    /// A new reference, for a call that waits.
    #[inline]
    pub fn clone_to_wait(&self) -> Obj {
        // SAFETY: nothing foreign runs before the entry is whole; the old one is released after.
        unsafe {
            let Some(entry) = entry(self) else {
                return self.clone();
            };
            let mut before = None;
            if !entry
                .function
                .as_ref()
                .is_some_and(|function| function.is(self))
            {
                let fresh = Supply {
                    function: Some(self.clone()),
                    count: 0,
                };
                before = Some(std::mem::replace(entry, fresh));
            }
            if entry.count == 0 {
                refcount::add(self, AT_ONCE);
                entry.count = AT_ONCE;
            }
            entry.count -= 1;
            let taken = Obj::of_counted(self);
            if let Some(before) = before {
                before.release();
            }
            taken
        }
    }

    /// Drops a reference of a call that has waited.
    #[inline]
    pub fn drop_after_wait(self) {
        // SAFETY: nothing foreign runs.
        let entry = unsafe { entry(&self) };
        match entry {
            Some(entry)
                if entry.count < 2 * AT_ONCE
                    && entry
                        .function
                        .as_ref()
                        .is_some_and(|function| function.is(&self)) =>
            {
                entry.count += 1;
                std::mem::forget(self);
            }
            _ => drop(self),
        }
    }
}
