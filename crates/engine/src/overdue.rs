//! Whether what a loop holds back leaves in time.
//!
//! A loop that gathers what is written in one iteration sends it at the iteration's end. If a
//! callback blocks before that, the loop cannot send, so a thread looks every few milliseconds
//! whether something is held for too long. The thread sleeps without end while nothing is held, so
//! that an idle program pays nothing; a busy one pays some hundred short wake-ups a second. Without
//! the thread, bytes would wait as long as a callback blocks, which may itself wait for an answer
//! to them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::sys;

/// The time between two looks.
const PERIOD: Duration = Duration::from_millis(4);

/// The thread sleeps after this many looks in a row at which nothing new was held.
const LOOKS: u32 = 64;

/// The thread that looks at what is held. Dropping this ends the thread.
#[derive(Debug)]
pub struct Overdue {
    shared: Arc<Shared>,
    thread: Thread,
}

/// What the loop and the thread share. It has no lock: a process may be forked at any time, and the
/// child has no thread that could release one.
#[derive(Debug, Default)]
struct Shared {
    /// Twice the number of what was held last, plus one while it is held.
    held: AtomicU64,
    /// Whether the thread sleeps until it is woken.
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
                // From now on [`Overdue::hold`] sees that the thread sleeps, and wakes it.
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

    /// Notes that something is held from now on. `number` differs from the one before.
    #[inline]
    pub fn hold(&self, number: u32) {
        let held = u64::from(number) << 1 | 1;
        self.shared.held.store(held, Ordering::SeqCst);
        if self.shared.sleeps.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
    }

    /// Notes that nothing is held any more.
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
