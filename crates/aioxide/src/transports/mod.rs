//! Native transports: TCP and Unix sockets, what asyncio's `_SelectorSocketTransport` is,
//! datagrams, and pipes.
//!
//! The descriptor has one owner, the Python socket or the transport itself; bytes are read and
//! written on it by the engine, without a Python call. Per round trip on an open connection
//! there is one read, one call of the protocol and one write: no attribute is looked up, nothing
//! is told to the selector.
//!
//! - [`core`]: what all share: their loop and protocol, pausing, and how their first and their
//!   last callbacks are scheduled.
//! - [`outgoing`]: the write buffer and flow control.
//! - [`datagram`]: UDP and Unix datagrams.
//! - [`pipes`]: pipes, whose transports go one way.
//! - [`descriptor`]: who owns the descriptor.
//! - [`socket`]: what streams and datagrams have of their socket: watching it, closing, errors.
//! - [`stream`]: streams: the type, its Python face, and how one is made.
//! - [`reading`]: readiness to read, `data_received`, BufferedProtocol, pausing.
//! - [`feeding`]: readers that get their bytes past `data_received`.
//! - [`holding`]: writes that leave at the end of the iteration.
//! - [`writing`]: `write` and what comes after the last byte.
//! - [`addresses`]: addresses that Python's socket module takes.
//! - [`extra_info`]: what `get_extra_info` answers.
//! - [`server`]: a server's list of its transports.
//! - [`tls`]: TLS above these transports, or any other.
//! - [`registry`]: which transport has a descriptor.
//! - [`reports`]: what goes to the loop's exception handler and to asyncio's log.

pub(crate) mod addresses;
pub(crate) mod core;
mod datagram;
pub(crate) mod descriptor;
pub(crate) mod extra_info;
mod feeding;
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
pub(crate) mod tls;
mod writing;

use cpython::{Obj, Python, Raised, Ref};

pub(crate) use datagram::{DatagramTransport, make_datagram_transport};
pub(crate) use feeding::{Fed, Feeder, feed_by};
pub(crate) use imports::{imports, make_base};
pub(crate) use registry::ensure_fd_no_transport;
pub(crate) use stream::{StreamTransport, make_socket_transport};

/// `transport.write(data)`.
#[inline]
pub(crate) fn write(transport: &Ref<StreamTransport>, data: &Obj) -> Result<(), Raised> {
    writing::write(transport, data)
}

/// Imports what transports need and builds the types; called when the module starts.
pub(crate) fn build(py: Python<'_>) -> Result<(), Raised> {
    imports::load(py)?;
    crate::event_loop::EventLoop::send_by(holding::SENDING);
    let base = imports(py).transport_base.get(py);
    cpython::build::build::<StreamTransport>(py, Some(base), 0)?;
    datagram::build(py)?;
    tls::build(py, base)?;
    pipes::build(py)
}

/// The object's descriptor can be read. Fails only with what ends the program.
#[inline]
pub(crate) fn read_ready(io: &Obj) -> Result<(), Raised> {
    match Ref::<StreamTransport>::of(io) {
        Some(transport) => reading::on_readable(transport),
        None => datagram::read_ready(io).unwrap_or_else(|| pipes::read_ready(io)),
    }
}

/// The object's descriptor can be written. Fails only with what ends the program.
#[inline]
pub(crate) fn write_ready(io: &Obj) -> Result<(), Raised> {
    match Ref::<StreamTransport>::of(io) {
        Some(transport) => writing::on_writable(transport),
        None => datagram::write_ready(io).unwrap_or_else(|| pipes::write_ready(io)),
    }
}

/// What the object has put off by an entry of its own. Fails only with what ends the program.
#[inline]
pub(crate) fn deferred(io: &Obj) -> Result<(), Raised> {
    match Ref::<StreamTransport>::of(io) {
        Some(transport) => core::run_deferred(transport),
        None => datagram::deferred(io).unwrap_or_else(|| pipes::deferred(io)),
    }
}
