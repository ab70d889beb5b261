//! A descriptor that any thread can make readable: an eventfd, or a pair of sockets where there is
//! none or where signal numbers come the same way.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

#[derive(Debug)]
pub(crate) struct Notifier {
    reader: OwnedFd,
    /// The other end of the pair; an eventfd has one end for both.
    writer: Option<OwnedFd>,
}

/// The byte that a notification writes into a pair: no signal has this number.
const NOTIFICATION: u8 = 0;

impl Notifier {
    /// A notifier of one descriptor, where the system has an eventfd and does not refuse it; else
    /// of a pair.
    pub(crate) fn new() -> io::Result<Notifier> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        match Notifier::with_eventfd() {
            // Sandboxes that do not know the call refuse it.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOSYS | libc::EPERM | libc::EACCES)
                ) => {}
            result => return result,
        }
        Notifier::with_pair()
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn with_eventfd() -> io::Result<Notifier> {
        use std::os::fd::FromRawFd;
        // SAFETY: only numbers are passed.
        let fd = super::check(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
        Ok(Notifier {
            // SAFETY: the call has just made this descriptor and nobody else knows of it.
            reader: unsafe { OwnedFd::from_raw_fd(fd) },
            writer: None,
        })
    }

    /// A notifier of two descriptors. A byte that others write into [`Notifier::writer`] notifies
    /// too.
    pub(crate) fn with_pair() -> io::Result<Notifier> {
        // Sockets, which the standard library makes close-on-exec on every platform.
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Notifier {
            reader: reader.into(),
            writer: Some(writer.into()),
        })
    }

    /// The descriptor that becomes readable.
    pub(crate) fn fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// The writing end of a pair.
    pub(crate) fn writer(&self) -> Option<RawFd> {
        self.writer.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Makes the descriptor readable.
    ///
    /// # Errors
    /// What `write(2)` gives; `WouldBlock` when nothing more fits in, and then it is readable.
    pub(crate) fn notify(&self) -> io::Result<()> {
        match self.writer() {
            Some(writer) => super::write(writer, &[NOTIFICATION]),
            None => super::write(self.fd(), &1u64.to_ne_bytes()),
        }
        .map(drop)
    }

    /// Makes the descriptor unreadable again. Bytes that others wrote into the pair are appended to
    /// `bytes`.
    pub(crate) fn clear(&self, bytes: &mut Vec<u8>) {
        let mut buffer = [0; 64];
        // The loop ends when nothing is left to read; reading our own descriptors gives no other
        // error. An eventfd is empty after one read, and a second would only fail.
        while let Ok(count) = super::read(self.fd(), &mut buffer) {
            if self.writer.is_some() {
                let read = buffer[..count].iter();
                bytes.extend(read.filter(|byte| **byte != NOTIFICATION));
            }
            if count < buffer.len() {
                break;
            }
        }
    }
}
