//! The calls of the child's protocol, in the order of what has happened.
//!
//! asyncio schedules each with `call_soon`, and keeps those that come before all pipes are
//! connected for after `connection_made`. Here they wait in a queue of the child's own, which
//! takes one entry of the loop's queue, however many they are.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use cpython::{Obj, Raised, Ref, Slot, Visit, context};

use super::SubprocessTransport;
use crate::event_loop::EventLoop;
use crate::handles::Entry;
use crate::transports::core::run_callback;
use crate::transports::imports;
use crate::transports::reports::{callback_failed, caught, in_context};

/// What the protocol is told.
pub(super) enum Call {
    ConnectionMade,
    /// Of the pipe with this number.
    PipeDataReceived(i64, Obj),
    /// With an exception, or None.
    PipeConnectionLost(i64, Obj),
    ProcessExited,
    ConnectionLost,
}

/// A call, the protocol as it was when its reason came, and a copy of the context of then.
struct Waiting {
    call: Call,
    protocol: Obj,
    context: Obj,
}

/// The calls that wait.
pub(super) struct Calls {
    queue: RefCell<VecDeque<Waiting>>,
    /// An entry of ours is in the loop's queue.
    scheduled: Cell<bool>,
    /// All pipes are connected: calls need not wait for `connection_made`.
    connected: Cell<bool>,
    /// A future that gets a result after `connection_made`.
    waiter: Slot,
}

impl Calls {
    pub(super) fn new(waiter: Option<Obj>) -> Calls {
        Calls {
            queue: RefCell::new(VecDeque::new()),
            scheduled: Cell::new(false),
            connected: Cell::new(false),
            waiter: Slot::new(waiter),
        }
    }

    pub(super) fn traverse(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.waiter);
        let Ok(queue) = self.queue.try_borrow() else {
            return;
        };
        for waiting in &*queue {
            visit.object(&waiting.protocol);
            visit.object(&waiting.context);
            match &waiting.call {
                Call::PipeDataReceived(_, data) => visit.object(data),
                Call::PipeConnectionLost(_, exception) => visit.object(exception),
                Call::ConnectionMade | Call::ProcessExited | Call::ConnectionLost => {}
            }
        }
    }

    pub(super) fn clear(&self) {
        self.waiter.set(None);
        let queue = self.queue.take();
        drop(queue);
    }
}

/// The protocol will be told, in the next iteration.
pub(super) fn add(this: &Ref<SubprocessTransport>, call: Call) -> Result<(), Raised> {
    let Some(protocol) = this.protocol.get() else {
        return Ok(());
    };
    let waiting = Waiting {
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

/// All pipes are connected: `connection_made`, and then what has waited for it.
pub(super) fn connected(this: &Ref<SubprocessTransport>) -> Result<(), Raised> {
    let before = this.calls.queue.take();
    this.calls.connected.set(true);
    add(this, Call::ConnectionMade)?;
    before
        .into_iter()
        .try_for_each(|waiting| pass_on(this, waiting))
}

fn pass_on(this: &Ref<SubprocessTransport>, waiting: Waiting) -> Result<(), Raised> {
    let Some(event_loop) = this.event_loop.get() else {
        return Ok(());
    };
    // A program that has its own `call_soon`, or debugs, sees asyncio's handles.
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
    waiting: &Waiting,
) -> Result<(), Raised> {
    let py = this.py();
    let (callback, args) = bound(this, waiting)?;
    let call: Vec<&Obj> = std::iter::once(&callback).chain(&args).collect();
    let name = pyo3::intern!(py, "call_soon");
    in_context(&waiting.context, || {
        event_loop.as_obj().method(name, &call)?;
        if let (Call::ConnectionMade, Some(waiter)) = (&waiting.call, this.calls.waiter.take()) {
            let set_result = imports(py).set_result_unless_cancelled.get(py);
            let call = [set_result, &waiter, &Obj::none(py)];
            event_loop.as_obj().method(name, &call)?;
        }
        Ok(())
    })
}

/// The callback that asyncio would schedule, and its arguments.
fn bound(this: &Ref<SubprocessTransport>, waiting: &Waiting) -> Result<(Obj, Vec<Obj>), Raised> {
    let py = this.py();
    let protocol = &waiting.protocol;
    Ok(match &waiting.call {
        Call::ConnectionMade => (
            protocol.attr(pyo3::intern!(py, "connection_made"))?,
            vec![this.as_obj().clone()],
        ),
        Call::PipeDataReceived(fd, data) => (
            protocol.attr(pyo3::intern!(py, "pipe_data_received"))?,
            vec![Obj::int(py, *fd)?, data.clone()],
        ),
        Call::PipeConnectionLost(fd, exception) => (
            protocol.attr(pyo3::intern!(py, "pipe_connection_lost"))?,
            vec![Obj::int(py, *fd)?, exception.clone()],
        ),
        Call::ProcessExited => (protocol.attr(pyo3::intern!(py, "process_exited"))?, vec![]),
        Call::ConnectionLost => (
            this.as_obj()
                .attr(pyo3::intern!(py, "_call_connection_lost"))?,
            vec![Obj::none(py)],
        ),
    })
}

/// The entry has come to its turn: makes the calls that wait now.
pub(super) fn run_deferred(this: &Ref<SubprocessTransport>) -> Result<(), Raised> {
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
            // The program ends, or goes on by running the loop again; nothing is forgotten.
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
    waiting: Waiting,
) -> Result<(), Raised> {
    let py = this.py();
    let Waiting {
        call,
        protocol,
        context,
    } = &waiting;
    let result = in_context(context, || match call {
        Call::PipeDataReceived(fd, data) => {
            let name = pyo3::intern!(py, "pipe_data_received");
            protocol.method(name, &[&Obj::int(py, *fd)?, data])
        }
        _ => {
            let (callback, args) = bound(this, &waiting)?;
            callback.call(&args.iter().collect::<Vec<_>>())
        }
    });
    let told = match result {
        Ok(_) => Ok(()),
        Err(raised) => failed(this, event_loop, &waiting, raised),
    };
    match (call, this.calls.waiter.take()) {
        (Call::ConnectionMade, Some(waiter)) => {
            // What ends the program is raised after the waiter is woken.
            let ending = told.err().map(|raised| raised.take(py));
            let set_result = imports(py).set_result_unless_cancelled.get(py);
            let args = [waiter, Obj::none(py)];
            let context = Some(context.clone());
            let woken = run_callback(event_loop, context, Some(set_result.clone()), &args);
            ending.map_or(woken, |exception| Err(Raised::raise(exception)))
        }
        (_, waiter) => {
            this.calls.waiter.set(waiter);
            told
        }
    }
}

/// Reports that a call failed, as the handle would that asyncio has made for it.
#[cold]
fn failed(
    this: &Ref<SubprocessTransport>,
    event_loop: &Ref<EventLoop>,
    waiting: &Waiting,
    raised: Raised,
) -> Result<(), Raised> {
    let exception = caught(this.py(), raised)?;
    match bound(this, waiting) {
        Ok((callback, args)) => {
            callback_failed(event_loop, &callback, &args, Raised::raise(exception))
        }
        // The protocol has no such method, which is what the exception says.
        Err(raised) => {
            drop(raised.take(this.py()));
            let callback = waiting.protocol.class();
            callback_failed(event_loop, &callback, &[], Raised::raise(exception))
        }
    }
}
