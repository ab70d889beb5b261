//! The value of a Task; making, cancelling and ending one.

use cpython::build::{MethodDef, bound_method};
use cpython::thread_exit::stop_at_exit;
use cpython::{Obj, Raised, Ref, Slot, Visit, context};
use pyo3::types::{PyAnyMethods, PyTypeMethods};

use super::mirror;
use super::name::Name;
use crate::event_loop::EventLoop;
use crate::futures::{self, Flag, Future};
use crate::handles::Entry;
use crate::interop::asyncio;

/// The value of a Task, behind that of its Future.
#[derive(Default)]
pub(crate) struct Task {
    pub(super) coro: Slot,
    pub(super) context: Slot,
    /// What it waits on.
    pub(super) waiter: Slot,
    pub(super) name: Name,
}

impl Task {
    /// A new Task of a native loop that takes the short ways, scheduled for its first step.
    #[inline]
    pub(crate) fn create(
        event_loop: &Ref<EventLoop>,
        coro: &Obj,
        name: Option<Obj>,
        task_context: Option<Obj>,
    ) -> Result<Ref<Task>, Raised> {
        let task = Task::make(event_loop, coro, name, task_context)?;
        EventLoop::schedule(event_loop, Entry::task(task.as_obj().clone()));
        match (mirror(task.py()), futures::mirror(task.py())) {
            (Some(mirror), Some(of_future)) => {
                of_future.begin_new_task(task.parent(), event_loop.as_obj());
                mirror.begin_coro(&task, coro);
                mirror.link(&task);
            }
            _ => Task::register(&task, event_loop.as_obj())?,
        }
        Ok(task)
    }

    /// The same of a running loop, after its first step.
    pub(crate) fn create_started(
        event_loop: &Ref<EventLoop>,
        coro: &Obj,
        name: Option<Obj>,
        task_context: Option<Obj>,
    ) -> Result<Ref<Task>, Raised> {
        let task = Task::make(event_loop, coro, name, task_context)?;
        super::step::start_eagerly(&task, event_loop.as_obj())?;
        Ok(task)
    }

    #[inline(always)]
    fn make(
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
            None => event_loop.spares.contexts.copy_current(py)?,
        };
        let task = Ref::with_parent(
            py,
            || Future::value_of_task(event_loop),
            || Task {
                coro: Slot::new(Some(coro.clone())),
                context: Slot::new(Some(context)),
                ..Task::default()
            },
        )?;
        match name {
            None => Task::number(&task)?,
            Some(_) => Task::begin_name(&task, name)?,
        }
        Ok(task)
    }

    /// As `create_task(coro)` of a loop without a task factory, in a program that has not put
    /// another class in the place of asyncio's Task; else nothing.
    #[inline]
    pub(crate) fn create_plain(
        event_loop: &Ref<EventLoop>,
        coro: &Obj,
    ) -> Result<Option<Ref<Task>>, Raised> {
        let plain = event_loop.task_factory.is_none()
            && asyncio(event_loop.py()).tasks_namespace.is_unchanged()
            && EventLoop::is_fast(event_loop)
            && coro.is_coroutine_exact();
        if !plain {
            return Ok(None);
        }
        Task::create(event_loop, coro, None, None).map(Some)
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
        let future = this.parent();
        future.flags.set(Flag::LogDestroyPending, false);
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
        future.flags.set(Flag::MustCancel, false);
        future.cancel_requests.set(0);
        future.flags.set(Flag::LogDestroyPending, true);
        this.coro.set(Some(coro.clone()));
        Task::begin_name(this, name)?;
        let Some(event_loop) = this.parent().event_loop() else {
            return Ok(());
        };
        if eager_start {
            let is_running = pyo3::intern!(py, "is_running");
            if event_loop.method(is_running, &[])?.truth()? {
                return super::step::start_eagerly(this, &event_loop);
            }
        }
        Task::schedule_step(this, None)?;
        Task::register(this, &event_loop)
    }

    /// Makes it known to `all_tasks()`.
    #[inline]
    pub(super) fn register(this: &Ref<Task>, event_loop: &Obj) -> Result<(), Raised> {
        let py = this.py();
        if let Some(mirror) = mirror(py) {
            if let Some(of_future) = futures::mirror(py) {
                of_future.begin_task(this.parent(), event_loop);
            }
            mirror.set_coro(this, this.coro.get());
            mirror.link(this);
            return Ok(());
        }
        let name = pyo3::intern!(py, "_register_task");
        asyncio(py)
            .accelerator
            .get(py)
            .method(name, &[this.as_obj()])
            .map(drop)
    }

    /// The task is about to go: its context may serve another one.
    #[inline]
    pub(super) fn give_back_context(this: &Ref<Task>) {
        if let Some(event_loop) = this.parent_value().event_loop() {
            if let Some(native) = Ref::<EventLoop>::of(&event_loop) {
                native.spares.contexts.reclaim(&this.context);
            }
        }
    }

    /// Schedules a step that throws the exception, if there is one.
    #[inline]
    pub(super) fn schedule_step(this: &Ref<Task>, error: Option<Obj>) -> Result<(), Raised> {
        let Some(event_loop) = this.parent_value().event_loop() else {
            return Ok(());
        };
        if let Some(native) = Ref::<EventLoop>::of(&event_loop) {
            if EventLoop::is_fast(native) {
                if error.is_some() {
                    this.parent().rare.make().error.set(error);
                }
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
            stop_at_exit();
            super::step::step(this, error.clone().not_none())
        })
    }

    /// The wake-up as a callable, for foreign futures and loops.
    pub(super) fn wakeup_method(this: &Ref<Task>) -> Result<Obj, Raised> {
        static WAKEUP: MethodDef = MethodDef::new(c"task_wakeup", c"Go on: the future is done.");
        bound_method(this, &WAKEUP, |this: &Ref<Task>, future: &Obj| {
            stop_at_exit();
            super::step::wakeup(this, future)
        })
    }

    /// `cancel(msg)`: whether it was still pending.
    pub(crate) fn cancel(this: &Ref<Task>, message: Option<Obj>) -> Result<bool, Raised> {
        let py = this.py();
        let future = this.parent();
        future.ensure_alive(py)?;
        future.log_traceback_off();
        if !future.is_pending() {
            return Ok(false);
        }
        future
            .cancel_requests
            .set(future.cancel_requests.get().wrapping_add(1));
        if let Some(waiter) = this.waiter.get() {
            if cancel_waiter(&waiter, message.as_ref())? {
                return Ok(true);
            }
        }
        future.flags.set(Flag::MustCancel, true);
        future.set_cancel_message(message);
        Ok(true)
    }

    /// The task is about to go: reports it if it is still pending.
    pub(super) fn report_destroyed(this: &Ref<Task>) {
        let future = this.parent();
        if !future.is_pending() || !future.flags.is(Flag::LogDestroyPending) {
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
            event_loop.method(name, &[&report]).map(drop)
        })();
        if let Err(raised) = reported {
            raised.report_unraisable(Some(this.as_obj()));
        }
    }

    pub(super) fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.coro);
        visit.slot(&self.context);
        visit.slot(&self.waiter);
        self.name.visit(visit);
    }

    pub(super) fn forget(&self) {
        self.coro.set(None);
        self.context.set(None);
        self.waiter.set(None);
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

/// Cancels a future or task of any kind; whether it let itself be cancelled.
pub(crate) fn cancel_waiter(object: &Obj, message: Option<&Obj>) -> Result<bool, Raised> {
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
