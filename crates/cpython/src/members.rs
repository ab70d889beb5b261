//! Values that lie over the slots of a foreign base.
//!
//! A class made in Python keeps what its `__slots__` name in words of its objects, each of which
//! holds a reference or nothing: the same as a [`Slot`]. A hot type that derives from such a class
//! can have its own fields in these words ([`Hot::MEMBERS`]), so that its objects are no larger
//! than the class's. The base's descriptors then read and write the type's fields.
//!
//! The classes are the program's to change. So the place of each word is asked of the base, and a
//! value lies over the words only if all are where its fields are.

use pyo3::ffi;

use crate::build::basic_size;
use crate::hot::Hot;
use crate::obj::Obj;
use crate::slot::Slot;

/// A field of a hot type's value that stands for a slot of the foreign base.
pub struct Member {
    name: &'static std::ffi::CStr,
    offset: usize,
}

impl Member {
    /// The field at this offset of the value; see [`crate::members!`]. The function, which
    /// is not called, proves that the field is a [`Slot`].
    #[doc(hidden)]
    pub const fn new<T>(
        name: &'static std::ffi::CStr,
        offset: usize,
        _: fn(&T) -> &Slot,
    ) -> Member {
        Member { name, offset }
    }
}

/// Names the slots of the foreign base over which fields of a hot type's value lie, each with its
/// field. It is used inside the `impl Hot`, of a type whose value is `#[repr(C)]`.
#[macro_export]
macro_rules! members {
    ($($name:literal: $field:ident),* $(,)?) => {
        const MEMBERS: &'static [$crate::members::Member] = &[
            $($crate::members::Member::new(
                $name,
                std::mem::offset_of!(Self, $field),
                |value: &Self| &value.$field,
            )),*
        ];
    };
}

/// Whether the values of a type can lie over the slots of all these bases, at one place.
pub fn fit<T: Hot>(bases: &[&Obj]) -> bool {
    let mut places = bases.iter().map(|base| place::<T>(base));
    let first = places.next().flatten();
    first.is_some() && places.all(|place| place == first)
}

/// Where the value of a type lies over the slots of a base, if it can.
///
/// Each word of the value that lies in the base's part of an object must be one of the members.
/// Without the GIL it never can: CPython reads slots without a lock, and asks only that what they
/// refer to be released under the object's own lock.
pub(crate) fn place<T: Hot>(base: &Obj) -> Option<usize> {
    if cfg!(Py_GIL_DISABLED) {
        return None;
    }
    let first = T::MEMBERS.first()?;
    let place = slot_offset(base, first.name)?.checked_sub(first.offset)?;
    let size = basic_size(base);
    let behind_header = place >= size_of::<ffi::PyObject>() && place % align_of::<T>() == 0;
    let all_there = T::MEMBERS
        .iter()
        .all(|member| slot_offset(base, member.name) == Some(place + member.offset));
    let nothing_else = (0..size_of::<T>())
        .step_by(size_of::<Slot>())
        .filter(|offset| place + offset < size)
        .all(|offset| T::MEMBERS.iter().any(|member| member.offset == offset));
    (behind_header && all_there && nothing_else).then_some(place)
}

/// The offsets of all slots of a base over which no value lies. A program may put objects there by
/// the base's descriptors.
#[cfg(Py_GIL_DISABLED)]
pub(crate) fn bare_slots(base: &Obj) -> Result<Vec<usize>, crate::error::Raised> {
    let py = base.py();
    let mut offsets = Vec::new();
    let classes = base.attr(pyo3::intern!(py, "__mro__"))?;
    for class in (0..classes.tuple_len()).filter_map(|index| classes.tuple_item(index)) {
        let names = class.attr(pyo3::intern!(py, "__dict__"))?.iter()?;
        while let Some(name) = names.next()? {
            let name = std::ffi::CString::new(name.as_str()?).unwrap_or_default();
            offsets.extend(slot_offset(&class, &name));
        }
    }
    offsets.sort_unstable();
    offsets.dedup();
    Ok(offsets)
}

/// The offset of the slot of this name in the objects of a class, if the class has one that Python
/// code can read and write as any object.
fn slot_offset(class: &Obj, name: &std::ffi::CStr) -> Option<usize> {
    // SAFETY: attached, as an object is at hand. The class is checked to be one. The found object
    // is checked to be a member descriptor of the class or of one of its bases, so that its offset
    // holds for the class's objects.
    unsafe {
        if ffi::PyType_Check(class.as_ptr()) == 0 {
            return None;
        }
        let found = ffi::PyObject_GetAttrString(class.as_ptr(), name.as_ptr());
        let Ok(found) = Obj::from_owned(found) else {
            ffi::PyErr_Clear();
            return None;
        };
        if ffi::Py_TYPE(found.as_ptr()) != &raw mut ffi::PyMemberDescr_Type {
            return None;
        }
        let descriptor = found.as_ptr().cast::<ffi::PyMemberDescrObject>();
        let (owner, member) = ((*descriptor).d_common.d_type, (*descriptor).d_member);
        let is_slot = ffi::PyType_IsSubtype(class.as_ptr().cast(), owner) != 0
            && (*member).type_code == ffi::Py_T_OBJECT_EX
            && (*member).flags == 0;
        let offset = usize::try_from((*member).offset).ok()?;
        let within = offset.checked_add(size_of::<Slot>())? <= basic_size(class);
        (is_slot && within).then_some(offset)
    }
}
