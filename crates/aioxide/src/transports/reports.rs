//! Reports of transports: to the loop's exception handler, asyncio's log and the `warnings` module.

use std::io;

use cpython::{Obj, Python, Raised, Ref};
use pyo3::types::PyString;

use super::imports;
use crate::event_loop::EventLoop;
use crate::handles::reports;

/// The exception that Python's socket methods raise for an error of the system.
#[cold]
pub(crate) fn os_exception(py: Python<'_>, error: io::Error) -> Obj {
    Raised::os_error(py, error).take(py)
}

/// Reports an exception of a transport or its protocol.
#[cold]
pub(crate) fn report_failure(
    event_loop: &Ref<EventLoop>,
    message: &str,
    exception: &Obj,
    transport: &Obj,
    protocol: &Obj,
) -> Result<(), Raised> {
    let parts = [
        ("exception", exception),
        ("transport", transport),
        ("protocol", protocol),
    ];
    reports::send(event_loop.as_obj(), message, &parts)
}

/// Logs a message about an object: `logger.debug("%r ...", object)`, or at another level.
#[cold]
pub(crate) fn log(object: &Obj, level: &str, message: &str) -> Result<(), Raised> {
    let py = object.py();
    let logger = imports(py).logger.get(py);
    logger
        .method(
            &PyString::intern(py, level),
            &[&Obj::str(py, message)?, object],
        )
        .map(drop)
}

/// Logs a debug message about an object and an exception: `logger.debug("%r: message", object)`.
#[cold]
pub(crate) fn log_exception(object: &Obj, message: &str, exception: &Obj) -> Result<(), Raised> {
    let py = object.py();
    let names = imports(py).exc_info_name.get(py);
    let logger = imports(py).logger.get(py);
    let (format, message) = (Obj::str(py, "%r: %s")?, Obj::str(py, message)?);
    let call = [&format, object, &message, exception];
    logger
        .method_named(pyo3::intern!(py, "debug"), &call, Some(names))
        .map(drop)
}

/// Gives the ResourceWarning about a transport that is released without having been closed.
#[cold]
pub(crate) fn warn_unclosed(transport: &Obj) -> Result<(), Raised> {
    let py = transport.py();
    let text = format!("unclosed transport {}", transport.repr()?.as_str()?);
    let class = Obj::class_of::<pyo3::exceptions::PyResourceWarning>(py);
    let names = imports(py).source_name.get(py);
    let call = [&Obj::str(py, &text)?, &class, transport];
    imports(py)
        .warn
        .get(py)
        .call_named(&call, Some(names))
        .map(drop)
}
