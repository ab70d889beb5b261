//! `_ThreadSafeHandle`, of 3.14 and later: other threads may query and cancel it at any time.
//!
//! While its callback runs, `cancel()` and `cancelled()` of other threads wait for the end, as they
//! do in asyncio by a lock. Here no call pays for a lock until a thread has to wait.

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use cpython::build::Builder;
use cpython::context::{BoundContext, Pool};
use cpython::{Hot, Obj, Python, Raised, Ref, Visit};

use super::handle::{Callback, Handle, LeftContext};
use crate::interop::EndsProgram;

/// Whether the callback has ended, and the condition on which threads wait for that.
type CallbackEnd = (Mutex<bool>, Condvar);

/// The value of a thread-safe handle, behind that of its Handle.
#[derive(Default)]
pub(crate) struct ThreadSafeHandle {
    /// The thread that runs the callback, as [`this_thread`] says it.
    running: Cell<Option<NonZeroUsize>>,
    /// Made by the first thread that waits.
    end: RefCell<Option<Arc<CallbackEnd>>>,
}

/// A number that no other thread that lives has: the address of something of the thread's own.
#[inline]
fn this_thread() -> Option<NonZeroUsize> {
    thread_local!(static OWN: Cell<u8> = const { Cell::new(0) });
    NonZeroUsize::new(OWN.with(|own| std::ptr::from_ref(own) as usize))
}

impl ThreadSafeHandle {
    /// Makes a handle that the loop is about to schedule.
    #[inline]
    pub(crate) fn create(
        py: Python<'_>,
        event_loop: &Obj,
        callback: Callback,
        context: BoundContext,
    ) -> Result<Ref<ThreadSafeHandle>, Raised> {
        let handle = Handle::value(event_loop, callback, context);
        Ref::with_parent(py, || handle, ThreadSafeHandle::default)
    }

    /// Runs the callback, as [`Handle::run`].
    pub(super) fn run(
        this: &Ref<ThreadSafeHandle>,
        contexts: &Pool,
    ) -> Result<LeftContext, EndsProgram> {
        this.running.set(this_thread());
        let result = Handle::run(this.parent(), contexts);
        this.running.set(None);
        if let Some(end) = this.end.take() {
            *end.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            end.1.notify_all();
        }
        result
    }

    /// Waits, without the GIL, while another thread runs the callback.
    fn wait(this: &Ref<ThreadSafeHandle>) {
        while this
            .running
            .get()
            .is_some_and(|runner| Some(runner) != this_thread())
        {
            let end = this.end.borrow_mut().get_or_insert_default().clone();
            cpython::domain::before_wait(this.py());
            this.py().detach(|| {
                let mut ended = end.0.lock().unwrap_or_else(PoisonError::into_inner);
                while !*ended {
                    ended = end.1.wait(ended).unwrap_or_else(PoisonError::into_inner);
                }
            });
        }
    }
}

impl Hot for ThreadSafeHandle {
    type Parent = Handle;
    const NAME: &'static std::ffi::CStr = c"aioxide._aioxide._ThreadSafeHandle";
    const DOC: &'static std::ffi::CStr = c"Object returned by call_soon_threadsafe().";
    const FREELIST: usize = 2048;
    /// Where the value lies behind the slots of the base, a program can make a cycle through these.
    const TRACKED: bool = cfg!(Py_GIL_DISABLED);
    const FINALIZES: bool = false;
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        builder
            .new_values(|_| Ok((Handle::default(), ThreadSafeHandle::default())))
            .method0(
                c"cancel",
                c"cancel($self, /)\n--\n\nDo not run the callback; waits while it runs in another thread.",
                |this| {
                    ThreadSafeHandle::wait(this);
                    Handle::cancel(this.parent())
                },
            )
            .method0(
                c"cancelled",
                c"cancelled($self, /)\n--\n\nWhether the callback was cancelled; waits while it runs in another thread.",
                |this| {
                    ThreadSafeHandle::wait(this);
                    this.parent().is_cancelled()
                },
            );
    }

    fn traverse(&self, _: &mut Visit<'_>) {}

    fn clear(&self) {}
}
