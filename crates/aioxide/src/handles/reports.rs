//! Reports: the dicts that the loop's exception handler is given, and how they get there.
//!
//! A native entry of the queue has no Handle. Where asyncio would have made one, and reported the
//! exception of its callback, such a Handle is made for the report.

use cpython::context::BoundContext;
use cpython::error::{call_uncaught, handling};
use cpython::{Hot, Obj, Raised, Ref, context};
use pyo3::types::PyString;

use super::handle::{Callback, Handle};
use crate::interop::{EndsProgram, python_side};

/// `loop.call_exception_handler()` with the message and these parts of the report.
#[cold]
pub(crate) fn send(event_loop: &Obj, message: &str, parts: &[(&str, &Obj)]) -> Result<(), Raised> {
    let py = event_loop.py();
    let message = Obj::str(py, message)?;
    let report = Obj::dict(py)?;
    add(&report, &[("message", &message)])?;
    add(&report, parts)?;
    let name = pyo3::intern!(py, "call_exception_handler");
    event_loop.method(name, &[&report]).map(drop)
}

/// `loop.call_exception_handler()` with these parts, in their order, while the object of the report
/// is destroyed: no code can catch what the handler raises.
#[cold]
pub(crate) fn send_when_going(event_loop: &Obj, parts: &[(&str, &Obj)]) -> Result<(), Raised> {
    let py = event_loop.py();
    let report = Obj::dict(py)?;
    add(&report, parts)?;
    match event_loop.attr(pyo3::intern!(py, "call_exception_handler")) {
        Ok(method) => call_uncaught(&method, &report),
        // The accelerator drops this exception too.
        Err(raised) => drop(raised.take(py)),
    }
    Ok(())
}

fn add(report: &Obj, parts: &[(&str, &Obj)]) -> Result<(), Raised> {
    for (name, value) in parts {
        report.dict_set(&Obj::str(report.py(), name)?, value)?;
    }
    Ok(())
}

/// Reports that a callback failed, with the Handle that asyncio would have made for it.
#[cold]
pub(crate) fn callback_failed(
    event_loop: &Obj,
    callback: &Obj,
    args: &[Obj],
    raised: Raised,
) -> Result<(), EndsProgram> {
    let callback = || Ok(callback.clone());
    Handle::report_call(event_loop, callback, args, None, raised)
}

/// Reports that a method of a transport failed for which asyncio would have made a Handle. Without
/// a loop there is no report.
#[cold]
pub(crate) fn method_failed<L: Hot>(
    event_loop: Option<Ref<L>>,
    transport: &Obj,
    name: &str,
    args: &[Obj],
    raised: Raised,
) -> Result<(), EndsProgram> {
    let Some(event_loop) = event_loop else {
        return EndsProgram::or_caught(transport.py(), raised).map(drop);
    };
    // If the type has no such method, the type is named instead.
    let callback = || {
        let method = transport.attr_opt(&PyString::intern(transport.py(), name))?;
        Ok(method.unwrap_or_else(|| transport.class()))
    };
    Handle::report_call(event_loop.as_obj(), callback, args, None, raised)
}

impl Handle {
    /// Calls the loop's exception handler for an exception of the callback, unless it ends the
    /// program.
    #[cold]
    pub(crate) fn report(this: &Ref<Handle>, raised: Raised) -> Result<(), EndsProgram> {
        let exception = EndsProgram::or_caught(this.py(), raised)?;
        let reported = Handle::report_failure(this, &exception);
        EndsProgram::after_report(this.as_obj(), reported)
    }

    /// Reports an exception of a call without a handle, with a Handle as asyncio would have made
    /// it: for `callback()` with these arguments, in this context or the current one.
    #[cold]
    pub(crate) fn report_call(
        event_loop: &Obj,
        callback: impl FnOnce() -> Result<Obj, Raised>,
        args: &[Obj],
        context: Option<Obj>,
        raised: Raised,
    ) -> Result<(), EndsProgram> {
        let py = event_loop.py();
        let exception = EndsProgram::or_caught(py, raised)?;
        let handle = (|| {
            let context = match context {
                Some(context) => context,
                None => context::copy_current(py)?,
            };
            let callback = Callback::new(&callback()?, args)?;
            Ref::new(
                py,
                Handle::value(event_loop, callback, BoundContext::To(context)),
            )
        })();
        match handle {
            Ok(handle) => Handle::report(&handle, Raised::raise(exception)),
            Err(raised) => EndsProgram::after_report(event_loop, Err(raised)),
        }
    }

    fn report_failure(this: &Ref<Handle>, exception: &Obj) -> Result<(), Raised> {
        let py = this.py();
        let report = python_side(py)?.callback_failed.get(py);
        handling(exception, || {
            report.call(&[this.as_obj(), exception]).map(drop)
        })
    }
}
