//! Yes-or-no facts about a Future, in one byte.

use std::cell::Cell;

/// One fact about a Future.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Flag {
    /// `_log_traceback`: the Future has an exception that no code has retrieved.
    LogTraceback = 1,
    /// `_asyncio_future_blocking`: `await` sets it, and the Task clears it.
    Blocking = 2,
    /// Of a Task: its next step throws CancelledError into the coroutine.
    MustCancel = 4,
    /// Of a Task: it is reported if it is destroyed while pending.
    LogDestroyPending = 8,
    /// Of an object of one of our native subclasses: it replaces no method, so awaiting it need not
    /// call methods by name.
    NothingReplaced = 16,
    /// The object's finaliser has run.
    Finalized = 32,
}

/// The flags of a Future. None is set at first.
#[derive(Default)]
pub(crate) struct Flags(Cell<u8>);

impl Flags {
    /// Only this flag.
    #[inline]
    pub(crate) fn of(flag: Flag) -> Flags {
        Flags(Cell::new(flag as u8))
    }

    /// Whether the flag is set.
    #[inline]
    pub(crate) fn is(&self, flag: Flag) -> bool {
        self.0.get() & flag as u8 != 0
    }

    /// Sets or clears the flag.
    #[inline]
    pub(crate) fn set(&self, flag: Flag, value: bool) {
        let others = self.0.get() & !(flag as u8);
        self.0.set(others | if value { flag as u8 } else { 0 });
    }

    /// Clears the flag. Returns whether it was set.
    #[inline]
    pub(crate) fn take(&self, flag: Flag) -> bool {
        let was = self.is(flag);
        self.0.set(self.0.get() & !(flag as u8));
        was
    }
}
