//! CPython's C API behind safe functions, for types whose slots are filled by hand.
//!
//! PyO3 serves the cold classes well; what runs for every callback needs slots that it has not
//! (`tp_finalize`, `am_send`, freelists, base types with a layout of their own) and pays for no
//! check twice. This crate is that layer and nothing more: it knows no word of asyncio.
//!
//! | module | what it holds |
//! |---|---|
//! | [`obj`] | [`Obj`], an owned reference; [`Raised`], "an exception is set"; attributes, calls, containers |
//! | [`error`] | raising, catching and comparing exceptions |
//! | [`args`] | the arguments of a call from Python |
//! | [`slot`] | [`Slot`], a field that holds a reference and may be replaced at any time |
//! | [`hot`] | hot types: the trait [`Hot`], references to them, allocation and freelists |
//! | [`known`] | [`Known`], a reference that remembers whether its object is of a hot type |
//! | [`build`] | makes the type object of a hot type; the trampolines |
//! | [`coro`] | driving coroutines |
//! | [`context`] | `contextvars` contexts |
//! | [`tagged`] | a reference and three bits in eight bytes |
//! | [`foreign`] | fields of another extension's objects and of the thread state, at verified offsets |
//!
//! # The one rule of safety
//! [`Obj`] is neither `Send` nor `Sync` and is only made where the thread is attached to the
//! interpreter (by a [`Python`] token or by another `Obj`). So whoever holds one may use the
//! C API. `Python::detach` takes `Send` closures only, hence no `Obj` gets into them.

pub mod args;
pub mod build;
pub mod context;
pub mod coro;
pub mod error;
pub mod foreign;
pub mod hot;
pub mod known;
pub mod obj;
pub mod slot;
pub mod tagged;

pub use args::Args;
pub use error::Raised;
pub use hot::{Hot, NoParent, Ref, Visit};
pub use known::Known;
pub use obj::{Global, Obj};
pub use pyo3::Python;
pub use slot::Slot;
