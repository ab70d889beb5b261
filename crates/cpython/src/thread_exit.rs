//! Stops threads that CPython would end at the interpreter's end.
//!
//! Before 3.14, `pthread_exit()` ends a daemon thread that asks for the GIL after the main thread
//! has begun to finalise the interpreter. The call comes from deep within CPython. glibc ends the
//! thread by unwinding its stack, through our frames too, and their destructors would then give
//! references back without the GIL. So a thread that is about to run Python code under frames of
//! ours registers a handler that stops it instead, as 3.14 does with every thread: it waits until
//! the process is gone.
//!
//! glibc runs the handlers of its older interface before it unwinds a frame above them. "Above" is
//! a comparison of addresses, and nothing outside the thread's stack is above any of its frames: a
//! handler on the heap is called before the first frame is touched.

/// Lets the calling thread stop at the interpreter's end instead of being unwound. A second call
/// costs little.
#[inline]
pub fn stop_at_exit() {
    #[cfg(all(not(Py_3_14), target_os = "linux", target_env = "gnu"))]
    unwound::ask();
}

#[cfg(all(not(Py_3_14), target_os = "linux", target_env = "gnu"))]
mod unwound {
    use std::cell::OnceCell;
    use std::ffi::{c_int, c_void};
    use std::ptr;
    use std::time::Duration;

    thread_local! {
        static HANDLER: OnceCell<Handler> = const { OnceCell::new() };
    }

    pub(super) fn ask() {
        // A thread whose variables are gone already runs no Python code any more.
        let _ = HANDLER.try_with(|handler| {
            handler.get_or_init(Handler::push);
        });
    }

    /// glibc's `struct _pthread_cleanup_buffer`.
    #[repr(C)]
    struct Buffer {
        routine: extern "C" fn(*mut c_void),
        argument: *mut c_void,
        cancel_type: c_int,
        previous: *mut Buffer,
    }

    /// A registered handler, which lasts as long as its thread.
    struct Handler(*mut Buffer);

    impl Handler {
        fn push() -> Handler {
            let buffer = Box::into_raw(Box::new(Buffer {
                routine: stop,
                argument: ptr::null_mut(),
                cancel_type: 0,
                previous: ptr::null_mut(),
            }));
            // SAFETY: glibc fills the buffer and refers to it until the thread has called its
            // handlers; we keep it until the thread's variables go, which is after that.
            unsafe { _pthread_cleanup_push(buffer, stop, ptr::null_mut()) };
            Handler(buffer)
        }
    }

    impl Drop for Handler {
        fn drop(&mut self) {
            // SAFETY: it came from a Box, and handlers are called no more (see push).
            drop(unsafe { Box::from_raw(self.0) });
        }
    }

    /// Called when the thread is about to end by other means than returning.
    extern "C" fn stop(_: *mut c_void) {
        // SAFETY: it reads one variable of the runtime, from any thread.
        while unsafe { is_finalizing() } != 0 {
            std::thread::sleep(Duration::from_secs(3600));
        }
    }

    // SAFETY: glibc and CPython export them with these signatures.
    unsafe extern "C" {
        fn _pthread_cleanup_push(
            buffer: *mut Buffer,
            routine: extern "C" fn(*mut c_void),
            argument: *mut c_void,
        );
        #[cfg_attr(Py_3_13, link_name = "Py_IsFinalizing")]
        #[cfg_attr(not(Py_3_13), link_name = "_Py_IsFinalizing")]
        fn is_finalizing() -> c_int;
    }
}
