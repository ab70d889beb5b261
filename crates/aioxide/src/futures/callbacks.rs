//! The waiters of a Future are called when it is done.

use cpython::{Obj, Raised, Ref};

use super::future::Future;
use super::waiters::Waiter;
use crate::event_loop::EventLoop;
use crate::handles::{Callback, Entry, served};
use crate::interop::asyncio;

impl Waiter {
    /// A callable that gets the Future.
    pub(crate) fn function(function: Obj, context: Obj) -> Waiter {
        Waiter::Function(function, context)
    }

    /// A native Task that awaits it.
    #[inline]
    pub(crate) fn task(task: Obj) -> Waiter {
        Waiter::Task(task)
    }

    /// The callable and its context, as the future's property `_callbacks` shows them.
    pub(super) fn show(&self, future: &Obj) -> Result<(Obj, Obj), Raised> {
        match self {
            Waiter::Function(function, context) => Ok((function.clone(), context.clone())),
            Waiter::Task(task) => {
                let name = pyo3::intern!(task.py(), "_wakeup_and_context");
                let pair = task.attr(name)?;
                match (pair.tuple_item(0), pair.tuple_item(1)) {
                    (Some(wakeup), Some(context)) => Ok((wakeup, context)),
                    _ => Err(Raised::runtime_error(task.py(), "a task without wake-up")),
                }
            }
            Waiter::Watcher(watcher) => {
                let context = cpython::context::copy_current(watcher.py())?;
                Ok((served::callable_of(watcher, future)?, context))
            }
        }
    }

    fn matches(&self, function: &Obj, future: &Obj) -> Result<bool, Raised> {
        match self {
            Waiter::Function(own, _) => own.equals(function),
            Waiter::Task(_) | Waiter::Watcher(_) => self.show(future)?.0.equals(function),
        }
    }

    /// Schedules the call of the callable or of the watcher, or the task's wake-up.
    #[inline]
    pub(super) fn schedule(self, future: &Ref<Future>, value: &Future) -> Result<(), Raised> {
        let Some(event_loop) = value.event_loop() else {
            return Ok(());
        };
        if let Some(native) = Ref::<EventLoop>::of(&event_loop) {
            if EventLoop::is_fast(native) {
                match self {
                    Waiter::Task(task) => EventLoop::schedule(native, Entry::task(task)),
                    Waiter::Function(function, context) => {
                        let argument = future.as_obj().clone();
                        let callback = Callback::with_argument(function, argument);
                        EventLoop::push_call(native, callback, context.not_none())?;
                    }
                    Waiter::Watcher(ref watcher) => {
                        if let Some(counting) = served::counting(watcher.class_address()) {
                            (counting.expect_done)(watcher);
                        }
                        value.keep_waiter(self);
                        EventLoop::schedule(native, Entry::notify(future.as_obj().clone()));
                    }
                }
                return Ok(());
            }
        }
        self.schedule_through(&event_loop, future)
    }

    /// Schedules through the loop's own `call_soon`, as asyncio does.
    #[cold]
    fn schedule_through(self, event_loop: &Obj, future: &Ref<Future>) -> Result<(), Raised> {
        let py = future.py();
        let (function, context) = self.show(future.as_obj())?;
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
    /// Wakes a native Task that waits for the Future. `native` is its loop, if that is known.
    #[inline(always)]
    pub(super) fn wake(
        this: &Ref<Future>,
        value: &Future,
        task: Obj,
        native: Option<&Ref<EventLoop>>,
    ) -> Result<(), Raised> {
        if let Some(native) = native.filter(|native| EventLoop::is_fast(native)) {
            EventLoop::schedule(native, Entry::task(task));
            return Ok(());
        }
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

    /// Schedules the call of the only waiter, if it is a watcher and the loop takes the short ways.
    /// A watcher that has counted the Future at once needs no call. Returns whether the waiter is
    /// dealt with. `native` is the loop, if that is known.
    #[inline(never)]
    pub(super) fn notify_only_watcher(
        this: &Ref<Future>,
        value: &Future,
        native: Option<&Ref<EventLoop>>,
    ) -> bool {
        if !value.waiters.is_watcher() {
            return false;
        }
        if let Some(native) = native.filter(|native| EventLoop::is_fast(native)) {
            if !Future::is_counted(this, value) {
                EventLoop::schedule(native, Entry::notify(this.as_obj().clone()));
            }
            return true;
        }
        let Some(event_loop) = value.event_loop() else {
            return false;
        };
        match Ref::<EventLoop>::of(&event_loop) {
            Some(native) if EventLoop::is_fast(native) => {
                if !Future::is_counted(this, value) {
                    EventLoop::schedule(native, Entry::notify(this.as_obj().clone()));
                }
                true
            }
            _ => false,
        }
    }

    /// Whether the first waiter, a watcher, has counted the Future at once. Then it is removed.
    #[inline]
    fn is_counted(this: &Ref<Future>, value: &Future) -> bool {
        let Some(counting) = served::counting(value.waiters.class_address()) else {
            return false;
        };
        let Some(watcher) = value.waiters.take_watcher() else {
            return false;
        };
        let counted = (counting.count)(&watcher, this.as_obj());
        if !counted {
            value.waiters.set(Waiter::Watcher(watcher));
        }
        counted
    }

    /// Calls a native object when the Future is done; soon if it is.
    #[inline(always)]
    pub(crate) fn add_watcher(this: &Ref<Future>, watcher: &Obj) -> Result<(), Raised> {
        let value: &Future = this;
        if value.is_pending() && value.waiters.is_free() {
            value.waiters.set(Waiter::Watcher(watcher.clone()));
            return Ok(());
        }
        Future::add_waiter(this, Waiter::Watcher(watcher.clone()))
    }

    /// Removes the watcher, unless its call is scheduled already.
    pub(crate) fn remove_watcher(&self, watcher: &Obj) {
        if !self.is_pending() {
            return;
        }
        if self.waiters.watches(watcher) {
            drop(self.waiters.take());
            self.move_up();
        } else if let Some(fields) = self.waiters.rare() {
            let all = fields.more.take();
            let (own, others) = all
                .into_iter()
                .partition::<Vec<Waiter>, _>(|waiter| waiter.is_watcher(watcher));
            fields.more.set(others);
            drop(own);
        }
    }

    /// The first of the watchers whose calls are scheduled. They stay with the Future, which is done
    /// and has no other use for the field.
    #[inline]
    pub(super) fn take_told(&self) -> Option<Obj> {
        if self.is_pending() {
            return None;
        }
        let watcher = self.waiters.take_watcher()?;
        if self.waiters.rare().is_some() {
            self.move_up();
        }
        Some(watcher)
    }

    /// Moves the second waiter to the free place of the first.
    #[inline(never)]
    fn move_up(&self) {
        let Some(fields) = self.waiters.rare() else {
            return;
        };
        let mut more = fields.more.take();
        if !more.is_empty() {
            self.waiters.set(more.remove(0));
        }
        fields.more.set(more);
    }

    /// Appends a waiter.
    #[inline]
    pub(super) fn keep_waiter(&self, waiter: Waiter) {
        if self.waiters.is_free() {
            self.waiters.set(waiter);
        } else {
            self.keep_another_waiter(waiter);
        }
    }

    #[inline(never)]
    fn keep_another_waiter(&self, waiter: Waiter) {
        let fields = self.waiters.make_rare();
        let mut more = fields.more.take();
        more.push(waiter);
        fields.more.set(more);
    }

    /// Takes out all waiters but the first, in order.
    #[inline]
    pub(super) fn take_other_waiters(&self) -> Option<Vec<Waiter>> {
        self.waiters.rare().map(|fields| fields.more.take())
    }

    /// Copies of all waiters, in order.
    pub(super) fn waiters(&self) -> Vec<Waiter> {
        if !self.is_pending() {
            return Vec::new();
        }
        let mut all: Vec<Waiter> = self.waiters.get().into_iter().collect();
        if let Some(fields) = self.waiters.rare() {
            let more = fields.more.take();
            all.extend(more.iter().cloned());
            fields.more.set(more);
        }
        all
    }

    /// Removes the waiters that equal the function. Returns how many they were.
    pub(super) fn remove_waiters(this: &Ref<Future>, function: &Obj) -> Result<usize, Raised> {
        let mut kept = Vec::new();
        let mut removed = 0;
        // Comparing runs foreign code, which may look at the waiters, so they stay in place.
        for waiter in this.waiters() {
            if waiter.matches(function, this.as_obj())? {
                removed += 1;
            } else {
                kept.push(waiter);
            }
        }
        if removed > 0 {
            let old = (this.waiters.take(), this.take_other_waiters());
            for waiter in kept {
                this.keep_waiter(waiter);
            }
            drop(old);
        }
        Ok(removed)
    }
}
