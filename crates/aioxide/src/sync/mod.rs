//! Locks and queues.
//!
//! They do what the running version's `asyncio.locks` and `asyncio.queues` do, in the same order:
//! the first waiter is the first to go on, and a wake-up of a task that is being cancelled goes to
//! another. Programs can read and set here what asyncio keeps in attributes.
//!
//! - [`lock`], [`event`], [`semaphore`], [`condition`], [`barrier`], [`queue`]: the classes.
//! - [`call`]: the coroutine object of their methods; [`methods`]: the methods that make it.
//! - [`acquired`]: the coroutines of Lock, Semaphore and Event; [`condition_calls`],
//!   [`queue_calls`]: those of Condition and Queue; [`queue_interface`]: the other methods of
//!   Queue.
//! - [`primitive`]: the fields and the trait of all classes; [`binding`]: what all do in the same
//!   way.
//! - [`in_dict`], [`copies`]: attributes and copies as of classes made in Python.
//! - [`waiters`], [`deque`], [`number`]: the parts of the classes; [`imports`]: asyncio's own
//!   objects.

mod acquired;
mod barrier;
mod binding;
mod call;
mod condition;
mod condition_calls;
mod copies;
mod deque;
mod event;
mod imports;
mod in_dict;
mod lock;
mod methods;
mod number;
mod primitive;
mod queue;
mod queue_calls;
mod queue_interface;
mod semaphore;
mod waiters;

use cpython::{Obj, Python, Raised, Ref};
use pyo3::types::PyString;

/// Builds the types; called when the module starts.
pub(crate) fn build(py: Python<'_>) -> Result<(), Raised> {
    let locks = Obj::import(py, c"asyncio.locks")?;
    let queues = Obj::import(py, c"asyncio.queues")?;
    imports::load(py, &locks, &queues)?;
    cpython::build::build::<call::SyncCall>(py, None, 0)?;
    lock::build(py, &locks)?;
    event::build(py, &locks)?;
    semaphore::build(py, &locks)?;
    condition_calls::build(py, &locks)?;
    barrier::build(py, &locks)?;
    queue_calls::build(py, &queues)
}

/// Adds the classes to the module.
pub(crate) fn add_classes(py: Python<'_>, module: &Obj) -> Result<(), Raised> {
    let [priority, lifo] = queue::ordered_queues(py);
    for (name, class) in [
        ("Lock", &Ref::<lock::Lock>::class(py)),
        ("Event", &Ref::<event::Event>::class(py)),
        ("Semaphore", &Ref::<semaphore::Semaphore>::class(py)),
        ("BoundedSemaphore", semaphore::bounded_semaphore(py)),
        ("Condition", &Ref::<condition::Condition>::class(py)),
        ("Barrier", &Ref::<barrier::Barrier>::class(py)),
        ("Queue", &Ref::<queue::Queue>::class(py)),
        ("PriorityQueue", priority),
        ("LifoQueue", lifo),
    ] {
        module.set_attr(&PyString::intern(py, name), class)?;
    }
    Ok(())
}
