//! Where CPython keeps the attributes of an object that has no dict slot of its type's own.
//!
//! Since 3.12 they are in a managed dict, which a word before the object refers to. Since 3.14
//! CPython has them lie behind the object at first, until something needs the dict. The objects of
//! hot types with such a dict, and of all classes derived from these, have no room for that. Code that uses an
//! object's memory again, or passes over the look-up of its attributes, needs to look at one word.

#[cfg(Py_GIL_DISABLED)]
use std::sync::atomic::Ordering;

use pyo3::ffi;

use crate::hot::UNKNOWN;
use crate::obj::Obj;

/// The flags of a type.
///
/// # Safety
/// The type is ready.
#[inline]
pub(crate) unsafe fn type_flags(class: *mut ffi::PyTypeObject) -> std::ffi::c_ulong {
    // SAFETY: by the contract.
    unsafe {
        #[cfg(Py_GIL_DISABLED)]
        return (*class).tp_flags.load(Ordering::Relaxed);
        #[cfg(not(Py_GIL_DISABLED))]
        return (*class).tp_flags;
    }
}

/// Where objects of the type have their managed dict. Since 3.12 that is the word behind the one of
/// their managed weak references, whose place the type gives. In free-threaded builds both lie next
/// to the object; in the others, two words of the garbage collector's are in between.
///
/// # Safety
/// The type is ready.
pub(crate) unsafe fn managed_dict(class: *mut ffi::PyTypeObject) -> isize {
    const MANAGED_DICT: std::ffi::c_ulong = 1 << 4;
    const WORDS_BEFORE: isize = if cfg!(Py_GIL_DISABLED) { 2 } else { 4 };
    const WEAK_REFERENCES: isize = -WORDS_BEFORE * size_of::<usize>() as isize;
    // SAFETY: by the contract.
    unsafe {
        if type_flags(class) & MANAGED_DICT == 0 {
            return 0;
        }
        if cfg!(Py_3_12) && (*class).tp_weaklistoffset == WEAK_REFERENCES {
            return WEAK_REFERENCES + size_of::<usize>() as isize;
        }
    }
    UNKNOWN
}

/// Leaves no room for attributes behind the objects of a class that has no objects yet. As before
/// 3.14, an object's first attribute then makes a dict. The room takes 24 bytes of each object, and
/// more of the first 30, whether it has attributes or not.
///
/// # Safety
/// The class is a ready type, and there is no object of exactly this class.
#[inline]
pub(crate) unsafe fn leave_no_room(class: *mut ffi::PyTypeObject) {
    const INLINE_VALUES: std::ffi::c_ulong = 1 << 2;
    // SAFETY: by the contract. CPython asks this flag at each object, and knows both kinds of types
    // with a managed dict. Without the GIL: CPython changes flags while all other threads are
    // stopped, so none of its changes falls into this one. Other threads may make the class's first
    // objects at the same time, but each comes through here before it makes one.
    unsafe {
        if cfg!(not(Py_3_14)) || type_flags(class) & INLINE_VALUES == 0 {
            return;
        }
        #[cfg(Py_GIL_DISABLED)]
        (*class)
            .tp_flags
            .fetch_and(!INLINE_VALUES, Ordering::Relaxed);
        #[cfg(not(Py_GIL_DISABLED))]
        {
            (*class).tp_flags &= !INLINE_VALUES;
        }
        ffi::PyType_Modified(class);
    }
}

/// As [`leave_no_room`], for a class that the package has just made in Python.
pub fn leave_no_room_for_attributes(class: &Obj) {
    // SAFETY: checked to be a type; a type that Python code can have is ready.
    unsafe {
        if ffi::PyType_Check(class.as_ptr()) != 0 {
            leave_no_room(class.as_ptr().cast());
        }
    }
}
