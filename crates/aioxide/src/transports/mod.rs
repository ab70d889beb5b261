//! Native transports: TCP and Unix sockets, what asyncio's `_SelectorSocketTransport` is.
//!
//! The Python socket object stays the one owner of the descriptor; bytes are read and written on
//! the descriptor by the engine, without a Python call. Per round trip on an open connection
//! there is one read, one call of the protocol and one write: no attribute is looked up, nothing
//! is told to the selector.
//!
//! - [`stream`]: the type, its Python face, and how one is made.
//! - [`reading`]: readiness to read, `data_received`, BufferedProtocol, pausing.
//! - [`writing`]: `write`, the write buffer, flow control.
//! - [`lifecycle`]: `connection_made`, closing, errors, `connection_lost`.
//! - [`extra_info`]: what `get_extra_info` answers.
//! - [`registry`]: which transport has a descriptor.
//! - [`reports`]: what goes to the loop's exception handler and to asyncio's log.

pub(crate) mod extra_info;
mod imports;
mod lifecycle;
mod reading;
pub(crate) mod registry;
pub(crate) mod reports;
pub(crate) mod stream;
mod writing;

use cpython::{Obj, Python, Raised, Ref};

pub(crate) use imports::imports;
pub(crate) use registry::ensure_fd_no_transport;
pub(crate) use stream::{StreamTransport, make_socket_transport};

/// Imports what transports need and builds the type; called when the module starts. Returns the
/// type.
pub(crate) fn build(py: Python<'_>) -> Result<Obj, Raised> {
    imports::load(py)?;
    let base = imports(py).transport_base.get(py);
    cpython::build::build::<StreamTransport>(py, Some(base), 0)
}

/// The object's descriptor can be read. Fails only with what ends the program.
#[inline]
pub(crate) fn read_ready(io: &Obj) -> Result<(), Raised> {
    match Ref::<StreamTransport>::of(io) {
        Some(transport) => reading::on_readable(transport),
        None => Ok(()),
    }
}

/// The object's descriptor can be written. Fails only with what ends the program.
#[inline]
pub(crate) fn write_ready(io: &Obj) -> Result<(), Raised> {
    match Ref::<StreamTransport>::of(io) {
        Some(transport) => writing::on_writable(transport),
        None => Ok(()),
    }
}

/// What the object has put off by an entry of its own. Fails only with what ends the program.
#[inline]
pub(crate) fn deferred(io: &Obj) -> Result<(), Raised> {
    match Ref::<StreamTransport>::of(io) {
        Some(transport) => lifecycle::run_deferred(transport),
        None => Ok(()),
    }
}
