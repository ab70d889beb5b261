//! Writes that are held back until the end of the iteration, so that what one connection writes
//! twice leaves by one system call, and what several write wakes their peer once.
//!
//! Which connections hold is decided in `transports`. What is held leaves when so many
//! connections have something or the first has waited for a millisecond, when the iteration ends,
//! and, if a callback blocks before that, by a thread that looks every few milliseconds: who
//! blocks right after a write has had it sent.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cpython::{Obj, Python, Raised, Ref, Visit};
use engine::{Nanos, Overdue, Pace};
use pyo3::{Py, PyAny};

use super::EventLoop;

/// So many connections hold at most.
const MOST: usize = 16;

/// The first of them waits no longer than so many nanoseconds and one callback.
const LONGEST: Nanos = 1_000_000;

/// A peer that is answered more often than once in so many nanoseconds does not fall asleep.
const SLOW: Nanos = 4_000;

/// How held writes are sent; transports register it when the module starts.
#[derive(Clone, Copy)]
pub(crate) struct Sending {
    /// Sends what the socket takes: whether nothing is left. Calls no Python.
    pub(crate) send: fn(&Obj) -> bool,
    /// Does what an ordinary write does with what is left.
    pub(crate) settle: fn(&Obj) -> Result<(), Raised>,
    /// It was held for too long.
    pub(crate) distrust: fn(&Obj),
}

static SENDING: OnceLock<Sending> = OnceLock::new();

/// The loop that the thread finds, while it runs.
type Running = Arc<Mutex<Option<Py<PyAny>>>>;

/// What is held, and who looks after it.
#[derive(Default)]
pub(super) struct Held {
    transports: RefCell<Vec<Obj>>,
    /// Time at which the first of them began to wait.
    since: Cell<Nanos>,
    overdue: RefCell<Option<Overdue>>,
    running: Running,
    /// How long the work for one event takes.
    pub(super) pace: Pace,
    /// There is no thread to be had: nothing is held.
    unwatched: Cell<bool>,
}

impl Held {
    /// Nothing is held.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.transports.borrow().is_empty()
    }

    pub(super) fn visit(&self, visit: &mut Visit<'_>) {
        if let Ok(transports) = self.transports.try_borrow() {
            transports.iter().for_each(|held| visit.object(held));
        }
    }

    /// The loop runs.
    pub(super) fn begin(&self, event_loop: &Obj) {
        if self.overdue.borrow().is_some() {
            let py = event_loop.py();
            self.run(py, Some(event_loop.bound(py).unbind()));
        }
    }

    /// The loop runs no more.
    pub(super) fn end(&self, py: Python<'_>) {
        if self.overdue.borrow().is_some() {
            self.run(py, None);
        }
    }

    /// The loop is closed: its thread ends.
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

/// Sends what is held for too long: whether nothing is left.
fn send_overdue(py: Python<'_>, running: &Running) -> bool {
    let running = running.lock().unwrap_or_else(PoisonError::into_inner);
    let event_loop = running
        .as_ref()
        .map(|running| Obj::from_py_ref(py, running).clone());
    drop(running);
    match event_loop.as_ref().and_then(Ref::<EventLoop>::of) {
        Some(event_loop) => {
            event_loop.distrust_held();
            event_loop.send_held()
        }
        None => true,
    }
}

impl EventLoop {
    /// Has all loops send what is held in this way; called once, when the module starts.
    pub(crate) fn send_by(sending: Sending) {
        let _ = SENDING.set(sending);
    }

    /// The number of the iteration; it comes again after all others.
    #[inline]
    pub(crate) fn iteration(&self) -> u32 {
        self.iteration.get()
    }

    /// Whether it is worth while to hold back a connection's only write: others come after the
    /// running entry, and they take long enough for a peer to fall asleep between two answers.
    #[inline]
    pub(crate) fn gathers(&self) -> bool {
        self.held.pace.each() >= SLOW && !self.ready.borrow().is_empty()
    }

    /// Whether writes may be held until the end of the iteration: there is one, and the loop is
    /// one that takes the short ways.
    #[inline]
    pub(crate) fn can_hold(&self) -> bool {
        self.fast.get() && self.is_running() && !self.waiting.get() && !self.held.unwatched.get()
    }

    /// Sends what the transport has at the end of the iteration, or before.
    pub(crate) fn hold(this: &Ref<EventLoop>, transport: &Obj) {
        let held = &this.held;
        let is_first = held.is_empty();
        held.transports.borrow_mut().push(transport.clone());
        let now = this.clock.now();
        if is_first {
            held.since.set(now);
            if held.overdue.borrow().is_none() {
                held.watch(this.as_obj());
            }
            if let Some(overdue) = &*held.overdue.borrow() {
                overdue.hold(this.iteration.get());
            }
        } else if held.transports.borrow().len() >= MOST
            || now.saturating_sub(held.since.get()) > LONGEST
        {
            this.send_held();
        }
    }

    /// Sends what is held and forgets whose was sent: whether that is all.
    fn send_held(&self) -> bool {
        let Some(sending) = SENDING.get() else {
            return true;
        };
        let mut transports = self.held.transports.take();
        let mut sent = Vec::new();
        transports.retain(|transport| {
            let gone = (sending.send)(transport);
            if gone {
                sent.push(transport.clone());
            }
            !gone
        });
        let is_empty = transports.is_empty();
        self.held.transports.replace(transports);
        // The last reference to a transport may be among them.
        drop(sent);
        is_empty
    }

    fn distrust_held(&self) {
        if let Some(sending) = SENDING.get() {
            self.held
                .transports
                .borrow()
                .iter()
                .for_each(sending.distrust);
        }
    }

    /// The iteration is over: sends what is held. Fails only with what ends the program.
    #[inline(never)]
    pub(super) fn settle_held(this: &Ref<EventLoop>) -> Result<(), Raised> {
        let Some(sending) = SENDING.get() else {
            return Ok(());
        };
        let mut transports = this.held.transports.take();
        if let Some(overdue) = &*this.held.overdue.borrow() {
            overdue.release();
        }
        let mut outcome = Ok(());
        for transport in transports.drain(..) {
            if !(sending.send)(&transport) {
                let settled = (sending.settle)(&transport);
                if outcome.is_ok() {
                    outcome = settled;
                }
            }
        }
        if this.held.is_empty() {
            // The memory serves the next iteration.
            this.held.transports.replace(transports);
        }
        outcome
    }
}
