//! Whether a write leaves at once or at the end of the iteration.
//!
//! A system call for each of two small writes, or a peer that is woken for each of many
//! connections, costs more than all that a loop does besides. So a connection that has shown for
//! some iterations how it writes holds the first of several writes back, or its only one while
//! other entries wait for their turn, unless these are so quick that the peer has no time to fall
//! asleep; what follows in the same iteration leaves with it. Seen from outside it has been sent:
//! it counts as nothing in the write buffer.
//!
//! Who blocks after a write has it sent by the loop's thread for what is overdue, and the
//! connection sends at once from then on, for longer each time. Changeable memory and large
//! chunks are never held.

use std::cell::Cell;

use cpython::{Obj, Raised, Ref};

use super::core::Transport;
use super::outgoing::{Chunk, pause_if_full};
use super::reports::{in_context, method_failed};
use super::writing::{start_writing, write_failed};
use super::{StreamTransport, writing};
use crate::event_loop::{EventLoop, Sending};

/// How a connection's writes are sent when the iteration ends.
pub(super) const SENDING: Sending = Sending {
    send,
    settle: settle_at_end,
    distrust,
};

/// The most bytes that one connection holds.
const MOST_BYTES: usize = 16 * 1024;

/// So many iterations a new connection has to write in …
const TRUSTED_AFTER: u8 = 16;
/// … and so many one that has blocked for the third time.
const TRUSTED_AFTER_LONG: u8 = 128;

/// How a connection writes.
#[derive(Clone, Copy)]
struct Habit {
    /// The iteration of its last write.
    iteration: u32,
    /// Writes in that iteration, and in the one before in which it wrote.
    writes: u8,
    usual: u8,
    /// Iterations in which it wrote, up to those that are wanted.
    seen: u8,
    wanted: u8,
}

/// What is held of a connection, if anything is.
pub(super) struct Holding {
    habit: Cell<Habit>,
    /// What is in the write buffer is held.
    held: Cell<bool>,
}

impl Holding {
    pub(super) fn new() -> Holding {
        Holding {
            habit: Cell::new(Habit {
                iteration: 0,
                writes: 0,
                usual: 0,
                seen: 0,
                wanted: TRUSTED_AFTER,
            }),
            held: Cell::new(false),
        }
    }

    /// Whether what is in the write buffer is held: it counts as sent.
    #[inline]
    pub(super) fn is_held(&self) -> bool {
        self.held.get()
    }

    /// What is in the write buffer is handled by whoever calls this: whether it was held.
    #[inline]
    pub(super) fn give_up(&self) -> bool {
        self.held.replace(false)
    }

    /// A write begins: whether the connection may hold it.
    #[inline]
    fn note_write(&self, event_loop: &EventLoop) -> bool {
        let mut habit = self.habit.get();
        if habit.iteration != event_loop.iteration() {
            habit.iteration = event_loop.iteration();
            (habit.usual, habit.writes) = (habit.writes, 0);
            habit.seen = habit.wanted.min(habit.seen + 1);
        }
        habit.writes = habit.writes.saturating_add(1);
        self.habit.set(habit);
        habit.seen == habit.wanted && (habit.usual > habit.writes || event_loop.gathers())
    }
}

/// Holds the bytes back, if the connection may; nothing waits yet.
#[inline]
pub(super) fn hold(this: &Ref<StreamTransport>, data: &Obj, bytes: &[u8]) -> bool {
    let holding = &this.writing.holding;
    let Some(event_loop) = this.core().event_loop.get() else {
        return false;
    };
    if !holding.note_write(&event_loop)
        || !fits(data, bytes.len())
        || !event_loop.can_hold()
        || this.is_closing()
    {
        return false;
    }
    let (chunk, sent) = Chunk::of_bytes(data, bytes, 0);
    this.writing.outgoing.push(chunk, sent);
    holding.held.set(true);
    EventLoop::hold(&event_loop, this.as_obj());
    true
}

/// Adds bytes to what is held, if there is room.
pub(super) fn hold_more(this: &Ref<StreamTransport>, data: &Obj, bytes: &[u8]) -> bool {
    if !fits(data, bytes.len() + this.writing.outgoing.size()) {
        return false;
    }
    if let Some(event_loop) = this.core().event_loop.get() {
        this.writing.holding.note_write(&event_loop);
    }
    let (chunk, sent) = Chunk::of_bytes(data, bytes, 0);
    this.writing.outgoing.push(chunk, sent);
    true
}

fn fits(data: &Obj, size: usize) -> bool {
    let class = Obj::class_of::<pyo3::types::PyBytes>(data.py());
    (1..=MOST_BYTES).contains(&size) && data.is_exact(&class)
}

/// Sends what is held, as far as the socket takes it: whether nothing is left.
fn send(transport: &Obj) -> bool {
    let Some(this) = Ref::<StreamTransport>::of(transport) else {
        return true;
    };
    if this.writing.holding.is_held() {
        if !writing::is_empty(this) && writing::send(this).is_err() {
            return false;
        }
        if !writing::is_empty(this) {
            return false;
        }
        this.writing.holding.give_up();
    }
    true
}

/// What is held leaves now; what the socket does not take waits as after any write.
pub(super) fn settle(this: &Ref<StreamTransport>) -> Result<(), Raised> {
    if !this.writing.holding.give_up() || writing::is_empty(this) {
        return Ok(());
    }
    this.core().look_next();
    if let Err(error) = writing::send(this) {
        if error.kind() != std::io::ErrorKind::WouldBlock {
            writing::discard(this)?;
            return write_failed(this, error).map(drop);
        }
    }
    if writing::is_empty(this) {
        return Ok(());
    }
    start_writing(this)?;
    pause_if_full(this)
}

/// The same at the end of the iteration, in the context of the protocol's callbacks.
#[cold]
fn settle_at_end(transport: &Obj) -> Result<(), Raised> {
    let Some(this) = Ref::<StreamTransport>::of(transport) else {
        return Ok(());
    };
    let (Some(context), Some(event_loop)) = (this.reading.context(), this.core().event_loop.get())
    else {
        return Ok(());
    };
    match in_context(&context, || settle(this)) {
        Ok(()) => Ok(()),
        Err(raised) => method_failed(Some(event_loop), this.as_obj(), "write", &[], raised),
    }
}

/// The connection has to show again that it writes and goes on.
fn distrust(transport: &Obj) {
    if let Some(this) = Ref::<StreamTransport>::of(transport) {
        let habit = &this.writing.holding.habit;
        let wanted = habit.get().wanted.saturating_mul(2).min(TRUSTED_AFTER_LONG);
        habit.set(Habit {
            seen: 0,
            wanted,
            ..habit.get()
        });
    }
}
