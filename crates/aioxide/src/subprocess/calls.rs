//! The calls of the child's protocol, in the order of their causes.
//!
//! asyncio schedules each with `call_soon`. It keeps those that come before all pipes are
//! connected, and makes them after `connection_made`. Here each child has a queue of its calls,
//! which takes one entry of the loop's queue, however many calls wait.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use cpython::{GcFields, Obj, Raised, Ref, Slot, Visit, context};

use super::SubprocessTransport;
use crate::event_loop::EventLoop;
use crate::handles::Entry;
use crate::handles::reports::callback_failed;
use crate::interop::EndsProgram;
use crate::transports::imports;
use crate::transports::transport::run_callback;

/// A call of the protocol, with its arguments.
pub(super) enum ChildCall {
    ConnectionMade,
    /// The number of the pipe, and the data.
    PipeDataReceived(i64, Obj),
    /// The number of the pipe, and an exception or None.
    PipeConnectionLost(i64, Obj),
    ProcessExited,
    ConnectionLost,
}

/// A call, with the protocol and a copy of the context of the moment when the call was caused.
struct WaitingCall {
    call: ChildCall,
    protocol: Obj,
    context: Obj,
}

/// The calls that wait.
pub(super) struct ChildCalls {
    queue: RefCell<VecDeque<WaitingCall>>,
    /// The child's entry is in the loop's queue.
    scheduled: Cell<bool>,
    /// All pipes are connected: calls need not wait for `connection_made`.
    connected: Cell<bool>,
    /// A future that gets a result after `connection_made`.
    waiter: Slot,
}

impl GcFields for ChildCalls {
    fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.waiter);
        let Ok(queue) = self.queue.try_borrow() else {
            return;
        };
        for waiting in &*queue {
            visit.object(&waiting.protocol);
            visit.object(&waiting.context);
            match &waiting.call {
                ChildCall::PipeDataReceived(_, data) => visit.object(data),
                ChildCall::PipeConnectionLost(_, exception) => visit.object(exception),
                ChildCall::ConnectionMade
                | ChildCall::ProcessExited
                | ChildCall::ConnectionLost => {}
            }
        }
    }
    fn let_go(&self) {
        self.waiter.set(None);
        let queue = self.queue.take();
        drop(queue);
    }
}

impl ChildCalls {
    pub(super) fn new(waiter: Option<Obj>) -> ChildCalls {
        ChildCalls {
            queue: RefCell::new(VecDeque::new()),
            scheduled: Cell::new(false),
            connected: Cell::new(false),
            waiter: Slot::new(waiter),
        }
    }
}

/// Schedules a call of the protocol for the next iteration.
pub(super) fn add(this: &Ref<SubprocessTransport>, call: ChildCall) -> Result<(), Raised> {
    let Some(protocol) = this.protocol.get() else {
        return Ok(());
    };
    let waiting = WaitingCall {
        call,
        protocol,
        context: context::copy_current(this.py())?,
    };
    if this.calls.connected.get() {
        pass_on(this, waiting)
    } else {
        this.calls.queue.borrow_mut().push_back(waiting);
        Ok(())
    }
}

/// Schedules `connection_made`, because all pipes are connected, and after it the calls that have
/// waited for it.
pub(super) fn connected(this: &Ref<SubprocessTransport>) -> Result<(), Raised> {
    let before = this.calls.queue.take();
    this.calls.connected.set(true);
    add(this, ChildCall::ConnectionMade)?;
    before
        .into_iter()
        .try_for_each(|waiting| pass_on(this, waiting))
}

fn pass_on(this: &Ref<SubprocessTransport>, waiting: WaitingCall) -> Result<(), Raised> {
    let Some(event_loop) = this.event_loop.get() else {
        return Ok(());
    };
    // If the program has replaced `call_soon`, or in debug mode, the program sees the handles that
    // asyncio makes.
    if !EventLoop::is_fast(&event_loop) && !this.calls.scheduled.get() {
        return call_soon(this, &event_loop, &waiting);
    }
    this.calls.queue.borrow_mut().push_back(waiting);
    schedule(this, &event_loop);
    Ok(())
}

fn schedule(this: &Ref<SubprocessTransport>, event_loop: &Ref<EventLoop>) {
    if !event_loop.is_closed() && !this.calls.scheduled.replace(true) {
        EventLoop::schedule(event_loop, Entry::call(this.as_obj().clone()));
    }
}

fn call_soon(
    this: &Ref<SubprocessTransport>,
    event_loop: &Ref<EventLoop>,
    waiting: &WaitingCall,
) -> Result<(), Raised> {
    let py = this.py();
    let (callback, args) = bound(this, waiting)?;
    let call: Vec<&Obj> = std::iter::once(&callback).chain(&args).collect();
    let name = pyo3::intern!(py, "call_soon");
    context::run(&waiting.context, || {
        event_loop.as_obj().method(name, &call)?;
        if let (ChildCall::ConnectionMade, Some(waiter)) = (&waiting.call, this.calls.waiter.take())
        {
            let set_result = imports(py).set_result_unless_cancelled.get(py);
            let call = [set_result, &waiter, &Obj::none(py)];
            event_loop.as_obj().method(name, &call)?;
        }
        Ok(())
    })
}

/// The callback that asyncio would schedule, and its arguments.
fn bound(
    this: &Ref<SubprocessTransport>,
    waiting: &WaitingCall,
) -> Result<(Obj, Vec<Obj>), Raised> {
    let py = this.py();
    let protocol = &waiting.protocol;
    Ok(match &waiting.call {
        ChildCall::ConnectionMade => (
            protocol.attr(pyo3::intern!(py, "connection_made"))?,
            vec![this.as_obj().clone()],
        ),
        ChildCall::PipeDataReceived(fd, data) => (
            protocol.attr(pyo3::intern!(py, "pipe_data_received"))?,
            vec![Obj::int(py, *fd)?, data.clone()],
        ),
        ChildCall::PipeConnectionLost(fd, exception) => (
            protocol.attr(pyo3::intern!(py, "pipe_connection_lost"))?,
            vec![Obj::int(py, *fd)?, exception.clone()],
        ),
        ChildCall::ProcessExited => (protocol.attr(pyo3::intern!(py, "process_exited"))?, vec![]),
        ChildCall::ConnectionLost => (
            this.as_obj()
                .attr(pyo3::intern!(py, "_call_connection_lost"))?,
            vec![Obj::none(py)],
        ),
    })
}

/// Runs the child's entry in the loop's queue: makes the calls that wait now.
pub(super) fn run_deferred(this: &Ref<SubprocessTransport>) -> Result<(), EndsProgram> {
    let Some(event_loop) = this.event_loop.get() else {
        return Ok(());
    };
    this.calls.scheduled.set(false);
    let count = this.calls.queue.borrow().len();
    for _ in 0..count {
        let waiting = this.calls.queue.borrow_mut().pop_front();
        let Some(waiting) = waiting else { break };
        let called = call(this, &event_loop, waiting);
        if called.is_err() {
            // The program ends, or runs the loop again: the calls that are left stay scheduled.
            if !this.calls.queue.borrow().is_empty() {
                schedule(this, &event_loop);
            }
            return called;
        }
    }
    Ok(())
}

fn call(
    this: &Ref<SubprocessTransport>,
    event_loop: &Ref<EventLoop>,
    waiting: WaitingCall,
) -> Result<(), EndsProgram> {
    let py = this.py();
    let WaitingCall {
        call,
        protocol,
        context,
    } = &waiting;
    let result = context::run(context, || match call {
        ChildCall::PipeDataReceived(fd, data) => {
            let name = pyo3::intern!(py, "pipe_data_received");
            protocol.method(name, &[&Obj::int(py, *fd)?, data])
        }
        _ => {
            let (callback, args) = bound(this, &waiting)?;
            callback.call(&args.iter().collect::<Vec<_>>())
        }
    });
    let outcome = match result {
        Ok(_) => Ok(()),
        Err(raised) => failed(this, event_loop, &waiting, raised),
    };
    match (call, this.calls.waiter.take()) {
        (ChildCall::ConnectionMade, Some(waiter)) => {
            // An exception that ends the program is raised after the waiter is woken.
            let ending = outcome.err().map(|raised| raised.take(py));
            let set_result = imports(py).set_result_unless_cancelled.get(py);
            let args = [waiter, Obj::none(py)];
            let woken = run_callback(event_loop, context, set_result, &args);
            match ending {
                Some(exception) => EndsProgram::or_caught(py, Raised::raise(exception)).map(drop),
                None => woken,
            }
        }
        (_, waiter) => {
            this.calls.waiter.set(waiter);
            outcome
        }
    }
}

/// Reports that a call failed, as the Handle does that asyncio makes for it.
#[cold]
fn failed(
    this: &Ref<SubprocessTransport>,
    event_loop: &Ref<EventLoop>,
    waiting: &WaitingCall,
    raised: Raised,
) -> Result<(), EndsProgram> {
    let exception = EndsProgram::or_caught(this.py(), raised)?;
    let (callback, args) = match bound(this, waiting) {
        Ok(call) => call,
        // The protocol has no such method: the report's exception says so, and the class stands for
        // the callback.
        Err(raised) => {
            drop(EndsProgram::or_caught(this.py(), raised)?);
            (waiting.protocol.class(), Vec::new())
        }
    };
    callback_failed(
        event_loop.as_obj(),
        &callback,
        &args,
        Raised::raise(exception),
    )
}
