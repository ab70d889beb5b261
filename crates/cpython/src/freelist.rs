//! Giving back the memory of freed objects that a burst has left behind.

use pyo3::Python;
#[cfg(not(Py_GIL_DISABLED))]
use pyo3::ffi;

use crate::hot::Hot;

/// Frees some of the objects that the type keeps above [`Hot::FREELIST`], `most` of them at most.
/// Returns whether it still keeps more than that.
///
/// Without the GIL a loop's domain never keeps more than that.
pub fn trim<T: Hot>(_py: Python<'_>, most: usize) -> bool {
    #[cfg(Py_GIL_DISABLED)]
    {
        let _ = most;
        false
    }
    #[cfg(not(Py_GIL_DISABLED))]
    trim_list::<T>(most)
}

#[cfg(not(Py_GIL_DISABLED))]
fn trim_list<T: Hot>(most: usize) -> bool {
    let info = T::info();
    // SAFETY: the GIL is held (the caller's token), so nobody else uses the freelist. Its objects are of exactly
    // the type, with nothing in them but their reference to it. To free one runs no foreign code.
    unsafe {
        let kept = &mut *info.freelist.get();
        let surplus = kept.len().saturating_sub(T::FREELIST);
        for object in kept.drain(kept.len() - surplus.min(most)..) {
            let class = info.class();
            let free = (*class).tp_free.unwrap_or(ffi::PyObject_GC_Del);
            free(object.cast());
            ffi::Py_DECREF(class.cast());
        }
        if kept.len() <= kept.capacity() / 4 {
            kept.shrink_to(T::FREELIST);
        }
        surplus > most
    }
}
