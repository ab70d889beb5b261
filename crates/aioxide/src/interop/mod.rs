//! The running interpreter's asyncio, as far as aioxide uses it or fills its fields.
//!
//! - [`imports`]: asyncio's own objects (exceptions, texts, base classes), taken once at import,
//!   before anything could replace them.
//! - [`accelerator`]: how the accelerator behaves where patch releases differ.
//! - [`ending`]: which exceptions leave the loop.
//! - [`mod@python_side`]: aioxide's own Python modules, which no other file names.
//! - [`current`]: where the running version keeps "the running task" and "the running loop".
//! - [`replaced`]: whether the program has replaced a class, function or method of asyncio.
//! - [`mirror`]: the fields of the accelerator's Task that debuggers and `asyncio ps` read.
//! - [`sockets`]: the fields of Python's sockets.

mod accelerator;
pub(crate) mod current;
pub(crate) mod ending;
pub(crate) mod imports;
pub(crate) mod mirror;
mod python_side;
pub(crate) mod replaced;
pub(crate) mod sockets;

pub(crate) use ending::EndsProgram;
pub(crate) use imports::asyncio;
pub(crate) use python_side::{copies_module, filled, python_side, tls_module};
