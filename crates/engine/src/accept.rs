//! What a failed `accept` means for the server that called it.
//!
//! The decision is pure, so it is tested without running out of descriptors. A server that does not
//! tell these errors apart dies of one aborted connection, or spins at full load when no
//! descriptors are left and the listening socket stays readable.

use std::io;

use crate::clock::Nanos;

/// How long a server waits after [`AcceptError::OutOfResources`], in nanoseconds: asyncio's
/// `ACCEPT_RETRY_DELAY`.
pub const BACK_OFF: Nanos = 1_000_000_000;

/// What to do after `accept` failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptError {
    /// No connection waits: go back to the selector.
    WouldBlock,
    /// This connection is gone; the next may be fine: try again at once.
    Retry,
    /// Descriptors or memory ran out: report it, stop accepting for [`BACK_OFF`], then go on.
    OutOfResources,
    /// The listening socket itself is of no use: report it.
    Fatal,
}

impl AcceptError {
    /// The meaning of an error that `accept` gave.
    pub fn classify(error: &io::Error) -> AcceptError {
        match error.raw_os_error() {
            Some(code) if code == libc::EAGAIN || code == libc::EWOULDBLOCK => Self::WouldBlock,
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                Self::OutOfResources
            }
            // Linux passes errors of the new connection's network on through accept; each such
            // call has taken that connection off the queue.
            Some(
                libc::EINTR
                | libc::ECONNABORTED
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH,
            ) => Self::Retry,
            Some(_) => Self::Fatal,
            None => match error.kind() {
                io::ErrorKind::WouldBlock => Self::WouldBlock,
                io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => Self::Retry,
                io::ErrorKind::OutOfMemory => Self::OutOfResources,
                _ => Self::Fatal,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: i32) -> AcceptError {
        AcceptError::classify(&io::Error::from_raw_os_error(code))
    }

    #[test]
    fn nothing_waits() {
        assert_eq!(of(libc::EAGAIN), AcceptError::WouldBlock);
        let made = io::Error::from(io::ErrorKind::WouldBlock);
        assert_eq!(AcceptError::classify(&made), AcceptError::WouldBlock);
    }

    #[test]
    fn lost_connections_do_not_stop_a_server() {
        for code in [
            libc::ECONNABORTED,
            libc::EINTR,
            libc::EPROTO,
            libc::ENETDOWN,
        ] {
            assert_eq!(of(code), AcceptError::Retry, "{code}");
        }
    }

    #[test]
    fn exhaustion_backs_off() {
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert_eq!(of(code), AcceptError::OutOfResources, "{code}");
        }
    }

    #[test]
    fn everything_else_is_fatal() {
        for code in [libc::EBADF, libc::EINVAL, libc::ENOTSOCK, libc::EOPNOTSUPP] {
            assert_eq!(of(code), AcceptError::Fatal, "{code}");
        }
        assert_eq!(
            AcceptError::classify(&io::Error::other("not from the system")),
            AcceptError::Fatal
        );
    }
}
