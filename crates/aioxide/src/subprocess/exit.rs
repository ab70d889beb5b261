//! The end of the process: its descriptor becomes readable, and the loop takes its status.

use std::cell::RefCell;

use cpython::{Obj, Raised, Ref, context};
use engine::{ChildExit, sys};

use super::SubprocessTransport;
use super::calls::{self, ChildCall};
use super::child;
use crate::event_loop::EventLoop;
use crate::futures::create_future;
use crate::handles::reports::method_failed;
use crate::interop::EndsProgram;
use crate::tasks::any_future::AnyFuture;
use crate::transports::imports;

/// The watch over the process, and the futures that wait for its end.
pub(super) struct ExitWait {
    /// The process's descriptor, until it has become readable.
    watch: RefCell<Option<ChildExit>>,
    /// The futures that `_wait()` has returned.
    waiters: RefCell<Vec<Obj>>,
}

cpython::holds!(ExitWait: waiters);

impl ExitWait {
    pub(super) fn new() -> ExitWait {
        ExitWait {
            watch: RefCell::new(None),
            waiters: RefCell::new(Vec::new()),
        }
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

/// Takes the status of the process, which has exited.
pub(super) fn on_readable(this: &Ref<SubprocessTransport>) -> Result<(), EndsProgram> {
    let watch = this.exit.watch.borrow_mut().take();
    let (Some(watch), Some(event_loop)) = (watch, this.event_loop.get()) else {
        return Ok(());
    };
    let failed = |raised| {
        let event_loop = Some(event_loop.clone());
        method_failed(event_loop, this.as_obj(), "_process_exited", &[], raised)
    };
    EventLoop::watch(&event_loop, watch.fd(), this.as_obj(), false, false).or_else(failed)?;
    drop(watch);
    let exited = take_status(this).and_then(|status| match this.context.get() {
        Some(context) => context::run(&context, || process_exited(this, status)),
        None => process_exited(this, status),
    });
    exited.or_else(failed)
}

/// The exit status in the form of `returncode`.
fn take_status(this: &Ref<SubprocessTransport>) -> Result<i64, Raised> {
    if let Ok(status) = sys::reap(this.pid) {
        return Ok(status.into());
    }
    // Other code has taken the status. If that was Popen, Popen knows it.
    if let Some(status) = known_to_popen(this)? {
        return status.to_i64();
    }
    let py = this.py();
    // 3.11's child watcher waits in a thread, and words this message differently.
    let text = if cfg!(Py_3_12) {
        "child process pid %d exit status already read:  will report returncode 255"
    } else {
        "Unknown child process pid %d, will report returncode 255"
    };
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

/// `_process_exited(returncode)`: calls the protocol and ends the futures that wait.
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
    calls::add(this, ChildCall::ProcessExited)?;
    child::finish_if_over(this)?;
    // The futures end whether or not a pipe is still open: another process may hold its other end.
    let waiters = this.exit.waiters.take();
    for waiter in waiters {
        AnyFuture::of_waiter(&waiter).set_unless_done(Ok(code.clone()))?;
    }
    Ok(())
}

/// `_wait()`: a future for the exit status.
pub(super) fn wait(this: &Ref<SubprocessTransport>) -> Result<Obj, Raised> {
    let py = this.py();
    let Some(event_loop) = this.event_loop.get() else {
        return Err(Raised::runtime_error(py, "the transport has no loop"));
    };
    let waiter = create_future(event_loop.as_obj())?;
    match this.returncode.get() {
        Some(status) => {
            let name = pyo3::intern!(py, "set_result");
            waiter.method(name, &[&Obj::int(py, status)?])?;
        }
        None => {
            // Futures that were cancelled are left out.
            let mut pending = Vec::new();
            for waiter in this.exit.waiters.take() {
                if !AnyFuture::of_waiter(&waiter).is_done()? {
                    pending.push(waiter);
                }
            }
            pending.push(waiter.clone());
            this.exit.waiters.borrow_mut().append(&mut pending);
        }
    }
    Ok(waiter)
}
