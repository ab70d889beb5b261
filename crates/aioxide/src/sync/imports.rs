//! What the locks and queues take from the running version's asyncio: its classes and exceptions,
//! and the facts in which versions differ.

use cpython::{Global, Obj, Python, Raised};
use pyo3::intern;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use crate::interop::asyncio;

/// asyncio's own classes.
pub(super) struct AsyncioClasses {
    pub(super) lock: Global,
    pub(super) event: Global,
    pub(super) semaphore: Global,
    pub(super) condition: Global,
    pub(super) barrier: Global,
    pub(super) queue: Global,
    pub(super) priority_queue: Global,
    pub(super) lifo_queue: Global,
}

/// The objects and facts of the running version.
pub(super) struct SyncImports {
    pub(super) classes: AsyncioClasses,
    pub(super) deque: Global,
    pub(super) heap_push: Global,
    pub(super) heap_pop: Global,
    pub(super) queue_empty: Global,
    pub(super) queue_full: Global,
    /// Missing before 3.13.
    pub(super) queue_shut_down: Option<Global>,
    pub(super) broken_barrier: Global,
    /// The members of `_BarrierState`.
    pub(super) barrier_states: Vec<Global>,
    /// The message of the ValueError that `Barrier(0)` raises.
    pub(super) too_few_parties: String,
    /// If a woken `Condition.wait()` fails, it passes the notification on.
    pub(super) condition_notifies_again: bool,
    /// `Condition.wait()` raises the CancelledError that it got, not a new one.
    pub(super) condition_raises_same: bool,
    /// After an acquire, a Semaphore wakes as many waiters as there are permits left.
    pub(super) semaphore_wakes_all: bool,
}

static IMPORTS: PyOnceLock<SyncImports> = PyOnceLock::new();

/// The imports, which were taken when the module started.
#[inline]
pub(super) fn imports(py: Python<'_>) -> &'static SyncImports {
    match IMPORTS.get(py) {
        Some(imports) => imports,
        None => unreachable!("asyncio's objects are imported before any native object is made"),
    }
}

/// Whether an exception is a CancelledError.
#[inline]
pub(super) fn is_cancellation(error: &Obj) -> bool {
    error.is_subtype_of(asyncio(error.py()).cancelled_error.get(error.py()))
}

/// Takes the imports from the modules, when the module starts.
pub(super) fn load(py: Python<'_>, locks: &Obj, queues: &Obj) -> Result<(), Raised> {
    let _ = IMPORTS.set(py, take(py, locks, queues)?);
    Ok(())
}

fn take(py: Python<'_>, locks: &Obj, queues: &Obj) -> Result<SyncImports, Raised> {
    let heap = Obj::import(py, c"heapq")?;
    let get = |object: &Obj, name: &str| object.attr(&PyString::intern(py, name));
    let keep = |object: &Obj, name: &str| get(object, name).map(Global::new);

    let condition = get(locks, "Condition")?;
    let waits = get(&get(&get(&condition, "wait")?, "__code__")?, "co_varnames")?;
    let raises_same = waits.method(intern!(py, "count"), &[&Obj::str(py, "err")?])?;

    // Where an acquired Semaphore wakes several waiters, this returns whether it has woken one; on
    // the other versions it returns None.
    let semaphore = get(locks, "Semaphore")?.call0()?;
    let woken = semaphore.method(intern!(py, "_wake_up_next"), &[])?;

    let too_few_parties = match get(locks, "Barrier")?.call1(&Obj::int(py, 0)?) {
        Ok(_) => String::new(),
        Err(raised) => raised.take(py).str_of()?.to_string()?,
    };
    let states = get(locks, "_BarrierState")?;
    let states: Result<Vec<Global>, Raised> = ["FILLING", "DRAINING", "RESETTING", "BROKEN"]
        .iter()
        .map(|name| keep(&states, name))
        .collect();
    Ok(SyncImports {
        classes: AsyncioClasses {
            lock: keep(locks, "Lock")?,
            event: keep(locks, "Event")?,
            semaphore: keep(locks, "Semaphore")?,
            condition: keep(locks, "Condition")?,
            barrier: keep(locks, "Barrier")?,
            queue: keep(queues, "Queue")?,
            priority_queue: keep(queues, "PriorityQueue")?,
            lifo_queue: keep(queues, "LifoQueue")?,
        },
        deque: keep(&Obj::import(py, c"collections")?, "deque")?,
        heap_push: keep(&heap, "heappush")?,
        heap_pop: keep(&heap, "heappop")?,
        queue_empty: keep(queues, "QueueEmpty")?,
        queue_full: keep(queues, "QueueFull")?,
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
