//! Locks and queues.
//!
//! They do what the running version's `asyncio.locks` and `asyncio.queues` do, in the same order:
//! who waits first is the first to go on, and a wake-up that hits one who is being cancelled goes
//! to another. What asyncio keeps in attributes can be looked at and set here too.
//!
//! - [`lock`], [`event`], [`semaphore`], [`condition`], [`barrier`], [`queue`]: the classes.
//! - [`call`]: the coroutine object of their methods; [`methods`]: the methods that make it.
//! - [`bound`]: what all share; [`waiters`], [`deque`], [`number`]: what they are made of.

mod barrier;
mod bound;
mod call;
mod condition;
mod deque;
mod event;
mod lock;
mod methods;
mod number;
mod queue;
mod queue_interface;
mod semaphore;
mod waiters;

use cpython::build::build as build_class;
use cpython::{Global, Hot, Obj, Python, Raised, Ref};
use pyo3::intern;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use barrier::Barrier;
use call::Call;
use condition::Condition;
use event::Event;
use lock::Lock;
use queue::Queue;
use semaphore::Semaphore;

use crate::interop::asyncio;

/// What is taken from the running version.
struct Originals {
    deque: Global,
    heap_push: Global,
    heap_pop: Global,
    queue_empty: Global,
    queue_full: Global,
    /// None before 3.13.
    queue_shut_down: Option<Global>,
    broken_barrier: Global,
    /// The members of `_BarrierState`.
    barrier_states: Vec<Global>,
    /// What `Barrier(0)` says.
    too_few_parties: String,
    /// One who fails in `Condition.wait()` notifies another in its place.
    condition_notifies_again: bool,
    /// `Condition.wait()` raises the CancelledError that it got, not one of its own.
    condition_raises_same: bool,
    /// Who has acquired a Semaphore wakes all for whom there is something left.
    semaphore_wakes_all: bool,
}

static ORIGINALS: PyOnceLock<Originals> = PyOnceLock::new();
static BOUNDED_SEMAPHORE: PyOnceLock<Global> = PyOnceLock::new();
static ORDERED_QUEUES: PyOnceLock<[Global; 2]> = PyOnceLock::new();

#[inline]
fn originals(py: Python<'_>) -> &'static Originals {
    match ORIGINALS.get(py) {
        Some(originals) => originals,
        None => unreachable!("asyncio's objects are imported before any native object is made"),
    }
}

/// The class BoundedSemaphore, which is a Semaphore that knows its first value.
fn bounded_semaphore(py: Python<'_>) -> &'static Obj {
    match BOUNDED_SEMAPHORE.get(py) {
        Some(class) => class.get(py),
        None => unreachable!("the classes are built before any native object is made"),
    }
}

/// The classes PriorityQueue and LifoQueue, which are Queues of another order.
fn ordered_queues(py: Python<'_>) -> [&'static Obj; 2] {
    match ORDERED_QUEUES.get(py) {
        Some([priority, lifo]) => [priority.get(py), lifo.get(py)],
        None => unreachable!("the classes are built before any native object is made"),
    }
}

/// Whether an exception is a CancelledError.
#[inline]
fn is_cancellation(error: &Obj) -> bool {
    error.is_subtype_of(asyncio(error.py()).cancelled_error.get(error.py()))
}

fn load(py: Python<'_>) -> Result<Originals, Raised> {
    let locks = Obj::import(py, c"asyncio.locks")?;
    let queues = Obj::import(py, c"asyncio.queues")?;
    let heap = Obj::import(py, c"heapq")?;
    let get = |object: &Obj, name: &str| object.attr(&PyString::intern(py, name));
    let keep = |object: &Obj, name: &str| get(object, name).map(Global::new);

    let condition = get(&locks, "Condition")?;
    let waits = get(&get(&get(&condition, "wait")?, "__code__")?, "co_varnames")?;
    let raises_same = waits.method(intern!(py, "count"), &[&Obj::str(py, "err")?])?;

    // With nobody to wake it says so, on the versions that ask.
    let semaphore = get(&locks, "Semaphore")?.call0()?;
    let woken = semaphore.method(intern!(py, "_wake_up_next"), &[])?;

    let too_few_parties = match get(&locks, "Barrier")?.call1(&Obj::int(py, 0)?) {
        Ok(_) => String::new(),
        Err(raised) => raised.take(py).str_of()?.to_string()?,
    };
    let states = get(&locks, "_BarrierState")?;
    let states: Result<Vec<Global>, Raised> = ["FILLING", "DRAINING", "RESETTING", "BROKEN"]
        .iter()
        .map(|name| keep(&states, name))
        .collect();
    Ok(Originals {
        deque: keep(&Obj::import(py, c"collections")?, "deque")?,
        heap_push: keep(&heap, "heappush")?,
        heap_pop: keep(&heap, "heappop")?,
        queue_empty: keep(&queues, "QueueEmpty")?,
        queue_full: keep(&queues, "QueueFull")?,
        queue_shut_down: queues
            .attr_opt(intern!(py, "QueueShutDown"))?
            .map(Global::new),
        broken_barrier: keep(
            &Obj::import(py, c"asyncio.exceptions")?,
            "BrokenBarrierError",
        )?,
        barrier_states: states?,
        too_few_parties,
        condition_notifies_again: condition.attr_opt(intern!(py, "_notify"))?.is_some(),
        condition_raises_same: raises_same.truth()?,
        semaphore_wakes_all: !woken.is_none(),
    })
}

/// Makes a class that differs from its native base by its name alone: the base sees to the rest.
fn derive<T: Hot>(py: Python<'_>, name: &str, module: &str, doc: &str) -> Result<Obj, Raised> {
    let namespace = Obj::dict(py)?;
    for (key, value) in [("__module__", module), ("__doc__", doc)] {
        namespace.dict_set(&Obj::str(py, key)?, &Obj::str(py, value)?)?;
    }
    let bases = Obj::tuple(py, &[Ref::<T>::class(py)])?;
    Obj::class_of::<pyo3::types::PyType>(py).call(&[&Obj::str(py, name)?, &bases, &namespace])
}

/// Builds the types; called when the module starts.
pub(crate) fn build(py: Python<'_>) -> Result<(), Raised> {
    let _ = ORIGINALS.set(py, load(py)?);
    build_class::<Call>(py, None, 0)?;
    for class in [
        build_class::<Lock>(py, None, 0)?,
        build_class::<Event>(py, None, 0)?,
        build_class::<Semaphore>(py, None, 0)?,
        build_class::<Condition>(py, None, 0)?,
        build_class::<Barrier>(py, None, 0)?,
        build_class::<Queue>(py, None, 0)?,
    ] {
        // CPython's texts name a class made in C with its module, unless it is named anew.
        let name = class.attr(intern!(py, "__name__"))?;
        class.set_attr(intern!(py, "__name__"), &name)?;
    }
    methods::add(py)?;
    let bounded = derive::<Semaphore>(
        py,
        "BoundedSemaphore",
        "asyncio.locks",
        "A Semaphore whose value never exceeds the first one, as asyncio.BoundedSemaphore.",
    )?;
    let _ = BOUNDED_SEMAPHORE.set(py, Global::new(bounded));
    let priority = derive::<Queue>(
        py,
        "PriorityQueue",
        "asyncio.queues",
        "A Queue that gives the least item first, as asyncio.PriorityQueue.",
    )?;
    let lifo = derive::<Queue>(
        py,
        "LifoQueue",
        "asyncio.queues",
        "A Queue that gives the last item first, as asyncio.LifoQueue.",
    )?;
    let _ = ORDERED_QUEUES.set(py, [Global::new(priority), Global::new(lifo)]);
    Ok(())
}

/// Adds the classes to the module.
pub(crate) fn add_classes(py: Python<'_>, module: &Obj) -> Result<(), Raised> {
    let [priority, lifo] = ordered_queues(py);
    for (name, class) in [
        ("Lock", &Ref::<Lock>::class(py)),
        ("Event", &Ref::<Event>::class(py)),
        ("Semaphore", &Ref::<Semaphore>::class(py)),
        ("BoundedSemaphore", bounded_semaphore(py)),
        ("Condition", &Ref::<Condition>::class(py)),
        ("Barrier", &Ref::<Barrier>::class(py)),
        ("Queue", &Ref::<Queue>::class(py)),
        ("PriorityQueue", priority),
        ("LifoQueue", lifo),
    ] {
        module.set_attr(&PyString::intern(py, name), class)?;
    }
    Ok(())
}
