//! The Python side of a Task: methods and properties, as the accelerator has them.

use cpython::build::{Builder, Next};
use cpython::{Args, Hot, Obj, Raised, Ref, Visit};

use super::mirror;
use super::task::Task;
use crate::futures::{Flag, Future, FutureIter, await_step, generic_alias};
use crate::interop::asyncio;

impl Task {
    fn python_init(this: &Ref<Task>, args: &Args<'_>) -> Result<(), Raised> {
        let (coro, event_loop, name, context, eager) = if cfg!(Py_3_12) {
            let names = &["coro", "loop", "name", "context", "eager_start"];
            let [coro, event_loop, name, context, eager] = args.bind("Task", names, 1, 1)?;
            (coro, event_loop, name, context, eager)
        } else {
            let names = &["coro", "loop", "name", "context"];
            let [coro, event_loop, name, context] = args.bind("Task", names, 1, 1)?;
            (coro, event_loop, name, context, None)
        };
        let coro = coro.unwrap_or_else(|| Obj::none(this.py()));
        let eager = match eager {
            Some(eager) => eager.truth()?,
            None => false,
        };
        Future::begin_beside(this.parent(), event_loop, |event_loop| {
            Task::init(this, &coro, event_loop, name, context, eager)
        })
    }

    fn python_cancel(this: &Ref<Task>, args: &Args<'_>) -> Result<bool, Raised> {
        let [message] = args.bind("cancel", &["msg"], 1, 0)?;
        Task::cancel(this, message)
    }

    /// `uncancel()`. Returns the number of cancellations that remain.
    pub(crate) fn uncancel(this: &Ref<Task>) -> i64 {
        let future = this.parent();
        let requests = future.cancel_requests.get().saturating_sub(1);
        future.cancel_requests.set(requests);
        if cfg!(Py_3_13) && requests == 0 {
            future.flags.set(Flag::MustCancel, false);
        }
        requests.into()
    }

    fn get_stack(this: &Ref<Task>, args: &Args<'_>) -> Result<Obj, Raised> {
        let py = this.py();
        let [limit] = args.bind("get_stack", &["limit"], 0, 0)?;
        let limit = limit.unwrap_or_else(|| Obj::none(py));
        asyncio(py)
            .task_get_stack
            .get(py)
            .call(&[this.as_obj(), &limit])
    }

    fn print_stack(this: &Ref<Task>, args: &Args<'_>) -> Result<Obj, Raised> {
        let py = this.py();
        let [limit, file] = args.bind("print_stack", &["limit", "file"], 0, 0)?;
        let limit = limit.unwrap_or_else(|| Obj::none(py));
        let file = file.unwrap_or_else(|| Obj::none(py));
        asyncio(py)
            .task_print_stack
            .get(py)
            .call(&[this.as_obj(), &limit, &file])
    }

    fn set_log_destroy_pending(this: &Ref<Task>, value: Option<&Obj>) -> Result<(), Raised> {
        let Some(value) = value else {
            let class = Obj::class_of::<pyo3::exceptions::PyAttributeError>(this.py());
            return Err(Raised::with_class(&class, "cannot delete attribute"));
        };
        this.parent()
            .flags
            .set(Flag::LogDestroyPending, value.truth()?);
        Ok(())
    }

    #[inline(always)]
    fn await_step(this: &Ref<Task>, _value: &Obj) -> Result<Next, Raised> {
        await_step(this.parent(), this.parent_value())
    }

    fn python_iter(this: &Ref<Task>) -> Result<Ref<FutureIter>, Raised> {
        this.parent().ensure_alive(this.py())?;
        FutureIter::create(this.parent())
    }

    /// The wake-up as a callable and the context that goes with it, for `Future._callbacks`.
    fn wakeup_and_context(this: &Ref<Task>) -> Result<Obj, Raised> {
        let context = this.context.get().unwrap_or_else(|| Obj::none(this.py()));
        Obj::tuple(this.py(), &[Task::wakeup_method(this)?, context])
    }
}

impl Hot for Task {
    type Parent = Future;
    const NAME: &'static std::ffi::CStr = c"aioxide.Task";
    const DOC: &'static std::ffi::CStr = if cfg!(Py_3_12) {
        c"Task(coro, *, loop=None, name=None, context=None, eager_start=False)\n--\n\n\
        A coroutine that a loop drives, as asyncio.Task.\n\n\
        coro: the coroutine; TypeError if it is none.\n\
        loop: the loop; the running or current one if None.\n\
        name: its name; Task-1, Task-2, ... if None.\n\
        context: the contextvars.Context it runs in; a copy of the current one if None.\n\
        eager_start: run to the first suspension at once."
    } else {
        c"Task(coro, *, loop=None, name=None, context=None)\n--\n\n\
        A coroutine that a loop drives, as asyncio.Task.\n\n\
        coro: the coroutine; TypeError if it is none.\n\
        loop: the loop; the running or current one if None.\n\
        name: its name; Task-1, Task-2, ... if None.\n\
        context: the contextvars.Context it runs in; a copy of the current one if None."
    };
    const FREELIST: usize = 2048;
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        builder
            .new_values(|_| Ok((Future::empty(), Task::default())))
            .init(Task::python_init)
            .repr(|this| {
                let py = this.py();
                this.parent().ensure_alive(py)?;
                asyncio(py).task_repr.get(py).call1(this.as_obj())
            })
            // The slots would come from the foreign base, not from the Future above it.
            .iter(Task::python_iter)
            .awaits_itself(
                c"__await__($self, /)\n--\n\nThe iterator of an awaited future.",
                Task::python_iter,
            )
            .step(Task::await_step)
            .method(
                c"cancel",
                c"cancel($self, /, msg=None)\n--\n\nThrow CancelledError into the coroutine at its next step; return whether the task was pending.",
                Task::python_cancel,
            )
            .method0(
                c"cancelling",
                c"cancelling($self, /)\n--\n\nThe number of cancellations that were not taken back.",
                |this| i64::from(this.parent().cancel_requests.get()),
            )
            .method0(
                c"uncancel",
                c"uncancel($self, /)\n--\n\nTake one cancellation back; return the number that remain.",
                Task::uncancel,
            )
            .method0(c"get_coro", c"get_coro($self, /)\n--\n\nThe coroutine.", |this| {
                this.coro.get()
            })
            .method0(c"get_name", c"get_name($self, /)\n--\n\nThe task's name.", Task::name)
            .method1(
                c"set_name",
                c"set_name($self, value, /)\n--\n\nName the task.",
                Task::set_name,
            )
            .method(
                c"get_stack",
                c"get_stack($self, /, *, limit=None)\n--\n\nThe stack frames of the task's coroutine.",
                Task::get_stack,
            )
            .method(
                c"print_stack",
                c"print_stack($self, /, *, limit=None, file=None)\n--\n\nPrint the stack or traceback of the task's coroutine.",
                Task::print_stack,
            )
            .method1(
                c"set_result",
                c"set_result($self, result, /)\n--\n\nNot for tasks: raises RuntimeError.",
                |this, _| -> Result<(), Raised> {
                    let text = "Task does not support set_result operation";
                    Err(Raised::runtime_error(this.py(), text))
                },
            )
            .method1(
                c"set_exception",
                c"set_exception($self, exception, /)\n--\n\nNot for tasks: raises RuntimeError.",
                |this, _| -> Result<(), Raised> {
                    let text = "Task does not support set_exception operation";
                    Err(Raised::runtime_error(this.py(), text))
                },
            )
            .class_method(c"__class_getitem__", c"See PEP 585", generic_alias)
            .get(c"_coro", c"The coroutine.", |this| this.coro.get())
            .get(c"_fut_waiter", c"The future on which the task waits.", |this| this.waiter.get())
            .get(c"_must_cancel", c"Whether the next step throws CancelledError.", |this| {
                this.parent().flags.is(Flag::MustCancel)
            })
            .get(
                c"_wakeup_and_context",
                c"The callback that an awaited future shows.",
                Task::wakeup_and_context,
            )
            .get_set(
                c"_log_destroy_pending",
                c"Whether the task is reported if it is destroyed while pending.",
                |this| this.parent().flags.is(Flag::LogDestroyPending),
                Task::set_log_destroy_pending,
            );
        if cfg!(Py_3_12) {
            builder.method0(
                c"get_context",
                c"get_context($self, /)\n--\n\nThe context in which the task runs.",
                |this| this.context.get(),
            );
        }
    }

    fn traverse(&self, visit: &mut Visit<'_>) {
        self.visit(visit);
    }

    fn clear(&self) {
        self.forget();
    }

    fn needs_finalizer(&self, future: &Future) -> bool {
        future.has_unseen_exception()
            || (future.is_pending() && future.flags.is(Flag::LogDestroyPending))
    }

    fn leave(this: &Ref<Self>) {
        if let Some(mirror) = mirror(this.py()) {
            mirror.unlink(this);
        }
        Task::give_back_context(this);
        super::name::give_back_number(this);
    }

    fn empty_foreign_part(this: &Ref<Self>) {
        if let Some(mirror) = mirror(this.py()) {
            mirror.empty(this);
        }
        Future::empty_foreign_part(this.parent());
    }

    fn finalize(this: &Ref<Self>) {
        this.parent_value().flags.set(Flag::Finalized, true);
        Task::report_destroyed(this);
        Future::report_unretrieved(this.parent());
    }

    #[inline]
    fn was_finalized(this: &Ref<Self>) -> bool {
        this.parent_value().flags.is(Flag::Finalized)
    }
}
