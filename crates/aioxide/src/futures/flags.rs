//! Yes-or-no facts about a Future, in one byte.

use std::cell::Cell;

/// A fact.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Flag {
    /// An exception waits to be looked at: `_log_traceback`.
    LogTraceback = 1,
    /// `_asyncio_future_blocking`: set by `await`, taken back by the Task.
    Blocking = 2,
    /// Of a Task: its next step throws CancelledError.
    MustCancel = 4,
    /// Of a Task: it is reported if it goes while pending.
    LogDestroyPending = 8,
    /// Of a native subclass: whoever awaits it need not call its methods by name.
    Plain = 16,
    /// Its finaliser has run.
    Finalized = 32,
}

/// Facts about a Future; none at first.
#[derive(Default)]
pub(crate) struct Flags(Cell<u8>);

impl Flags {
    /// One alone.
    #[inline]
    pub(crate) fn of(flag: Flag) -> Flags {
        Flags(Cell::new(flag as u8))
    }

    /// Whether it is so.
    #[inline]
    pub(crate) fn is(&self, flag: Flag) -> bool {
        self.0.get() & flag as u8 != 0
    }

    /// Says whether it is so.
    #[inline]
    pub(crate) fn set(&self, flag: Flag, value: bool) {
        let others = self.0.get() & !(flag as u8);
        self.0.set(others | if value { flag as u8 } else { 0 });
    }

    /// It is no longer so; whether it was.
    #[inline]
    pub(crate) fn take(&self, flag: Flag) -> bool {
        let was = self.is(flag);
        self.0.set(self.0.get() & !(flag as u8));
        was
    }
}
