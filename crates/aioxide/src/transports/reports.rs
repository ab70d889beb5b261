//! What goes to the loop's exception handler and to asyncio's log.

use std::io;

use cpython::{Obj, Python, Raised, Ref, context};

use super::imports;
use crate::event_loop::EventLoop;
use crate::handles::{Callback, Handle};
use crate::interop::imports::ends_program;

/// Catches an exception, but for KeyboardInterrupt and SystemExit, which are handed on.
#[cold]
pub(crate) fn caught(py: Python<'_>, raised: Raised) -> Result<Obj, Raised> {
    let exception = raised.take(py);
    if ends_program(py, &exception) {
        return Err(Raised::raise(exception));
    }
    Ok(exception)
}

/// The exception that Python's socket methods raise for an error of the system.
#[cold]
pub(crate) fn os_exception(py: Python<'_>, error: io::Error) -> Obj {
    Raised::os_error(py, error).take(py)
}

/// `loop.call_exception_handler()` with the message and these parts of the report.
#[cold]
pub(crate) fn report(
    event_loop: &Ref<EventLoop>,
    message: &str,
    parts: &[(&str, &Obj)],
) -> Result<(), Raised> {
    let py = event_loop.py();
    let report = Obj::dict(py)?;
    report.dict_set(&Obj::str(py, "message")?, &Obj::str(py, message)?)?;
    for (name, value) in parts {
        report.dict_set(&Obj::str(py, name)?, value)?;
    }
    let name = pyo3::intern!(py, "call_exception_handler");
    event_loop.as_obj().method(name, &[&report]).map(drop)
}

/// Reports that a callback failed, as the Handle would that asyncio has made for it.
#[cold]
pub(crate) fn callback_failed(
    event_loop: &Ref<EventLoop>,
    callback: &Obj,
    args: &[Obj],
    raised: Raised,
) -> Result<(), Raised> {
    let py = event_loop.py();
    let exception = caught(py, raised)?;
    let context = context::copy_current(py)?;
    let callback = Callback::new(callback, args)?;
    let handle = Ref::new(
        py,
        Handle::value(py, event_loop.as_obj(), callback, Some(context))?,
    )?;
    let reports = Obj::import(py, c"aioxide._reports")?;
    let name = pyo3::intern!(py, "callback_failed");
    reports
        .method(name, &[handle.as_obj(), &exception])
        .map(drop)
}

/// A debug message about an object: `logger.debug("%r ...", object)`.
#[cold]
pub(crate) fn log_debug(object: &Obj, message: &str) -> Result<(), Raised> {
    let py = object.py();
    let logger = imports(py).logger.get(py);
    logger
        .method(
            pyo3::intern!(py, "debug"),
            &[&Obj::str(py, message)?, object],
        )
        .map(drop)
}

/// Runs the body in a context, which is left again whatever comes.
#[inline]
pub(crate) fn in_context<R>(
    context: &Obj,
    body: impl FnOnce() -> Result<R, Raised>,
) -> Result<R, Raised> {
    context::enter(context)?;
    let result = body();
    context::exit(context)?;
    result
}
