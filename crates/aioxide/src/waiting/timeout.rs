//! `Timeout`, `timeout(delay)`, `timeout_at(when)`.

use std::cell::Cell;

use cpython::build::{Builder, function};
use cpython::callable::{callable, seal};
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot};

use super::codes::{Code, codes};
use super::ensure_future::get_running_loop;
use super::expiry::{Expiry, ExpiryProgress};
use super::timer::TimeoutWhen;
use crate::coroutines::class::coroutine_class;
use crate::coroutines::coroutine::{Coroutine, CoroutineState, Turn};
use crate::coroutines::put_method;
use crate::handles::served::{DueCall, Watcher};

/// The value of a Timeout.
pub(crate) struct Timeout {
    expiry: Expiry,
}

impl Timeout {
    fn create(py: Python<'_>, when: Option<TimeoutWhen>) -> Result<Obj, Raised> {
        let timeout = Timeout {
            expiry: Expiry::new(when),
        };
        Ref::new(py, timeout).map(Ref::into_obj)
    }

    fn init(this: &Ref<Timeout>, args: &Args<'_>) -> Result<(), Raised> {
        let [when] = args.bind_as_python("Timeout.__init__", &["when"], 1)?;
        this.expiry.progress.set(ExpiryProgress::Created);
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
        this.expiry
            .reschedule(given(when), this.as_obj(), Timeout::is_replaced(this))
    }

    /// Whether methods of a subclass or of the object may stand in the place of ours.
    fn is_replaced(this: &Ref<Timeout>) -> bool {
        Ref::<Timeout>::of_bare(this.as_obj()).is_none()
    }

    fn expired(this: &Ref<Timeout>) -> bool {
        matches!(
            this.expiry.progress.get(),
            ExpiryProgress::Expiring | ExpiryProgress::Expired
        )
    }

    fn repr(this: &Ref<Timeout>) -> Result<String, Raised> {
        let py = this.py();
        let progress = this.expiry.progress.get();
        let mut text = format!("<Timeout [{}]", progress.word());
        if progress == ExpiryProgress::Entered {
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
        if !Timeout::is_replaced(this) {
            return this.expiry.start(this.as_obj(), false);
        }
        let when = Timeout::when(this)?.unwrap_or_else(|| Obj::none(py));
        let name = pyo3::intern!(py, "reschedule");
        this.as_obj().method(name, &[&when]).map(drop)
    }
}

fn given(when: Option<Obj>) -> Option<TimeoutWhen> {
    when.and_then(Obj::not_none).map(TimeoutWhen::Given)
}

impl Watcher for Timeout {
    fn callable(this: &Ref<Timeout>, _: &Obj) -> Result<Obj, Raised> {
        Err(Raised::type_error(this.py(), "it watches no future"))
    }

    fn due_call(this: &Ref<Timeout>) -> Result<DueCall, Raised> {
        let name = pyo3::intern!(this.py(), "_on_timeout");
        this.as_obj().attr(name).map(|due| (due, Vec::new()))
    }

    fn on_done(this: &Ref<Timeout>, _: &Obj) -> Result<(), Raised> {
        Err(Raised::type_error(this.py(), "it watches no future"))
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
                c"when($self, /)\n--\n\nThe deadline, or None.",
                Timeout::when,
            )
            .method(
                c"reschedule",
                c"reschedule($self, /, when)\n--\n\nSet another deadline, or None.",
                Timeout::reschedule,
            )
            .method0(
                c"expired",
                c"expired($self, /)\n--\n\nWhether the deadline came while the block ran.",
                Timeout::expired,
            )
            .get(c"_when", c"The deadline, or None.", Timeout::when)
            .get(c"_task", c"The task that the timeout cancels.", |this| {
                this.expiry.task()
            })
            .get(c"_timeout_handler", c"The timer, while it runs.", |this| {
                this.expiry.timer()
            });
    }
}

/// The value of the coroutine object that `__aenter__` or `__aexit__` returns.
pub(crate) struct TimeoutStep {
    timeout: Slot<Ref<Timeout>>,
    leaves: Cell<bool>,
    class: Slot,
    exception: Slot,
    state: CoroutineState,
}

impl TimeoutStep {
    fn create(
        py: Python<'_>,
        this: Option<Obj>,
        method: &str,
        leaving: Option<(Option<Obj>, Option<Obj>)>,
    ) -> Result<Ref<TimeoutStep>, Raised> {
        let Some(timeout) = this.as_ref().and_then(Ref::<Timeout>::of_any) else {
            return Err(not_a_timeout(py, method));
        };
        let leaves = leaving.is_some();
        let (class, exception) = leaving.unwrap_or_default();
        let step = TimeoutStep {
            timeout: Slot::new(Some(timeout.clone())),
            leaves: Cell::new(leaves),
            class: Slot::new(class.and_then(Obj::not_none)),
            exception: Slot::new(exception.and_then(Obj::not_none)),
            state: CoroutineState::default(),
        };
        timeout.within(|_| Ref::new(py, step))
    }

    fn enter(py: Python<'_>, args: &Args<'_>) -> Result<Ref<TimeoutStep>, Raised> {
        let [this] = args.bind_function("Timeout.__aenter__", &["self"], 1)?;
        TimeoutStep::create(py, this, "__aenter__", None)
    }

    fn leave(py: Python<'_>, args: &Args<'_>) -> Result<Ref<TimeoutStep>, Raised> {
        let names = &["self", "exc_type", "exc_val", "exc_tb"];
        let [this, class, exception, _] = args.bind_function("Timeout.__aexit__", names, 4)?;
        TimeoutStep::create(py, this, "__aexit__", Some((class, exception)))
    }
}

#[cold]
fn not_a_timeout(py: Python<'_>, method: &str) -> Raised {
    Raised::type_error(py, &format!("{method}() requires a Timeout"))
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

/// `Timeout._on_timeout()`.
fn on_timeout(py: Python<'_>, args: &Args<'_>) -> Result<(), Raised> {
    let [this] = args.bind_function("Timeout._on_timeout", &["self"], 1)?;
    match this.as_ref().and_then(Ref::<Timeout>::of_any) {
        Some(timeout) => timeout.within(Timeout::due),
        None => Err(not_a_timeout(py, "_on_timeout")),
    }
}

fn timeout(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    let [delay] = args.bind_function("timeout", &["delay"], 1)?;
    let event_loop = get_running_loop(py)?;
    let when = match delay.and_then(Obj::not_none) {
        Some(delay) => Some(TimeoutWhen::after(&event_loop, &delay)?),
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
    put_method(&class, &original, "__aexit__", &leave)?;
    let due = callable(py, "_on_timeout", "The time has come.", on_timeout)?;
    due.set_attr(
        pyo3::intern!(py, "__qualname__"),
        &Obj::str(py, "Timeout._on_timeout")?,
    )?;
    seal(&due);
    class.set_attr(pyo3::intern!(py, "_on_timeout"), &due)
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
