//! Who is told when a Future is done.

use std::cell::Cell;

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

#[allow(clippy::box_collection)]
type More = Box<Vec<Waiter>>;

/// The waiters of one Future: the first inline, more of them in a vector of their own, which is
/// boxed because few Futures have one and each would pay for its three words.
#[derive(Default)]
pub(super) struct Callbacks {
    target: Slot,
    context: Slot,
    more: Cell<Option<More>>,
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

    fn matches(&self, function: &Obj) -> Result<bool, Raised> {
        match &self.context {
            Some(_) => self.target.equals(function),
            None => self.show()?.0.equals(function),
        }
    }

    /// Schedules the call, or the task's wake-up.
    #[inline]
    pub(super) fn schedule(self, future: &Ref<Future>) -> Result<(), Raised> {
        let Some(event_loop) = future.event_loop() else {
            return Ok(());
        };
        if let Some(native) = event_loop.of() {
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
        self.schedule_through(event_loop.as_obj(), future)
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

impl Callbacks {
    /// Appends one.
    #[inline]
    pub(super) fn add(&self, waiter: Waiter) {
        let more = self.more.take();
        if more.is_none() && self.target.is_none() {
            self.context.set(waiter.context);
            self.target.set(Some(waiter.target));
            return;
        }
        let mut more = more.unwrap_or_default();
        more.push(waiter);
        self.more.set(Some(more));
    }

    /// Takes all, in order.
    #[inline]
    pub(super) fn take(&self) -> (Option<Waiter>, Option<More>) {
        let first = self.target.take().map(|target| Waiter {
            target,
            context: self.context.take(),
        });
        (first, self.more.take())
    }

    /// Copies of all, in order.
    pub(super) fn all(&self) -> Vec<Waiter> {
        let mut all: Vec<Waiter> = self
            .target
            .get()
            .map(|target| Waiter {
                target,
                context: self.context.get(),
            })
            .into_iter()
            .collect();
        let more = self.more.take();
        all.extend(more.iter().flat_map(|more| more.iter().cloned()));
        self.more.set(more);
        all
    }

    /// Removes those that equal the function; returns how many.
    pub(super) fn remove(&self, function: &Obj) -> Result<usize, Raised> {
        let mut kept = Vec::new();
        let mut removed = 0;
        // Comparing runs foreign code, which may look at the callbacks: they stay in place.
        for waiter in self.all() {
            if waiter.matches(function)? {
                removed += 1;
            } else {
                kept.push(waiter);
            }
        }
        if removed > 0 {
            let old = self.take();
            for waiter in kept {
                self.add(waiter);
            }
            drop(old);
        }
        Ok(removed)
    }

    pub(super) fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.target);
        visit.slot(&self.context);
        let more = self.more.take();
        for waiter in more.iter().flat_map(|more| more.iter()) {
            visit.object(&waiter.target);
            if let Some(context) = &waiter.context {
                visit.object(context);
            }
        }
        self.more.set(more);
    }
}
