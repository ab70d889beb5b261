//! The StopIteration by which an iterator returns a value to the interpreter's `await`.
//!
//! The interpreter takes the value out and drops the exception. Calling the class each time would
//! make and release two tuples of arguments and the exception itself: half as much work as a short
//! coroutine has. So the exceptions here are of a subclass with the same name and behaviour, except
//! in two points. Its last object lives on without its value when it would be released, and is used
//! for the next value. And it has no arguments, which is visible only to code that calls `next()`
//! by hand.

use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::{Python, ffi};

use crate::coro::raise_stop_iteration;
use crate::error::Raised;
use crate::lazy_class::LazyClass;
use crate::obj::{Obj, new_reference};

/// The class; CPython's own where the struct does not have the expected layout.
static CLASS: LazyClass = LazyClass::new();

/// An object of the class that is not in use. We own a reference to it, and it holds only the empty
/// tuple of its arguments. The GIL guards it; in free-threaded builds none is kept.
static SPARE: AtomicPtr<ffi::PyObject> = AtomicPtr::new(std::ptr::null_mut());

/// Sets StopIteration with a value.
#[inline]
pub(crate) fn end_iteration(value: Obj) -> Raised {
    match make(value) {
        Ok(exception) => Raised::raise(exception),
        Err(raised) => raised,
    }
}

#[inline]
fn make(value: Obj) -> Result<Obj, Raised> {
    let class = CLASS.get(value.py(), build)?;
    // SAFETY: attached, as a value is at hand. The class was built by us, with the layout of the
    // struct, or is CPython's own. A spare object's reference becomes the exception's, and its value
    // is null, as is that of a new one. No exception has null for arguments.
    unsafe {
        let spare = match cfg!(Py_GIL_DISABLED) {
            true => std::ptr::null_mut(),
            false => SPARE.load(Ordering::Relaxed),
        };
        let exception = if spare.is_null() {
            if class.cast() == ffi::PyExc_StopIteration {
                return Err(raise_stop_iteration(&value));
            }
            let object = ffi::PyType_GenericAlloc(class, 0);
            let exception = Obj::from_owned(object)?;
            (*object.cast::<ffi::PyStopIterationObject>()).args = ffi::PyTuple_New(0);
            exception
        } else {
            SPARE.store(std::ptr::null_mut(), Ordering::Relaxed);
            Obj::from_owned(spare)?
        };
        let fields = exception.as_ptr().cast::<ffi::PyStopIterationObject>();
        (*fields).value = value.into_ptr();
        Ok(exception)
    }
}

/// `tp_dealloc`: as CPython's own, except that an object to which only its value was added becomes
/// the spare one, where one is kept.
unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the last reference is gone; the object has the layout of the struct, whose fields are
    // null or references that it owns. The spare one gets a reference anew, as objects that their
    // finalisers keep alive, and stays in the garbage collector's sight. The value is released when
    // all is done, as that may run any code.
    unsafe {
        let fields = object.cast::<ffi::PyStopIterationObject>();
        let added = [
            (*fields).dict,
            (*fields).notes,
            (*fields).traceback,
            (*fields).context,
            (*fields).cause,
        ];
        let as_made = added.iter().fold(0, |all, field| all | *field as usize) == 0
            && (*fields).suppress_context == '\0'
            && is_empty_tuple((*fields).args);
        if cfg!(Py_GIL_DISABLED) || !as_made || !SPARE.load(Ordering::Relaxed).is_null() {
            return release(object);
        }
        let value = std::ptr::replace(&raw mut (*fields).value, std::ptr::null_mut());
        new_reference(object);
        SPARE.store(object, Ordering::Relaxed);
        ffi::Py_XDECREF(value);
    }
}

/// Whether this is the tuple with which our exceptions are made.
///
/// # Safety
/// The pointer is null or a live tuple.
#[inline]
unsafe fn is_empty_tuple(args: *mut ffi::PyObject) -> bool {
    // SAFETY: by the contract.
    !args.is_null() && unsafe { ffi::Py_SIZE(args) } == 0
}

/// Frees an exception.
///
/// # Safety
/// As for `tp_dealloc`.
#[cold]
unsafe fn release(object: *mut ffi::PyObject) {
    // SAFETY: the last reference is gone; all fields are taken out before the first is released,
    // which may run any code. The type's reference, which every object of a heap type holds, goes
    // after the memory.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let fields = object.cast::<ffi::PyStopIterationObject>();
        let places = [
            &raw mut (*fields).value,
            &raw mut (*fields).args,
            &raw mut (*fields).dict,
            &raw mut (*fields).notes,
            &raw mut (*fields).traceback,
            &raw mut (*fields).context,
            &raw mut (*fields).cause,
        ];
        let held = places.map(|place| std::ptr::replace(place, std::ptr::null_mut()));
        let class = ffi::Py_TYPE(object);
        let free = (*class).tp_free.unwrap_or(ffi::PyObject_GC_Del);
        free(object.cast());
        ffi::Py_DECREF(class.cast());
        for reference in held {
            ffi::Py_XDECREF(reference);
        }
    }
}

/// Builds the class, if CPython's exceptions have the expected layout.
fn build(py: Python<'_>) -> Result<Obj, Raised> {
    if !is_layout_known(py)? {
        return Ok(Obj::class_of::<pyo3::exceptions::PyStopIteration>(py));
    }
    // SAFETY: the slots end with an empty one and have the signatures that CPython demands.
    unsafe {
        let mut slots = [
            ffi::PyType_Slot {
                slot: ffi::Py_tp_dealloc,
                pfunc: dealloc as *mut std::ffi::c_void,
            },
            std::mem::zeroed(),
        ];
        let mut spec = ffi::PyType_Spec {
            name: c"builtins.StopIteration".as_ptr(),
            basicsize: 0,
            itemsize: 0,
            flags: ffi::Py_TPFLAGS_DEFAULT as _,
            slots: slots.as_mut_ptr(),
        };
        let base = ffi::PyExc_StopIteration;
        Obj::from_owned(ffi::PyType_FromSpecWithBases(&mut spec, base))
    }
}

/// Whether an exception that CPython has made has the expected layout.
fn is_layout_known(py: Python<'_>) -> Result<bool, Raised> {
    let class = Obj::class_of::<pyo3::exceptions::PyStopIteration>(py);
    let probe = Obj::list(py)?;
    let exception = class.call1(&probe)?;
    let size = crate::build::basic_size(&class);
    // SAFETY: the exception is as large as the struct if its class says so.
    unsafe {
        let fields = exception.as_ptr().cast::<ffi::PyStopIterationObject>();
        Ok(size == size_of::<ffi::PyStopIterationObject>()
            && (*fields).value == probe.as_ptr()
            && ffi::PyTuple_Check((*fields).args) != 0
            && (*fields).traceback.is_null())
    }
}
