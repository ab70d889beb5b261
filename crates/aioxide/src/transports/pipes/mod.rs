//! Transports over pipes, and over sockets and character devices that a program hands over as file
//! objects: asyncio's `_UnixReadPipeTransport` and `_UnixWritePipeTransport`.
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

use super::{make_base, transport};
use crate::event_loop::EventLoop;
use crate::handles::{Registry, Served};
use crate::interop::EndsProgram;
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
pub(super) fn build(py: Python<'_>, registry: &mut Registry) -> Result<(), Raised> {
    let base = make_base(py, &["ReadTransport"])?;
    cpython::build::build::<ReadPipeTransport>(py, Some(&base), 0)?;
    let base = make_base(py, &["_FlowControlMixin", "WriteTransport"])?;
    cpython::build::build::<WritePipeTransport>(py, Some(&base), 0)?;
    registry.serve::<ReadPipeTransport>();
    registry.serve::<WritePipeTransport>();
    Ok(())
}

impl Served for ReadPipeTransport {
    #[inline]
    fn on_readable(this: &Ref<Self>) -> Result<(), EndsProgram> {
        read_pipe::on_readable(this)
    }

    fn on_turn(this: &Ref<Self>) -> Result<(), EndsProgram> {
        read_pipe::run_deferred(this)
    }
}

impl Served for WritePipeTransport {
    /// Handles that the reader has closed its end.
    fn on_readable(this: &Ref<Self>) -> Result<(), EndsProgram> {
        write_pipe::on_readable(this)
    }

    #[inline]
    fn on_writable(this: &Ref<Self>) -> Result<(), EndsProgram> {
        write_pipe::on_writable(this)
    }

    fn on_turn(this: &Ref<Self>) -> Result<(), EndsProgram> {
        transport::run_deferred(this)
    }
}
