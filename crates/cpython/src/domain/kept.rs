//! What a running loop keeps to use again: freed objects, and objects that have done their work.
//!
//! It belongs to the loop's domain, and only the thread that owns the domain touches it. An object
//! that another thread frees is not kept.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use pyo3::ffi;

use super::free_threaded::{Domain, current, domain_of};
use crate::hot::{Hot, Ref};
use crate::obj::Obj;

/// What is kept, by the numbers of the types.
pub(super) struct Kept(UnsafeCell<Vec<OfType>>);

// SAFETY: only the thread that owns the domain looks inside, while it owns it.
unsafe impl Sync for Kept {}

/// What is kept of one type.
#[derive(Default)]
struct OfType {
    /// Freed objects, with nothing in them but their type and their domain.
    freed: Vec<*mut ffi::PyObject>,
    /// Objects to which soon nothing else may refer.
    spare: VecDeque<Obj>,
}

impl Kept {
    pub(super) const fn new() -> Kept {
        Kept(UnsafeCell::new(Vec::new()))
    }

    /// What is kept of a type, if the thread owns the domain and is in it.
    ///
    /// # Safety
    /// Nobody else has the same, and no foreign code runs while it is used.
    #[inline(always)]
    unsafe fn of<'a, T: Hot>(domain: &'static Domain) -> Option<&'a mut OfType> {
        if !domain.is_owned_here() {
            return None;
        }
        // SAFETY: by the contract, and because the domain is this thread's.
        let all = unsafe { &mut *domain.kept.0.get() };
        let number = T::info().number.load(Ordering::Relaxed);
        if number >= all.len() {
            all.resize_with(number + 1, OfType::default);
        }
        all.get_mut(number)
    }

    /// Gives everything back, when the thread ceases to own the domain.
    pub(super) fn give_back(&self) {
        // SAFETY: the domain is this thread's. The list is taken out before anything is freed.
        let all = unsafe { std::mem::take(&mut *self.0.get()) };
        for of_type in all {
            for object in of_type.freed {
                // SAFETY: the object is a freed one of exactly its type. To give its memory back
                // runs no foreign code.
                unsafe {
                    let class = ffi::Py_TYPE(object);
                    let free = (*class).tp_free.unwrap_or(ffi::PyObject_GC_Del);
                    free(object.cast());
                    ffi::Py_DECREF(class.cast());
                }
            }
            drop(of_type.spare);
        }
    }
}

/// A freed object of exactly the type, if the thread's domain has one. It must be made anew.
#[inline(always)]
pub(crate) fn take_freed<T: Hot>() -> Option<*mut ffi::PyObject> {
    if T::FREELIST == 0 {
        return None;
    }
    // SAFETY: nothing foreign runs.
    unsafe { Kept::of::<T>(current())?.freed.pop() }
}

/// Keeps a freed object of exactly the type. Returns false if its memory must be given back.
///
/// # Safety
/// There is nothing in the object but its type and its domain, and nobody else has it.
#[inline(always)]
pub(crate) unsafe fn keep_freed<T: Hot>(object: *mut ffi::PyObject) -> bool {
    // SAFETY: the object is of the type. Nothing foreign runs.
    unsafe {
        let domain = domain_of::<T>(Obj::from_pointer(&object));
        match Kept::of::<T>(domain) {
            Some(kept) if kept.freed.len() < T::FREELIST => {
                kept.freed.push(object);
                true
            }
            _ => false,
        }
    }
}

/// Keeps an object that may soon be used again, in the place of the oldest if there are `most`.
#[inline]
pub(crate) fn keep_spare<T: Hot>(object: &Ref<T>, most: usize) {
    // SAFETY: nothing foreign runs; the oldest is dropped after.
    let oldest = unsafe {
        let Some(kept) = Kept::of::<T>(domain_of::<T>(object.as_obj())) else {
            return;
        };
        let oldest = if kept.spare.len() >= most {
            kept.spare.pop_front()
        } else {
            None
        };
        kept.spare.push_back(object.as_obj().clone());
        oldest
    };
    drop(oldest);
}

/// The object that was kept first, if nothing else refers to it any more.
#[inline]
pub(crate) fn take_spare<T: Hot>() -> Option<Ref<T>> {
    // SAFETY: nothing foreign runs.
    let kept = unsafe { Kept::of::<T>(current())? };
    if !kept.spare.front()?.is_unique() {
        return None;
    }
    Ref::into_exact_any(kept.spare.pop_front()?).ok()
}
