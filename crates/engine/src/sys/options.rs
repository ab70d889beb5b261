//! The few socket options and descriptor flags that a loop needs itself.

use std::io;
use std::os::fd::RawFd;

use super::retry;

/// The error a socket has pending, which this takes off it: how a connection attempt ended
/// (`SO_ERROR`). `None` when there is none.
///
/// # Errors
/// What `getsockopt(2)` gives, for a descriptor that is no socket.
pub fn so_error(fd: RawFd) -> io::Result<Option<io::Error>> {
    let mut code: libc::c_int = 0;
    let mut size = size_of_val(&code) as libc::socklen_t;
    retry(|| {
        // SAFETY: the pointer is to an int of ours, whose size `size` says.
        unsafe {
            libc::getsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_ERROR,
                (&raw mut code).cast(),
                &mut size,
            )
        }
    })?;
    Ok((code != 0).then(|| io::Error::from_raw_os_error(code)))
}

/// Sets or clears `TCP_NODELAY`: whether small packets leave at once.
///
/// # Errors
/// What `setsockopt(2)` gives, for a socket that is not TCP among others.
pub fn set_nodelay(fd: RawFd, on: bool) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, on.into())
}

pub(super) fn set_option(
    fd: RawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    retry(|| {
        // SAFETY: the pointer is to an int that outlives the call, with its size.
        unsafe {
            libc::setsockopt(
                fd,
                level,
                option,
                (&raw const value).cast(),
                size_of_val(&value) as libc::socklen_t,
            )
        }
    })
    .map(drop)
}

/// Whether calls on `fd` return instead of waiting (`O_NONBLOCK`).
///
/// # Errors
/// What `fcntl(2)` gives.
pub fn is_nonblocking(fd: RawFd) -> io::Result<bool> {
    Ok(flags(fd)? & libc::O_NONBLOCK != 0)
}

/// Sets or clears `O_NONBLOCK`, which all duplicates of the descriptor share.
///
/// # Errors
/// What `fcntl(2)` gives.
pub fn set_nonblocking(fd: RawFd, on: bool) -> io::Result<()> {
    let old = flags(fd)?;
    let new = if on {
        old | libc::O_NONBLOCK
    } else {
        old & !libc::O_NONBLOCK
    };
    if new != old {
        // SAFETY: only numbers are passed.
        retry(|| unsafe { libc::fcntl(fd, libc::F_SETFL, new) })?;
    }
    Ok(())
}

fn flags(fd: RawFd) -> io::Result<libc::c_int> {
    // SAFETY: only numbers are passed.
    retry(|| unsafe { libc::fcntl(fd, libc::F_GETFL) })
}

/// Sets `FD_CLOEXEC`, where a descriptor cannot be made with it.
pub(super) fn set_close_on_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: only numbers are passed.
    retry(|| unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}
