//! Functions over tasks: what waits for several futures, or for one under a condition.
//!
//! None of them adds a Python callback to the futures that it waits for: a native object watches
//! them ([`watching`]) and is told in its own turn of the ready queue, as a callback would be.
//!
//! - [`any_future`]: futures of any kind, native ones directly and others through their methods.
//! - [`awaited_by`]: who waits for whom, for call graphs.
//! - [`as_completed`]: the function of this name and its iterator.
//! - [`codes`]: what they show of asyncio's own functions.
//! - [`ensure_future`]: `ensure_future()`, `iscoroutine()`.
//! - [`gather`], [`arguments`]: `gather()` and the future that it returns.
//! - [`expiry`], [`timer`]: what timeouts are made of.
//! - [`shield`]: the function of this name.
//! - [`task_group`], [`group_steps`]: `TaskGroup`.
//! - [`timeout`]: `Timeout`, `timeout()`, `timeout_at()`.
//! - [`wait`], [`wait_for`]: `wait()`, `wait_for()`.
//! - [`watching`]: which object is told what.

mod any_future;
mod arguments;
mod as_completed;
mod awaited_by;
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
mod watching;

use cpython::{Obj, Python, Raised};

/// Builds the types.
pub(crate) fn build(py: Python<'_>) -> Result<(), Raised> {
    let tasks = Obj::import(py, c"asyncio.tasks")?;
    codes::load(py)?;
    gather::build(py)?;
    wait::build(py)?;
    wait_for::build(py)?;
    shield::build(py)?;
    as_completed::build(py, &tasks)?;
    timeout::build(py, &Obj::import(py, c"asyncio.timeouts")?)?;
    group_steps::build(py, &Obj::import(py, c"asyncio.taskgroups")?)?;
    watching::register();
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
