//! `shield(arg)`.

use cpython::build::{Builder, function};
use cpython::callable::callable;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot, Visit};

use super::awaited_by;
use super::callables::{CallableName, callable_of};
use super::ensure_future::ensure_future;
use crate::futures::{Future, create_future};
use crate::handles::served::Watcher;
use crate::interop::current::current_task;
use crate::tasks::any_future::{AnyFuture, add_callback, cancel, remove_callback};

/// The link between the future inside, which goes on, and the one outside, which can be cancelled.
/// It watches both.
pub(crate) struct Shield {
    inner: Slot,
    outer: Slot,
    task: Slot,
}

impl Shield {
    fn shield(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
        let [argument] = args.bind_function("shield", &["arg"], 1)?;
        let argument = argument.unwrap_or_else(|| Obj::none(py));
        let inner = ensure_future(&argument, None)?;
        let asked = AnyFuture::of(&inner);
        if asked.is_done()? {
            return Ok(inner);
        }
        let event_loop = asked.event_loop()?.unwrap_or_else(|| Obj::none(py));
        let outer = create_future(&event_loop)?;
        let task = if cfg!(Py_3_14) {
            current_task(py, Some(&event_loop))?
        } else {
            None
        };
        if let Some(task) = &task {
            awaited_by::add(&inner, task)?;
        }
        let value = Shield {
            inner: Slot::new(Some(inner.clone())),
            outer: Slot::new(Some(outer.clone())),
            task: Slot::new(task),
        };
        let shield = Ref::new(py, value)?;
        let asked = AnyFuture::of(&inner);
        if let (AnyFuture::Other(other), true) = (asked, shield.task.is_some()) {
            // Any other future needs a second callback; the watcher of a future of ours does the
            // work of both.
            add_callback(other, &Shield::clearing(&shield)?)?;
        }
        asked.watch(shield.as_obj())?;
        AnyFuture::of(&outer).watch(shield.as_obj())?;
        Ok(outer)
    }

    /// The callback that notes that the task no longer waits for the future inside, on 3.14 and
    /// later.
    fn clearing(this: &Ref<Shield>) -> Result<Obj, Raised> {
        callable_of(CallableName::ShieldClear, this.as_obj())
    }

    /// Notes that the task no longer waits for the future inside.
    fn clear_awaited_by(this: &Ref<Shield>, inner: &Obj) -> Result<(), Raised> {
        match this.task.take() {
            Some(task) => awaited_by::discard(inner, &task),
            None => Ok(()),
        }
    }

    fn inner_done(this: &Ref<Shield>, inner: &Obj) -> Result<(), Raised> {
        Shield::clear_awaited_by(this, inner)?;
        let Some(outer) = this.outer.get() else {
            return Ok(());
        };
        if let (Some(inner), Some(outer)) = (
            AnyFuture::of(inner).native(),
            AnyFuture::of(&outer).native(),
        ) {
            return pass_on(inner, outer);
        }
        // Each call of a method of a future that is not ours may run code of the program.
        let is_outer_cancelled = AnyFuture::of(&outer).is_cancelled()?;
        let inner = AnyFuture::of(inner);
        if is_outer_cancelled {
            if cfg!(not(Py_3_14)) && !inner.is_cancelled()? {
                // Asking for the exception marks it as retrieved, so it is not reported.
                inner.exception()?;
            }
            return Ok(());
        }
        if inner.is_cancelled()? {
            return cancel(&outer);
        }
        let outcome = match inner.exception()? {
            Some(exception) => Err(exception),
            None => Ok(inner.result()?),
        };
        AnyFuture::of(&outer).set(outcome)
    }

    fn outer_done(this: &Ref<Shield>) -> Result<(), Raised> {
        let Some(inner) = this.inner.get() else {
            return Ok(());
        };
        let asked = AnyFuture::of(&inner);
        if asked.is_done()? {
            return Ok(());
        }
        asked.unwatch(this.as_obj())?;
        if let (AnyFuture::Other(other), true) = (asked, this.task.is_some()) {
            remove_callback(other, &Shield::clearing(this)?)?;
        }
        this.inner.set(None);
        this.outer.set(None);
        Shield::clear_awaited_by(this, &inner)
    }
}

/// Gives the outcome of the future inside to the one outside, if both are native: no code of the
/// program runs before it is set.
fn pass_on(inner: &Ref<Future>, outer: &Ref<Future>) -> Result<(), Raised> {
    if outer.is_cancelled() {
        if cfg!(not(Py_3_14)) && !inner.is_cancelled() {
            // Asking for the exception marks it as retrieved, so it is not reported.
            Future::exception(inner)?;
        }
        return Ok(());
    }
    if inner.is_cancelled() {
        return cancel(outer.as_obj());
    }
    match Future::exception(inner)? {
        Some(exception) => Future::set_exception(outer, &exception),
        None => Future::set_result(outer, Future::result(inner)?),
    }
}

impl Watcher for Shield {
    fn callable(this: &Ref<Shield>, future: &Obj) -> Result<Obj, Raised> {
        let name = if this.outer.holds(future) {
            CallableName::ShieldOuterDone
        } else {
            CallableName::ShieldInnerDone
        };
        callable_of(name, this.as_obj())
    }

    fn on_done(this: &Ref<Shield>, future: &Obj) -> Result<(), Raised> {
        if this.outer.holds(future) {
            Shield::outer_done(this)
        } else {
            Shield::inner_done(this, future)
        }
    }
}

impl Hot for Shield {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide._aioxide.shield";
    const DOC: &'static std::ffi::CStr = c"The link between the two futures of shield().";
    const FREELIST: usize = 256;
    const SUBCLASSABLE: bool = false;
    cpython::hot_type!();

    fn build(_: &mut Builder<Self>) {}

    fn traverse(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.inner);
        visit.slot(&self.outer);
        visit.slot(&self.task);
    }

    fn clear(&self) {
        self.inner.set(None);
        self.outer.set(None);
        self.task.set(None);
    }
}

/// The function that notes for a shield that its task no longer waits for the future inside.
pub(super) fn on_clear(py: Python<'_>, doc: &str) -> Result<Obj, Raised> {
    callable(py, "", doc, |py: Python<'_>, args: &Args<'_>| {
        if let [shield, future] = args.positional {
            if let Some(shield) = Ref::<Shield>::of_any(shield) {
                return shield.within(|shield| Shield::clear_awaited_by(shield, future));
            }
        }
        let text = "a watcher and a future are required";
        Err(Raised::type_error(py, text))
    })
}

/// Builds the type.
pub(super) fn build(py: Python<'_>) -> Result<(), Raised> {
    cpython::build::build::<Shield>(py, None, 0).map(drop)
}

/// Adds the function to the module.
pub(super) fn add_functions(py: Python<'_>, module: &Obj, name: &Obj) -> Result<(), Raised> {
    let doc = c"shield(arg)\n--\n\n\
        A future of the same outcome, whose cancellation does not cancel the argument.";
    let shield = function(py, c"shield", doc, name, Shield::shield)?;
    module.set_attr(pyo3::intern!(py, "shield"), &shield)
}
