//! Whether a write leaves at once or at the end of the iteration.
//!
//! Two things cost more than all else that a loop does: a system call for each of two small writes,
//! and the wakeup of a peer for each of many connections. So a connection that has written alike
//! for some iterations ([`WritingHabit`]) may hold bytes until the end of the iteration. It holds
//! the first of several writes, and the others leave with it. It holds its only write while other
//! entries wait for their turn, unless these are so quick that the peer has no time to fall asleep.
//! An answer that is written while its request is handed on has to be slower for that than one
//! that a task writes: its bytes are often those just received, whose memory is used again at once
//! if they leave at once.
//! Held bytes count as sent: they are no part of the write buffer's size.
//!
//! If a callback blocks after a write, the loop's thread for overdue bytes sends it. From then on
//! the connection sends at once, for longer each time. Changeable memory and large chunks are never
//! held.

use std::cell::Cell;
use std::io;

use cpython::{Obj, Ref};
use engine::WritingHabit;

use super::StreamTransport;
use super::outgoing::Chunk;
use super::transport::Transport;
use crate::event_loop::EventLoop;

/// The most bytes that one connection holds.
const MOST_BYTES: usize = 16 * 1024;

/// The habit of a connection, and whether it holds bytes.
pub(super) struct Holding {
    habit: WritingHabit,
    /// The bytes in the write buffer are held.
    held: Cell<bool>,
    /// The error with which the system refused the held bytes. It is kept because the system
    /// reports a socket's error only once.
    failed: Cell<Option<io::Error>>,
    /// The protocol is being handed what the connection has received.
    hands_on: Cell<bool>,
}

impl Holding {
    pub(super) fn new() -> Holding {
        Holding {
            habit: WritingHabit::new(),
            held: Cell::new(false),
            failed: Cell::new(None),
            hands_on: Cell::new(false),
        }
    }

    /// Whether the bytes in the write buffer are held: they count as sent.
    #[inline]
    pub(super) fn is_held(&self) -> bool {
        self.held.get()
    }

    /// Ends the holding; the caller handles the bytes in the write buffer. Returns whether they
    /// were held.
    #[inline]
    pub(super) fn give_up(&self) -> bool {
        self.held.replace(false)
    }

    /// The error with which the system refused the held bytes.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        self.failed.take()
    }

    /// Notes that a write begins; returns whether the connection may hold it.
    #[inline]
    fn note_write(&self, event_loop: &EventLoop) -> bool {
        self.habit.note_write(event_loop.iteration(), || {
            event_loop.gathers(self.hands_on.get())
        })
    }

    /// Calls `body`, which hands the protocol what the connection has received: what is written
    /// meanwhile is an answer at once.
    #[inline]
    pub(super) fn while_handing_on<R>(&self, body: impl FnOnce() -> R) -> R {
        let before = self.hands_on.replace(true);
        let result = body();
        self.hands_on.set(before);
        result
    }
}

/// Holds the bytes, if the connection may, and returns whether it does. The write buffer is empty.
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
    this.writing.outgoing.put(data);
    holding.held.set(true);
    EventLoop::hold(&event_loop, this.as_obj());
    true
}

/// Adds bytes to the held ones, if there is room; returns whether there was.
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

/// Sends held bytes, as many as the socket takes; returns whether none are left.
pub(super) fn send(this: &Ref<StreamTransport>) -> bool {
    if this.writing.holding.is_held() {
        if !this.writing.outgoing.is_empty() {
            if let Err(error) = this.writing.outgoing.send_to(this.core().fd) {
                if error.kind() != io::ErrorKind::WouldBlock {
                    this.writing.holding.failed.set(Some(error));
                }
                return false;
            }
        }
        if !this.writing.outgoing.is_empty() {
            return false;
        }
        this.writing.holding.give_up();
    }
    true
}

/// Makes the connection send at once, until its writes have earned trust again.
pub(super) fn note_overdue(this: &Ref<StreamTransport>) {
    this.writing.holding.habit.note_overdue();
}
