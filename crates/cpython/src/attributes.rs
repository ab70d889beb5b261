//! Where CPython keeps the attributes of an object that has no dict slot of its type's own.
//!
//! Since 3.12 they are in a managed dict, which a word before the object refers to. Since 3.14 they
//! lie behind the object at first, until something needs the dict. Code that uses an object's
//! memory again, or passes over the look-up of its attributes, must know whether there are any.

#[cfg(Py_GIL_DISABLED)]
use std::sync::atomic::Ordering;

use pyo3::{Python, ffi};

use crate::error::Raised;
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

/// The flag of types whose objects have room for attributes behind them.
const INLINE_VALUES: std::ffi::c_ulong = 1 << 2;

/// Leaves no room for attributes behind the objects of a class that has no objects yet. As before
/// 3.14, an object's first attribute then makes a dict. The room takes 24 bytes of each object, and
/// more of the first 30, whether it has attributes or not.
pub fn leave_no_room_for_attributes(class: &Obj) {
    // SAFETY: checked to be a ready type. CPython asks this flag at each object, and knows both
    // kinds of types with a managed dict; there is no object of the other kind.
    unsafe {
        if cfg!(Py_3_14) && ffi::PyType_Check(class.as_ptr()) != 0 {
            let class = class.as_ptr().cast::<ffi::PyTypeObject>();
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
}

/// How objects of a type have attributes that lie behind them, before there is a dict of them.
pub(crate) enum InlineValues {
    /// They have none. Before 3.14 no object has any.
    Never,
    /// They begin at this byte of an object of exactly the type.
    At(isize),
    /// They may have them, and it cannot be found out.
    Unknown,
}

/// Whether attributes lie behind an object from byte `place` on, or have lain there.
///
/// # Safety
/// The object's type has such attributes. They begin at `place`, with a head laid out as a probe
/// has shown.
#[inline(always)]
pub(crate) unsafe fn has_inline_values(object: *mut ffi::PyObject, place: isize) -> bool {
    // The head is four bytes (`struct _dictvalues`): the room, the number of values, whether they
    // are part of the object, and whether they are in use.
    const ALL_BUT_ROOM: u32 = u32::from_ne_bytes([0, 0xff, 0xff, 0xff]);
    const NONE_YET: u32 = u32::from_ne_bytes([0, 0, 1, 1]);
    // SAFETY: by the contract; the values are aligned as words are.
    let head = unsafe { *object.cast::<u8>().offset(place).cast::<u32>() };
    head & ALL_BUT_ROOM != NONE_YET
}

/// As [`has_inline_values`], for an object whose class may be derived from the type. The values
/// begin where its own class says.
///
/// # Safety
/// As for [`has_inline_values`].
#[inline(always)]
pub(crate) unsafe fn has_inline_values_at_end(object: *mut ffi::PyObject) -> bool {
    // SAFETY: the object's type is alive; the values lie where the object ends.
    unsafe { has_inline_values(object, (*ffi::Py_TYPE(object)).tp_basicsize) }
}

/// How objects of the type have attributes that lie behind them.
///
/// # Safety
/// The type is ready.
pub(crate) unsafe fn inline_values(
    py: Python<'_>,
    class: *mut ffi::PyTypeObject,
) -> Result<InlineValues, Raised> {
    let has_them = |class: *mut ffi::PyTypeObject| {
        // SAFETY: only used with ready types.
        unsafe { type_flags(class) & INLINE_VALUES != 0 }
    };
    if cfg!(not(Py_3_14)) || !has_them(class) {
        return Ok(InlineValues::Never);
    }
    // An object of a probe class shows whether its values lie there and say that they are in use.
    let probe_class = Obj::class_of::<pyo3::types::PyType>(py).call(&[
        &Obj::str(py, "probe")?,
        &Obj::tuple(py, &[])?,
        &Obj::dict(py)?,
    ])?;
    let probe = probe_class.call0()?;
    if !has_them(probe_class.as_ptr().cast()) {
        return Ok(InlineValues::Unknown);
    }
    // SAFETY: objects of this class have such attributes.
    let before = unsafe { has_inline_values_at_end(probe.as_ptr()) };
    probe.set_attr(pyo3::intern!(py, "attribute"), &probe_class)?;
    // SAFETY: as above.
    let after = unsafe { has_inline_values_at_end(probe.as_ptr()) };
    Ok(if !before && after {
        // SAFETY: by the contract.
        InlineValues::At(unsafe { (*class).tp_basicsize })
    } else {
        InlineValues::Unknown
    })
}
