//! [`TypeInfo`]: what is known about a hot type once it is built.

#[cfg(not(Py_GIL_DISABLED))]
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicPtr, AtomicUsize, Ordering};

use pyo3::ffi;

/// The facts about a hot type that are known once it is built.
///
/// They hold for the process: they are written once, when the module is imported, and never change
/// (the module refuses a second interpreter). The freelist changes, and the GIL guards it; without
/// one the domains of loops keep freed objects.
pub struct TypeInfo {
    pub(crate) class: AtomicPtr<ffi::PyTypeObject>,
    pub(crate) offset: AtomicUsize,
    /// Where the value lies over slots of the foreign base; 0 if it lies behind them.
    pub(crate) place_over_slots: AtomicUsize,
    /// The offset of the parent's value in objects of this type.
    pub(crate) parent_offset: AtomicUsize,
    /// The child whose objects hold the value at another offset, and that offset.
    pub(crate) child: AtomicPtr<ffi::PyTypeObject>,
    pub(crate) offset_in_child: AtomicUsize,
    /// The subclass of most objects that are not of exactly this type. It is kept for ever, and
    /// recognized by its address, without a search.
    pub(crate) subclass: AtomicPtr<ffi::PyTypeObject>,
    /// A subclass whose objects count as objects of another type; null if there is none.
    pub(crate) left_out: AtomicPtr<ffi::PyTypeObject>,
    /// The size of the header and the foreign base's part.
    pub(crate) base_size: AtomicUsize,
    /// The foreign base's own slots; null where there is none.
    pub(crate) base_traverse: AtomicPtr<c_void>,
    pub(crate) base_clear: AtomicPtr<c_void>,
    /// Whether the foreign base's `tp_traverse` visits the type.
    pub(crate) base_visits_type: AtomicUsize,
    /// Where objects keep their weak references (before the object, on later versions); 0 if they
    /// have none.
    pub(crate) weakrefs_offset: AtomicIsize,
    /// Where objects keep the dict of their own attributes; 0 if they have none.
    pub(crate) dict_offset: AtomicUsize,
    /// Whether the type's function is called before anyone gets that dict.
    pub(crate) watches_dict: AtomicBool,
    /// Where CPython keeps the dict of an object whose foreign base has one "managed", in bytes
    /// before the object; 0 if it has none, [`UNKNOWN`] if the place is not known.
    pub(crate) managed_dict: AtomicIsize,
    /// The offset of the word that says whether an object has a dict of its own attributes, in
    /// whichever way it is kept; 0 if objects have none. Where the place is not known, this is the
    /// word of the object's type ([`TYPE_WORD`]), which is never null.
    pub(crate) attributes: AtomicIsize,
    #[cfg(not(Py_GIL_DISABLED))]
    pub(crate) freelist: UnsafeCell<Vec<*mut ffi::PyObject>>,
    /// The number of the type, by which domains keep objects.
    #[cfg(Py_GIL_DISABLED)]
    pub(crate) number: AtomicUsize,
    /// The offsets of slots of the foreign base that are not part of a value.
    #[cfg(Py_GIL_DISABLED)]
    pub(crate) bare_slots: std::sync::OnceLock<Vec<usize>>,
}

// SAFETY: the atomics are; the freelist is only used by threads that hold the GIL.
#[cfg(not(Py_GIL_DISABLED))]
unsafe impl Sync for TypeInfo {}

impl TypeInfo {
    /// The facts about a type that is not built yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> TypeInfo {
        TypeInfo {
            class: AtomicPtr::new(std::ptr::null_mut()),
            offset: AtomicUsize::new(0),
            place_over_slots: AtomicUsize::new(0),
            parent_offset: AtomicUsize::new(0),
            child: AtomicPtr::new(std::ptr::null_mut()),
            offset_in_child: AtomicUsize::new(0),
            subclass: AtomicPtr::new(std::ptr::null_mut()),
            left_out: AtomicPtr::new(std::ptr::null_mut()),
            base_size: AtomicUsize::new(0),
            base_traverse: AtomicPtr::new(std::ptr::null_mut()),
            base_clear: AtomicPtr::new(std::ptr::null_mut()),
            base_visits_type: AtomicUsize::new(0),
            weakrefs_offset: AtomicIsize::new(0),
            dict_offset: AtomicUsize::new(0),
            watches_dict: AtomicBool::new(false),
            managed_dict: AtomicIsize::new(0),
            attributes: AtomicIsize::new(0),
            #[cfg(not(Py_GIL_DISABLED))]
            freelist: UnsafeCell::new(Vec::new()),
            #[cfg(Py_GIL_DISABLED)]
            number: AtomicUsize::new(0),
            #[cfg(Py_GIL_DISABLED)]
            bare_slots: std::sync::OnceLock::new(),
        }
    }

    #[inline]
    pub(crate) fn class(&self) -> *mut ffi::PyTypeObject {
        self.class.load(Ordering::Relaxed)
    }

    pub(crate) fn remember_subclass(&self, class: *mut ffi::PyTypeObject) {
        if self.subclass.load(Ordering::Relaxed).is_null() {
            // SAFETY: attached; the class is alive and from now on kept for ever. Of several threads
            // one stores its class.
            unsafe { ffi::Py_INCREF(class.cast()) };
            let nothing = std::ptr::null_mut();
            let (order, otherwise) = (Ordering::Relaxed, Ordering::Relaxed);
            let stored = self
                .subclass
                .compare_exchange(nothing, class, order, otherwise);
            if stored.is_err() {
                // SAFETY: the reference was made above.
                unsafe { ffi::Py_DECREF(class.cast()) };
            }
        }
    }
}

/// The offset of the word that refers to an object's type.
pub(crate) const TYPE_WORD: isize = std::mem::offset_of!(ffi::PyObject, ob_type) as isize;

/// Marks a place in a type's objects that is not known.
pub(crate) const UNKNOWN: isize = isize::MAX;
