//! Functions and classes that wait for several futures, or for one under a condition.
//!
//! None of them adds a Python callback to the futures that it waits for: a native object watches
//! them ([`Watcher`](crate::handles::served::Watcher)) and is called in its own turn of the ready
//! queue, as a callback would be.
//!
//! - [`awaited_by`]: which task waits for which future, for call graphs.
//! - [`as_completed`]: the function of this name and its iterator.
//! - [`callables`]: the functions that stand for watchers among callbacks.
//! - [`codes`]: the code of asyncio's own functions, for call graphs.
//! - [`ensure_future`]: `ensure_future()`, `iscoroutine()`.
//! - [`gather`], [`arguments`]: `gather()` and the future that it returns.
//! - [`expiry`], [`timer`]: the parts of timeouts.
//! - [`shield`]: the function of this name.
//! - [`task_group`], [`group_steps`]: `TaskGroup`.
//! - [`timeout`]: `Timeout`, `timeout()`, `timeout_at()`.
//! - [`wait`], [`wait_for`]: `wait()`, `wait_for()`.

mod arguments;
mod as_completed;
mod awaited_by;
mod callables;
mod codes;
mod ensure_future;
mod expiry;
mod gather;
mod group_steps;
mod shield;
mod task_group;
mod timeout;
mod timer;
mod wait;
mod wait_for;

use cpython::{Obj, Python, Raised};

use crate::handles::Registry;
use as_completed::AsCompleted;
use callables::{on_done_callable, on_time_callable};
use gather::GatheringFuture;
use shield::Shield;
use task_group::TaskGroup;
use timeout::Timeout;
use wait::Wait;
use wait_for::WaitFor;

/// Builds the types and registers those that watch Futures or have alarms.
pub(crate) fn build(py: Python<'_>, registry: &mut Registry) -> Result<(), Raised> {
    let tasks = Obj::import(py, c"asyncio.tasks")?;
    codes::load(py)?;
    let functions = [
        on_done_callable::<GatheringFuture>(py, "A child is done.")?,
        on_done_callable::<Shield>(py, "The future inside is done.")?,
        on_done_callable::<Shield>(py, "The future outside is done.")?,
        shield::on_clear(py, "The future inside is done.")?,
        on_done_callable::<Wait>(py, "A future is done.")?,
        on_time_callable::<Wait>(py, "The time has come.")?,
        on_done_callable::<WaitFor>(py, "The future is done.")?,
        on_time_callable::<WaitFor>(py, "The time has come.")?,
        on_done_callable::<AsCompleted>(py, "A future is done.")?,
        on_time_callable::<AsCompleted>(py, "The time has come.")?,
    ];
    callables::load(py, &tasks, functions)?;
    gather::build(py)?;
    wait::build(py)?;
    wait_for::build(py)?;
    shield::build(py)?;
    as_completed::build(py, &tasks)?;
    timeout::build(py, &Obj::import(py, c"asyncio.timeouts")?)?;
    group_steps::build(py, &Obj::import(py, c"asyncio.taskgroups")?)?;
    registry.serve_watcher::<GatheringFuture>();
    registry.serve_watcher::<TaskGroup>();
    registry.serve_watcher::<WaitFor>();
    registry.serve_watcher::<Timeout>();
    registry.serve_watcher::<Wait>();
    registry.serve_watcher::<Shield>();
    registry.serve_watcher::<AsCompleted>();
    Ok(())
}

/// Adds the functions to the module.
pub(crate) fn add_functions(py: Python<'_>, module: &Obj, name: &Obj) -> Result<(), Raised> {
    let tasks = Obj::import(py, c"asyncio.tasks")?;
    ensure_future::add_functions(py, module, name)?;
    gather::add_functions(py, module, name)?;
    wait::add_functions(py, module, &tasks)?;
    wait_for::add_functions(py, module, &tasks)?;
    shield::add_functions(py, module, name)?;
    as_completed::add_functions(py, module, name)?;
    timeout::add_functions(py, module, name)?;
    group_steps::add_class(py, module)
}
