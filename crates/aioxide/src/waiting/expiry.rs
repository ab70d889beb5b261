//! A deadline, and the task that is cancelled when it comes: the core of a timeout.
//!
//! The cancellation becomes a TimeoutError if it is the timeout's own: nothing else has cancelled
//! the task since the timeout was entered.

use std::cell::{Cell, RefCell};

use cpython::error::{context, set_cause, set_context};
use cpython::{GcFields, Obj, Python, Raised, Ref, Slot, Visit};

use super::ensure_future::get_running_loop;
use super::timer::{TimeoutWhen, WaitTimer};
use crate::interop::asyncio;
use crate::interop::current::current_task;
use crate::tasks::Task;
use crate::tasks::any_future::{cancel, cancelling, uncancel};

/// The progress of a timeout.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ExpiryProgress {
    Created,
    Entered,
    Expiring,
    Expired,
    Exited,
}

impl ExpiryProgress {
    /// The word for the state in messages.
    pub(super) fn word(self) -> &'static str {
        match self {
            ExpiryProgress::Created => "created",
            ExpiryProgress::Entered => "active",
            ExpiryProgress::Expiring => "expiring",
            ExpiryProgress::Expired => "expired",
            ExpiryProgress::Exited => "finished",
        }
    }
}

/// A deadline, and the task that it cancels.
pub(super) struct Expiry {
    pub(super) progress: Cell<ExpiryProgress>,
    when: RefCell<Option<TimeoutWhen>>,
    task: Slot,
    /// The task's count of cancellations when it entered.
    cancelling: Cell<i64>,
    /// Whether the program may have replaced methods of the task.
    by_name: Cell<bool>,
    timer: WaitTimer,
}

impl Expiry {
    /// A deadline at a time, or never.
    pub(super) fn new(when: Option<TimeoutWhen>) -> Expiry {
        Expiry {
            progress: Cell::new(ExpiryProgress::Created),
            when: RefCell::new(when),
            task: Slot::default(),
            cancelling: Cell::new(0),
            by_name: Cell::new(false),
            timer: WaitTimer::default(),
        }
    }

    /// The time of the deadline.
    pub(super) fn when(&self) -> Option<TimeoutWhen> {
        self.when.borrow().clone()
    }

    /// Sets another time, for a timeout that was not entered yet.
    pub(super) fn set_when(&self, when: Option<TimeoutWhen>) {
        let old = self.when.replace(when);
        drop(old);
    }

    /// The task that it cancels.
    pub(super) fn task(&self) -> Option<Obj> {
        self.task.get()
    }

    /// Enters the timeout with the running task. The timer is not started yet.
    pub(super) fn enter(&self, py: Python<'_>) -> Result<(), Raised> {
        if self.progress.get() != ExpiryProgress::Created {
            return Err(Raised::runtime_error(
                py,
                "Timeout has already been entered",
            ));
        }
        let Some(task) = current_task(py, None)? else {
            let text = "Timeout should be used inside a task";
            return Err(Raised::runtime_error(py, text));
        };
        self.progress.set(ExpiryProgress::Entered);
        self.task.set(Some(task.clone()));
        let native = Ref::<Task>::of_bare(&task);
        self.by_name.set(native.is_none());
        self.cancelling.set(match native {
            Some(native) => native.parent_value().cancel_requests.get().into(),
            None => cancelling(&task)?,
        });
        Ok(())
    }

    /// Starts a timer of the running loop, which calls `watcher` when the time has come. With
    /// `by_name` that is a callback of the loop.
    pub(super) fn start(&self, watcher: &Obj, by_name: bool) -> Result<(), Raised> {
        match self.when() {
            Some(when) => {
                let event_loop = get_running_loop(watcher.py())?;
                self.start_at(&event_loop, &when, watcher, by_name)
            }
            None => Ok(()),
        }
    }

    /// As `start`, for this time and this running loop.
    #[inline]
    pub(super) fn start_at(
        &self,
        event_loop: &Obj,
        when: &TimeoutWhen,
        watcher: &Obj,
        by_name: bool,
    ) -> Result<(), Raised> {
        // A method of the task that the program has replaced runs in the context in which the timer
        // was started.
        let by_name = by_name || self.by_name.get();
        self.timer.start_at(event_loop, when, watcher, by_name)
    }

    /// `reschedule(when)`.
    pub(super) fn reschedule(
        &self,
        when: Option<TimeoutWhen>,
        watcher: &Obj,
        by_name: bool,
    ) -> Result<(), Raised> {
        let py = watcher.py();
        match self.progress.get() {
            ExpiryProgress::Entered => {}
            ExpiryProgress::Created => {
                return Err(Raised::runtime_error(py, "Timeout has not been entered"));
            }
            other => {
                let text = format!("Cannot change state of {} Timeout", other.word());
                return Err(Raised::runtime_error(py, &text));
            }
        }
        self.set_when(when);
        self.timer.cancel()?;
        if let Some(task) = self.task.get() {
            self.by_name.set(Ref::<Task>::of_bare(&task).is_none());
        }
        self.start(watcher, by_name)
    }

    /// Cancels the task, when the time has come.
    pub(super) fn expire(&self) -> Result<(), Raised> {
        self.timer.ran();
        if let Some(task) = self.task.get() {
            cancel(&task)?;
        }
        self.progress.set(ExpiryProgress::Expiring);
        Ok(())
    }

    /// Leaves the timeout, whose block has ended with an exception of this class or without one.
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
        if self.progress.get() != ExpiryProgress::Expiring {
            if self.progress.get() == ExpiryProgress::Entered {
                self.progress.set(ExpiryProgress::Exited);
            }
            self.task.set(None);
            return Ok(());
        }
        self.progress.set(ExpiryProgress::Expired);
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

    /// The timer, if it runs.
    pub(super) fn timer(&self) -> Option<Obj> {
        self.timer.running()
    }

    /// Ends the timeout, whatever its outcome.
    pub(super) fn end(&self) -> Result<(), Raised> {
        self.task.set(None);
        self.timer.cancel()
    }
}

impl GcFields for Expiry {
    fn visit(&self, visit: &mut Visit<'_>) {
        if let Ok(when) = self.when.try_borrow() {
            if let Some(TimeoutWhen::Given(given)) = &*when {
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
    class.is_subclass(cancelled)
}

/// A TimeoutError, as raised from `cause`.
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

/// Puts a TimeoutError in the place of the cancellation in the contexts of another exception, which
/// the block has raised because of it, and of a group's members.
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
