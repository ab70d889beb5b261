//! The memory of bytes-like objects.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use pyo3::{Python, ffi};

use crate::error::Raised;
use crate::obj::{Obj, done};

impl Obj {
    /// Calls `body` with the object's bytes, which must lie in one piece. They are the owner's own
    /// memory. `body` is `Send`, which keeps Python objects out of it, so no Python code changes
    /// the bytes meanwhile. Raises BufferError or TypeError if there are no such bytes.
    #[inline]
    pub fn with_buffer<R>(&self, body: impl FnOnce(&[u8]) -> R + Send) -> Result<R, Raised> {
        let mut place = MaybeUninit::uninit();
        let view = View::acquire(self, &mut place, ffi::PyBUF_SIMPLE)?;
        let (data, size) = view.span();
        // SAFETY: the exporter keeps the memory while the view is held, the thread stays
        // attached, and nothing in `body` reaches the object.
        Ok(body(unsafe { std::slice::from_raw_parts(data, size) }))
    }

    /// As [`Obj::with_buffer`], for writing.
    #[inline]
    pub fn with_buffer_mut<R>(
        &self,
        body: impl FnOnce(&mut [u8]) -> R + Send,
    ) -> Result<R, Raised> {
        let mut place = MaybeUninit::uninit();
        let view = View::acquire(self, &mut place, ffi::PyBUF_WRITABLE)?;
        let (data, size) = view.span();
        // SAFETY: as above, and the exporter has granted writing.
        Ok(body(unsafe { std::slice::from_raw_parts_mut(data, size) }))
    }

    /// A new `bytes` object with what `fill` writes into memory for at most `size` bytes. `fill`
    /// returns what it has written, from the memory's start on: only that part is known to be
    /// initialized. The outer error is CPython's (no memory), the inner one `fill`'s.
    #[inline]
    pub fn bytes_filled<E>(
        py: Python<'_>,
        size: usize,
        fill: impl for<'a> FnOnce(&'a mut [MaybeUninit<u8>]) -> Result<&'a [u8], E>,
    ) -> Result<Result<Obj, E>, Raised> {
        let length = ffi::Py_ssize_t::try_from(size).unwrap_or(ffi::Py_ssize_t::MAX);
        // SAFETY: the token proves that we are attached; a null pointer asks for memory that is
        // not initialized. A new object or null comes back.
        let bytes =
            unsafe { Obj::from_owned(ffi::PyBytes_FromStringAndSize(std::ptr::null(), length))? };
        // SAFETY: the object is a bytes object of `size` bytes which nobody else has seen.
        let room = unsafe {
            let data = ffi::PyBytes_AS_STRING(bytes.as_ptr()) as *mut MaybeUninit<u8>;
            std::slice::from_raw_parts_mut(data, size)
        };
        let start = room.as_ptr().cast::<u8>();
        match fill(room) {
            Ok(filled) if filled.as_ptr() == start => {
                let filled = filled.len();
                // The rest of the memory is not initialized: the object must not show it.
                crate::lend::cut(bytes, filled).map(Ok)
            }
            Ok(filled) => Obj::bytes(py, filled).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Whether the object is a `bytes` object and not one of a subclass.
    #[inline]
    pub fn is_bytes_exact(&self) -> bool {
        // SAFETY: only compares the type.
        unsafe { ffi::PyBytes_CheckExact(self.as_ptr()) != 0 }
    }

    /// The bytes of a `bytes` object, which never change.
    #[inline]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        // SAFETY: a bytes object's data lives as long as it does and does not change.
        unsafe {
            if ffi::PyBytes_Check(self.as_ptr()) == 0 {
                return None;
            }
            let data = ffi::PyBytes_AS_STRING(self.as_ptr()).cast::<u8>();
            let size = ffi::Py_SIZE(self.as_ptr()) as usize;
            Some(std::slice::from_raw_parts(data, size))
        }
    }
}

/// A buffer, released when dropped. It stays where CPython has filled it, because it may point into
/// itself.
struct View<'a>(&'a mut ffi::Py_buffer);

impl<'a> View<'a> {
    #[inline]
    fn acquire(
        object: &Obj,
        place: &'a mut MaybeUninit<ffi::Py_buffer>,
        flags: std::ffi::c_int,
    ) -> Result<View<'a>, Raised> {
        // SAFETY: an object that is alive, and room for a view; on success CPython has filled it.
        unsafe {
            done(ffi::PyObject_GetBuffer(
                object.as_ptr(),
                place.as_mut_ptr(),
                flags,
            ))?;
            Ok(View(place.assume_init_mut()))
        }
    }

    /// The address of the bytes, never null, and their number.
    #[inline]
    fn span(&self) -> (*mut u8, usize) {
        match NonNull::new(self.0.buf.cast::<u8>()) {
            Some(data) => (data.as_ptr(), self.0.len.max(0) as usize),
            None => (NonNull::dangling().as_ptr(), 0),
        }
    }
}

impl Drop for View<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the view was filled by PyObject_GetBuffer; the thread is attached, as a View
        // does not leave the function that has an Obj.
        unsafe { ffi::PyBuffer_Release(self.0) }
    }
}
