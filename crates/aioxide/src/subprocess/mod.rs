//! Child processes: what asyncio's `_UnixSubprocessTransport` is.
//!
//! `subprocess.Popen` starts the child and keeps its status; from there on it is native: pipes,
//! the exit, and what the protocol hears of both.
//!
//! - [`child`]: the transport, its Python face, and closing.
//! - [`exit`]: how the end of the process is noticed.
//! - [`pipe_protocol`]: what stands between a pipe's transport and the child's protocol.
//! - [`calls`]: the calls of the child's protocol, in the order of what has happened.

mod calls;
mod child;
mod exit;
mod pipe_protocol;

use cpython::{Obj, Python, Raised, Ref};

use crate::{operations, transports};
pub(crate) use child::{SubprocessTransport, make_child_transport};
use pipe_protocol::PipeProtocol;

/// Builds the types; called when the module starts.
pub(crate) fn build(py: Python<'_>) -> Result<(), Raised> {
    let base = transports::make_base(py, &["SubprocessTransport"])?;
    cpython::build::build::<SubprocessTransport>(py, Some(&base), 0)?;
    let base = Obj::import(py, c"asyncio.protocols")?.attr(pyo3::intern!(py, "Protocol"))?;
    cpython::build::build::<PipeProtocol>(py, Some(&base), 0)?;
    Ok(())
}

/// The object's descriptor can be read. Fails only with what ends the program.
#[inline]
pub(crate) fn read_ready(io: &Obj) -> Result<(), Raised> {
    match Ref::<SubprocessTransport>::of_exact(io) {
        Some(child) => exit::on_readable(child),
        None => operations::read_ready(io),
    }
}

/// What the object has put off by an entry of its own. Fails only with what ends the program.
#[inline]
pub(crate) fn deferred(io: &Obj) -> Result<(), Raised> {
    match Ref::<SubprocessTransport>::of_exact(io) {
        Some(child) => calls::run_deferred(child),
        None => transports::deferred(io),
    }
}
