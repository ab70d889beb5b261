//! Operations on descriptors that belong to no transport.
//!
//! - [`accept`]: serving: taking connections from a listening socket.

pub(crate) mod accept;

use cpython::{Obj, Python, Raised, Ref};

pub(crate) use accept::{Acceptor, start_serving, stop_serving};

/// Builds the types; called when the module starts.
pub(crate) fn build(py: Python<'_>) -> Result<(), Raised> {
    cpython::build::build::<Acceptor>(py, None, 0).map(drop)
}

/// The object's descriptor can be read. Fails only with what ends the program.
#[inline]
pub(crate) fn read_ready(io: &Obj) -> Result<(), Raised> {
    match Ref::<Acceptor>::of_exact(io) {
        Some(acceptor) => accept::on_readable(acceptor),
        None => crate::transports::read_ready(io),
    }
}
