//! What callbacks leave behind and others of the same loop can use: handles that have run and
//! nobody else refers to, and contexts.
//!
//! Most handles are dropped by the program at once. Making and freeing such a handle with its
//! context is a third of what `call_soon` costs. A handle is kept only if nobody could tell it
//! from a new one, and only while the loop runs.

use std::cell::RefCell;

use cpython::context::{Bound, Pool};
use cpython::{Obj, Python, Raised, Ref, Visit};

use super::handle::{Handle, Left};
use super::timer_handle::TimerHandle;

/// The most handles of a kind that are kept.
const KEPT: usize = 4096;

/// The spares of one loop.
#[derive(Default)]
pub(crate) struct Spares {
    /// Contexts for handles and tasks.
    pub(crate) contexts: Pool,
    handles: RefCell<Vec<Ref<Handle>>>,
    timers: RefCell<Vec<Ref<TimerHandle>>>,
}

impl Spares {
    /// The loop begins to run: keeps what is left behind from now on.
    pub(crate) fn begin(&self, py: Python<'_>) -> Result<(), Raised> {
        self.end();
        self.contexts.begin(py)
    }

    /// Lets everything go.
    pub(crate) fn end(&self) {
        self.contexts.end();
        let (handles, timers) = (self.handles.take(), self.timers.take());
        drop((handles, timers));
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

    /// Gives a spare handle its context: this one or a copy of the current one.
    #[inline]
    pub(crate) fn give_context(
        &self,
        py: Python<'_>,
        handle: &Handle,
        context: Option<Obj>,
    ) -> Result<(), Raised> {
        match context {
            Some(context) => handle.set_context(Bound::To(context)),
            None if self.contexts.is_current(py) => {}
            None => handle.set_context(self.contexts.bind_current(py)?),
        }
        Ok(())
    }

    /// The context, or what stands for a copy of the current one.
    #[inline]
    pub(crate) fn bind(&self, py: Python<'_>, context: Option<Obj>) -> Result<Bound, Raised> {
        match context {
            Some(context) => Ok(Bound::To(context)),
            None => self.contexts.bind_current(py),
        }
    }

    /// Keeps a handle that has run, if it is as good as new.
    #[inline]
    pub(super) fn keep_handle(&self, handle: Ref<Handle>, left: Left) {
        let is_new = handle.is_unshared() && handle.is_blank();
        let keep = is_new && self.handles.borrow().len() < KEPT;
        if keep && self.is_ready(&handle, &left) || self.renews(&handle, left, keep) {
            self.handles.borrow_mut().push(handle);
        }
    }

    /// As [`Spares::keep_handle`].
    #[inline]
    pub(super) fn keep_timer(&self, timer: Ref<TimerHandle>, left: Left) {
        let handle: &Handle = timer.parent();
        let is_new = timer.is_unshared() && handle.is_blank();
        let keep = is_new && self.timers.borrow().len() < KEPT;
        if keep && self.is_ready(handle, &left) || self.renews(handle, left, keep) {
            self.timers.borrow_mut().push(timer);
        }
    }

    /// Takes what a handle has left behind that is not kept.
    pub(super) fn let_go(&self, handle: &Handle, left: Left) {
        self.renews(handle, left, false);
    }

    /// Whether a handle that is to be kept is bound to the context that most new handles are
    /// bound to.
    #[inline(always)]
    fn is_ready(&self, handle: &Handle, left: &Left) -> bool {
        matches!(left, Left::Bound) && handle.is_anchored(&self.contexts)
    }

    /// Takes what a handle has left behind. One that is to be kept is bound to that context; says
    /// whether that could be done.
    #[inline(never)]
    fn renews(&self, handle: &Handle, left: Left, keep: bool) -> bool {
        let context = match left {
            Left::Nothing => return false,
            Left::Bound => {
                handle.forget_context();
                return false;
            }
            Left::Context(context) => context,
        };
        self.contexts.give_back(context);
        let anchor = if keep { self.contexts.anchor() } else { None };
        let anchored = anchor.is_some();
        if let Some(anchor) = anchor {
            handle.set_context(Bound::ToCopyOf(anchor));
        }
        anchored
    }

    /// Shows the garbage collector what they hold.
    pub(crate) fn visit(&self, visit: &mut Visit<'_>) {
        self.contexts.visit(visit);
        if let Ok(handles) = self.handles.try_borrow() {
            for handle in handles.iter() {
                visit.object(handle.as_obj());
                visit.inside(handle);
            }
        }
        if let Ok(timers) = self.timers.try_borrow() {
            for timer in timers.iter() {
                visit.object(timer.as_obj());
                visit.inside(timer);
            }
        }
    }
}
