//! One step of a Task: send into the coroutine, then end or wait on what it yields.

use cpython::context::Bound;
use cpython::{Obj, Raised, Ref, context, coro};

use super::mirror;
use super::task::{Task, cancel_waiter};
use crate::event_loop::EventLoop;
use crate::futures::{self, Flag, Future};
use crate::handles::{Callback, Entry, Handle};
use crate::interop::imports::ends_program;
use crate::interop::{asyncio, current};

/// What is left to do once the task no longer runs.
#[derive(Clone, Copy, PartialEq)]
enum After {
    /// Nothing: it has ended, or something will wake it.
    Nothing,
    /// Another step in the next iteration.
    Again,
}

/// Runs a task's entry of its loop's ready queue: a step or a wake-up, in the task's context.
pub(crate) fn run(event_loop: &Ref<EventLoop>, object: Obj) -> Result<(), Raised> {
    let Some(task) = Ref::<Task>::of(&object) else {
        return Ok(());
    };
    let entered = match context::enter_field(&task.context) {
        Ok(Some(entered)) => entered,
        Ok(None) => return Ok(()),
        Err(raised) => return report(task, raised),
    };
    let waiter = task.waiter.take();
    let error = match task.parent_value().rare.take_error() {
        Some(error) => Some(error),
        None => outcome_of(waiter.as_ref()),
    };
    let result = if task.parent_value().has_loop(event_loop.as_obj()) {
        step_in(task, event_loop.as_obj(), Some(event_loop), waiter, error)
    } else {
        task.waiter.set(waiter);
        step(task, error).map(|()| After::Nothing)
    };
    if let Err(raised) = entered.exit(task.py()) {
        return report(task, raised);
    }
    match result {
        Ok(After::Nothing) => Ok(()),
        Ok(After::Again) => {
            EventLoop::schedule(event_loop, Entry::task(object));
            Ok(())
        }
        Err(raised) => report(task, raised),
    }
}

/// The exception that the awaited future hands on, if the task was waiting and got one.
#[inline]
fn outcome_of(waiter: Option<&Obj>) -> Option<Obj> {
    Ref::<Future>::of(waiter?).and_then(Future::error_if_done)
}

/// What is not an exception that ends the program is reported as any callback's.
#[cold]
fn report(task: &Ref<Task>, raised: Raised) -> Result<(), Raised> {
    let py = task.py();
    let exception = raised.take(py);
    if ends_program(py, &exception) {
        return Err(Raised::raise(exception));
    }
    let Some(event_loop) = task.parent().event_loop() else {
        return Ok(());
    };
    let reported = (|| {
        let step = Task::step_method(task)?;
        let callback = Callback::new(&step, &[])?;
        let context = match task.context.get() {
            Some(context) => context,
            None => context::copy_current(py)?,
        };
        let value = Handle::value(&event_loop, callback, Bound::To(context));
        Handle::report_failure(&Ref::new(py, value)?, &exception)
    })();
    if let Err(raised) = reported {
        let error = raised.take(py);
        if ends_program(py, &error) {
            return Err(Raised::raise(error));
        }
        Raised::raise(error).report_unraisable(Some(task.as_obj()));
    }
    Ok(())
}

/// Wakes the task with a future that is done (called through a callable, with foreign futures
/// and loops).
pub(super) fn wakeup(task: &Ref<Task>, future: &Obj) -> Result<(), Raised> {
    let error = match Ref::<Future>::of_exact(future) {
        Some(future) => Future::error(future),
        None => match future.method(pyo3::intern!(task.py(), "result"), &[]) {
            Ok(_) => None,
            Err(raised) => Some(raised.take(task.py())),
        },
    };
    step(task, error)
}

/// A step as the running task of its loop.
pub(super) fn step(task: &Ref<Task>, error: Option<Obj>) -> Result<(), Raised> {
    let Some(event_loop) = task.parent().event_loop() else {
        return task.parent().ensure_alive(task.py());
    };
    let native = Ref::<EventLoop>::of(&event_loop);
    let waiter = task.waiter.take();
    match step_in(task, &event_loop, native, waiter, error)? {
        After::Nothing => Ok(()),
        After::Again => Task::schedule_step(task, None),
    }
}

/// A step as the running task of the loop, which is `native` as well if it is one of ours.
#[inline(always)]
fn step_in(
    task: &Ref<Task>,
    event_loop: &Obj,
    native: Option<&Ref<EventLoop>>,
    waiter: Option<Obj>,
    error: Option<Obj>,
) -> Result<After, Raised> {
    let entered = match current::enter(task.py(), event_loop, task.as_obj()) {
        Ok(entered) => entered,
        Err(raised) => {
            // It still waits.
            task.waiter.set(waiter);
            return Err(raised);
        }
    };
    match advance(task, event_loop, native, waiter, error) {
        Ok(after) => entered.leave(event_loop, task.as_obj()).map(|()| after),
        Err(raised) => Err(leave_raising(entered, task, event_loop, raised)),
    }
}

#[cold]
fn leave_raising(
    entered: current::Entered,
    task: &Ref<Task>,
    event_loop: &Obj,
    raised: Raised,
) -> Raised {
    let py = task.py();
    let exception = raised.take(py);
    if let Err(second) = entered.leave(event_loop, task.as_obj()) {
        drop(second.take(py));
    }
    Raised::raise(exception)
}

/// The first step at once, before `create_task` returns.
pub(super) fn start_eagerly(task: &Ref<Task>, event_loop: &Obj) -> Result<(), Raised> {
    let py = task.py();
    let previous = current::swap(py, event_loop, Some(task.as_obj()))?;
    super::registry::register_eager(task.as_obj())?;
    let Some(task_context) = task.context.get() else {
        return Ok(());
    };
    let mut outcome = context::enter(&task_context);
    if outcome.is_ok() {
        outcome = match advance(task, event_loop, Ref::of(event_loop), None, None) {
            Ok(After::Nothing) => Ok(()),
            Ok(After::Again) => Task::schedule_step(task, None),
            Err(raised) => Err(raised),
        };
        let kept = outcome.map_err(|raised| raised.take(py));
        let left = context::exit(&task_context);
        outcome = match kept {
            Ok(()) => left,
            Err(exception) => {
                if let Err(second) = left {
                    drop(second.take(py));
                }
                Err(Raised::raise(exception))
            }
        };
    }
    let kept = outcome.map_err(|raised| raised.take(py));
    current::swap(py, event_loop, previous.as_ref())?;
    super::registry::unregister_eager(task.as_obj())?;
    if task.parent().is_pending() {
        Task::register(task, event_loop)?;
    } else {
        // The coroutine is done: nobody needs it any more.
        task.coro.set(None);
        if let Some(mirror) = mirror(py) {
            mirror.set_coro(task, None);
        }
    }
    kept.map_err(Raised::raise)
}

/// Drives the coroutine: sends, or throws the error.
#[inline(always)]
fn advance(
    task: &Ref<Task>,
    event_loop: &Obj,
    native: Option<&Ref<EventLoop>>,
    waiter: Option<Obj>,
    mut error: Option<Obj>,
) -> Result<After, Raised> {
    let future = task.parent_value();
    if !future.is_pending() {
        task.waiter.set(waiter);
        return Err(already_done(task, error));
    }
    if future.flags.is(Flag::MustCancel) {
        error = Some(cancellation(task, error)?);
    }
    if let Some(waiter) = waiter {
        super::registry::discard_awaited_by(&waiter, task)?;
    }
    let Some(coroutine) = task.coro.get() else {
        return Err(uninitialized(task));
    };
    let outcome = match error {
        None => coro::send_none(&coroutine),
        Some(error) => throw(&coroutine, error),
    };
    match outcome {
        coro::Step::Yielded(awaited) if awaited.is_none() => {
            if native.is_some_and(EventLoop::is_fast) {
                return Ok(After::Again);
            }
            Task::schedule_step(task, None)
        }
        coro::Step::Yielded(awaited) => wait_on(task, event_loop, awaited),
        coro::Step::Returned(result) => end(task, result, native),
        coro::Step::Raised(raised) => end_by_exception(task, raised),
    }
    .map(|()| After::Nothing)
}

#[cold]
fn uninitialized(task: &Ref<Task>) -> Raised {
    Raised::runtime_error(task.py(), "uninitialized Task object")
}

/// The error to throw into a task that was cancelled since its last step.
#[cold]
fn cancellation(task: &Ref<Task>, error: Option<Obj>) -> Result<Obj, Raised> {
    let class = asyncio(task.py()).cancelled_error.get(task.py());
    let error = match error {
        Some(error) if error.is_subtype_of(class) => error,
        _ => Future::make_cancelled_error(task.parent())?,
    };
    task.parent().flags.set(Flag::MustCancel, false);
    Ok(error)
}

/// The coroutine has returned.
#[inline]
fn end(task: &Ref<Task>, result: Obj, native: Option<&Ref<EventLoop>>) -> Result<(), Raised> {
    if task.parent_value().flags.take(Flag::MustCancel) {
        // Cancelled just before the coroutine came to its end.
        let message = task.parent_value().cancel_message();
        return Future::cancel(task.parent(), message).map(drop);
    }
    Future::set_result_in(task.parent(), result, native)
}

#[inline(never)]
fn throw(coroutine: &Obj, error: Obj) -> coro::Step {
    let py = coroutine.py();
    match coroutine.method(pyo3::intern!(py, "throw"), &[&error]) {
        Ok(awaited) => coro::Step::Yielded(awaited),
        Err(raised) => match coro::stop_iteration_value(raised, py) {
            Ok(result) => coro::Step::Returned(result),
            Err(raised) => coro::Step::Raised(raised),
        },
    }
}

#[inline(never)]
fn end_by_exception(task: &Ref<Task>, raised: Raised) -> Result<(), Raised> {
    let py = task.py();
    let future = task.parent();
    let raised = match coro::stop_iteration_value(raised, py) {
        Ok(result) => {
            // An iterator that ends by StopIteration itself.
            return end(task, result, None);
        }
        Err(raised) => raised,
    };
    let exception = raised.take(py);
    if exception.is_subtype_of(asyncio(py).cancelled_error.get(py)) {
        return Future::cancel_with(future, exception).map(drop);
    }
    Future::set_exception(future, &exception)?;
    if ends_program(py, &exception) {
        return Err(Raised::raise(exception));
    }
    Ok(())
}

#[cold]
fn already_done(task: &Ref<Task>, error: Option<Obj>) -> Raised {
    let name = if cfg!(Py_3_14) { "__step" } else { "_step" };
    let text = (|| -> Result<String, Raised> {
        let error = match error {
            Some(error) => error.repr()?.to_string()?,
            None => String::from("None"),
        };
        Ok(format!(
            "{name}(): already done: {} {error}",
            task.as_obj().repr()?.as_str()?
        ))
    })();
    match text {
        Ok(text) => {
            Raised::with_class(asyncio(task.py()).invalid_state_error.get(task.py()), &text)
        }
        Err(raised) => raised,
    }
}

/// Waits on what the coroutine has yielded.
#[inline(always)]
fn wait_on(task: &Ref<Task>, event_loop: &Obj, awaited: Obj) -> Result<(), Raised> {
    // Subclasses may have methods of their own, which are called as asyncio calls them.
    let future = match Ref::<Future>::of_exact(&awaited) {
        Some(future) => future,
        None => match Ref::<Task>::of_exact(&awaited) {
            Some(other) => other.parent(),
            None => match Future::of_plain_subclass(&awaited) {
                Some(future) => future,
                None => return wait_on_foreign(task, event_loop, awaited),
            },
        },
    };
    if awaited.is(task.as_obj()) {
        return fail_soon(task, "Task cannot await on itself", None);
    }
    let value: &Future = future;
    if !value.has_loop(event_loop) {
        return fail_soon(task, "attached to a different loop", Some(&awaited));
    }
    if !value.take_blocking() {
        let problem = "yield was used instead of yield from";
        return fail_soon(task, problem, Some(&awaited));
    }
    if let Some(mirror) = futures::mirror(task.py()) {
        mirror.add_awaited_by(future, task.as_obj())?;
    }
    Future::add_task(future, value, task.as_obj().clone())?;
    task.waiter.set(Some(awaited));
    if task.parent_value().flags.is(Flag::MustCancel) {
        return cancel_what_is_awaited(task);
    }
    Ok(())
}

/// A cancellation that came while the coroutine ran goes on to what it now waits on.
#[inline(never)]
fn cancel_what_is_awaited(task: &Ref<Task>) -> Result<(), Raised> {
    let flags = &task.parent_value().flags;
    if !flags.is(Flag::MustCancel) {
        return Ok(());
    }
    let Some(waiter) = task.waiter.get() else {
        return Ok(());
    };
    let message = task.parent().cancel_message();
    if cancel_waiter(&waiter, message.as_ref())? {
        flags.set(Flag::MustCancel, false);
    }
    Ok(())
}

/// A future that is not native or of a subclass, or something that is none.
#[cold]
fn wait_on_foreign(task: &Ref<Task>, event_loop: &Obj, awaited: Obj) -> Result<(), Raised> {
    let py = task.py();
    let name = pyo3::intern!(py, "_asyncio_future_blocking");
    if let Some(blocking) = awaited.attr_opt(name)?.and_then(Obj::not_none) {
        if awaited.is(task.as_obj()) {
            return fail_soon(task, "Task cannot await on itself", None);
        }
        let blocking = blocking.truth()?;
        let its_loop = match awaited.attr_opt(pyo3::intern!(py, "get_loop"))? {
            Some(get_loop) => get_loop.call0()?,
            None => awaited.attr(pyo3::intern!(py, "_loop"))?,
        };
        if !its_loop.is(event_loop) {
            return fail_soon(task, "attached to a different loop", Some(&awaited));
        }
        if !blocking {
            return fail_soon(task, "yield was used instead of yield from", Some(&awaited));
        }
        awaited.set_attr(name, &Obj::bool(py, false))?;
        super::registry::add_awaited_by(&awaited, task.as_obj())?;
        let wakeup = Task::wakeup_method(task)?;
        let context = task.context.get().unwrap_or_else(|| Obj::none(py));
        let names = asyncio(py).context_name.get(py);
        let add = pyo3::intern!(py, "add_done_callback");
        awaited.method_named(add, &[&wakeup, &context], Some(names))?;
        task.waiter.set(Some(awaited));
        return cancel_what_is_awaited(task);
    }
    if awaited.is_generator_exact() {
        return fail_soon(
            task,
            "yield was used instead of yield from for generator",
            Some(&awaited),
        );
    }
    fail_soon(task, "Task got bad yield", Some(&awaited))
}

/// The coroutine has yielded what it must not: the next step throws a RuntimeError into it.
#[cold]
fn fail_soon(task: &Ref<Task>, problem: &str, awaited: Option<&Obj>) -> Result<(), Raised> {
    let py = task.py();
    let own = task.as_obj().repr()?;
    let own = own.as_str()?;
    let other = match awaited {
        Some(awaited) => awaited.repr()?.to_string()?,
        None => String::new(),
    };
    let text = match problem {
        "Task cannot await on itself" => format!("{problem}: {own}"),
        "attached to a different loop" => {
            format!("Task {own} got Future {other} {problem}")
        }
        "Task got bad yield" => format!("{problem}: {other}"),
        _ => format!("{problem} in task {own} with {other}"),
    };
    // Made, not raised: what the program handles at the moment is not its context.
    let class = Obj::class_of::<pyo3::exceptions::PyRuntimeError>(py);
    let error = class.call1(&Obj::str(py, &text)?)?;
    Task::schedule_step(task, Some(error))
}
