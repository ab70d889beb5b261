//! What callbacks leave behind and others of the same loop can use: handles that have run and
//! nobody else refers to, and contexts.
//!
//! Most handles are dropped by the program at once. Making and freeing such a handle with its
//! context is a third of what `call_soon` costs. A handle is kept only if nobody could tell it
//! from a new one, and only while the loop runs.

use std::cell::RefCell;

use cpython::context::Pool;
use cpython::{Obj, Python, Raised, Ref, Visit};

use super::handle::Handle;
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
            Some(context) => handle.set_context(context),
            None if handle.has_context() && self.contexts.is_current(py) => {}
            None => handle.set_context(self.contexts.copy_current(py)?),
        }
        Ok(())
    }

    /// Keeps a handle that has run, with its context, if they are as good as new.
    #[inline]
    pub(super) fn keep_handle(&self, handle: Ref<Handle>, context: Obj) {
        if handle.is_unshared() && handle.is_blank() {
            let mut handles = self.handles.borrow_mut();
            if handles.len() < KEPT && self.contexts.is_fresh(&context) {
                handle.set_context(context);
                handles.push(handle);
                return;
            }
        }
        self.contexts.give_back(context);
    }

    /// As [`Spares::keep_handle`].
    #[inline]
    pub(super) fn keep_timer(&self, timer: Ref<TimerHandle>, context: Obj) {
        if timer.is_unshared() && timer.parent().is_blank() {
            let mut timers = self.timers.borrow_mut();
            if timers.len() < KEPT && self.contexts.is_fresh(&context) {
                timer.parent().set_context(context);
                timers.push(timer);
                return;
            }
        }
        self.contexts.give_back(context);
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
