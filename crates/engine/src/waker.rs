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
