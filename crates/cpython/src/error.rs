//! Exceptions: raising, catching, comparing.

use pyo3::{PyErr, PyTypeInfo, Python, ffi};

use crate::obj::Obj;

/// "A Python exception is set in this thread." The error half of every result here. It costs
/// nothing to pass on, where PyO3's `PyErr` is fetched and restored at each step.
///
/// Only this crate makes one, after a function of CPython has failed. Without an exception set, the
/// interpreter would read the failure as a result; from an iterator, as its end.
#[derive(Debug)]
#[must_use]
pub struct Raised(());

impl Raised {
    /// The exception that a function of CPython has just set.
    #[inline]
    pub(crate) const fn by_cpython() -> Raised {
        Raised(())
    }

    /// Raises an exception.
    pub fn raise(exception: Obj) -> Raised {
        // SAFETY: an Obj is at hand, so we are attached. Only instances of BaseException are set,
        // with references that are given away.
        unsafe {
            #[cfg(Py_3_12)]
            {
                if exception.is_exception() {
                    ffi::PyErr_SetRaisedException(exception.into_ptr());
                } else {
                    ffi::PyErr_SetString(
                        ffi::PyExc_TypeError,
                        c"exceptions must derive from BaseException".as_ptr(),
                    );
                }
            }
            #[cfg(not(Py_3_12))]
            {
                if exception.is_exception() {
                    let traceback = ffi::PyException_GetTraceback(exception.as_ptr());
                    let class = exception.class();
                    ffi::PyErr_Restore(class.into_ptr(), exception.into_ptr(), traceback);
                } else {
                    ffi::PyErr_SetString(
                        ffi::PyExc_TypeError,
                        c"exceptions must derive from BaseException".as_ptr(),
                    );
                }
            }
        }
        Raised::by_cpython()
    }

    /// Raises an exception as the `raise` statement does: the exception that is being handled
    /// becomes its `__context__`. [`Raised::raise`] is for one that was raised before and goes on.
    pub fn raise_in_context(exception: Obj) -> Raised {
        if !exception.is_exception() {
            return Raised::raise(exception);
        }
        let class = exception.class();
        // SAFETY: both are alive, and the second is an instance of the first.
        unsafe { ffi::PyErr_SetObject(class.as_ptr(), exception.as_ptr()) };
        Raised::by_cpython()
    }

    /// Raises an exception of a class known to PyO3, with a message.
    pub fn new<T: PyTypeInfo>(py: Python<'_>, message: &str) -> Raised {
        let class = Obj::class_of::<T>(py);
        Raised::with_class(&class, message)
    }

    /// Raises an exception of a class, with a message.
    pub fn with_class(class: &Obj, message: &str) -> Raised {
        match Obj::str(class.py(), message) {
            // SAFETY: both are alive.
            Ok(text) => unsafe { ffi::PyErr_SetObject(class.as_ptr(), text.as_ptr()) },
            Err(raised) => return raised,
        }
        Raised::by_cpython()
    }

    /// Raises a TypeError.
    pub fn type_error(py: Python<'_>, message: &str) -> Raised {
        Raised::new::<pyo3::exceptions::PyTypeError>(py, message)
    }

    /// Raises a ValueError.
    pub fn value_error(py: Python<'_>, message: &str) -> Raised {
        Raised::new::<pyo3::exceptions::PyValueError>(py, message)
    }

    /// Raises a RuntimeError.
    pub fn runtime_error(py: Python<'_>, message: &str) -> Raised {
        Raised::new::<pyo3::exceptions::PyRuntimeError>(py, message)
    }

    /// Raises an OSError (of the subclass for its number), with number and text in `errno` and
    /// `strerror`.
    #[cold]
    pub fn os_error(py: Python<'_>, error: std::io::Error) -> Raised {
        // PyO3 would pass the text alone.
        let Some(code) = error.raw_os_error() else {
            return Raised::from_py_err(py, error.into());
        };
        let text = error.to_string();
        let text = text.split(" (os error ").next().unwrap_or_default();
        let made = Obj::int(py, code.into()).and_then(|code| {
            let class = Obj::class_of::<pyo3::exceptions::PyOSError>(py);
            class.call(&[&code, &Obj::str(py, text)?])
        });
        match made {
            Ok(exception) => Raised::raise_in_context(exception),
            Err(raised) => raised,
        }
    }

    /// Raises the exception that PyO3 has caught.
    pub fn from_py_err(py: Python<'_>, error: PyErr) -> Raised {
        error.restore(py);
        Raised::by_cpython()
    }

    /// Takes the exception as PyO3's error.
    pub fn into_py_err(self, py: Python<'_>) -> PyErr {
        PyErr::fetch(py)
    }

    /// Fails if an exception is set.
    pub fn check(_py: Python<'_>) -> Result<(), Raised> {
        // SAFETY: the token proves that we are attached; the result is only compared.
        if unsafe { ffi::PyErr_Occurred() }.is_null() {
            Ok(())
        } else {
            Err(Raised::by_cpython())
        }
    }

    /// Whether the exception is an instance of the class.
    pub fn matches(&self, class: &Obj) -> bool {
        // SAFETY: the class is alive, so we are attached; a Raised says that an exception is set.
        unsafe { ffi::PyErr_ExceptionMatches(class.as_ptr()) != 0 }
    }

    /// Catches the exception: takes it out of the thread, with its traceback.
    pub fn take(self, py: Python<'_>) -> Obj {
        // SAFETY: the token proves that we are attached. CPython gives its references away; a
        // null value is looked for, should no exception be set.
        unsafe {
            #[cfg(Py_3_12)]
            let value = ffi::PyErr_GetRaisedException();
            #[cfg(not(Py_3_12))]
            let value = {
                let (mut class, mut value, mut traceback) = (
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                );
                ffi::PyErr_Fetch(&mut class, &mut value, &mut traceback);
                ffi::PyErr_NormalizeException(&mut class, &mut value, &mut traceback);
                if !traceback.is_null() && !value.is_null() {
                    ffi::PyException_SetTraceback(value, traceback);
                }
                ffi::Py_XDECREF(class);
                ffi::Py_XDECREF(traceback);
                value
            };
            match Obj::from_owned_opt(value) {
                Some(value) => value,
                None => Raised::missing(py),
            }
        }
    }

    /// The exception that `take` returns if a foreign function failed without setting one.
    fn missing(py: Python<'_>) -> Obj {
        let message = "error return without exception set";
        Obj::from_bound(
            pyo3::exceptions::PySystemError::new_err(message)
                .into_value(py)
                .into_bound(py),
        )
    }

    /// Drops the exception if it is of the class; else hands it on.
    pub fn ignore<T: PyTypeInfo>(self, py: Python<'_>) -> Result<(), Raised> {
        if self.matches(&Obj::class_of::<T>(py)) {
            drop(self.take(py));
            Ok(())
        } else {
            Err(self)
        }
    }

    /// Reports the exception to `sys.unraisablehook`.
    pub fn report_unraisable(self, object: Option<&Obj>) {
        // SAFETY: a Raised says that an exception is set in this thread, so it is attached; the
        // object is alive or null.
        unsafe { ffi::PyErr_WriteUnraisable(object.map_or(std::ptr::null_mut(), Obj::as_ptr)) }
    }
}

/// Calls a function with one argument where no code can catch its exception. The accelerator calls
/// the loop's exception handler in this way while an object goes.
pub fn call_uncaught(function: &Obj, argument: &Obj) {
    let Err(raised) = function.call1(argument) else {
        return;
    };
    #[cfg(not(Py_3_14))]
    raised.report_unraisable(Some(function));
    #[cfg(Py_3_14)]
    {
        // SAFETY: CPython exports it with this signature; PyO3 does not declare it.
        unsafe extern "C" {
            fn PyErr_FormatUnraisable(format: *const std::ffi::c_char, ...);
        }
        let Raised(()) = raised;
        let text = c"Exception ignored while calling asyncio function %R";
        // SAFETY: an exception is set in this thread, so it is attached; the text asks for one
        // object, which is alive.
        unsafe { PyErr_FormatUnraisable(text.as_ptr(), function.as_ptr()) };
    }
}

impl From<PyErr> for Raised {
    fn from(error: PyErr) -> Raised {
        // SAFETY: PyErr values are made and handled where the thread is attached.
        let py = unsafe { Python::assume_attached() };
        Raised::from_py_err(py, error)
    }
}

impl From<Raised> for PyErr {
    fn from(raised: Raised) -> PyErr {
        // SAFETY: an exception is set in this thread, so it is attached.
        let py = unsafe { Python::assume_attached() };
        raised.into_py_err(py)
    }
}

/// Runs `body` with the current exception put aside, and puts it back: for finalisers.
pub fn preserving<R>(py: Python<'_>, body: impl FnOnce() -> R) -> R {
    let saved = match Raised::check(py) {
        Ok(()) => None,
        Err(raised) => Some(raised.take(py)),
    };
    let result = body();
    if let Some(exception) = saved {
        let _ = Raised::raise(exception);
    }
    result
}

/// Runs `body` as in an `except` block of the exception: it becomes the `__context__` of what is
/// raised there, and `sys.exc_info()` returns it.
pub fn handling<R>(exception: &Obj, body: impl FnOnce() -> R) -> R {
    // SAFETY: an Obj is at hand, so we are attached. What was handled before is a new reference or
    // null, and is put back as it was.
    unsafe {
        let before = Obj::from_owned_opt(ffi::PyErr_GetHandledException());
        ffi::PyErr_SetHandledException(exception.as_ptr());
        let result = body();
        let before = before.as_ref().map_or(std::ptr::null_mut(), Obj::as_ptr);
        ffi::PyErr_SetHandledException(before);
        result
    }
}

/// Runs pending signal handlers of Python. Fails if one raises (KeyboardInterrupt, mostly).
pub fn check_signals(_py: Python<'_>) -> Result<(), Raised> {
    // SAFETY: the token proves that we are attached.
    crate::obj::done(unsafe { ffi::PyErr_CheckSignals() })
}

/// Sets the traceback of an exception, and does not touch its `__context__`.
pub fn set_traceback(exception: &Obj, traceback: &Obj) {
    // SAFETY: both are alive; CPython checks the types.
    unsafe { ffi::PyException_SetTraceback(exception.as_ptr(), traceback.as_ptr()) };
}

/// The traceback of an exception.
pub fn traceback(exception: &Obj) -> Option<Obj> {
    if !exception.is_exception() {
        return None;
    }
    // SAFETY: it is an exception.
    let traceback =
        unsafe { Obj::from_owned_opt(ffi::PyException_GetTraceback(exception.as_ptr())) };
    // Before 3.12, None stands there after the traceback was taken off.
    traceback.and_then(Obj::not_none)
}

/// Sets an exception's `__context__`.
pub fn set_context(exception: &Obj, context: Obj) {
    if exception.is_exception() {
        // SAFETY: it is an exception; the reference is given away.
        unsafe { ffi::PyException_SetContext(exception.as_ptr(), context.into_ptr()) };
    }
}

/// Sets an exception's `__cause__`.
pub fn set_cause(exception: &Obj, cause: Obj) {
    if exception.is_exception() {
        // SAFETY: it is an exception; the reference is given away.
        unsafe { ffi::PyException_SetCause(exception.as_ptr(), cause.into_ptr()) };
    }
}

/// Marks an exception as `raise exception from None` does: a traceback shows no context.
pub fn suppress_context(exception: &Obj) {
    if exception.is_exception() {
        // SAFETY: it is an exception; no cause is given.
        unsafe { ffi::PyException_SetCause(exception.as_ptr(), std::ptr::null_mut()) }
    }
}

/// The `__context__` of an exception: the exception that was being handled when it was raised.
pub fn context(exception: &Obj) -> Option<Obj> {
    if !exception.is_exception() {
        return None;
    }
    // SAFETY: it is an exception; returns a new reference or null.
    unsafe { Obj::from_owned_opt(ffi::PyException_GetContext(exception.as_ptr())) }
}

/// Whether `given`, an exception, a class of exceptions or anything else, matches the class as in
/// an `except` clause.
pub fn given_matches(given: &Obj, class: &Obj) -> bool {
    // SAFETY: both are alive; an object that is no exception matches nothing.
    unsafe { ffi::PyErr_GivenExceptionMatches(given.as_ptr(), class.as_ptr()) != 0 }
}

/// Whether the interpreter is shutting down.
pub fn is_finalizing(_py: Python<'_>) -> bool {
    #[cfg(Py_3_13)]
    // SAFETY: takes and returns a number only.
    unsafe {
        ffi::Py_IsFinalizing() != 0
    }
    #[cfg(not(Py_3_13))]
    // SAFETY: takes and returns a number only; exported by these versions with this signature,
    // though their public headers do not declare it.
    unsafe {
        unsafe extern "C" {
            fn _Py_IsFinalizing() -> std::ffi::c_int;
        }
        _Py_IsFinalizing() != 0
    }
}

/// Issues a warning of a class. Fails where warnings are errors.
pub fn warn(class: &Obj, message: &std::ffi::CStr, stack_level: isize) -> Result<(), Raised> {
    // SAFETY: all are alive.
    crate::obj::done(unsafe {
        ffi::PyErr_WarnEx(
            class.as_ptr(),
            message.as_ptr(),
            stack_level as ffi::Py_ssize_t,
        )
    })
}
