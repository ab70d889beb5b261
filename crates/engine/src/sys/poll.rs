//! The selector's back end where nothing better exists: `poll`, which every Unix has.
//!
//! It does what epoll does, at a cost that grows with the number of descriptors: the same
//! errors for descriptors registered twice or not at all, the same bound on events per wait, and
//! descriptors that were closed without a word are forgotten.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{check, retry};
use crate::clock::Nanos;
use crate::selector::{Interest, MAX_EVENTS, Readiness};

#[derive(Debug, Default)]
pub(crate) struct Poll {
    /// Behind a lock only so that a selector can be shared; a wait works on a copy.
    registered: Mutex<Registered>,
}

#[derive(Debug, Default)]
struct Registered {
    /// The arguments of the system call.
    requests: Vec<libc::pollfd>,
    /// The token of each request.
    tokens: Vec<u64>,
    /// Whether each request ends with its next event. It then stays registered and asks for
    /// nothing.
    once: Vec<bool>,
    /// Where each descriptor's request is.
    places: HashMap<RawFd, usize>,
    /// The place from which the next wait reports, so that each descriptor has its turn when more
    /// than `MAX_EVENTS` are ready at all times.
    start: usize,
}

impl Poll {
    pub(crate) fn new() -> Poll {
        Poll::default()
    }

    pub(crate) fn register(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        check_pollable(fd)?;
        let registered = &mut *self.lock();
        match registered.places.entry(fd) {
            Entry::Occupied(_) => Err(io::Error::from_raw_os_error(libc::EEXIST)),
            Entry::Vacant(place) => {
                place.insert(registered.requests.len());
                registered.requests.push(request(fd, interest));
                registered.tokens.push(token);
                registered.once.push(false);
                Ok(())
            }
        }
    }

    pub(crate) fn modify(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        let registered = &mut *self.lock();
        let place = registered.place(fd)?;
        registered.requests[place] = request(fd, interest);
        registered.tokens[place] = token;
        registered.once[place] = false;
        Ok(())
    }

    pub(crate) fn arm(
        &self,
        fd: RawFd,
        token: u64,
        interest: Interest,
        registered: bool,
    ) -> io::Result<()> {
        if !registered || self.modify(fd, token, interest).is_err() {
            self.register(fd, token, interest)
                .or_else(|_| self.modify(fd, token, interest))?;
        }
        let registered = &mut *self.lock();
        let place = registered.place(fd)?;
        registered.once[place] = true;
        Ok(())
    }

    pub(crate) fn unregister(&self, fd: RawFd) -> io::Result<()> {
        let registered = &mut *self.lock();
        let place = registered.place(fd)?;
        registered.remove(place);
        Ok(())
    }

    pub(crate) fn wait(
        &self,
        timeout: Option<Nanos>,
        events: &mut Vec<Readiness>,
    ) -> io::Result<()> {
        // A copy, so that other threads may register meanwhile.
        let mut requests = self.lock().requests.clone();
        if wait(&mut requests, timeout)? == 0 {
            return Ok(());
        }
        let registered = &mut *self.lock();
        let count = requests.len();
        let start = registered.start % count;
        for offset in 0..count {
            let place = (start + offset) % count;
            let request = requests[place];
            if request.revents == 0 {
                continue;
            }
            // The descriptor may have been unregistered meanwhile.
            let Some(&place_now) = registered.places.get(&request.fd) else {
                continue;
            };
            if request.revents & libc::POLLNVAL != 0 {
                registered.remove(place_now);
                continue;
            }
            if events.len() == MAX_EVENTS {
                registered.start = place;
                break;
            }
            if registered.once[place_now] {
                // `poll` passes over negative numbers: not even a hang-up is reported.
                registered.requests[place_now].fd = !request.fd;
            }
            events.push(Readiness {
                token: registered.tokens[place_now],
                readable: request.revents & !libc::POLLOUT != 0,
                writable: request.revents & !libc::POLLIN != 0,
            });
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Registered> {
        self.registered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registered {
    fn place(&self, fd: RawFd) -> io::Result<usize> {
        self.places
            .get(&fd)
            .copied()
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    fn remove(&mut self, place: usize) {
        let removed = self.requests.swap_remove(place);
        self.tokens.swap_remove(place);
        self.once.swap_remove(place);
        self.places.remove(&descriptor(removed));
        if let Some(moved) = self.requests.get(place) {
            self.places.insert(descriptor(*moved), place);
        }
    }
}

/// Waits for one of `requests`, without end for `None`, and returns how many are ready. Never
/// returns early, but for a signal, which is an error here.
pub(super) fn wait(requests: &mut [libc::pollfd], timeout: Option<Nanos>) -> io::Result<usize> {
    wait_raw(requests, timeout).map(|count| count as usize)
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn wait_raw(requests: &mut [libc::pollfd], timeout: Option<Nanos>) -> io::Result<libc::c_int> {
    const NANOS_PER_SECOND: Nanos = 1_000_000_000;
    let timeout = timeout.map(|nanos| libc::timespec {
        tv_sec: (nanos / NANOS_PER_SECOND)
            .try_into()
            .unwrap_or(libc::time_t::MAX),
        tv_nsec: (nanos % NANOS_PER_SECOND) as _,
    });
    let timeout = timeout
        .as_ref()
        .map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the pointer and the length are those of a slice that is ours to write; the timeout
    // is null or outlives the call; no signal mask is given.
    check(unsafe {
        libc::ppoll(
            requests.as_mut_ptr(),
            requests.len() as libc::nfds_t,
            timeout,
            std::ptr::null(),
        )
    })
}

/// This system's `poll` counts in milliseconds. They are rounded up: a wait ends late, but never
/// early.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn wait_raw(requests: &mut [libc::pollfd], timeout: Option<Nanos>) -> io::Result<libc::c_int> {
    let timeout = timeout.map_or(-1, |nanos| {
        nanos
            .div_ceil(1_000_000)
            .try_into()
            .unwrap_or(libc::c_int::MAX)
    });
    // SAFETY: the pointer and the length are those of a slice that is ours to write.
    check(unsafe {
        libc::poll(
            requests.as_mut_ptr(),
            requests.len() as libc::nfds_t,
            timeout,
        )
    })
}

fn request(fd: RawFd, interest: Interest) -> libc::pollfd {
    let mut events = 0;
    if interest.contains(Interest::READ) {
        events |= libc::POLLIN;
    }
    if interest.contains(Interest::WRITE) {
        events |= libc::POLLOUT;
    }
    libc::pollfd {
        fd,
        events,
        revents: 0,
    }
}

/// The descriptor of a request, silent or not.
fn descriptor(request: libc::pollfd) -> RawFd {
    if request.fd < 0 {
        !request.fd
    } else {
        request.fd
    }
}

/// Whether `fd` is open and of a kind that can be waited for. Files and directories are ready at
/// all times, and a loop that watched one would never rest; epoll refuses them too.
fn check_pollable(fd: RawFd) -> io::Result<()> {
    let mut status = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the pointer is to memory of ours that fits a `stat`.
    retry(|| unsafe { libc::fstat(fd, status.as_mut_ptr()) })?;
    // SAFETY: the call has succeeded and so has filled it.
    let status = unsafe { status.assume_init() };
    match status.st_mode & libc::S_IFMT {
        libc::S_IFREG | libc::S_IFDIR => Err(io::Error::from_raw_os_error(libc::EPERM)),
        _ => Ok(()),
    }
}
