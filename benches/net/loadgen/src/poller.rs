//! epoll, reduced to what an echo needs.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{Timespec, epoll};

/// The events for which a descriptor is watched.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Bytes to read.
    Read,
    /// Bytes to read, and room to write.
    ReadWrite,
}

impl Interest {
    fn flags(self) -> epoll::EventFlags {
        match self {
            Interest::Read => epoll::EventFlags::IN,
            Interest::ReadWrite => epoll::EventFlags::IN | epoll::EventFlags::OUT,
        }
    }
}

/// One readiness: the key its descriptor was added with, and what it is ready for.
#[derive(Clone, Copy)]
pub struct Ready {
    /// The key given to [`Poller::add`].
    pub key: usize,
    /// Bytes, an end of file or an error wait to be read.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
}

/// An epoll instance and the events of its last wait.
pub struct Poller {
    epoll: OwnedFd,
    ready: Vec<Ready>,
}

impl Poller {
    /// A poller without descriptors; fails as `epoll_create1` does.
    pub fn new() -> io::Result<Poller> {
        Ok(Poller {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            ready: Vec::new(),
        })
    }

    /// Watches `fd` under `key`; closing `fd` ends it. Fails as `epoll_ctl` does.
    pub fn add(&self, fd: impl AsFd, key: usize, interest: Interest) -> io::Result<()> {
        let data = epoll::EventData::new_u64(key as u64);
        Ok(epoll::add(&self.epoll, fd, data, interest.flags())?)
    }

    /// Changes what `fd` waits for; fails as `epoll_ctl` does.
    pub fn modify(&self, fd: impl AsFd, key: usize, interest: Interest) -> io::Result<()> {
        let data = epoll::EventData::new_u64(key as u64);
        Ok(epoll::modify(&self.epoll, fd, data, interest.flags())?)
    }

    /// Waits until something is ready, or `timeout` has passed, and returns what is ready.
    pub fn wait(&mut self, timeout: Option<&Timespec>) -> io::Result<&[Ready]> {
        let mut room = [MaybeUninit::uninit(); 256];
        let (events, _) = epoll::wait(&self.epoll, &mut room, timeout)?;
        self.ready.clear();
        self.ready.extend(events.iter().map(|event| {
            let flags = event.flags;
            let ended = epoll::EventFlags::HUP | epoll::EventFlags::ERR;
            Ready {
                key: event.data.u64() as usize,
                readable: flags.intersects(epoll::EventFlags::IN | ended),
                writable: flags.intersects(epoll::EventFlags::OUT),
            }
        }));
        Ok(&self.ready)
    }
}
