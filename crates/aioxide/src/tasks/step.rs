//! One step of a Task: send into the coroutine, then end or wait on what it yields.

use cpython::{Obj, Raised, Ref, context, coro};

use super::mirror;
use super::task::{Task, cancel_awaited};
use crate::event_loop::EventLoop;
use crate::futures::{self, Flag, Future};
use crate::handles::{Entry, Handle};
use crate::interop::ending::ends_program;
use crate::interop::{EndsProgram, asyncio, current};

/// The work that is left once the task no longer runs.
#[derive(Clone, Copy, PartialEq)]
enum After {
    /// Nothing: the task has ended, or something will wake it.
    Nothing,
    /// Another step in the next iteration.
    Again,
}

/// Runs a task's entry of its loop's ready queue, a step or a wake-up, in the task's context.
pub(crate) fn run(event_loop: &Ref<EventLoop>, object: Obj) -> Result<(), EndsProgram> {
    let Some(task) = Ref::<Task>::of(&object) else {
        return match Ref::<Task>::of_any(&object) {
            Some(task) => task.within(run_elsewhere),
            None => Ok(()),
        };
    };
    let entered = match context::enter_field(&task.context) {
        Ok(Some(entered)) => entered,
        Ok(None) => return Ok(()),
        Err(raised) => return report(task, raised),
    };
    let waiter = task.waiter.take();
    let error = match task.parent_value().waiters.take_error() {
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

/// Runs a task of another loop, which a program has put into this loop's queue.
#[cold]
fn run_elsewhere(task: &Ref<Task>) -> Result<(), EndsProgram> {
    match step(task, task.parent_value().waiters.take_error()) {
        Ok(()) => Ok(()),
        Err(raised) => report(task, raised),
    }
}

/// The exception of the awaited future, if the task was waiting on one that has failed.
#[inline]
fn outcome_of(waiter: Option<&Obj>) -> Option<Obj> {
    Ref::<Future>::of(waiter?).and_then(Future::error_if_done)
}

/// Reports an exception of a step as any callback's exception, unless it ends the program.
#[cold]
fn report(task: &Ref<Task>, raised: Raised) -> Result<(), EndsProgram> {
    let Some(event_loop) = task.parent().event_loop() else {
        return EndsProgram::or_caught(task.py(), raised).map(drop);
    };
    let step = || Task::step_method(task);
    Handle::report_call(&event_loop, step, &[], task.context.get(), raised)
}

/// Wakes the task with a future that is done. Foreign futures and loops call this through a
/// callable.
pub(super) fn wakeup(task: &Ref<Task>, future: &Obj) -> Result<(), Raised> {
    let of_task = || Ref::<Task>::of_exact(future).map(Ref::parent);
    let error = match Ref::<Future>::of_exact(future).or_else(of_task) {
        Some(future) => Future::error(future),
        None => match future.method(pyo3::intern!(task.py(), "result"), &[]) {
            Ok(_) => None,
            Err(raised) => Some(raised.take(task.py())),
        },
    };
    step(task, error)
}

/// Takes a step as the running task of its loop.
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

/// Takes a step as the running task of the loop. `native` is the loop as well, if it is one of
/// ours.
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
            // The task goes on waiting.
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
    entered: current::EnteredTask,
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

/// Takes the first step at once, before `create_task` returns.
pub(super) fn start_eagerly(task: &Ref<Task>, event_loop: &Obj) -> Result<(), Raised> {
    let py = task.py();
    let previous = current::swap(py, event_loop, Some(task.as_obj()))?;
    super::registry::register_eager(task.as_obj())?;
    let Some(task_context) = task.context.get() else {
        return Ok(());
    };
    let mut outcome = context::enter(&task_context);
    if outcome.is_err() {
        // No code gets the task, and the caller gets the exception.
        task.parent().flags.set(Flag::LogDestroyPending, false);
    } else {
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
        // The coroutine is done and no longer needed.
        task.coro.set(None);
        if let Some(mirror) = mirror(py) {
            mirror.set_coro(task, None);
        }
    }
    kept.map_err(Raised::raise)
}

/// Drives the coroutine: sends into it, or throws the error.
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

/// Ends the task with the coroutine's result.
#[inline]
fn end(task: &Ref<Task>, result: Obj, native: Option<&Ref<EventLoop>>) -> Result<(), Raised> {
    if task.parent_value().flags.take(Flag::MustCancel) {
        // The task was cancelled just before the coroutine returned.
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
            // The object is an iterator that raises StopIteration itself.
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

/// Waits on the object that the coroutine has yielded.
#[inline(always)]
fn wait_on(task: &Ref<Task>, event_loop: &Obj, awaited: Obj) -> Result<(), Raised> {
    // A subclass may have overridden methods, which are called as asyncio calls them.
    let future = match Ref::<Future>::of_exact(&awaited) {
        Some(future) => future,
        None => match Ref::<Task>::of_exact(&awaited) {
            Some(other) => other.parent(),
            None => match Future::of_subclass_as_it_is(&awaited) {
                Some(future) => future,
                None => return wait_on_foreign(task, event_loop, awaited),
            },
        },
    };
    if awaited.is(task.as_obj()) {
        return fail_soon(task, Fault::AwaitsItself, &awaited);
    }
    let value: &Future = future;
    if !value.has_loop(event_loop) {
        return fail_soon(task, Fault::OtherLoop, &awaited);
    }
    if !value.take_blocking() {
        return fail_soon(task, Fault::PlainYield, &awaited);
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

/// Passes a cancellation that came while the coroutine ran on to the future on which the task now
/// waits.
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
    if cancel_awaited(&waiter, message.as_ref())? {
        flags.set(Flag::MustCancel, false);
    }
    Ok(())
}

/// Waits on a future that is foreign or of a subclass, or refuses an object that is no future.
#[cold]
fn wait_on_foreign(task: &Ref<Task>, event_loop: &Obj, awaited: Obj) -> Result<(), Raised> {
    let py = task.py();
    let name = pyo3::intern!(py, "_asyncio_future_blocking");
    if let Some(blocking) = awaited.attr_opt(name)?.and_then(Obj::not_none) {
        if awaited.is(task.as_obj()) {
            return fail_soon(task, Fault::AwaitsItself, &awaited);
        }
        let blocking = blocking.truth()?;
        let its_loop = match awaited.attr_opt(pyo3::intern!(py, "get_loop"))? {
            Some(get_loop) => get_loop.call0()?,
            None => awaited.attr(pyo3::intern!(py, "_loop"))?,
        };
        if !its_loop.is(event_loop) {
            return fail_soon(task, Fault::OtherLoop, &awaited);
        }
        if !blocking {
            return fail_soon(task, Fault::PlainYield, &awaited);
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
        return fail_soon(task, Fault::Generator, &awaited);
    }
    fail_soon(task, Fault::NoFuture, &awaited)
}

/// The reason why a task cannot wait on the object that its coroutine has yielded.
#[derive(Clone, Copy)]
enum Fault {
    /// The object is the task itself.
    AwaitsItself,
    /// The object is a future of another loop.
    OtherLoop,
    /// The object is a future that was yielded, not awaited.
    PlainYield,
    /// The object is a generator.
    Generator,
    /// The object is no future.
    NoFuture,
}

/// Schedules a step that throws a RuntimeError, because the coroutine has yielded a wrong object.
#[cold]
fn fail_soon(task: &Ref<Task>, fault: Fault, awaited: &Obj) -> Result<(), Raised> {
    let py = task.py();
    let own = || task.as_obj().repr()?.to_string();
    let other = || awaited.repr()?.to_string();
    // Each repr may raise, so only those that the text shows are made.
    let text = match fault {
        Fault::AwaitsItself => format!("Task cannot await on itself: {}", own()?),
        Fault::OtherLoop => format!(
            "Task {} got Future {} attached to a different loop",
            own()?,
            other()?
        ),
        Fault::PlainYield => format!(
            "yield was used instead of yield from in task {} with {}",
            own()?,
            other()?
        ),
        Fault::Generator => format!(
            "yield was used instead of yield from for generator in task {} with {}",
            own()?,
            other()?
        ),
        Fault::NoFuture => format!("Task got bad yield: {}", other()?),
    };
    // The exception is made, not raised, so that the exception being handled does not become its
    // context.
    let class = Obj::class_of::<pyo3::exceptions::PyRuntimeError>(py);
    let error = class.call1(&Obj::str(py, &text)?)?;
    Task::schedule_step(task, Some(error))
}
