//! The C functions through which CPython calls Rust.
//!
//! A function given to the [`crate::build::Builder`] is known by its type alone (function items
//! and closures that capture nothing have no size), so each gets a C function of its own that
//! calls it directly. Every trampoline turns a panic into a Python exception ([`crate::panics`]).
//!
//! They are `unsafe` to call because only CPython guarantees what they rely on: it calls them
//! attached, with live objects of the type for which the builder put them into a slot or a method
//! table.

use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering;

use pyo3::{Python, ffi};

use crate::answer::Answer;
use crate::args::Args;
use crate::domain::Section;
use crate::error::Raised;
use crate::hot::{Hot, NoParent, Payload, Ref, allocate_subclass};
use crate::obj::Obj;
use crate::own_dict::find_dict_first;
use crate::panics::guarded;

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

pub(crate) type Object = *mut ffi::PyObject;

/// Borrows `count` arguments that lie one after another.
///
/// # Safety
/// `count` live objects lie at `args` and stay there for `'a`. If `count` is 0, `args` may be
/// anything.
#[inline(always)]
unsafe fn slice<'a>(args: *const Object, count: usize) -> &'a [Obj] {
    if count == 0 {
        return &[];
    }
    // SAFETY: by the function's contract; Obj is a transparent pointer.
    unsafe { std::slice::from_raw_parts(args.cast::<Obj>(), count) }
}

#[inline(always)]
fn give(result: Result<Obj, Raised>) -> Result<Object, Raised> {
    result.map(Obj::into_ptr)
}

/// Takes over a call of a slot or a method: returns the thread's token, and the object as one of
/// the type.
///
/// # Safety
/// CPython makes the call, attached and on a live object of the type that the builder put the slot
/// or method into. The wrapper of a method checks the object's type.
#[inline(always)]
unsafe fn entry<T: Hot>(object: &Object) -> (Python<'_>, &Ref<T>) {
    // SAFETY: by the function's contract.
    unsafe {
        (
            Python::assume_attached(),
            Ref::of_unchecked(Obj::from_pointer(object)),
        )
    }
}

/// Calls a function that takes only the object.
///
/// # Safety
/// As for [`entry`].
#[inline(always)]
unsafe fn answer<T: Hot, F, R>(object: Object) -> Object
where
    F: Fn(&Ref<T>) -> R + Copy + 'static,
    R: Answer,
{
    // SAFETY: by the function's contract.
    let (py, this) = unsafe { entry::<T>(&object) };
    let mut section = Section::new();
    section.enter(this);
    guarded(py, std::ptr::null_mut(), || {
        give(instance::<F>()(this).answer(py))
    })
}

pub(crate) unsafe extern "C" fn no_args<T: Hot, F, R>(object: Object, _: Object) -> Object
where
    F: Fn(&Ref<T>) -> R + Copy + 'static,
    R: Answer,
{
    // SAFETY: CPython calls this.
    unsafe { answer::<T, F, R>(object) }
}

/// As [`no_args`], of a function that only reads fields which all threads may read at any time.
#[cfg(Py_GIL_DISABLED)]
pub(crate) unsafe extern "C" fn no_args_anywhere<T: Hot, F, R>(object: Object, _: Object) -> Object
where
    F: Fn(&Ref<T>) -> R + Copy + 'static,
    R: Answer,
{
    // SAFETY: CPython calls this.
    let (py, this) = unsafe { entry::<T>(&object) };
    let _alone = crate::domain::Alone::with(object);
    guarded(py, std::ptr::null_mut(), || {
        give(instance::<F>()(this).answer(py))
    })
}

pub(crate) unsafe extern "C" fn one_arg<T: Hot, F, R>(object: Object, argument: Object) -> Object
where
    F: Fn(&Ref<T>, &Obj) -> R + Copy + 'static,
    R: Answer,
{
    // SAFETY: CPython calls this.
    let (py, this) = unsafe { entry::<T>(&object) };
    let mut section = Section::new();
    section.enter(this);
    // SAFETY: CPython keeps the argument alive for the call.
    let argument = unsafe { Obj::from_pointer(&argument) };
    guarded(py, std::ptr::null_mut(), || {
        give(instance::<F>()(this, argument).answer(py))
    })
}

pub(crate) unsafe extern "C" fn many_args<T: Hot, F, R>(
    object: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object
where
    F: Fn(&Ref<T>, &Args<'_>) -> R + Copy + 'static,
    R: Answer,
{
    // SAFETY: CPython calls this.
    let (py, this) = unsafe { entry::<T>(&object) };
    let mut section = Section::new();
    section.enter(this);
    // SAFETY: CPython passes `count` positional arguments and as many more as there are names.
    let args = unsafe { vector_args(args, count as usize, &names) };
    guarded(py, std::ptr::null_mut(), || {
        give(instance::<F>()(this, &args).answer(py))
    })
}

/// Arguments of a vectorcall.
///
/// # Safety
/// At `args` lie `count` live objects and as many more as there are names; `names` is null or a
/// tuple. All stay there for `'a`.
unsafe fn vector_args<'a>(args: *const Object, count: usize, names: &'a Object) -> Args<'a> {
    // SAFETY: by the function's contract.
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

pub(crate) unsafe extern "C" fn class_arg<F, R>(class: Object, argument: Object) -> Object
where
    F: Fn(&Obj, &Obj) -> R + Copy + 'static,
    R: Answer,
{
    // SAFETY: CPython calls this attached and keeps both alive for the call.
    let (py, class, argument) = unsafe {
        (
            Python::assume_attached(),
            Obj::from_pointer(&class),
            Obj::from_pointer(&argument),
        )
    };
    let mut section = Section::new();
    section.enter_last();
    guarded(py, std::ptr::null_mut(), || {
        give(instance::<F>()(class, argument).answer(py))
    })
}

pub(crate) unsafe extern "C" fn getter<T: Hot, F, R>(object: Object, _: *mut c_void) -> Object
where
    F: Fn(&Ref<T>) -> R + Copy + 'static,
    R: Answer,
{
    // SAFETY: CPython calls this.
    unsafe { answer::<T, F, R>(object) }
}

pub(crate) unsafe extern "C" fn setter<T: Hot, F>(
    object: Object,
    value: Object,
    _: *mut c_void,
) -> c_int
where
    F: Fn(&Ref<T>, Option<&Obj>) -> Result<(), Raised> + Copy + 'static,
{
    // SAFETY: CPython calls this.
    let (py, this) = unsafe { entry::<T>(&object) };
    let mut section = Section::new();
    section.enter(this);
    // SAFETY: it is not null, and CPython keeps it alive for the call.
    let value = (!value.is_null()).then(|| unsafe { Obj::from_pointer(&value) });
    guarded(py, -1, || instance::<F>()(this, value).map(|()| 0))
}

/// `__dict__`, after a call of the object's function for that.
pub(crate) unsafe extern "C" fn dict_getter<T: Hot, F>(object: Object, _: *mut c_void) -> Object
where
    F: Fn(&Ref<T>) -> Result<(), Raised> + Copy + 'static,
{
    // SAFETY: CPython calls this.
    let (py, this) = unsafe { entry::<T>(&object) };
    let mut section = Section::new();
    section.enter(this);
    guarded(py, std::ptr::null_mut(), || {
        instance::<F>()(this)?;
        // SAFETY: the object is alive; its type says where its dict is.
        Ok(unsafe { ffi::PyObject_GenericGetDict(object, std::ptr::null_mut()) })
    })
}

/// Sets `__dict__`, after a call of the object's function for that.
pub(crate) unsafe extern "C" fn dict_setter<T: Hot, F>(
    object: Object,
    value: Object,
    _: *mut c_void,
) -> c_int
where
    F: Fn(&Ref<T>) -> Result<(), Raised> + Copy + 'static,
{
    // SAFETY: CPython calls this.
    let (py, this) = unsafe { entry::<T>(&object) };
    let mut section = Section::new();
    section.enter(this);
    guarded(py, -1, || {
        instance::<F>()(this)?;
        // SAFETY: as above; the value is null or kept alive by CPython for the call.
        Ok(unsafe { ffi::PyObject_GenericSetDict(object, value, std::ptr::null_mut()) })
    })
}

pub(crate) unsafe extern "C" fn unary<T: Hot, F, R>(object: Object) -> Object
where
    F: Fn(&Ref<T>) -> R + Copy + 'static,
    R: Answer,
{
    // SAFETY: CPython calls this.
    unsafe { answer::<T, F, R>(object) }
}

/// A call whose object and arguments are checked.
#[inline(always)]
pub(crate) fn quick_call<T: Hot, F, R, const COUNT: usize>(
    this: &Ref<T>,
    arguments: &[Obj; COUNT],
) -> Object
where
    F: Fn(&Ref<T>, &[Obj; COUNT]) -> R + Copy + 'static,
    R: Answer,
{
    let py = this.py();
    let mut section = Section::new();
    section.enter(this);
    guarded(py, std::ptr::null_mut(), || {
        give(instance::<F>()(this, arguments).answer(py))
    })
}

/// The outcome of a step of a native iterator.
pub enum Next {
    /// The iterator waits on an object.
    Yield(Obj),
    /// The iterator has ended with a value.
    Return(Obj),
}

pub(crate) unsafe extern "C" fn iternext<T: Hot, F>(object: Object) -> Object
where
    F: Fn(&Ref<T>, &Obj) -> Result<Next, Raised> + Copy + 'static,
{
    // SAFETY: CPython calls this.
    let (py, this) = unsafe { entry::<T>(&object) };
    let mut section = Section::new();
    section.enter(this);
    // SAFETY: only takes the address.
    let none = unsafe { ffi::Py_None() };
    // SAFETY: None lives for ever.
    let none = unsafe { Obj::from_pointer(&none) };
    guarded(py, std::ptr::null_mut(), || {
        match instance::<F>()(this, none)? {
            Next::Yield(object) => Ok(object.into_ptr()),
            // Null without an exception means None, and costs nothing.
            Next::Return(value) if value.is_none() => {
                if cfg!(Py_3_12) {
                    // Nothing counts references to this object.
                    std::mem::forget(value);
                }
                Ok(std::ptr::null_mut())
            }
            Next::Return(value) => Err(crate::stop_iteration::end_iteration(value)),
        }
    })
}

pub(crate) unsafe extern "C" fn am_send<T: Hot, F>(
    object: Object,
    value: Object,
    result: *mut Object,
) -> ffi::PySendResult
where
    F: Fn(&Ref<T>, &Obj) -> Result<Next, Raised> + Copy + 'static,
{
    // SAFETY: CPython calls this.
    let (py, this) = unsafe { entry::<T>(&object) };
    let mut section = Section::new();
    section.enter(this);
    // SAFETY: CPython keeps the value alive for the call.
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

pub(crate) unsafe extern "C" fn init<T: Hot, F>(
    object: Object,
    args: Object,
    kwargs: Object,
) -> c_int
where
    F: Fn(&Ref<T>, &Args<'_>) -> Result<(), Raised> + Copy + 'static,
{
    // SAFETY: CPython calls this.
    let (py, this) = unsafe { entry::<T>(&object) };
    let mut section = Section::new();
    section.enter(this);
    // SAFETY: CPython passes a tuple and a dict or null, and keeps both alive for the call.
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

pub(crate) unsafe extern "C" fn setattro<T: Hot, F>(
    object: Object,
    name: Object,
    value: Object,
) -> c_int
where
    F: Fn(&Ref<T>, &Obj) + Copy + 'static,
{
    // SAFETY: CPython calls this.
    let (py, this) = unsafe { entry::<T>(&object) };
    let mut section = Section::new();
    section.enter(this);
    // SAFETY: CPython keeps the name alive for the call; then CPython's own function does the work.
    unsafe {
        let name_ref = Obj::from_pointer(&name);
        let called = guarded(py, -1, || {
            instance::<F>()(this, name_ref);
            Ok(0)
        });
        if called < 0 {
            called
        } else {
            ffi::PyObject_GenericSetAttr(object, name, value)
        }
    }
}

/// `tp_new` of a type without a parent.
pub(crate) unsafe extern "C" fn new_plain<T: Hot<Parent = NoParent>, F>(
    class: *mut ffi::PyTypeObject,
    _: Object,
    _: Object,
) -> Object
where
    F: Fn(Python<'_>) -> Result<T, Raised> + Copy + 'static,
{
    // SAFETY: CPython calls this attached, with T's class or a subclass. The value is made first, so that the
    // object is whole as soon as it exists.
    unsafe {
        let py = Python::assume_attached();
        let mut section = Section::new();
        section.enter_last();
        guarded(py, std::ptr::null_mut(), || {
            let value = instance::<F>()(py)?;
            if T::info().watches_dict.load(Ordering::Relaxed) {
                find_dict_first::<T>(py, class)?;
            }
            let object = allocate_subclass::<T>(py, class)?;
            T::write_value(object, value);
            Ref::<T>::of_unchecked(Obj::from_pointer(&object)).track();
            Ok(object)
        })
    }
}

/// `tp_new` of a type with a parent.
pub(crate) unsafe extern "C" fn new_child<T, F>(
    class: *mut ffi::PyTypeObject,
    _: Object,
    _: Object,
) -> Object
where
    T: Hot,
    T::Parent: Hot<Parent = NoParent>,
    F: Fn(Python<'_>) -> Result<(T::Parent, T), Raised> + Copy + 'static,
{
    // SAFETY: as in `new_plain`.
    unsafe {
        let py = Python::assume_attached();
        let mut section = Section::new();
        section.enter_last();
        guarded(py, std::ptr::null_mut(), || {
            let (parent, value) = instance::<F>()(py)?;
            let object = allocate_subclass::<T>(py, class)?;
            <T::Parent as Payload>::write_value(object, parent);
            T::write_value(object, value);
            Ref::<T>::of_unchecked(Obj::from_pointer(&object)).track();
            Ok(object)
        })
    }
}

pub(crate) unsafe extern "C" fn itself(object: Object) -> Object {
    // SAFETY: CPython passes a live object; the caller gets a reference of its own.
    unsafe {
        ffi::Py_INCREF(object);
        object
    }
}

pub(crate) unsafe extern "C" fn no_new(
    class: *mut ffi::PyTypeObject,
    _: Object,
    _: Object,
) -> Object {
    // SAFETY: CPython calls this attached, with a type, whose name ends with NUL.
    unsafe {
        ffi::PyErr_Format(
            ffi::PyExc_TypeError,
            c"cannot create '%s' instances".as_ptr(),
            (*class).tp_name,
        );
    }
    std::ptr::null_mut()
}

pub(crate) unsafe extern "C" fn free_function<F, R>(
    _: Object,
    args: *const Object,
    count: ffi::Py_ssize_t,
    names: Object,
) -> Object
where
    F: Fn(Python<'_>, &Args<'_>) -> R + Copy + 'static,
    R: Answer,
{
    // SAFETY: CPython calls this attached, with `count` positional arguments and as many more as
    // there are names.
    let (py, args) = unsafe {
        (
            Python::assume_attached(),
            vector_args(args, count as usize, &names),
        )
    };
    let mut section = Section::new();
    section.enter_last();
    guarded(py, std::ptr::null_mut(), || {
        give(instance::<F>()(py, &args).answer(py))
    })
}
