//! What a panic of ours becomes. None ever unwinds into C, which would end the process.
//!
//! Where CPython takes an exception for an answer, a panic is a RuntimeError ([`guarded`]). Where
//! nobody can catch one, it is reported to `sys.unraisablehook`: at once ([`reported`]), or, while the
//! garbage collector looks at objects and none may be made, a little later ([`reported_later`]).

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::{Python, ffi};

use crate::error::{Raised, preserving};
use crate::hot::{Hot, Ref};
use crate::obj::Obj;

/// Runs the body; a panic becomes a RuntimeError.
#[inline(always)]
pub(crate) fn guarded<R>(py: Python<'_>, failed: R, body: impl FnOnce() -> Result<R, Raised>) -> R {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => failed,
        Err(panic) => {
            raise(py, panic);
            failed
        }
    }
}

/// Runs the body where nobody can catch an exception. A panic is reported, as one in the object that
/// `about` gives, and leaves an exception that is set as it is; then there is no result.
#[inline(always)]
pub(crate) fn reported<R>(
    py: Python<'_>,
    about: impl FnOnce() -> Obj,
    body: impl FnOnce() -> R,
) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => Some(result),
        Err(panic) => {
            report_panic(py, about, panic);
            None
        }
    }
}

/// Runs the body where no object of Python's may be made. A panic is reported, as one in the type,
/// when the main thread runs Python code again; of several until then only the first is.
#[inline(always)]
pub(crate) fn reported_later<T: Hot>(body: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
        report_later(panic, report_waiting::<T>);
    }
}

/// What was given to `panic!`. The functions below take it whole, and so need no register of those
/// that call them.
type Panic = Box<dyn Any + Send>;

fn text_of(panic: &Panic) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown");
    format!("aioxide panicked: {text}")
}

#[cold]
#[inline(never)]
fn raise(py: Python<'_>, panic: Panic) {
    let _ = Raised::runtime_error(py, &text_of(&panic));
}

#[cold]
#[inline(never)]
fn report_panic(py: Python<'_>, about: impl FnOnce() -> Obj, panic: Panic) {
    report(py, &about(), &text_of(&panic));
}

fn report(py: Python<'_>, about: &Obj, text: &str) {
    preserving(py, || {
        Raised::runtime_error(py, text).report_unraisable(Some(about));
    });
}

/// The text of the panic that is to be reported.
static WAITING: Mutex<Option<String>> = Mutex::new(None);

fn waiting() -> MutexGuard<'static, Option<String>> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cold]
#[inline(never)]
fn report_later(panic: Panic, function: extern "C" fn(*mut c_void) -> c_int) {
    let mut waiting = waiting();
    if waiting.is_none() {
        // SAFETY: any thread may do this at any time; the function is called attached.
        let code = unsafe { ffi::Py_AddPendingCall(Some(function), std::ptr::null_mut()) };
        // If too many wait already, Rust's message on stderr has to do.
        *waiting = (code == 0).then(|| text_of(&panic));
    }
}

extern "C" fn report_waiting<T: Hot>(_: *mut c_void) -> c_int {
    let text = waiting().take();
    if let Some(text) = text {
        // SAFETY: CPython makes pending calls attached.
        let py = unsafe { Python::assume_attached() };
        report(py, &Ref::<T>::class(py), &text);
    }
    0
}
