//! The Python side of a Future: methods and properties, as the accelerator has them.

use cpython::build::{Builder, Next};
use cpython::{Args, Hot, NoParent, Obj, Raised, Ref, Visit, context};

use super::await_future::{FutureIter, step as await_step};
use super::flags::Flag;
use super::future::{Future, FutureState};
use super::mirror;
use super::waiters::Waiter;
use crate::interop::asyncio;

impl Future {
    fn python_init(this: &Ref<Future>, args: &Args<'_>) -> Result<(), Raised> {
        let [event_loop] = args.bind("Future", &["loop"], 0, 0)?;
        Future::begin_beside(this, event_loop, |event_loop| {
            Future::init(this, event_loop)
        })
    }

    fn python_result(this: &Ref<Future>) -> Result<Obj, Raised> {
        Future::result(this)
    }

    fn python_set_result(this: &Ref<Future>, result: &Obj) -> Result<(), Raised> {
        Future::set_result(this, result.clone())
    }

    fn python_set_exception(this: &Ref<Future>, exception: &Obj) -> Result<(), Raised> {
        Future::set_exception(this, exception)
    }

    pub(crate) fn python_cancel(this: &Ref<Future>, args: &Args<'_>) -> Result<bool, Raised> {
        let [message] = args.bind("cancel", &["msg"], 1, 0)?;
        this.ensure_alive(this.py())?;
        Future::cancel(this, message)
    }

    fn python_add_done_callback(this: &Ref<Future>, args: &Args<'_>) -> Result<(), Raised> {
        let py = this.py();
        let [function, context] = match args.positional {
            [function] if !args.has_keywords() => [Some(function.clone()), None],
            [function] => {
                let context = args.only_keyword("add_done_callback", "context")?;
                [Some(function.clone()), context]
            }
            [] => {
                let text = "add_done_callback() takes exactly 1 positional argument (0 given)";
                return Err(Raised::type_error(py, text));
            }
            _ => args.bind("add_done_callback", &["fn", "context"], 1, 1)?,
        };
        if this.event_loop().is_none() {
            return Err(Raised::runtime_error(py, "uninitialized Future object"));
        }
        // As in the accelerator, None given as the context stands for the context of the code that
        // ends the Future.
        let context = match context {
            Some(context) => context,
            None => context::copy_current(py)?,
        };
        let function = function.unwrap_or_else(|| Obj::none(py));
        Future::add_waiter(this, Waiter::function(function, context))
    }

    fn python_remove_done_callback(this: &Ref<Future>, function: &Obj) -> Result<usize, Raised> {
        this.ensure_alive(this.py())?;
        Future::remove_waiters(this, function)
    }

    fn python_callbacks(this: &Ref<Future>) -> Result<Option<Obj>, Raised> {
        let py = this.py();
        this.ensure_alive(py)?;
        let all = this.waiters();
        if all.is_empty() {
            return Ok(None);
        }
        let list = Obj::list(py)?;
        for waiter in all {
            let (function, context) = waiter.show(this.as_obj())?;
            list.append(&Obj::tuple(py, &[function, context])?)?;
        }
        Ok(Some(list))
    }

    fn python_state(this: &Ref<Future>) -> Result<String, Raised> {
        this.ensure_alive(this.py())?;
        Ok(match this.state() {
            FutureState::Pending => "PENDING",
            FutureState::Cancelled => "CANCELLED",
            FutureState::Finished => "FINISHED",
        }
        .to_owned())
    }

    fn set_log_traceback(this: &Ref<Future>, value: Option<&Obj>) -> Result<(), Raised> {
        let Some(value) = value else {
            return Err(cannot_delete(this));
        };
        if value.truth()? {
            let text = "_log_traceback can only be set to False";
            return Err(Raised::value_error(this.py(), text));
        }
        this.flags.set(Flag::LogTraceback, false);
        Ok(())
    }

    fn set_blocking(this: &Ref<Future>, value: Option<&Obj>) -> Result<(), Raised> {
        let Some(value) = value else {
            return Err(cannot_delete(this));
        };
        this.ensure_alive(this.py())?;
        this.flags.set(Flag::Blocking, value.truth()?);
        Ok(())
    }

    fn python_set_cancel_message(this: &Ref<Future>, value: Option<&Obj>) -> Result<(), Raised> {
        let Some(value) = value else {
            return Err(cannot_delete(this));
        };
        this.set_cancel_message(Some(value.clone()));
        Ok(())
    }

    #[inline(always)]
    fn step(this: &Ref<Future>, _value: &Obj) -> Result<Next, Raised> {
        await_step(this, this)
    }

    fn python_iter(this: &Ref<Future>) -> Result<Ref<FutureIter>, Raised> {
        this.ensure_alive(this.py())?;
        FutureIter::create(this)
    }

    /// `_asyncio_awaited_by`, of 3.14 and later.
    fn python_awaited_by(this: &Ref<Future>) -> Result<Option<Obj>, Raised> {
        match mirror(this.py()) {
            Some(mirror) => mirror.awaited_by(this),
            None => Ok(None),
        }
    }
}

fn cannot_delete(this: &Ref<Future>) -> Raised {
    let class = Obj::class_of::<pyo3::exceptions::PyAttributeError>(this.py());
    Raised::with_class(&class, "cannot delete attribute")
}

/// `Class[item]`.
pub(crate) fn generic_alias(class: &Obj, item: &Obj) -> Result<Obj, Raised> {
    let py = class.py();
    asyncio(py).generic_alias.get(py).call(&[class, item])
}

impl Hot for Future {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide.Future";
    const DOC: &'static std::ffi::CStr = c"Future(*, loop=None)\n--\n\n\
        A result that is not there yet, as asyncio.Future.\n\n\
        loop: the loop whose call_soon() schedules the callbacks; the running or current one if None.";
    const FREELIST: usize = 2048;
    const MOVES_IN_CHILD: bool = true;
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        builder
            .new_value(|_| Ok(Future::empty()))
            .init(Future::python_init)
            .repr(|this| {
                let py = this.py();
                this.ensure_alive(py)?;
                asyncio(py).future_repr.get(py).call1(this.as_obj())
            })
            .iter(Future::python_iter)
            .awaits_itself(
                c"__await__($self, /)\n--\n\nThe iterator of an awaited future.",
                Future::python_iter,
            )
            .step(Future::step)
            .method0(
                c"result",
                c"result($self, /)\n--\n\nThe result; raises the exception if there is one, CancelledError if cancelled, InvalidStateError if pending.",
                Future::python_result,
            )
            .method0(
                c"exception",
                c"exception($self, /)\n--\n\nThe exception, or None; raises CancelledError if cancelled, InvalidStateError if pending.",
                Future::exception,
            )
            .method1(
                c"set_result",
                c"set_result($self, result, /)\n--\n\nEnd with a result; raises InvalidStateError if done.",
                Future::python_set_result,
            )
            .method1(
                c"set_exception",
                c"set_exception($self, exception, /)\n--\n\nEnd with an exception; raises InvalidStateError if done.",
                Future::python_set_exception,
            )
            .method(
                c"cancel",
                c"cancel($self, /, msg=None)\n--\n\nCancel the future; return whether it was pending.",
                Future::python_cancel,
            )
            .method0(
                c"cancelled",
                c"cancelled($self, /)\n--\n\nWhether the future was cancelled.",
                |this| this.state() == FutureState::Cancelled,
            )
            .method0(
                c"done",
                c"done($self, /)\n--\n\nWhether the future has a result or an exception, or was cancelled.",
                |this| this.state() != FutureState::Pending,
            )
            .method(
                c"add_done_callback",
                c"add_done_callback($self, fn, /, *, context=<unrepresentable>)\n--\n\nCall fn(self) soon after the future is done, in the context or a copy of the current one.",
                Future::python_add_done_callback,
            )
            .method1(
                c"remove_done_callback",
                c"remove_done_callback($self, fn, /)\n--\n\nRemove the callbacks that equal fn; return their number.",
                Future::python_remove_done_callback,
            )
            .method0(
                c"get_loop",
                c"get_loop($self, /)\n--\n\nThe loop of the future.",
                |this| {
                    this.ensure_alive(this.py())?;
                    Ok(this.event_loop())
                },
            )
            .method0(
                c"_make_cancelled_error",
                c"_make_cancelled_error($self, /)\n--\n\nThe CancelledError to raise.",
                Future::make_cancelled_error,
            )
            .class_method(c"__class_getitem__", c"See PEP 585", generic_alias)
            .get(c"_state", c"PENDING, CANCELLED or FINISHED.", Future::python_state)
            .get(c"_loop", c"The loop.", |this| this.event_loop())
            .get(c"_callbacks", c"The callbacks with their contexts.", Future::python_callbacks)
            .get(c"_result", c"The result.", |this| this.stored_result())
            .get(c"_exception", c"The exception.", |this| this.stored_exception())
            .get(c"_source_traceback", c"The stack where the future was made, in debug mode.", |this| {
                this.source_traceback()
            })
            .get_set(
                c"_log_traceback",
                c"Whether the exception has not been retrieved yet.",
                |this| this.flags.is(Flag::LogTraceback),
                Future::set_log_traceback,
            )
            .get_set(
                c"_asyncio_future_blocking",
                c"Set by await, cleared by the Task.",
                |this| this.flags.is(Flag::Blocking),
                Future::set_blocking,
            )
            .get_set(
                c"_cancel_message",
                c"The message given to cancel().",
                |this| this.cancel_message(),
                Future::python_set_cancel_message,
            );
        if cfg!(Py_3_14) {
            builder.get(
                c"_asyncio_awaited_by",
                c"The tasks that await the future.",
                Future::python_awaited_by,
            );
        }
    }

    fn traverse(&self, visit: &mut Visit<'_>) {
        self.visit(visit);
    }

    fn empty_foreign_part(this: &Ref<Self>) {
        if let Some(mirror) = mirror(this.py()) {
            mirror.empty(this);
        }
    }

    fn clear(&self) {
        self.forget();
    }

    fn needs_finalizer(&self, _parent: &NoParent) -> bool {
        self.has_unseen_exception()
    }

    fn finalize(this: &Ref<Self>) {
        this.flags.set(Flag::Finalized, true);
        Future::report_unretrieved(this);
    }

    #[inline]
    fn was_finalized(this: &Ref<Self>) -> bool {
        this.flags.is(Flag::Finalized)
    }
}
