//! [`TaggedSlot`]: a field of eight bytes that holds a tagged reference, or a box.

use std::cell::Cell;
use std::marker::PhantomData;

use crate::obj::Obj;
use crate::tagged::Tagged;

/// The tag that stands for a box.
const BOXED: usize = 0b111;

/// A field that holds nothing, a reference with a tag of 0 to 6, or a box.
///
/// As with a [`Slot`](crate::Slot), nothing borrowed from a reference leaves the field. A box stays
/// where it is until the field goes, so that its content can be borrowed.
pub struct TaggedSlot<B>(Cell<usize>, PhantomData<(Tagged, Box<B>)>);

impl<B> Default for TaggedSlot<B> {
    fn default() -> Self {
        TaggedSlot(Cell::new(0), PhantomData)
    }
}

impl<B> TaggedSlot<B> {
    /// Whether there is neither a reference nor a box.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.get() == 0
    }

    /// The content of the box, if there is one.
    #[inline]
    pub fn boxed(&self) -> Option<&B> {
        let word = self.0.get();
        // SAFETY: a word with this tag is the address of a box that the field owns. The box stays
        // as long as the field, and nobody has its content exclusively.
        (word & BOXED == BOXED).then(|| unsafe { &*((word & !BOXED) as *const B) })
    }

    /// The content of the box. If there is none it is made, from the reference that the field
    /// holds; the function must not use the field.
    pub fn boxed_or_make(&self, make: impl FnOnce(Option<Tagged>) -> B) -> &B {
        const { assert!(align_of::<B>() > BOXED) };
        if self.boxed().is_none() {
            let made = Box::new(make(self.take()));
            drop(self.take());
            self.0.set(Box::into_raw(made) as usize | BOXED);
        }
        // SAFETY: as in `boxed`.
        unsafe { &*((self.0.get() & !BOXED) as *const B) }
    }

    /// Puts a reference into a field without a box; the old one is released last. Returns the
    /// reference if there is a box, or if its tag is the one of boxes.
    #[inline]
    pub fn put(&self, reference: Tagged) -> Result<(), Tagged> {
        if self.boxed().is_some() || usize::from(reference.tag()) == BOXED {
            return Err(reference);
        }
        let old = self.take();
        self.0.set(reference.into_word());
        drop(old);
        Ok(())
    }

    /// Takes the reference out; nothing if there is none, or a box.
    #[inline]
    pub fn take(&self) -> Option<Tagged> {
        self.take_if(|word| word & BOXED != BOXED)
    }

    /// Takes the reference out if it has this tag, which is not 7.
    #[inline]
    pub fn take_tagged(&self, tag: u8) -> Option<Obj> {
        debug_assert!(usize::from(tag) < BOXED);
        self.take_if(|word| word & BOXED == usize::from(tag) & BOXED && word & BOXED != BOXED)
            .map(Tagged::into_obj)
    }

    #[inline]
    fn take_if(&self, wanted: impl FnOnce(usize) -> bool) -> Option<Tagged> {
        let word = self.0.get();
        if word == 0 || !wanted(word) {
            return None;
        }
        self.0.set(0);
        // SAFETY: the word is no box, so that `put` has made it of a reference, which leaves the
        // field here.
        unsafe { Tagged::from_word(word) }
    }

    /// The tag of the reference; nothing if there is none, or a box.
    #[inline]
    pub fn tag(&self) -> Option<u8> {
        let word = self.0.get();
        (word != 0 && word & BOXED != BOXED).then_some((word & BOXED) as u8)
    }

    /// A new reference to what the field holds; nothing if that is a box.
    #[inline]
    pub fn get(&self) -> Option<Obj> {
        let word = self.reference()?;
        // SAFETY: the object is alive, because the field holds a reference.
        Some(unsafe { Obj::from_borrowed(word) })
    }

    /// Whether the field holds this very object.
    #[inline]
    pub fn holds(&self, object: &Obj) -> bool {
        self.reference() == Some(object.as_ptr())
    }

    /// The address of the held object's type, for comparisons; 0 if there is none.
    #[inline]
    pub fn class_address(&self) -> usize {
        self.reference().map_or(0, |object| {
            // SAFETY: the object is alive, because the field holds a reference.
            unsafe { pyo3::ffi::Py_TYPE(object) as usize }
        })
    }

    /// Shows the reference to the garbage collector; what is in a box is its owner's to show.
    #[inline]
    pub fn visit(&self, visit: &mut crate::Visit<'_>) {
        if let Some(object) = self.reference() {
            // SAFETY: the object is alive, because the field holds a reference.
            visit.object(unsafe { Obj::from_pointer(&object) });
        }
    }

    #[inline]
    fn reference(&self) -> Option<*mut pyo3::ffi::PyObject> {
        self.tag()
            .map(|_| (self.0.get() & !BOXED) as *mut pyo3::ffi::PyObject)
    }
}

impl<B> Drop for TaggedSlot<B> {
    #[inline]
    fn drop(&mut self) {
        let word = self.0.get();
        if word == 0 {
            return;
        }
        if word & BOXED == BOXED {
            // SAFETY: as in `boxed`; the field and all borrows of it end here.
            drop(unsafe { Box::from_raw((word & !BOXED) as *mut B) });
        } else {
            drop(self.take());
        }
    }
}
