//! The behaviour that all native coroutine objects share: driving, ending and inspecting them.
//!
//! A native coroutine has no frame. A [`Coroutine`] is a state machine: at each [`Turn`] it says
//! what it awaits or returns, and gets the outcome of the await at the next. This file does what
//! the interpreter does for `async def`: it drives what is awaited (it waits on a Future, and sends
//! into a coroutine or iterator), throws into it, closes it, and warns if nothing ever awaited it.

use std::cell::Cell;
use std::ffi::CString;

use cpython::build::{Builder, Next};
use cpython::coro::{self, Step};
use cpython::{Args, GcFields, Hot, NoParent, Obj, Python, Raised, Ref, Slot, Visit};

use super::frames;
use crate::futures::{Future, Thrown, await_step, is_exit};

/// The name of the object in the message about a StopIteration that it raises.
const KIND: &str = "coroutine";

/// The next action of a coroutine.
pub(crate) enum Turn {
    /// It returns a value.
    Return(Obj),
    /// It awaits a Future, a coroutine or anything else that can be awaited.
    Await(Obj),
    /// It lets other entries run: a bare `yield`, whose outcome is None.
    Pause,
}

/// How far a coroutine has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Not awaited yet.
    New,
    /// It runs at this moment.
    Running,
    /// It waits on the Future in `awaited`.
    Waiting,
    /// The iterator in `awaited` has yielded.
    Driving,
    /// It has yielded to let other entries run.
    Paused,
    /// It has ended.
    Done,
}

/// How far a coroutine has come, and what it awaits.
pub(crate) struct CoroutineState {
    progress: Cell<Progress>,
    awaited: Slot,
    /// The coroutines whose frames it has shown; they stand for asyncio's functions.
    pub(super) shown: Slot,
}

impl Default for CoroutineState {
    fn default() -> CoroutineState {
        CoroutineState {
            progress: Cell::new(Progress::New),
            awaited: Slot::default(),
            shown: Slot::default(),
        }
    }
}

impl GcFields for CoroutineState {
    fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.awaited);
        visit.slot(&self.shown);
    }
    #[inline]
    fn let_go(&self) {
        self.awaited.set(None);
        self.shown.set(None);
    }
}

impl CoroutineState {
    /// Whether `finalize` has something to do.
    #[inline]
    pub(crate) fn needs_finalizer(&self) -> bool {
        self.progress.get() != Progress::Done
    }

    /// Whether nothing has awaited it yet.
    #[inline]
    pub(crate) fn is_new(&self) -> bool {
        self.progress.get() == Progress::New
    }

    /// Whether it is being awaited, and waits itself.
    #[inline]
    fn is_suspended(&self) -> bool {
        matches!(
            self.progress.get(),
            Progress::Waiting | Progress::Driving | Progress::Paused
        )
    }

    /// Makes it new again, for an object that is used again.
    #[inline]
    pub(crate) fn renew(&self) {
        self.progress.set(Progress::New);
    }

    /// A step of a coroutine that yields once and returns None. Returns nothing in any other state.
    #[inline]
    pub(crate) fn pause_once(&self, py: Python<'_>) -> Option<Next> {
        match self.progress.get() {
            Progress::New => {
                self.progress.set(Progress::Paused);
                Some(Next::Yield(Obj::none(py)))
            }
            Progress::Paused => {
                self.progress.set(Progress::Done);
                Some(Next::Return(Obj::none(py)))
            }
            _ => None,
        }
    }

    /// Notes that a short way has ended the coroutine.
    #[inline]
    pub(crate) fn finish(&self) {
        self.progress.set(Progress::Done);
    }

    /// The object that it awaits.
    pub(crate) fn awaited(&self) -> Option<Obj> {
        self.awaited.get()
    }

    /// Begins to await. Yields the object to wait on, or has the outcome at once.
    #[inline]
    fn begin(&self, awaitable: Obj) -> Result<Next, Raised> {
        let future = Ref::<Future>::of(&awaitable)
            .filter(|_| Ref::<Future>::is_exact(&awaitable) || coro::awaits_itself(&awaitable));
        let Some(future) = future else {
            let iterator = coro::await_iterator(&awaitable)?;
            self.awaited.set(Some(iterator.clone()));
            let step = coro::send(&iterator, &Obj::none(iterator.py()));
            return self.driven(step);
        };
        let next = await_step(future, future)?;
        if let Next::Yield(_) = next {
            self.awaited.set(Some(awaitable));
            self.progress.set(Progress::Waiting);
        }
        Ok(next)
    }

    /// Takes a step of the iterator in `awaited`.
    fn driven(&self, step: Step) -> Result<Next, Raised> {
        match step {
            Step::Yielded(object) => {
                self.progress.set(Progress::Driving);
                Ok(Next::Yield(object))
            }
            Step::Returned(value) => {
                self.awaited.set(None);
                Ok(Next::Return(value))
            }
            Step::Raised(raised) => {
                if let Some(iterator) = self.awaited.take() {
                    let exception = raised.take(iterator.py());
                    drop(iterator);
                    return Err(Raised::raise(exception));
                }
                Err(raised)
            }
        }
    }
}

/// The value of a native coroutine object. [`super::class`] makes its type.
pub(crate) trait Coroutine: Hot<Parent = NoParent> + AsRef<CoroutineState> {
    /// The state that all coroutines have.
    #[inline]
    fn state(&self) -> &CoroutineState {
        self.as_ref()
    }

    /// The plain and the qualified name of the function that it stands for.
    fn names(&self) -> (&'static str, &'static str);

    /// The code objects of the asyncio functions in whose place it stands at this moment, from the
    /// one that was called to the innermost. Call graphs show their frames.
    fn codes(&self, _py: Python<'_>) -> Vec<Obj> {
        Vec::new()
    }

    /// The object that `await` drives: the coroutine itself.
    #[inline]
    fn awaited(this: &Ref<Self>) -> Ref<Self> {
        this.clone()
    }

    /// A shorter way through a step, where the coroutine has one. Called first at each step. If it
    /// returns an outcome, it has updated the state, and `end` is not called.
    #[inline]
    fn shortcut(_this: &Ref<Self>) -> Option<Next> {
        None
    }

    /// Runs from the beginning to the first await.
    fn begin(this: &Ref<Self>) -> Result<Turn, Raised>;

    /// Runs from an await to the next. `outcome` is that of the await; an exception is set in the
    /// thread, as if the `await` had raised it.
    fn resume(this: &Ref<Self>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised>;

    /// Called when the coroutine has ended in any way, also by `close()` and release. It cancels
    /// what would wake the coroutine, and releases everything.
    #[inline]
    fn end(this: &Ref<Self>) {
        this.clear();
    }
}

/// Ends the coroutine by an exception. Returns the exception that leaves it.
#[cold]
fn fail<T: Coroutine>(this: &Ref<T>, raised: Raised) -> Raised {
    this.state().progress.set(Progress::Done);
    let exception = raised.take(this.py());
    end(this);
    coro::leave(exception, KIND)
}

/// Runs the coroutine from an outcome (none: from its beginning) to the next `yield` or its end.
#[inline]
fn run<T: Coroutine>(
    this: &Ref<T>,
    mut outcome: Option<Result<Obj, Raised>>,
) -> Result<Next, Raised> {
    let state = this.state();
    state.progress.set(Progress::Running);
    loop {
        let turn = match outcome {
            None => T::begin(this),
            Some(outcome) => T::resume(this, outcome),
        };
        let next = match turn {
            Ok(Turn::Return(value)) => {
                state.progress.set(Progress::Done);
                end(this);
                return Ok(Next::Return(value));
            }
            Ok(Turn::Await(awaitable)) => state.begin(awaitable),
            Ok(Turn::Pause) => {
                state.progress.set(Progress::Paused);
                return Ok(Next::Yield(Obj::none(this.py())));
            }
            Err(raised) => return Err(fail(this, raised)),
        };
        outcome = match next {
            Ok(Next::Return(value)) => Some(Ok(value)),
            Err(raised) => Some(Err(raised)),
            yielded => return yielded,
        };
    }
}

#[inline]
fn step<T: Coroutine>(this: &Ref<T>, value: &Obj) -> Result<Next, Raised> {
    match T::shortcut(this) {
        Some(next) => Ok(next),
        None => whole_step(this, value),
    }
}

fn whole_step<T: Coroutine>(this: &Ref<T>, value: &Obj) -> Result<Next, Raised> {
    let state = this.state();
    match state.progress.get() {
        Progress::New => run(this, None),
        Progress::Waiting => {
            state.progress.set(Progress::Running);
            let awaited = state.awaited.take();
            let outcome = match awaited.as_ref().and_then(Ref::<Future>::of) {
                Some(future) if future.is_pending() => {
                    let text = "await wasn't used with future";
                    Err(Raised::runtime_error(this.py(), text))
                }
                Some(future) => Future::result(future),
                None => Ok(Obj::none(this.py())),
            };
            run(this, Some(outcome))
        }
        Progress::Driving => {
            state.progress.set(Progress::Running);
            let step = match state.awaited.get() {
                Some(iterator) => coro::send(&iterator, value),
                None => Step::Returned(Obj::none(this.py())),
            };
            go_on(this, step)
        }
        Progress::Paused => run(this, Some(Ok(Obj::none(this.py())))),
        Progress::Running | Progress::Done => Err(cannot_run(this)),
    }
}

/// Goes on after a step of the awaited iterator: yields what it yielded, or resumes with its
/// outcome.
fn go_on<T: Coroutine>(this: &Ref<T>, step: Step) -> Result<Next, Raised> {
    match this.state().driven(step) {
        Ok(Next::Yield(object)) => Ok(Next::Yield(object)),
        Ok(Next::Return(value)) => run(this, Some(Ok(value))),
        Err(raised) => run(this, Some(Err(raised))),
    }
}

#[cold]
fn cannot_run<T: Coroutine>(this: &Ref<T>) -> Raised {
    match this.state().progress.get() {
        Progress::Running => Raised::value_error(this.py(), "coroutine already executing"),
        _ => Raised::runtime_error(this.py(), "cannot reuse already awaited coroutine"),
    }
}

fn send<T: Coroutine>(this: &Ref<T>, value: &Obj) -> Result<Obj, Raised> {
    if this.state().progress.get() == Progress::New && !value.is_none() {
        let text = "can't send non-None value to a just-started coroutine";
        return Err(Raised::type_error(this.py(), text));
    }
    answer(step(this, value)?)
}

fn answer(next: Next) -> Result<Obj, Raised> {
    match next {
        Next::Yield(object) => Ok(object),
        Next::Return(value) => Err(coro::raise_stop_iteration(&value)),
    }
}

/// `throw(type, value=None, traceback=None)`.
fn throw<T: Coroutine>(this: &Ref<T>, args: &Args<'_>) -> Result<Obj, Raised> {
    let state = this.state();
    // Such calls may nest, so this one uses as little of the stack as it can.
    if let (Progress::Driving, Some([exception])) = (state.progress.get(), args.only_positional()) {
        if !is_exit(exception) {
            return match throw_into(state, args.positional) {
                Some(step) => answer(go_on(this, step)?),
                None => throw_at_await(this, &Thrown::of(this.py(), args)?),
            };
        }
    }
    throw_whatever(this, args)
}

/// Throws into the awaited iterator. Returns nothing if it has no `throw`.
fn throw_into(state: &CoroutineState, arguments: &[Obj]) -> Option<Step> {
    let iterator = state.awaited.get()?;
    state.progress.set(Progress::Running);
    let step = coro::throw(&iterator, arguments);
    if step.is_none() {
        state.progress.set(Progress::Driving);
    }
    step
}

#[inline(never)]
fn throw_whatever<T: Coroutine>(this: &Ref<T>, args: &Args<'_>) -> Result<Obj, Raised> {
    let py = this.py();
    let thrown = Thrown::of(py, args)?;
    let state = this.state();
    let outcome = match state.progress.get() {
        Progress::New => return Err(throw_before(this, &thrown)),
        Progress::Waiting => {
            state.awaited.set(None);
            coro::stop_iteration_value(thrown.raised_by_future(), py)
        }
        // At this point asyncio's coroutine awaits a generator.
        Progress::Paused => match thrown.for_coroutine() {
            Ok(exception) => Err(coro::leave(exception, "generator")),
            Err(raised) => Err(raised),
        },
        Progress::Driving if thrown.is_exit() => {
            let exception = thrown.for_coroutine()?;
            match close_awaited(state, py) {
                Some(outcome) => outcome.map_err(Raised::raise),
                None => Err(Raised::raise(exception)),
            }
        }
        Progress::Driving => match throw_into(state, &thrown.arguments()) {
            Some(step) => return answer(go_on(this, step)?),
            None => return throw_at_await(this, &thrown),
        },
        Progress::Running | Progress::Done => return Err(cannot_run(this)),
    };
    answer(run(this, Some(outcome))?)
}

/// Raises the exception at the `await`, because the awaited iterator has no `throw`.
#[cold]
fn throw_at_await<T: Coroutine>(this: &Ref<T>, thrown: &Thrown) -> Result<Obj, Raised> {
    let exception = thrown.for_coroutine()?;
    this.state().awaited.set(None);
    let outcome = coro::outcome_at_await(Raised::raise(exception), this.py());
    answer(run(this, Some(outcome))?)
}

/// Closes the awaited iterator. If that fails, returns the outcome of the `await`.
fn close_awaited(state: &CoroutineState, py: Python<'_>) -> Option<Result<Obj, Obj>> {
    let iterator = state.awaited.get()?;
    state.progress.set(Progress::Running);
    let raised = coro::close(&iterator).err();
    let outcome =
        raised.map(|raised| coro::outcome_at_await(raised, py).map_err(|raised| raised.take(py)));
    state.awaited.set(None);
    outcome
}

/// Ends a coroutine of which nothing has run. The exception is its own, so since 3.12 it may be
/// any.
#[cold]
fn throw_before<T: Coroutine>(this: &Ref<T>, thrown: &Thrown) -> Raised {
    let exception = match thrown.for_coroutine() {
        Ok(exception) => exception,
        Err(raised) => return raised,
    };
    this.state().progress.set(Progress::Done);
    end(this);
    if cfg!(Py_3_12) {
        Raised::raise(exception)
    } else {
        coro::leave(exception, KIND)
    }
}

/// `close()`: raises GeneratorExit at the await. Since 3.13 it returns the value that the coroutine
/// returns nevertheless.
fn close<T: Coroutine>(this: &Ref<T>) -> Result<Option<Obj>, Raised> {
    let py = this.py();
    let state = this.state();
    let failed = match state.progress.get() {
        Progress::Done => return Ok(None),
        Progress::New => {
            state.progress.set(Progress::Done);
            end(this);
            return Ok(None);
        }
        Progress::Running => return Err(cannot_run(this)),
        Progress::Waiting | Progress::Paused => {
            state.awaited.set(None);
            None
        }
        Progress::Driving => close_awaited(state, py),
    };
    let exit = Obj::class_of::<pyo3::exceptions::PyGeneratorExit>(py);
    let outcome = match failed {
        None => Err(Raised::raise(exit.call0()?)),
        Some(outcome) => outcome.map_err(Raised::raise),
    };
    match run(this, Some(outcome)) {
        Ok(Next::Return(value)) => Ok(cfg!(Py_3_13).then_some(value)),
        Ok(Next::Yield(_)) => Err(Raised::runtime_error(py, "coroutine ignored GeneratorExit")),
        Err(raised) => raised
            .ignore::<pyo3::exceptions::PyGeneratorExit>(py)
            .map(|()| None),
    }
}

/// The iterator of `await`. Raises RuntimeError if the coroutine is being awaited already: a second
/// step would take the outcome for which the first one waits.
#[inline]
fn begin_await<T: Coroutine>(this: &Ref<T>) -> Result<Ref<T>, Raised> {
    if this.state().is_suspended() {
        return Err(awaited_already(this.py()));
    }
    Ok(T::awaited(this))
}

#[cold]
fn awaited_already(py: Python<'_>) -> Raised {
    Raised::runtime_error(py, "coroutine is being awaited already")
}

/// Adds the slots and attributes of a coroutine: the protocol, and those that `inspect` reads.
pub(crate) fn build_coroutine<T: Coroutine>(builder: &mut Builder<T>) {
    builder
        .iter(|this| this.clone())
        .awaits(begin_await)
        .step(step)
        .method1(c"send", c"send($self, value, /)\n--\n\nOne step.", send)
        .method(
            c"throw",
            c"throw($self, type, value=None, traceback=None, /)\n--\n\n\
              Raise an exception where it waits.",
            throw,
        )
        .method0(
            c"close",
            c"close($self, /)\n--\n\nClose the coroutine.",
            close,
        )
        .repr(|this| {
            let (_, qualified) = this.names();
            format!(
                "<coroutine object {qualified} at {:p}>",
                this.as_obj().as_ptr()
            )
        })
        .get(c"__name__", c"Name of the function.", |this| {
            String::from(this.names().0)
        })
        .get(
            c"__qualname__",
            c"Qualified name of the function.",
            |this| String::from(this.names().1),
        )
        // isinstance(), and through it inspect.iscoroutine(), sees a coroutine.
        .get(c"__class__", c"The class of coroutines.", |this| {
            let types = Obj::import(this.py(), c"types")?;
            types.attr(pyo3::intern!(this.py(), "CoroutineType"))
        })
        .get(
            c"cr_running",
            c"Whether the coroutine runs at this moment.",
            |this| this.state().progress.get() == Progress::Running,
        )
        .get(
            c"cr_frame",
            c"The frame of the function for which the coroutine stands.",
            frames::frame,
        )
        .get(c"cr_code", c"It has no code.", |this| Obj::none(this.py()))
        .get(c"cr_await", c"What it awaits.", frames::awaited)
        .get(c"cr_origin", c"Not kept.", |this| Obj::none(this.py()))
        .get(c"cr_suspended", c"Whether it waits.", |this| {
            this.state().is_suspended()
        });
}

/// Clears up after the end.
#[inline]
fn end<T: Coroutine>(this: &Ref<T>) {
    if this.state().shown.is_some() {
        if let Err(raised) = frames::close(&this.state().shown) {
            raised.report_unraisable(Some(this.as_obj()));
        }
    }
    T::end(this);
}

/// Warns as the interpreter does for its own coroutines: by a function of `warnings` that gets the
/// coroutine as the source, or plainly where `warnings` is gone already.
#[cold]
fn warn_unawaited<T: Coroutine>(this: &Ref<T>) -> Result<(), Raised> {
    let py = this.py();
    let function = Obj::import(py, c"warnings")
        .and_then(|warnings| warnings.attr_opt(pyo3::intern!(py, "_warn_unawaited_coroutine")));
    match function {
        Ok(Some(function)) => return function.call1(this.as_obj()).map(drop),
        Ok(None) => {}
        Err(raised) => drop(raised.take(py)),
    }
    let text = format!("coroutine '{}' was never awaited", this.names().1);
    let category = Obj::class_of::<pyo3::exceptions::PyRuntimeWarning>(py);
    let text = CString::new(text).unwrap_or_default();
    cpython::error::warn(&category, &text, 1)
}

/// Called when the coroutine is released: warns if it was never awaited, otherwise closes it.
pub(crate) fn finalize<T: Coroutine>(this: &Ref<T>) {
    let outcome = if this.state().progress.get() == Progress::New {
        let warned = warn_unawaited(this);
        this.state().progress.set(Progress::Done);
        warned
    } else {
        close(this).map(drop)
    };
    if let Err(raised) = outcome {
        raised.report_unraisable(Some(this.as_obj()));
    }
}
