//! `shield(arg)`.

use cpython::build::{Builder, MethodDef, function};
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot, Visit};

use super::any_future::{
    cancel, create_future, exception, is_cancelled, is_done, loop_of, result, set, unwatch, watch,
};
use super::awaited_by;
use super::ensure_future::ensure_future;
use super::watching::Watcher;
use crate::interop::current::current_task;

/// Between the future inside, which goes on, and the one outside, which can be cancelled: it
/// watches both.
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
        if is_done(&inner)? {
            return Ok(inner);
        }
        let event_loop = loop_of(&inner)?.unwrap_or_else(|| Obj::none(py));
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
        watch(&inner, shield.as_obj())?;
        watch(&outer, shield.as_obj())?;
        Ok(outer)
    }

    fn inner_done(this: &Ref<Shield>, inner: &Obj) -> Result<(), Raised> {
        if let Some(task) = this.task.take() {
            awaited_by::discard(inner, &task)?;
        }
        let Some(outer) = this.outer.get() else {
            return Ok(());
        };
        if is_cancelled(&outer)? {
            if cfg!(not(Py_3_14)) && !is_cancelled(inner)? {
                // Seen, so that nobody reports it.
                exception(inner)?;
            }
            return Ok(());
        }
        if is_cancelled(inner)? {
            return cancel(&outer, None).map(drop);
        }
        match exception(inner)? {
            Some(exception) => set(&outer, Err(&exception)),
            None => set(&outer, Ok(&result(inner)?)),
        }
    }

    fn outer_done(this: &Ref<Shield>) -> Result<(), Raised> {
        let Some(inner) = this.inner.get() else {
            return Ok(());
        };
        if is_done(&inner)? {
            return Ok(());
        }
        unwatch(&inner, this.as_obj())?;
        this.inner.set(None);
        this.outer.set(None);
        match this.task.take() {
            Some(task) => awaited_by::discard(&inner, &task),
            None => Ok(()),
        }
    }
}

impl Watcher for Shield {
    const CALLABLE: &'static MethodDef = {
        static CALLABLE: MethodDef = MethodDef::new(c"_done_callback", c"One of both is done.");
        &CALLABLE
    };

    fn told(this: &Ref<Shield>, future: &Obj) -> Result<(), Raised> {
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
    const DOC: &'static std::ffi::CStr = c"Between the two futures of shield().";
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
