//! Child processes: asyncio's `_UnixSubprocessTransport`.
//!
//! `subprocess.Popen` starts the child and keeps its status. The rest is native: the pipes, the
//! exit, and the calls of the protocol.
//!
//! - [`child`]: the transport, its Python side, and closing.
//! - [`exit`]: noticing the end of the process.
//! - [`pipe_protocol`]: the link between a pipe's transport and the child's protocol.
//! - [`calls`]: the calls of the child's protocol, in the order of their causes.

mod calls;
mod child;
mod exit;
mod pipe_protocol;

use cpython::{Obj, Python, Raised, Ref};

use crate::handles::{Registry, Served};
use crate::interop::EndsProgram;
use crate::transports;
pub(crate) use child::{SubprocessTransport, make_child_transport};
use pipe_protocol::PipeProtocol;

/// Builds the types; called when the module starts.
pub(crate) fn build(py: Python<'_>, registry: &mut Registry) -> Result<(), Raised> {
    let base = transports::make_base(py, &["SubprocessTransport"])?;
    cpython::build::build::<SubprocessTransport>(py, Some(&base), 0)?;
    registry.serve::<SubprocessTransport>();
    let base = Obj::import(py, c"asyncio.protocols")?.attr(pyo3::intern!(py, "Protocol"))?;
    cpython::build::build::<PipeProtocol>(py, Some(&base), 0)?;
    Ok(())
}

impl Served for SubprocessTransport {
    /// Handles that the process has ended.
    #[inline]
    fn on_readable(this: &Ref<Self>) -> Result<(), EndsProgram> {
        exit::on_readable(this)
    }

    /// Makes the protocol's calls.
    #[inline]
    fn on_turn(this: &Ref<Self>) -> Result<(), EndsProgram> {
        calls::run_deferred(this)
    }
}
