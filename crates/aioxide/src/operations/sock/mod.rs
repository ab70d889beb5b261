//! The `sock_*` methods: operations on sockets of the program's own.
//!
//! What a program calls in its loops, on a non-blocking socket of the standard library's class, in
//! a loop that is neither in debug mode nor overridden, is a native coroutine. All else (debug
//! mode with its checks, sockets of other classes, blocking ones, names to resolve, arguments that
//! are wrong) goes to asyncio's own coroutine of the running version: decided when the method is
//! called, at the price of a few comparisons.
//!
//! - [`methods`]: the methods, and which calls are native.
//! - [`call`]: the coroutine: tries, waits, tries again.
//! - [`attempt`]: one try of each operation.

mod attempt;
mod call;
mod methods;

pub(crate) use call::{SockCall, on_ready};
pub(crate) use methods::add_methods;

use crate::event_loop::Side;

/// The operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Recv,
    RecvInto,
    RecvFrom,
    RecvFromInto,
    SendAll,
    SendTo,
    Connect,
    Accept,
}

impl Operation {
    /// All, in the order of their numbers.
    const ALL: [Operation; 8] = [
        Operation::Recv,
        Operation::RecvInto,
        Operation::RecvFrom,
        Operation::RecvFromInto,
        Operation::SendAll,
        Operation::SendTo,
        Operation::Connect,
        Operation::Accept,
    ];

    /// The method's name and its qualified name in asyncio.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Operation::Recv => ("sock_recv", "BaseSelectorEventLoop.sock_recv"),
            Operation::RecvInto => ("sock_recv_into", "BaseSelectorEventLoop.sock_recv_into"),
            Operation::RecvFrom => ("sock_recvfrom", "BaseSelectorEventLoop.sock_recvfrom"),
            Operation::RecvFromInto => (
                "sock_recvfrom_into",
                "BaseSelectorEventLoop.sock_recvfrom_into",
            ),
            Operation::SendAll => ("sock_sendall", "BaseSelectorEventLoop.sock_sendall"),
            Operation::SendTo => ("sock_sendto", "BaseSelectorEventLoop.sock_sendto"),
            Operation::Connect => ("sock_connect", "BaseSelectorEventLoop.sock_connect"),
            Operation::Accept => ("sock_accept", "BaseSelectorEventLoop.sock_accept"),
        }
    }

    /// What the socket must be ready for.
    fn side(self) -> Side {
        match self {
            Operation::Recv
            | Operation::RecvInto
            | Operation::RecvFrom
            | Operation::RecvFromInto
            | Operation::Accept => Side::Read,
            Operation::SendAll | Operation::SendTo | Operation::Connect => Side::Write,
        }
    }
}
