//! The fields that few Futures need. They are in a box of their own, so that other Futures do not
//! pay for them.

use std::cell::{Cell, OnceCell};

use cpython::{Slot, Visit};

use super::callbacks::Waiter;

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
    /// All waiters but the first.
    pub(super) more: Cell<Vec<Waiter>>,
    /// Of a Task: the exception that its next step throws, if it was scheduled with one.
    pub(crate) error: Slot,
    /// Of a Task: its name, where nothing else keeps it.
    pub(crate) name: Slot,
}

/// The box. It is made when first needed and never removed.
#[derive(Default)]
pub(crate) struct RareBox(OnceCell<Box<RareFields>>);

impl RareBox {
    /// The fields, if the box was made.
    #[inline]
    pub(crate) fn get(&self) -> Option<&RareFields> {
        self.0.get().map(|fields| &**fields)
    }

    /// The fields, in a box that is made if there is none.
    #[cold]
    pub(crate) fn make(&self) -> &RareFields {
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

impl RareFields {
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
