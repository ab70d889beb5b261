//! Built-in functions, and methods bound to an object.

use std::ffi::{CStr, c_int};
use std::sync::OnceLock;

use pyo3::{Python, ffi};

use crate::answer::Answer;
use crate::args::Args;
use crate::error::Raised;
use crate::hot::{Hot, Ref};
use crate::obj::Obj;
use crate::trampolines::{free_function, no_args, one_arg};

/// A row of a table of methods.
pub(crate) fn method_def(
    name: &'static CStr,
    pointer: ffi::PyMethodDefPointer,
    flags: c_int,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: pointer,
        ml_flags: flags,
        ml_doc: doc.as_ptr(),
    }
}

/// Keeps a table for ever.
pub(crate) fn keep<D>(table: Vec<D>) -> *mut D {
    Box::leak(table.into_boxed_slice()).as_mut_ptr()
}

/// Makes a built-in function.
pub fn function<F, R>(
    py: Python<'_>,
    name: &'static CStr,
    doc: &'static CStr,
    module: &Obj,
    _: F,
) -> Result<Obj, Raised>
where
    F: Fn(Python<'_>, &Args<'_>) -> R + Copy + 'static,
    R: Answer + 'static,
{
    let _ = py;
    let pointer = ffi::PyMethodDefPointer {
        PyCFunctionFastWithKeywords: free_function::<F, R>,
    };
    let def = keep(vec![method_def(
        name,
        pointer,
        ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        doc,
    )]);
    // SAFETY: the definition is kept for ever; the module's name is a string.
    unsafe {
        Obj::from_owned(ffi::PyCFunction_NewEx(
            def,
            std::ptr::null_mut(),
            module.as_ptr(),
        ))
    }
}

/// Makes a built-in method of one argument, bound to an object of a hot type.
pub fn bound_method<T: Hot, F, R>(
    this: &Ref<T>,
    definition: &'static MethodDef,
    _: F,
) -> Result<Obj, Raised>
where
    F: Fn(&Ref<T>, &Obj) -> R + Copy + 'static,
    R: Answer + 'static,
{
    let function = ffi::PyMethodDefPointer {
        PyCFunction: one_arg::<T, F, R>,
    };
    definition.bind(this, function, ffi::METH_O)
}

/// As [`bound_method`], for a method without arguments.
pub fn bound_method0<T: Hot, F, R>(
    this: &Ref<T>,
    definition: &'static MethodDef,
    _: F,
) -> Result<Obj, Raised>
where
    F: Fn(&Ref<T>) -> R + Copy + 'static,
    R: Answer + 'static,
{
    let function = ffi::PyMethodDefPointer {
        PyCFunction: no_args::<T, F, R>,
    };
    definition.bind(this, function, ffi::METH_NOARGS)
}

/// The name and docstring of a [`bound_method`], kept in a static.
pub struct MethodDef {
    name: &'static CStr,
    doc: &'static CStr,
    table: OnceLock<Table>,
}

struct Table(*mut ffi::PyMethodDef);
// SAFETY: the pointer is to a table that is written before the Table is made, kept for ever and
// never changed.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl MethodDef {
    /// Names a method.
    pub const fn new(name: &'static CStr, doc: &'static CStr) -> MethodDef {
        MethodDef {
            name,
            doc,
            table: OnceLock::new(),
        }
    }

    fn bind<T: Hot>(
        &'static self,
        this: &Ref<T>,
        function: ffi::PyMethodDefPointer,
        flags: c_int,
    ) -> Result<Obj, Raised> {
        let table = self.table.get_or_init(|| {
            let def = method_def(self.name, function, flags, self.doc);
            Table(keep(vec![def]))
        });
        // SAFETY: the definition is kept for ever; the function keeps `this` alive.
        unsafe {
            Obj::from_owned(ffi::PyCFunction_NewEx(
                table.0,
                this.as_obj().as_ptr(),
                std::ptr::null_mut(),
            ))
        }
    }
}
