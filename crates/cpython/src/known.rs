//! [`Known`]: a reference that remembers whether its object is of a hot type.

use std::marker::PhantomData;

use crate::hot::{Hot, Ref};
use crate::obj::Obj;
use crate::slot::Reference;

/// A reference to any object, with the answer to "is it a `T`" kept beside it, for objects that
/// are asked often (a subclass made in Python costs a walk over its bases each time).
pub struct Known<T: Hot> {
    object: Obj,
    is: bool,
    phantom: PhantomData<*const T>,
}

impl<T: Hot> Clone for Known<T> {
    #[inline]
    fn clone(&self) -> Self {
        Known {
            object: self.object.clone(),
            is: self.is,
            phantom: PhantomData,
        }
    }
}

impl<T: Hot> Known<T> {
    /// Looks at the object's type once.
    #[inline]
    pub fn new(object: Obj) -> Known<T> {
        let is = Ref::<T>::is(&object);
        Known {
            object,
            is,
            phantom: PhantomData,
        }
    }

    /// The object, if it is a `T`.
    #[inline]
    pub fn of(&self) -> Option<&Ref<T>> {
        // SAFETY: `new` has checked; an object's class can only change to one of the same
        // layout, which keeps the value where it is.
        self.is.then(|| unsafe { Ref::of_unchecked(&self.object) })
    }

    /// The object.
    #[inline]
    pub fn as_obj(&self) -> &Obj {
        &self.object
    }
}

impl<T: Hot> From<Ref<T>> for Known<T> {
    #[inline]
    fn from(reference: Ref<T>) -> Known<T> {
        Known {
            object: reference.into_obj(),
            is: true,
            phantom: PhantomData,
        }
    }
}

// SAFETY: a Known owns exactly the reference of its Obj.
unsafe impl<T: Hot> Reference for Known<T> {
    fn object(&self) -> &Obj {
        &self.object
    }
}
