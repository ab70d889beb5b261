//! What goes to the loop's exception handler and to asyncio's log.

use std::io;

use cpython::context::Bound;
use cpython::{Obj, Python, Raised, Ref, context};
use pyo3::types::PyString;

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

/// The same, about an exception of a transport or its protocol.
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
    report(event_loop, message, &parts)
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
    let context = Bound::To(context);
    let handle = Ref::new(py, Handle::value(event_loop.as_obj(), callback, context))?;
    let reports = Obj::import(py, c"aioxide._reports")?;
    let name = pyo3::intern!(py, "callback_failed");
    reports
        .method(name, &[handle.as_obj(), &exception])
        .map(drop)
}

/// Reports that a method of a transport failed for which asyncio would have made a Handle. Without
/// a loop nobody hears of it. Fails only with what ends the program.
#[cold]
pub(crate) fn method_failed(
    event_loop: Option<Ref<EventLoop>>,
    transport: &Obj,
    name: &str,
    args: &[Obj],
    raised: Raised,
) -> Result<(), Raised> {
    let py = transport.py();
    let exception = caught(py, raised)?;
    let Some(event_loop) = event_loop else {
        return Ok(());
    };
    let callback = transport.attr(&PyString::intern(py, name))?;
    callback_failed(&event_loop, &callback, args, Raised::raise(exception))
}

/// A message about an object: `logger.debug("%r ...", object)`, or of another level.
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

/// A debug message about an object and an exception: `logger.debug("%r: message", object)`.
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

/// The ResourceWarning about a transport that is released without having been closed.
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
