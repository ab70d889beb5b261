//! CPython's C API behind safe functions, for types whose slots are filled by hand.
//!
//! PyO3 serves the cold classes well. The types that run at every callback need slots that it does
//! not offer (`tp_finalize`, `am_send`, freelists, base types with a layout of their own), and they
//! must not pay for a check twice. This crate is that layer and nothing more: it knows nothing of
//! asyncio.
//!
//! | module | what it holds |
//! |---|---|
//! | [`obj`] | [`Obj`], an owned reference; [`Raised`], "an exception is set"; attributes, numbers, texts |
//! | [`buffer`] | the memory of bytes-like objects |
//! | `calls` | calls of objects and of their methods |
//! | [`lend`] | memory of ours as a Python object; `bytes` filled piece by piece |
//! | `containers` | tuples, lists, dicts, sets, iterators |
//! | `critical_section` | what the GIL was to one object |
//! | [`error`] | raising, catching and comparing exceptions |
//! | [`args`] | the arguments of a call from Python |
//! | [`interpreter`] | which interpreter of the process the types belong to |
//! | [`slot`] | [`Slot`], a field that holds a reference and may be replaced at any time |
//! | [`hot`] | hot types: the trait [`Hot`], references to them, allocation and freelists |
//! | [`build`] | makes the type object of a hot type |
//! | [`mod@members`] | values that lie over the slots of a class made in Python |
//! | `attributes` | where CPython keeps the attributes of objects |
//! | `lazy_class` | types that are built at their first use |
//! | [`lifecycle`] | how the garbage collector sees their objects, and how the objects are freed |
//! | [`freelist`] | gives back the memory of freed objects that a burst has left |
//! | `spare` | objects kept to be used again |
//! | `own_line` | statics that many threads write |
//! | `refcount` | counting references |
//! | `release` | a limit to how deep deallocations nest |
//! | [`answer`] | the types that functions may return to Python |
//! | [`functions`] | built-in functions and bound methods |
//! | `panics` | what a panic of ours becomes |
//! | `type_info` | what is known about a hot type once it is built |
//! | `trampolines` | the C functions through which CPython calls Rust |
//! | [`callable`] | functions with attributes |
//! | [`coro`] | driving coroutines |
//! | `sanitizer` | what ThreadSanitizer has to be told |
//! | [`mod@domain`] | what guards values where there is no GIL |
//! | `spare_bytes` | memory of bytes objects, used again |
//! | [`stack`] | how much of a thread's stack is left |
//! | `stop_iteration` | how an iterator returns a value to `await` |
//! | [`context`] | `contextvars` contexts |
//! | [`numbers`] | ints that get a new value instead of being freed and made |
//! | [`tagged`] | a reference and three bits in eight bytes |
//! | [`tagged_slot`] | a field of eight bytes with such a reference, or with a box |
//! | `thread_pointer` | by which number a free-threaded interpreter tells threads apart |
//! | [`thread_exit`] | stops threads that CPython would end at the interpreter's end |
//! | [`watch`] | whether a dict has changed since the last look at it |
//! | [`foreign`] | fields of another extension's objects and of the thread state, at verified offsets |
//!
//! # The one rule of safety
//! [`Obj`] is neither `Send` nor `Sync` and is only made where the thread is attached to the
//! interpreter (by a [`Python`] token or by another `Obj`). So code that holds one may use the
//! C API. `Python::detach` takes `Send` closures only, hence no `Obj` gets into them.

pub mod answer;
pub mod args;
mod attributes;
pub mod buffer;
pub mod build;
pub mod callable;
mod calls;
mod containers;
pub mod context;
pub mod coro;
mod critical_section;
pub mod domain;
pub mod error;
pub mod foreign;
pub mod freelist;
pub mod functions;
pub mod hot;
pub mod interpreter;
mod lazy_class;
pub mod lend;
pub mod lifecycle;
pub mod members;
pub mod numbers;
pub mod obj;
mod own_dict;
mod own_line;
mod panics;
mod refcount;
mod release;
mod sanitizer;
pub mod slot;
mod spare;
mod spare_bytes;
pub mod stack;
mod stop_iteration;
pub mod tagged;
pub mod tagged_slot;
pub mod thread_exit;
#[cfg(Py_GIL_DISABLED)]
mod thread_pointer;
mod trampolines;
mod type_info;
pub mod watch;

pub use args::Args;
pub use error::Raised;
pub use hot::{Hot, NoParent, Ref};
pub use lend::BytesBuilder;
pub use lifecycle::{GcFields, Visit};
pub use obj::{Global, Obj};
pub use own_line::OwnLine;
pub use pyo3::Python;
pub use slot::Slot;
pub use spare::{Spare, SpareQueue};
pub use spare_bytes::SpareBytes;
