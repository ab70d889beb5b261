//! What kind of file a descriptor is.

use std::io;
use std::os::fd::RawFd;

use super::retry;

/// The kinds of files that a transport tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A pipe, with a name or without.
    Pipe,
    /// A socket.
    Socket,
    /// A terminal, a serial line and the like.
    CharacterDevice,
    /// Everything else. The readiness of a regular file means nothing.
    Other,
}

/// The kind of file behind `fd`.
///
/// # Errors
/// What `fstat(2)` gives.
pub fn file_kind(fd: RawFd) -> io::Result<FileKind> {
    // SAFETY: all zeroes is a valid `stat`.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a structure of ours.
    retry(|| unsafe { libc::fstat(fd, &mut status) })?;
    Ok(match status.st_mode & libc::S_IFMT {
        libc::S_IFIFO => FileKind::Pipe,
        libc::S_IFSOCK => FileKind::Socket,
        libc::S_IFCHR => FileKind::CharacterDevice,
        _ => FileKind::Other,
    })
}
