//! What waits to run: handles, and the entries of the ready queue and of the timer heap.
//!
//! - [`entry`]: eight bytes that say what to run: a handle, a task, a transport.
//! - [`handle`]: `Handle`, what `call_soon` returns.
//! - [`reports`]: reports for the loop's exception handler.
//! - [`served`]: the table of what the rooms further right do for objects of their types.
//! - [`spares`]: handles and contexts that wait to be used again.
//! - [`thread_safe_handle`]: what `call_soon_threadsafe` returns on 3.14 and later.
//! - [`timer_handle`]: `TimerHandle`, what `call_later` and `call_at` return; [`Alarm`], a timer
//!   without a handle, for `sleep`.

pub(crate) mod entry;
pub(crate) mod handle;
pub(crate) mod reports;
pub(crate) mod served;
pub(crate) mod spares;
pub(crate) mod thread_safe_handle;
pub(crate) mod timer_handle;

pub(crate) use entry::{Entry, Shown, TimerEntry};
pub(crate) use handle::{Callback, Handle};
pub(crate) use served::{Registry, Served};
pub(crate) use spares::Spares;
pub(crate) use thread_safe_handle::ThreadSafeHandle;
pub(crate) use timer_handle::{Alarm, TimerHandle, When};
