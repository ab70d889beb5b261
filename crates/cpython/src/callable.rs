//! Functions with attributes, which a built-in function lacks.
//!
//! A native function that stands for an `async def` must say so: `inspect.iscoroutinefunction`
//! looks for a marker among its attributes, `inspect.signature` for `__code__`. So an object of
//! this type has attributes: `__name__`, `__qualname__`, `__doc__` and those that are set before
//! [`seal`] is called. These facts are kept apart from its `__dict__`, as a Python function keeps
//! its own: `functools.wraps()` copies the dict, and the wrapper of a coroutine function need not
//! be one. Like a Python function, the object can be referenced weakly, and it binds when it is the
//! attribute of a class. It is called by vectorcall; a call as a method makes no bound method.

use std::ffi::{CStr, c_int, c_void};

use pyo3::{Python, ffi};

use crate::answer::Answer;
use crate::args::Args;
use crate::error::Raised;
use crate::hot::{Hot, Ref};
use crate::lazy_class::LazyClass;
use crate::obj::Obj;
use crate::panics::guarded;
use crate::trampolines::{free_function, quick_call};

/// The object's fields. `facts` and the last two are null only before it is filled.
#[repr(C)]
struct Callable {
    header: ffi::PyObject,
    /// A dict of the attributes that were set before the object was sealed.
    facts: *mut ffi::PyObject,
    sealed: bool,
    dict: *mut ffi::PyObject,
    weak_references: *mut ffi::PyObject,
    vectorcall: Option<ffi::vectorcallfunc>,
    function: Option<ffi::PyCFunctionFastWithKeywords>,
}

static CLASS: LazyClass = LazyClass::new();

/// Makes a function object with the attributes `__name__`, `__qualname__` and `__doc__`. When it is
/// called as a method, the instance is the first of its arguments.
pub fn callable<F, R>(py: Python<'_>, name: &str, doc: &str, _: F) -> Result<Obj, Raised>
where
    F: Fn(Python<'_>, &Args<'_>) -> R + Copy + 'static,
    R: Answer + 'static,
{
    // SAFETY: the type is ready; a new object is zeroed and nobody has seen it yet.
    let made = unsafe {
        let object = ffi::PyType_GenericAlloc(CLASS.get(py, build)?, 0);
        let made = Obj::from_owned(object)?;
        // All threads call it: as for Python functions, the references of their frames to it do not
        // count.
        #[cfg(Py_GIL_DISABLED)]
        PyUnstable_Object_EnableDeferredRefcount(object);
        let callable = object.cast::<Callable>();
        (*callable).vectorcall = Some(vectorcall);
        (*callable).function = Some(free_function::<F, R>);
        (*callable).facts = Obj::dict(py)?.into_ptr();
        made
    };
    let name = Obj::str(py, name)?;
    made.set_attr(pyo3::intern!(py, "__name__"), &name)?;
    made.set_attr(pyo3::intern!(py, "__qualname__"), &name)?;
    made.set_attr(pyo3::intern!(py, "__doc__"), &Obj::str(py, doc)?)?;
    Ok(made)
}

/// As [`callable`], with a short way for a method of a hot type. `quick` is called instead where
/// the object is of exactly this type, or of the subclass that it remembers
/// ([`Ref::remember_class`]), and gets `COUNT` arguments and no keywords.
pub fn quick_method<T, Q, F, R, const COUNT: usize>(
    py: Python<'_>,
    name: &str,
    doc: &str,
    _quick: Q,
    function: F,
) -> Result<Obj, Raised>
where
    T: Hot,
    Q: Fn(&Ref<T>, &[Obj; COUNT]) -> R + Copy + 'static,
    F: Fn(Python<'_>, &Args<'_>) -> R + Copy + 'static,
    R: Answer + 'static,
{
    let made = callable(py, name, doc, function)?;
    // SAFETY: it is a Callable, and nobody has called it yet.
    unsafe {
        let callable = made.as_ptr().cast::<Callable>();
        (*callable).vectorcall = Some(quick_vectorcall::<T, Q, R, COUNT>);
    }
    Ok(made)
}

unsafe extern "C" fn quick_vectorcall<T, Q, R, const COUNT: usize>(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject
where
    T: Hot,
    Q: Fn(&Ref<T>, &[Obj; COUNT]) -> R + Copy + 'static,
    R: Answer + 'static,
{
    // SAFETY: CPython calls this attached, with as many live objects as it says.
    unsafe {
        if names.is_null() && ffi::PyVectorcall_NARGS(count) as usize == COUNT + 1 {
            if let Some(this) = Ref::<T>::of_known_any(Obj::from_pointer(&*args)) {
                let rest = &*args.add(1).cast::<[Obj; COUNT]>();
                return quick_call::<T, Q, R, COUNT>(this, rest);
            }
        }
        vectorcall(object, args, count, names)
    }
}

/// The bound method of `made`, a [`callable`], and an object.
pub fn bound(made: &Obj, instance: &Obj) -> Result<Obj, Raised> {
    // SAFETY: both are alive.
    unsafe { Obj::from_owned(PyMethod_New(made.as_ptr(), instance.as_ptr())) }
}

/// Ends the making of `made`, a [`callable`]: the attributes that it has by now are its facts. They
/// stay readable and writable, and further attributes go into its `__dict__`.
pub fn seal(made: &Obj) {
    assert!(CLASS.is(&made.class()), "not a callable");
    // SAFETY: it is a Callable, as its class says.
    unsafe { (*made.as_ptr().cast::<Callable>()).sealed = true }
}

/// `__getattribute__`, which looks among the facts first.
unsafe extern "C" fn get_attribute(
    object: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls this attached, on an object of the type, which holds the dict.
    unsafe {
        let facts = Obj::from_pointer(&(*object.cast::<Callable>()).facts);
        match facts.dict_get(Obj::from_pointer(&name)) {
            Ok(Some(found)) => found.into_ptr(),
            Ok(None) => ffi::PyObject_GenericGetAttr(object, name),
            Err(_) => std::ptr::null_mut(),
        }
    }
}

/// `__setattr__` and, without a value, `__delattr__`.
unsafe extern "C" fn set_attribute(
    object: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: CPython calls this attached, on an object of the type; `value` is alive or null.
    unsafe {
        let callable = object.cast::<Callable>();
        let facts = (*callable).facts;
        let is_fact = match (*callable).sealed {
            true => ffi::PyDict_Contains(facts, name),
            false => 1,
        };
        match is_fact {
            0 => ffi::PyObject_GenericSetAttr(object, name, value),
            1 if value.is_null() => ffi::PyDict_DelItem(facts, name),
            1 => ffi::PyDict_SetItem(facts, name, value),
            error => error,
        }
    }
}

/// `__doc__` for those who pass over `__getattribute__`, as `pydoc` does.
unsafe extern "C" fn doc(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: CPython calls this attached, on an object of the type; the name is alive.
    unsafe {
        let py = Python::assume_attached();
        let facts = Obj::from_pointer(&(*object.cast::<Callable>()).facts);
        guarded(py, std::ptr::null_mut(), || {
            let found = facts.dict_get(&Obj::str(py, "__doc__")?)?;
            Ok(found.unwrap_or_else(|| Obj::none(py)).into_ptr())
        })
    }
}

/// `__dir__()`, which includes the facts.
unsafe extern "C" fn names(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls this attached, on an object of the type; the dict is not changed while
    // its keys are listed.
    unsafe {
        let py = Python::assume_attached();
        let facts = (*object.cast::<Callable>()).facts;
        guarded(py, std::ptr::null_mut(), || {
            let base = Obj::class_of::<pyo3::PyAny>(py);
            let all = base.method(pyo3::intern!(py, "__dir__"), &[Obj::from_pointer(&object)])?;
            let keys = Obj::from_owned(ffi::PyDict_Keys(facts))?;
            all.method(pyo3::intern!(py, "extend"), &[&keys])?;
            Ok(all.into_ptr())
        })
    }
}

unsafe extern "C" fn vectorcall(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: only objects of the type have this function; `function` was set with it. The
    // arguments are handed on as they come.
    unsafe {
        match (*object.cast::<Callable>()).function {
            Some(function) => {
                let count = ffi::PyVectorcall_NARGS(count);
                function(object, args, count, names)
            }
            None => std::ptr::null_mut(),
        }
    }
}

unsafe extern "C" fn repr(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: CPython calls this attached, on an object of the type.
    unsafe {
        let py = Python::assume_attached();
        guarded(py, std::ptr::null_mut(), || {
            let name = Obj::from_pointer(&object).attr(pyo3::intern!(py, "__qualname__"))?;
            let name = name.str_of()?.to_string()?;
            Obj::str(py, &format!("<function {name} at {object:p}>")).map(Obj::into_ptr)
        })
    }
}

/// `__reduce__()`, which names the function, as functions are pickled and copied.
unsafe extern "C" fn reduce(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls this attached, on an object of the type.
    unsafe {
        let py = Python::assume_attached();
        guarded(py, std::ptr::null_mut(), || {
            let name = Obj::from_pointer(&object).attr(pyo3::intern!(py, "__qualname__"))?;
            Ok(name.into_ptr())
        })
    }
}

unsafe extern "C" fn traverse(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: CPython calls this on an object of the type.
    unsafe {
        let callable = object.cast::<Callable>();
        for held in [(*callable).facts, (*callable).dict] {
            if !held.is_null() {
                let outcome = visit(held, arg);
                if outcome != 0 {
                    return outcome;
                }
            }
        }
        visit(ffi::Py_TYPE(object).cast(), arg)
    }
}

/// Clears all but the facts, on which later calls rely. No cycle goes through them.
unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: CPython calls this on an object of the type; the field is emptied first.
    unsafe {
        let dict = std::ptr::replace(&mut (*object.cast::<Callable>()).dict, std::ptr::null_mut());
        ffi::Py_XDECREF(dict);
    }
    0
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the last reference is gone; the type's reference is given back last.
    unsafe {
        let class = ffi::Py_TYPE(object);
        ffi::PyObject_GC_UnTrack(object.cast());
        ffi::PyObject_ClearWeakRefs(object);
        clear(object);
        ffi::Py_XDECREF((*object.cast::<Callable>()).facts);
        let free = (*class).tp_free.unwrap_or(ffi::PyObject_GC_Del);
        free(object.cast());
        ffi::Py_DECREF(class.cast());
    }
}

fn member(name: &'static CStr, offset: usize) -> ffi::PyMemberDef {
    ffi::PyMemberDef {
        name: name.as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: std::ptr::null(),
    }
}

/// `__get__`: a bound method, unless it is looked up on the class.
unsafe extern "C" fn bind(
    object: *mut ffi::PyObject,
    instance: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls this attached, on an object of the type; `instance` is alive or null.
    unsafe {
        if instance.is_null() || instance == ffi::Py_None() {
            ffi::Py_INCREF(object);
            return object;
        }
        PyMethod_New(object, instance)
    }
}

// SAFETY: CPython exports them with these signatures; PyO3 does not declare them.
unsafe extern "C" {
    #[cfg(Py_GIL_DISABLED)]
    fn PyUnstable_Object_EnableDeferredRefcount(object: *mut ffi::PyObject) -> c_int;
    fn PyMethod_New(
        function: *mut ffi::PyObject,
        instance: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
}

fn build(_py: Python<'_>) -> Result<Obj, Raised> {
    // SAFETY: the tables end with zeroed entries and are kept for ever; the slots have the
    // signatures that CPython demands; the offsets are those of the object's fields.
    unsafe {
        let members = Box::leak(Box::new([
            member(c"__dictoffset__", std::mem::offset_of!(Callable, dict)),
            member(
                c"__weaklistoffset__",
                std::mem::offset_of!(Callable, weak_references),
            ),
            member(
                c"__vectorcalloffset__",
                std::mem::offset_of!(Callable, vectorcall),
            ),
            std::mem::zeroed(),
        ]));
        let methods = Box::leak(Box::new([
            ffi::PyMethodDef {
                ml_name: c"__reduce__".as_ptr(),
                ml_meth: ffi::PyMethodDefPointer {
                    PyCFunction: reduce,
                },
                ml_flags: ffi::METH_NOARGS,
                ml_doc: std::ptr::null(),
            },
            ffi::PyMethodDef {
                ml_name: c"__dir__".as_ptr(),
                ml_meth: ffi::PyMethodDefPointer { PyCFunction: names },
                ml_flags: ffi::METH_NOARGS,
                ml_doc: std::ptr::null(),
            },
            std::mem::zeroed(),
        ]));
        let getsets = Box::leak(Box::new([
            ffi::PyGetSetDef {
                name: c"__doc__".as_ptr(),
                get: Some(doc),
                set: None,
                doc: std::ptr::null(),
                closure: std::ptr::null_mut(),
            },
            ffi::PyGetSetDef {
                name: c"__dict__".as_ptr(),
                get: Some(ffi::PyObject_GenericGetDict),
                set: Some(ffi::PyObject_GenericSetDict),
                doc: std::ptr::null(),
                closure: std::ptr::null_mut(),
            },
            std::mem::zeroed(),
        ]));
        let slot = |slot: c_int, pfunc: *mut c_void| ffi::PyType_Slot { slot, pfunc };
        let mut slots = [
            slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
            slot(ffi::Py_tp_traverse, traverse as *mut c_void),
            slot(ffi::Py_tp_clear, clear as *mut c_void),
            slot(ffi::Py_tp_repr, repr as *mut c_void),
            slot(ffi::Py_tp_getattro, get_attribute as *mut c_void),
            slot(ffi::Py_tp_setattro, set_attribute as *mut c_void),
            slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut c_void),
            slot(ffi::Py_tp_members, members.as_mut_ptr().cast()),
            slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
            slot(ffi::Py_tp_getset, getsets.as_mut_ptr().cast()),
            slot(ffi::Py_tp_descr_get, bind as *mut c_void),
            std::mem::zeroed(),
        ];
        let flags = ffi::Py_TPFLAGS_DEFAULT
            | ffi::Py_TPFLAGS_HAVE_GC
            | ffi::Py_TPFLAGS_HAVE_VECTORCALL
            | ffi::Py_TPFLAGS_METHOD_DESCRIPTOR
            // The interpreter's cache of looked-up methods holds only immutable types.
            | ffi::Py_TPFLAGS_IMMUTABLETYPE
            | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
        let mut spec = ffi::PyType_Spec {
            name: c"aioxide._aioxide.coroutine_function".as_ptr(),
            basicsize: size_of::<Callable>() as c_int,
            itemsize: 0,
            flags: flags as _,
            slots: slots.as_mut_ptr(),
        };
        Obj::from_owned(ffi::PyType_FromSpec(&mut spec))
    }
}
