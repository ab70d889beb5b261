//! `TaskGroup`: its tasks, its errors and its cancellation. Entering and leaving it is in
//! [`super::group_steps`].

use std::cell::Cell;

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Raised, Ref, Slot};

use super::awaited_by;
use super::ensure_future::{create_task, get_running_loop};
use crate::futures::FutureState;
use crate::handles::reports;
use crate::handles::served::Watcher;
use crate::interop::current::current_task;
use crate::interop::ending::ends_program;
use crate::tasks::any_future::{AnyFuture, add_callback, cancel};
use crate::tasks::set_name;

/// The value of a TaskGroup.
#[derive(Default)]
pub(crate) struct TaskGroup {
    pub(super) entered: Cell<bool>,
    pub(super) exiting: Cell<bool>,
    pub(super) aborting: Cell<bool>,
    pub(super) parent_cancel_requested: Cell<bool>,
    cancel_on_enter: Cell<bool>,
    pub(super) event_loop: Slot,
    pub(super) parent_task: Slot,
    /// The set of the tasks that are not done. Empty before the first task.
    tasks: Slot,
    /// The list of the exceptions that tasks have raised. Empty before the first one.
    errors: Slot,
    pub(super) base_error: Slot,
    pub(super) on_completed: Slot,
}

impl TaskGroup {
    /// Whether there is a task that is not done.
    #[inline]
    pub(super) fn has_tasks(&self) -> bool {
        self.tasks.get().is_some_and(|tasks| tasks.set_len() > 0)
    }

    fn tasks(this: &Ref<TaskGroup>) -> Result<Obj, Raised> {
        made(&this.tasks, || Obj::set(this.py()))
    }

    /// The exceptions that tasks have raised.
    pub(super) fn errors(this: &Ref<TaskGroup>) -> Result<Obj, Raised> {
        made(&this.errors, || Obj::list(this.py()))
    }

    /// The number of errors.
    pub(super) fn count_errors(&self) -> Result<usize, Raised> {
        self.errors.get().map_or(Ok(0), |errors| errors.length())
    }

    /// Forgets the errors, whose tracebacks keep much alive.
    pub(super) fn forget_errors(&self) {
        self.errors.set(None);
    }

    /// Whether methods of a subclass or of the object may stand in the place of ours.
    fn is_replaced(this: &Ref<TaskGroup>) -> bool {
        Ref::<TaskGroup>::of_bare(this.as_obj()).is_none()
    }

    /// `__aenter__()`.
    pub(super) fn enter(this: &Ref<TaskGroup>) -> Result<(), Raised> {
        let py = this.py();
        if this.entered.get() {
            return Err(TaskGroup::refusal(this, "has already been entered"));
        }
        let event_loop = match this.event_loop.get() {
            Some(event_loop) => event_loop,
            None => {
                let running = get_running_loop(py)?;
                this.event_loop.set(Some(running.clone()));
                running
            }
        };
        this.parent_task.set(current_task(py, Some(&event_loop))?);
        if this.parent_task.is_none() {
            return Err(TaskGroup::refusal(this, "cannot determine the parent task"));
        }
        this.entered.set(true);
        if this.cancel_on_enter.get() {
            this.as_obj()
                .method(pyo3::intern!(py, "cancel"), &[])
                .map(drop)?;
        }
        Ok(())
    }

    #[cold]
    fn refusal(this: &Ref<TaskGroup>, what: &str) -> Raised {
        let text = (|| {
            let own = this.as_obj().repr()?;
            Ok(format!("TaskGroup {} {what}", own.as_str()?))
        })();
        match text {
            Ok(text) => Raised::runtime_error(this.py(), &text),
            Err(raised) => raised,
        }
    }

    fn create_task(this: &Ref<TaskGroup>, args: &Args<'_>) -> Result<Obj, Raised> {
        let py = this.py();
        let plain = match args.only_positional() {
            Some([coroutine]) => Some(coroutine.clone()),
            _ => None,
        };
        let coroutine = match &plain {
            Some(coroutine) => coroutine.clone(),
            None => TaskGroup::coroutine_of(args)?,
        };
        let problem = if !this.entered.get() {
            Some("has not been entered")
        } else if this.exiting.get() && !this.has_tasks() {
            Some("is finished")
        } else if this.aborting.get() {
            Some("is shutting down")
        } else {
            None
        };
        if let Some(problem) = problem {
            if cfg!(Py_3_13) {
                coroutine.method(pyo3::intern!(py, "close"), &[])?;
            }
            return Err(TaskGroup::refusal(this, problem));
        }
        let event_loop = this.event_loop.get().unwrap_or_else(|| Obj::none(py));
        let task = match plain {
            Some(coroutine) => create_task(&event_loop, &coroutine)?,
            None => TaskGroup::create_named_task(&event_loop, &coroutine, args)?,
        };
        if cfg!(Py_3_14) {
            if let Some(parent) = this.parent_task.get() {
                awaited_by::add(&task, &parent)?;
            }
        }
        if cfg!(all(Py_3_12, not(Py_3_14))) && AnyFuture::of(&task).is_done()? {
            // The task has run eagerly and has ended at once.
            if TaskGroup::is_replaced(this) {
                let name = pyo3::intern!(py, "_on_task_done");
                this.as_obj().method(name, &[&task])?;
            } else {
                TaskGroup::on_done(this, &task)?;
            }
            return Ok(task);
        }
        if cfg!(Py_3_12) {
            TaskGroup::tasks(this)?.add(&task)?;
            TaskGroup::watch_task(this, &task)?;
        } else {
            TaskGroup::watch_task(this, &task)?;
            TaskGroup::tasks(this)?.add(&task)?;
        }
        if cfg!(Py_3_15) && this.aborting.get() && !AnyFuture::of(&task).is_done()? {
            // An eager task has cancelled the group before it was added to the tasks.
            cancel(&task)?;
        }
        Ok(task)
    }

    /// Makes the end of the task call `_on_task_done()`.
    fn watch_task(this: &Ref<TaskGroup>, task: &Obj) -> Result<(), Raised> {
        // A method of the parent that the program has replaced runs in the context in which the
        // task was made.
        let by_name = TaskGroup::is_replaced(this)
            || this
                .parent_task
                .get()
                .as_ref()
                .is_none_or(|parent| AnyFuture::of(parent).native().is_none());
        if !by_name {
            return AnyFuture::of(task).watch(this.as_obj());
        }
        let done = this
            .as_obj()
            .attr(pyo3::intern!(this.py(), "_on_task_done"))?;
        add_callback(task, &done)
    }

    fn coroutine_of(args: &Args<'_>) -> Result<Obj, Raised> {
        let function = "TaskGroup.create_task";
        let coroutine = if cfg!(Py_3_14) {
            match args.positional {
                [coroutine] => Some(coroutine.clone()),
                _ => args.named("coro").cloned(),
            }
        } else {
            let names = &["coro", "name", "context"];
            let [coroutine, _, _] = args.bind(function, names, 1, 1)?;
            coroutine
        };
        match coroutine {
            Some(coroutine) => Ok(coroutine),
            // This raises the TypeError.
            None => args.one(function, "coro").cloned(),
        }
    }

    /// Makes a task with a name, a context or other arguments of the loop's method.
    fn create_named_task(
        event_loop: &Obj,
        coroutine: &Obj,
        args: &Args<'_>,
    ) -> Result<Obj, Raised> {
        let py = event_loop.py();
        let (_, keywords) = args.to_tuple_and_dict(py)?;
        let keywords = match keywords {
            Some(keywords) => keywords,
            None => Obj::dict(py)?,
        };
        let take = |key: &str| -> Result<Option<Obj>, Raised> {
            let none = Obj::none(py);
            let name = pyo3::intern!(py, "pop");
            keywords
                .method(name, &[&Obj::str(py, key)?, &none])
                .map(Obj::not_none)
        };
        take("coro")?;
        let mut name = None;
        if cfg!(not(Py_3_14)) {
            let context = take("context")?;
            name = take("name")?;
            if let Some(context) = context {
                keywords.dict_set(&Obj::str(py, "context")?, &context)?;
            }
            if cfg!(Py_3_13) {
                let none = Obj::none(py);
                keywords.dict_set(&Obj::str(py, "name")?, name.as_ref().unwrap_or(&none))?;
            }
        }
        let create = event_loop.attr(pyo3::intern!(py, "create_task"))?;
        let positional = Obj::tuple(py, std::slice::from_ref(coroutine))?;
        let task = create.call_with_dict(&positional, Some(&keywords))?;
        if let (Some(name), false) = (name, cfg!(Py_3_13)) {
            set_name(&task, &name)?;
        }
        Ok(task)
    }

    /// Cancels the tasks.
    pub(super) fn abort(this: &Ref<TaskGroup>) -> Result<(), Raised> {
        if TaskGroup::is_replaced(this) {
            let name = pyo3::intern!(this.py(), "_abort");
            return this.as_obj().method(name, &[]).map(drop);
        }
        TaskGroup::cancel_tasks(this)
    }

    fn cancel_tasks(this: &Ref<TaskGroup>) -> Result<(), Raised> {
        this.aborting.set(true);
        let Some(tasks) = this.tasks.get() else {
            return Ok(());
        };
        // Cancelling may run any code, which may change the set.
        let mut all = Vec::with_capacity(tasks.set_len());
        let iterator = tasks.iter()?;
        while let Some(task) = iterator.next()? {
            all.push(task);
        }
        for task in all {
            if !AnyFuture::of(&task).is_done()? {
                cancel(&task)?;
            }
        }
        Ok(())
    }

    /// `cancel()`, of 3.15 and later.
    fn cancel(this: &Ref<TaskGroup>) -> Result<(), Raised> {
        if !this.entered.get() {
            this.cancel_on_enter.set(true);
            return Ok(());
        }
        if this.exiting.get() && !this.has_tasks() || this.aborting.get() {
            return Ok(());
        }
        TaskGroup::abort(this)?;
        match this.parent_task.get() {
            Some(parent) if !this.parent_cancel_requested.replace(true) => cancel(&parent),
            _ => Ok(()),
        }
    }

    /// Whether an exception ends the program, not only the group.
    pub(super) fn is_base_error(this: &Ref<TaskGroup>, exception: &Obj) -> Result<bool, Raised> {
        if TaskGroup::is_replaced(this) {
            let name = pyo3::intern!(this.py(), "_is_base_error");
            return this.as_obj().method(name, &[exception])?.truth();
        }
        Ok(ends_program(this.py(), exception))
    }

    fn task_failed(this: &Ref<TaskGroup>, task: &Obj, exception: &Obj) -> Result<(), Raised> {
        TaskGroup::errors(this)?.append(exception)?;
        if TaskGroup::is_base_error(this, exception)? && this.base_error.is_none() {
            this.base_error.set(Some(exception.clone()));
        }
        let Some(parent) = this.parent_task.get() else {
            return Ok(());
        };
        if AnyFuture::of(&parent).is_done()? {
            return TaskGroup::report(this, task, &parent, exception);
        }
        if !this.aborting.get() && !this.parent_cancel_requested.get() {
            TaskGroup::abort(this)?;
            this.parent_cancel_requested.set(true);
            cancel(&parent)?;
        }
        Ok(())
    }

    #[cold]
    fn report(
        this: &Ref<TaskGroup>,
        task: &Obj,
        parent: &Obj,
        exception: &Obj,
    ) -> Result<(), Raised> {
        let message = format!(
            "Task {} has errored out but its parent task {} is already completed",
            task.repr()?.as_str()?,
            parent.str_of()?.as_str()?
        );
        match this.event_loop.get() {
            Some(event_loop) => {
                let parts = [("exception", exception), ("task", task)];
                reports::send(&event_loop, &message, &parts)
            }
            None => Ok(()),
        }
    }

    fn repr(this: &Ref<TaskGroup>) -> Result<String, Raised> {
        let mut text = String::from("<TaskGroup");
        match this.tasks.get().map_or(0, |tasks| tasks.set_len()) {
            0 => {}
            count => text += &format!(" tasks={count}"),
        }
        match this.count_errors()? {
            0 => {}
            count => text += &format!(" errors={count}"),
        }
        if this.aborting.get() {
            text += " cancelling";
        } else if this.entered.get() {
            text += " entered";
        }
        Ok(text + ">")
    }
}

/// The object in the field, made if there is none.
fn made(field: &Slot, make: impl FnOnce() -> Result<Obj, Raised>) -> Result<Obj, Raised> {
    match field.get() {
        Some(known) => Ok(known),
        None => {
            let new = make()?;
            field.set(Some(new.clone()));
            Ok(new)
        }
    }
}

impl Watcher for TaskGroup {
    fn callable(this: &Ref<TaskGroup>, _: &Obj) -> Result<Obj, Raised> {
        this.as_obj()
            .attr(pyo3::intern!(this.py(), "_on_task_done"))
    }

    fn on_done(this: &Ref<TaskGroup>, task: &Obj) -> Result<(), Raised> {
        if let Some(tasks) = this.tasks.get() {
            tasks.discard(task)?;
        }
        if cfg!(Py_3_14) {
            if let Some(parent) = this.parent_task.get() {
                awaited_by::discard(task, &parent)?;
            }
        }
        if let Some(completed) = this.on_completed.get() {
            if !this.has_tasks() {
                let result = Obj::bool(this.py(), true);
                AnyFuture::of(&completed).set_unless_done(Ok(result))?;
            }
        }
        let asked = AnyFuture::of(task);
        if asked.native().is_some_and(|task| {
            task.state() == FutureState::Cancelled || task.stored_result().is_some()
        }) || asked.is_cancelled()?
        {
            return Ok(());
        }
        match asked.exception()? {
            Some(exception) => TaskGroup::task_failed(this, task, &exception),
            None => Ok(()),
        }
    }
}

impl Hot for TaskGroup {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide.TaskGroup";
    const DOC: &'static std::ffi::CStr = c"TaskGroup()\n--\n\n\
        Asynchronous context manager that waits for the tasks made by its create_task().\n\n\
        The first that fails cancels the others; all errors come as one ExceptionGroup.";
    const FREELIST: usize = 256;
    cpython::hot_type!();
    cpython::holds!(
        event_loop,
        parent_task,
        tasks,
        errors,
        base_error,
        on_completed
    );

    fn build(builder: &mut Builder<Self>) {
        builder
            .new_value(|_| Ok(TaskGroup::default()))
            .init(|_, args| args.bind_as_python("TaskGroup.__init__", &[], 0).map(|[]| ()))
            .instance_dict()
            .weak_references()
            .repr(TaskGroup::repr)
            .method(
                c"create_task",
                if cfg!(Py_3_14) {
                    c"create_task($self, /, coro, **kwargs)\n--\n\nA new task of the group."
                } else {
                    c"create_task($self, /, coro, *, name=None, context=None)\n--\n\nA new task of the group."
                },
                TaskGroup::create_task,
            )
            .method0(c"_abort", c"_abort($self, /)\n--\n\nCancel the tasks.", TaskGroup::cancel_tasks)
            .method1(
                c"_is_base_error",
                c"_is_base_error($self, exc, /)\n--\n\nWhether the exception ends the program.",
                |this, exception| ends_program(this.py(), exception),
            )
            .get(c"_tasks", c"The tasks that are not done.", TaskGroup::tasks)
            .get(c"_errors", c"The exceptions that tasks have raised.", TaskGroup::errors)
            .get(c"_loop", c"The loop.", |this| this.event_loop.get())
            .get(c"_parent_task", c"The task that entered the group.", |this| this.parent_task.get())
            .get(c"_base_error", c"The exception that ends the program.", |this| this.base_error.get())
            .get(c"_on_completed_fut", c"The Future that the end of the block waits on.", |this| this.on_completed.get())
            .get(c"_entered", c"Whether the group was entered.", |this| this.entered.get())
            .get(c"_exiting", c"Whether the block has ended.", |this| this.exiting.get())
            .get(c"_aborting", c"Whether the tasks were cancelled.", |this| this.aborting.get())
            .get(
                c"_parent_cancel_requested",
                c"Whether the group has cancelled the task that entered it.",
                |this| this.parent_cancel_requested.get(),
            );
        if cfg!(Py_3_15) {
            builder.method0(
                c"cancel",
                c"cancel($self, /)\n--\n\nCancel the tasks and the block, which ends without CancelledError.",
                TaskGroup::cancel,
            );
        }
    }
}
