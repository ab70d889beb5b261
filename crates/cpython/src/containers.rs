//! Tuples, lists, dicts, sets, iterators.

use pyo3::{Python, ffi};

use crate::error::Raised;
#[cfg(Py_GIL_DISABLED)]
use crate::obj::status;
use crate::obj::{Obj, done};

impl Obj {
    /// A tuple of the given objects.
    pub fn tuple(_py: Python<'_>, items: &[Obj]) -> Result<Obj, Raised> {
        // SAFETY: the new tuple's items are filled, each with a reference of its own.
        unsafe {
            let tuple = Obj::from_owned(ffi::PyTuple_New(items.len() as ffi::Py_ssize_t))?;
            for (index, item) in items.iter().enumerate() {
                ffi::PyTuple_SET_ITEM(
                    tuple.as_ptr(),
                    index as ffi::Py_ssize_t,
                    item.clone().into_ptr(),
                );
            }
            Ok(tuple)
        }
    }

    /// An empty list.
    pub fn list(_py: Python<'_>) -> Result<Obj, Raised> {
        // SAFETY: attached; returns a new reference or null.
        unsafe { Obj::from_owned(ffi::PyList_New(0)) }
    }

    /// A list of `length` items, each made by `item` from its index.
    pub fn list_of(
        _py: Python<'_>,
        length: usize,
        mut item: impl FnMut(usize) -> Result<Obj, Raised>,
    ) -> Result<Obj, Raised> {
        // SAFETY: the new list has this length, and each item gets a reference of its own; while
        // some are missing their places are null, as CPython allows.
        unsafe {
            let list = Obj::from_owned(ffi::PyList_New(length as ffi::Py_ssize_t))?;
            for index in 0..length {
                let item = item(index)?;
                ffi::PyList_SET_ITEM(list.as_ptr(), index as ffi::Py_ssize_t, item.into_ptr());
            }
            Ok(list)
        }
    }

    /// An empty dict.
    pub fn dict(_py: Python<'_>) -> Result<Obj, Raised> {
        // SAFETY: attached; returns a new reference or null.
        unsafe { Obj::from_owned(ffi::PyDict_New()) }
    }

    /// An empty set.
    pub fn set(_py: Python<'_>) -> Result<Obj, Raised> {
        // SAFETY: attached; returns a new reference or null.
        unsafe { Obj::from_owned(ffi::PySet_New(std::ptr::null_mut())) }
    }

    /// `set(iterable)`.
    pub fn set_of(iterable: &Obj) -> Result<Obj, Raised> {
        // SAFETY: the object is alive; returns a new reference or null.
        unsafe { Obj::from_owned(ffi::PySet_New(iterable.as_ptr())) }
    }

    /// The length of a set; 0 for anything else.
    #[inline]
    pub fn set_len(&self) -> usize {
        // SAFETY: the size is read of sets only.
        unsafe {
            if ffi::PyAnySet_Check(self.as_ptr()) != 0 {
                ffi::PySet_Size(self.as_ptr()).max(0) as usize
            } else {
                0
            }
        }
    }

    /// Removes an item from a set. Returns whether it was there.
    pub fn discard(&self, item: &Obj) -> Result<bool, Raised> {
        // SAFETY: CPython checks that self is a set.
        match unsafe { ffi::PySet_Discard(self.as_ptr(), item.as_ptr()) } {
            -1 => Err(Raised::by_cpython()),
            found => Ok(found == 1),
        }
    }

    /// The length of a tuple; 0 for anything else.
    #[inline]
    pub fn tuple_len(&self) -> usize {
        // SAFETY: the size is read of tuples only.
        unsafe {
            if ffi::PyTuple_Check(self.as_ptr()) != 0 {
                ffi::PyTuple_GET_SIZE(self.as_ptr()) as usize
            } else {
                0
            }
        }
    }

    /// An item of a tuple.
    pub fn tuple_item(&self, index: usize) -> Option<Obj> {
        if index >= self.tuple_len() {
            return None;
        }
        // SAFETY: the index is within the tuple, whose items are alive.
        unsafe {
            let item = ffi::PyTuple_GET_ITEM(self.as_ptr(), index as ffi::Py_ssize_t);
            Some(Obj::from_borrowed(item))
        }
    }

    /// Appends to a list.
    pub fn append(&self, item: &Obj) -> Result<(), Raised> {
        // SAFETY: CPython checks that self is a list.
        done(unsafe { ffi::PyList_Append(self.as_ptr(), item.as_ptr()) })
    }

    /// Adds to a set.
    pub fn add(&self, item: &Obj) -> Result<(), Raised> {
        // SAFETY: CPython checks that self is a set.
        done(unsafe { ffi::PySet_Add(self.as_ptr(), item.as_ptr()) })
    }

    /// The value of a dict's key, if it is there.
    #[inline]
    pub fn dict_get(&self, key: &Obj) -> Result<Option<Obj>, Raised> {
        // Another thread may release a borrowed value before we have a reference of our own.
        #[cfg(Py_GIL_DISABLED)]
        // SAFETY: CPython checks that self is a dict; the value is a new reference or null.
        unsafe {
            let mut value = std::ptr::null_mut();
            let found = ffi::PyDict_GetItemRef(self.as_ptr(), key.as_ptr(), &mut value);
            status(found)?;
            Ok(Obj::from_owned_opt(value))
        }
        #[cfg(not(Py_GIL_DISABLED))]
        // SAFETY: CPython checks that self is a dict; the result is borrowed.
        unsafe {
            let value = ffi::PyDict_GetItemWithError(self.as_ptr(), key.as_ptr());
            if value.is_null() {
                Raised::check(self.py())?;
                return Ok(None);
            }
            Ok(Some(Obj::from_borrowed(value)))
        }
    }

    /// Sets a dict's key.
    #[inline]
    pub fn dict_set(&self, key: &Obj, value: &Obj) -> Result<(), Raised> {
        // SAFETY: CPython checks that self is a dict.
        done(unsafe { ffi::PyDict_SetItem(self.as_ptr(), key.as_ptr(), value.as_ptr()) })
    }

    /// Removes a dict's key, which must be there.
    #[inline]
    pub fn dict_del(&self, key: &Obj) -> Result<(), Raised> {
        // SAFETY: CPython checks that self is a dict.
        done(unsafe { ffi::PyDict_DelItem(self.as_ptr(), key.as_ptr()) })
    }

    /// `iter(self)`.
    pub fn iter(&self) -> Result<Obj, Raised> {
        // SAFETY: the object is alive.
        unsafe { Obj::from_owned(ffi::PyObject_GetIter(self.as_ptr())) }
    }

    /// `next(self)` of an iterator. Returns nothing at its end.
    pub fn next(&self) -> Result<Option<Obj>, Raised> {
        // SAFETY: the object is alive and was checked to be an iterator; PyIter_Next returns a new
        // reference or null.
        unsafe {
            if ffi::PyIter_Check(self.as_ptr()) == 0 {
                return Err(Raised::type_error(self.py(), "not an iterator"));
            }
            match Obj::from_owned_opt(ffi::PyIter_Next(self.as_ptr())) {
                Some(item) => Ok(Some(item)),
                None => Raised::check(self.py()).map(|()| None),
            }
        }
    }
}
