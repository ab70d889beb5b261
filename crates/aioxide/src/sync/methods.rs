//! The coroutine functions of the classes.

use cpython::callable::{callable, quick_method};
use cpython::{Args, Hot, Obj, Python, Raised, Ref};
use pyo3::types::PyString;

use super::barrier::Barrier;
use super::call::{Call, Operation};
use super::condition::Condition;
use super::event::Event;
use super::lock::Lock;
use super::queue::Queue;
use super::semaphore::Semaphore;
use crate::coroutines::{describe, put_method};

/// The object that a method without other arguments is called on.
#[inline]
fn receiver<'a, T: Hot>(
    py: Python<'_>,
    args: &Args<'a>,
    function: &str,
) -> Result<&'a Ref<T>, Raised> {
    if let Some([this]) = args.only_positional() {
        if let Some(this) = Ref::<T>::of(this) {
            return Ok(this);
        }
    }
    args.bind_function(function, &["self"], 1)?;
    let given = args.positional.first().or_else(|| args.named("self"));
    match given.and_then(Ref::<T>::of) {
        Some(this) => Ok(this),
        None => Err(wrong_object::<T>(py, given, function)),
    }
}

#[cold]
fn wrong_object<T: Hot>(py: Python<'_>, given: Option<&Obj>, function: &str) -> Raised {
    let given = given.cloned().unwrap_or_else(|| Obj::none(py)).class();
    let text = (|| {
        let name = pyo3::intern!(py, "__name__");
        let (wanted, given) = (Ref::<T>::class(py).attr(name)?, given.attr(name)?);
        Ok(format!(
            "{function}() doesn't apply to a '{}' object, only to '{}' objects",
            given.as_str()?,
            wanted.as_str()?
        ))
    })();
    match text {
        Ok(text) => Raised::type_error(py, &text),
        Err(raised) => raised,
    }
}

/// A method without arguments: the quick way, and for all arguments.
macro_rules! plain {
    ($class:ident, $operation:ident, $function:literal) => {
        (
            |this: &Ref<$class>, _: &[Obj; 0]| {
                Call::create(this.py(), Operation::$operation, this.as_obj())
            },
            |py: Python<'_>, args: &Args<'_>| {
                let this = receiver::<$class>(py, args, $function)?;
                Call::create(py, Operation::$operation, this.as_obj())
            },
        )
    };
}

const EXIT: [&str; 4] = ["self", "exc_type", "exc", "tb"];

/// The object that `__aexit__` is called on.
#[inline]
fn exiting<'a, T: Hot>(py: Python<'_>, args: &Args<'a>) -> Result<&'a Ref<T>, Raised> {
    const FUNCTION: &str = "_ContextManagerMixin.__aexit__";
    if let Some([this, _, _, _]) = args.only_positional() {
        if let Some(this) = Ref::<T>::of(this) {
            return Ok(this);
        }
    }
    args.bind_function(FUNCTION, &EXIT, 4)?;
    let given = args.positional.first().or_else(|| args.named("self"));
    match given.and_then(Ref::<T>::of) {
        Some(this) => Ok(this),
        None => Err(wrong_object::<T>(py, given, FUNCTION)),
    }
}

/// `__aexit__` of a lock.
macro_rules! exit {
    ($class:ident, $operation:ident) => {
        (
            |this: &Ref<$class>, _: &[Obj; 3]| {
                Call::create(this.py(), Operation::$operation, this.as_obj())
            },
            |py: Python<'_>, args: &Args<'_>| {
                let this = exiting::<$class>(py, args)?;
                Call::create(py, Operation::$operation, this.as_obj())
            },
        )
    };
}

/// Puts coroutine functions into a class.
struct Class<'py> {
    py: Python<'py>,
    ours: Obj,
    theirs: Obj,
}

impl<'py> Class<'py> {
    fn new<T: Hot>(py: Python<'py>, module: &Obj) -> Result<Class<'py>, Raised> {
        let ours = Ref::<T>::class(py);
        let name = ours.attr(pyo3::intern!(py, "__name__"))?;
        let name = PyString::intern(py, name.as_str()?);
        Ok(Class {
            py,
            theirs: module.attr(&name)?,
            ours,
        })
    }

    fn add<F>(&self, name: &str, doc: &str, function: F) -> Result<(), Raised>
    where
        F: Fn(Python<'_>, &Args<'_>) -> Result<Ref<Call>, Raised> + Copy + 'static,
    {
        self.put(name, &callable(self.py, name, doc, function)?)
    }

    fn add_quick<T, Q, F, const COUNT: usize>(
        &self,
        name: &str,
        doc: &str,
        (quick, function): (Q, F),
    ) -> Result<(), Raised>
    where
        T: Hot,
        Q: Fn(&Ref<T>, &[Obj; COUNT]) -> Result<Ref<Call>, Raised> + Copy + 'static,
        F: Fn(Python<'_>, &Args<'_>) -> Result<Ref<Call>, Raised> + Copy + 'static,
    {
        let made = quick_method::<T, Q, F, _, COUNT>(self.py, name, doc, quick, function)?;
        self.put(name, &made)
    }

    fn put(&self, name: &str, made: &Obj) -> Result<(), Raised> {
        put_method(&self.ours, &self.theirs, name, made)
    }
}

/// `Condition.acquire()`: what the lock's `acquire()` returns.
fn condition_acquire(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    Condition::acquire_lock(receiver(py, args, "Condition.acquire")?)
}

/// The lock of ours that entering and leaving the condition means.
fn plain_lock(this: &Ref<Condition>) -> Option<Ref<Lock>> {
    use super::bound::Primitive;
    Condition::is_native(this)
        .then(|| Condition::native_lock(this))
        .flatten()
}

fn enter_condition(this: &Ref<Condition>) -> Result<Ref<Call>, Raised> {
    let py = this.py();
    match plain_lock(this) {
        Some(lock) => Call::create(py, Operation::LockEnter, lock.as_obj()),
        None => Call::create(py, Operation::ConditionEnter, this.as_obj()),
    }
}

fn exit_condition(this: &Ref<Condition>) -> Result<Ref<Call>, Raised> {
    let py = this.py();
    match plain_lock(this) {
        Some(lock) => Call::create(py, Operation::LockExit, lock.as_obj()),
        None => Call::create(py, Operation::ConditionExit, this.as_obj()),
    }
}

fn condition_wait_for(py: Python<'_>, args: &Args<'_>) -> Result<Ref<Call>, Raised> {
    const FUNCTION: &str = "Condition.wait_for";
    let [this, predicate] = args.bind_function(FUNCTION, &["self", "predicate"], 2)?;
    let Some(this) = this.as_ref().and_then(Ref::<Condition>::of) else {
        return Err(wrong_object::<Condition>(py, this.as_ref(), FUNCTION));
    };
    let call = Call::create(py, Operation::ConditionWaitFor, this.as_obj())?;
    call.item.set(predicate);
    Ok(call)
}

fn barrier_exit(py: Python<'_>, args: &Args<'_>) -> Result<Ref<Call>, Raised> {
    let Some(this) = args.positional.first().and_then(Ref::<Barrier>::of) else {
        let given = args.positional.first();
        return Err(wrong_object::<Barrier>(py, given, "Barrier.__aexit__"));
    };
    Call::create(py, Operation::BarrierExit, this.as_obj())
}

#[inline]
fn put(this: &Ref<Queue>, item: Obj) -> Result<Ref<Call>, Raised> {
    let call = Call::create(this.py(), Operation::QueuePut, this.as_obj())?;
    call.item.set(Some(item));
    Ok(call)
}

fn queue_put(py: Python<'_>, args: &Args<'_>) -> Result<Ref<Call>, Raised> {
    const FUNCTION: &str = "Queue.put";
    let [this, item] = args.bind_function(FUNCTION, &["self", "item"], 2)?;
    match (this.as_ref().and_then(Ref::<Queue>::of), item) {
        (Some(this), Some(item)) => put(this, item),
        _ => Err(wrong_object::<Queue>(py, this.as_ref(), FUNCTION)),
    }
}

/// Adds all; called when the classes are built.
pub(super) fn add(py: Python<'_>) -> Result<(), Raised> {
    let locks = Obj::import(py, c"asyncio.locks")?;
    let lock = Class::new::<Lock>(py, &locks)?;
    lock.add_quick(
        "acquire",
        "Wait until it is free and acquire it; returns True.",
        plain!(Lock, LockAcquire, "Lock.acquire"),
    )?;
    lock.add_quick(
        "__aenter__",
        "Acquire it.",
        plain!(Lock, LockEnter, "_ContextManagerMixin.__aenter__"),
    )?;
    lock.add_quick("__aexit__", "Release it.", exit!(Lock, LockExit))?;

    let event = Class::new::<Event>(py, &locks)?;
    event.add_quick(
        "wait",
        "Wait until the flag is set; returns True.",
        plain!(Event, EventWait, "Event.wait"),
    )?;

    let semaphore = Class::new::<Semaphore>(py, &locks)?;
    semaphore.add_quick(
        "acquire",
        "Take one, waiting until one is left; returns True.",
        plain!(Semaphore, SemaphoreAcquire, "Semaphore.acquire"),
    )?;
    semaphore.add_quick(
        "__aenter__",
        "Acquire it.",
        plain!(Semaphore, SemaphoreEnter, "_ContextManagerMixin.__aenter__"),
    )?;
    semaphore.add_quick("__aexit__", "Release it.", exit!(Semaphore, SemaphoreExit))?;

    let condition = Class::new::<Condition>(py, &locks)?;
    let acquire = callable(py, "acquire", "Acquire the lock.", condition_acquire)?;
    let theirs = lock.theirs.attr(pyo3::intern!(py, "acquire"))?;
    describe(py, &acquire, &theirs)?;
    condition
        .ours
        .set_attr(pyo3::intern!(py, "acquire"), &acquire)?;
    condition.add_quick(
        "__aenter__",
        "Acquire the lock.",
        (
            |this: &Ref<Condition>, _: &[Obj; 0]| enter_condition(this),
            |py: Python<'_>, args: &Args<'_>| {
                enter_condition(receiver(py, args, "_ContextManagerMixin.__aenter__")?)
            },
        ),
    )?;
    condition.add_quick(
        "__aexit__",
        "Release the lock.",
        (
            |this: &Ref<Condition>, _: &[Obj; 3]| exit_condition(this),
            |py: Python<'_>, args: &Args<'_>| exit_condition(exiting(py, args)?),
        ),
    )?;
    condition.add_quick(
        "wait",
        "Release the lock, wait to be notified, acquire it again; returns True.",
        plain!(Condition, ConditionWait, "Condition.wait"),
    )?;
    condition.add(
        "wait_for",
        "Wait until the predicate is true; returns what it says.",
        condition_wait_for,
    )?;

    let barrier = Class::new::<Barrier>(py, &locks)?;
    barrier.add_quick(
        "wait",
        "Wait until all are there; returns a number of one's own, from 0 on.",
        plain!(Barrier, BarrierWait, "Barrier.wait"),
    )?;
    barrier.add_quick(
        "__aenter__",
        "wait().",
        plain!(Barrier, BarrierEnter, "Barrier.__aenter__"),
    )?;
    barrier.add("__aexit__", "Nothing more.", barrier_exit)?;
    barrier.add_quick(
        "reset",
        "Empty it: those who wait get BrokenBarrierError.",
        plain!(Barrier, BarrierReset, "Barrier.reset"),
    )?;
    barrier.add_quick(
        "abort",
        "Break it: those who wait or come get BrokenBarrierError.",
        plain!(Barrier, BarrierAbort, "Barrier.abort"),
    )?;

    let queue = Class::new::<Queue>(py, &Obj::import(py, c"asyncio.queues")?)?;
    queue.add_quick(
        "put",
        "Put an item, waiting until there is room.",
        (
            |this: &Ref<Queue>, [item]: &[Obj; 1]| put(this, item.clone()),
            queue_put,
        ),
    )?;
    queue.add_quick(
        "get",
        "Take the next item, waiting until there is one.",
        plain!(Queue, QueueGet, "Queue.get"),
    )?;
    queue.add_quick(
        "join",
        "Wait until all items are dealt with.",
        plain!(Queue, QueueJoin, "Queue.join"),
    )
}
