//! [`Obj`]: an owned reference to any Python object, and what can be done with one.

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{PyTypeInfo, ffi};

use crate::domain;
use crate::error::Raised;
use crate::refcount::{decrement, increment};
use crate::sanitizer;

/// An owned reference to a Python object.
///
/// Clone and drop count references directly: having one proves that the thread is attached (see
/// the crate's rule), which PyO3's `Py` cannot assume. It must not be kept in thread-local
/// variables, whose destructors run detached.
#[repr(transparent)]
pub struct Obj(NonNull<ffi::PyObject>);

impl Drop for Obj {
    #[inline]
    fn drop(&mut self) {
        sanitizer::released(self.0.as_ptr());
        domain::publish();
        // SAFETY: the reference is ours, the thread is attached.
        unsafe { decrement(self.0.as_ptr()) }
    }
}

impl Clone for Obj {
    #[inline]
    fn clone(&self) -> Self {
        // Reads the pointer once: counting writes to memory, so the compiler would read it again.
        let pointer = self.0;
        // SAFETY: the object is alive as long as self is.
        unsafe { increment(pointer.as_ptr()) };
        Obj(pointer)
    }
}

impl Obj {
    /// Takes over a reference returned by the C API; a null pointer means that it raised.
    ///
    /// # Safety
    /// `pointer` is null with an exception set, or a reference that the caller owns.
    #[inline]
    pub(crate) unsafe fn from_owned(pointer: *mut ffi::PyObject) -> Result<Obj, Raised> {
        NonNull::new(pointer).map(Obj).ok_or(Raised::by_cpython())
    }

    /// Takes over a reference, or nothing.
    ///
    /// # Safety
    /// `pointer` is null or a reference that the caller owns.
    #[inline]
    pub(crate) unsafe fn from_owned_opt(pointer: *mut ffi::PyObject) -> Option<Obj> {
        NonNull::new(pointer).map(Obj)
    }

    /// Makes a reference of its own to a borrowed object.
    ///
    /// # Safety
    /// `pointer` points to a live object and the thread is attached.
    #[inline]
    pub(crate) unsafe fn from_borrowed(pointer: *mut ffi::PyObject) -> Obj {
        // SAFETY: by the function's contract.
        unsafe {
            increment(pointer);
            Obj(NonNull::new_unchecked(pointer))
        }
    }

    /// Takes over a reference that was counted before.
    ///
    /// # Safety
    /// The caller owns a reference to the object besides the one at hand, and gives it away.
    #[cfg(Py_GIL_DISABLED)]
    #[inline]
    pub(crate) unsafe fn of_counted(object: &Obj) -> Obj {
        Obj(object.0)
    }

    /// Lends a borrowed pointer as a reference that is not counted.
    ///
    /// # Safety
    /// `*pointer` is a live object, and stays one as long as the result is used.
    #[inline]
    pub(crate) unsafe fn from_pointer(pointer: &*mut ffi::PyObject) -> &Obj {
        // SAFETY: Obj is a transparent pointer; the caller keeps the object alive.
        unsafe { &*(std::ptr::from_ref(pointer).cast::<Obj>()) }
    }

    /// The raw pointer, borrowed.
    #[inline]
    pub fn as_ptr(&self) -> *mut ffi::PyObject {
        self.0.as_ptr()
    }

    /// The raw pointer, owned: the caller must give the reference back to [`Obj::from_owned`].
    #[inline]
    pub(crate) fn into_ptr(self) -> *mut ffi::PyObject {
        let pointer = self.0.as_ptr();
        std::mem::forget(self);
        pointer
    }

    /// The token that an `Obj` stands for.
    #[inline]
    pub fn py(&self) -> Python<'_> {
        // SAFETY: an Obj exists only in an attached thread (the crate's rule).
        unsafe { Python::assume_attached() }
    }

    /// `None`.
    #[inline]
    pub fn none(_py: Python<'_>) -> Obj {
        // SAFETY: None lives for ever; the token proves that we are attached.
        unsafe { Obj::from_immortal(ffi::Py_None()) }
    }

    /// A reference to an object whose references are not counted, on the versions that have
    /// immortal objects.
    ///
    /// # Safety
    /// The thread is attached, and the object is one that the interpreter makes immortal.
    #[inline]
    unsafe fn from_immortal(object: *mut ffi::PyObject) -> Obj {
        // SAFETY: by the contract; the references of an immortal object need no count.
        unsafe {
            if cfg!(Py_3_12) {
                Obj(NonNull::new_unchecked(object))
            } else {
                Obj::from_borrowed(object)
            }
        }
    }

    /// `True` or `False`.
    #[inline]
    pub fn bool(_py: Python<'_>, value: bool) -> Obj {
        // SAFETY: both live for ever; the token proves that we are attached.
        unsafe {
            Obj::from_immortal(if value {
                ffi::Py_True()
            } else {
                ffi::Py_False()
            })
        }
    }

    /// A Python float.
    pub fn float(_py: Python<'_>, value: f64) -> Result<Obj, Raised> {
        // SAFETY: attached; returns a new reference or null.
        unsafe { Obj::from_owned(ffi::PyFloat_FromDouble(value)) }
    }

    /// A Python int.
    pub fn int(_py: Python<'_>, value: i64) -> Result<Obj, Raised> {
        // SAFETY: attached; returns a new reference or null.
        unsafe { Obj::from_owned(ffi::PyLong_FromLongLong(value)) }
    }

    /// A Python str.
    pub fn str(_py: Python<'_>, value: &str) -> Result<Obj, Raised> {
        // SAFETY: the pointer and the length describe valid UTF-8.
        unsafe {
            Obj::from_owned(ffi::PyUnicode_FromStringAndSize(
                value.as_ptr().cast(),
                value.len() as ffi::Py_ssize_t,
            ))
        }
    }

    /// A Python bytes object with a copy of the data.
    pub fn bytes(_py: Python<'_>, value: &[u8]) -> Result<Obj, Raised> {
        // SAFETY: pointer and length describe the slice.
        unsafe {
            Obj::from_owned(ffi::PyBytes_FromStringAndSize(
                value.as_ptr().cast(),
                value.len() as ffi::Py_ssize_t,
            ))
        }
    }

    /// The same object with PyO3's type.
    pub fn bound<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        // SAFETY: the object is alive.
        unsafe { Bound::from_borrowed_ptr(py, self.as_ptr()) }
    }

    /// Turns PyO3's reference into ours.
    pub fn from_bound<T>(object: Bound<'_, T>) -> Obj {
        // SAFETY: into_ptr gives its reference away and is never null.
        unsafe { Obj(NonNull::new_unchecked(object.into_ptr())) }
    }

    /// Lends PyO3's reference as one of ours.
    #[inline]
    pub fn from_bound_ref<'a, T>(object: &'a Bound<'_, T>) -> &'a Obj {
        Self::from_py_ref(object.py(), object.as_unbound())
    }

    /// Lends PyO3's detached reference as one of ours.
    #[inline]
    pub fn from_py_ref<'a, T>(_py: Python<'_>, object: &'a Py<T>) -> &'a Obj {
        // SAFETY: both are transparent over a non-null pointer; the token proves that we are
        // attached.
        unsafe { &*(std::ptr::from_ref(object).cast::<Obj>()) }
    }

    /// The interned string, as made by `pyo3::intern!`.
    #[inline]
    pub fn name<'a>(name: &'a Bound<'_, PyString>) -> &'a Obj {
        Self::from_bound_ref(name)
    }

    /// Imports a module.
    pub fn import(_py: Python<'_>, name: &CStr) -> Result<Obj, Raised> {
        // SAFETY: attached, the name ends with NUL.
        unsafe { Obj::from_owned(ffi::PyImport_ImportModule(name.as_ptr())) }
    }

    /// Has the processor fetch the object's first cache lines ahead of their use.
    #[inline]
    pub fn prefetch(&self, lines: usize) {
        #[cfg(target_arch = "x86_64")]
        for line in 0..lines {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a hint; no address is wrong.
            unsafe {
                let address = self.as_ptr().cast::<i8>().wrapping_add(64 * line);
                _mm_prefetch::<_MM_HINT_T0>(address);
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = lines;
    }

    /// `self is other`.
    #[inline]
    pub fn is(&self, other: &Obj) -> bool {
        self.0 == other.0
    }

    /// `self is None`.
    #[inline]
    pub fn is_none(&self) -> bool {
        // SAFETY: only compares addresses.
        self.as_ptr() == unsafe { ffi::Py_None() }
    }

    /// `self is True`.
    #[inline]
    pub fn is_true_object(&self) -> bool {
        // SAFETY: only compares addresses.
        self.as_ptr() == unsafe { ffi::Py_True() }
    }

    /// Turns `None` into nothing.
    #[inline]
    pub fn not_none(self) -> Option<Obj> {
        if self.is_none() { None } else { Some(self) }
    }

    /// The truth value.
    pub fn truth(&self) -> Result<bool, Raised> {
        if self.is_true_object() {
            return Ok(true);
        }
        // SAFETY: the object is alive.
        status(unsafe { ffi::PyObject_IsTrue(self.as_ptr()) })
    }

    /// `type(self)`.
    #[inline]
    pub fn class(&self) -> Obj {
        // SAFETY: the type is kept alive by its instance.
        unsafe { Obj::from_borrowed(ffi::Py_TYPE(self.as_ptr()).cast()) }
    }

    /// The number of references to the object.
    #[inline]
    pub fn refcount(&self) -> isize {
        // SAFETY: the object is alive.
        unsafe { ffi::Py_REFCNT(self.as_ptr()) as isize }
    }

    /// Whether only the holder of this reference can reach the object, so that nobody sees it
    /// change. In free-threaded builds a sum of two counts does not say that while other threads
    /// run: only an object that this thread has made, and that has been in no other's hands, counts
    /// there.
    #[inline]
    pub fn is_unique(&self) -> bool {
        #[cfg(Py_GIL_DISABLED)]
        {
            // SAFETY: the object is alive.
            unsafe { ffi::PyUnstable_Object_IsUniquelyReferenced(self.as_ptr()) != 0 }
        }
        #[cfg(not(Py_GIL_DISABLED))]
        {
            self.refcount() == 1
        }
    }

    /// Whether the garbage collector has found the object unreachable and is about to clear it. The
    /// collector must know the object.
    #[inline]
    pub(crate) fn is_being_collected(&self) -> bool {
        #[cfg(Py_GIL_DISABLED)]
        {
            // `_PyGC_BITS_UNREACHABLE`, in the object's own header.
            const UNREACHABLE: u8 = 1 << 2;
            // SAFETY: the object is alive.
            unsafe { (*self.as_ptr()).ob_gc_bits & UNREACHABLE != 0 }
        }
        #[cfg(not(Py_GIL_DISABLED))]
        {
            // `_PyGC_PREV_MASK_COLLECTING`, a bit of the last word of the collector's head before
            // the object.
            const COLLECTING: usize = 2;
            // SAFETY: the collector keeps two words before each object that it knows.
            unsafe { *self.as_ptr().cast::<usize>().sub(1) & COLLECTING != 0 }
        }
    }

    /// The address of the type, for comparisons.
    #[inline]
    pub fn class_address(&self) -> usize {
        // SAFETY: the object is alive.
        unsafe { ffi::Py_TYPE(self.as_ptr()) as usize }
    }

    /// Whether `type(self)` is the class.
    #[inline]
    pub fn is_exact(&self, class: &Obj) -> bool {
        self.class_address() == class.as_ptr() as usize
    }

    /// Whether the class is among the bases of `type(self)`. It does not call `__instancecheck__`.
    #[inline]
    pub fn is_subtype_of(&self, class: &Obj) -> bool {
        // SAFETY: the class is a type object: anything else would have been refused when it was
        // looked up; PyObject_TypeCheck only walks the bases of the object's own type.
        unsafe {
            ffi::PyType_Check(class.as_ptr()) != 0
                && ffi::PyObject_TypeCheck(self.as_ptr(), class.as_ptr().cast()) != 0
        }
    }

    /// `isinstance(self, class)`.
    pub fn is_instance(&self, class: &Obj) -> Result<bool, Raised> {
        // SAFETY: both are alive.
        status(unsafe { ffi::PyObject_IsInstance(self.as_ptr(), class.as_ptr()) })
    }

    /// `issubclass(self, class)`. Raises TypeError if the object is no class.
    pub fn is_subclass(&self, class: &Obj) -> Result<bool, Raised> {
        // SAFETY: both are alive.
        status(unsafe { ffi::PyObject_IsSubclass(self.as_ptr(), class.as_ptr()) })
    }

    /// Whether the object is a native coroutine, made by `async def`.
    #[inline]
    pub fn is_coroutine_exact(&self) -> bool {
        // SAFETY: only compares the type.
        unsafe { ffi::PyCoro_CheckExact(self.as_ptr()) != 0 }
    }

    /// Whether the object is a built-in function or a bound method of a built-in type.
    #[inline]
    pub fn is_built_in_function(&self) -> bool {
        // SAFETY: only compares the type.
        unsafe { ffi::PyCFunction_CheckExact(self.as_ptr()) != 0 }
    }

    /// Whether the object is a generator.
    #[inline]
    pub fn is_generator_exact(&self) -> bool {
        // SAFETY: only compares the type.
        unsafe { ffi::PyGen_CheckExact(self.as_ptr()) != 0 }
    }

    /// `callable(self)`.
    pub fn is_callable(&self) -> bool {
        // SAFETY: the object is alive.
        unsafe { ffi::PyCallable_Check(self.as_ptr()) != 0 }
    }

    /// Whether the object is the int 0, of which CPython has one object; false for a subclass.
    #[inline]
    pub fn is_zero(&self) -> bool {
        self.as_ptr() == ZERO.load(Ordering::Relaxed)
    }

    /// Whether the object is an int (or a bool).
    pub fn is_int(&self) -> bool {
        // SAFETY: only looks at the type's flags.
        unsafe { ffi::PyLong_Check(self.as_ptr()) != 0 }
    }

    /// Whether the object is exactly a float.
    pub fn is_float_exact(&self) -> bool {
        // SAFETY: only compares the type.
        unsafe { ffi::PyFloat_CheckExact(self.as_ptr()) != 0 }
    }

    /// Whether the object is exactly a tuple.
    #[inline]
    pub fn is_tuple_exact(&self) -> bool {
        // SAFETY: only compares the type.
        unsafe { ffi::PyTuple_CheckExact(self.as_ptr()) != 0 }
    }

    /// Whether the object is exactly a str.
    pub fn is_str_exact(&self) -> bool {
        // SAFETY: only compares the type.
        unsafe { ffi::PyUnicode_CheckExact(self.as_ptr()) != 0 }
    }

    /// Whether the object is an exception (an instance of BaseException).
    pub fn is_exception(&self) -> bool {
        // SAFETY: only looks at the type's flags.
        unsafe { ffi::PyExceptionInstance_Check(self.as_ptr()) != 0 }
    }

    /// Whether the object is an exception class.
    pub fn is_exception_class(&self) -> bool {
        // SAFETY: only looks at the type's flags.
        unsafe { ffi::PyExceptionClass_Check(self.as_ptr()) != 0 }
    }

    /// The value of a number as a float.
    #[inline]
    pub fn to_f64(&self) -> Result<f64, Raised> {
        if self.is_float_exact() {
            // SAFETY: it is a float.
            return Ok(unsafe { ffi::PyFloat_AS_DOUBLE(self.as_ptr()) });
        }
        // SAFETY: the object is alive.
        let value = unsafe { ffi::PyFloat_AsDouble(self.as_ptr()) };
        if value == -1.0 {
            Raised::check(self.py())?;
        }
        Ok(value)
    }

    /// The value of an int (or of an object with `__index__`).
    pub fn to_i64(&self) -> Result<i64, Raised> {
        // SAFETY: the object is alive.
        let value = unsafe { ffi::PyLong_AsLongLong(self.as_ptr()) };
        if value == -1 {
            Raised::check(self.py())?;
        }
        Ok(value)
    }

    /// The value of an object that is exactly an int and fits. Returns nothing for anything else,
    /// and raises nothing.
    #[inline]
    pub fn small_int(&self) -> Option<i64> {
        // SAFETY: only ints are asked; those that are too large set the flag and raise nothing.
        unsafe {
            if ffi::PyLong_CheckExact(self.as_ptr()) == 0 {
                return None;
            }
            let mut overflow = 0;
            let value = ffi::PyLong_AsLongLongAndOverflow(self.as_ptr(), &mut overflow);
            (overflow == 0).then_some(value)
        }
    }

    /// The text of a str of ASCII characters alone. Returns nothing for anything else, and raises
    /// nothing.
    #[inline]
    pub fn as_ascii(&self) -> Option<&str> {
        if !self.is_str_exact() {
            return None;
        }
        let mut size: ffi::Py_ssize_t = 0;
        // SAFETY: the object is a str, which keeps its UTF-8 form for its lifetime. Null means
        // that it has none (a lone surrogate), and the exception that says so is dropped.
        unsafe {
            let data = ffi::PyUnicode_AsUTF8AndSize(self.as_ptr(), &mut size);
            if data.is_null() {
                ffi::PyErr_Clear();
                return None;
            }
            let bytes = std::slice::from_raw_parts(data.cast::<u8>(), size as usize);
            std::str::from_utf8(bytes)
                .ok()
                .filter(|text| text.is_ascii())
        }
    }

    /// The text of a str.
    pub fn to_string(&self) -> Result<String, Raised> {
        Ok(self.as_str()?.to_owned())
    }

    /// The text of a str, borrowed from the object.
    pub fn as_str(&self) -> Result<&str, Raised> {
        let mut size: ffi::Py_ssize_t = 0;
        // SAFETY: the object keeps its UTF-8 form for its lifetime; null means that it raised.
        unsafe {
            let data = ffi::PyUnicode_AsUTF8AndSize(self.as_ptr(), &mut size);
            if data.is_null() {
                return Err(Raised::by_cpython());
            }
            Ok(std::str::from_utf8_unchecked(std::slice::from_raw_parts(
                data.cast(),
                size as usize,
            )))
        }
    }

    /// `len(self)`.
    pub fn length(&self) -> Result<usize, Raised> {
        // SAFETY: the object is alive.
        let size = unsafe { ffi::PyObject_Size(self.as_ptr()) };
        usize::try_from(size).map_err(|_| Raised::by_cpython())
    }

    /// `self[start:stop]`.
    pub fn slice(&self, start: &Obj, stop: &Obj) -> Result<Obj, Raised> {
        // SAFETY: all are alive; both functions return new references or null.
        unsafe {
            let (start, stop) = (start.as_ptr(), stop.as_ptr());
            let slice = Obj::from_owned(ffi::PySlice_New(start, stop, std::ptr::null_mut()))?;
            Obj::from_owned(ffi::PyObject_GetItem(self.as_ptr(), slice.as_ptr()))
        }
    }

    /// Whether the object equals only itself and its hash is that of its address: no class of it
    /// overrides either.
    #[inline]
    pub fn equals_by_identity(&self) -> bool {
        // SAFETY: the object is alive and its type with it; `object` is kept for ever.
        unsafe {
            let class = ffi::Py_TYPE(self.as_ptr());
            let plain = &raw const ffi::PyBaseObject_Type;
            (*class).tp_hash.map(|slot| slot as usize) == (*plain).tp_hash.map(|slot| slot as usize)
                && (*class).tp_richcompare.map(|slot| slot as usize)
                    == (*plain).tp_richcompare.map(|slot| slot as usize)
        }
    }

    /// `repr(self)`.
    pub fn repr(&self) -> Result<Obj, Raised> {
        // SAFETY: the object is alive.
        unsafe { Obj::from_owned(ffi::PyObject_Repr(self.as_ptr())) }
    }

    /// `str(self)`.
    pub fn str_of(&self) -> Result<Obj, Raised> {
        // SAFETY: the object is alive.
        unsafe { Obj::from_owned(ffi::PyObject_Str(self.as_ptr())) }
    }

    /// `getattr(self, name)`.
    #[inline]
    pub fn attr(&self, name: &Bound<'_, PyString>) -> Result<Obj, Raised> {
        // SAFETY: both are alive.
        unsafe { Obj::from_owned(ffi::PyObject_GetAttr(self.as_ptr(), name.as_ptr())) }
    }

    /// `getattr(self, name, None)`: only an AttributeError counts as "not there".
    pub fn attr_opt(&self, name: &Bound<'_, PyString>) -> Result<Option<Obj>, Raised> {
        #[cfg(Py_3_13)]
        {
            let mut result = std::ptr::null_mut();
            // SAFETY: both are alive; the result is a new reference or null.
            unsafe {
                status(ffi::PyObject_GetOptionalAttr(
                    self.as_ptr(),
                    name.as_ptr(),
                    &mut result,
                ))?;
                Ok(Obj::from_owned_opt(result))
            }
        }
        #[cfg(not(Py_3_13))]
        match self.attr(name) {
            Ok(value) => Ok(Some(value)),
            Err(raised) => {
                raised.ignore::<pyo3::exceptions::PyAttributeError>(self.py())?;
                Ok(None)
            }
        }
    }

    /// `setattr(self, name, value)`.
    pub fn set_attr(&self, name: &Bound<'_, PyString>, value: &Obj) -> Result<(), Raised> {
        // SAFETY: all are alive.
        done(unsafe { ffi::PyObject_SetAttr(self.as_ptr(), name.as_ptr(), value.as_ptr()) })
    }

    /// `self + other`.
    pub fn plus(&self, other: &Obj) -> Result<Obj, Raised> {
        // SAFETY: both are alive.
        unsafe { Obj::from_owned(ffi::PyNumber_Add(self.as_ptr(), other.as_ptr())) }
    }

    /// `self == other` as a truth value.
    pub fn equals(&self, other: &Obj) -> Result<bool, Raised> {
        self.compare(other, ffi::Py_EQ)
    }

    /// `self < other` as a truth value.
    pub fn is_less(&self, other: &Obj) -> Result<bool, Raised> {
        self.compare(other, ffi::Py_LT)
    }

    /// `self <= other` as a truth value.
    pub fn is_at_most(&self, other: &Obj) -> Result<bool, Raised> {
        self.compare(other, ffi::Py_LE)
    }

    /// `self >= other` as a truth value.
    pub fn is_at_least(&self, other: &Obj) -> Result<bool, Raised> {
        self.compare(other, ffi::Py_GE)
    }

    fn compare(&self, other: &Obj, comparison: c_int) -> Result<bool, Raised> {
        // SAFETY: both are alive; the comparison is one of CPython's six.
        status(unsafe { ffi::PyObject_RichCompareBool(self.as_ptr(), other.as_ptr(), comparison) })
    }

    /// The class that PyO3 knows by a Rust type.
    pub fn class_of<T: PyTypeInfo>(py: Python<'_>) -> Obj {
        Obj::from_bound(T::type_object(py))
    }
}

impl std::fmt::Debug for Obj {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Obj({:p})", self.0)
    }
}

/// The int 0, which lives for ever; null until [`find_zero`].
static ZERO: AtomicPtr<ffi::PyObject> = AtomicPtr::new(std::ptr::null_mut());

/// Finds the int 0, for [`Obj::is_zero`].
pub(crate) fn find_zero(py: Python<'_>) -> Result<(), Raised> {
    let (zero, again) = (Obj::int(py, 0)?, Obj::int(py, 0)?);
    if zero.is(&again) {
        ZERO.store(zero.into_ptr(), Ordering::Relaxed);
    }
    Ok(())
}

/// A reference for the module's lifetime, usable from any attached thread.
pub struct Global(Py<PyAny>);

impl Global {
    /// Keeps an object.
    pub fn new(object: Obj) -> Global {
        let py = object.py();
        Global(object.bound(py).unbind())
    }

    /// The object.
    #[inline]
    pub fn get<'a>(&'a self, py: Python<'_>) -> &'a Obj {
        Obj::from_py_ref(py, &self.0)
    }
}

/// Turns CPython's 0 or -1 into a result.
#[inline]
pub(crate) fn done(code: c_int) -> Result<(), Raised> {
    if code < 0 {
        Err(Raised::by_cpython())
    } else {
        Ok(())
    }
}

/// Turns CPython's 1, 0 or -1 into a result.
#[inline]
pub(crate) fn status(code: c_int) -> Result<bool, Raised> {
    if code < 0 {
        Err(Raised::by_cpython())
    } else {
        Ok(code != 0)
    }
}

// SAFETY: the declaration is that of CPython's header, the same on all versions supported.
unsafe extern "C" {
    /// Gives an object its first reference (`Include/object.h`; PyO3 has no declaration of it).
    #[link_name = "_Py_NewReference"]
    pub(crate) fn new_reference(object: *mut ffi::PyObject);
}
