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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;
    use std::thread;

    const SENDERS: usize = 4;
    const ITEMS: usize = if cfg!(miri) { 40 } else { 20_000 };

    fn inbox<T: Send>() -> Arc<Inbox<T>> {
        Arc::new(Inbox::new(Arc::new(Waker::new().unwrap())))
    }

    fn is_woken<T: Send>(inbox: &Inbox<T>) -> bool {
        let woken = sys::read(inbox.waker().fd(), &mut [0; 64]).is_ok();
        inbox.waker().drain();
        woken
    }

    #[test]
    fn items_wait_in_order() {
        let inbox = inbox();
        assert!(!inbox.has_items());
        (0..5).for_each(|item| inbox.send(item).unwrap());
        assert!(inbox.has_items());
        let mut items = Vec::new();
        inbox.take(&mut items);
        assert_eq!(items, [0, 1, 2, 3, 4]);
        assert!(!inbox.has_items());
        inbox.take(&mut items);
        inbox.send(9).unwrap();
        inbox.take(&mut items);
        assert_eq!(items, [0, 1, 2, 3, 4, 9], "taken to the end of the list");
    }

    #[test]
    fn burst_is_one_wake_up() {
        let inbox = inbox();
        assert!(!is_woken(&inbox));
        (0..10).for_each(|item| inbox.send(item).unwrap());
        assert!(is_woken(&inbox));
        inbox.send(10).unwrap();
        assert!(!is_woken(&inbox), "the items before it have woken the loop");
        inbox.take(&mut Vec::new());
        inbox.send(11).unwrap();
        assert!(is_woken(&inbox));
    }

    #[test]
    fn closed_inbox_hands_the_item_back() {
        let inbox = inbox();
        inbox.send("before").unwrap();
        inbox.close();
        assert!(inbox.is_closed());
        let error = inbox.send("after").unwrap_err();
        assert_eq!(error, Closed("after"));
        assert_eq!(error.to_string(), "the inbox is closed");
        let mut items = Vec::new();
        inbox.take(&mut items);
        assert_eq!(items, ["before"]);
    }

    #[test]
    fn memory_of_a_burst_is_given_back() {
        let inbox = inbox();
        let mut items = vec![0];
        (0..RETAINED + 1).for_each(|item| inbox.send(item).unwrap());
        inbox.take(&mut items);
        assert_eq!(items.len(), RETAINED + 2);
        assert!(inbox.lock().items.capacity() <= RETAINED);
    }

    #[test]
    fn each_sender_keeps_its_order() {
        let inbox = inbox();
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || {
                    (0..ITEMS).for_each(|item| inbox.send((sender, item)).unwrap());
                })
            })
            .collect();
        let mut next = [0; SENDERS];
        let mut items = Vec::new();
        while next.iter().sum::<usize>() < SENDERS * ITEMS {
            if !inbox.has_items() {
                thread::yield_now();
                continue;
            }
            inbox.take(&mut items);
            for (sender, item) in items.drain(..) {
                assert_eq!(item, next[sender]);
                next[sender] += 1;
            }
        }
        senders
            .into_iter()
            .for_each(|sender| sender.join().unwrap());
        assert!(!inbox.has_items());
    }

    #[test]
    fn closing_loses_nothing_that_was_sent() {
        let inbox = inbox();
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || (0..).take_while(|item| inbox.send(*item).is_ok()).count())
            })
            .collect();
        let mut taken = 0;
        let mut items = Vec::new();
        while taken < ITEMS {
            inbox.take(&mut items);
            taken += items.drain(..).count();
            thread::yield_now();
        }
        inbox.close();
        let sent: usize = senders
            .into_iter()
            .map(|sender| sender.join().unwrap())
            .sum();
        inbox.take(&mut items);
        assert_eq!(taken + items.len(), sent);
    }

    /// A lost wake-up would leave the receiver waiting for ever.
    #[test]
    #[cfg(not(miri))]
    fn every_item_wakes_a_waiting_loop() {
        use crate::selector::{Interest, Selector};

        let inbox = inbox();
        let selector = Selector::new().unwrap();
        selector
            .register(inbox.waker().fd(), 0, Interest::READ)
            .unwrap();
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || (0..ITEMS).for_each(|item| inbox.send(item).unwrap()))
            })
            .collect();
        let (mut events, mut items, mut taken) = (Vec::new(), Vec::new(), 0);
        while taken < SENDERS * ITEMS {
            if !inbox.has_items() {
                selector.wait(None, &mut events).unwrap();
                inbox.waker().drain();
            }
            inbox.take(&mut items);
            taken += items.drain(..).count();
        }
        senders
            .into_iter()
            .for_each(|sender| sender.join().unwrap());
    }
}
