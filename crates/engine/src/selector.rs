//! Which descriptors are ready.
//!
//! A front over epoll, or over `poll` where there is no epoll. Both keep one contract, tested by
//! the same tests:
//! - Level-triggered: a descriptor is reported at every wait while it is ready.
//! - One registration per descriptor, with a token of the caller's choice that comes back with
//!   every event.
//! - Errors and hang-ups count as readable and as writable, as in Python's `selectors`, whatever
//!   was asked for: the caller masks events by the registered interest, and who reads or writes
//!   then gets the error.
//! - A wait never ends early but for readiness or a signal, and reports a bounded number of
//!   descriptors; the others are reported by the next wait.
//! - Closed descriptors disappear. Still, unregister before closing: a descriptor that lives on
//!   as a duplicate keeps being reported by epoll and can no longer be unregistered.
//!
//! It is close-on-exec. After a fork, parent and child share one epoll: the child must drop its
//! selector without unregistering anything and make a new one.
//!
//! Refused: edge-triggering, which makes one unread byte a lost wake-up, and an interest in
//! nothing, which would still report hang-ups for ever.

use std::io;
use std::ops::{BitOr, Sub};
use std::os::fd::RawFd;

use crate::clock::Nanos;
#[cfg(any(target_os = "linux", target_os = "android"))]
use crate::sys::epoll::Epoll;
use crate::sys::poll::Poll;

/// The most descriptors one wait reports.
pub const MAX_EVENTS: usize = 256;

/// What to wait for on a descriptor: [`READ`](Interest::READ), [`WRITE`](Interest::WRITE), or
/// both, put together by `|` and taken apart by `-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Interest(u8);

impl Interest {
    /// In nothing; cannot be registered.
    pub const NONE: Interest = Interest(0);
    /// In reading: `add_reader`.
    pub const READ: Interest = Interest(1);
    /// In writing: `add_writer`.
    pub const WRITE: Interest = Interest(2);

    /// Whether all of `other` is in this.
    #[inline]
    pub const fn contains(self, other: Interest) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it is an interest in nothing.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Interest {
    type Output = Interest;

    #[inline]
    fn bitor(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }
}

impl Sub for Interest {
    type Output = Interest;

    #[inline]
    fn sub(self, other: Interest) -> Interest {
        Interest(self.0 & !other.0)
    }
}

/// One descriptor that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The token it was registered with.
    pub token: u64,
    /// It can be read, or has an error or hang-up to report.
    pub readable: bool,
    /// It can be written, or has an error or hang-up to report.
    pub writable: bool,
}

/// The system's way of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Linux's epoll.
    Epoll,
    /// `poll`, which exists everywhere and slows down with many descriptors.
    Poll,
}

/// The descriptors a loop watches. It can be shared: another thread may register while one
/// waits.
#[derive(Debug)]
pub struct Selector {
    system: System,
}

#[derive(Debug)]
enum System {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Epoll(Epoll),
    Poll(Poll),
}

/// Runs the same expression on either back end.
macro_rules! on {
    ($selector:expr, $system:ident => $call:expr) => {
        match &$selector.system {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            System::Epoll($system) => $call,
            System::Poll($system) => $call,
        }
    };
}

impl Selector {
    /// A selector with the best back end of this system.
    ///
    /// # Errors
    /// The system's, when it is out of descriptors or memory.
    pub fn new() -> io::Result<Selector> {
        if cfg!(any(target_os = "linux", target_os = "android")) {
            Selector::with_backend(Backend::Epoll)
        } else {
            Selector::with_backend(Backend::Poll)
        }
    }

    /// A selector with the back end asked for.
    ///
    /// # Errors
    /// `Unsupported` when this system does not have it; otherwise as [`new`](Selector::new).
    pub fn with_backend(backend: Backend) -> io::Result<Selector> {
        let system = match backend {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Backend::Epoll => System::Epoll(Epoll::new()?),
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            Backend::Epoll => return Err(io::ErrorKind::Unsupported.into()),
            Backend::Poll => System::Poll(Poll::new()),
        };
        Ok(Selector { system })
    }

    /// The back end in use.
    pub fn backend(&self) -> Backend {
        match &self.system {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            System::Epoll(_) => Backend::Epoll,
            System::Poll(_) => Backend::Poll,
        }
    }

    /// Starts to watch `fd`. Events on it carry `token`.
    ///
    /// # Errors
    /// `EEXIST` when it is registered already, `EBADF` when it is closed, `EPERM` when it is a
    /// file or directory, `InvalidInput` when the interest is empty; the system's others.
    pub fn register(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        check_interest(interest)?;
        on!(self, system => system.register(fd, token, interest))
    }

    /// Changes token and interest of a registered descriptor.
    ///
    /// # Errors
    /// `ENOENT` when it is not registered; otherwise as [`register`](Selector::register).
    pub fn modify(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        check_interest(interest)?;
        on!(self, system => system.modify(fd, token, interest))
    }

    /// Stops to watch `fd`.
    ///
    /// # Errors
    /// `ENOENT` when it is not registered; the system's others.
    pub fn unregister(&self, fd: RawFd) -> io::Result<()> {
        on!(self, system => system.unregister(fd))
    }

    /// Waits until a descriptor is ready or `timeout` nanoseconds have passed, without end for
    /// `None`, not at all for 0. `events` holds what is ready afterwards and nothing else: at
    /// most [`MAX_EVENTS`]. A signal ends the wait without events.
    ///
    /// # Errors
    /// The system's, which no correct use brings about.
    pub fn wait(&self, timeout: Option<Nanos>, events: &mut Vec<Event>) -> io::Result<()> {
        events.clear();
        match on!(self, system => system.wait(timeout, events)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }
}

fn check_interest(interest: Interest) -> io::Result<()> {
    if interest.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "interest in nothing",
        ));
    }
    Ok(())
}
