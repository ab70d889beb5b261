//! The coroutine functions of Condition.
//!
//! `wait()` releases the lock, waits to be notified, and returns or raises only when it holds the
//! lock again, cancelled or not. A lock of ours is acquired without a coroutine object in between;
//! any other lock by awaiting what its `acquire()` returns.

use cpython::callable::callable;
use cpython::error::set_context;
use cpython::{Args, Obj, Python, Raised, Ref};
use pyo3::intern;

use super::acquired::{Acquired, Enter, Leave, Released};
use super::binding::new_waiter;
use super::call::{Op, SyncCall, SyncStage};
use super::condition::Condition;
use super::imports::{imports, is_cancellation};
use super::in_dict;
use super::lock::Lock;
use super::methods::{ClassPair, exiting, receiver, wrong_object};
use super::primitive::Primitive;
use super::waiters::add_waiter;
use crate::coroutines::coroutine::Turn;
use crate::coroutines::describe;
use crate::interop::asyncio;

/// `wait()`.
pub(super) struct ConditionWait;

impl Op for ConditionWait {
    type Target = Condition;
    const NAME: &'static str = "wait";
    const QUALIFIED_NAME: &'static str = "Condition.wait";
    const LEAVES_FIELDS: bool = false;

    fn begin(this: &Ref<Condition>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
        begin_wait(this, call)
    }

    fn resume(
        this: &Ref<Condition>,
        call: &Ref<SyncCall>,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        go_on(this, call, outcome)
    }
}

/// `wait_for(predicate)`.
struct ConditionWaitFor;

impl Op for ConditionWaitFor {
    type Target = Condition;
    const NAME: &'static str = "wait_for";
    const QUALIFIED_NAME: &'static str = "Condition.wait_for";

    fn begin(this: &Ref<Condition>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
        test(this, call)
    }

    fn resume(
        this: &Ref<Condition>,
        call: &Ref<SyncCall>,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        go_on(this, call, outcome)
    }
}

/// `__aenter__()`, if the lock is not ours or a method is replaced.
struct ConditionEnter;

impl Op for ConditionEnter {
    type Target = Condition;
    const NAME: &'static str = Enter::<Lock>::NAME;
    const QUALIFIED_NAME: &'static str = Enter::<Lock>::QUALIFIED_NAME;

    fn begin(this: &Ref<Condition>, _: &Ref<SyncCall>) -> Result<Turn, Raised> {
        let name = intern!(this.py(), "acquire");
        Ok(Turn::Await(this.as_obj().method(name, &[])?))
    }
}

/// `__aexit__()`, if the lock is not ours or a method is replaced.
struct ConditionExit;

impl Op for ConditionExit {
    type Target = Condition;
    const NAME: &'static str = Leave::<Lock>::NAME;
    const QUALIFIED_NAME: &'static str = Leave::<Lock>::QUALIFIED_NAME;
    const IS_EXIT: bool = true;

    fn begin(this: &Ref<Condition>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
        let name = intern!(this.py(), "release");
        this.as_obj().method(name, &[])?;
        SyncCall::done(call, Obj::none(this.py()))
    }
}

/// The progress of a call that acquires the lock.
enum Acquiring {
    Done,
    /// The lock is native, and the call waits on this Future.
    Waits(Obj),
    /// The lock is not ours, and the call awaits this.
    Awaits(Obj),
}

/// Begins to acquire the lock.
fn begin_acquire(this: &Ref<Condition>) -> Result<Acquiring, Raised> {
    if !Condition::is_native(this) {
        let name = intern!(this.py(), "acquire");
        return this.as_obj().method(name, &[]).map(Acquiring::Awaits);
    }
    match Condition::native_lock(this) {
        Some(lock) => Ok(match Lock::begin(&lock)? {
            None => Acquiring::Done,
            Some(waiter) => Acquiring::Waits(waiter),
        }),
        None => Condition::acquire_lock(this).map(Acquiring::Awaits),
    }
}

/// `wait_for()`, the only operation with a predicate: returns its result if that is true, else
/// waits.
fn test(this: &Ref<Condition>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
    let predicate = call.item.get().unwrap_or_else(|| Obj::none(this.py()));
    let result = predicate.call0()?;
    if result.truth()? {
        return SyncCall::done(call, result);
    }
    if Condition::is_native(this) {
        return begin_wait(this, call);
    }
    call.stage.set(SyncStage::Elsewhere);
    let name = intern!(this.py(), "wait");
    Ok(Turn::Await(this.as_obj().method(name, &[])?))
}

/// `wait()`: releases the lock and waits on a Future.
fn begin_wait(this: &Ref<Condition>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
    let py = this.py();
    if imports(py).condition_notifies_again && Condition::is_native(this) {
        if let Some(lock) = Condition::native_lock(this).filter(|lock| lock.is_locked()) {
            let waiter = new_waiter(this)?;
            Lock::release(&lock)?;
            this.waiters.push(waiter.clone())?;
            call.stage.set(SyncStage::Waiting);
            return SyncCall::wait_on(call, waiter);
        }
    }
    if !Condition::is_locked(this)? {
        let text = "cannot wait on un-acquired lock";
        return Err(Raised::runtime_error(py, text));
    }
    call.stage.set(SyncStage::Waiting);
    if imports(py).condition_notifies_again {
        let waiter = new_waiter(this)?;
        Condition::release(this)?;
        this.waiters.push(waiter.clone())?;
        return SyncCall::wait_on(call, waiter);
    }
    Condition::release(this)?;
    match add_waiter(this, &this.waiters) {
        Ok(waiter) => SyncCall::wait_on(call, waiter),
        Err(raised) => {
            call.error.set(Some(raised.take(py)));
            reacquire(this, call)
        }
    }
}

/// Goes on from the outcome of what the coroutine awaits.
fn go_on(
    this: &Ref<Condition>,
    call: &Ref<SyncCall>,
    outcome: Result<Obj, Raised>,
) -> Result<Turn, Raised> {
    let py = this.py();
    match call.stage.get() {
        SyncStage::Waiting => {
            if let Err(raised) = outcome {
                call.error.set(Some(raised.take(py)));
            }
            if let Some(waiter) = call.waiter.take() {
                this.waiters.remove(&waiter)?;
            }
            reacquire(this, call)
        }
        SyncStage::Locking => {
            let finished = Condition::finish_locking(this, call.waiter.take(), outcome);
            match finished {
                Ok(()) => reacquired(this, call),
                Err(raised) => interrupted(this, call, raised),
            }
        }
        SyncStage::Acquiring => match outcome {
            Ok(_) => reacquired(this, call),
            Err(raised) => interrupted(this, call, raised),
        },
        SyncStage::Elsewhere | SyncStage::Blocked | SyncStage::Asyncio => {
            outcome?;
            test(this, call)
        }
    }
}

/// Acquires the lock again, before anything else happens.
fn reacquire(this: &Ref<Condition>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
    match begin_acquire(this) {
        Ok(Acquiring::Done) => reacquired(this, call),
        Ok(Acquiring::Waits(waiter)) => {
            call.stage.set(SyncStage::Locking);
            SyncCall::wait_on(call, waiter)
        }
        Ok(Acquiring::Awaits(awaitable)) => {
            call.stage.set(SyncStage::Acquiring);
            Ok(Turn::Await(awaitable))
        }
        Err(raised) => interrupted(this, call, raised),
    }
}

/// Deals with a failure to acquire the lock: a cancellation is raised once the lock is acquired,
/// any other exception at once.
fn interrupted(
    this: &Ref<Condition>,
    call: &Ref<SyncCall>,
    raised: Raised,
) -> Result<Turn, Raised> {
    let error = raised.take(this.py());
    if !is_cancellation(&error) {
        return Err(fail(this, call, error));
    }
    call.cancelled.set(Some(error));
    reacquire(this, call)
}

/// Ends the call, which holds the lock again.
fn reacquired(this: &Ref<Condition>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
    let py = this.py();
    if let Some(error) = call.cancelled.take() {
        let error = if imports(py).condition_raises_same {
            error
        } else {
            asyncio(py).cancelled_error.get(py).call0()?
        };
        let error = Raised::raise_in_context(error).take(py);
        return Err(fail(this, call, error));
    }
    if let Some(error) = call.error.take() {
        return Err(fail(this, call, error));
    }
    if call.item.is_some() {
        return test(this, call);
    }
    SyncCall::done(call, Obj::bool(py, true))
}

/// Raises the exception. A call that was notified before notifies another waiter.
fn fail(this: &Ref<Condition>, call: &Ref<SyncCall>, error: Obj) -> Raised {
    if let Some(first) = call.error.take() {
        if !first.is(&error) {
            set_context(&error, first);
        }
    }
    if imports(this.py()).condition_notifies_again {
        let notified = if Condition::is_native(this) {
            Condition::wake(this, 1.0)
        } else {
            let one = Obj::int(this.py(), 1);
            let name = intern!(this.py(), "_notify");
            one.and_then(|one| this.as_obj().method(name, &[&one]).map(drop))
        };
        if let Err(raised) = notified {
            return raised;
        }
    }
    Raised::raise(error)
}

/// `acquire()`: returns what the lock's `acquire()` returns.
fn acquire(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    receiver::<Condition>(py, args, "Lock.acquire")?.within(|this| {
        if in_dict::stays(this)? {
            return in_dict::get(this, "acquire")?.call0();
        }
        Condition::acquire_lock(this)
    })
}

/// The native lock that entering and leaving the condition acquires and releases, if no method is
/// replaced.
fn plain_lock(this: &Ref<Condition>) -> Option<Ref<Lock>> {
    Condition::is_native(this)
        .then(|| Condition::native_lock(this))
        .flatten()
}

fn enter(this: &Ref<Condition>) -> Result<Ref<SyncCall>, Raised> {
    match plain_lock(this) {
        Some(lock) => SyncCall::create::<Enter<Lock>>(&lock),
        None => SyncCall::create::<ConditionEnter>(this),
    }
}

fn exit(this: &Ref<Condition>) -> Result<Ref<SyncCall>, Raised> {
    match plain_lock(this) {
        Some(lock) => SyncCall::create::<Leave<Lock>>(&lock),
        None => SyncCall::create::<ConditionExit>(this),
    }
}

fn wait_for(py: Python<'_>, args: &Args<'_>) -> Result<Ref<SyncCall>, Raised> {
    const FUNCTION: &str = ConditionWaitFor::QUALIFIED_NAME;
    let [this, predicate] = args.bind_function(FUNCTION, &["self", "predicate"], 2)?;
    let Some(this) = this.as_ref().and_then(Ref::<Condition>::of_any) else {
        return Err(wrong_object::<Condition>(py, this.as_ref(), FUNCTION));
    };
    let call = SyncCall::create::<ConditionWaitFor>(this)?;
    call.item.set(predicate);
    Ok(call)
}

/// Builds the class; `locks` is the module `asyncio.locks`.
pub(super) fn build(py: Python<'_>, locks: &Obj) -> Result<(), Raised> {
    let class = ClassPair::<Condition>::build(py, locks)?;
    let acquire = callable(py, "acquire", "Acquire the lock.", acquire)?;
    let theirs = locks.attr(intern!(py, "Lock"))?;
    describe(py, &acquire, &theirs.attr(intern!(py, "acquire"))?)?;
    class.put_own("acquire", &acquire)?;
    class.add_quick(
        ConditionEnter::NAME,
        "Acquire the lock.",
        |this: &Ref<Condition>, _: &[Obj; 0]| enter(this),
        |py, args| receiver::<Condition>(py, args, ConditionEnter::QUALIFIED_NAME)?.within(enter),
    )?;
    class.add_quick(
        ConditionExit::NAME,
        "Release the lock.",
        |this: &Ref<Condition>, _: &[Obj; 3]| exit(this),
        |py, args| exiting::<Condition>(py, args, ConditionExit::QUALIFIED_NAME)?.within(exit),
    )?;
    class.add_plain::<ConditionWait>(
        "Release the lock, wait to be notified, acquire it again; returns True.",
    )?;
    class.add(
        ConditionWaitFor::NAME,
        "Wait until the predicate is true; returns what it says.",
        wait_for,
    )
}
