//! Critical sections: what the GIL was to one object.

use crate::obj::Obj;

/// Calls `body` while no other thread is in a critical section of the object. CPython changes dicts,
/// lists and sets within theirs. Where `body` waits or runs Python code, others may enter meanwhile.
/// With the GIL there is nothing to do.
#[inline(always)]
pub(crate) fn locked<R>(object: &Obj, body: impl FnOnce() -> R) -> R {
    #[cfg(Py_GIL_DISABLED)]
    {
        use std::mem::MaybeUninit;

        use pyo3::ffi;

        /// Ends the section, also if the body panics.
        struct Entered<'a>(&'a mut MaybeUninit<ffi::PyCriticalSection>);

        impl Drop for Entered<'_> {
            fn drop(&mut self) {
                // SAFETY: begun in this thread, and what was begun later has ended.
                unsafe { ffi::PyCriticalSection_End(self.0.as_mut_ptr()) }
            }
        }

        let mut place = MaybeUninit::uninit();
        // SAFETY: the object is alive and the thread attached. The section stays where it is until
        // it has ended.
        unsafe { ffi::PyCriticalSection_Begin(place.as_mut_ptr(), object.as_ptr()) };
        let _entered = Entered(&mut place);
        body()
    }
    #[cfg(not(Py_GIL_DISABLED))]
    {
        let _ = object;
        body()
    }
}
