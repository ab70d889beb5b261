//! The value of a Task; making, cancelling and ending one.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use cpython::build::{MethodDef, bound_method};
use cpython::{Known, Obj, Raised, Ref, Slot, Visit, context};
use pyo3::types::{PyAnyMethods, PyTypeMethods};

use crate::event_loop::EventLoop;
use crate::futures::{Future, State, mirror};
use crate::handles::Entry;
use crate::interop::asyncio;

/// The value of a Task, behind that of its Future.
#[derive(Default)]
pub(crate) struct Task {
    pub(super) coro: Slot,
    pub(super) context: Slot,
    /// What it waits on.
    pub(super) waiter: Slot<Known<Future>>,
    /// The exception that the next step throws, if it was scheduled with one.
    pub(super) error: Slot,
    name: Slot,
    /// The number in a name nobody has asked for yet.
    number: Cell<u64>,
    pub(super) must_cancel: Cell<bool>,
    pub(super) log_destroy_pending: Cell<bool>,
    pub(super) cancel_requests: Cell<u32>,
}

/// Numbers of the names Task-1, Task-2, …, process-wide as asyncio's.
static NUMBER: AtomicU64 = AtomicU64::new(1);

impl Task {
    /// A new Task of a native loop that takes the short ways, scheduled for its first step.
    #[inline]
    pub(crate) fn create(
        event_loop: &Ref<EventLoop>,
        coro: &Obj,
        name: Option<Obj>,
        task_context: Option<Obj>,
    ) -> Result<Ref<Task>, Raised> {
        let py = event_loop.py();
        let context = match task_context {
            Some(context) => {
                check_context(&context)?;
                context
            }
            None => context::copy_current(py)?,
        };
        let value = Task {
            coro: Slot::new(Some(coro.clone())),
            context: Slot::new(Some(context)),
            log_destroy_pending: Cell::new(true),
            ..Task::default()
        };
        let future = Future::value(Known::from(event_loop.clone()));
        let task = Ref::with_parent(py, future, value)?;
        task.begin_name(&task, name)?;
        EventLoop::schedule(event_loop, Entry::task(task.as_obj().clone()));
        Task::register(&task, event_loop.as_obj())?;
        Ok(task)
    }

    /// What `__init__` does.
    pub(crate) fn init(
        this: &Ref<Task>,
        coro: &Obj,
        event_loop: Option<Obj>,
        name: Option<Obj>,
        task_context: Option<Obj>,
        eager_start: bool,
    ) -> Result<(), Raised> {
        let py = this.py();
        Future::init(this.parent(), event_loop)?;
        this.log_destroy_pending.set(false);
        if !is_coroutine(coro)? {
            let text = format!("a coroutine was expected, got {}", coro.repr()?.as_str()?);
            return Err(Raised::type_error(py, &text));
        }
        let context = match task_context.and_then(Obj::not_none) {
            Some(context) => {
                check_context(&context)?;
                context
            }
            None => context::copy_current(py)?,
        };
        this.context.set(Some(context));
        this.waiter.set(None);
        this.error.set(None);
        this.must_cancel.set(false);
        this.cancel_requests.set(0);
        this.log_destroy_pending.set(true);
        this.coro.set(Some(coro.clone()));
        this.begin_name(this, name)?;
        let Some(event_loop) = this.parent().event_loop() else {
            return Ok(());
        };
        if eager_start {
            let is_running = pyo3::intern!(py, "is_running");
            if event_loop.as_obj().method(is_running, &[])?.truth()? {
                return super::step::start_eagerly(this, event_loop.as_obj());
            }
        }
        Task::schedule_step(this, None)?;
        Task::register(this, event_loop.as_obj())
    }

    fn begin_name(&self, this: &Ref<Task>, name: Option<Obj>) -> Result<(), Raised> {
        match name.and_then(Obj::not_none) {
            None => {
                let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                self.number.set(number);
                self.name.set(None);
                if let Some(mirror) = mirror(this.py()) {
                    mirror.set_name(this.parent(), Obj::int(this.py(), number as i64)?);
                }
                Ok(())
            }
            Some(name) => Task::set_name(this, &name),
        }
    }

    /// `set_name(value)`.
    pub(super) fn set_name(this: &Ref<Task>, name: &Obj) -> Result<(), Raised> {
        let name = if name.is_str_exact() {
            name.clone()
        } else {
            name.str_of()?
        };
        if let Some(mirror) = mirror(this.py()) {
            mirror.set_name(this.parent(), name.clone());
        }
        this.name.set(Some(name));
        Ok(())
    }

    /// `get_name()`.
    pub(super) fn name(this: &Ref<Task>) -> Result<Obj, Raised> {
        if let Some(name) = this.name.get() {
            return Ok(name);
        }
        let name = Obj::str(this.py(), &format!("Task-{}", this.number.get()))?;
        this.name.set(Some(name.clone()));
        Ok(name)
    }

    /// Makes it known to `all_tasks()`.
    #[inline]
    pub(super) fn register(this: &Ref<Task>, event_loop: &Obj) -> Result<(), Raised> {
        let py = this.py();
        if let Some(mirror) = mirror(py) {
            if let Some(coro) = this.coro.get() {
                mirror.begin(this.parent(), event_loop, &coro);
            }
            mirror.link(this.parent());
            return Ok(());
        }
        let name = pyo3::intern!(py, "_register_task");
        asyncio(py)
            .accelerator
            .get(py)
            .method(name, &[this.as_obj()])
            .map(drop)
    }

    /// Schedules a step that throws the exception, if there is one.
    #[inline]
    pub(super) fn schedule_step(this: &Ref<Task>, error: Option<Obj>) -> Result<(), Raised> {
        let Some(event_loop) = this.parent().event_loop() else {
            return Ok(());
        };
        if let Some(native) = event_loop.of() {
            if EventLoop::is_fast(native) {
                this.error.set(error);
                EventLoop::schedule(native, Entry::task(this.as_obj().clone()));
                return Ok(());
            }
        }
        let py = this.py();
        let step = Task::step_method(this)?;
        let error = error.unwrap_or_else(|| Obj::none(py));
        let context = this.context.get().unwrap_or_else(|| Obj::none(py));
        let names = asyncio(py).context_name.get(py);
        event_loop
            .as_obj()
            .method_named(
                pyo3::intern!(py, "call_soon"),
                &[&step, &error, &context],
                Some(names),
            )
            .map(drop)
    }

    /// A step as a callable, for loops that want one.
    pub(super) fn step_method(this: &Ref<Task>) -> Result<Obj, Raised> {
        static STEP: MethodDef = MethodDef::new(c"task_step", c"Drive the coroutine one step.");
        bound_method(this, &STEP, |this: &Ref<Task>, error: &Obj| {
            super::step::step(this, error.clone().not_none())
        })
    }

    /// The wake-up as a callable, for foreign futures and loops.
    pub(super) fn wakeup_method(this: &Ref<Task>) -> Result<Obj, Raised> {
        static WAKEUP: MethodDef = MethodDef::new(c"task_wakeup", c"Go on: the future is done.");
        bound_method(this, &WAKEUP, |this: &Ref<Task>, future: &Obj| {
            super::step::wakeup(this, future)
        })
    }

    /// `cancel(msg)`: whether it was still pending.
    pub(crate) fn cancel(this: &Ref<Task>, message: Option<Obj>) -> Result<bool, Raised> {
        let py = this.py();
        let future = this.parent();
        future.ensure_alive(py)?;
        future.log_traceback_off();
        if future.state() != State::Pending {
            return Ok(false);
        }
        this.cancel_requests
            .set(this.cancel_requests.get().wrapping_add(1));
        if let Some(waiter) = this.waiter.get() {
            if cancel_waiter(&waiter, message.as_ref())? {
                return Ok(true);
            }
        }
        this.must_cancel.set(true);
        future.set_cancel_message(message);
        Ok(true)
    }

    /// The task is about to go: reports it if it is still pending.
    pub(super) fn report_destroyed(this: &Ref<Task>) {
        let future = this.parent();
        if future.state() != State::Pending || !this.log_destroy_pending.get() {
            return;
        }
        let py = this.py();
        let Some(event_loop) = future.event_loop() else {
            return;
        };
        let reported = (|| -> Result<(), Raised> {
            let report = Obj::dict(py)?;
            let set = |key: &str, value: &Obj| report.dict_set(&Obj::str(py, key)?, value);
            set("task", this.as_obj())?;
            set(
                "message",
                &Obj::str(py, "Task was destroyed but it is pending!")?,
            )?;
            if let Some(stack) = future.source_traceback() {
                set("source_traceback", &stack)?;
            }
            let name = pyo3::intern!(py, "call_exception_handler");
            event_loop.as_obj().method(name, &[&report]).map(drop)
        })();
        if let Err(raised) = reported {
            raised.report_unraisable(Some(this.as_obj()));
        }
    }

    pub(super) fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.coro);
        visit.slot(&self.context);
        visit.slot(&self.waiter);
        visit.slot(&self.error);
        visit.slot(&self.name);
    }

    pub(super) fn forget(&self) {
        self.coro.set(None);
        self.context.set(None);
        self.waiter.set(None);
        self.error.set(None);
    }
}

/// Raises TypeError where the running version does, if it is no `contextvars.Context`.
fn check_context(context: &Obj) -> Result<(), Raised> {
    let py = context.py();
    if !asyncio(py).habits.checks_context || context::is_context(context) {
        return Ok(());
    }
    let class = context.bound(py).get_type();
    let text = format!(
        "a contextvars.Context was expected, got {}",
        class.fully_qualified_name()?
    );
    Err(Raised::type_error(py, &text))
}

/// Cancels what a task waits on; whether it let itself be cancelled.
pub(super) fn cancel_waiter(waiter: &Known<Future>, message: Option<&Obj>) -> Result<bool, Raised> {
    let object = waiter.as_obj();
    let py = object.py();
    if let Some(future) = Ref::<Future>::of_exact(object) {
        return Future::cancel(future, message.cloned());
    }
    if let Some(task) = Ref::<Task>::of_exact(object) {
        return Task::cancel(task, message.cloned());
    }
    let name = pyo3::intern!(py, "cancel");
    let none = Obj::none(py);
    let message = message.unwrap_or(&none);
    let names = asyncio(py).msg_name.get(py);
    object.method_named(name, &[message], Some(names))?.truth()
}

/// Whether a Task can drive the object.
pub(crate) fn is_coroutine(object: &Obj) -> Result<bool, Raised> {
    if object.is_coroutine_exact() {
        return Ok(true);
    }
    let py = object.py();
    asyncio(py).iscoroutine.get(py).call1(object)?.truth()
}
