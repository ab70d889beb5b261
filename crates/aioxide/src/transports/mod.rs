//! Native transports: TCP and Unix sockets (asyncio's `_SelectorSocketTransport`), datagrams, and
//! pipes.
//!
//! The descriptor has one owner, the Python socket or the transport itself; bytes are read and
//! written on it by the engine, without a Python call. A round trip on an open connection takes one
//! read, one call of the protocol and one write: it looks no attribute up and does not touch the
//! selector.
//!
//! - [`transport`]: the part that all share: their loop and protocol, pausing, and how their first
//!   and their last callbacks are scheduled.
//! - [`outgoing`]: the write buffer and flow control.
//! - [`datagram`]: UDP and Unix datagrams.
//! - [`pipes`]: pipes, whose transports go one way.
//! - [`descriptor`]: the owner of the descriptor.
//! - [`socket`]: the socket of streams and datagrams: watching it, closing, errors.
//! - [`stream`]: streams: the type, its Python side, and how one is made.
//! - [`reading`]: readiness to read, `data_received`, BufferedProtocol, pausing.
//! - [`holding`]: writes that leave at the end of the iteration.
//! - [`writing`]: `write`, and the steps after the last byte: `resume_writing`, end of file,
//!   closing.
//! - [`addresses`]: addresses that Python's socket module takes.
//! - [`extra_info`]: the answers of `get_extra_info`.
//! - [`server`]: a server's list of its transports.
//! - [`registry`]: which transport has a descriptor.
//! - [`reports`]: reports to the loop's exception handler and messages to asyncio's log.

pub(crate) mod addresses;
mod datagram;
pub(crate) mod descriptor;
pub(crate) mod extra_info;
mod holding;
mod imports;
mod outgoing;
pub(crate) mod pipes;
pub(crate) mod reading;
pub(crate) mod registry;
pub(crate) mod reports;
mod server;
mod socket;
pub(crate) mod stream;
pub(crate) mod transport;
mod writing;

use cpython::{Obj, Python, Raised, Ref};

use crate::handles::Registry;
pub(crate) use datagram::{DatagramTransport, make_datagram_transport};
pub(crate) use imports::{imports, make_base};
pub(crate) use outgoing::{is_changeable, set_marks};
pub(crate) use registry::ensure_fd_no_transport;
pub(crate) use stream::{StreamTransport, make_socket_transport};
pub(crate) use writing::{write, write_all};

/// Ends a stream's connection now; `connection_lost` gets the exception, if there is one.
pub(crate) fn force_close(
    transport: &Ref<StreamTransport>,
    exception: Option<Obj>,
) -> Result<(), Raised> {
    socket::force_close(transport, exception)
}

/// Imports the Python objects that transports need and builds the types; called when the module
/// starts.
pub(crate) fn build(py: Python<'_>, registry: &mut Registry) -> Result<(), Raised> {
    imports::load(py)?;
    let base = imports(py).transport_base.get(py);
    cpython::build::build::<StreamTransport>(py, Some(base), 0)?;
    registry.serve::<StreamTransport>();
    datagram::build(py, registry)?;
    pipes::build(py, registry)
}
