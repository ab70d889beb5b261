//! Spare handles and contexts: callbacks leave them behind, and later ones of the same loop use
//! them again.
//!
//! The program drops most handles at once. Making and freeing such a handle with its context is a
//! third of the cost of `call_soon`. A handle is kept only if nothing else refers to it and no code
//! could tell it from a new one, and only while the loop runs.

use std::cell::RefCell;

use cpython::context::{BoundContext, Pool};
use cpython::{Hot, Obj, Python, Raised, Ref, Visit};

use super::handle::{Handle, LeftContext};
use super::thread_safe_handle::ThreadSafeHandle;
use super::timer_handle::TimerHandle;

/// The number of handles of a kind that are kept at most.
const KEPT: usize = 4096;

/// The number of freed handles of a kind whose memory is given back at a time, which takes about
/// 50 microseconds.
const GIVEN_BACK_AT_ONCE: usize = 1024;

/// The spares of one loop.
#[derive(Default)]
pub(crate) struct Spares {
    /// Contexts for handles and tasks.
    pub(crate) contexts: Pool,
    handles: RefCell<Vec<Ref<Handle>>>,
    timers: RefCell<Vec<Ref<TimerHandle>>>,
    thread_safe: RefCell<Vec<Ref<ThreadSafeHandle>>>,
}

impl Spares {
    /// Keeps handles and contexts from now on, because the loop begins to run.
    pub(crate) fn begin(&self, py: Python<'_>) -> Result<(), Raised> {
        self.end();
        self.contexts.begin(py)
    }

    /// Releases everything.
    pub(crate) fn end(&self) {
        self.contexts.end();
        let (handles, timers) = (self.handles.take(), self.timers.take());
        drop((handles, timers, self.thread_safe.take()));
    }

    /// Gives back some of the memory that a burst of handles has left behind, because the loop is
    /// about to wait. Returns whether there is more of it.
    #[inline]
    pub(crate) fn trim(py: Python<'_>) -> bool {
        let handles = cpython::freelist::trim::<Handle>(py, GIVEN_BACK_AT_ONCE);
        handles | cpython::freelist::trim::<TimerHandle>(py, GIVEN_BACK_AT_ONCE)
    }

    /// Gives back all memory that bursts of handles have left behind.
    pub(crate) fn trim_all(py: Python<'_>) {
        cpython::freelist::trim::<Handle>(py, usize::MAX);
        cpython::freelist::trim::<TimerHandle>(py, usize::MAX);
    }

    /// A spare handle, if there is one.
    #[inline]
    pub(crate) fn take_handle(&self) -> Option<Ref<Handle>> {
        self.handles.borrow_mut().pop()
    }

    /// A spare timer handle, if there is one.
    #[inline]
    pub(crate) fn take_timer(&self) -> Option<Ref<TimerHandle>> {
        self.timers.borrow_mut().pop()
    }

    /// A spare thread-safe handle, if there is one.
    #[inline]
    pub(crate) fn take_thread_safe(&self) -> Option<Ref<ThreadSafeHandle>> {
        self.thread_safe.borrow_mut().pop()
    }

    /// Gives a spare handle its context: this one or a copy of the current one.
    #[inline]
    pub(crate) fn give_context(
        &self,
        py: Python<'_>,
        handle: &Handle,
        context: Option<Obj>,
    ) -> Result<(), Raised> {
        match context {
            Some(context) => handle.set_context(BoundContext::To(context)),
            None if self.contexts.is_current(py) => {}
            None => handle.set_context(self.contexts.bind_current(py)?),
        }
        Ok(())
    }

    /// The context, or the pool's stand-in for a copy of the current one.
    #[inline]
    pub(crate) fn bind(
        &self,
        py: Python<'_>,
        context: Option<Obj>,
    ) -> Result<BoundContext, Raised> {
        match context {
            Some(context) => Ok(BoundContext::To(context)),
            None => self.contexts.bind_current(py),
        }
    }

    /// Keeps a handle that has run, if it is as good as new.
    #[inline]
    pub(super) fn keep_handle(&self, handle: Ref<Handle>, left: LeftContext) {
        self.keep(&self.handles, handle, |handle| handle, left);
    }

    /// As [`Spares::keep_handle`].
    #[inline]
    pub(super) fn keep_timer(&self, timer: Ref<TimerHandle>, left: LeftContext) {
        self.keep(&self.timers, timer, |timer| timer.parent(), left);
    }

    /// As [`Spares::keep_handle`].
    #[inline]
    pub(super) fn keep_thread_safe(&self, handle: Ref<ThreadSafeHandle>, left: LeftContext) {
        self.keep(&self.thread_safe, handle, |handle| handle.parent(), left);
    }

    #[inline(always)]
    fn keep<T: Hot>(
        &self,
        kept: &RefCell<Vec<Ref<T>>>,
        object: Ref<T>,
        value: impl Fn(&Ref<T>) -> &Handle,
        left: LeftContext,
    ) {
        let handle = value(&object);
        let is_new = object.is_unshared() && handle.is_blank();
        let keep = is_new && kept.borrow().len() < KEPT;
        if keep && self.is_ready(handle, &left) || self.renews(handle, left, keep) {
            kept.borrow_mut().push(object);
        }
    }

    /// Takes the context of a handle that is not kept.
    pub(super) fn let_go(&self, handle: &Handle, left: LeftContext) {
        self.renews(handle, left, false);
    }

    /// Whether a handle that is to be kept is bound to the context that most new handles are
    /// bound to.
    #[inline(always)]
    fn is_ready(&self, handle: &Handle, left: &LeftContext) -> bool {
        matches!(left, LeftContext::Bound) && handle.is_anchored(&self.contexts)
    }

    /// Takes the context that a handle has left behind. A handle that is to be kept is bound to the
    /// context of most new handles. Returns whether that could be done.
    #[inline(never)]
    fn renews(&self, handle: &Handle, left: LeftContext, keep: bool) -> bool {
        let context = match left {
            LeftContext::Nothing => return false,
            LeftContext::Bound => {
                handle.forget_context();
                return false;
            }
            LeftContext::Context(context) => context,
        };
        self.contexts.give_back(context);
        let anchor = if keep { self.contexts.anchor() } else { None };
        let anchored = anchor.is_some();
        if let Some(anchor) = anchor {
            handle.set_context(BoundContext::ToCopyOf(anchor));
        }
        anchored
    }

    /// Shows the garbage collector the spare objects.
    pub(crate) fn visit(&self, visit: &mut Visit<'_>) {
        self.contexts.visit(visit);
        visit_kept(&self.handles, visit);
        visit_kept(&self.timers, visit);
        visit_kept(&self.thread_safe, visit);
    }
}

fn visit_kept<T: Hot>(kept: &RefCell<Vec<Ref<T>>>, visit: &mut Visit<'_>) {
    if let Ok(kept) = kept.try_borrow() {
        for object in kept.iter() {
            visit.object(object.as_obj());
            visit.inside(object);
        }
    }
}
