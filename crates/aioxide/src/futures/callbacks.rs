//! Who is told when a Future is done.

use cpython::{Obj, Raised, Ref, Slot, Visit};

use super::future::Future;
use crate::event_loop::EventLoop;
use crate::handles::{Callback, Entry};
use crate::interop::asyncio;

/// One who waits for a Future.
#[derive(Clone)]
pub(crate) struct Waiter {
    /// A Python callable, or a native Task.
    target: Obj,
    /// The callable's context; none marks a native Task, which has its own.
    context: Option<Obj>,
}

/// The first waiter of a Future, or none; few Futures have more.
#[derive(Default)]
pub(super) struct FirstWaiter {
    target: Slot,
    context: Slot,
}

impl FirstWaiter {
    #[inline]
    pub(super) fn take(&self) -> Option<Waiter> {
        self.target.take().map(|target| Waiter {
            target,
            context: self.context.take(),
        })
    }

    /// Takes it if it is a native Task.
    #[inline]
    pub(super) fn take_task(&self) -> Option<Obj> {
        if self.context.is_some() {
            return None;
        }
        self.target.take()
    }

    /// Whether nobody is it yet.
    #[inline]
    pub(super) fn is_free(&self) -> bool {
        self.target.is_none()
    }

    /// Makes a native Task the first.
    #[inline]
    pub(super) fn set_task(&self, task: Obj) {
        self.target.set(Some(task));
    }

    #[inline]
    fn set(&self, waiter: Waiter) {
        self.context.set(waiter.context);
        self.target.set(Some(waiter.target));
    }

    fn get(&self) -> Option<Waiter> {
        self.target.get().map(|target| Waiter {
            target,
            context: self.context.get(),
        })
    }

    pub(super) fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.target);
        visit.slot(&self.context);
    }
}

impl Waiter {
    /// A callable that gets the Future.
    pub(crate) fn function(function: Obj, context: Obj) -> Waiter {
        Waiter {
            target: function,
            context: Some(context),
        }
    }

    /// A native Task that awaits it.
    #[inline]
    pub(crate) fn task(task: Obj) -> Waiter {
        Waiter {
            target: task,
            context: None,
        }
    }

    /// As the property `_callbacks` shows it: the callable and its context.
    pub(super) fn show(&self) -> Result<(Obj, Obj), Raised> {
        match &self.context {
            Some(context) => Ok((self.target.clone(), context.clone())),
            None => {
                let name = pyo3::intern!(self.target.py(), "_wakeup_and_context");
                let pair = self.target.attr(name)?;
                match (pair.tuple_item(0), pair.tuple_item(1)) {
                    (Some(wakeup), Some(context)) => Ok((wakeup, context)),
                    _ => Err(Raised::runtime_error(
                        self.target.py(),
                        "a task without wake-up",
                    )),
                }
            }
        }
    }

    pub(super) fn visit(&self, visit: &mut Visit<'_>) {
        visit.object(&self.target);
        if let Some(context) = &self.context {
            visit.object(context);
        }
    }

    fn matches(&self, function: &Obj) -> Result<bool, Raised> {
        match &self.context {
            Some(_) => self.target.equals(function),
            None => self.show()?.0.equals(function),
        }
    }

    /// Schedules the call, or the task's wake-up.
    #[inline]
    pub(super) fn schedule(self, future: &Ref<Future>, value: &Future) -> Result<(), Raised> {
        let Some(event_loop) = value.event_loop() else {
            return Ok(());
        };
        if let Some(native) = Ref::<EventLoop>::of(&event_loop) {
            if EventLoop::is_fast(native) {
                match self.context {
                    None => EventLoop::schedule(native, Entry::task(self.target)),
                    Some(context) => {
                        let argument = future.as_obj().clone();
                        let callback = Callback::with_argument(self.target, argument);
                        EventLoop::push_call(native, callback, Some(context))?;
                    }
                }
                return Ok(());
            }
        }
        self.schedule_through(&event_loop, future)
    }

    /// Through the loop's own `call_soon`, as asyncio does it.
    #[cold]
    fn schedule_through(self, event_loop: &Obj, future: &Ref<Future>) -> Result<(), Raised> {
        let py = future.py();
        let (function, context) = self.show()?;
        let names = asyncio(py).context_name.get(py);
        event_loop
            .method_named(
                pyo3::intern!(py, "call_soon"),
                &[&function, future.as_obj(), &context],
                Some(names),
            )
            .map(drop)
    }
}

impl Future {
    /// Wakes a native Task that waits for the Future.
    #[inline(always)]
    pub(super) fn wake(this: &Ref<Future>, value: &Future, task: Obj) -> Result<(), Raised> {
        let Some(event_loop) = value.event_loop() else {
            return Ok(());
        };
        match Ref::<EventLoop>::of(&event_loop) {
            Some(native) if EventLoop::is_fast(native) => {
                EventLoop::schedule(native, Entry::task(task));
                Ok(())
            }
            _ => Waiter::task(task).schedule_through(&event_loop, this),
        }
    }

    /// Appends one to those who wait.
    #[inline]
    pub(super) fn keep_waiter(&self, waiter: Waiter) {
        if self.first.target.is_none() {
            self.first.set(waiter);
        } else {
            self.keep_another_waiter(waiter);
        }
    }

    #[inline(never)]
    fn keep_another_waiter(&self, waiter: Waiter) {
        let fields = self.rare.make();
        let mut more = fields.more.take();
        more.push(waiter);
        fields.more.set(more);
    }

    /// Takes all who wait but the first, in order.
    #[inline]
    pub(super) fn take_other_waiters(&self) -> Option<Vec<Waiter>> {
        self.rare.get().map(|fields| fields.more.take())
    }

    /// Copies of all who wait, in order.
    pub(super) fn waiters(&self) -> Vec<Waiter> {
        let mut all: Vec<Waiter> = self.first.get().into_iter().collect();
        if let Some(fields) = self.rare.get() {
            let more = fields.more.take();
            all.extend(more.iter().cloned());
            fields.more.set(more);
        }
        all
    }

    /// Removes those who equal the function; returns how many.
    pub(super) fn remove_waiters(&self, function: &Obj) -> Result<usize, Raised> {
        let mut kept = Vec::new();
        let mut removed = 0;
        // Comparing runs foreign code, which may look at the waiters: they stay in place.
        for waiter in self.waiters() {
            if waiter.matches(function)? {
                removed += 1;
            } else {
                kept.push(waiter);
            }
        }
        if removed > 0 {
            let old = (self.first.take(), self.take_other_waiters());
            for waiter in kept {
                self.keep_waiter(waiter);
            }
            drop(old);
        }
        Ok(removed)
    }
}
