//! Memory of ours as a Python object, for calls that take or fill a buffer.
//!
//! A memoryview would do, but it consists of two objects that the garbage collector knows, and
//! making and releasing them takes as long as decrypting half a kilobyte. The object lent here is
//! one small object with nothing but the buffer protocol.
//!
//! The memory is used for something else as soon as the call is over, so only functions of
//! CPython's may get such an object: they give its buffer back before they return. Code of the
//! program gets a `bytes` object instead. So no other thread ever has the object either, and its
//! fields need no lock in free-threaded builds.

use std::ffi::{c_int, c_void};

use pyo3::{Python, ffi};

use crate::error::Raised;
use crate::lazy_class::LazyClass;
use crate::obj::{Obj, done};

impl Obj {
    /// Calls `body` with an object whose buffer, for reading, is the bytes. Only a function of
    /// CPython's may get it. If the object is kept, it has no buffer after the call; if its buffer
    /// is still held then, the process aborts.
    #[inline]
    pub fn lend<R>(
        py: Python<'_>,
        bytes: &[u8],
        body: impl FnOnce(&Obj) -> R,
    ) -> Result<R, Raised> {
        let data = bytes.as_ptr().cast_mut();
        // SAFETY: the memory is readable for the call, after which nothing refers to it; memory
        // lent for reading is never written to.
        unsafe { with_lent(py, data, bytes.len(), true, body) }
    }
}

unsafe extern "C" {
    // CPython documents it, but PyO3 does not declare it.
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> c_int;
}

/// Shortens a new bytes object, to which nothing else refers, to its first bytes.
#[inline]
pub(crate) fn cut(bytes: Obj, size: usize) -> Result<Obj, Raised> {
    let mut object = bytes.into_ptr();
    // SAFETY: the reference is ours and the only one; CPython takes it, and leaves another or null.
    unsafe {
        done(_PyBytes_Resize(&mut object, size as ffi::Py_ssize_t))?;
        Obj::from_owned(object)
    }
}

/// The object's fields. Zeroed memory is an object without a buffer.
#[repr(C)]
struct Lent {
    header: ffi::PyObject,
    /// Null once the call is over.
    data: *mut u8,
    size: usize,
    readonly: c_int,
    /// The number of views that hold the buffer now.
    held: usize,
}

static TYPE: LazyClass = LazyClass::new();

/// Calls `body` with an object whose buffer is the memory.
///
/// # Safety
/// The memory lives as long as the call, and `size` and `readonly` are true of it.
#[inline]
unsafe fn with_lent<R>(
    py: Python<'_>,
    data: *mut u8,
    size: usize,
    readonly: bool,
    body: impl FnOnce(&Obj) -> R,
) -> Result<R, Raised> {
    let class = TYPE.get(py, build)?;
    // SAFETY: the type is ready; a new object is zeroed, and nobody has seen it yet.
    let lent = unsafe {
        let object = ffi::PyType_GenericAlloc(class, 0);
        let lent = Obj::from_owned(object)?;
        let object = object.cast::<Lent>();
        (*object).data = data;
        (*object).size = size;
        (*object).readonly = c_int::from(readonly);
        TakeBack(lent)
    };
    Ok(body(&lent.0))
}

/// Takes the memory back when it is dropped, which happens also if the body panics.
struct TakeBack(Obj);

impl Drop for TakeBack {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: only `with_lent` makes one, of an object of the type.
        unsafe {
            let object = self.0.as_ptr().cast::<Lent>();
            (*object).data = std::ptr::null_mut();
            if (*object).held != 0 {
                // A view still refers to the memory, which is about to be used for something else.
                std::process::abort();
            }
        }
    }
}

unsafe extern "C" fn get_buffer(
    object: *mut ffi::PyObject,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> c_int {
    // SAFETY: CPython calls this attached, on an object of the type, with room for a view.
    unsafe {
        let lent = object.cast::<Lent>();
        if (*lent).data.is_null() {
            (*view).obj = std::ptr::null_mut();
            ffi::PyErr_SetString(
                ffi::PyExc_BufferError,
                c"the memory was given back".as_ptr(),
            );
            return -1;
        }
        let (data, size) = ((*lent).data.cast::<c_void>(), (*lent).size);
        let size = size as ffi::Py_ssize_t;
        let code = ffi::PyBuffer_FillInfo(view, object, data, size, (*lent).readonly, flags);
        if code == 0 {
            (*lent).held += 1;
        }
        code
    }
}

unsafe extern "C" fn release_buffer(object: *mut ffi::PyObject, _: *mut ffi::Py_buffer) {
    // SAFETY: CPython calls this attached, once for each view that `get_buffer` has filled.
    unsafe { (*object.cast::<Lent>()).held -= 1 }
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the last reference is gone; the type's reference is given back last.
    unsafe {
        let class = ffi::Py_TYPE(object);
        let free = (*class).tp_free.unwrap_or(ffi::PyObject_Free);
        free(object.cast());
        ffi::Py_DECREF(class.cast());
    }
}

fn build(_py: Python<'_>) -> Result<Obj, Raised> {
    let slot = |slot: c_int, pfunc: *mut c_void| ffi::PyType_Slot { slot, pfunc };
    let mut slots = [
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_bf_getbuffer, get_buffer as *mut c_void),
        slot(ffi::Py_bf_releasebuffer, release_buffer as *mut c_void),
        slot(0, std::ptr::null_mut()),
    ];
    let flags = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
    let mut spec = ffi::PyType_Spec {
        name: c"aioxide._aioxide.lent_memory".as_ptr(),
        basicsize: size_of::<Lent>() as c_int,
        itemsize: 0,
        flags: flags as _,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the slots end with an empty one and have the signatures that CPython demands.
    unsafe { Obj::from_owned(ffi::PyType_FromSpec(&mut spec)) }
}

/// A `bytes` object that is filled piece by piece while no other code sees it.
pub struct BytesBuilder {
    /// The object, of the size `room`; null after CPython had no memory for it.
    object: *mut ffi::PyObject,
    room: usize,
    filled: usize,
}

impl BytesBuilder {
    /// An empty object with room for `room` bytes, at least one.
    pub fn new(_py: Python<'_>, room: usize) -> Result<BytesBuilder, Raised> {
        let room = room.max(1);
        // SAFETY: attached; the new object's bytes are not read before they are written.
        let object = unsafe {
            let size = room as ffi::Py_ssize_t;
            ffi::PyBytes_FromStringAndSize(std::ptr::null(), size)
        };
        if object.is_null() {
            return Err(Raised::by_cpython());
        }
        Ok(BytesBuilder {
            object,
            room,
            filled: 0,
        })
    }

    /// The number of bytes filled in.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// The number of bytes for which there is room.
    pub fn spare(&self) -> usize {
        self.room - self.filled
    }

    /// Copies bytes in. There must be room for them.
    pub fn extend(&mut self, py: Python<'_>, bytes: &[u8]) -> Result<(), Raised> {
        if bytes.len() > self.spare() {
            self.resize(py, self.filled + bytes.len())?;
        }
        // SAFETY: nobody else has the object, and it has the room.
        unsafe {
            let place = ffi::PyBytes_AsString(self.object).cast::<u8>();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), place.add(self.filled), bytes.len());
        }
        self.filled += bytes.len();
        Ok(())
    }

    /// Lets `body` write into the room that is left, through an object whose buffer is `size` bytes
    /// of it (see [`Obj::lend`]). `body` returns the number of bytes that it has written, or
    /// nothing.
    #[inline]
    pub fn fill(
        &mut self,
        py: Python<'_>,
        body: impl FnOnce(&Obj, usize) -> Result<Option<usize>, Raised>,
    ) -> Result<Option<usize>, Raised> {
        if self.spare() == 0 {
            self.resize(py, self.room * 2)?;
        }
        // SAFETY: nobody else has the object, whose memory from `filled` to `room` is lent.
        let written = unsafe {
            let place = ffi::PyBytes_AsString(self.object).cast::<u8>();
            let place = place.add(self.filled);
            let room = self.spare();
            with_lent(py, place, room, false, |lent| body(lent, room))??
        };
        self.filled += written.unwrap_or(0).min(self.spare());
        Ok(written)
    }

    /// The object, cut to the bytes that were filled in.
    pub fn finish(mut self, py: Python<'_>) -> Result<Obj, Raised> {
        self.resize(py, self.filled)?;
        let object = std::mem::replace(&mut self.object, std::ptr::null_mut());
        // SAFETY: the reference was ours and is given away.
        unsafe { Obj::from_owned(object) }
    }

    fn resize(&mut self, _py: Python<'_>, room: usize) -> Result<(), Raised> {
        // SAFETY: the only reference to the object is ours; CPython leaves null if it fails.
        done(unsafe { _PyBytes_Resize(&mut self.object, room as ffi::Py_ssize_t) })?;
        self.room = room;
        Ok(())
    }
}

impl Drop for BytesBuilder {
    fn drop(&mut self) {
        // SAFETY: null or a reference of ours; the thread is attached, as a builder does not
        // leave the function that has a token.
        unsafe { ffi::Py_XDECREF(self.object) }
    }
}
