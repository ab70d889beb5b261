//! Operations on descriptors that belong to no transport.
//!
//! - [`accept`]: serving: taking connections from a listening socket.
//! - [`sock`]: the `sock_*` methods.

pub(crate) mod accept;
mod sock;

use cpython::{Obj, Python, Raised, Ref};

pub(crate) use accept::{Acceptor, start_serving, stop_serving};
use sock::SockCall;

/// Builds the types; called when the module starts.
pub(crate) fn build(py: Python<'_>) -> Result<(), Raised> {
    cpython::build::build::<Acceptor>(py, None, 0)?;
    cpython::build::build::<SockCall>(py, None, 0)?;
    sock::add_methods(py)
}

/// The object's descriptor can be read. Fails only with what ends the program.
#[inline]
pub(crate) fn read_ready(io: &Obj) -> Result<(), Raised> {
    if let Some(call) = Ref::<SockCall>::of_exact(io) {
        return sock::on_ready(call);
    }
    match Ref::<Acceptor>::of_exact(io) {
        Some(acceptor) => accept::on_readable(acceptor),
        None => crate::transports::read_ready(io),
    }
}

/// The object's descriptor can be written. Fails only with what ends the program.
#[inline]
pub(crate) fn write_ready(io: &Obj) -> Result<(), Raised> {
    match Ref::<SockCall>::of_exact(io) {
        Some(call) => sock::on_ready(call),
        None => crate::transports::write_ready(io),
    }
}
