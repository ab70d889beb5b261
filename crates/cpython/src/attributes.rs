//! Where CPython keeps the attributes of an object that has no dict slot of its type's own.
//!
//! Since 3.12 they are in a managed dict, which a word before the object refers to. Since 3.14 they
//! lie behind the object at first, until something needs the dict. Code that uses an object's
//! memory again, or passes over the look-up of its attributes, must know whether there are any.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::{Python, ffi};

use crate::error::Raised;
use crate::hot::UNKNOWN;
use crate::obj::Obj;

/// Where objects of the type have their managed dict. Since 3.12 that is the word behind the one of
/// their managed weak references, whose place the type gives.
///
/// # Safety
/// The type is ready.
pub(crate) unsafe fn managed_dict(class: *mut ffi::PyTypeObject) -> isize {
    const MANAGED_DICT: std::ffi::c_ulong = 1 << 4;
    const WEAK_REFERENCES: isize = -4 * size_of::<usize>() as isize;
    // SAFETY: by the contract.
    unsafe {
        if (*class).tp_flags as std::ffi::c_ulong & MANAGED_DICT == 0 {
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
            (*class).tp_flags &= !INLINE_VALUES;
            ffi::PyType_Modified(class);
        }
    }
}

/// Whether attributes lie behind an object, or have lain there. Objects of hot types have no room
/// for any; those of a class derived from one may have it.
#[inline]
pub(crate) fn has_inline_values(object: &Obj) -> bool {
    // SAFETY: the object and its class are alive.
    unsafe {
        let class = ffi::Py_TYPE(object.as_ptr());
        cfg!(Py_3_14)
            && (*class).tp_flags as std::ffi::c_ulong & INLINE_VALUES != 0
            && (!HEAD_IS_KNOWN.load(Ordering::Relaxed) || head_shows_values(object))
    }
}

/// Whether the head of the values is laid out as [`head_shows_values`] reads it.
static HEAD_IS_KNOWN: AtomicBool = AtomicBool::new(false);

/// Whether the head of an object's values says that there are any, or have been.
///
/// # Safety
/// The object's class leaves room for attributes.
unsafe fn head_shows_values(object: &Obj) -> bool {
    // The head is four bytes (`struct _dictvalues`): the room, the number of values, whether they
    // are part of the object, and whether they are in use.
    const ALL_BUT_ROOM: u32 = u32::from_ne_bytes([0, 0xff, 0xff, 0xff]);
    const NONE_YET: u32 = u32::from_ne_bytes([0, 0, 1, 1]);
    // SAFETY: the values lie where the object ends, and are aligned as words are.
    let head = unsafe {
        let place = (*ffi::Py_TYPE(object.as_ptr())).tp_basicsize;
        *object.as_ptr().cast::<u8>().offset(place).cast::<u32>()
    };
    head & ALL_BUT_ROOM != NONE_YET
}

/// Finds out, once, whether the running version lays out the head of such values as it is read
/// here. An object of a probe class shows it.
pub(crate) fn look_at_inline_values(py: Python<'_>) -> Result<(), Raised> {
    if cfg!(not(Py_3_14)) || HEAD_IS_KNOWN.load(Ordering::Relaxed) {
        return Ok(());
    }
    let class = Obj::class_of::<pyo3::types::PyType>(py).call(&[
        &Obj::str(py, "probe")?,
        &Obj::tuple(py, &[])?,
        &Obj::dict(py)?,
    ])?;
    let probe = class.call0()?;
    // SAFETY: the class is alive.
    let flags = unsafe { (*class.as_ptr().cast::<ffi::PyTypeObject>()).tp_flags };
    if flags as std::ffi::c_ulong & INLINE_VALUES == 0 {
        return Ok(());
    }
    // SAFETY: objects of this class have such attributes.
    let before = unsafe { head_shows_values(&probe) };
    probe.set_attr(pyo3::intern!(py, "attribute"), &class)?;
    // SAFETY: as above.
    let after = unsafe { head_shows_values(&probe) };
    HEAD_IS_KNOWN.store(!before && after, Ordering::Relaxed);
    Ok(())
}
