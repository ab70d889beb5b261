//! Native coroutine objects: what asyncio has as `async def`.
//!
//! They run nothing until awaited, can be sent into and thrown into as any coroutine, and warn if
//! they never were.
//!
//! - [`coroutine`]: what they have in common; [`class`]: what makes a value their class.
//! - [`frames`]: what they show of asyncio's own functions.
//! - [`function`]: what a native function says of itself, that makes such objects.
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
