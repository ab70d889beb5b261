//! What ThreadSanitizer has to be told.
//!
//! The interpreter is not instrumented, so the sanitizer sees neither CPython's locks nor the counts
//! that it keeps. A build with `cfg(aioxide_tsan)` tells it where a thread enters and leaves a domain,
//! and where an object goes from one thread to another. CPython suspends a stay in a domain when it
//! is called; so a thread publishes what it has done before each call. In other builds nothing of
//! this does anything.

#[cfg(all(aioxide_tsan, Py_GIL_DISABLED))]
unsafe extern "C" {
    /// What other threads have released at the address comes before what follows here.
    fn __tsan_acquire(address: *mut std::ffi::c_void);
    /// What was done here comes before what threads do that acquire the address later.
    fn __tsan_release(address: *mut std::ffi::c_void);
}

/// The thread has what is at the address now.
#[cfg(Py_GIL_DISABLED)]
#[inline(always)]
pub(crate) fn acquired<T>(address: *const T) {
    #[cfg(all(aioxide_tsan, Py_GIL_DISABLED))]
    // SAFETY: the sanitizer only looks at the address.
    unsafe {
        __tsan_acquire(address.cast_mut().cast());
    }
    #[cfg(not(all(aioxide_tsan, Py_GIL_DISABLED)))]
    let _ = address;
}

/// Another thread may have what is at the address from now on.
#[inline(always)]
pub(crate) fn released<T>(address: *const T) {
    #[cfg(all(aioxide_tsan, Py_GIL_DISABLED))]
    // SAFETY: as above.
    unsafe {
        __tsan_release(address.cast_mut().cast());
    }
    #[cfg(not(all(aioxide_tsan, Py_GIL_DISABLED)))]
    let _ = address;
}
