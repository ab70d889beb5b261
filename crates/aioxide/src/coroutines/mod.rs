//! Native coroutine objects: what asyncio has as `async def`.
//!
//! They run nothing until they are awaited, can be sent into and thrown into as any coroutine, and
//! warn if they were never awaited.
//!
//! - [`coroutine`]: the behaviour that all share; [`class`]: the parts of their classes that are the
//!   same.
//! - [`frames`]: the frames that they show.
//! - [`function`]: native functions that return such objects and count as coroutine functions.
//! - [`sleep`]: `sleep(delay, result=None)`.

pub(crate) mod class;
pub(crate) mod coroutine;
mod frames;
mod function;
mod sleep;

pub(crate) use function::{describe, put_method};
pub(crate) use sleep::{Sleep, add_functions};

use cpython::{Python, Raised};

/// Builds the types.
pub(crate) fn build(py: Python<'_>) -> Result<(), Raised> {
    cpython::build::build::<Sleep>(py, None, 0).map(drop)
}
