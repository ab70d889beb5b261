//! A Task's name: text, or the number that stands for `Task-…` until somebody asks, as the
//! accelerator keeps it.
//!
//! On 3.14 and later it lies in the accelerator's field, where debuggers read it, and only there:
//! a word less per Task.

use std::sync::atomic::{AtomicI64, Ordering};

use cpython::numbers::Numbers;
use cpython::{Obj, Python, Raised, Ref, Slot, Visit};

use super::mirror;
use super::task::Task;

/// Numbers of the names Task-1, Task-2, …, process-wide as asyncio's.
static NUMBER: AtomicI64 = AtomicI64::new(1);

/// Ints of Tasks that are gone.
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

/// The task is about to go: its number may serve another one. A name of the program's own goes with
/// the task, for that may run foreign code.
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
        this.parent().rare.make().name.set(Some(name));
    }
}

fn kept(this: &Ref<Task>) -> Option<Obj> {
    if let Some(field) = this.name.field() {
        field.get()
    } else if let Some(mirror) = mirror(this.py()) {
        mirror.name(this)
    } else {
        this.parent().rare.get().and_then(|rare| rare.name.get())
    }
}

/// The next number.
#[inline(always)]
fn next(py: Python<'_>) -> Result<Obj, Raised> {
    // The GIL is held: a locked addition would take longer than the rest.
    let number = NUMBER.load(Ordering::Relaxed);
    NUMBER.store(number + 1, Ordering::Relaxed);
    NUMBERS.make(py, number)
}

impl Task {
    /// Names a new task that has none yet by its number.
    #[inline(always)]
    pub(super) fn number(this: &Ref<Task>) -> Result<(), Raised> {
        let number = next(this.py())?;
        match (this.name.field(), mirror(this.py())) {
            (None, Some(mirror)) => mirror.begin_name(this, number),
            _ => keep(this, number),
        }
        Ok(())
    }

    /// Names a task that is made, perhaps for a second time.
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
