//! Makes type objects of hot types; holds the trampolines through which CPython calls Rust.
//!
//! A function given to the [`Builder`] is known by its type alone (function items and closures
//! that capture nothing have no size), so each gets a C function of its own that calls it
//! directly. Every trampoline turns a panic into a Python exception: none ever unwinds into C.

use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;

use pyo3::{Python, ffi};

use crate::args::Args;
use crate::error::Raised;
use crate::hot::{
    Hot, NoParent, Payload, Ref, allocate_subclass, clear, dealloc, finalize, offset_after,
    traverse,
};
use crate::obj::Obj;

/// What a function may return to Python.
pub trait Answer {
    /// As a new reference, or an exception.
    fn answer(self, py: Python<'_>) -> Result<Obj, Raised>;
}

impl Answer for Obj {
    #[inline]
    fn answer(self, _: Python<'_>) -> Result<Obj, Raised> {
        Ok(self)
    }
}
impl Answer for () {
    #[inline]
    fn answer(self, py: Python<'_>) -> Result<Obj, Raised> {
        Ok(Obj::none(py))
    }
}
impl Answer for bool {
    #[inline]
    fn answer(self, py: Python<'_>) -> Result<Obj, Raised> {
        Ok(Obj::bool(py, self))
    }
}
impl Answer for i64 {
    fn answer(self, py: Python<'_>) -> Result<Obj, Raised> {
        Obj::int(py, self)
    }
}
impl Answer for usize {
    fn answer(self, py: Python<'_>) -> Result<Obj, Raised> {
        Obj::int(py, self as i64)
    }
}
impl Answer for f64 {
    fn answer(self, py: Python<'_>) -> Result<Obj, Raised> {
        Obj::float(py, self)
    }
}
impl Answer for String {
    fn answer(self, py: Python<'_>) -> Result<Obj, Raised> {
        Obj::str(py, &self)
    }
}
impl<T: Hot> Answer for Ref<T> {
    #[inline]
    fn answer(self, _: Python<'_>) -> Result<Obj, Raised> {
        Ok(self.into_obj())
    }
}
impl<A: Answer> Answer for Option<A> {
    #[inline]
    fn answer(self, py: Python<'_>) -> Result<Obj, Raised> {
        match self {
            Some(value) => value.answer(py),
            None => Ok(Obj::none(py)),
        }
    }
}
impl<A: Answer> Answer for Result<A, Raised> {
    #[inline]
    fn answer(self, py: Python<'_>) -> Result<Obj, Raised> {
        self.and_then(|value| value.answer(py))
    }
}

/// Calls a function known by its type alone.
#[inline(always)]
fn instance<F: Copy + 'static>() -> F {
    const {
        assert!(
            size_of::<F>() == 0,
            "only functions and closures that capture nothing"
        )
    };
    // SAFETY: F has no size, so any bit pattern (of no bits) is the value; one was given to the
    // builder, so the type is inhabited.
    unsafe { std::mem::transmute_copy::<(), F>(&()) }
}

/// Runs the body; a panic becomes a RuntimeError.
#[inline(always)]
fn guarded<R>(py: Python<'_>, failed: R, body: impl FnOnce() -> Result<R, Raised>) -> R {
    match std::panic::catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(result)) => result,
        Ok(Err(Raised)) => failed,
        Err(panic) => {
            raise_panic(py, &*panic);
            failed
        }
    }
}

#[cold]
fn raise_panic(py: Python<'_>, panic: &(dyn std::any::Any + Send)) {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown");
    let _ = Raised::runtime_error(py, &format!("aioxide panicked: {text}"));
}

type Object = *mut ffi::PyObject;

/// Borrows arguments that lie one after another.
#[inline(always)]
unsafe fn slice<'a>(args: *const Object, count: usize) -> &'a [Obj] {
    if count == 0 {
        return &[];
    }
    // SAFETY: CPython passes `count` live objects; Obj is a transparent pointer.
    unsafe { std::slice::from_raw_parts(args.cast::<Obj>(), count) }
}

#[inline(always)]
fn give(result: Result<Obj, Raised>) -> Result<Object, Raised> {
    result.map(Obj::into_ptr)
}

macro_rules! entry {
    ($py:ident, $this:ident, $object:ident, $T:ident) => {
        // SAFETY: CPython calls slots and methods attached, on objects of the type, and keeps
        // the object alive for the call.
        let ($py, $this) = unsafe {
            (
                Python::assume_attached(),
                Ref::<$T>::of_unchecked(Obj::from_pointer(&$object)),
            )
        };
    };
}

unsafe extern "C" fn no_args<T: Hot, F, R>(object: Object, _: Object) -> Object
where
    F: Fn(&Ref<T>) -> R + Copy + 'static,
    R: Answer,
{
    entry!(py, this, object, T);
    guarded(py, std::ptr::null_mut(), || {
        give(instance::<F>()(this).answer(py))
    })
}

unsafe extern "C" fn one_arg<T: Hot, F, R>(object: Object, argument: Object) -> Object
where
    F: Fn(&Ref<T>, &Obj) -> R + Copy + 'static,
    R: Answer,
{
    entry!(py, this, object, T);
    // SAFETY: the argument is alive for the call.
    let argument = unsafe { Obj::from_pointer(&argument) };
    guarded(py, std::ptr::null_mut(), || {
        give(instance::<F>()(this, argument).answer(py))
    })
}

unsafe extern "C" fn many_args<T: Hot, F, R>(
    object: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object
where
    F: Fn(&Ref<T>, &Args<'_>) -> R + Copy + 'static,
    R: Answer,
{
    entry!(py, this, object, T);
    // SAFETY: CPython passes `count` positional arguments and as many more as there are names.
    let args = unsafe { vector_args(args, count as usize, &names) };
    guarded(py, std::ptr::null_mut(), || {
        give(instance::<F>()(this, &args).answer(py))
    })
}

/// Arguments of a vectorcall.
unsafe fn vector_args<'a>(args: *const Object, count: usize, names: &'a Object) -> Args<'a> {
    // SAFETY: see the callers.
    unsafe {
        if names.is_null() {
            return Args::vector(slice(args, count), None, &[]);
        }
        let names = Obj::from_pointer(names);
        Args::vector(
            slice(args, count),
            Some(names),
            slice(args.add(count), names.tuple_len()),
        )
    }
}

unsafe extern "C" fn class_arg<F, R>(class: Object, argument: Object) -> Object
where
    F: Fn(&Obj, &Obj) -> R + Copy + 'static,
    R: Answer,
{
    // SAFETY: attached; both are alive for the call.
    let (py, class, argument) = unsafe {
        (
            Python::assume_attached(),
            Obj::from_pointer(&class),
            Obj::from_pointer(&argument),
        )
    };
    guarded(py, std::ptr::null_mut(), || {
        give(instance::<F>()(class, argument).answer(py))
    })
}

unsafe extern "C" fn getter<T: Hot, F, R>(object: Object, _: *mut c_void) -> Object
where
    F: Fn(&Ref<T>) -> R + Copy + 'static,
    R: Answer,
{
    entry!(py, this, object, T);
    guarded(py, std::ptr::null_mut(), || {
        give(instance::<F>()(this).answer(py))
    })
}

unsafe extern "C" fn setter<T: Hot, F>(object: Object, value: Object, _: *mut c_void) -> c_int
where
    F: Fn(&Ref<T>, Option<&Obj>) -> Result<(), Raised> + Copy + 'static,
{
    entry!(py, this, object, T);
    // SAFETY: null (deletion) or alive for the call.
    let value = (!value.is_null()).then(|| unsafe { Obj::from_pointer(&value) });
    guarded(py, -1, || instance::<F>()(this, value).map(|()| 0))
}

unsafe extern "C" fn unary<T: Hot, F, R>(object: Object) -> Object
where
    F: Fn(&Ref<T>) -> R + Copy + 'static,
    R: Answer,
{
    entry!(py, this, object, T);
    guarded(py, std::ptr::null_mut(), || {
        give(instance::<F>()(this).answer(py))
    })
}

/// What a step of a native iterator gives.
pub enum Next {
    /// It waits on an object.
    Yield(Obj),
    /// It has ended with a value.
    Return(Obj),
}

unsafe extern "C" fn iternext<T: Hot, F>(object: Object) -> Object
where
    F: Fn(&Ref<T>, &Obj) -> Result<Next, Raised> + Copy + 'static,
{
    entry!(py, this, object, T);
    guarded(py, std::ptr::null_mut(), || {
        match instance::<F>()(this, &Obj::none(py))? {
            Next::Yield(object) => Ok(object.into_ptr()),
            // Null without an exception stands for None at no cost.
            Next::Return(value) if value.is_none() => Ok(std::ptr::null_mut()),
            Next::Return(value) => Err(crate::coro::raise_stop_iteration(&value)),
        }
    })
}

unsafe extern "C" fn am_send<T: Hot, F>(
    object: Object,
    value: Object,
    result: *mut Object,
) -> ffi::PySendResult
where
    F: Fn(&Ref<T>, &Obj) -> Result<Next, Raised> + Copy + 'static,
{
    entry!(py, this, object, T);
    // SAFETY: the value is alive for the call.
    let value = unsafe { Obj::from_pointer(&value) };
    let (outcome, object) = guarded(
        py,
        (ffi::PySendResult::PYGEN_ERROR, std::ptr::null_mut()),
        || {
            Ok(match instance::<F>()(this, value)? {
                Next::Yield(object) => (ffi::PySendResult::PYGEN_NEXT, object.into_ptr()),
                Next::Return(value) => (ffi::PySendResult::PYGEN_RETURN, value.into_ptr()),
            })
        },
    );
    // SAFETY: CPython passes a place for the result.
    unsafe { *result = object };
    outcome
}

unsafe extern "C" fn init<T: Hot, F>(object: Object, args: Object, kwargs: Object) -> c_int
where
    F: Fn(&Ref<T>, &Args<'_>) -> Result<(), Raised> + Copy + 'static,
{
    entry!(py, this, object, T);
    // SAFETY: CPython passes a tuple, and a dict or null.
    unsafe {
        let items = args
            .cast::<u8>()
            .add(std::mem::offset_of!(ffi::PyTupleObject, ob_item))
            .cast::<Object>();
        let kwargs = (!kwargs.is_null()).then(|| Obj::from_pointer(&kwargs));
        let args = Args::classic(slice(items, ffi::PyTuple_GET_SIZE(args) as usize), kwargs);
        guarded(py, -1, || instance::<F>()(this, &args).map(|()| 0))
    }
}

unsafe extern "C" fn setattro<T: Hot, F>(object: Object, name: Object, value: Object) -> c_int
where
    F: Fn(&Ref<T>, &Obj) + Copy + 'static,
{
    entry!(py, this, object, T);
    // SAFETY: the name is alive for the call; then CPython's own function does the work.
    unsafe {
        let name_ref = Obj::from_pointer(&name);
        let told = guarded(py, -1, || {
            instance::<F>()(this, name_ref);
            Ok(0)
        });
        if told < 0 {
            told
        } else {
            ffi::PyObject_GenericSetAttr(object, name, value)
        }
    }
}

/// `tp_new` of a type without parent.
unsafe extern "C" fn new_plain<T: Hot<Parent = NoParent>, F>(
    class: *mut ffi::PyTypeObject,
    _: Object,
    _: Object,
) -> Object
where
    F: Fn(Python<'_>) -> Result<T, Raised> + Copy + 'static,
{
    // SAFETY: attached; the class is T's or a subclass. The value is made first, so that the
    // object is whole as soon as it exists.
    unsafe {
        let py = Python::assume_attached();
        guarded(py, std::ptr::null_mut(), || {
            let value = instance::<F>()(py)?;
            let object = allocate_subclass(class)?;
            T::write_value(object, value);
            Ok(object)
        })
    }
}

/// `tp_new` of a type with a parent.
unsafe extern "C" fn new_child<T, F>(class: *mut ffi::PyTypeObject, _: Object, _: Object) -> Object
where
    T: Hot,
    T::Parent: Hot<Parent = NoParent>,
    F: Fn(Python<'_>) -> Result<(T::Parent, T), Raised> + Copy + 'static,
{
    // SAFETY: as in `new_plain`.
    unsafe {
        let py = Python::assume_attached();
        guarded(py, std::ptr::null_mut(), || {
            let (parent, value) = instance::<F>()(py)?;
            let object = allocate_subclass(class)?;
            <T::Parent as Payload>::write_value(object, parent);
            T::write_value(object, value);
            Ok(object)
        })
    }
}

unsafe extern "C" fn itself(object: Object) -> Object {
    // SAFETY: CPython passes a live object; the caller gets a reference of its own.
    unsafe {
        ffi::Py_INCREF(object);
        object
    }
}

unsafe extern "C" fn no_new(class: *mut ffi::PyTypeObject, _: Object, _: Object) -> Object {
    // SAFETY: attached; the type's name ends with NUL.
    unsafe {
        ffi::PyErr_Format(
            ffi::PyExc_TypeError,
            c"cannot create '%s' instances".as_ptr(),
            (*class).tp_name,
        );
    }
    std::ptr::null_mut()
}

/// Collects methods, properties and slots of a hot type.
pub struct Builder<T: Hot> {
    methods: Vec<ffi::PyMethodDef>,
    getsets: Vec<ffi::PyGetSetDef>,
    slots: Vec<ffi::PyType_Slot>,
    has_new: bool,
    has_dict: bool,
    /// Names that the slots give the type and Python code is not to see.
    hidden: Vec<&'static CStr>,
    phantom: PhantomData<T>,
}

fn method_def(
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

impl<T: Hot> Builder<T> {
    fn slot(&mut self, slot: c_int, pointer: *mut c_void) -> &mut Self {
        self.slots.push(ffi::PyType_Slot {
            slot,
            pfunc: pointer,
        });
        self
    }

    /// A method without arguments.
    pub fn method0<F, R>(&mut self, name: &'static CStr, doc: &'static CStr, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        let pointer = ffi::PyMethodDefPointer {
            PyCFunction: no_args::<T, F, R>,
        };
        self.methods
            .push(method_def(name, pointer, ffi::METH_NOARGS, doc));
        self
    }

    /// A method with one positional argument.
    pub fn method1<F, R>(&mut self, name: &'static CStr, doc: &'static CStr, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>, &Obj) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        let pointer = ffi::PyMethodDefPointer {
            PyCFunction: one_arg::<T, F, R>,
        };
        self.methods
            .push(method_def(name, pointer, ffi::METH_O, doc));
        self
    }

    /// A method with any arguments.
    pub fn method<F, R>(&mut self, name: &'static CStr, doc: &'static CStr, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>, &Args<'_>) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        let pointer = ffi::PyMethodDefPointer {
            PyCFunctionFastWithKeywords: many_args::<T, F, R>,
        };
        let flags = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
        self.methods.push(method_def(name, pointer, flags, doc));
        self
    }

    /// A class method with one argument.
    pub fn class_method<F, R>(&mut self, name: &'static CStr, doc: &'static CStr, _: F) -> &mut Self
    where
        F: Fn(&Obj, &Obj) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        let pointer = ffi::PyMethodDefPointer {
            PyCFunction: class_arg::<F, R>,
        };
        self.methods.push(method_def(
            name,
            pointer,
            ffi::METH_O | ffi::METH_CLASS,
            doc,
        ));
        self
    }

    /// A property that can only be read.
    pub fn get<F, R>(&mut self, name: &'static CStr, doc: &'static CStr, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        self.getsets.push(ffi::PyGetSetDef {
            name: name.as_ptr(),
            get: Some(getter::<T, F, R>),
            set: None,
            doc: doc.as_ptr(),
            closure: std::ptr::null_mut(),
        });
        self
    }

    /// A property that can be read and set (`None` as value: deleted).
    pub fn get_set<F, R, G>(
        &mut self,
        name: &'static CStr,
        doc: &'static CStr,
        _: F,
        _: G,
    ) -> &mut Self
    where
        F: Fn(&Ref<T>) -> R + Copy + 'static,
        R: Answer + 'static,
        G: Fn(&Ref<T>, Option<&Obj>) -> Result<(), Raised> + Copy + 'static,
    {
        self.getsets.push(ffi::PyGetSetDef {
            name: name.as_ptr(),
            get: Some(getter::<T, F, R>),
            set: Some(setter::<T, G>),
            doc: doc.as_ptr(),
            closure: std::ptr::null_mut(),
        });
        self
    }

    /// `__init__`.
    pub fn init<F>(&mut self, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>, &Args<'_>) -> Result<(), Raised> + Copy + 'static,
    {
        self.slot(ffi::Py_tp_init, init::<T, F> as *mut c_void)
    }

    /// `__repr__`.
    pub fn repr<F, R>(&mut self, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        self.slot(ffi::Py_tp_repr, unary::<T, F, R> as *mut c_void)
    }

    /// `__iter__`.
    pub fn iter<F, R>(&mut self, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        self.slot(ffi::Py_tp_iter, unary::<T, F, R> as *mut c_void)
    }

    /// `__await__`.
    pub fn awaits<F, R>(&mut self, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        self.slot(ffi::Py_am_await, unary::<T, F, R> as *mut c_void)
    }

    /// `await object` iterates over the object itself, by its [`Builder::step`]; whoever calls
    /// `__await__()` gets what the function makes. Python code does not see that the object can
    /// be iterated: only the interpreter's `await` does.
    pub fn awaits_itself<F, R>(&mut self, doc: &'static CStr, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        let pointer = ffi::PyMethodDefPointer {
            PyCFunction: no_args::<T, F, R>,
        };
        let flags = ffi::METH_NOARGS | ffi::METH_COEXIST;
        self.methods
            .push(method_def(c"__await__", pointer, flags, doc));
        self.hidden.push(c"__next__");
        self.slot(ffi::Py_am_await, itself as *mut c_void)
    }

    /// One step, for both of CPython's ways to drive an iterator: `__next__` (3.14's `await`)
    /// and `am_send` (3.15's).
    pub fn step<F>(&mut self, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>, &Obj) -> Result<Next, Raised> + Copy + 'static,
    {
        self.slot(ffi::Py_tp_iternext, iternext::<T, F> as *mut c_void);
        self.slot(ffi::Py_am_send, am_send::<T, F> as *mut c_void)
    }

    /// Lets instances have attributes of their own, in a dict that is made for the first of them.
    /// Not for types that are the parent of others.
    pub fn instance_dict(&mut self) -> &mut Self {
        self.has_dict = true;
        self
    }

    /// Tells CPython where instances keep their dict.
    fn add_dict(&mut self, offset: usize) {
        let members = keep(vec![
            ffi::PyMemberDef {
                name: c"__dictoffset__".as_ptr(),
                type_code: ffi::Py_T_PYSSIZET,
                offset: offset as ffi::Py_ssize_t,
                flags: ffi::Py_READONLY,
                doc: std::ptr::null(),
            },
            ffi::PyMemberDef::default(),
        ]);
        self.slot(ffi::Py_tp_members, members.cast());
        self.getsets.push(ffi::PyGetSetDef {
            name: c"__dict__".as_ptr(),
            get: Some(ffi::PyObject_GenericGetDict),
            set: Some(ffi::PyObject_GenericSetDict),
            doc: std::ptr::null(),
            closure: std::ptr::null_mut(),
        });
    }

    /// Is told the name of each attribute before it is set or deleted on an instance.
    pub fn on_set_attribute<F>(&mut self, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>, &Obj) + Copy + 'static,
    {
        self.slot(ffi::Py_tp_setattro, setattro::<T, F> as *mut c_void)
    }
}

impl<T: Hot<Parent = NoParent>> Builder<T> {
    /// `__new__`: makes the value of an object that `__init__` will fill.
    pub fn new_value<F>(&mut self, _: F) -> &mut Self
    where
        F: Fn(Python<'_>) -> Result<T, Raised> + Copy + 'static,
    {
        self.has_new = true;
        self.slot(ffi::Py_tp_new, new_plain::<T, F> as *mut c_void)
    }
}

impl<T: Hot> Builder<T>
where
    T::Parent: Hot<Parent = NoParent>,
{
    /// `__new__`: makes the values of an object that `__init__` will fill.
    pub fn new_values<F>(&mut self, _: F) -> &mut Self
    where
        F: Fn(Python<'_>) -> Result<(T::Parent, T), Raised> + Copy + 'static,
    {
        self.has_new = true;
        self.slot(ffi::Py_tp_new, new_child::<T, F> as *mut c_void)
    }
}

/// Size of a type's objects.
pub fn basic_size(class: &Obj) -> usize {
    // SAFETY: checked to be a type.
    unsafe {
        if ffi::PyType_Check(class.as_ptr()) == 0 {
            return 0;
        }
        (*class.as_ptr().cast::<ffi::PyTypeObject>()).tp_basicsize as usize
    }
}

/// Builds the type object of a hot type.
///
/// `base` is the foreign base type, `room` the least size of header and foreign part together
/// (so that a parent and its child agree on where the parent's value lies, although their
/// foreign bases differ in size). Raises what CPython raises for types that cannot be.
pub fn build<T: Hot>(py: Python<'_>, base: Option<&Obj>, room: usize) -> Result<Obj, Raised> {
    let info = T::info();
    if !info.class().is_null() {
        return Ok(Ref::<T>::class(py));
    }
    let base_size = base
        .map_or(size_of::<ffi::PyObject>(), basic_size)
        .max(room)
        .next_multiple_of(align_of::<usize>());
    let mut builder = Builder::<T> {
        methods: Vec::new(),
        getsets: Vec::new(),
        slots: Vec::new(),
        has_new: false,
        hidden: Vec::new(),
        has_dict: false,
        phantom: PhantomData,
    };
    T::build(&mut builder);
    // SAFETY: all tables end with a zeroed entry and are kept for ever, as CPython keeps
    // pointers into them; the functions have the signatures that their slots demand; the size
    // has room for the foreign part and all values.
    unsafe {
        builder.slot(ffi::Py_tp_doc, T::DOC.as_ptr() as *mut c_void);
        builder.slot(ffi::Py_tp_traverse, traverse::<T> as *mut c_void);
        builder.slot(ffi::Py_tp_clear, clear::<T> as *mut c_void);
        builder.slot(ffi::Py_tp_dealloc, dealloc::<T> as *mut c_void);
        builder.slot(ffi::Py_tp_finalize, finalize::<T> as *mut c_void);
        if !builder.has_new {
            builder.slot(ffi::Py_tp_new, no_new as *mut c_void);
        }
        builder.methods.push(std::mem::zeroed());
        let methods = keep(std::mem::take(&mut builder.methods));
        builder.slot(ffi::Py_tp_methods, methods.cast());
        let value_end = T::end(base_size).next_multiple_of(align_of::<usize>());
        let size = if builder.has_dict {
            builder.add_dict(value_end);
            value_end + size_of::<Object>()
        } else {
            value_end
        };
        builder.getsets.push(std::mem::zeroed());
        let getsets = keep(std::mem::take(&mut builder.getsets));
        builder.slot(ffi::Py_tp_getset, getsets.cast());
        builder.slots.push(std::mem::zeroed());

        let mut flags = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_HAVE_GC;
        if T::SUBCLASSABLE {
            flags |= ffi::Py_TPFLAGS_BASETYPE;
        }
        let mut spec = ffi::PyType_Spec {
            name: T::NAME.as_ptr(),
            basicsize: size as c_int,
            itemsize: 0,
            flags: flags as _,
            slots: builder.slots.as_mut_ptr(),
        };
        let bases = match base {
            Some(base) => Some(Obj::tuple(py, std::slice::from_ref(base))?),
            None => None,
        };
        let class = Obj::from_owned(ffi::PyType_FromSpecWithBases(
            &mut spec,
            bases.as_ref().map_or(std::ptr::null_mut(), Obj::as_ptr),
        ))?;
        let pointer = class.as_ptr().cast::<ffi::PyTypeObject>();
        for name in &builder.hidden {
            // Out of the dict alone: deleting the attribute would empty the slot.
            if ffi::PyDict_DelItemString((*pointer).tp_dict, name.as_ptr()) < 0 {
                return Err(Raised);
            }
        }
        if let Some(base) = base {
            let base = native_base(py, base)?.cast::<ffi::PyTypeObject>();
            if let Some(traverse) = (*base).tp_traverse {
                info.base_traverse
                    .store(traverse as *mut c_void, Ordering::Relaxed);
                let visits = (*base).tp_flags & ffi::Py_TPFLAGS_HEAPTYPE != 0;
                info.base_visits_type
                    .store(usize::from(visits), Ordering::Relaxed);
            }
            if let Some(clear) = (*base).tp_clear {
                info.base_clear
                    .store(clear as *mut c_void, Ordering::Relaxed);
            }
        }
        info.weakrefs_offset
            .store((*pointer).tp_weaklistoffset as isize, Ordering::Relaxed);
        info.base_size.store(base_size, Ordering::Relaxed);
        if builder.has_dict {
            info.dict_offset.store(value_end, Ordering::Relaxed);
        }
        info.offset
            .store(offset_after::<T>(base_size), Ordering::Relaxed);
        // The type lives as long as the process: its address is in `info`.
        let class_kept = class.clone().into_ptr();
        info.class.store(class_kept.cast(), Ordering::Relaxed);
        Ok(class)
    }
}

/// The nearest base that is no class made in Python: its slots look after the foreign part.
///
/// Those of Python's classes start at the object's own type and look for the first base with
/// other slots, which would be ours: they would call each other without end. What such classes
/// add (`__slots__`) stays empty in hot types.
fn native_base(py: Python<'_>, base: &Obj) -> Result<Object, Raised> {
    let probe = Obj::class_of::<pyo3::types::PyType>(py).call(&[
        &Obj::str(py, "probe")?,
        &Obj::tuple(py, &[])?,
        &Obj::dict(py)?,
    ])?;
    // SAFETY: both are types; a type's bases live as long as it does, and `object` ends them.
    unsafe {
        let made_in_python = (*probe.as_ptr().cast::<ffi::PyTypeObject>()).tp_traverse;
        let mut base = base.as_ptr().cast::<ffi::PyTypeObject>();
        while (*base).tp_traverse.map(|slot| slot as usize)
            == made_in_python.map(|slot| slot as usize)
            && !(*base).tp_base.is_null()
        {
            base = (*base).tp_base;
        }
        Ok(base.cast())
    }
}

/// Keeps a table for ever.
fn keep<D>(table: Vec<D>) -> *mut D {
    Box::leak(table.into_boxed_slice()).as_mut_ptr()
}

/// Puts a hot parent between a hot child and the child's foreign base in the method resolution
/// order, so that `issubclass(Child, Parent)` holds though both have foreign bases whose layouts
/// CPython cannot combine. Sound because the child holds the parent's value at the parent's
/// offset, so that the parent's methods work on it.
///
/// Raises RuntimeError if the offsets differ.
pub fn adopt<T: Hot>(py: Python<'_>) -> Result<(), Raised>
where
    T::Parent: Hot,
{
    let (child, parent) = (T::info(), <T::Parent as Hot>::info());
    if child.base_size.load(Ordering::Relaxed) != parent.base_size.load(Ordering::Relaxed) {
        return Err(Raised::runtime_error(
            py,
            "parent and child differ in layout",
        ));
    }
    // SAFETY: both types are built and nobody else uses them yet. A type owns its tuples of
    // bases and of the resolution order: the old ones are released, the new ones given away.
    unsafe {
        let (child, parent) = (child.class(), parent.class());
        let foreign = Obj::from_borrowed((*child).tp_base.cast());
        let parent_order = Obj::from_borrowed((*parent).tp_mro);
        let child_order = Obj::from_borrowed((*child).tp_mro);
        let mut order = vec![
            Obj::from_borrowed(child.cast()),
            Obj::from_borrowed(parent.cast()),
        ];
        for index in 1..child_order.tuple_len() {
            order.extend(child_order.tuple_item(index));
        }
        debug_assert!(parent_order.tuple_len() < order.len());
        let bases = Obj::tuple(py, &[Obj::from_borrowed(parent.cast()), foreign])?;
        let order = Obj::tuple(py, &order)?;
        let old = std::mem::replace(&mut (*child).tp_mro, order.into_ptr());
        ffi::Py_XDECREF(old);
        let old = std::mem::replace(&mut (*child).tp_bases, bases.into_ptr());
        ffi::Py_XDECREF(old);
        ffi::PyType_Modified(child);
    }
    Ok(())
}

unsafe extern "C" fn free_function<F, R>(
    _: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object
where
    F: Fn(Python<'_>, &Args<'_>) -> R + Copy + 'static,
    R: Answer,
{
    // SAFETY: attached; CPython passes `count` positional arguments and as many more as names.
    let (py, args) = unsafe {
        (
            Python::assume_attached(),
            vector_args(args, count as usize, &names),
        )
    };
    guarded(py, std::ptr::null_mut(), || {
        give(instance::<F>()(py, &args).answer(py))
    })
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
    let table = definition.table.get_or_init(|| {
        let pointer = ffi::PyMethodDefPointer {
            PyCFunction: one_arg::<T, F, R>,
        };
        let def = method_def(definition.name, pointer, ffi::METH_O, definition.doc);
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

/// Name and docstring of a [`bound_method`], in a static.
pub struct MethodDef {
    name: &'static CStr,
    doc: &'static CStr,
    table: std::sync::OnceLock<Table>,
}

struct Table(*mut ffi::PyMethodDef);
// SAFETY: the table is written once and never changed.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl MethodDef {
    /// Names a method.
    pub const fn new(name: &'static CStr, doc: &'static CStr) -> MethodDef {
        MethodDef {
            name,
            doc,
            table: std::sync::OnceLock::new(),
        }
    }
}
