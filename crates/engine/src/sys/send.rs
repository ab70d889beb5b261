//! Sending to a socket, without `SIGPIPE`: a lost peer is an error and no signal.

use std::io::{self, IoSlice};
use std::os::fd::RawFd;

use super::retry_bytes;

/// Sends from `bytes` and returns how many the socket has taken.
///
/// # Errors
/// What `send(2)` gives; `WouldBlock` when the socket takes nothing now, `BrokenPipe` or
/// `ConnectionReset` when the peer is gone.
#[inline]
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of a slice that outlives the call.
    retry_bytes(|| unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), FLAGS) })
}

/// Sends from all of `slices`, in order, in one `sendmsg`, and returns how many bytes the socket
/// has taken together. At most `IOV_MAX` slices.
///
/// # Errors
/// As [`send`]; also `EMSGSIZE` for too many slices.
#[inline]
pub fn send_vectored(fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: all zeroes is a valid `msghdr`: no address, no slices, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // IoSlice is guaranteed to have the layout of `iovec`.
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len() as _;
    // SAFETY: `message` points to as many `iovec`s as it says, each to memory that the slices
    // borrow, all of it outliving the call; `sendmsg` writes to none of it.
    retry_bytes(|| unsafe { libc::sendmsg(fd, &message, FLAGS) })
}

#[cfg(not(target_vendor = "apple"))]
pub(super) const FLAGS: libc::c_int = libc::MSG_NOSIGNAL;

/// Apple's systems have no such flag; `accept` and `connect` set `SO_NOSIGPIPE` on the socket.
#[cfg(target_vendor = "apple")]
pub(super) const FLAGS: libc::c_int = 0;
