//! How any thread ends the selector's wait.
//!
//! A descriptor that becomes readable. Wake-ups are coalesced: between two looks of the loop
//! only the first costs a system call, the others see the flag and leave.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::Notifier;

/// Wakes one loop from any thread; shared as `Arc<Waker>`. asyncio's `_write_to_self`.
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

    /// The descriptor to register for reading.
    pub fn fd(&self) -> RawFd {
        self.notifier.fd()
    }

    /// Ends the wait of the selector, now or when it comes to wait.
    #[inline]
    pub fn notify(&self) {
        if !self.notified.swap(true, Ordering::AcqRel) {
            self.notifier.notify();
        }
    }

    /// To be called by the loop when the descriptor is readable, before it looks for what it was
    /// woken for: whoever notifies from then on wakes it again.
    pub fn drain(&self) {
        // The flag is cleared last: the other way round, a notification in between would be
        // read away here while its flag keeps all later ones from being written. A notification
        // that still finds the flag set has come before this swap, which sees all that was done
        // before it.
        self.notifier.clear();
        self.notified.swap(false, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;
    use std::sync::Arc;

    /// How often the descriptor was written to since the last look; an eventfd counts.
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
        waker.drain();
        waker.notify();
        assert_eq!(written(&waker), 1);
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn drain_takes_the_notification_away() {
        let waker = Waker::new().unwrap();
        waker.notify();
        waker.drain();
        assert_eq!(written(&waker), 0);
        waker.drain();
        waker.notify();
        assert_eq!(written(&waker), 1);
    }

    #[test]
    fn drain_without_notification_does_not_block() {
        let waker = Waker::new().unwrap();
        waker.drain();
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
}
