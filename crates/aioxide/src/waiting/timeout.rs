//! `Timeout`, `timeout(delay)`, `timeout_at(when)`.

use std::cell::Cell;

use cpython::build::{Builder, MethodDef, function};
use cpython::callable::callable;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot};

use super::codes::{Code, codes};
use super::ensure_future::get_running_loop;
use super::expiry::{Expiry, Progress};
use super::timer::When;
use super::watching::Watcher;
use crate::coroutines::class::coroutine_class;
use crate::coroutines::coroutine::{Coroutine, Course, Turn};
use crate::coroutines::put_method;

/// The value of a Timeout.
pub(crate) struct Timeout {
    expiry: Expiry,
}

impl Timeout {
    fn create(py: Python<'_>, when: Option<When>) -> Result<Obj, Raised> {
        let timeout = Timeout {
            expiry: Expiry::new(when),
        };
        Ref::new(py, timeout).map(Ref::into_obj)
    }

    fn init(this: &Ref<Timeout>, args: &Args<'_>) -> Result<(), Raised> {
        let [when] = args.bind_as_python("Timeout.__init__", &["when"], 1)?;
        this.expiry.progress.set(Progress::Created);
        this.expiry.set_when(given(when));
        Ok(())
    }

    fn when(this: &Ref<Timeout>) -> Result<Option<Obj>, Raised> {
        match this.expiry.when() {
            Some(when) => when.to_object(this.py()).map(Some),
            None => Ok(None),
        }
    }

    fn reschedule(this: &Ref<Timeout>, args: &Args<'_>) -> Result<(), Raised> {
        let [when] = args.bind_as_python("Timeout.reschedule", &["when"], 1)?;
        this.expiry.reschedule(given(when), this.as_obj())
    }

    fn expired(this: &Ref<Timeout>) -> bool {
        matches!(
            this.expiry.progress.get(),
            Progress::Expiring | Progress::Expired
        )
    }

    fn repr(this: &Ref<Timeout>) -> Result<String, Raised> {
        let py = this.py();
        let progress = this.expiry.progress.get();
        let mut text = format!("<Timeout [{}]", progress.word());
        if progress == Progress::Entered {
            let when = match Timeout::when(this)? {
                Some(when) => {
                    let builtins = Obj::import(py, c"builtins")?;
                    let digits = Obj::int(py, 3)?;
                    builtins.method(pyo3::intern!(py, "round"), &[&when, &digits])?
                }
                None => Obj::none(py),
            };
            text += &format!(" when={}", when.str_of()?.as_str()?);
        }
        Ok(text + ">")
    }

    fn enter(this: &Ref<Timeout>) -> Result<(), Raised> {
        let py = this.py();
        this.expiry.enter(py)?;
        if Ref::<Timeout>::is_exact(this.as_obj()) {
            return this.expiry.start(this.as_obj());
        }
        let when = Timeout::when(this)?.unwrap_or_else(|| Obj::none(py));
        let name = pyo3::intern!(py, "reschedule");
        this.as_obj().method(name, &[&when]).map(drop)
    }
}

fn given(when: Option<Obj>) -> Option<When> {
    when.and_then(Obj::not_none).map(When::Given)
}

impl Watcher for Timeout {
    const CALLABLE: &'static MethodDef = {
        static CALLABLE: MethodDef = MethodDef::new(c"_done", c"It watches no future.");
        &CALLABLE
    };
    const DUE: &'static MethodDef = {
        static DUE: MethodDef = MethodDef::new(c"_on_timeout", c"The time has come.");
        &DUE
    };

    fn told(_: &Ref<Timeout>, _: &Obj) -> Result<(), Raised> {
        Ok(())
    }

    fn due(this: &Ref<Timeout>) -> Result<(), Raised> {
        this.expiry.expire()
    }
}

impl Hot for Timeout {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide.Timeout";
    const DOC: &'static std::ffi::CStr = c"Timeout(when)\n--\n\n\
        Asynchronous context manager that cancels its block when the time has come.\n\n\
        when: a time of loop.time(), or None. Made by timeout() and timeout_at().";
    const FREELIST: usize = 256;
    cpython::hot_type!();
    cpython::holds!(expiry);

    fn build(builder: &mut Builder<Self>) {
        builder
            .new_value(|_| {
                Ok(Timeout {
                    expiry: Expiry::new(None),
                })
            })
            .init(Timeout::init)
            .instance_dict()
            .weak_references()
            .repr(Timeout::repr)
            .method0(
                c"when",
                c"when($self, /)\n--\n\nThe time, or None.",
                Timeout::when,
            )
            .method(
                c"reschedule",
                c"reschedule($self, /, when)\n--\n\nSet another time, or None.",
                Timeout::reschedule,
            )
            .method0(
                c"expired",
                c"expired($self, /)\n--\n\nWhether the time came while the block ran.",
                Timeout::expired,
            )
            .get(c"_when", c"The time, or None.", Timeout::when)
            .get(c"_task", c"The task that it cancels.", |this| {
                this.expiry.task()
            })
            .get(c"_timeout_handler", c"Whether its timer runs.", |this| {
                this.expiry.is_scheduled().then(|| this.as_obj().clone())
            });
    }
}

/// The value of the coroutine object that `__aenter__` or `__aexit__` returns.
pub(crate) struct TimeoutStep {
    timeout: Slot<Ref<Timeout>>,
    leaves: Cell<bool>,
    class: Slot,
    exception: Slot,
    course: Course,
}

impl TimeoutStep {
    fn create(
        this: Option<Obj>,
        method: &str,
        leaving: Option<(Option<Obj>, Option<Obj>)>,
    ) -> Result<Ref<TimeoutStep>, Raised> {
        let timeout = this.as_ref().and_then(Ref::<Timeout>::of).cloned();
        let Some(timeout) = timeout else {
            return Err(not_a_timeout(this, method));
        };
        let leaves = leaving.is_some();
        let (class, exception) = leaving.unwrap_or_default();
        let py = timeout.py();
        Ref::new(
            py,
            TimeoutStep {
                timeout: Slot::new(Some(timeout.clone())),
                leaves: Cell::new(leaves),
                class: Slot::new(class.and_then(Obj::not_none)),
                exception: Slot::new(exception.and_then(Obj::not_none)),
                course: Course::default(),
            },
        )
    }

    fn enter(_: Python<'_>, args: &Args<'_>) -> Result<Ref<TimeoutStep>, Raised> {
        let [this] = args.bind_function("Timeout.__aenter__", &["self"], 1)?;
        TimeoutStep::create(this, "__aenter__", None)
    }

    fn leave(_: Python<'_>, args: &Args<'_>) -> Result<Ref<TimeoutStep>, Raised> {
        let names = &["self", "exc_type", "exc_val", "exc_tb"];
        let [this, class, exception, _] = args.bind_function("Timeout.__aexit__", names, 4)?;
        TimeoutStep::create(this, "__aexit__", Some((class, exception)))
    }
}

#[cold]
fn not_a_timeout(this: Option<Obj>, method: &str) -> Raised {
    match this {
        Some(this) => {
            let text = format!("{method}() requires a Timeout");
            Raised::type_error(this.py(), &text)
        }
        None => Raised,
    }
}

impl Coroutine for TimeoutStep {
    fn names(&self) -> (&'static str, &'static str) {
        if self.leaves.get() {
            ("__aexit__", "Timeout.__aexit__")
        } else {
            ("__aenter__", "Timeout.__aenter__")
        }
    }

    fn codes(&self, py: Python<'_>) -> Vec<Obj> {
        let code = if self.leaves.get() {
            Code::TimeoutExit
        } else {
            Code::TimeoutEnter
        };
        codes(py, &[code])
    }

    fn begin(this: &Ref<TimeoutStep>) -> Result<Turn, Raised> {
        let py = this.py();
        let Some(timeout) = this.timeout.take() else {
            return Ok(Turn::Return(Obj::none(py)));
        };
        if !this.leaves.get() {
            Timeout::enter(&timeout)?;
            return Ok(Turn::Return(timeout.into_obj()));
        }
        let (class, exception) = (this.class.take(), this.exception.take());
        timeout
            .expiry
            .exit(py, class.as_ref(), exception.as_ref())?;
        Ok(Turn::Return(Obj::none(py)))
    }

    fn resume(_: &Ref<TimeoutStep>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised> {
        outcome.map(Turn::Return)
    }
}

coroutine_class! {
    TimeoutStep: c"aioxide._aioxide.timeout_coroutine", c"The coroutine object by which a Timeout is entered or left.";
    const FREELIST: usize = 256;
    holds timeout, class, exception;
}

fn timeout(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    let [delay] = args.bind_function("timeout", &["delay"], 1)?;
    let event_loop = get_running_loop(py)?;
    let when = match delay.and_then(Obj::not_none) {
        Some(delay) => Some(When::after(&event_loop, &delay)?),
        None => None,
    };
    Timeout::create(py, when)
}

fn timeout_at(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    let [when] = args.bind_function("timeout_at", &["when"], 1)?;
    Timeout::create(py, given(when))
}

/// Builds the types; `timeouts` is asyncio's module.
pub(super) fn build(py: Python<'_>, timeouts: &Obj) -> Result<(), Raised> {
    let class = cpython::build::build::<Timeout>(py, None, 0)?;
    cpython::build::build::<TimeoutStep>(py, None, 0)?;
    let original = timeouts.attr(pyo3::intern!(py, "Timeout"))?;
    let enter = callable(py, "__aenter__", "Start the timer.", TimeoutStep::enter)?;
    let leave = callable(
        py,
        "__aexit__",
        "Stop the timer; raise TimeoutError if it was what cancelled the block.",
        TimeoutStep::leave,
    )?;
    put_method(&class, &original, "__aenter__", &enter)?;
    put_method(&class, &original, "__aexit__", &leave)
}

/// Adds class and functions to the module.
pub(super) fn add_functions(py: Python<'_>, module: &Obj, name: &Obj) -> Result<(), Raised> {
    module.set_attr(pyo3::intern!(py, "Timeout"), &Ref::<Timeout>::class(py))?;
    let doc = c"timeout(delay)\n--\n\n\
        A Timeout whose time comes after delay seconds, or never if that is None.";
    let made = function(py, c"timeout", doc, name, timeout)?;
    module.set_attr(pyo3::intern!(py, "timeout"), &made)?;
    let doc = c"timeout_at(when)\n--\n\n\
        A Timeout whose time comes when loop.time() is when, or never if that is None.";
    let made = function(py, c"timeout_at", doc, name, timeout_at)?;
    module.set_attr(pyo3::intern!(py, "timeout_at"), &made)
}
