//! Errors of the system: a datagram transport reports them and lives on.

use cpython::{Obj, Raised, Ref};

use super::DatagramTransport;
use crate::interop::EndsProgram;
use crate::transports::socket::fatal_error;
use crate::transports::transport::Transport;

/// Calls the protocol's `error_received` with an error of the system. The transport lives on.
#[cold]
pub(super) fn error_received(this: &Ref<DatagramTransport>, error: &Obj) -> Result<(), Raised> {
    let py = this.py();
    let protocol = this.core().protocol_or_none(py);
    protocol
        .method(pyo3::intern!(py, "error_received"), &[error])
        .map(drop)
}

/// How a failed method of the socket was handled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MethodFailure {
    /// The method would block.
    Wait,
    /// The protocol or the exception handler got the exception.
    Told,
}

/// Handles the exception of a method of the socket.
#[cold]
pub(super) fn method_failed(
    this: &Ref<DatagramTransport>,
    raised: Raised,
    message: &str,
) -> Result<MethodFailure, Raised> {
    let py = this.py();
    let exception = EndsProgram::or_caught(py, raised)?;
    let is = |class: Obj| exception.is_subtype_of(&class);
    if is(Obj::class_of::<pyo3::exceptions::PyBlockingIOError>(py))
        || is(Obj::class_of::<pyo3::exceptions::PyInterruptedError>(py))
    {
        return Ok(MethodFailure::Wait);
    }
    if is(Obj::class_of::<pyo3::exceptions::PyOSError>(py)) {
        error_received(this, &exception)?;
    } else {
        fatal_error(this, &exception, message)?;
    }
    Ok(MethodFailure::Told)
}
