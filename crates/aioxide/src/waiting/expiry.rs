//! What a timeout is made of: a deadline, and the task that is cancelled when it comes.
//!
//! The cancellation is the timeout's own, and becomes a TimeoutError, if nobody else has cancelled
//! the task since the timeout was entered.

use std::cell::{Cell, RefCell};

use cpython::error::{context, set_cause, set_context};
use cpython::{Held, Obj, Python, Raised, Ref, Slot, Visit};

use super::any_future::cancel;
use super::ensure_future::get_running_loop;
use super::timer::{Timer, When};
use crate::interop::asyncio;
use crate::interop::current::current_task;
use crate::tasks::Task;

/// How far a timeout has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Created,
    Entered,
    Expiring,
    Expired,
    Exited,
}

impl Progress {
    /// The word for it in texts.
    pub(super) fn word(self) -> &'static str {
        match self {
            Progress::Created => "created",
            Progress::Entered => "active",
            Progress::Expiring => "expiring",
            Progress::Expired => "expired",
            Progress::Exited => "finished",
        }
    }
}

/// A deadline and whom it cancels.
pub(super) struct Expiry {
    pub(super) progress: Cell<Progress>,
    when: RefCell<Option<When>>,
    task: Slot,
    /// How often the task was cancelled when it entered.
    cancelling: Cell<i64>,
    timer: Timer,
}

impl Expiry {
    /// At a time, or never.
    pub(super) fn new(when: Option<When>) -> Expiry {
        Expiry {
            progress: Cell::new(Progress::Created),
            when: RefCell::new(when),
            task: Slot::default(),
            cancelling: Cell::new(0),
            timer: Timer::default(),
        }
    }

    /// The time.
    pub(super) fn when(&self) -> Option<When> {
        self.when.borrow().clone()
    }

    /// Another time, of one that was not entered yet.
    pub(super) fn set_when(&self, when: Option<When>) {
        let old = self.when.replace(when);
        drop(old);
    }

    /// The task that it cancels.
    pub(super) fn task(&self) -> Option<Obj> {
        self.task.get()
    }

    /// The running task enters; the timer is not started yet.
    pub(super) fn enter(&self, py: Python<'_>) -> Result<(), Raised> {
        if self.progress.get() != Progress::Created {
            return Err(Raised::runtime_error(
                py,
                "Timeout has already been entered",
            ));
        }
        let Some(task) = current_task(py, None)? else {
            let text = "Timeout should be used inside a task";
            return Err(Raised::runtime_error(py, text));
        };
        self.progress.set(Progress::Entered);
        self.cancelling.set(cancelling(&task)?);
        self.task.set(Some(task));
        Ok(())
    }

    /// Starts the timer; `watcher` is told when the time has come.
    pub(super) fn start(&self, watcher: &Obj) -> Result<(), Raised> {
        match self.when() {
            Some(when) => {
                let event_loop = get_running_loop(watcher.py())?;
                self.timer.start_at(&event_loop, &when, watcher)
            }
            None => Ok(()),
        }
    }

    /// `reschedule(when)`.
    pub(super) fn reschedule(&self, when: Option<When>, watcher: &Obj) -> Result<(), Raised> {
        let py = watcher.py();
        match self.progress.get() {
            Progress::Entered => {}
            Progress::Created => {
                return Err(Raised::runtime_error(py, "Timeout has not been entered"));
            }
            other => {
                let text = format!("Cannot change state of {} Timeout", other.word());
                return Err(Raised::runtime_error(py, &text));
            }
        }
        self.set_when(when);
        self.timer.cancel()?;
        self.start(watcher)
    }

    /// The time has come.
    pub(super) fn expire(&self) -> Result<(), Raised> {
        self.timer.ran();
        if let Some(task) = self.task.get() {
            cancel(&task, None)?;
        }
        self.progress.set(Progress::Expiring);
        Ok(())
    }

    /// The block has ended, with an exception of this class or without.
    ///
    /// # Errors
    /// TimeoutError in the place of the timeout's own CancelledError.
    pub(super) fn exit(
        &self,
        py: Python<'_>,
        class: Option<&Obj>,
        exception: Option<&Obj>,
    ) -> Result<(), Raised> {
        self.timer.cancel()?;
        if self.progress.get() != Progress::Expiring {
            if self.progress.get() == Progress::Entered {
                self.progress.set(Progress::Exited);
            }
            self.task.set(None);
            return Ok(());
        }
        self.progress.set(Progress::Expired);
        let Some(task) = self.task.take() else {
            return Ok(());
        };
        let others = uncancel(&task)? > self.cancelling.get();
        let Some(class) = class.filter(|_| !others) else {
            return Ok(());
        };
        if is_cancellation(py, class)? {
            return Err(timeout_error(py, exception)?);
        }
        if cfg!(Py_3_13) {
            if let Some(exception) = exception {
                insert_timeout_errors(py, exception)?;
            }
        }
        Ok(())
    }

    /// Whether the timer runs.
    pub(super) fn is_scheduled(&self) -> bool {
        self.timer.is_running()
    }

    /// It is over, in whatever way.
    pub(super) fn end(&self) -> Result<(), Raised> {
        self.task.set(None);
        self.timer.cancel()
    }
}

impl Held for Expiry {
    fn visit(&self, visit: &mut Visit<'_>) {
        if let Ok(when) = self.when.try_borrow() {
            if let Some(When::Given(given)) = &*when {
                visit.object(given);
            }
        }
        visit.slot(&self.task);
        self.timer.visit(visit);
    }
    fn let_go(&self) {
        self.set_when(None);
        self.task.set(None);
        self.timer.let_go();
    }
}

fn is_cancellation(py: Python<'_>, class: &Obj) -> Result<bool, Raised> {
    let cancelled = asyncio(py).cancelled_error.get(py);
    if cfg!(not(Py_3_13)) || class.is(cancelled) {
        return Ok(class.is(cancelled));
    }
    let builtins = Obj::import(py, c"builtins")?;
    let name = pyo3::intern!(py, "issubclass");
    builtins.method(name, &[class, cancelled])?.truth()
}

/// TimeoutError, as raised from the exception that is handled.
pub(super) fn timeout_error(py: Python<'_>, cause: Option<&Obj>) -> Result<Raised, Raised> {
    let error = new_timeout_error(py, cause)?;
    Ok(match cause {
        Some(_) => Raised::raise(error),
        None => Raised::raise_in_context(error),
    })
}

fn new_timeout_error(py: Python<'_>, cause: Option<&Obj>) -> Result<Obj, Raised> {
    let error = Obj::class_of::<pyo3::exceptions::PyTimeoutError>(py).call0()?;
    if let Some(cause) = cause {
        set_cause(&error, cause.clone());
        set_context(&error, cause.clone());
    }
    Ok(error)
}

/// The cancellation has become another exception: a TimeoutError takes its place as the context.
fn insert_timeout_errors(py: Python<'_>, exception: &Obj) -> Result<(), Raised> {
    insert_timeout_error(py, exception)?;
    let builtins = Obj::import(py, c"builtins")?;
    let group = builtins.attr(pyo3::intern!(py, "ExceptionGroup"))?;
    if exception.is_subtype_of(&group) {
        let members = exception.attr(pyo3::intern!(py, "exceptions"))?.iter()?;
        while let Some(member) = members.next()? {
            insert_timeout_error(py, &member)?;
        }
    }
    Ok(())
}

fn insert_timeout_error(py: Python<'_>, exception: &Obj) -> Result<(), Raised> {
    let mut exception = exception.clone();
    while let Some(handled) = context(&exception) {
        if handled.is_subtype_of(asyncio(py).cancelled_error.get(py)) {
            set_context(&exception, new_timeout_error(py, Some(&handled))?);
            return Ok(());
        }
        exception = handled;
    }
    Ok(())
}

/// `task.cancelling()`.
#[inline]
pub(super) fn cancelling(task: &Obj) -> Result<i64, Raised> {
    match Ref::<Task>::of_exact(task) {
        Some(native) => Ok(native.parent_value().cancel_requests.get().into()),
        None => task
            .method(pyo3::intern!(task.py(), "cancelling"), &[])?
            .to_i64(),
    }
}

/// `task.uncancel()`.
#[inline]
pub(super) fn uncancel(task: &Obj) -> Result<i64, Raised> {
    match Ref::<Task>::of_exact(task) {
        Some(native) => Ok(Task::uncancel(native)),
        None => task
            .method(pyo3::intern!(task.py(), "uncancel"), &[])?
            .to_i64(),
    }
}
