//! What every native coroutine object is: how it is driven, ended and looked at.
//!
//! It has no frame. It waits on one Future at a time, which it yields; ended by `throw()`,
//! `close()` or its release, it puts back whatever would wake it.

use std::cell::Cell;
use std::ffi::CString;

use cpython::build::{Builder, Next};
use cpython::{Args, Hot, NoParent, Obj, Raised, Ref};

use crate::futures::{Future, thrown};

/// How far a coroutine has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Not awaited yet.
    New,
    /// Has yielded; waits.
    Waiting,
    /// Has ended.
    Done,
}

/// The value of a native coroutine object.
pub(crate) trait Coroutine: Hot<Parent = NoParent> {
    /// How far it has come.
    fn progress(&self) -> &Cell<Progress>;

    /// The names of the function that it stands for: plain and qualified.
    fn names(&self) -> (&'static str, &'static str);

    /// The Future that it waits on; none where it only lets others run.
    fn waits_on(&self) -> Option<Ref<Future>>;

    /// The first step. Progress is `Done` while it runs, and stays so if it fails.
    fn begin(this: &Ref<Self>) -> Result<Next, Raised>;

    /// The Future is done, or others have run: what it returns.
    fn resume(this: &Ref<Self>) -> Result<Obj, Raised>;

    /// Puts back what would wake it and lets go of everything.
    fn end(this: &Ref<Self>) -> Result<(), Raised>;
}

/// Waits on the Future.
pub(crate) fn wait<T: Coroutine>(this: &Ref<T>, future: &Ref<Future>) -> Next {
    future.set_blocking_on();
    this.progress().set(Progress::Waiting);
    Next::Yield(future.as_obj().clone())
}

fn step<T: Coroutine>(this: &Ref<T>, _value: &Obj) -> Result<Next, Raised> {
    let py = this.py();
    match this.progress().get() {
        Progress::New => {
            this.progress().set(Progress::Done);
            let begun = T::begin(this);
            if this.progress().get() == Progress::Done {
                return end_with(this, begun);
            }
            begun
        }
        Progress::Waiting => {
            if this.waits_on().is_some_and(|future| future.is_pending()) {
                return Err(Raised::runtime_error(py, "await wasn't used with future"));
            }
            this.progress().set(Progress::Done);
            let result = T::resume(this);
            end_with(this, result.map(Next::Return))
        }
        Progress::Done => Err(reused(this)),
    }
}

/// Ends it with an outcome, which a failure of the ending does not replace.
fn end_with<T: Coroutine>(this: &Ref<T>, outcome: Result<Next, Raised>) -> Result<Next, Raised> {
    match outcome {
        Ok(next) => T::end(this).map(|()| next),
        Err(raised) => {
            let exception = raised.take(this.py());
            if let Err(raised) = T::end(this) {
                raised.report_unraisable(Some(this.as_obj()));
            }
            Err(Raised::raise(exception))
        }
    }
}

#[cold]
fn reused<T: Coroutine>(this: &Ref<T>) -> Raised {
    Raised::runtime_error(this.py(), "cannot reuse already awaited coroutine")
}

fn send<T: Coroutine>(this: &Ref<T>, value: &Obj) -> Result<Obj, Raised> {
    if this.progress().get() == Progress::New && !value.is_none() {
        let text = "can't send non-None value to a just-started coroutine";
        return Err(Raised::type_error(this.py(), text));
    }
    match step(this, value)? {
        Next::Yield(object) => Ok(object),
        Next::Return(value) => Err(cpython::coro::raise_stop_iteration(&value)),
    }
}

fn throw<T: Coroutine>(this: &Ref<T>, args: &Args<'_>) -> Result<Obj, Raised> {
    let names = &["type", "value", "traceback"];
    let [class, value, traceback] = args.bind("throw", names, 3, 1)?;
    if this.progress().get() == Progress::Done {
        return Err(reused(this));
    }
    close(this)?;
    Err(thrown(this.py(), class, value, traceback))
}

fn close<T: Coroutine>(this: &Ref<T>) -> Result<(), Raised> {
    this.progress().set(Progress::Done);
    T::end(this)
}

/// Adds what makes the type a coroutine: the protocol, and what `inspect` looks at.
pub(crate) fn build_coroutine<T: Coroutine>(builder: &mut Builder<T>) {
    builder
        .iter(|this| this.clone())
        .awaits(|this| this.clone())
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
        .get(c"cr_running", c"Never while it can be asked.", |_| false)
        .get(c"cr_frame", c"It has no frame.", |this| {
            Obj::none(this.py())
        })
        .get(c"cr_code", c"It has no code.", |this| Obj::none(this.py()))
        .get(c"cr_await", c"The Future it waits on.", |this| {
            this.waits_on()
        })
        .get(c"cr_origin", c"Not kept.", |this| Obj::none(this.py()))
        .get(c"cr_suspended", c"Whether it waits.", |this| {
            this.progress().get() == Progress::Waiting
        });
}

/// The coroutine is released: warns if it was never awaited, else ends it.
pub(crate) fn finalize<T: Coroutine>(this: &Ref<T>) {
    let py = this.py();
    let outcome = if this.progress().replace(Progress::Done) == Progress::New {
        let text = format!("coroutine '{}' was never awaited", this.names().1);
        let category = Obj::class_of::<pyo3::exceptions::PyRuntimeWarning>(py);
        let text = CString::new(text).unwrap_or_default();
        cpython::error::warn(&category, &text, 1)
    } else {
        T::end(this)
    };
    if let Err(raised) = outcome {
        raised.report_unraisable(Some(this.as_obj()));
    }
}
