//! Starting a connection.

use std::io;
use std::os::fd::RawFd;

use super::{SocketAddrStorage, check};

/// Whether the outcome of a failed [`connect`] is still open: the socket becomes writable when it
/// is decided. `EAGAIN` is such an error too: a Unix socket gives it when its peer has no room for
/// another connection.
pub fn is_in_progress(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EAGAIN))
}

/// Connects a non-blocking socket to `address`. `Ok` means connected already.
///
/// # Errors
/// What `connect(2)` gives. `EINPROGRESS`: wait until the socket is writable, then ask
/// [`so_error`](super::so_error). An interrupted call goes on by itself and may not be made again,
/// so it counts as in progress too.
pub fn connect(fd: RawFd, address: &SocketAddrStorage) -> io::Result<()> {
    #[cfg(target_vendor = "apple")]
    super::options::set_option(fd, libc::SOL_SOCKET, libc::SO_NOSIGPIPE, 1)?;
    let (pointer, size) = address.as_raw();
    // SAFETY: the pointer is to an address that outlives the call, with its size.
    match check(unsafe { libc::connect(fd, pointer, size) }) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            Err(io::Error::from_raw_os_error(libc::EINPROGRESS))
        }
        Err(error) => Err(error),
    }
}
