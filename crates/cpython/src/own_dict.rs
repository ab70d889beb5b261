//! The dict of an object of a hot type.
//!
//! Some types have a function called before anyone gets the dict ([`Builder::watched_dict`]). A
//! subclass of one must not find another `__dict__` first: with a Python class before the hot type
//! among its bases, it would find that class's, which calls no function. So it gets the hot type's
//! `__dict__` into its own namespace before it has objects.
//!
//! [`Builder::watched_dict`]: crate::build::Builder::watched_dict

#[cfg(Py_GIL_DISABLED)]
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering;

use pyo3::{Python, ffi};

use crate::attributes::type_flags;
use crate::error::Raised;
use crate::hot::{Hot, Ref};
use crate::obj::{Obj, done};

impl<T: Hot> Ref<T> {
    /// The object's own dict, if it has one already. `__dict__` gives the same dict.
    pub fn own_dict(&self) -> Option<Obj> {
        let offset = T::info().dict_offset.load(Ordering::Relaxed);
        if offset == 0 {
            return None;
        }
        // SAFETY: the place of the dict is a word of the object: null or a dict that it owns. Where
        // another thread may replace the dict meanwhile, CPython releases the old one only when no
        // thread can be between the two steps here any more.
        unsafe {
            let place: *mut *mut ffi::PyObject =
                self.as_obj().as_ptr().cast::<u8>().add(offset).cast();
            #[cfg(Py_GIL_DISABLED)]
            let dict = AtomicPtr::from_ptr(place).load(Ordering::Acquire);
            #[cfg(not(Py_GIL_DISABLED))]
            let dict = *place;
            (!dict.is_null()).then(|| Obj::from_borrowed(dict))
        }
    }

    /// The object's own dict, made if there is none yet.
    pub fn make_own_dict(&self) -> Result<Obj, Raised> {
        // SAFETY: the object is alive; its type says where its dict is.
        unsafe {
            let dict = ffi::PyObject_GenericGetDict(self.as_obj().as_ptr(), std::ptr::null_mut());
            Obj::from_owned(dict)
        }
    }
}

/// Sees to it that a subclass finds the hot type's `__dict__` before those of other bases.
///
/// # Safety
/// The class is the hot type or a subclass of it, and ready.
#[inline]
pub(crate) unsafe fn find_dict_first<T: Hot>(
    py: Python<'_>,
    class: *mut ffi::PyTypeObject,
) -> Result<(), Raised> {
    let own = T::info().class();
    let mut next = class;
    // SAFETY: by the contract; a class keeps its bases alive.
    unsafe {
        while next != own {
            if ffi::PyTuple_GET_SIZE((*next).tp_bases) != 1 {
                return search::<T>(py, class);
            }
            next = (*next).tp_base;
        }
    }
    Ok(())
}

/// # Safety
/// As for [`find_dict_first`].
#[inline(never)]
unsafe fn search<T: Hot>(py: Python<'_>, class: *mut ffi::PyTypeObject) -> Result<(), Raised> {
    let name = Obj::str(py, "__dict__")?;
    // SAFETY: by the contract; the classes in a resolution order are alive and have a namespace,
    // unless they are static ones of CPython's, which are not looked at.
    unsafe {
        let own = namespace(Ref::<T>::class(py).as_ptr().cast());
        let Some(wanted) = own.dict_get(&name)? else {
            return Ok(());
        };
        let order = Obj::from_borrowed((*class).tp_mro);
        for index in 0..order.tuple_len() {
            let Some(base) = order.tuple_item(index) else {
                break;
            };
            let base = base.as_ptr().cast::<ffi::PyTypeObject>();
            if type_flags(base) & ffi::Py_TPFLAGS_HEAPTYPE == 0 {
                continue;
            }
            let Some(found) = namespace(base).dict_get(&name)? else {
                continue;
            };
            // A `__dict__` that the program has defined itself stays.
            if found.is(&wanted) || !found.is_exact(&wanted.class()) {
                break;
            }
            done(ffi::PyDict_SetItem(
                (*class).tp_dict,
                name.as_ptr(),
                wanted.as_ptr(),
            ))?;
            ffi::PyType_Modified(class);
            break;
        }
    }
    Ok(())
}

/// # Safety
/// The class is a ready one that was made at run time.
unsafe fn namespace(class: *mut ffi::PyTypeObject) -> Obj {
    // SAFETY: by the contract.
    unsafe { Obj::from_borrowed((*class).tp_dict) }
}
