//! Closing a descriptor.

use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};

use super::check;

/// Closes `fd` and returns the error, which dropping an [`OwnedFd`] does not. The descriptor is
/// gone in any case: closing is never tried twice, since another thread may have got the number by
/// then.
///
/// # Errors
/// What `close(2)` gives, except `EINTR`, after which the descriptor is closed as well.
pub fn close(fd: OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor was owned by `fd`, which has given it up to us.
    match check(unsafe { libc::close(fd.into_raw_fd()) }) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}
