//! The value of a Task, and making, cancelling and ending one.

use cpython::build::{MethodDef, bound_method, bound_method0};
use cpython::foreign::{ListOwner, Listed};
use cpython::stack::Nested;
use cpython::thread_exit::stop_at_exit;
use cpython::{Obj, Raised, Ref, Slot, Visit, context};
use pyo3::types::{PyAnyMethods, PyTypeMethods};

use super::mirror;
use super::name::Name;
use crate::event_loop::EventLoop;
use crate::futures::{self, Flag, Future};
use crate::handles::{Entry, reports};
use crate::interop::asyncio;
use crate::interop::replaced::TASK;

/// The value of a Task, behind that of its Future.
#[derive(Default)]
pub(crate) struct Task {
    pub(super) coro: Slot,
    pub(super) context: Slot,
    /// The future on which it waits.
    pub(super) waiter: Slot,
    pub(super) name: Name,
    list_owner: ListOwner,
}

impl Listed for Task {
    #[inline]
    fn list_owner(&self) -> &ListOwner {
        &self.list_owner
    }
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

    /// As [`Task::create`], for a task of a running loop that has taken its first step already.
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

    /// A new Task, as `create_task(coro)` of a loop without a task factory makes it. Returns
    /// nothing if the program has replaced asyncio's Task.
    #[inline]
    pub(crate) fn create_plain(
        event_loop: &Ref<EventLoop>,
        coro: &Obj,
    ) -> Result<Option<Ref<Task>>, Raised> {
        let plain = event_loop.task_factory.is_none()
            && !TASK.is_replaced::<Task>(event_loop.py())
            && EventLoop::is_fast(event_loop)
            && coro.is_coroutine_exact();
        if !plain {
            return Ok(None);
        }
        Task::create(event_loop, coro, None, None).map(Some)
    }

    /// The work of `__init__`.
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

    /// Registers the task for `all_tasks()`.
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

    /// Gives the task's context to the loop's spares, because the task is about to go.
    #[inline]
    pub(super) fn give_back_context(this: &Ref<Task>) {
        if let Some(event_loop) = this.parent_value().event_loop() {
            if let Some(native) = Ref::<EventLoop>::of(&event_loop) {
                native.spares.contexts.reclaim(&this.context);
            }
        }
    }

    /// Schedules a step, which throws the exception if there is one.
    #[inline]
    pub(super) fn schedule_step(this: &Ref<Task>, error: Option<Obj>) -> Result<(), Raised> {
        let Some(event_loop) = this.parent_value().event_loop() else {
            return Ok(());
        };
        if error.is_some() {
            this.parent().waiters.make_rare().error.set(error);
        }
        if let Some(native) = Ref::<EventLoop>::of(&event_loop) {
            if EventLoop::is_fast(native) {
                EventLoop::schedule(native, Entry::task(this.as_obj().clone()));
                return Ok(());
            }
        }
        let py = this.py();
        let step = Task::step_method(this)?;
        let context = this.context.get().unwrap_or_else(|| Obj::none(py));
        let names = asyncio(py).context_name.get(py);
        event_loop
            .method_named(
                pyo3::intern!(py, "call_soon"),
                &[&step, &context],
                Some(names),
            )
            .map(drop)
    }

    /// A step as a callable, for loops that want one.
    pub(super) fn step_method(this: &Ref<Task>) -> Result<Obj, Raised> {
        static STEP: MethodDef = MethodDef::new(c"task_step", c"Drive the coroutine one step.");
        bound_method0(this, &STEP, |this: &Ref<Task>| {
            stop_at_exit();
            super::step::step(this, this.parent_value().waiters.take_error())
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

    /// `cancel(msg)`. Returns whether the task was still pending.
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
            if cancel_awaited(&waiter, message.as_ref())? {
                return Ok(true);
            }
        }
        future.flags.set(Flag::MustCancel, true);
        future.set_cancel_message(message);
        Ok(true)
    }

    /// Reports a task that is destroyed while it is pending.
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
            let message = Obj::str(py, "Task was destroyed but it is pending!")?;
            let stack = future.source_traceback();
            let mut parts = vec![("task", this.as_obj()), ("message", &message)];
            parts.extend(stack.as_ref().map(|stack| ("source_traceback", stack)));
            reports::send_when_going(&event_loop, &parts)
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

/// Raises TypeError if the object is no `contextvars.Context`, on the versions that check it.
fn check_context(context: &Obj) -> Result<(), Raised> {
    let py = context.py();
    if !asyncio(py).behaviour.checks_context || context::is_context(context) {
        return Ok(());
    }
    let class = context.bound(py).get_type();
    let text = format!(
        "a contextvars.Context was expected, got {}",
        class.fully_qualified_name()?
    );
    Err(Raised::type_error(py, &text))
}

/// Cancels a native Future or Task of whose methods none can be replaced. Returns nothing for any
/// other object.
#[inline]
pub(crate) fn cancel_bare(object: &Obj, message: Option<&Obj>) -> Option<Result<bool, Raised>> {
    if let Some(future) = Ref::<Future>::of_bare(object) {
        return Some(Future::cancel(future, message.cloned()));
    }
    let task = Ref::<Task>::of_bare(object)?;
    // A task may wait on a task, which waits on another, and so on.
    Some(Nested::enter(object.py()).and_then(|_nested| Task::cancel(task, message.cloned())))
}

/// Cancels the future that a task awaits. Returns whether it could be cancelled. The message is
/// always passed, by position, as the accelerator does.
pub(crate) fn cancel_awaited(object: &Obj, message: Option<&Obj>) -> Result<bool, Raised> {
    if let Some(cancelled) = cancel_bare(object, message) {
        return cancelled;
    }
    let py = object.py();
    let none = Obj::none(py);
    let name = pyo3::intern!(py, "cancel");
    object.method(name, &[message.unwrap_or(&none)])?.truth()
}

/// Whether a Task can drive the object.
pub(crate) fn is_coroutine(object: &Obj) -> Result<bool, Raised> {
    if object.is_coroutine_exact() {
        return Ok(true);
    }
    let py = object.py();
    asyncio(py).iscoroutine.get(py).call1(object)?.truth()
}
