//! The default executor: calls on other threads, their results in the loop.
//!
//! The threads are Python's own (`threading.Thread`) and run a native loop. Taking a call, running
//! it and handing its outcome over happens with the GIL held, which guards every list here; only
//! waiting for work is without it.
//!
//! - [`jobs`]: the queue of calls, and the threads that wait for one.
//! - [`job`]: a call, run by a thread.
//! - [`outcomes`]: what the threads hand to a loop, many results by one entry of its queue.
//! - [`submit`]: which calls of `run_in_executor` are native, and how they get to a thread.
//! - [`to_thread`]: the coroutine of that name.

mod job;
mod jobs;
mod outcomes;
mod submit;
mod to_thread;

use cpython::{Python, Raised, Ref};

use crate::handles::{Registry, Served};
use crate::interop::EndsProgram;
pub(crate) use jobs::JobQueue;
use outcomes::Outcomes;
pub(crate) use submit::{run_in_executor, set_default_executor};
pub(crate) use to_thread::add_functions;

/// Builds the types; called when the module starts.
pub(crate) fn build(py: Python<'_>, registry: &mut Registry) -> Result<(), Raised> {
    cpython::build::build::<JobQueue>(py, None, 0)?;
    cpython::build::build::<job::Job>(py, None, 0)?;
    cpython::build::build::<Outcomes>(py, None, 0)?;
    cpython::build::build::<to_thread::ToThread>(py, None, 0)?;
    registry.serve::<Outcomes>();
    submit::load(py)
}

impl Served for Outcomes {
    #[inline]
    fn on_turn(this: &Ref<Self>) -> Result<(), EndsProgram> {
        Outcomes::deliver(this)
    }
}
