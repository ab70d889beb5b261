//! Reading and writing what is not a socket: pipes, terminals.

use std::io::{self, IoSlice};
use std::os::fd::RawFd;

use super::retry_bytes;

/// Reads into `buffer` and returns how many bytes came; 0 is the end.
///
/// # Errors
/// What `read(2)` gives; `WouldBlock` when nothing is there.
#[inline]
pub fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of a slice that is ours to write.
    retry_bytes(|| unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// Writes from `bytes` and returns how many were taken. A pipe without a reader raises `SIGPIPE`
/// unless that is ignored, as Python does.
///
/// # Errors
/// What `write(2)` gives; `WouldBlock` when nothing is taken now.
#[inline]
pub fn write(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of a slice that outlives the call.
    retry_bytes(|| unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) })
}

/// Writes from all of `slices`, in order, and returns how many bytes were taken together. At
/// most `IOV_MAX` slices.
///
/// # Errors
/// As [`write`]; also `EINVAL` for too many slices.
#[inline]
pub fn write_vectored(fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let count = slices.len() as libc::c_int;
    // SAFETY: IoSlice is guaranteed to have the layout of `iovec`; the pointer is to as many as
    // `count` says, each to memory that the slices borrow, all of it outliving the call.
    retry_bytes(|| unsafe { libc::writev(fd, slices.as_ptr().cast(), count) })
}
