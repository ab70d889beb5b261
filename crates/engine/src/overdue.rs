//! Whether what a loop holds back leaves in time.
//!
//! A loop that gathers what is written in one iteration sends it at the iteration's end. If a
//! callback blocks before that, nobody is left to send: a thread looks now and then whether
//! something is held for too long. It sleeps without end while nothing is held, so that an idle
//! program pays nothing, and it costs a busy one some hundred short wake-ups a second. The price
//! of not having it would be bytes that wait as long as a callback blocks, maybe for an answer to
//! them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::sys;

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(4);

/// After so many looks at which nothing had been held since the one before, the thread sleeps.
const LOOKS: u32 = 64;

/// A look at what is held. The thread ends when this is dropped.
#[derive(Debug)]
pub struct Overdue {
    shared: Arc<Shared>,
    thread: Thread,
}

/// No lock: a process may be forked at any time, and its child has no such thread.
#[derive(Debug, Default)]
struct Shared {
    /// The number of what was held last, twice, and one more while it is held.
    held: AtomicU64,
    /// The thread sleeps until it is told.
    sleeps: AtomicBool,
    ended: AtomicBool,
}

impl Shared {
    fn watch(&self, mut send: impl FnMut() -> bool) {
        let (mut before, mut unchanged, mut sent) = (0, 0, 0);
        while !self.ended.load(Ordering::SeqCst) {
            if unchanged < LOOKS {
                thread::park_timeout(PERIOD);
            } else {
                self.sleeps.store(true, Ordering::SeqCst);
                // Whoever holds something from now on sees that the thread sleeps.
                if self.held.load(Ordering::SeqCst) == before {
                    thread::park();
                }
                self.sleeps.store(false, Ordering::SeqCst);
                unchanged = 0;
            }
            let held = self.held.load(Ordering::SeqCst);
            if held != before {
                (before, unchanged) = (held, 0);
            } else if held & 1 == 0 || held == sent {
                unchanged += 1;
            } else if send() {
                sent = held;
            }
        }
    }
}

impl Overdue {
    /// Starts the thread. It calls `send` when something has been held for about one to two
    /// periods of 4 milliseconds, and again in each period until that returns true.
    ///
    /// # Errors
    /// The system's, when it is out of threads.
    pub fn watch(send: impl FnMut() -> bool + Send + 'static) -> io::Result<Overdue> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let started = thread::Builder::new()
            .name("overdue".to_owned())
            .spawn(move || {
                sys::block_signals();
                seen.watch(send);
            })?;
        let thread = started.thread().clone();
        Ok(Overdue { shared, thread })
    }

    /// Something is held from now on; `number` differs from the one before.
    #[inline]
    pub fn hold(&self, number: u32) {
        let held = u64::from(number) << 1 | 1;
        self.shared.held.store(held, Ordering::SeqCst);
        if self.shared.sleeps.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
    }

    /// Nothing is held any more.
    #[inline]
    pub fn release(&self) {
        self.shared.held.fetch_and(!1, Ordering::Relaxed);
    }
}

impl Drop for Overdue {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::sync::mpsc::{RecvTimeoutError, channel};

    /// Long enough for a thread to get its turn on a busy machine.
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn what_is_held_on_is_sent_until_it_is_gone() {
        let (sender, calls) = channel();
        let mut left = 3;
        let overdue = Overdue::watch(move || {
            left -= 1;
            sender.send(left).is_ok() && left == 0
        })
        .unwrap();
        overdue.hold(1);
        let got: Vec<i32> = (0..3).map(|_| calls.recv_timeout(LONG).unwrap()).collect();
        assert_eq!(got, [2, 1, 0]);
        assert_eq!(
            calls.recv_timeout(PERIOD * 4),
            Err(RecvTimeoutError::Timeout)
        );
        overdue.release();
        drop(overdue);
        assert_eq!(
            calls.recv_timeout(LONG),
            Err(RecvTimeoutError::Disconnected)
        );
    }

    #[test]
    fn what_was_released_is_not_sent() {
        let (sender, calls) = channel();
        let overdue = Overdue::watch(move || sender.send(()).is_ok()).unwrap();
        overdue.hold(1);
        overdue.release();
        assert_eq!(
            calls.recv_timeout(PERIOD * 4),
            Err(RecvTimeoutError::Timeout)
        );
    }

    #[test]
    fn a_thread_that_sleeps_is_woken() {
        let (sender, calls) = channel();
        let overdue = Overdue::watch(move || sender.send(()).is_ok()).unwrap();
        while !overdue.shared.sleeps.load(Ordering::SeqCst) {
            thread::sleep(PERIOD);
        }
        overdue.hold(7);
        calls.recv_timeout(LONG).unwrap();
    }
}
