//! A descriptor that any thread can make readable: an eventfd, a pipe where there is none.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

#[derive(Debug)]
pub(crate) struct Notifier {
    reader: OwnedFd,
    /// The other end of the pipe; an eventfd has one end for both.
    writer: Option<OwnedFd>,
}

impl Notifier {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn new() -> io::Result<Notifier> {
        use std::os::fd::FromRawFd;
        // SAFETY: only numbers are passed.
        let fd = super::check(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
        Ok(Notifier {
            // SAFETY: the call has just made this descriptor and nobody else knows of it.
            reader: unsafe { OwnedFd::from_raw_fd(fd) },
            writer: None,
        })
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn new() -> io::Result<Notifier> {
        Notifier::with_pipe()
    }

    #[cfg(any(
        all(test, not(miri)),
        not(any(target_os = "linux", target_os = "android"))
    ))]
    pub(crate) fn with_pipe() -> io::Result<Notifier> {
        use std::os::unix::net::UnixStream;
        // A pair of sockets, which the standard library makes close-on-exec on every platform.
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Notifier {
            reader: reader.into(),
            writer: Some(writer.into()),
        })
    }

    /// What becomes readable.
    pub(crate) fn fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// Makes it readable. The one error that can come is that nothing more fits in, and then it
    /// is readable already.
    pub(crate) fn notify(&self) {
        let writer = self.writer.as_ref().unwrap_or(&self.reader);
        let _ = super::write(writer.as_raw_fd(), &1u64.to_ne_bytes());
    }

    /// Makes it unreadable again.
    pub(crate) fn clear(&self) {
        let mut buffer = [0; 64];
        // An eventfd is empty after one read; a second would only fail.
        while super::read(self.fd(), &mut buffer).is_ok_and(|count| count == buffer.len()) {}
    }
}
