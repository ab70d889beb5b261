//! Reading and writing what is not a socket: pipes, terminals.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use super::{retry, retry_bytes};

/// Reads into `buffer` and returns how many bytes came; 0 is the end.
///
/// # Errors
/// What `read(2)` gives; `WouldBlock` when nothing is there.
#[inline]
pub fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of a slice that is ours to write.
    retry_bytes(|| unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// [`read`] into memory that is not initialized yet. Returns what came, which is the start of it.
///
/// # Errors
/// As [`read`].
#[inline]
pub fn read_uninit(fd: RawFd, buffer: &mut [MaybeUninit<u8>]) -> io::Result<&[u8]> {
    // SAFETY: the pointer and the length are those of a slice that is ours to write; the system
    // only writes to it, so it need not be initialized.
    let count =
        retry_bytes(|| unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) })?;
    // SAFETY: the system has just written `count` bytes at the start, and the slice is borrowed
    // from the one they are in.
    Ok(unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast(), count.min(buffer.len())) })
}

/// How many bytes can be read now; 0 at the end.
///
/// # Errors
/// What `ioctl(2)` gives, for files that do not have this number.
#[inline]
pub fn readable_bytes(fd: RawFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: the request writes an int, to one of ours.
    retry(|| unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut count) })?;
    Ok(usize::try_from(count).unwrap_or_default())
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
/// As [`write()`]; also `EINVAL` for too many slices.
#[inline]
pub fn write_vectored(fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let count = slices.len() as libc::c_int;
    // SAFETY: IoSlice is guaranteed to have the layout of `iovec`; the pointer is to as many as
    // `count` says, each to memory that the slices borrow, all of it outliving the call.
    retry_bytes(|| unsafe { libc::writev(fd, slices.as_ptr().cast(), count) })
}
