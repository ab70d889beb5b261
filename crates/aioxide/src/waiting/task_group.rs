//! `TaskGroup`: its tasks, its errors, and what cancels it. How it is entered and left is in
//! [`super::group_steps`].

use std::cell::Cell;

use cpython::build::{Builder, MethodDef};
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot};

use super::any_future::{cancel, exception, is_cancelled, is_done, native, set, watch};
use super::awaited_by;
use super::ensure_future::{create_task, get_running_loop};
use super::watching::Watcher;
use crate::futures::State;
use crate::interop::current::current_task;
use crate::interop::imports::ends_program;

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
    /// The set of the tasks that are not done; none before the first.
    tasks: Slot,
    /// The list of what tasks have raised; none before the first.
    errors: Slot,
    pub(super) base_error: Slot,
    pub(super) on_completed: Slot,
}

impl TaskGroup {
    /// Whether a task is not done.
    #[inline]
    pub(super) fn has_tasks(&self) -> bool {
        self.tasks.get().is_some_and(|tasks| tasks.set_len() > 0)
    }

    fn tasks(this: &Ref<TaskGroup>) -> Result<Obj, Raised> {
        made(&this.tasks, || Obj::set(this.py()))
    }

    /// What tasks have raised.
    pub(super) fn errors(this: &Ref<TaskGroup>) -> Result<Obj, Raised> {
        made(&this.errors, || Obj::list(this.py()))
    }

    /// How many errors there are.
    pub(super) fn count_errors(&self) -> Result<usize, Raised> {
        self.errors.get().map_or(Ok(0), |errors| errors.length())
    }

    /// Forgets the errors, which are heavy and refer to much.
    pub(super) fn forget_errors(&self) {
        self.errors.set(None);
    }

    /// Whether methods of a subclass may stand in the place of ours.
    fn is_subclassed(this: &Ref<TaskGroup>) -> bool {
        !Ref::<TaskGroup>::is_exact(this.as_obj())
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
        if cfg!(all(Py_3_12, not(Py_3_14))) && is_done(&task)? {
            // It has come to its end at once, eagerly.
            if TaskGroup::is_subclassed(this) {
                let name = pyo3::intern!(py, "_on_task_done");
                this.as_obj().method(name, &[&task])?;
            } else {
                TaskGroup::told(this, &task)?;
            }
            return Ok(task);
        }
        TaskGroup::tasks(this)?.add(&task)?;
        if TaskGroup::is_subclassed(this) {
            let done = this.as_obj().attr(pyo3::intern!(py, "_on_task_done"))?;
            task.method(pyo3::intern!(py, "add_done_callback"), &[&done])?;
        } else {
            watch(&task, this.as_obj())?;
        }
        if cfg!(Py_3_15) && this.aborting.get() && !is_done(&task)? {
            // An eager task has cancelled the group before it was among its tasks.
            cancel(&task, None)?;
        }
        Ok(task)
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
            // The TypeError for it.
            None => args.one(function, "coro").cloned(),
        }
    }

    /// With a name, a context or what else the loop takes.
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
            if let Some(set_name) = task.attr_opt(pyo3::intern!(py, "set_name"))? {
                set_name.call1(&name)?;
            }
        }
        Ok(task)
    }

    /// Cancels the tasks.
    pub(super) fn abort(this: &Ref<TaskGroup>) -> Result<(), Raised> {
        if TaskGroup::is_subclassed(this) {
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
        // Cancelling may run anything: the set may change.
        let mut all = Vec::with_capacity(tasks.set_len());
        let iterator = tasks.iter()?;
        while let Some(task) = iterator.next()? {
            all.push(task);
        }
        for task in all {
            if !is_done(&task)? {
                cancel(&task, None)?;
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
            Some(parent) if !this.parent_cancel_requested.replace(true) => {
                cancel(&parent, None).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Whether an exception ends the program, not only the group.
    pub(super) fn is_base_error(py: Python<'_>, exception: &Obj) -> bool {
        ends_program(py, exception)
    }

    fn task_failed(this: &Ref<TaskGroup>, task: &Obj, exception: &Obj) -> Result<(), Raised> {
        let py = this.py();
        TaskGroup::errors(this)?.append(exception)?;
        if TaskGroup::is_base_error(py, exception) && this.base_error.is_none() {
            this.base_error.set(Some(exception.clone()));
        }
        let Some(parent) = this.parent_task.get() else {
            return Ok(());
        };
        if is_done(&parent)? {
            return TaskGroup::report(this, task, &parent, exception);
        }
        if !this.aborting.get() && !this.parent_cancel_requested.get() {
            TaskGroup::abort(this)?;
            this.parent_cancel_requested.set(true);
            cancel(&parent, None)?;
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
        let py = this.py();
        let message = format!(
            "Task {} has errored out but its parent task {} is already completed",
            task.repr()?.as_str()?,
            parent.str_of()?.as_str()?
        );
        let report = Obj::dict(py)?;
        report.dict_set(&Obj::str(py, "message")?, &Obj::str(py, &message)?)?;
        report.dict_set(&Obj::str(py, "exception")?, exception)?;
        report.dict_set(&Obj::str(py, "task")?, task)?;
        match this.event_loop.get() {
            Some(event_loop) => event_loop
                .method(pyo3::intern!(py, "call_exception_handler"), &[&report])
                .map(drop),
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

/// What the field holds, made if there is nothing.
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
    const CALLABLE: &'static MethodDef = {
        static CALLABLE: MethodDef = MethodDef::new(c"_on_task_done", c"A task is done.");
        &CALLABLE
    };

    fn told(this: &Ref<TaskGroup>, task: &Obj) -> Result<(), Raised> {
        if let Some(tasks) = this.tasks.get() {
            tasks.discard(task)?;
        }
        if cfg!(Py_3_14) {
            if let Some(parent) = this.parent_task.get() {
                awaited_by::discard(task, &parent)?;
            }
        }
        if let Some(completed) = this.on_completed.get() {
            if !this.has_tasks() && !is_done(&completed)? {
                set(&completed, Ok(&Obj::bool(this.py(), true)))?;
            }
        }
        if native(task)
            .is_some_and(|task| task.state() == State::Cancelled || task.stored_result().is_some())
            || is_cancelled(task)?
        {
            return Ok(());
        }
        match exception(task)? {
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
                c"_on_task_done",
                c"_on_task_done($self, task, /)\n--\n\nA task is done.",
                TaskGroup::told,
            )
            .method1(
                c"_is_base_error",
                c"_is_base_error($self, exc, /)\n--\n\nWhether it ends the program.",
                |this, exception| TaskGroup::is_base_error(this.py(), exception),
            )
            .get(c"_tasks", c"The tasks that are not done.", TaskGroup::tasks)
            .get(c"_errors", c"What tasks have raised.", TaskGroup::errors)
            .get(c"_loop", c"The loop.", |this| this.event_loop.get())
            .get(c"_parent_task", c"The task that entered it.", |this| this.parent_task.get())
            .get(c"_base_error", c"What ends the program.", |this| this.base_error.get())
            .get(c"_on_completed_fut", c"What its end waits on.", |this| this.on_completed.get())
            .get(c"_entered", c"Whether it was entered.", |this| this.entered.get())
            .get(c"_exiting", c"Whether its block has ended.", |this| this.exiting.get())
            .get(c"_aborting", c"Whether its tasks were cancelled.", |this| this.aborting.get())
            .get(
                c"_parent_cancel_requested",
                c"Whether it has cancelled the task that entered it.",
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
