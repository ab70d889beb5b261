//! Transports over pipes, and over sockets and character devices that a program hands over as
//! file objects: what asyncio's `_UnixReadPipeTransport` and `_UnixWritePipeTransport` are.
//!
//! Each direction has a transport of its own and watches only its half of the descriptor, so that
//! both may share one, as for a terminal.
//!
//! - [`channel`] is the file object under either of them,
//! - [`read_pipe`] receives,
//! - [`write_pipe`] sends.

pub(crate) mod channel;
pub(crate) mod read_pipe;
pub(crate) mod write_pipe;

use cpython::{Args, Obj, Python, Raised, Ref};

use super::{core, make_base};
use crate::event_loop::EventLoop;
pub(crate) use read_pipe::ReadPipeTransport;
pub(crate) use write_pipe::WritePipeTransport;

/// `_make_read_pipe_transport(pipe, protocol, waiter=None, extra=None)`.
pub(crate) fn make_read_pipe_transport(
    this: &Ref<EventLoop>,
    args: &Args<'_>,
) -> Result<Obj, Raised> {
    channel::make::<ReadPipeTransport>(this, args, "_make_read_pipe_transport")
}

/// `_make_write_pipe_transport(pipe, protocol, waiter=None, extra=None)`.
pub(crate) fn make_write_pipe_transport(
    this: &Ref<EventLoop>,
    args: &Args<'_>,
) -> Result<Obj, Raised> {
    channel::make::<WritePipeTransport>(this, args, "_make_write_pipe_transport")
}

/// Builds the types; called when the module starts.
pub(super) fn build(py: Python<'_>) -> Result<(), Raised> {
    let base = make_base(py, &["ReadTransport"])?;
    cpython::build::build::<ReadPipeTransport>(py, Some(&base), 0)?;
    let base = make_base(py, &["_FlowControlMixin", "WriteTransport"])?;
    cpython::build::build::<WritePipeTransport>(py, Some(&base), 0)?;
    Ok(())
}

/// The object's descriptor can be read.
pub(super) fn read_ready(io: &Obj) -> Result<(), Raised> {
    if let Some(transport) = Ref::<ReadPipeTransport>::of(io) {
        return read_pipe::on_readable(transport);
    }
    match Ref::<WritePipeTransport>::of(io) {
        Some(transport) => write_pipe::on_readable(transport),
        None => Ok(()),
    }
}

/// The object's descriptor can be written.
pub(super) fn write_ready(io: &Obj) -> Result<(), Raised> {
    match Ref::<WritePipeTransport>::of(io) {
        Some(transport) => write_pipe::on_writable(transport),
        None => Ok(()),
    }
}

/// What the object has put off.
pub(super) fn deferred(io: &Obj) -> Result<(), Raised> {
    if let Some(transport) = Ref::<ReadPipeTransport>::of(io) {
        return read_pipe::run_deferred(transport);
    }
    match Ref::<WritePipeTransport>::of(io) {
        Some(transport) => core::run_deferred(transport),
        None => Ok(()),
    }
}
