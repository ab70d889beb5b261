//! The loop's Python side: its methods and properties.
//!
//! The Python class `aioxide.Loop` inherits the methods that programs call rarely from asyncio's
//! own loop. Here are the methods that run per call, per task and per descriptor, and the access to
//! the native state that the other ones need.

mod create_task;
mod foreign;
mod listing;

use cpython::build::{Builder, function};
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Visit};

use crate::event_loop::{EventLoop, Side, clock_of_new_loop, on_manual_clock};
use crate::futures::Future;
use crate::interop::asyncio;
use crate::interop::replaced::{FUTURE, TASK};
use crate::tasks::{Task, is_coroutine, set_name};
use crate::{executor, operations, subprocess, tasks, transports};
use foreign::{method, method0, method0_anywhere, method1, or_of_asyncio};

/// `create_future()`.
#[inline]
fn create_future(this: &Ref<EventLoop>) -> Result<Obj, Raised> {
    match FUTURE.replacement::<Future>(this.py())? {
        Some(class) => {
            let names = Obj::tuple(this.py(), &[Obj::str(this.py(), "loop")?])?;
            class.call_named(&[this.as_obj()], Some(&names))
        }
        None => Future::create(this).map(Ref::into_obj),
    }
}

/// `create_task(coro, *, name=None, context=None, **kwargs)`.
#[inline]
pub(crate) fn create_task(this: &Ref<EventLoop>, args: &Args<'_>) -> Result<Obj, Raised> {
    if let ([coro], false) = (args.positional, args.has_keywords()) {
        if let Some(task) = Task::create_plain(this, coro)? {
            return Ok(task.into_obj());
        }
    }
    create_any_task(this, args)
}

#[inline(never)]
fn create_any_task(this: &Ref<EventLoop>, args: &Args<'_>) -> Result<Obj, Raised> {
    let py = this.py();
    this.check_closed(py)?;
    if let Some(factory) = this.task_factory.get() {
        return create_task_by_factory(this, &factory, args);
    }
    let [coro, name, context, eager] = if cfg!(Py_3_14) {
        args.bind(
            "create_task",
            &["coro", "name", "context", "eager_start"],
            1,
            1,
        )?
    } else {
        let [coro, name, context] = args.bind("create_task", &["coro", "name", "context"], 1, 1)?;
        [coro, name, context, None]
    };
    let coro = coro.unwrap_or_else(|| Obj::none(py));
    let replacement = TASK.replacement::<Task>(py)?;
    if replacement.is_none() && EventLoop::is_fast(this) && is_coroutine(&coro)? {
        let context = context.and_then(Obj::not_none);
        let is_running = pyo3::intern!(py, "is_running");
        let task = match eager {
            Some(eager) if eager.truth()? && this.as_obj().method(is_running, &[])?.truth()? => {
                Task::create_started(this, &coro, name, context)
            }
            _ => Task::create(this, &coro, name, context),
        };
        return task.map(Ref::into_obj);
    }
    let class = replacement.unwrap_or_else(|| Ref::<Task>::class(py));
    let mut call = vec![&coro, this.as_obj()];
    let mut keywords = vec![Obj::str(py, "loop")?];
    let given = [
        ("name", &name),
        ("context", &context),
        ("eager_start", &eager),
    ];
    for (keyword, value) in given {
        if let Some(value) = value {
            keywords.push(Obj::str(py, keyword)?);
            call.push(value);
        }
    }
    class.call_named(&call, Some(&Obj::tuple(py, &keywords)?))
}

/// Creates a task by the program's task factory, with the arguments that the running version gives
/// it.
fn create_task_by_factory(
    this: &Ref<EventLoop>,
    factory: &Obj,
    args: &Args<'_>,
) -> Result<Obj, Raised> {
    let py = this.py();
    let (positional, keywords) = args.to_tuple_and_dict(py)?;
    let coro = match positional.tuple_len() {
        1 => positional.tuple_item(0).unwrap_or_else(|| Obj::none(py)),
        _ => {
            let [coro, _, _] = args.bind("create_task", &["coro", "name", "context"], 1, 1)?;
            coro.unwrap_or_else(|| Obj::none(py))
        }
    };
    let call = Obj::tuple(py, &[this.as_obj().clone(), coro])?;
    let keywords = match keywords {
        Some(keywords) => keywords,
        None => Obj::dict(py)?,
    };
    if cfg!(Py_3_14) {
        // The factory sets the name and the context itself.
        return factory.call_with_dict(&call, Some(&keywords));
    }
    let pop = pyo3::intern!(py, "pop");
    let none = Obj::none(py);
    let name = keywords.method(pop, &[&Obj::str(py, "name")?, &none])?;
    let context = keywords.method(pop, &[&Obj::str(py, "context")?, &none])?;
    if !context.is_none() {
        keywords.dict_set(&Obj::str(py, "context")?, &context)?;
    }
    let task = factory.call_with_dict(&call, Some(&keywords))?;
    if !name.is_none() || cfg!(Py_3_13) {
        set_name(&task, &name)?;
    }
    Ok(task)
}

fn set_task_factory(this: &Ref<EventLoop>, args: &Args<'_>) -> Result<(), Raised> {
    let [factory] = args.bind("set_task_factory", &["factory"], 1, 1)?;
    let factory = factory.unwrap_or_else(|| Obj::none(this.py()));
    if !factory.is_none() && !factory.is_callable() {
        return Err(Raised::type_error(
            this.py(),
            "task factory must be a callable or None",
        ));
    }
    this.task_factory.set(factory.not_none());
    Ok(())
}

fn set_debug(this: &Ref<EventLoop>, args: &Args<'_>) -> Result<(), Raised> {
    let py = this.py();
    let [enabled] = args.bind("set_debug", &["enabled"], 1, 1)?;
    let enabled = enabled.unwrap_or_else(|| Obj::none(py));
    this.set_debug(enabled.truth()?);
    if this.is_running() {
        let track = this
            .as_obj()
            .attr(pyo3::intern!(py, "_set_coroutine_origin_tracking"))?;
        let soon = pyo3::intern!(py, "call_soon_threadsafe");
        this.as_obj().method(soon, &[&track, &enabled])?;
    }
    Ok(())
}

/// Adds the methods that programs call.
fn build_calls(builder: &mut Builder<EventLoop>) {
    builder.method(
        c"call_soon",
        c"call_soon($self, callback, *args, context=None)\n--\n\nCall callback(*args) in the next iteration; returns a Handle.",
        |this, args| {
            let result = EventLoop::call_soon(this, args);
            or_of_asyncio(result, this, "call_soon", args)
        },
    );
    method!(
        builder,
        c"call_soon_threadsafe",
        c"call_soon_threadsafe($self, callback, *args, context=None)\n--\n\nAs call_soon, from any thread.",
        EventLoop::call_soon_threadsafe
    );
    builder.method(
        c"call_later",
        c"call_later($self, delay, callback, *args, context=None)\n--\n\nCall callback(*args) after delay seconds; returns a TimerHandle.",
        |this, args| {
            let result = EventLoop::call_later(this, args);
            or_of_asyncio(result, this, "call_later", args)
        },
    );
    builder.method(
        c"call_at",
        c"call_at($self, when, callback, *args, context=None)\n--\n\nCall callback(*args) when time() is when; returns a TimerHandle.",
        |this, args| {
            let result = EventLoop::call_at(this, args);
            or_of_asyncio(result, this, "call_at", args)
        },
    );
    builder.method0_anywhere(
        c"time",
        c"time($self, /)\n--\n\nThe loop's clock, in seconds.",
        EventLoop::time,
    );
    builder.method0(
        c"create_future",
        c"create_future($self, /)\n--\n\nA Future of this loop.",
        create_future,
    );
    builder.method(
        c"create_task",
        c"create_task($self, coro, **kwargs)\n--\n\nSchedule a coroutine; returns a Task.",
        |this, args| {
            let result = create_task(this, args);
            or_of_asyncio(result, this, "create_task", args)
        },
    );
    method!(
        builder,
        c"set_task_factory",
        c"set_task_factory($self, factory)\n--\n\nHave factory(loop, coro, **kwargs) make the tasks; None for the default.",
        set_task_factory
    );
    method0!(
        builder,
        c"get_task_factory",
        c"get_task_factory($self, /)\n--\n\nThe task factory, or None.",
        |this: &Ref<EventLoop>| this.task_factory.get()
    );
    method!(
        builder,
        c"run_in_executor",
        c"run_in_executor($self, executor, func, *args)\n--\n\nCall func(*args) in an executor, None for the default one; returns a Future.",
        executor::run_in_executor
    );
    method0!(
        builder,
        c"run_forever",
        c"run_forever($self, /)\n--\n\nRun until stop() is called.",
        EventLoop::run_forever
    );
    method0!(
        builder,
        c"_run_once",
        c"_run_once($self, /)\n--\n\nOne iteration, for who runs the loop by himself.",
        EventLoop::run_one_iteration
    );
    method0!(
        builder,
        c"stop",
        c"stop($self, /)\n--\n\nLet the running iteration be the last.",
        |this: &Ref<EventLoop>| this.stop()
    );
    method0_anywhere!(
        builder,
        c"is_running",
        c"is_running($self, /)\n--\n\nWhether the loop runs.",
        |this: &Ref<EventLoop>| this.is_running()
    );
    method0_anywhere!(
        builder,
        c"is_closed",
        c"is_closed($self, /)\n--\n\nWhether the loop was closed.",
        |this: &Ref<EventLoop>| this.is_closed()
    );
    method0_anywhere!(
        builder,
        c"get_debug",
        c"get_debug($self, /)\n--\n\nWhether the loop is in debug mode.",
        |this: &Ref<EventLoop>| this.debug()
    );
    method!(
        builder,
        c"set_debug",
        c"set_debug($self, enabled)\n--\n\nEnter or leave debug mode.",
        set_debug
    );
}

/// Adds the internal methods that asyncio's code and the package's Python code call.
fn build_native(builder: &mut Builder<EventLoop>) {
    method0!(
        builder,
        c"_check_closed",
        c"Raise RuntimeError if closed.",
        |this: &Ref<EventLoop>| this.check_closed(this.py())
    );
    builder.method0(
        c"_close_native",
        c"Release the queue and the descriptors.",
        EventLoop::close,
    );
    builder.method0(
        c"_signal_wakeup_fd",
        c"The descriptor for signal.set_wakeup_fd().",
        |this| EventLoop::signal_fd(this).map(i64::from),
    );
    method0!(
        builder,
        c"_write_to_self",
        c"Wake the loop, from any thread.",
        |this: &Ref<EventLoop>| this.wake()
    );
    method1!(
        builder,
        c"_timer_handle_cancelled",
        c"Note that a scheduled timer was cancelled.",
        |this, _| {
            EventLoop::timer_cancelled(this);
        }
    );
    method!(
        builder,
        c"_add_reader",
        c"Watch a descriptor for reading.",
        |this, args| EventLoop::add_side(this, Side::Read, args)
    );
    method1!(
        builder,
        c"_remove_reader",
        c"Stop watching for reading.",
        |this, file| EventLoop::remove_side(this, Side::Read, file)
    );
    method!(
        builder,
        c"_add_writer",
        c"Watch a descriptor for writing.",
        |this, args| EventLoop::add_side(this, Side::Write, args)
    );
    method1!(
        builder,
        c"_remove_writer",
        c"Stop watching for writing.",
        |this, file| EventLoop::remove_side(this, Side::Write, file)
    );
    method1!(
        builder,
        c"_ensure_fd_no_transport",
        c"Raise RuntimeError if a transport has the descriptor.",
        transports::ensure_fd_no_transport
    );
    method!(
        builder,
        c"_make_socket_transport",
        c"Return a transport for a connected stream socket.",
        transports::make_socket_transport
    );
    method!(
        builder,
        c"_make_read_pipe_transport",
        c"Return a transport that receives from a pipe.",
        transports::pipes::make_read_pipe_transport
    );
    method!(
        builder,
        c"_make_write_pipe_transport",
        c"Return a transport that sends to a pipe.",
        transports::pipes::make_write_pipe_transport
    );
    builder.method(
        c"_make_child_transport",
        c"Return a transport for a child process.",
        subprocess::make_child_transport,
    );
    method!(
        builder,
        c"_make_datagram_transport",
        c"Return a transport for a datagram socket.",
        transports::make_datagram_transport
    );
    method!(
        builder,
        c"_start_serving",
        c"Accept connections on a listening socket.",
        operations::start_serving
    );
    method!(
        builder,
        c"_stop_serving",
        c"Stop accepting and close the listening socket.",
        operations::stop_serving
    );
}

/// Adds the attributes that asyncio's loop has.
fn build_state(builder: &mut Builder<EventLoop>) {
    builder
        .get(c"_closed", c"Whether the loop was closed.", |this| {
            this.is_closed()
        })
        .get_set(
            c"_debug",
            c"Whether the loop is in debug mode.",
            |this| this.debug(),
            |this, value| {
                this.set_debug(match value {
                    Some(value) => value.truth()?,
                    None => false,
                });
                Ok(())
            },
        )
        .get_set(
            c"_stopping",
            c"Whether the running iteration is the last.",
            |this| this.is_stopping(),
            |this, value| {
                this.set_stopping(value.is_some_and(Obj::is_true_object));
                Ok(())
            },
        )
        .get_set(
            c"_thread_id",
            c"threading.get_ident() of the thread that runs the loop.",
            |this| this.thread_id(),
            |this, value| {
                this.set_thread_id(value.cloned().and_then(Obj::not_none));
                Ok(())
            },
        )
        .get_set(
            c"slow_callback_duration",
            c"Callbacks that take at least this many seconds are reported in debug mode.",
            |this| match this.slow_callback_duration.get() {
                Some(limit) => Ok(limit),
                None => Obj::float(this.py(), 0.1),
            },
            |this, value| {
                this.slow_callback_duration.set(value.cloned());
                Ok(())
            },
        )
        .attribute(
            c"_current_handle",
            c"The handle that runs, in debug mode.",
            |this| &this.current_handle,
        )
        .attribute(c"_task_factory", c"The task factory, or None.", |this| {
            &this.task_factory
        })
        .get_set(
            c"_default_executor",
            c"The executor of run_in_executor(None, ...).",
            |this| this.default_executor.get(),
            executor::set_default_executor,
        )
        .flag(
            c"_executor_shutdown_called",
            c"Whether the default executor takes no more calls.",
            |this| &this.executor_shutdown_called,
        )
        .get_set(
            c"_clock_resolution",
            c"Resolution of time(), in seconds.",
            |this| engine::seconds(this.resolution.get()),
            |this, value| {
                let seconds = value.map_or(Ok(0.0), Obj::to_f64)?;
                this.resolution.set(engine::nanos_from_seconds(seconds));
                Ok(())
            },
        );
}

impl Hot for EventLoop {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide._aioxide.EventLoop";
    const DOC: &'static std::ffi::CStr =
        c"The native part of aioxide.Loop: queue, timers, descriptors, tasks, transports.";
    const OWN_DOMAIN: bool = true;
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        builder
            .new_value(|py| EventLoop::value(py, tasks::run, clock_of_new_loop()))
            .on_set_attribute(EventLoop::attribute_set);
        build_calls(builder);
        build_native(builder);
        build_state(builder);
        listing::build(builder);
    }

    fn traverse(&self, visit: &mut Visit<'_>) {
        self.visit(visit);
    }

    fn clear(&self) {
        self.release();
    }
}

/// Adds the functions to the module.
pub(crate) fn add_functions(py: Python<'_>, module: &Obj, name: &Obj) -> Result<(), Raised> {
    create_task::add_function(py, module, name)?;
    foreign::add_function(py, module, name)?;
    let doc =
        c"Make loops on a clock that jumps to the next deadline; return the result of make().";
    let made = function(py, c"_on_manual_clock", doc, name, on_manual_clock)?;
    module.set_attr(pyo3::intern!(py, "_on_manual_clock"), &made)
}

/// Builds the type of the loop.
pub(crate) fn build(py: cpython::Python<'_>) -> Result<(), Raised> {
    // asyncio's objects are imported first, because the loop needs them as soon as it runs.
    let _ = asyncio(py);
    cpython::build::build::<EventLoop>(py, None, 0).map(drop)
}
