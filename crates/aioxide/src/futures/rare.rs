//! What few Futures have: kept in a box of its own, so that the others do not pay for it.

use std::cell::{Cell, OnceCell};

use cpython::{Slot, Visit};

use super::callbacks::Waiter;

/// The fields.
#[derive(Default)]
pub(crate) struct Fields {
    /// The exception's traceback when it was set.
    pub(super) outcome_traceback: Slot,
    /// Where it was made, in debug mode.
    pub(super) source_traceback: Slot,
    pub(super) cancel_message: Slot,
    /// The CancelledError that ended the coroutine, raised again by `result()`.
    pub(super) cancelled_exception: Slot,
    /// All waiters but the first.
    pub(super) more: Cell<Vec<Waiter>>,
    /// Of a Task: the exception that its next step throws, if it was scheduled with one.
    pub(crate) error: Slot,
    /// Of a Task: its name, where nothing else keeps it.
    pub(crate) name: Slot,
}

/// The box: made when first needed, never removed.
#[derive(Default)]
pub(crate) struct Rare(OnceCell<Box<Fields>>);

impl Rare {
    /// The fields, if anything was ever put there.
    #[inline]
    pub(crate) fn get(&self) -> Option<&Fields> {
        self.0.get().map(|fields| &**fields)
    }

    /// The fields, to put something there.
    #[cold]
    pub(crate) fn make(&self) -> &Fields {
        self.0.get_or_init(Box::default)
    }

    /// Takes the exception that the next step of a Task throws.
    #[inline]
    pub(crate) fn take_error(&self) -> Option<cpython::Obj> {
        self.get().and_then(|fields| fields.error.take())
    }

    pub(super) fn visit(&self, visit: &mut Visit<'_>) {
        let Some(fields) = self.get() else { return };
        for slot in fields.slots() {
            visit.slot(slot);
        }
        let more = fields.more.take();
        for waiter in &more {
            waiter.visit(visit);
        }
        fields.more.set(more);
    }

    /// Releases what can be part of a cycle.
    pub(super) fn forget(&self) {
        let Some(fields) = self.get() else { return };
        for slot in fields.slots() {
            slot.set(None);
        }
        drop(fields.more.take());
    }
}

impl Fields {
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
