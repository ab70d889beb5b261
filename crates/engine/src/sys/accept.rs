//! Taking a connection from a listening socket.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::{SocketAddrStorage, retry};

/// Takes the next connection: its descriptor, non-blocking and close-on-exec, and the peer's
/// address.
///
/// # Errors
/// What `accept(2)` gives; [`AcceptError`](crate::AcceptError) says what to do then.
pub fn accept(fd: RawFd) -> io::Result<(OwnedFd, SocketAddrStorage)> {
    let mut connection = -1;
    let address = SocketAddrStorage::filled_by(|address, size| {
        // SAFETY: the caller gives an address buffer of ours and its size, both valid for
        // writing.
        connection = retry(|| unsafe { accept_flagged(fd, address, size) })?;
        Ok(())
    })?;
    // SAFETY: `accept` has just made this descriptor and nobody else knows of it.
    let connection = unsafe { OwnedFd::from_raw_fd(connection) };
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    {
        use std::os::fd::AsRawFd;
        super::options::set_close_on_exec(connection.as_raw_fd())?;
        super::options::set_nonblocking(connection.as_raw_fd(), true)?;
    }
    #[cfg(target_vendor = "apple")]
    {
        use std::os::fd::AsRawFd;
        super::options::set_option(
            connection.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NOSIGPIPE,
            1,
        )?;
    }
    Ok((connection, address))
}

/// # Safety
/// As `accept(2)`: `address` must be writable for as many bytes as `size` says.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
unsafe fn accept_flagged(
    fd: RawFd,
    address: *mut libc::sockaddr,
    size: *mut libc::socklen_t,
) -> libc::c_int {
    // SAFETY: as promised by the caller.
    unsafe { libc::accept4(fd, address, size, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) }
}

/// # Safety
/// As `accept(2)`: `address` must be writable for as many bytes as `size` says.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
unsafe fn accept_flagged(
    fd: RawFd,
    address: *mut libc::sockaddr,
    size: *mut libc::socklen_t,
) -> libc::c_int {
    // SAFETY: as promised by the caller.
    unsafe { libc::accept(fd, address, size) }
}
