//! CPython's C API behind safe functions, for types whose slots are filled by hand.
//!
//! PyO3 serves the cold classes well; what runs for every callback needs slots that it has not
//! (`tp_finalize`, `am_send`, freelists, base types with a layout of their own) and pays for no
//! check twice. This crate is that layer and nothing more: it knows no word of asyncio.
//!
//! | module | what it holds |
//! |---|---|
//! | [`obj`] | [`Obj`], an owned reference; [`Raised`], "an exception is set"; attributes, numbers, texts |
//! | [`buffer`] | the memory of bytes-like objects |
//! | `calls` | calls of objects and of their methods |
//! | [`lend`] | memory of ours as a Python object; `bytes` filled piece by piece |
//! | `containers` | tuples, lists, dicts, sets, iterators |
//! | [`error`] | raising, catching and comparing exceptions |
//! | [`args`] | the arguments of a call from Python |
//! | [`interpreter`] | which interpreter of the process the types belong to |
//! | [`slot`] | [`Slot`], a field that holds a reference and may be replaced at any time |
//! | [`hot`] | hot types: the trait [`Hot`], references to them, allocation and freelists |
//! | [`build`] | makes the type object of a hot type |
//! | [`lifecycle`] | how the garbage collector sees their objects, and how these go |
//! | [`answer`] | what functions may return to Python |
//! | [`functions`] | built-in functions and bound methods |
//! | `trampolines` | the C functions through which CPython calls Rust |
//! | [`callable`] | functions with attributes |
//! | [`coro`] | driving coroutines |
//! | `spare_bytes` | memory of bytes objects, used again |
//! | `stop_iteration` | how an iterator returns a value to `await` |
//! | [`context`] | `contextvars` contexts |
//! | [`numbers`] | ints that are written anew instead of being freed and made |
//! | [`tagged`] | a reference and three bits in eight bytes |
//! | [`thread_exit`] | threads that CPython ends while the interpreter goes |
//! | [`watch`] | dicts of which is known whether they have changed |
//! | [`foreign`] | fields of another extension's objects and of the thread state, at verified offsets |
//!
//! # The one rule of safety
//! [`Obj`] is neither `Send` nor `Sync` and is only made where the thread is attached to the
//! interpreter (by a [`Python`] token or by another `Obj`). So whoever holds one may use the
//! C API. `Python::detach` takes `Send` closures only, hence no `Obj` gets into them.

pub mod answer;
pub mod args;
pub mod buffer;
pub mod build;
pub mod callable;
mod calls;
mod containers;
pub mod context;
pub mod coro;
pub mod error;
pub mod foreign;
pub mod functions;
pub mod hot;
pub mod interpreter;
pub mod lend;
pub mod lifecycle;
pub mod numbers;
pub mod obj;
pub mod slot;
mod spare_bytes;
mod stop_iteration;
pub mod tagged;
pub mod thread_exit;
mod trampolines;
pub mod watch;

pub use args::Args;
pub use error::Raised;
pub use hot::{Hot, Kept, NoParent, Ref, Spare};
pub use lend::BytesBuilder;
pub use lifecycle::{Held, Visit};
pub use obj::{Global, Obj};
pub use pyo3::Python;
pub use slot::Slot;
pub use spare_bytes::SpareBytes;
