//! Closing one direction of a connection.

use std::io;
use std::os::fd::RawFd;

pub use std::net::Shutdown;

use super::retry;

/// Shuts the reading or writing side of a socket, or both.
///
/// # Errors
/// What `shutdown(2)` gives; `NotConnected` when the peer is gone.
pub fn shutdown(fd: RawFd, how: Shutdown) -> io::Result<()> {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: only numbers are passed.
    retry(|| unsafe { libc::shutdown(fd, how) }).map(drop)
}
