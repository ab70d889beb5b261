//! TLS over the user's own `ssl.SSLContext`: asyncio's `sslproto`.
//!
//! A protocol below and a transport above. The protocol gets encrypted bytes from the transport
//! under it, passes them through an `ssl.SSLObject` between two `ssl.MemoryBIO`s, and hands the
//! plain ones to the program's protocol; the transport takes plain bytes the other way. Over a
//! native transport both ways are Rust calling Rust. OpenSSL is reached through the standard
//! library's objects only, so that every setting of the context counts; linking it directly would
//! save a copy of each record, and lose that.
//!
//! asyncio reads until the SSLObject raises SSLWantReadError. Making that exception costs more than
//! encrypting a kilobyte, so this code does not read when no record can be there.
//!
//! - [`protocol`]: the lower type, its Python side, and how one is made.
//! - [`transport`]: the upper type.
//! - [`session`]: the SSLObject and its buffers.
//! - [`channel`]: the transport under the protocol.
//! - [`handshake`]: from the `connection_made` of the transport below to the program's own.
//! - [`reading`]: decrypting received bytes and handing them on.
//! - [`writing`]: encrypting and sending bytes; the program's flow control.
//! - [`closing`]: closing, errors, `connection_lost`.
//! - [`state`]: the states of a connection.

mod channel;
mod closing;
mod handshake;
mod imports;
mod protocol;
mod reading;
mod session;
mod state;
mod transport;
mod writing;

use cpython::{Obj, Python, Raised};

use crate::handles::Registry;
pub(crate) use protocol::SslProtocol;
pub(crate) use transport::SslTransport;

/// Builds both types; called when the module starts.
pub(crate) fn build(py: Python<'_>, registry: &mut Registry) -> Result<(), Raised> {
    let base = crate::transports::imports(py).transport_base.get(py);
    let protocols = Obj::import(py, c"asyncio.protocols")?;
    let buffered = protocols.attr(pyo3::intern!(py, "BufferedProtocol"))?;
    cpython::build::build::<SslProtocol>(py, Some(&buffered), 0)?;
    cpython::build::build::<SslTransport>(py, Some(base), 0)?;
    registry.serve_taker::<SslProtocol>();
    Ok(())
}
