//! Writes that are held back until the end of the iteration. So two writes of one connection leave
//! by one system call, and writes of several connections wake their common peer once.
//!
//! The room `transports` decides which connections hold. The loop sends what is held when 64
//! connections hold something, when the first has waited for a millisecond, and when the iteration
//! ends. If a callback blocks before that, a thread that looks every four milliseconds sends it, so
//! a write leaves even if the program blocks right after it.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, PoisonError};

use cpython::{Obj, Python, Raised, Ref, Visit};
use engine::{Nanos, Overdue, Pace};
use pyo3::{Py, PyAny};

use super::EventLoop;
use crate::handles::served;
use crate::interop::EndsProgram;

/// The maximum number of connections that hold writes at once.
const MOST: usize = 64;

/// The longest time, in nanoseconds, that the first of them waits, apart from one callback.
const LONGEST: Nanos = 1_000_000;

/// Below this time per event, in nanoseconds, a peer is still awake when the next answer comes, and
/// holding answers gains nothing.
const SLOW: Nanos = 4_000;

/// The same for an answer at once, from the very call that handed its request on.
const SLOW_AT_ONCE: Nanos = 8_000;

/// The time since the first began to wait is looked at when this many more hold something: reading
/// the clock takes as long as a tenth of a held write.
const BETWEEN_LOOKS: usize = 4;

/// The loop, while it runs, for the thread.
type Running = Arc<Mutex<Option<Py<PyAny>>>>;

/// The transports that hold writes, and the thread that looks after them.
#[derive(Default)]
pub(super) struct Held {
    transports: RefCell<Vec<Obj>>,
    /// The time at which the first of them began to wait.
    since: Cell<Nanos>,
    overdue: RefCell<Option<Overdue>>,
    running: Running,
    /// How long the work for one event takes.
    pub(super) pace: Pace,
    /// Whether the system has refused the thread. Then nothing is held.
    unwatched: Cell<bool>,
}

impl Held {
    /// Whether nothing is held.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.transports.borrow().is_empty()
    }

    pub(super) fn visit(&self, visit: &mut Visit<'_>) {
        if let Ok(transports) = self.transports.try_borrow() {
            transports.iter().for_each(|held| visit.object(held));
        }
    }

    /// Notes that the loop runs.
    pub(super) fn begin(&self, event_loop: &Obj) {
        if self.overdue.borrow().is_some() {
            let py = event_loop.py();
            self.run(py, Some(event_loop.bound(py).unbind()));
        }
    }

    /// Notes that the loop no longer runs.
    pub(super) fn end(&self, py: Python<'_>) {
        if self.overdue.borrow().is_some() {
            self.run(py, None);
        }
    }

    /// Ends the thread, when the loop is closed.
    pub(super) fn close(&self) {
        drop(self.overdue.take());
    }

    fn run(&self, py: Python<'_>, event_loop: Option<Py<PyAny>>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *running, event_loop);
        drop(running);
        if let Some(before) = before {
            before.drop_ref(py);
        }
    }

    #[cold]
    fn watch(&self, event_loop: &Obj) {
        let running = Arc::clone(&self.running);
        match Overdue::watch(move || {
            Python::try_attach(|py| send_overdue(py, &running)) == Some(true)
        }) {
            Ok(overdue) => {
                self.overdue.replace(Some(overdue));
                self.begin(event_loop);
            }
            Err(_) => self.unwatched.set(true),
        }
    }
}

/// Sends what is held for too long. Returns whether nothing is left.
fn send_overdue(py: Python<'_>, running: &Running) -> bool {
    let running = running.lock().unwrap_or_else(PoisonError::into_inner);
    let event_loop = running
        .as_ref()
        .map(|running| Obj::from_py_ref(py, running).clone());
    drop(running);
    match event_loop.as_ref().and_then(Ref::<EventLoop>::of_any) {
        Some(event_loop) => event_loop.within(|event_loop| {
            event_loop.note_overdue();
            event_loop.send_held()
        }),
        None => true,
    }
}

impl EventLoop {
    /// The number of the iteration. It wraps around.
    #[inline]
    pub(crate) fn iteration(&self) -> u32 {
        self.iteration.get()
    }

    /// Whether it is worth while to hold back a connection's only write: other entries come after
    /// the running one, and they take long enough for a peer to fall asleep between two answers.
    /// `at_once` says whether the write is an answer from the call that handed its request on.
    #[inline]
    pub(crate) fn gathers(&self, at_once: bool) -> bool {
        let slow = if at_once { SLOW_AT_ONCE } else { SLOW };
        self.held.pace.each() >= slow && !self.ready.borrow().is_empty()
    }

    /// Whether writes may be held until the end of the iteration: an iteration runs, and the loop
    /// takes the short ways.
    #[inline]
    pub(crate) fn can_hold(&self) -> bool {
        self.fast.get() && self.is_running() && !self.waiting.get() && !self.held.unwatched.get()
    }

    /// Holds the transport's write, which is sent at the end of the iteration or before.
    pub(crate) fn hold(this: &Ref<EventLoop>, transport: &Obj) {
        let held = &this.held;
        let count = {
            let mut transports = held.transports.borrow_mut();
            transports.push(transport.clone());
            transports.len()
        };
        if count == 1 {
            held.since.set(this.clock.now());
            if held.overdue.borrow().is_none() {
                held.watch(this.as_obj());
            }
            if let Some(overdue) = &*held.overdue.borrow() {
                overdue.hold(this.iteration.get());
            }
        } else if count >= MOST
            || count % BETWEEN_LOOKS == 0
                && this.clock.now().saturating_sub(held.since.get()) > LONGEST
        {
            this.send_held();
        }
    }

    /// Sends what is held and forgets the transports whose writes were sent. Returns whether none
    /// is left.
    fn send_held(&self) -> bool {
        let mut transports = self.held.transports.take();
        let left: Vec<Obj> = transports
            .iter()
            .filter(|transport| !served::send_held(transport))
            .cloned()
            .collect();
        let is_empty = left.is_empty();
        self.held.transports.replace(left);
        // This may release the last reference to a transport.
        transports.clear();
        if self.held.is_empty() {
            // Keeps the memory.
            self.held.transports.replace(transports);
        }
        is_empty
    }

    fn note_overdue(&self) {
        let transports = self.held.transports.borrow();
        transports.iter().for_each(served::note_overdue);
    }

    /// Sends what is held, at the end of the iteration.
    #[inline(never)]
    pub(super) fn settle_held(this: &Ref<EventLoop>) -> Result<(), EndsProgram> {
        let mut transports = this.held.transports.take();
        if let Some(overdue) = &*this.held.overdue.borrow() {
            overdue.release();
        }
        let py = this.py();
        let mut first = None;
        for transport in transports.drain(..) {
            if !served::send_held(&transport) {
                if let Err(ending) = served::settle_held(&transport) {
                    // No exception must be set while the others settle.
                    let exception = ending.take(py);
                    first.get_or_insert(exception);
                }
            }
        }
        if this.held.is_empty() {
            // Keeps the memory for the next iteration.
            this.held.transports.replace(transports);
        }
        match first {
            Some(exception) => EndsProgram::or_caught(py, Raised::raise(exception)).map(drop),
            None => Ok(()),
        }
    }
}
