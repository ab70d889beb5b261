//! The fields that few Futures need. They are in a box of their own, so that other Futures do not
//! pay for them.

use std::cell::Cell;

use cpython::{Slot, Visit};

use super::waiters::Waiter;

/// The fields in the box.
#[derive(Default)]
pub(crate) struct RareFields {
    /// The exception's traceback when it was set.
    pub(super) outcome_traceback: Slot,
    /// The place where the Future was made, in debug mode.
    pub(super) source_traceback: Slot,
    pub(super) cancel_message: Slot,
    /// The CancelledError that ended the coroutine, raised again by `result()`.
    pub(super) cancelled_exception: Slot,
    /// The first waiter, once there is the box.
    pub(super) first: Cell<Option<Waiter>>,
    /// All waiters but the first.
    pub(super) more: Cell<Vec<Waiter>>,
    /// Of a Task: the exception that its next step throws, if it was scheduled with one.
    pub(crate) error: Slot,
    /// Of a Task: its name, where nothing else keeps it.
    pub(crate) name: Slot,
}

impl RareFields {
    pub(super) fn visit(&self, visit: &mut Visit<'_>) {
        for slot in self.slots() {
            visit.slot(slot);
        }
        let (first, more) = (self.first.take(), self.more.take());
        for waiter in first.iter().chain(&more) {
            waiter.visit(visit);
        }
        self.first.set(first);
        self.more.set(more);
    }

    /// Releases what can be part of a cycle.
    pub(super) fn forget(&self) {
        for slot in self.slots() {
            slot.set(None);
        }
        drop(self.first.take());
        drop(self.more.take());
    }

    fn slots(&self) -> [&Slot; 6] {
        [
            &self.outcome_traceback,
            &self.source_traceback,
            &self.cancel_message,
            &self.cancelled_exception,
            &self.error,
            &self.name,
        ]
    }
}
