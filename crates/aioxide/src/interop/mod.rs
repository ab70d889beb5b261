//! What aioxide takes from the running interpreter's asyncio.
//!
//! - [`imports`]: asyncio's own objects (exceptions, texts, base classes), taken once at import,
//!   before anything could replace them.
//! - [`habits`]: what differs between patch releases, asked of the accelerator itself.
//! - [`current`]: where the running version keeps "the running task" and "the running loop".
//! - [`mirror`]: the fields of the accelerator's Task that debuggers and `asyncio ps` read.
//! - [`sockets`]: the fields of Python's sockets.

pub(crate) mod current;
mod habits;
pub(crate) mod imports;
pub(crate) mod mirror;
pub(crate) mod sockets;

pub(crate) use imports::asyncio;
