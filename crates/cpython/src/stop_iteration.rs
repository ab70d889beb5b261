//! The StopIteration by which an iterator returns a value to the interpreter's `await`.
//!
//! The interpreter takes the value out and drops the exception: calling the class for each would
//! make and release two tuples of arguments and the exception itself, half as much work as a short
//! coroutine has. So these are of a subclass, the same in name and in all that it does but one: its
//! last object is kept when it is released, empty, and is the next one. It has no arguments, which
//! only those who call `next()` by hand can see.

use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::{Python, ffi};

use crate::coro::raise_stop_iteration;
use crate::error::Raised;
use crate::obj::Obj;

/// The class, built once and kept for ever; null before, and CPython's own where the struct is not
/// the one that we know.
static CLASS: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(std::ptr::null_mut());

/// An object of the class that was released: its memory, with nothing in it but the type. Guarded
/// by the GIL.
static SPARE: AtomicPtr<ffi::PyObject> = AtomicPtr::new(std::ptr::null_mut());

// SAFETY: the declaration is that of CPython's header, the same on all versions supported.
unsafe extern "C" {
    /// Gives an object its first reference (`Include/object.h`; PyO3 has no declaration of it).
    fn _Py_NewReference(object: *mut ffi::PyObject);
}

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
    let class = match CLASS.load(Ordering::Relaxed) {
        class if class.is_null() => build(value.py())?,
        class => class,
    };
    // SAFETY: attached, as a value is at hand. The class was built by us, with the layout of the
    // struct, or is CPython's own. A new object is zeroed, and so are the fields of a spare one,
    // which is made anew as CPython makes those of its own freelists. No exception has null for
    // arguments; the empty tuple lives for ever.
    unsafe {
        if class.cast() == ffi::PyExc_StopIteration {
            return Err(raise_stop_iteration(&value));
        }
        let spare = SPARE.load(Ordering::Relaxed);
        let object = if spare.is_null() {
            ffi::PyType_GenericAlloc(class, 0)
        } else {
            SPARE.store(std::ptr::null_mut(), Ordering::Relaxed);
            _Py_NewReference(spare);
            ffi::PyObject_GC_Track(spare.cast());
            spare
        };
        let exception = Obj::from_owned(object)?;
        let fields = object.cast::<ffi::PyStopIterationObject>();
        (*fields).args = ffi::PyTuple_New(0);
        (*fields).value = value.into_ptr();
        Ok(exception)
    }
}

/// `tp_dealloc`: as CPython's own, but that the memory may be kept.
unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the last reference is gone; the object has the layout of the struct, whose fields are
    // null or references that it owns. All are taken out before the first is released, which may
    // run any code. The type's reference, which every object of a heap type holds, goes last, and
    // with a spare object stays.
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
        (*fields).suppress_context = '\0';
        if SPARE.load(Ordering::Relaxed).is_null() {
            SPARE.store(object, Ordering::Relaxed);
        } else {
            let class = ffi::Py_TYPE(object);
            let free = (*class).tp_free.unwrap_or(ffi::PyObject_GC_Del);
            free(object.cast());
            ffi::Py_DECREF(class.cast());
        }
        for reference in held {
            ffi::Py_XDECREF(reference);
        }
    }
}

/// Builds the class, if CPython's exceptions have the layout that we know.
#[cold]
fn build(py: Python<'_>) -> Result<*mut ffi::PyTypeObject, Raised> {
    // SAFETY: the slots end with an empty one and have the signatures that CPython demands; a class
    // once built is kept for ever, and CPython's own lives as long as it does.
    unsafe {
        let class = if is_layout_known(py)? {
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
            Obj::from_owned(ffi::PyType_FromSpecWithBases(&mut spec, base))?.into_ptr()
        } else {
            ffi::PyExc_StopIteration
        };
        CLASS.store(class.cast(), Ordering::Relaxed);
        Ok(class.cast())
    }
}

/// Looks at an exception that CPython has made.
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
