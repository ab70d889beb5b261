//! What every native coroutine object is: how it is driven, ended and looked at.
//!
//! It has no frame: a [`Coroutine`] is a state machine that says at each [`Turn`] what it awaits or
//! returns, and is told the outcome. This file does what the interpreter does for `async def`: it
//! drives what is awaited (a Future is waited on; a coroutine or iterator is sent into), throws
//! into it, closes it, and warns if nothing ever awaited it.

use std::cell::Cell;
use std::ffi::CString;

use cpython::build::{Builder, Next};
use cpython::coro::{self, Step};
use cpython::{Args, Held, Hot, NoParent, Obj, Python, Raised, Ref, Slot, Visit};

use super::frames;
use crate::futures::{Future, await_step, thrown};

/// What a coroutine does next.
pub(crate) enum Turn {
    /// It returns a value.
    Return(Obj),
    /// It awaits a Future, a coroutine or anything else that can be awaited.
    Await(Obj),
    /// It lets others run: a bare `yield`, whose outcome is None.
    Pause,
}

/// How far a coroutine has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Not awaited yet.
    New,
    /// It runs at this moment.
    Running,
    /// Waits on the Future in `awaited`.
    Waiting,
    /// What it awaits, an iterator in `awaited`, has yielded.
    Driving,
    /// Has let others run.
    Paused,
    /// Has ended.
    Done,
}

/// Where a coroutine stands, and what it awaits there.
pub(crate) struct Course {
    progress: Cell<Progress>,
    awaited: Slot,
    /// The coroutines whose frames it has shown, of those that stand for functions of asyncio.
    pub(super) shown: Slot,
}

impl Default for Course {
    fn default() -> Course {
        Course {
            progress: Cell::new(Progress::New),
            awaited: Slot::default(),
            shown: Slot::default(),
        }
    }
}

impl Held for Course {
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

impl Course {
    /// Whether `finalize` has something to do.
    #[inline]
    pub(crate) fn needs_finalizer(&self) -> bool {
        self.progress.get() != Progress::Done
    }

    /// Whether nobody has awaited it yet.
    #[inline]
    pub(crate) fn is_new(&self) -> bool {
        self.progress.get() == Progress::New
    }

    /// Whether somebody awaits it, and it waits.
    #[inline]
    fn is_suspended(&self) -> bool {
        matches!(
            self.progress.get(),
            Progress::Waiting | Progress::Driving | Progress::Paused
        )
    }

    /// Of an object that is used again.
    #[inline]
    pub(crate) fn renew(&self) {
        self.progress.set(Progress::New);
    }

    /// A step of what yields once and returns None; nothing if it stands elsewhere.
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

    /// It has ended by a short way.
    #[inline]
    pub(crate) fn finish(&self) {
        self.progress.set(Progress::Done);
    }

    /// What it awaits.
    pub(crate) fn awaited(&self) -> Option<Obj> {
        self.awaited.get()
    }

    /// Begins to await: yields what is to be waited on, or has the outcome at once.
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

    /// The iterator in `awaited` has made a step.
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

/// The value of a native coroutine object; [`super::class`] makes it one.
pub(crate) trait Coroutine: Hot<Parent = NoParent> + AsRef<Course> {
    /// Where it stands.
    #[inline]
    fn course(&self) -> &Course {
        self.as_ref()
    }

    /// The names of the function that it stands for: plain and qualified.
    fn names(&self) -> (&'static str, &'static str);

    /// The code of asyncio's functions in whose place it stands at this moment, from the one that
    /// was called to the innermost: call graphs show their frames.
    fn codes(&self, _py: Python<'_>) -> Vec<Obj> {
        Vec::new()
    }

    /// What `await` makes of it: the object itself.
    #[inline]
    fn awaited(this: &Ref<Self>) -> Ref<Self> {
        this.clone()
    }

    /// A shorter way through a step, where there is one: what the step gives. Asked first, at each
    /// step; whoever answers keeps the course up to date, and needs no `end`.
    #[inline]
    fn shortcut(_this: &Ref<Self>) -> Option<Next> {
        None
    }

    /// Runs to the first await.
    fn begin(this: &Ref<Self>) -> Result<Turn, Raised>;

    /// What it awaited has this outcome; an exception is set in the thread, as if raised by the
    /// `await`. Runs to the next await.
    fn resume(this: &Ref<Self>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised>;

    /// It has ended, in whatever way (at `close()` and release too): puts back what would wake it
    /// and lets go of everything.
    #[inline]
    fn end(this: &Ref<Self>) {
        this.clear();
    }
}

/// Runs it from an outcome (none: from its beginning) to the next `yield` or its end.
#[inline]
fn run<T: Coroutine>(
    this: &Ref<T>,
    mut outcome: Option<Result<Obj, Raised>>,
) -> Result<Next, Raised> {
    let course = this.course();
    course.progress.set(Progress::Running);
    loop {
        let turn = match outcome {
            None => T::begin(this),
            Some(outcome) => T::resume(this, outcome),
        };
        let next = match turn {
            Ok(Turn::Return(value)) => {
                course.progress.set(Progress::Done);
                end(this);
                return Ok(Next::Return(value));
            }
            Ok(Turn::Await(awaitable)) => course.begin(awaitable),
            Ok(Turn::Pause) => {
                course.progress.set(Progress::Paused);
                return Ok(Next::Yield(Obj::none(this.py())));
            }
            Err(raised) => {
                course.progress.set(Progress::Done);
                let exception = raised.take(this.py());
                end(this);
                return Err(Raised::raise(exception));
            }
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
    let course = this.course();
    match course.progress.get() {
        Progress::New => run(this, None),
        Progress::Waiting => {
            course.progress.set(Progress::Running);
            let awaited = course.awaited.take();
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
            course.progress.set(Progress::Running);
            let step = match course.awaited.get() {
                Some(iterator) => coro::send(&iterator, value),
                None => Step::Returned(Obj::none(this.py())),
            };
            go_on(this, step)
        }
        Progress::Paused => run(this, Some(Ok(Obj::none(this.py())))),
        Progress::Running | Progress::Done => Err(cannot_run(this)),
    }
}

/// The awaited iterator has made a step: it yields through, or its outcome is told.
fn go_on<T: Coroutine>(this: &Ref<T>, step: Step) -> Result<Next, Raised> {
    match this.course().driven(step) {
        Ok(Next::Yield(object)) => Ok(Next::Yield(object)),
        Ok(Next::Return(value)) => run(this, Some(Ok(value))),
        Err(raised) => run(this, Some(Err(raised))),
    }
}

#[cold]
fn cannot_run<T: Coroutine>(this: &Ref<T>) -> Raised {
    match this.course().progress.get() {
        Progress::Running => Raised::value_error(this.py(), "coroutine already executing"),
        _ => Raised::runtime_error(this.py(), "cannot reuse already awaited coroutine"),
    }
}

fn send<T: Coroutine>(this: &Ref<T>, value: &Obj) -> Result<Obj, Raised> {
    if this.course().progress.get() == Progress::New && !value.is_none() {
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
    let names = &["type", "value", "traceback"];
    let [class, value, traceback] = args.bind("throw", names, 3, 1)?;
    let course = this.course();
    match course.progress.get() {
        Progress::New => {
            course.progress.set(Progress::Done);
            end(this);
            Err(thrown(this.py(), class, value, traceback))
        }
        Progress::Waiting | Progress::Paused => {
            course.awaited.set(None);
            let raised = thrown(this.py(), class, value, traceback);
            answer(run(this, Some(Err(raised)))?)
        }
        Progress::Driving => {
            course.progress.set(Progress::Running);
            let exception = thrown(this.py(), class, value, traceback).take(this.py());
            let step = match course.awaited.get() {
                Some(iterator) => coro::throw(&iterator, exception),
                None => Step::Raised(Raised::raise(exception)),
            };
            answer(go_on(this, step)?)
        }
        Progress::Running | Progress::Done => Err(cannot_run(this)),
    }
}

/// `close()`: GeneratorExit is raised where it waits.
fn close<T: Coroutine>(this: &Ref<T>) -> Result<(), Raised> {
    let py = this.py();
    let course = this.course();
    let outcome = match course.progress.get() {
        Progress::Done => return Ok(()),
        Progress::New => {
            course.progress.set(Progress::Done);
            end(this);
            return Ok(());
        }
        Progress::Running => return Err(cannot_run(this)),
        Progress::Waiting | Progress::Paused => Ok(()),
        Progress::Driving => {
            course.progress.set(Progress::Running);
            match course.awaited.get() {
                Some(iterator) => coro::close(&iterator),
                None => Ok(()),
            }
        }
    };
    course.awaited.set(None);
    let exit = Obj::class_of::<pyo3::exceptions::PyGeneratorExit>(py);
    let raised = match outcome {
        Ok(()) => Raised::raise(exit.call0()?),
        Err(raised) => raised,
    };
    match run(this, Some(Err(raised))) {
        Ok(Next::Return(_)) => Ok(()),
        Ok(Next::Yield(_)) => Err(Raised::runtime_error(py, "coroutine ignored GeneratorExit")),
        Err(raised) => raised.ignore::<pyo3::exceptions::PyGeneratorExit>(py),
    }
}

/// What `await` sends into. Raises RuntimeError if somebody awaits it already: a step would take
/// the outcome that the other waits for.
#[inline]
fn begin_await<T: Coroutine>(this: &Ref<T>) -> Result<Ref<T>, Raised> {
    if this.course().is_suspended() {
        return Err(awaited_already(this.py()));
    }
    Ok(T::awaited(this))
}

#[cold]
fn awaited_already(py: Python<'_>) -> Raised {
    Raised::runtime_error(py, "coroutine is being awaited already")
}

/// Adds what makes the type a coroutine: the protocol, and what `inspect` looks at.
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
        .method0(c"close", c"close($self, /)\n--\n\nEnd it.", close)
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
        // So that isinstance() and with it inspect.iscoroutine() take it for what it stands for.
        .get(c"__class__", c"That of coroutines.", |this| {
            let types = Obj::import(this.py(), c"types")?;
            types.attr(pyo3::intern!(this.py(), "CoroutineType"))
        })
        .get(c"cr_running", c"Whether it runs at this moment.", |this| {
            this.course().progress.get() == Progress::Running
        })
        .get(
            c"cr_frame",
            c"A frame of the function that it stands for.",
            frames::frame,
        )
        .get(c"cr_code", c"It has no code.", |this| Obj::none(this.py()))
        .get(c"cr_await", c"What it awaits.", frames::awaited)
        .get(c"cr_origin", c"Not kept.", |this| Obj::none(this.py()))
        .get(c"cr_suspended", c"Whether it waits.", |this| {
            this.course().is_suspended()
        });
}

/// It has ended.
#[inline]
fn end<T: Coroutine>(this: &Ref<T>) {
    if this.course().shown.is_some() {
        if let Err(raised) = frames::close(&this.course().shown) {
            raised.report_unraisable(Some(this.as_obj()));
        }
    }
    T::end(this);
}

/// As the interpreter does for its own coroutines: by a function of `warnings`, which names the
/// coroutine as the source, or without it where `warnings` is gone already.
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

/// The coroutine is released: warns if it was never awaited, else closes it.
pub(crate) fn finalize<T: Coroutine>(this: &Ref<T>) {
    let outcome = if this.course().progress.get() == Progress::New {
        let warned = warn_unawaited(this);
        this.course().progress.set(Progress::Done);
        warned
    } else {
        close(this)
    };
    if let Err(raised) = outcome {
        raised.report_unraisable(Some(this.as_obj()));
    }
}
