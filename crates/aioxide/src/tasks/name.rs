//! A Task's name: a text, or the number of the name `Task-…`, which is turned into a text when it
//! is asked for, as in the accelerator.
//!
//! On 3.14 and later the name lies only in the accelerator's field, where debuggers read it. That
//! saves a word per Task.

use std::sync::atomic::{AtomicI64, Ordering};

use cpython::numbers::Numbers;
use cpython::{Obj, OwnLine, Python, Raised, Ref, Slot, Visit};

use super::mirror;
use super::task::Task;

/// The number of the next name Task-1, Task-2, …. As in asyncio, all loops of the process share it.
static NUMBER: OwnLine<AtomicI64> = OwnLine(AtomicI64::new(1));

/// Ints of Tasks that are gone, to be used again.
static NUMBERS: Numbers = Numbers::new();

/// The Task's own field.
#[derive(Default)]
pub(super) struct Name {
    #[cfg(not(Py_3_14))]
    field: Slot,
}

impl Name {
    pub(super) fn visit(&self, visit: &mut Visit<'_>) {
        if let Some(field) = self.field() {
            visit.slot(field);
        }
    }

    #[cfg(not(Py_3_14))]
    #[inline]
    fn field(&self) -> Option<&Slot> {
        Some(&self.field)
    }

    #[cfg(Py_3_14)]
    #[inline]
    fn field(&self) -> Option<&Slot> {
        None
    }
}

/// `task.set_name(name)` of a task that a task factory has made. Before 3.13 such a task need not
/// have the method.
pub(crate) fn set_name(task: &Obj, name: &Obj) -> Result<(), Raised> {
    let py = task.py();
    let method = pyo3::intern!(py, "set_name");
    if cfg!(Py_3_13) {
        return task.method(method, &[name]).map(drop);
    }
    match task.attr_opt(method)? {
        Some(set_name) => set_name.call1(name).map(drop),
        None => {
            let text = c"Task.set_name() was added in Python 3.8, the method support will be \
                mandatory for third-party task implementations since 3.13.";
            let category = Obj::class_of::<pyo3::exceptions::PyDeprecationWarning>(py);
            cpython::error::warn(&category, text, 1)
        }
    }
}

/// Takes the name of a task that is about to go, so that its int may be used again. A name that the
/// program has given stays with the task, because releasing it may run foreign code.
#[inline]
pub(super) fn give_back_number(this: &Ref<Task>) {
    let name = match this.name.field() {
        Some(field) => field.take(),
        None => mirror(this.py()).and_then(|mirror| mirror.take_name(this)),
    };
    if let Some(name) = name.and_then(|name| NUMBERS.give_back(name)) {
        keep(this, name);
    }
}

fn keep(this: &Ref<Task>, name: Obj) {
    if let Some(field) = this.name.field() {
        field.set(Some(name));
    } else if let Some(mirror) = mirror(this.py()) {
        mirror.set_name(this, name);
    } else {
        this.parent().waiters.make_rare().name.set(Some(name));
    }
}

fn kept(this: &Ref<Task>) -> Option<Obj> {
    if let Some(field) = this.name.field() {
        field.get()
    } else if let Some(mirror) = mirror(this.py()) {
        mirror.name(this)
    } else {
        this.parent()
            .waiters
            .rare()
            .and_then(|rare| rare.name.get())
    }
}

/// The next number.
#[inline(always)]
fn next(py: Python<'_>) -> Result<Obj, Raised> {
    #[cfg(Py_GIL_DISABLED)]
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // The GIL guards the number. A locked addition would take longer than the rest.
    #[cfg(not(Py_GIL_DISABLED))]
    let number = {
        let number = NUMBER.load(Ordering::Relaxed);
        NUMBER.store(number + 1, Ordering::Relaxed);
        number
    };
    NUMBERS.make(py, number)
}

impl Task {
    /// Names a new task, which has no name yet, by its number.
    #[inline(always)]
    pub(super) fn number(this: &Ref<Task>) -> Result<(), Raised> {
        let number = next(this.py())?;
        match (this.name.field(), mirror(this.py())) {
            (None, Some(mirror)) => mirror.begin_name(this, number),
            _ => keep(this, number),
        }
        Ok(())
    }

    /// Names a task in `__init__`, which may run a second time.
    pub(super) fn begin_name(this: &Ref<Task>, name: Option<Obj>) -> Result<(), Raised> {
        match name.and_then(Obj::not_none) {
            None => {
                keep(this, next(this.py())?);
                Ok(())
            }
            Some(name) => Task::set_name(this, &name),
        }
    }

    /// `set_name(value)`.
    pub(super) fn set_name(this: &Ref<Task>, name: &Obj) -> Result<(), Raised> {
        let name = if name.is_str_exact() {
            name.clone()
        } else {
            name.str_of()?
        };
        keep(this, name);
        Ok(())
    }

    /// `get_name()`; None before `__init__` has run.
    pub(super) fn name(this: &Ref<Task>) -> Result<Obj, Raised> {
        let py = this.py();
        match kept(this) {
            None => Ok(Obj::none(py)),
            Some(number) if number.is_int() => {
                let name = Obj::str(py, &format!("Task-{}", number.to_i64()?))?;
                keep(this, name.clone());
                Ok(name)
            }
            Some(name) => Ok(name),
        }
    }
}
