//! How other threads reach the loop.
//!
//! A list behind a lock and the loop's [`Waker`]. The lock is held for a push or for swapping
//! two lists, so that no lock-free queue could do better by more than the cost of one wake-up;
//! in return each sender's order is kept, and closing is exact: after it, no send succeeds, and
//! everything sent before is there to be taken.
//!
//! The loop asks [`has_items`](Inbox::has_items) at every iteration, one load of an atomic, and
//! thus takes calls from other threads without looking at the selector.
//!
//! It is of no use across a fork: another thread may have held the lock. The child makes a new
//! one.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::waker::Waker;

/// Items up to which the list's memory is kept.
const RETAINED: usize = 4096;

/// What other threads have for one loop, in the order in which they sent it; shared as
/// `Arc<Inbox<T>>`. The way in of `call_soon_threadsafe`.
#[derive(Debug)]
pub struct Inbox<T> {
    state: Mutex<State<T>>,
    /// Whether there are items; changed under the lock only.
    has_items: AtomicBool,
    waker: Arc<Waker>,
}

#[derive(Debug)]
struct State<T> {
    items: Vec<T>,
    closed: bool,
}

/// The inbox is closed; this is the item that could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed<T>(pub T);

impl<T: Send> Inbox<T> {
    /// An empty, open inbox, whose senders wake the loop through `waker`.
    pub const fn new(waker: Arc<Waker>) -> Inbox<T> {
        Inbox {
            state: Mutex::new(State {
                items: Vec::new(),
                closed: false,
            }),
            has_items: AtomicBool::new(false),
            waker,
        }
    }

    /// Adds an item and wakes the loop, unless items wait already and it is about to wake.
    ///
    /// # Errors
    /// [`Closed`], with the item in it, after [`close`](Inbox::close).
    pub fn send(&self, item: T) -> Result<(), Closed<T>> {
        let mut state = self.lock();
        if state.closed {
            return Err(Closed(item));
        }
        let first = state.items.is_empty();
        state.items.push(item);
        if first {
            self.has_items.store(true, Ordering::Release);
        }
        drop(state);
        if first {
            self.waker.notify();
        }
        Ok(())
    }

    /// Whether there is something to take. May be late by the moment that another thread is
    /// sending; the wake-up comes after it.
    #[inline]
    pub fn has_items(&self) -> bool {
        self.has_items.load(Ordering::Acquire)
    }

    /// Moves everything to the end of `items`. An empty list is swapped for the full one, so
    /// that two lists take turns and nothing is copied.
    pub fn take(&self, items: &mut Vec<T>) {
        let mut state = self.lock();
        self.has_items.store(false, Ordering::Relaxed);
        if items.is_empty() {
            std::mem::swap(items, &mut state.items);
        } else {
            items.append(&mut state.items);
        }
        if state.items.capacity() > RETAINED {
            state.items = Vec::new();
        }
    }

    /// Has every later send fail. What was sent before can still be taken.
    pub fn close(&self) {
        self.lock().closed = true;
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// The waker that senders use.
    pub fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing that runs under the lock can panic halfway, short of the end of memory.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Display for Closed<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the inbox is closed")
    }
}

impl<T: fmt::Debug> std::error::Error for Closed<T> {}
