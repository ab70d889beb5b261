//! How threads and signals end the selector's wait.
//!
//! They make a descriptor readable. Wake-ups are merged: between two looks of the loop only the
//! first costs a system call, and the others find the flag set.
//!
//! Signals need a pair of descriptors: the interpreter's own signal handler writes the number of
//! each signal into one end, and the loop reads the other, as with asyncio's self-pipe. Installing
//! a handler of our own instead would take signals away from programs that use `signal.signal`. A
//! loop without signal handlers needs one descriptor fewer, and waking it costs less.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::Notifier;

/// Wakes one loop from any thread: asyncio's `_write_to_self`. Threads share it as `Arc<Waker>`.
#[derive(Debug)]
pub struct Waker {
    notifier: Notifier,
    /// Set from the first notification until the loop has looked. While it is set, the
    /// descriptor is readable or about to become so.
    notified: AtomicBool,
}

impl Waker {
    /// A waker that is not notified. Its descriptor is non-blocking and close-on-exec.
    ///
    /// # Errors
    /// The system's, when it is out of descriptors.
    pub fn new() -> io::Result<Waker> {
        Ok(Waker {
            notifier: Notifier::new()?,
            notified: AtomicBool::new(false),
        })
    }

    /// A waker that the interpreter's signal handler can write to. Its descriptors are non-blocking
    /// and close-on-exec.
    ///
    /// # Errors
    /// The system's, when it is out of descriptors.
    pub fn with_signals() -> io::Result<Waker> {
        Ok(Waker {
            notifier: Notifier::with_pair()?,
            notified: AtomicBool::new(false),
        })
    }

    /// The descriptor for `signal.set_wakeup_fd`, if the waker has one: asyncio's `_csock`.
    pub fn signal_fd(&self) -> Option<RawFd> {
        self.notifier.writer()
    }

    /// The descriptor to register for reading.
    pub fn fd(&self) -> RawFd {
        self.notifier.fd()
    }

    /// Ends the selector's wait, now or when it next begins.
    #[inline]
    pub fn notify(&self) {
        if !self.notified.swap(true, Ordering::AcqRel) && self.notifier.notify().is_err() {
            // Nothing was written, so the next notification must try again.
            self.notified.store(false, Ordering::Release);
        }
    }

    /// Makes the descriptor unreadable. The loop calls this before it looks for what it was woken
    /// for, so a later notification wakes it again. The numbers of the signals that have come are
    /// appended to `signals`, one byte each.
    pub fn drain(&self, signals: &mut Vec<u8>) {
        // The flag is cleared last. If it were cleared first, a notification in between would be
        // read away here, and its flag would keep all later ones from being written. A notification
        // that still finds the flag set comes before this swap, which sees all that was done before
        // it.
        self.notifier.clear(signals);
        self.notified.swap(false, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;
    use std::sync::Arc;

    /// The number of writes to the descriptor since the last look, which an eventfd counts.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn written(waker: &Waker) -> u64 {
        let mut count = [0; 8];
        match sys::read(waker.fd(), &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                0
            }
        }
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn many_notifications_are_one_write() {
        let waker = Waker::new().unwrap();
        assert_eq!(written(&waker), 0);
        (0..100).for_each(|_| waker.notify());
        assert_eq!(written(&waker), 1);
        waker.notify();
        assert_eq!(
            written(&waker),
            0,
            "nothing is written before the loop has looked"
        );
        waker.drain(&mut Vec::new());
        waker.notify();
        assert_eq!(written(&waker), 1);
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn drain_takes_the_notification_away() {
        let waker = Waker::new().unwrap();
        waker.notify();
        waker.drain(&mut Vec::new());
        assert_eq!(written(&waker), 0);
        waker.drain(&mut Vec::new());
        waker.notify();
        assert_eq!(written(&waker), 1);
    }

    #[test]
    fn drain_without_notification_does_not_block() {
        let waker = Waker::new().unwrap();
        waker.drain(&mut Vec::new());
        let error = sys::read(waker.fd(), &mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn threads_notify_it() {
        let waker = Arc::new(Waker::new().unwrap());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let waker = Arc::clone(&waker);
                std::thread::spawn(move || waker.notify())
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert!(sys::read(waker.fd(), &mut [0; 64]).is_ok());
    }

    #[cfg(not(miri))]
    #[test]
    fn signal_numbers_arrive_in_order_among_notifications() {
        let waker = Waker::with_signals().unwrap();
        let writer = waker.signal_fd().unwrap();
        let mut numbers = Vec::new();
        waker.notify();
        waker.drain(&mut numbers);
        assert!(numbers.is_empty());
        sys::write(writer, &[2, 15]).unwrap();
        waker.notify();
        sys::send(writer, &[10]).unwrap();
        waker.drain(&mut numbers);
        assert_eq!(numbers, [2, 15, 10]);
        waker.drain(&mut numbers);
        assert_eq!(numbers.len(), 3);
    }

    #[cfg(not(miri))]
    #[test]
    fn both_ends_of_a_pair_do_not_block() {
        let waker = Waker::with_signals().unwrap();
        assert!(sys::is_nonblocking(waker.fd()).unwrap());
        assert!(sys::is_nonblocking(waker.signal_fd().unwrap()).unwrap());
    }

    #[cfg(not(miri))]
    #[test]
    fn full_pair_refuses_signals_and_is_read_whole() {
        let waker = Waker::with_signals().unwrap();
        let writer = waker.signal_fd().unwrap();
        let mut sent = 0;
        let error = loop {
            match sys::write(writer, &[7; 1000]) {
                Ok(count) => sent += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        waker.notify();
        let mut numbers = Vec::new();
        waker.drain(&mut numbers);
        assert_eq!(numbers, vec![7; sent]);
    }
}
