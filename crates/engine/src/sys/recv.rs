//! Receiving from a socket.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use super::retry_bytes;

/// Receives into `buffer` and returns how many bytes came; 0 is the end of the stream (or an
/// empty buffer).
///
/// # Errors
/// What `recv(2)` gives; `WouldBlock` when nothing is there.
#[inline]
pub fn recv(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of a slice that is ours to write.
    retry_bytes(|| unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) })
}

/// [`recv`] into memory that is not initialized yet: what was received, which lies at its start.
///
/// # Errors
/// As [`recv`].
#[inline]
pub fn recv_uninit(fd: RawFd, buffer: &mut [MaybeUninit<u8>]) -> io::Result<&[u8]> {
    // SAFETY: the pointer and the length are those of a slice that is ours to write; the system
    // only writes to it, so it need not be initialized.
    let count =
        retry_bytes(|| unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) })?;
    // SAFETY: the system has just written `count` bytes at the start, and the slice is borrowed
    // from the one they are in.
    Ok(unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast(), count.min(buffer.len())) })
}
