//! The engine of aioxide: everything an event loop needs that is not Python.
//!
//! Calls, timers, readiness, signals and the ends of child processes feed one ready queue; each
//! iteration of the loop runs what was in it. This crate holds the parts of that sentence as plain
//! data structures and thin operations. It also makes the decisions that need no Python: when to
//! look where, how much to take at once, when to pause. The extension carries them out. This crate
//! knows nothing of Python, so all of it is tested without an interpreter and, except for [`sys`],
//! under Miri.
//!
//! In reading order:
//!
//! | module        | what it is                                                                |
//! |---------------|---------------------------------------------------------------------------|
//! | [`clock`]     | time in whole nanoseconds, the system's or one moved by hand              |
//! | [`ready`]     | the first-in, first-out queue of what runs in this iteration or the next  |
//! | [`order`]     | the order of many items by a number each                                  |
//! | [`timers`]    | the heap of scheduled timers, with cheap cancellation                     |
//! | [`selector`]  | which descriptors are ready: epoll, or `poll` elsewhere                   |
//! | [`wait`]      | what a loop waits by: its selector, or a clock that jumps                 |
//! | [`waker`]     | a descriptor by which a thread or a signal ends the selector's wait       |
//! | [`children`]  | how the end of a child process reaches the loop                           |
//! | [`pacing`]    | when a loop looks at its clock and at its selector                        |
//! | [`pace`]      | how long the loop works for each event                                    |
//! | [`habit`]     | whether a connection's writes may be held back                            |
//! | [`overdue`]   | whether what is held back leaves in time                                  |
//! | [`burst`]     | how many connections a server takes at once                               |
//! | [`accept`]    | what a failed `accept` means                                              |
//! | [`batch`]     | how many datagrams a socket receives at once                              |
//! | [`flow`]      | when a protocol must stop writing, and when it may go on                  |
//! | [`buffer`]    | bytes waiting to be sent                                                  |
//! | [`records`]   | where TLS records end                                                     |
//! | [`tls_state`] | in which order a TLS connection goes through its states                   |
//! | [`unread`]    | bytes not read yet, and where separators end in them                      |
//! | [`turn`]      | how long a thread runs calls before it lets others have their turn        |
//! | [`sys`]       | the system calls, one file per operation; the only `unsafe` of this crate |
//!
//! Two rules hold everywhere. Times are [`Nanos`] of the monotonic clock. And no method drops what
//! a caller handed in: it hands back the items that are no longer wanted, since dropping one may
//! run foreign code that calls into the loop again.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod clock;
mod order;
pub mod ready;
pub mod timers;

pub mod selector;
pub mod wait;
pub mod waker;

pub mod children;

pub mod pace;
pub mod pacing;

pub mod accept;
pub mod batch;
pub mod buffer;
pub mod burst;
pub mod flow;
pub mod habit;
pub mod overdue;
pub mod records;
pub mod tls_state;
pub mod turn;
pub mod unread;

pub mod sys;

#[cfg(test)]
mod testing;

pub use accept::AcceptError;
pub use batch::Batch;
pub use buffer::{IoSlices, WriteBuffer};
pub use burst::Burst;
pub use children::ChildExit;
pub use clock::{Clock, Nanos, nanos_from_seconds, seconds};
pub use flow::{FlowChange, FlowControl, LimitsError};
pub use habit::WritingHabit;
pub use overdue::Overdue;
pub use pace::Pace;
pub use pacing::Pacing;
pub use ready::Ready;
pub use records::Records;
pub use selector::{Backend, Interest, Readiness, Selector};
pub use sys::SocketAddrStorage;
pub use timers::{Timer, Timers};
pub use tls_state::{AppState, TlsState, TlsStateError};
pub use turn::ThreadTurn;
pub use unread::{Search, Unread};
pub use wait::{Jump, WaitsForReadiness};
pub use waker::Waker;
