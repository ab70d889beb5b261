//! TLS over the user's own `ssl.SSLContext`: what asyncio's `sslproto` is.
//!
//! A protocol below and a transport above. The protocol gets encrypted bytes from the transport
//! under it, passes them through an `ssl.SSLObject` between two `ssl.MemoryBIO`s, and hands the
//! plain ones to the program's protocol; the transport takes plain bytes the other way. Over a
//! native transport both ways are Rust calling Rust. OpenSSL is reached through the standard
//! library's objects only, so that every setting of the context counts; linking it directly would
//! save a copy of each record, and lose that.
//!
//! asyncio reads until the SSLObject raises SSLWantReadError. Making that exception costs more
//! than encrypting a kilobyte, so here nothing is read where nothing can be there.
//!
//! - [`protocol`]: the lower type, its Python face, and how one is made.
//! - [`transport`]: the upper type.
//! - [`session`]: the SSLObject and its buffers.
//! - [`channel`]: the transport under it.
//! - [`handshake`]: from `connection_made` to the program's own.
//! - [`reading`]: encrypted bytes come in.
//! - [`writing`]: plain bytes go out; the program's flow control.
//! - [`marks`]: when either is too much.
//! - [`closing`]: closing, errors, `connection_lost`.
//! - [`state`]: in which order that may happen.

mod channel;
mod closing;
mod handshake;
mod imports;
mod marks;
mod protocol;
mod reading;
mod session;
mod state;
mod transport;
mod writing;

use cpython::{Obj, Python, Raised, Ref};

pub(crate) use protocol::SslProtocol;
pub(super) use reading::{proceed, receive};
pub(crate) use transport::SslTransport;

/// Builds both types; called when the module starts.
pub(super) fn build(py: Python<'_>, transport_base: &Obj) -> Result<(), Raised> {
    let protocols = Obj::import(py, c"asyncio.protocols")?;
    let buffered = protocols.attr(pyo3::intern!(py, "BufferedProtocol"))?;
    cpython::build::build::<SslProtocol>(py, Some(&buffered), 0)?;
    cpython::build::build::<SslTransport>(py, Some(transport_base), 0)?;
    Ok(())
}

/// The protocol as one of ours, if it is one whose methods are ours as well.
pub(super) fn as_native(protocol: &Obj) -> Option<&Ref<SslProtocol>> {
    let py = protocol.py();
    let native = Ref::<SslProtocol>::of(protocol)?;
    let imports = imports::get(py)?;
    protocol
        .is_exact(imports.protocol_class.get(py))
        .then_some(native)
}
