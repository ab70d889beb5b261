//! Taking a connection from a listening socket.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::{SocketAddrStorage, retry};

/// Takes the next connection: its descriptor, non-blocking and close-on-exec, and the peer's
/// address.
///
/// # Errors
/// What `accept(2)` gives; [`AcceptError`](crate::AcceptError) says what to do then.
pub fn accept(fd: RawFd) -> io::Result<(OwnedFd, SocketAddrStorage)> {
    let accepted = SocketAddrStorage::filled_by(|address, size| {
        // SAFETY: the caller gives an address buffer of ours and its size, both valid for
        // writing.
        unsafe { accept_flagged(fd, address, size) }
    })?;
    #[cfg(target_vendor = "apple")]
    super::options::set_option(
        accepted.0.as_raw_fd(),
        libc::SOL_SOCKET,
        libc::SO_NOSIGPIPE,
        1,
    )?;
    Ok(accepted)
}

/// Accepts by one call that sets the flags, where the system has it.
///
/// # Safety
/// As `accept(2)`: `address` must be writable for as many bytes as `size` says.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
unsafe fn accept_flagged(
    fd: RawFd,
    address: *mut libc::sockaddr,
    size: *mut libc::socklen_t,
) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: as promised by the caller.
    match retry(|| unsafe { libc::accept4(fd, address, size, flags) }) {
        // SAFETY: the call has just made this descriptor and nobody else knows of it.
        Ok(connection) => Ok(unsafe { OwnedFd::from_raw_fd(connection) }),
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            // SAFETY: as promised by the caller.
            unsafe { accept_then_flag(fd, address, size) }
        }
        Err(error) => Err(error),
    }
}

/// # Safety
/// As `accept(2)`: `address` must be writable for as many bytes as `size` says.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
unsafe fn accept_flagged(
    fd: RawFd,
    address: *mut libc::sockaddr,
    size: *mut libc::socklen_t,
) -> io::Result<OwnedFd> {
    // SAFETY: as promised by the caller.
    unsafe { accept_then_flag(fd, address, size) }
}

/// # Safety
/// As `accept(2)`: `address` must be writable for as many bytes as `size` says.
unsafe fn accept_then_flag(
    fd: RawFd,
    address: *mut libc::sockaddr,
    size: *mut libc::socklen_t,
) -> io::Result<OwnedFd> {
    // SAFETY: as promised by the caller.
    let connection = retry(|| unsafe { libc::accept(fd, address, size) })?;
    // SAFETY: the call has just made this descriptor and nobody else knows of it.
    let connection = unsafe { OwnedFd::from_raw_fd(connection) };
    super::options::set_close_on_exec(connection.as_raw_fd())?;
    super::options::set_nonblocking(connection.as_raw_fd(), true)?;
    Ok(connection)
}
