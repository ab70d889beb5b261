//! Calls of objects and of their methods.

use pyo3::types::PyString;
use pyo3::{Bound, ffi};

use crate::domain::publish;
use crate::error::Raised;
use crate::obj::Obj;

impl Obj {
    /// `self()`.
    #[inline]
    pub fn call0(&self) -> Result<Obj, Raised> {
        publish();
        // SAFETY: the object is alive.
        unsafe { Obj::from_owned(ffi::PyObject_CallNoArgs(self.as_ptr())) }
    }

    /// `self(argument)`.
    #[inline]
    pub fn call1(&self, argument: &Obj) -> Result<Obj, Raised> {
        publish();
        // SAFETY: both are alive.
        unsafe { Obj::from_owned(ffi::PyObject_CallOneArg(self.as_ptr(), argument.as_ptr())) }
    }

    /// `self(*arguments)`.
    #[inline]
    pub fn call(&self, arguments: &[&Obj]) -> Result<Obj, Raised> {
        self.call_named(arguments, None)
    }

    /// `self(*arguments)` of references that lie one after another in memory.
    pub fn call_all(&self, arguments: &[Obj]) -> Result<Obj, Raised> {
        publish();
        // SAFETY: all are alive; Obj is a transparent pointer.
        unsafe {
            Obj::from_owned(ffi::PyObject_Vectorcall(
                self.as_ptr(),
                arguments.as_ptr().cast(),
                arguments.len(),
                std::ptr::null_mut(),
            ))
        }
    }

    /// `self(*arguments)` where the last arguments are keyword arguments; `names` is the tuple of
    /// their names.
    #[inline]
    pub fn call_named(&self, arguments: &[&Obj], names: Option<&Obj>) -> Result<Obj, Raised> {
        publish();
        let names_pointer = names.map_or(std::ptr::null_mut(), Obj::as_ptr);
        // SAFETY: `&Obj` is a pointer to a pointer, so the pointers are copied to an array; all
        // objects are alive; the tuple of names counts the keyword arguments.
        unsafe {
            let count = names.map_or(0, |names| names.tuple_len());
            debug_assert!(count <= arguments.len());
            let result = with_pointers(arguments, |pointers| {
                ffi::PyObject_Vectorcall(
                    self.as_ptr(),
                    pointers,
                    arguments.len() - count.min(arguments.len()),
                    names_pointer,
                )
            });
            Obj::from_owned(result)
        }
    }

    /// `self(*args)` with the arguments in a tuple.
    #[inline]
    pub fn call_tuple(&self, args: &Obj) -> Result<Obj, Raised> {
        publish();
        let count = args.tuple_len();
        // SAFETY: a tuple's items lie one after another and are alive as long as it is.
        unsafe {
            let items = (args.as_ptr().cast::<ffi::PyTupleObject>())
                .cast::<u8>()
                .add(std::mem::offset_of!(ffi::PyTupleObject, ob_item))
                .cast::<*mut ffi::PyObject>();
            Obj::from_owned(ffi::PyObject_Vectorcall(
                self.as_ptr(),
                items,
                count,
                std::ptr::null_mut(),
            ))
        }
    }

    /// `self(*args, **kwargs)`.
    pub fn call_with_dict(&self, args: &Obj, kwargs: Option<&Obj>) -> Result<Obj, Raised> {
        let kwargs = kwargs.map_or(std::ptr::null_mut(), Obj::as_ptr);
        // SAFETY: all are alive; CPython checks the types of both.
        unsafe { Obj::from_owned(ffi::PyObject_Call(self.as_ptr(), args.as_ptr(), kwargs)) }
    }

    /// `self.name(*arguments)`.
    #[inline]
    pub fn method(&self, name: &Bound<'_, PyString>, arguments: &[&Obj]) -> Result<Obj, Raised> {
        self.method_named(name, arguments, None)
    }

    /// `self.name(*arguments)` where the last arguments are keyword arguments.
    pub fn method_named(
        &self,
        name: &Bound<'_, PyString>,
        arguments: &[&Obj],
        names: Option<&Obj>,
    ) -> Result<Obj, Raised> {
        publish();
        let count = names.map_or(0, |names| names.tuple_len());
        let names_pointer = names.map_or(std::ptr::null_mut(), Obj::as_ptr);
        let mut all: smallargs::SmallArgs = smallargs::SmallArgs::new(self);
        for argument in arguments {
            all.push(argument);
        }
        // SAFETY: the array holds self and the arguments, all alive.
        unsafe {
            Obj::from_owned(ffi::PyObject_VectorcallMethod(
                name.as_ptr(),
                all.as_ptr(),
                all.len() - count.min(arguments.len()),
                names_pointer,
            ))
        }
    }
}

/// Calls a function with an array of the objects' pointers, which is on the stack if they are few.
#[inline]
fn with_pointers<R>(objects: &[&Obj], call: impl FnOnce(*const *mut ffi::PyObject) -> R) -> R {
    let mut few = [std::ptr::null_mut(); 8];
    if objects.len() <= few.len() {
        for (slot, object) in few.iter_mut().zip(objects) {
            *slot = object.as_ptr();
        }
        return call(few.as_ptr());
    }
    let many: Vec<_> = objects.iter().map(|object| object.as_ptr()).collect();
    call(many.as_ptr())
}

/// An array of borrowed arguments that starts with the object whose method is called.
mod smallargs {
    use super::{Obj, ffi};

    pub(super) struct SmallArgs {
        few: [*mut ffi::PyObject; 8],
        many: Vec<*mut ffi::PyObject>,
        len: usize,
    }

    impl SmallArgs {
        pub(super) fn new(first: &Obj) -> Self {
            let mut few = [std::ptr::null_mut(); 8];
            few[0] = first.as_ptr();
            SmallArgs {
                few,
                many: Vec::new(),
                len: 1,
            }
        }

        pub(super) fn push(&mut self, object: &Obj) {
            if self.len < self.few.len() {
                self.few[self.len] = object.as_ptr();
            } else {
                if self.many.is_empty() {
                    self.many.extend_from_slice(&self.few);
                }
                self.many.push(object.as_ptr());
            }
            self.len += 1;
        }

        pub(super) fn as_ptr(&self) -> *const *mut ffi::PyObject {
            if self.many.is_empty() {
                self.few.as_ptr()
            } else {
                self.many.as_ptr()
            }
        }

        pub(super) fn len(&self) -> usize {
            self.len
        }
    }
}
