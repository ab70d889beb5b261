//! Errors of the system, which a datagram transport outlives.

use cpython::{Obj, Raised, Ref};

use super::DatagramTransport;
use crate::transports::core::Transport;
use crate::transports::reports::caught;
use crate::transports::socket::fatal_error;

/// An error of the system: the protocol is told, the transport lives on.
#[cold]
pub(super) fn error_received(this: &Ref<DatagramTransport>, error: &Obj) -> Result<(), Raised> {
    let py = this.py();
    let protocol = this.core().protocol_or_none(py);
    protocol
        .method(pyo3::intern!(py, "error_received"), &[error])
        .map(drop)
}

/// What came of a failed method of the socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// It would block.
    Wait,
    /// The protocol or the exception handler was told.
    Told,
}

/// A method of the socket has raised.
#[cold]
pub(super) fn method_failed(
    this: &Ref<DatagramTransport>,
    raised: Raised,
    message: &str,
) -> Result<Failure, Raised> {
    let py = this.py();
    let exception = caught(py, raised)?;
    let is = |class: Obj| exception.is_subtype_of(&class);
    if is(Obj::class_of::<pyo3::exceptions::PyBlockingIOError>(py))
        || is(Obj::class_of::<pyo3::exceptions::PyInterruptedError>(py))
    {
        return Ok(Failure::Wait);
    }
    if is(Obj::class_of::<pyo3::exceptions::PyOSError>(py)) {
        error_received(this, &exception)?;
    } else {
        fatal_error(this, &exception, message)?;
    }
    Ok(Failure::Told)
}
