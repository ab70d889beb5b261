//! How a TaskGroup is entered and left.

use std::cell::Cell;

use cpython::callable::{callable, seal};
use cpython::error::{handling, suppress_context};
use cpython::{Args, Hot, Obj, Python, Raised, Ref, Slot};

use super::codes::{Code, codes};
use super::task_group::TaskGroup;
use crate::coroutines::class::coroutine_class;
use crate::coroutines::coroutine::{Coroutine, CoroutineState, Turn};
use crate::coroutines::put_method;
use crate::futures::create_future;
use crate::handles::served::Watcher;
use crate::interop::asyncio;
use crate::tasks::any_future::{cancel, cancelling, uncancel};

/// The value of the coroutine object that `__aenter__` or `__aexit__` returns.
pub(crate) struct GroupStep {
    group: Slot<Ref<TaskGroup>>,
    leaves: Cell<bool>,
    /// The class and the value of the exception that the block has raised.
    class: Slot,
    exception: Slot,
    /// The CancelledError to raise at the end.
    cancellation: Slot,
    /// The last CancelledError that came during the wait for the tasks.
    pending_cancellation: Slot,
    state: CoroutineState,
}

impl GroupStep {
    fn create(
        py: Python<'_>,
        this: Option<Obj>,
        leaving: Option<(Option<Obj>, Option<Obj>)>,
    ) -> Result<Ref<GroupStep>, Raised> {
        let Some(group) = this.as_ref().and_then(Ref::<TaskGroup>::of_any) else {
            return Err(Raised::type_error(py, "a TaskGroup is required"));
        };
        let leaves = leaving.is_some();
        let (class, exception) = leaving.unwrap_or_default();
        let step = GroupStep {
            group: Slot::new(Some(group.clone())),
            leaves: Cell::new(leaves),
            class: Slot::new(class.and_then(Obj::not_none)),
            exception: Slot::new(exception.and_then(Obj::not_none)),
            cancellation: Slot::default(),
            pending_cancellation: Slot::default(),
            state: CoroutineState::default(),
        };
        group.within(|_| Ref::new(py, step))
    }

    fn enter(py: Python<'_>, args: &Args<'_>) -> Result<Ref<GroupStep>, Raised> {
        let [this] = args.bind_function("TaskGroup.__aenter__", &["self"], 1)?;
        GroupStep::create(py, this, None)
    }

    fn leave(py: Python<'_>, args: &Args<'_>) -> Result<Ref<GroupStep>, Raised> {
        let names = &["self", "et", "exc", "tb"];
        let [this, class, exception, _] = args.bind_function("TaskGroup.__aexit__", names, 4)?;
        GroupStep::create(py, this, Some((class, exception)))
    }

    /// Begins to leave the group, when the block has ended.
    fn begin_to_leave(this: &Ref<GroupStep>, group: &Ref<TaskGroup>) -> Result<Turn, Raised> {
        let py = this.py();
        group.exiting.set(true);
        if let Some(exception) = this.exception.get() {
            if TaskGroup::is_base_error(group, &exception)? && group.base_error.is_none() {
                group.base_error.set(Some(exception));
            }
        }
        if this.was_cancelled(py)? {
            this.cancellation.set(this.exception.get());
        }
        if cfg!(not(Py_3_13)) {
            GroupStep::uncancel(this, group)?;
        }
        if this.class.is_some() && !group.aborting.get() {
            TaskGroup::abort(group)?;
        }
        GroupStep::wait_or_end(this, group)
    }

    /// Whether the block ended by CancelledError.
    fn was_cancelled(&self, py: Python<'_>) -> Result<bool, Raised> {
        let cancelled = asyncio(py).cancelled_error.get(py);
        let Some(class) = self.class.get() else {
            return Ok(false);
        };
        if cfg!(not(Py_3_13)) || class.is(cancelled) {
            return Ok(class.is(cancelled));
        }
        class.is_subclass(cancelled)
    }

    /// Takes back the group's own cancellation of its parent.
    fn uncancel(this: &Ref<GroupStep>, group: &Ref<TaskGroup>) -> Result<(), Raised> {
        if !group.parent_cancel_requested.get() {
            return Ok(());
        }
        let Some(parent) = group.parent_task.get() else {
            return Ok(());
        };
        if uncancel(&parent)? == 0 {
            this.cancellation.set(None);
        } else if cfg!(Py_3_15) && this.cancellation.is_none() {
            // The other cancellation came from outside.
            this.cancellation.set(this.pending_cancellation.get());
        }
        Ok(())
    }

    /// Waits while there are tasks, then ends the group.
    fn wait_or_end(this: &Ref<GroupStep>, group: &Ref<TaskGroup>) -> Result<Turn, Raised> {
        let py = this.py();
        if !group.has_tasks() {
            return GroupStep::end_group(this, group);
        }
        let completed = match group.on_completed.get() {
            Some(completed) => completed,
            None => {
                let event_loop = group.event_loop.get().unwrap_or_else(|| Obj::none(py));
                let new = create_future(&event_loop)?;
                group.on_completed.set(Some(new.clone()));
                new
            }
        };
        Ok(Turn::Await(completed))
    }

    /// Ends the group, when all tasks are done: raises the exceptions, if there are any.
    fn end_group(this: &Ref<GroupStep>, group: &Ref<TaskGroup>) -> Result<Turn, Raised> {
        let py = this.py();
        if let Some(error) = group.base_error.get() {
            return Err(Raised::raise_in_context(error));
        }
        if cfg!(Py_3_13) {
            GroupStep::uncancel(this, group)?;
        }
        let mut errors = group.count_errors()?;
        if errors == 0 {
            if let Some(cancellation) = this.cancellation.take() {
                return Err(Raised::raise_in_context(cancellation));
            }
        }
        if this.class.is_some() && !this.was_cancelled(py)? {
            let exception = this.exception.get().unwrap_or_else(|| Obj::none(py));
            TaskGroup::errors(group)?.append(&exception)?;
            errors += 1;
        }
        if errors > 0 {
            return GroupStep::raise_errors(this, group, errors);
        }
        if cfg!(Py_3_15) {
            return Ok(Turn::Return(Obj::bool(py, true)));
        }
        Ok(Turn::Return(Obj::none(py)))
    }

    #[cold]
    fn raise_errors(
        this: &Ref<GroupStep>,
        group: &Ref<TaskGroup>,
        count: usize,
    ) -> Result<Turn, Raised> {
        let py = this.py();
        if cfg!(Py_3_13) {
            if let Some(parent) = group.parent_task.get() {
                // The parent was cancelled from outside: the count stays, and the next await
                // raises.
                if cancelling(&parent)? > 0 {
                    uncancel(&parent)?;
                    cancel(&parent)?;
                }
            }
        }
        let exception = this.exception.take();
        if let (true, 1, Some(class), Some(exception)) =
            (cfg!(Py_3_15), count, this.class.get(), &exception)
        {
            let exit = Obj::class_of::<pyo3::exceptions::PyGeneratorExit>(py);
            if class.is_subclass(&exit)? {
                return Err(Raised::raise(exception.clone()));
            }
        }
        let errors = TaskGroup::errors(group)?;
        let message = Obj::str(py, "unhandled errors in a TaskGroup")?;
        let builtins = Obj::import(py, c"builtins")?;
        let made = builtins.method(
            pyo3::intern!(py, "BaseExceptionGroup"),
            &[&message, &errors],
        );
        group.forget_errors();
        let error = made?;
        suppress_context(&error);
        Err(Raised::raise_in_context(error))
    }
}

impl Coroutine for GroupStep {
    fn names(&self) -> (&'static str, &'static str) {
        if self.leaves.get() {
            ("__aexit__", "TaskGroup.__aexit__")
        } else {
            ("__aenter__", "TaskGroup.__aenter__")
        }
    }

    fn codes(&self, py: Python<'_>) -> Vec<Obj> {
        if self.leaves.get() {
            codes(py, &[Code::GroupExit, Code::GroupExitInner])
        } else {
            codes(py, &[Code::GroupEnter])
        }
    }

    fn begin(this: &Ref<GroupStep>) -> Result<Turn, Raised> {
        let Some(group) = this.group.get() else {
            return Ok(Turn::Return(Obj::none(this.py())));
        };
        if this.leaves.get() {
            return GroupStep::begin_to_leave(this, &group);
        }
        TaskGroup::enter(&group)?;
        Ok(Turn::Return(group.into_obj()))
    }

    fn resume(this: &Ref<GroupStep>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised> {
        let py = this.py();
        let Some(group) = this.group.get() else {
            return outcome.map(Turn::Return);
        };
        if let Err(raised) = outcome {
            if !raised.matches(asyncio(py).cancelled_error.get(py)) {
                return Err(raised);
            }
            let cancellation = raised.take(py);
            this.pending_cancellation.set(Some(cancellation.clone()));
            if !group.aborting.get() {
                this.cancellation.set(Some(cancellation.clone()));
                handling(&cancellation, || TaskGroup::abort(&group))?;
            }
        }
        group.on_completed.set(None);
        GroupStep::wait_or_end(this, &group)
    }

    fn end(this: &Ref<GroupStep>) {
        if let (Some(group), true) = (this.group.get(), this.leaves.get() && group_forgets()) {
            if !this.state.is_new() && group.exiting.get() {
                group.parent_task.set(None);
                group.forget_errors();
                group.base_error.set(None);
            }
        }
        this.clear();
    }
}

/// Whether a group that was left forgets its parent and its errors.
fn group_forgets() -> bool {
    cfg!(Py_3_14)
}

coroutine_class! {
    GroupStep: c"aioxide._aioxide.task_group_coroutine", c"The coroutine object by which a TaskGroup is entered or left.";
    const FREELIST: usize = 256;
    holds group, class, exception, cancellation, pending_cancellation;
}

/// Builds the types; `taskgroups` is asyncio's module.
pub(super) fn build(py: Python<'_>, taskgroups: &Obj) -> Result<(), Raised> {
    let class = cpython::build::build::<TaskGroup>(py, None, 0)?;
    cpython::build::build::<GroupStep>(py, None, 0)?;
    let original = taskgroups.attr(pyo3::intern!(py, "TaskGroup"))?;
    let enter = callable(py, "__aenter__", "Enter the group.", GroupStep::enter)?;
    let doc = "Wait for the tasks, and raise their exceptions.";
    let leave = callable(py, "__aexit__", doc, GroupStep::leave)?;
    put_method(&class, &original, "__aenter__", &enter)?;
    put_method(&class, &original, "__aexit__", &leave)?;
    let done = callable(py, "_on_task_done", "A task is done.", on_task_done)?;
    done.set_attr(
        pyo3::intern!(py, "__qualname__"),
        &Obj::str(py, "TaskGroup._on_task_done")?,
    )?;
    seal(&done);
    class.set_attr(pyo3::intern!(py, "_on_task_done"), &done)
}

/// `TaskGroup._on_task_done(task)`.
fn on_task_done(py: Python<'_>, args: &Args<'_>) -> Result<(), Raised> {
    let [this, task] = args.bind_function("TaskGroup._on_task_done", &["self", "task"], 2)?;
    match (this.as_ref().and_then(Ref::<TaskGroup>::of_any), task) {
        (Some(group), Some(task)) => group.within(|group| TaskGroup::on_done(group, &task)),
        _ => Err(Raised::type_error(py, "a TaskGroup is required")),
    }
}

/// Adds the class to the module.
pub(super) fn add_class(py: Python<'_>, module: &Obj) -> Result<(), Raised> {
    module.set_attr(pyo3::intern!(py, "TaskGroup"), &Ref::<TaskGroup>::class(py))
}
