//! The `sock_*` methods: operations on sockets of the program's own.
//!
//! A call is a native coroutine if the socket is of the standard library's class and does not
//! block, and the loop is not in debug mode and has no replaced methods. All other calls go to
//! asyncio's own coroutine of the running version: in debug mode with its checks, with other
//! sockets, names to resolve or wrong arguments. The method decides when it is called, which costs
//! a few comparisons.
//!
//! - [`methods`]: the methods, and the choice of the calls that are native.
//! - [`call`]: the coroutine: tries, waits, tries again.
//! - [`attempt`]: one try of each operation.

mod attempt;
mod call;
mod methods;

pub(crate) use call::{SockCall, on_ready};
pub(crate) use methods::add_methods;

use crate::event_loop::Side;

/// An operation on a socket.
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
    /// All operations, in the order of their numbers.
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

    /// The side for which the socket must be ready.
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
