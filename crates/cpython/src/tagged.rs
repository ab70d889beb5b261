//! [`Tagged`]: an owned reference and three bits in eight bytes.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;

use crate::obj::Obj;

const MASK: usize = 0b111;

/// An owned reference with a tag of 0 to 7 in the bits that every object's address leaves free
/// (CPython aligns objects to 8 bytes at least, on 64-bit systems to 16).
pub struct Tagged(NonZeroUsize, PhantomData<*mut ()>);

impl Tagged {
    /// Joins a reference and a tag, of which the lowest three bits count.
    #[inline]
    pub fn new(object: Obj, tag: u8) -> Tagged {
        let address = object.into_ptr() as usize;
        debug_assert_eq!(address & MASK, 0);
        // SAFETY: the address of an object is not zero.
        let joined = unsafe { NonZeroUsize::new_unchecked(address | (usize::from(tag) & MASK)) };
        Tagged(joined, PhantomData)
    }

    /// The word that holds both; [`Tagged::from_word`] takes it back.
    #[inline]
    pub(crate) fn into_word(self) -> usize {
        ManuallyDrop::new(self).0.get()
    }

    /// What [`Tagged::into_word`] has given; nothing for 0.
    ///
    /// # Safety
    /// The word is one that was given, and is taken back once.
    #[inline]
    pub(crate) unsafe fn from_word(word: usize) -> Option<Tagged> {
        NonZeroUsize::new(word).map(|word| Tagged(word, PhantomData))
    }

    /// The tag.
    #[inline]
    pub fn tag(&self) -> u8 {
        (self.0.get() & MASK) as u8
    }

    /// The reference.
    #[inline]
    pub fn into_obj(self) -> Obj {
        let this = ManuallyDrop::new(self);
        let pointer = (this.0.get() & !MASK) as *mut pyo3::ffi::PyObject;
        // SAFETY: the reference was given by `new` and leaves only here or by drop.
        unsafe { Obj::from_owned(pointer).unwrap_unchecked() }
    }

    /// Calls a function with the reference.
    #[inline]
    pub fn with<R>(&self, look: impl FnOnce(&Obj) -> R) -> R {
        let pointer = (self.0.get() & !MASK) as *mut pyo3::ffi::PyObject;
        // SAFETY: the object is alive as long as self is.
        look(unsafe { Obj::from_pointer(&pointer) })
    }
}

impl Drop for Tagged {
    fn drop(&mut self) {
        let pointer = (self.0.get() & !MASK) as *mut pyo3::ffi::PyObject;
        // SAFETY: the reference is ours and is released once.
        drop(unsafe { Obj::from_owned(pointer) });
    }
}
