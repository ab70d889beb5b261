//! Driving coroutines.

use pyo3::{Python, ffi};

use crate::error::{Raised, set_cause, set_context};
use crate::obj::Obj;
use crate::stack::{self, Nested};
use crate::trampolines::itself;

/// The outcome of one step of a coroutine.
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
    // SAFETY: None is always alive.
    unsafe { send_pointer(coroutine, ffi::Py_None()) }
}

/// As [`send_none`], but sends a value and checks the depth of the recursion: a native coroutine
/// calls it, and such calls may nest without end.
#[inline(always)]
pub fn send(coroutine: &Obj, value: &Obj) -> Step {
    if stack::is_low() {
        return send_counted(coroutine, value);
    }
    // SAFETY: the value is alive.
    unsafe { send_pointer(coroutine, value.as_ptr()) }
}

#[cold]
fn send_counted(coroutine: &Obj, value: &Obj) -> Step {
    match Nested::enter(coroutine.py()) {
        // SAFETY: the value is alive.
        Ok(_nested) => unsafe { send_pointer(coroutine, value.as_ptr()) },
        Err(raised) => Step::Raised(raised),
    }
}

/// Sends an object.
///
/// # Safety
/// The caller keeps the object alive.
#[inline(always)]
unsafe fn send_pointer(coroutine: &Obj, value: *mut ffi::PyObject) -> Step {
    let mut result = std::ptr::null_mut();
    // SAFETY: both are alive; PyIter_Send fills the result with a new reference unless it failed.
    unsafe {
        let outcome = match am_send(coroutine) {
            // What PyIter_Send() calls.
            Some(am_send) => am_send(coroutine.as_ptr(), value, &mut result),
            None => ffi::PyIter_Send(coroutine.as_ptr(), value, &mut result),
        };
        match (outcome, Obj::from_owned_opt(result)) {
            (ffi::PySendResult::PYGEN_NEXT, Some(result)) => Step::Yielded(result),
            (ffi::PySendResult::PYGEN_RETURN, Some(result)) => Step::Returned(result),
            _ => Step::Raised(Raised::by_cpython()),
        }
    }
}

/// The slot of the object's type.
#[inline(always)]
fn am_send(object: &Obj) -> Option<ffi::sendfunc> {
    // SAFETY: the object is alive, and so is its type; the table of slots is null or the type's.
    unsafe {
        (*ffi::Py_TYPE(object.as_ptr()))
            .tp_as_async
            .as_ref()
            .and_then(|slots| slots.am_send)
    }
}

/// Throws into a coroutine, generator or iterator by calling its `throw` with these arguments.
/// Returns nothing if it has no `throw`.
pub fn throw(coroutine: &Obj, arguments: &[Obj]) -> Option<Step> {
    let py = coroutine.py();
    let thrown = match throw_method(coroutine) {
        Ok(throw) => throw?.call_all(arguments),
        Err(raised) => Err(raised),
    };
    Some(match thrown {
        Ok(yielded) => Step::Yielded(yielded),
        Err(raised) => match stop_iteration_value(raised, py) {
            Ok(value) => Step::Returned(value),
            Err(raised) => Step::Raised(raised),
        },
    })
}

/// Calls the method. The call takes part in the interpreter's recursion check.
#[inline(never)]
fn throw_method(coroutine: &Obj) -> Result<Option<Obj>, Raised> {
    let py = coroutine.py();
    stack::check(py)?;
    coroutine.attr_opt(pyo3::intern!(py, "throw"))
}

/// Closes a coroutine, generator or iterator, if it has a `close`. A failure to look for `close` is
/// reported as unraisable, as the interpreter does.
pub fn close(coroutine: &Obj) -> Result<(), Raised> {
    let py = coroutine.py();
    stack::check(py)?;
    match coroutine.attr_opt(pyo3::intern!(py, "close")) {
        Ok(Some(close)) => close.call0().map(drop),
        Ok(None) => Ok(()),
        Err(raised) => {
            raised.report_unraisable(Some(coroutine));
            Ok(())
        }
    }
}

/// The outcome of an `await` at which an exception arises that the awaited object has not raised,
/// such as one that is thrown into the coroutine itself. Since 3.12 a StopIteration is taken for a
/// returned value there.
pub fn outcome_at_await(raised: Raised, py: Python<'_>) -> Result<Obj, Raised> {
    if cfg!(Py_3_12) {
        stop_iteration_value(raised, py)
    } else {
        Err(raised)
    }
}

/// The exception by which a coroutine ends. A StopIteration would be taken for a returned value, so
/// it becomes the cause of a RuntimeError (PEP 479). `kind` is the word for the coroutine in that
/// message.
#[inline]
pub fn leave(exception: Obj, kind: &str) -> Raised {
    let stop = Obj::class_of::<pyo3::exceptions::PyStopIteration>(exception.py());
    if exception.is_subtype_of(&stop) {
        return leave_by_stop_iteration(exception, kind);
    }
    Raised::raise(exception)
}

#[cold]
fn leave_by_stop_iteration(exception: Obj, kind: &str) -> Raised {
    let py = exception.py();
    let class = Obj::class_of::<pyo3::exceptions::PyRuntimeError>(py);
    let text = Obj::str(py, &format!("{kind} raised StopIteration"));
    match text.and_then(|text| class.call1(&text)) {
        Ok(error) => {
            set_cause(&error, exception.clone());
            set_context(&error, exception);
            Raised::raise(error)
        }
        Err(raised) => raised,
    }
}

/// The iterator into which `await object` sends.
///
/// # Errors
/// TypeError for an object that cannot be awaited, RuntimeError for a coroutine that is already
/// being awaited.
pub fn await_iterator(object: &Obj) -> Result<Obj, Raised> {
    let py = object.py();
    if object.is_coroutine_exact() {
        if !object.attr(pyo3::intern!(py, "cr_await"))?.is_none() {
            let text = "coroutine is being awaited already";
            return Err(Raised::runtime_error(py, text));
        }
        return Ok(object.clone());
    }
    if object.is_generator_exact() && is_iterable_coroutine(object)? {
        return Ok(object.clone());
    }
    // SAFETY: the object is alive, and so is its type; the slot is called as the interpreter
    // calls it, and returns a new reference or raises.
    let iterator = unsafe {
        let slots = (*ffi::Py_TYPE(object.as_ptr())).tp_as_async;
        match slots.as_ref().and_then(|slots| slots.am_await) {
            Some(am_await) => Obj::from_owned(am_await(object.as_ptr()))?,
            None => return Err(cannot_await(object)),
        }
    };
    if iterator.is_coroutine_exact()
        || iterator.is_generator_exact() && is_iterable_coroutine(&iterator)?
    {
        return Err(Raised::type_error(py, "__await__() returned a coroutine"));
    }
    // SAFETY: the object is alive.
    if unsafe { ffi::PyIter_Check(iterator.as_ptr()) } == 0 {
        let text = format!(
            "__await__() returned non-iterator of type '{}'",
            type_name(&iterator)?
        );
        return Err(Raised::type_error(py, &text));
    }
    Ok(iterator)
}

/// Whether `await object` iterates over the object itself, as [`Builder::awaits_itself`] lets it:
/// no class of the program has overridden its `__await__`.
///
/// [`Builder::awaits_itself`]: crate::build::Builder::awaits_itself
#[inline]
pub fn awaits_itself(object: &Obj) -> bool {
    // SAFETY: the object is alive, and so is its type.
    let slots = unsafe { (*ffi::Py_TYPE(object.as_ptr())).tp_as_async.as_ref() };
    slots
        .and_then(|slots| slots.am_await)
        .is_some_and(|am_await| std::ptr::fn_addr_eq(am_await, itself as ffi::unaryfunc))
}

/// Whether a generator was made a coroutine by `types.coroutine`.
fn is_iterable_coroutine(generator: &Obj) -> Result<bool, Raised> {
    const CO_ITERABLE_COROUTINE: i64 = 0x100;
    let py = generator.py();
    let code = generator.attr(pyo3::intern!(py, "gi_code"))?;
    let flags = code.attr(pyo3::intern!(py, "co_flags"))?.to_i64()?;
    Ok(flags & CO_ITERABLE_COROUTINE != 0)
}

#[cold]
fn cannot_await(object: &Obj) -> Raised {
    match type_name(object) {
        Ok(name) if cfg!(Py_3_14) => {
            Raised::type_error(object.py(), &format!("'{name}' object can't be awaited"))
        }
        Ok(name) => {
            let text = format!("object {name} can't be used in 'await' expression");
            Raised::type_error(object.py(), &text)
        }
        Err(raised) => raised,
    }
}

/// `type(object).__name__`.
pub fn type_name(object: &Obj) -> Result<String, Raised> {
    let py = object.py();
    object
        .class()
        .attr(pyo3::intern!(py, "__name__"))?
        .to_string()
}

/// A coroutine of a coroutine function's code that never runs. A native coroutine has no frame of
/// its own: it shows the frame of this one, at the first line of the function that it stands for.
/// The owner closes it before letting it go; otherwise Python warns that it was never awaited.
pub fn standing(code: &Obj) -> Result<Obj, Raised> {
    const CO_VARARGS: i64 = 0x4;
    const CO_VARKEYWORDS: i64 = 0x8;
    let py = code.py();
    let flags = code.attr(pyo3::intern!(py, "co_flags"))?.to_i64()?;
    let flags = flags & !(CO_VARARGS | CO_VARKEYWORDS);
    let zero = Obj::int(py, 0)?;
    let names = [
        "co_flags",
        "co_argcount",
        "co_posonlyargcount",
        "co_kwonlyargcount",
    ];
    let names: Result<Vec<Obj>, Raised> = names.iter().map(|name| Obj::str(py, name)).collect();
    let code = code.method_named(
        pyo3::intern!(py, "replace"),
        &[&Obj::int(py, flags)?, &zero, &zero, &zero],
        Some(&Obj::tuple(py, &names?)?),
    )?;
    let function = Obj::import(py, c"types")?
        .method(pyo3::intern!(py, "FunctionType"), &[&code, &Obj::dict(py)?])?;
    function.call0()
}

/// Takes the value out of the StopIteration that is set. Any other exception stays raised.
pub fn stop_iteration_value(raised: Raised, py: Python<'_>) -> Result<Obj, Raised> {
    // SAFETY: the token proves that we are attached; a Raised says that an exception is set.
    let is_stop = unsafe { ffi::PyErr_ExceptionMatches(ffi::PyExc_StopIteration) != 0 };
    if !is_stop {
        return Err(raised);
    }
    let exception = raised.take(py);
    exception.attr(pyo3::intern!(py, "value"))
}

/// Raises StopIteration with a value, which may be any object (tuples and exceptions too). For None
/// the exception has no arguments.
pub fn raise_stop_iteration(value: &Obj) -> Raised {
    // SAFETY: the class is called with one argument, the exception is then raised as it is.
    unsafe {
        let class = ffi::PyExc_StopIteration;
        if value.is_none() {
            ffi::PyErr_SetNone(class);
            return Raised::by_cpython();
        }
        match Obj::from_owned(ffi::PyObject_CallOneArg(class, value.as_ptr())) {
            Ok(exception) => Raised::raise(exception),
            Err(raised) => raised,
        }
    }
}
