//! The engine of aioxide: everything an event loop needs that is not Python.
//!
//! Five sources (calls, timers, readiness, signals, children) feed one ready queue, and each
//! iteration drains what was there. This crate holds the parts of that sentence as plain data
//! structures and thin operations; what runs and in which order is decided above it. It knows
//! nothing of Python, so that all of it is tested without an interpreter and, except for
//! [`sys`], under Miri.
//!
//! In reading order:
//!
//! | module       | what it is                                                                |
//! |--------------|---------------------------------------------------------------------------|
//! | [`clock`]    | time in whole nanoseconds, the system's or one moved by hand              |
//! | [`ready`]    | the first-in, first-out queue of what runs in this iteration or the next  |
//! | [`order`]    | the order of many items by a number each                                  |
//! | [`timers`]   | the heap of scheduled timers, with cheap cancellation                     |
//! | [`selector`] | which descriptors are ready: epoll, or `poll` elsewhere                   |
//! | [`waker`]    | a descriptor by which any thread ends the selector's wait                 |
//! | [`inbox`]    | how other threads reach the loop                                          |
//! | [`signals`]  | how signal numbers reach the loop                                         |
//! | [`children`] | how the end of a child process reaches the loop                           |
//! | [`flow`]     | when a protocol must stop writing, and when it may go on                  |
//! | [`buffer`]   | bytes waiting to be sent                                                  |
//! | [`overdue`]  | whether what is held back leaves in time                                  |
//! | [`pace`]     | how long the loop works for each event                                    |
//! | [`records`]  | where TLS records end                                                     |
//! | [`unread`]   | bytes not read yet, and where separators end in them                      |
//! | [`accept`]   | what a failed `accept` means                                              |
//! | [`sys`]      | the system calls, one file per operation; the only `unsafe` of this crate |
//!
//! Two rules hold everywhere. Times are [`Nanos`] of the monotonic clock. And nothing that a
//! caller handed in is dropped inside a method: items that are no longer wanted are handed back,
//! since dropping one may run foreign code that calls into the loop again.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod clock;
mod order;
pub mod ready;
pub mod timers;

pub mod selector;
pub mod waker;

pub mod children;
pub mod inbox;
pub mod signals;

pub mod accept;
pub mod buffer;
pub mod flow;
pub mod overdue;
pub mod pace;
pub mod records;
pub mod unread;

pub mod sys;

#[cfg(test)]
mod testing;

pub use accept::AcceptError;
pub use buffer::{IoSlices, WriteBuffer};
pub use children::ChildExit;
pub use clock::{Clock, Nanos, nanos_from_seconds, seconds};
pub use flow::{FlowControl, LimitsError};
pub use inbox::{Closed, Inbox};
pub use overdue::Overdue;
pub use pace::Pace;
pub use ready::Ready;
pub use records::Records;
pub use selector::{Backend, Event, Interest, Selector};
pub use signals::SignalPipe;
pub use sys::SocketAddrStorage;
pub use timers::{Timer, Timers};
pub use unread::{Search, Unread};
pub use waker::Waker;
