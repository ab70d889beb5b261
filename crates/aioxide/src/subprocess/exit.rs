//! How the end of the process is noticed: its descriptor becomes readable, its status is taken.

use std::cell::RefCell;

use cpython::{Obj, Raised, Ref, Visit};
use engine::{ChildExit, sys};

use super::SubprocessTransport;
use super::calls::{self, Call};
use super::child;
use crate::event_loop::EventLoop;
use crate::transports::imports;
use crate::transports::reports::{callback_failed, caught, in_context};

/// Who waits for the end.
pub(super) struct Exit {
    /// The descriptor that tells of it, until it came.
    watch: RefCell<Option<ChildExit>>,
    /// The futures that `_wait()` has returned.
    waiters: RefCell<Vec<Obj>>,
}

impl Exit {
    pub(super) fn new() -> Exit {
        Exit {
            watch: RefCell::new(None),
            waiters: RefCell::new(Vec::new()),
        }
    }

    pub(super) fn traverse(&self, visit: &mut Visit<'_>) {
        if let Ok(waiters) = self.waiters.try_borrow() {
            waiters.iter().for_each(|waiter| visit.object(waiter));
        }
    }

    pub(super) fn clear(&self) {
        let waiters = self.waiters.take();
        drop(waiters);
    }
}

/// Watches the process. Raises OSError where the system has no descriptor left.
pub(super) fn watch(this: &Ref<SubprocessTransport>) -> Result<(), Raised> {
    let Some(event_loop) = this.event_loop.get() else {
        return Ok(());
    };
    let watch = ChildExit::watch(this.pid).map_err(|error| Raised::os_error(this.py(), error))?;
    EventLoop::watch(&event_loop, watch.fd(), this.as_obj(), true, false)?;
    *this.exit.watch.borrow_mut() = Some(watch);
    Ok(())
}

/// The process has exited.
pub(super) fn on_readable(this: &Ref<SubprocessTransport>) -> Result<(), Raised> {
    let watch = this.exit.watch.borrow_mut().take();
    let (Some(watch), Some(event_loop)) = (watch, this.event_loop.get()) else {
        return Ok(());
    };
    EventLoop::watch(&event_loop, watch.fd(), this.as_obj(), false, false)?;
    drop(watch);
    let exited = take_status(this).and_then(|status| match this.context.get() {
        Some(context) => in_context(&context, || process_exited(this, status)),
        None => process_exited(this, status),
    });
    match exited {
        Ok(()) => Ok(()),
        Err(raised) => {
            let exception = caught(this.py(), raised)?;
            let name = pyo3::intern!(this.py(), "_process_exited");
            let callback = this.as_obj().attr(name)?;
            callback_failed(&event_loop, &callback, &[], Raised::raise(exception))
        }
    }
}

/// The exit status, as `returncode` has it.
fn take_status(this: &Ref<SubprocessTransport>) -> Result<i64, Raised> {
    if let Ok(status) = sys::reap(this.pid) {
        return Ok(status.into());
    }
    // Someone else has taken it. If that was Popen, it knows.
    if let Some(status) = known_to_popen(this)? {
        return status.to_i64();
    }
    let py = this.py();
    let text = "child process pid %d exit status already read:  will report returncode 255";
    let pid = Obj::int(py, this.pid.into())?;
    let logger = imports(py).logger.get(py);
    logger.method(pyo3::intern!(py, "warning"), &[&Obj::str(py, text)?, &pid])?;
    Ok(255)
}

fn known_to_popen(this: &Ref<SubprocessTransport>) -> Result<Option<Obj>, Raised> {
    match this.popen.get() {
        Some(popen) => Ok(popen
            .attr(pyo3::intern!(this.py(), "returncode"))?
            .not_none()),
        None => Ok(None),
    }
}

/// `_process_exited(returncode)`: tells the protocol and who waits.
pub(super) fn process_exited(this: &Ref<SubprocessTransport>, status: i64) -> Result<(), Raised> {
    let py = this.py();
    if this.returncode.get().is_some() {
        return Ok(());
    }
    let code = Obj::int(py, status)?;
    if this.is_in_debug_mode() {
        let logger = imports(py).logger.get(py);
        let text = Obj::str(py, "%r exited with return code %r")?;
        logger.method(pyo3::intern!(py, "info"), &[&text, this.as_obj(), &code])?;
    }
    this.returncode.set(Some(status));
    if let (Some(popen), None) = (this.popen.get(), known_to_popen(this)?) {
        popen.set_attr(pyo3::intern!(py, "returncode"), &code)?;
    }
    calls::add(this, Call::ProcessExited)?;
    child::finish_if_over(this)?;
    // Whether or not a pipe is still open: another process may have it.
    let waiters = this.exit.waiters.take();
    for waiter in waiters {
        if !is_done(&waiter)? {
            waiter.method(pyo3::intern!(py, "set_result"), &[&code])?;
        }
    }
    Ok(())
}

fn is_done(waiter: &Obj) -> Result<bool, Raised> {
    let done = pyo3::intern!(waiter.py(), "done");
    waiter.method(done, &[])?.truth()
}

/// `_wait()`: a future for the exit status.
pub(super) fn wait(this: &Ref<SubprocessTransport>) -> Result<Obj, Raised> {
    let py = this.py();
    let Some(event_loop) = this.event_loop.get() else {
        return Err(Raised::runtime_error(py, "the transport has no loop"));
    };
    let name = pyo3::intern!(py, "create_future");
    let waiter = event_loop.as_obj().method(name, &[])?;
    match this.returncode.get() {
        Some(status) => {
            let name = pyo3::intern!(py, "set_result");
            waiter.method(name, &[&Obj::int(py, status)?])?;
        }
        None => {
            // Those that were cancelled wait no more.
            let mut pending = Vec::new();
            for waiter in this.exit.waiters.take() {
                if !is_done(&waiter)? {
                    pending.push(waiter);
                }
            }
            pending.push(waiter.clone());
            this.exit.waiters.borrow_mut().append(&mut pending);
        }
    }
    Ok(waiter)
}
