//! The memory of bytes-like objects.

use pyo3::ffi;

use crate::error::Raised;
use crate::obj::{Obj, done};

impl Obj {
    /// Acquires the object's buffer: contiguous, of bytes, writable if asked for.
    pub fn buffer(&self, writable: bool) -> Result<Buffer, Raised> {
        let mut view = Box::new(std::mem::MaybeUninit::<ffi::Py_buffer>::uninit());
        let flags = if writable {
            ffi::PyBUF_WRITABLE
        } else {
            ffi::PyBUF_SIMPLE
        };
        // SAFETY: on success CPython has filled the view, which stays where it is (boxed).
        unsafe {
            done(ffi::PyObject_GetBuffer(
                self.as_ptr(),
                view.as_mut_ptr(),
                flags,
            ))?;
            Ok(Buffer {
                view: Box::from_raw(Box::into_raw(view).cast()),
                writable,
            })
        }
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
            let size = ffi::PyBytes_Size(self.as_ptr()) as usize;
            Some(std::slice::from_raw_parts(data, size))
        }
    }
}

/// The buffer of an object, released when dropped.
pub struct Buffer {
    view: Box<ffi::Py_buffer>,
    writable: bool,
}

impl Buffer {
    /// The bytes. They are shared with Python: another thread may change them while the thread
    /// is detached, so copy what must not change.
    pub fn bytes(&self) -> &[u8] {
        if self.view.len == 0 {
            return &[];
        }
        // SAFETY: the exporter keeps the memory while the view is held.
        unsafe { std::slice::from_raw_parts(self.view.buf.cast(), self.view.len as usize) }
    }

    /// The bytes for writing; nothing if the buffer was not asked to be writable.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        if !self.writable || self.view.len == 0 {
            return if self.writable { Some(&mut []) } else { None };
        }
        // SAFETY: the exporter granted writing and keeps the memory while the view is held.
        Some(unsafe {
            std::slice::from_raw_parts_mut(self.view.buf.cast(), self.view.len as usize)
        })
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.view.len as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.view.len == 0
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the view was filled by PyObject_GetBuffer; the thread is attached, for a
        // Buffer is as little Send as an Obj (it holds raw pointers).
        unsafe { ffi::PyBuffer_Release(&mut *self.view) }
    }
}
