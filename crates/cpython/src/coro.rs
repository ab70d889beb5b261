//! Driving coroutines.

use pyo3::ffi;

use crate::error::Raised;
use crate::obj::Obj;

/// What a step of a coroutine gave.
pub enum Step {
    /// It waits on an object.
    Yielded(Obj),
    /// It has returned a value.
    Returned(Obj),
    /// It has raised.
    Raised(Raised),
}

/// Sends None into a coroutine, generator or iterator (`am_send`, else `__next__` or `send`).
#[inline]
pub fn send_none(coroutine: &Obj) -> Step {
    let mut result = std::ptr::null_mut();
    // SAFETY: both are alive; PyIter_Send fills the result with a new reference unless it failed.
    unsafe {
        let outcome = ffi::PyIter_Send(coroutine.as_ptr(), ffi::Py_None(), &mut result);
        match (outcome, Obj::from_owned_opt(result)) {
            (ffi::PySendResult::PYGEN_NEXT, Some(result)) => Step::Yielded(result),
            (ffi::PySendResult::PYGEN_RETURN, Some(result)) => Step::Returned(result),
            _ => Step::Raised(Raised),
        }
    }
}

/// Takes the value of the StopIteration that is set, if it is one.
pub fn stop_iteration_value(raised: Raised, py: pyo3::Python<'_>) -> Result<Obj, Raised> {
    // SAFETY: the token proves that we are attached; a Raised says that an exception is set.
    let is_stop = unsafe { ffi::PyErr_ExceptionMatches(ffi::PyExc_StopIteration) != 0 };
    if !is_stop {
        return Err(raised);
    }
    let exception = raised.take(py);
    exception.attr(pyo3::intern!(py, "value"))
}

/// Sets StopIteration with a value, which may be any object (tuples and exceptions too).
pub fn raise_stop_iteration(value: &Obj) -> Raised {
    // SAFETY: the class is called with one argument, the exception is then raised as it is.
    unsafe {
        let class = ffi::PyExc_StopIteration;
        match Obj::from_owned(ffi::PyObject_CallOneArg(class, value.as_ptr())) {
            Ok(exception) => Raised::raise(exception),
            Err(raised) => raised,
        }
    }
}
