//! The selector's back end on Linux.
//!
//! A wait is one `epoll_pwait2`, which counts in nanoseconds. Before Linux 5.11, and in sandboxes
//! that refuse that call, `ppoll` waits on the epoll descriptor. `epoll_wait` counts in
//! milliseconds and would make timers up to one millisecond late.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{check, poll, retry};
use crate::clock::Nanos;
use crate::selector::{Interest, MAX_EVENTS, Readiness};

#[derive(Debug)]
pub(crate) struct Epoll {
    fd: OwnedFd,
    /// Whether the system has refused `epoll_pwait2` once.
    lacks_nanoseconds: AtomicBool,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        // SAFETY: only numbers are passed.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        Ok(Epoll {
            // SAFETY: the call has just made this descriptor and nobody else knows of it.
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
            lacks_nanoseconds: AtomicBool::new(false),
        })
    }

    pub(crate) fn register(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, mask(interest))
    }

    pub(crate) fn modify(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, mask(interest))
    }

    pub(crate) fn arm(
        &self,
        fd: RawFd,
        token: u64,
        interest: Interest,
        registered: bool,
    ) -> io::Result<()> {
        let events = mask(interest) | libc::EPOLLONESHOT as u32;
        let (first, other, turned_down) = if registered {
            (libc::EPOLL_CTL_MOD, libc::EPOLL_CTL_ADD, libc::ENOENT)
        } else {
            (libc::EPOLL_CTL_ADD, libc::EPOLL_CTL_MOD, libc::EEXIST)
        };
        match self.control(first, fd, token, events) {
            Err(error) if error.raw_os_error() == Some(turned_down) => {
                self.control(other, fd, token, events)
            }
            result => result,
        }
    }

    pub(crate) fn unregister(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    pub(crate) fn wait(
        &self,
        timeout: Option<Nanos>,
        events: &mut Vec<Readiness>,
    ) -> io::Result<()> {
        let mut buffer = [MaybeUninit::<libc::epoll_event>::uninit(); MAX_EVENTS];
        let count = self.wait_into(timeout, &mut buffer)?;
        events.extend(buffer[..count].iter().map(|event| {
            // SAFETY: the system has written the first `count` events.
            let event = unsafe { event.assume_init() };
            let flags = event.events;
            Readiness {
                token: event.u64,
                readable: flags & !(libc::EPOLLOUT as u32) != 0,
                writable: flags & !(libc::EPOLLIN as u32) != 0,
            }
        }));
        Ok(())
    }

    /// Waits, and returns the number of events written to the front of `buffer`.
    fn wait_into(&self, timeout: Option<Nanos>, buffer: &mut Buffer) -> io::Result<usize> {
        let nanos = match timeout {
            None => return self.wait_milliseconds(-1, buffer),
            Some(0) => return self.wait_milliseconds(0, buffer),
            Some(nanos) => nanos,
        };
        if !self.lacks_nanoseconds.load(Ordering::Relaxed) {
            match self.wait_nanoseconds(nanos, buffer) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    self.lacks_nanoseconds.store(true, Ordering::Relaxed);
                }
                result => return result,
            }
        }
        let mut own = [libc::pollfd {
            fd: self.fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        }];
        poll::wait(&mut own, Some(nanos))?;
        self.wait_milliseconds(0, buffer)
    }

    fn wait_milliseconds(&self, timeout: libc::c_int, buffer: &mut Buffer) -> io::Result<usize> {
        // SAFETY: the pointer and the length are those of a buffer that is ours to write.
        let count = unsafe {
            libc::epoll_wait(
                self.fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                MAX_EVENTS as libc::c_int,
                timeout,
            )
        };
        check(count).map(|count| count as usize)
    }

    fn wait_nanoseconds(&self, timeout: Nanos, buffer: &mut Buffer) -> io::Result<usize> {
        let timeout = Timespec {
            seconds: (timeout / 1_000_000_000) as i64,
            nanoseconds: (timeout % 1_000_000_000) as i64,
        };
        let no_signals = std::ptr::null::<libc::sigset_t>();
        // SAFETY: the pointer and the length are those of a buffer that is ours to write;
        // `timeout` outlives the call and has the layout the kernel expects on every
        // architecture. Called by number, as older C libraries do not have the function.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                buffer.as_mut_ptr(),
                MAX_EVENTS as libc::c_int,
                &raw const timeout,
                no_signals,
                0usize,
            )
        };
        check(count as isize).map(|count| count as usize)
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: RawFd,
        token: u64,
        events: u32,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: `event` outlives the call.
        retry(|| unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &mut event) })
            .map(drop)
    }

    /// Makes every later wait behave as where `epoll_pwait2` does not exist.
    #[cfg(all(test, not(miri)))]
    pub(crate) fn forbid_nanoseconds(&self) {
        self.lacks_nanoseconds.store(true, Ordering::Relaxed);
    }
}

/// The kernel's `timespec`, whose fields have 64 bits on every architecture; those of the C
/// library's may have fewer.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

type Buffer = [MaybeUninit<libc::epoll_event>; MAX_EVENTS];

fn mask(interest: Interest) -> u32 {
    let mut mask = 0;
    if interest.contains(Interest::READ) {
        mask |= libc::EPOLLIN as u32;
    }
    if interest.contains(Interest::WRITE) {
        mask |= libc::EPOLLOUT as u32;
    }
    mask
}
