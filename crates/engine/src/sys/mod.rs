//! The system calls: one file per operation, and the only `unsafe` of this crate.
//!
//! The contract every file keeps:
//! - Functions are safe. A wrong descriptor gives an error (or acts on the wrong file, as it
//!   would anywhere else), never undefined behaviour; they own a descriptor only where the type
//!   says [`OwnedFd`](std::os::fd::OwnedFd).
//! - Errors are the system's own, as [`io::Error`] with the code in it. `EAGAIN` is an error
//!   like any other: what it means is decided above.
//! - `EINTR` never comes out: the call is made again. Only the wait of a selector ends with it.
//! - New descriptors are non-blocking and close-on-exec from their first moment.
//! - What one platform lacks is made up for here, and nowhere above.

#![allow(unsafe_code)]

use std::io;

mod accept;
mod address;
mod child;
mod clock;
mod close;
mod connect;
mod datagram;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) mod epoll;
mod file;
mod find;
mod notify;
mod options;
mod pipe;
pub(crate) mod poll;
mod recv;
mod send;
mod shutdown;

pub use accept::accept;
pub use address::{SocketAddrStorage, family, local_address, peer_address};
pub(crate) use child::{block_signals, wait_for_exit};
pub use child::{pidfd_open, reap};
pub use clock::monotonic;
pub use close::close;
pub use connect::{connect, is_in_progress};
pub use datagram::{
    DatagramBuffer, MAX_DATAGRAMS, OutgoingDatagram, recv_from, send_many, send_to,
};
pub use file::{FileKind, file_kind};
pub(crate) use find::find_byte;
pub use options::{is_nonblocking, set_nodelay, set_nonblocking, so_error};
pub use pipe::{read, read_uninit, readable_bytes, write, write_vectored};
pub use recv::{recv, recv_uninit};
pub use send::{send, send_vectored};
pub use shutdown::{Shutdown, shutdown};

pub(crate) use notify::Notifier;

/// A return value of a system call: -1 stands for the error in `errno`.
trait Returned: Copy {
    fn is_error(self) -> bool;
}

impl Returned for libc::c_int {
    fn is_error(self) -> bool {
        self == -1
    }
}

impl Returned for isize {
    fn is_error(self) -> bool {
        self == -1
    }
}

/// The result of one call.
#[inline]
fn check<R: Returned>(returned: R) -> io::Result<R> {
    if returned.is_error() {
        Err(io::Error::last_os_error())
    } else {
        Ok(returned)
    }
}

/// Makes a call again until no signal interrupts it.
#[inline]
fn retry<R: Returned>(mut call: impl FnMut() -> R) -> io::Result<R> {
    loop {
        match check(call()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// As [`retry`], for calls that return a number of bytes.
#[inline]
fn retry_bytes(call: impl FnMut() -> isize) -> io::Result<usize> {
    retry(call).map(|bytes| bytes as usize)
}

#[cfg(all(test, not(miri)))]
mod tests;
