//! Condition.
//!
//! `wait()` releases the lock, waits to be notified, and returns or raises only when the lock is
//! its own again, cancelled or not. A lock of ours is acquired without a coroutine object in
//! between; any other by awaiting what its `acquire()` returns.

use std::ffi::CStr;
use std::ops::ControlFlow;

use cpython::build::Builder;
use cpython::error::set_context;
use cpython::{Args, Hot, NoParent, Obj, Raised, Ref, Slot};
use pyo3::intern;

use super::bound::{Bound, Primitive, build_bound, describe_state, new_waiter};
use super::call::{Acquired, Call, Operation, Stage};
use super::deque::Deque;
use super::lock::Lock;
use super::waiters::{add_waiter, build_waiters, count_text, wake};
use super::{is_cancellation, originals};
use crate::coroutines::coroutine::Turn;
use crate::interop::asyncio;

/// The value of a Condition.
pub(super) struct Condition {
    bound: Bound,
    lock: Slot,
    /// The lock, if it is one of ours.
    native: Slot<Ref<Lock>>,
    /// Methods of a lock that is not ours.
    locked: Slot,
    acquire: Slot,
    release: Slot,
    waiters: Deque,
}

/// A step to acquire the lock.
enum Acquiring {
    Done,
    /// Of a native lock: wait on this Future.
    Waits(Obj),
    /// Of another: await this.
    Awaits(Obj),
}

impl Condition {
    fn empty() -> Condition {
        Condition {
            bound: Bound::default(),
            lock: Slot::default(),
            native: Slot::default(),
            locked: Slot::default(),
            acquire: Slot::default(),
            release: Slot::default(),
            waiters: Deque::empty(),
        }
    }

    /// A new one with a lock of its own.
    pub(super) fn create(py: cpython::Python<'_>) -> Result<Ref<Condition>, Raised> {
        let condition = Ref::new(py, Condition::empty())?;
        let lock = Ref::new(py, Lock::value())?;
        condition.set_lock(lock.into_obj());
        Ok(condition)
    }

    fn init(this: &Ref<Condition>, args: &Args<'_>) -> Result<(), Raised> {
        let py = this.py();
        let [lock] = args.bind_as_python("Condition.__init__", &["lock"], 0)?;
        let lock = match lock.and_then(Obj::not_none) {
            Some(lock) => lock,
            None => Ref::new(py, Lock::value())?.into_obj(),
        };
        for (slot, name) in [
            (&this.locked, intern!(py, "locked")),
            (&this.acquire, intern!(py, "acquire")),
            (&this.release, intern!(py, "release")),
        ] {
            let found = match Ref::<Lock>::of(&lock) {
                Some(native) if Lock::is_native(native) => None,
                _ => Some(lock.attr(name)?),
            };
            slot.set(found);
        }
        this.set_lock(lock);
        this.waiters.reset();
        Ok(())
    }

    fn set_lock(&self, lock: Obj) {
        self.native.set(Ref::<Lock>::of(&lock).cloned());
        self.lock.set(Some(lock));
    }

    /// The lock, if native code may work on it.
    #[inline]
    pub(super) fn native_lock(this: &Ref<Condition>) -> Option<Ref<Lock>> {
        let lock = this.native.get()?;
        Lock::is_native(&lock).then_some(lock)
    }

    /// Calls a method of the lock that is not ours.
    fn call_lock(this: &Ref<Condition>, method: &Slot, name: &str) -> Result<Obj, Raised> {
        match (method.get(), this.lock.get()) {
            (Some(method), _) => method.call0(),
            (None, Some(lock)) => lock.method(&pyo3::types::PyString::intern(this.py(), name), &[]),
            (None, None) => Err(not_initialized(this)),
        }
    }

    /// The lock's `locked()`.
    fn lock_is_locked(this: &Ref<Condition>) -> Result<bool, Raised> {
        match Condition::native_lock(this) {
            Some(lock) => Ok(lock.is_locked()),
            None => Condition::call_lock(this, &this.locked, "locked")?.truth(),
        }
    }

    /// The lock's `release()`.
    fn release_lock(this: &Ref<Condition>) -> Result<Obj, Raised> {
        match Condition::native_lock(this) {
            Some(lock) => Lock::release(&lock).map(|()| Obj::none(this.py())),
            None => Condition::call_lock(this, &this.release, "release"),
        }
    }

    /// The lock's `acquire()`.
    pub(super) fn acquire_lock(this: &Ref<Condition>) -> Result<Obj, Raised> {
        match Condition::native_lock(this) {
            Some(lock) => {
                let call = Call::create(this.py(), Operation::LockAcquire, lock.as_obj())?;
                Ok(call.into_obj())
            }
            None => Condition::call_lock(this, &this.acquire, "acquire"),
        }
    }

    fn is_locked(this: &Ref<Condition>) -> Result<bool, Raised> {
        if Condition::is_native(this) {
            return Condition::lock_is_locked(this);
        }
        let name = intern!(this.py(), "locked");
        this.as_obj().method(name, &[])?.truth()
    }

    fn release(this: &Ref<Condition>) -> Result<(), Raised> {
        if Condition::is_native(this) {
            return Condition::release_lock(this).map(drop);
        }
        let name = intern!(this.py(), "release");
        this.as_obj().method(name, &[]).map(drop)
    }

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

    /// Begins a coroutine.
    pub(super) fn start(this: &Ref<Condition>, call: &Ref<Call>) -> Result<Turn, Raised> {
        match call.operation() {
            Operation::ConditionEnter => {
                call.stage.set(Stage::Elsewhere);
                let name = intern!(this.py(), "acquire");
                Ok(Turn::Await(this.as_obj().method(name, &[])?))
            }
            Operation::ConditionExit => {
                let name = intern!(this.py(), "release");
                this.as_obj().method(name, &[])?;
                Call::done(call, Obj::none(this.py()))
            }
            Operation::ConditionWaitFor => Condition::test(this, call),
            _ => Condition::begin_wait(this, call),
        }
    }

    /// `wait_for()`: returns what the predicate says, if it is true; else waits.
    fn test(this: &Ref<Condition>, call: &Ref<Call>) -> Result<Turn, Raised> {
        let predicate = call.item.get().unwrap_or_else(|| Obj::none(this.py()));
        let result = predicate.call0()?;
        if result.truth()? {
            return Call::done(call, result);
        }
        if Condition::is_native(this) {
            return Condition::begin_wait(this, call);
        }
        call.stage.set(Stage::Elsewhere);
        let name = intern!(this.py(), "wait");
        Ok(Turn::Await(this.as_obj().method(name, &[])?))
    }

    fn begin_wait(this: &Ref<Condition>, call: &Ref<Call>) -> Result<Turn, Raised> {
        let py = this.py();
        if originals(py).condition_notifies_again && Condition::is_native(this) {
            if let Some(lock) = Condition::native_lock(this).filter(|lock| lock.is_locked()) {
                let waiter = new_waiter(this)?;
                Lock::release(&lock)?;
                this.waiters.push(waiter.clone())?;
                call.stage.set(Stage::Waiting);
                return Call::wait_on(call, waiter);
            }
        }
        if !Condition::is_locked(this)? {
            let text = "cannot wait on un-acquired lock";
            return Err(Raised::runtime_error(py, text));
        }
        call.stage.set(Stage::Waiting);
        if originals(py).condition_notifies_again {
            let waiter = new_waiter(this)?;
            Condition::release(this)?;
            this.waiters.push(waiter.clone())?;
            return Call::wait_on(call, waiter);
        }
        Condition::release(this)?;
        match add_waiter(this, &this.waiters) {
            Ok(waiter) => Call::wait_on(call, waiter),
            Err(raised) => {
                call.error.set(Some(raised.take(py)));
                Condition::reacquire(this, call)
            }
        }
    }

    /// What the coroutine awaits has an outcome.
    pub(super) fn go_on(
        this: &Ref<Condition>,
        call: &Ref<Call>,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        let py = this.py();
        match call.stage.get() {
            Stage::Waiting => {
                if let Err(raised) = outcome {
                    call.error.set(Some(raised.take(py)));
                }
                if let Some(waiter) = call.waiter.take() {
                    this.waiters.remove(&waiter)?;
                }
                Condition::reacquire(this, call)
            }
            Stage::Locking => {
                let finished = match (Condition::native_lock(this), call.waiter.take()) {
                    (Some(lock), Some(waiter)) => Lock::finish(&lock, &waiter, outcome),
                    _ => outcome.map(drop),
                };
                match finished {
                    Ok(()) => Condition::reacquired(this, call),
                    Err(raised) => Condition::interrupted(this, call, raised),
                }
            }
            Stage::Acquiring => match outcome {
                Ok(_) => Condition::reacquired(this, call),
                Err(raised) => Condition::interrupted(this, call, raised),
            },
            Stage::Elsewhere | Stage::Blocked => {
                outcome?;
                match call.operation() {
                    Operation::ConditionWaitFor => Condition::test(this, call),
                    _ => Call::done(call, Obj::none(py)),
                }
            }
        }
    }

    /// The lock must be its own again before anything else happens.
    fn reacquire(this: &Ref<Condition>, call: &Ref<Call>) -> Result<Turn, Raised> {
        match Condition::begin_acquire(this) {
            Ok(Acquiring::Done) => Condition::reacquired(this, call),
            Ok(Acquiring::Waits(waiter)) => {
                call.stage.set(Stage::Locking);
                Call::wait_on(call, waiter)
            }
            Ok(Acquiring::Awaits(awaitable)) => {
                call.stage.set(Stage::Acquiring);
                Ok(Turn::Await(awaitable))
            }
            Err(raised) => Condition::interrupted(this, call, raised),
        }
    }

    /// Acquiring has failed: a cancellation is raised later, everything else now.
    fn interrupted(
        this: &Ref<Condition>,
        call: &Ref<Call>,
        raised: Raised,
    ) -> Result<Turn, Raised> {
        let error = raised.take(this.py());
        if !is_cancellation(&error) {
            return Err(Condition::fail(this, call, error));
        }
        call.cancelled.set(Some(error));
        Condition::reacquire(this, call)
    }

    fn reacquired(this: &Ref<Condition>, call: &Ref<Call>) -> Result<Turn, Raised> {
        let py = this.py();
        if let Some(error) = call.cancelled.take() {
            let error = if originals(py).condition_raises_same {
                error
            } else {
                asyncio(py).cancelled_error.get(py).call0()?
            };
            let error = Raised::raise_in_context(error).take(py);
            return Err(Condition::fail(this, call, error));
        }
        if let Some(error) = call.error.take() {
            return Err(Condition::fail(this, call, error));
        }
        match call.operation() {
            Operation::ConditionWaitFor => Condition::test(this, call),
            _ => Call::done(call, Obj::bool(py, true)),
        }
    }

    /// Raises it. It may have been notified before: then another is in its place.
    fn fail(this: &Ref<Condition>, call: &Ref<Call>, error: Obj) -> Raised {
        if let Some(first) = call.error.take() {
            if !first.is(&error) {
                set_context(&error, first);
            }
        }
        if originals(this.py()).condition_notifies_again {
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

    /// Notifies so many of those who wait.
    pub(super) fn wake(this: &Ref<Condition>, count: f64) -> Result<(), Raised> {
        let mut woken = 0.0;
        this.waiters.each(|waiter| {
            if woken >= count {
                return Ok(ControlFlow::Break(()));
            }
            if wake(waiter, Obj::bool(this.py(), false))? {
                woken += 1.0;
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    fn check_locked(this: &Ref<Condition>) -> Result<(), Raised> {
        if Condition::is_locked(this)? {
            return Ok(());
        }
        let text = "cannot notify on un-acquired lock";
        Err(Raised::runtime_error(this.py(), text))
    }

    fn notify(this: &Ref<Condition>, args: &Args<'_>) -> Result<(), Raised> {
        let [count] = args.bind_as_python("Condition.notify", &["n"], 0)?;
        Condition::check_locked(this)?;
        let count = match count {
            Some(count) => count.to_f64()?,
            None => 1.0,
        };
        Condition::wake(this, count)
    }

    fn notify_private(this: &Ref<Condition>, count: &Obj) -> Result<(), Raised> {
        Condition::wake(this, count.to_f64()?)
    }

    /// `notify_all()`.
    pub(super) fn notify_all(this: &Ref<Condition>) -> Result<(), Raised> {
        if Condition::is_native(this) {
            Condition::check_locked(this)?;
            return Condition::wake(this, f64::INFINITY);
        }
        let count = Obj::int(this.py(), this.waiters.len()? as i64)?;
        let name = intern!(this.py(), "notify");
        this.as_obj().method(name, &[&count]).map(drop)
    }

    fn repr(this: &Ref<Condition>) -> Result<String, Raised> {
        let state = if Condition::is_locked(this)? {
            "locked"
        } else {
            "unlocked"
        };
        describe_state(this, &format!("{state}{}", count_text(&this.waiters)?))
    }
}

#[cold]
fn not_initialized(this: &Ref<Condition>) -> Raised {
    let class = Obj::class_of::<pyo3::exceptions::PyAttributeError>(this.py());
    Raised::with_class(&class, "'Condition' object has no attribute '_lock'")
}

impl Primitive for Condition {
    const REPLACEABLE: &'static [&'static str] = &[
        "acquire",
        "release",
        "locked",
        "wait",
        "notify",
        "_notify",
        "_get_loop",
    ];
    const STATE: &'static [&'static str] = &["_lock", "_waiters"];

    #[inline]
    fn bound(&self) -> &Bound {
        &self.bound
    }
}

impl Hot for Condition {
    type Parent = NoParent;
    const NAME: &'static CStr = c"asyncio.locks.Condition";
    const DOC: &'static CStr = c"Condition(lock=None)\n--\n\n\
        A lock with tasks that wait to be notified, as asyncio.Condition.\n\n\
        lock: what is acquired and released; a new Lock if None.";
    const FREELIST: usize = 64;
    const BASED: bool = false;
    cpython::hot_type!();
    cpython::holds!(bound, lock, native, locked, acquire, release, waiters);

    fn build(builder: &mut Builder<Self>) {
        build_bound(builder);
        build_waiters(builder, |this| &this.waiters);
        if cfg!(Py_3_13) {
            builder.method1(
                c"_notify",
                c"_notify($self, n, /)\n--\n\nLet n of those who wait go on.",
                Condition::notify_private,
            );
        }
        builder
            .new_value(|_| Ok(Condition::empty()))
            .init(Condition::init)
            .repr(Condition::repr)
            .method0(
                c"locked",
                c"locked($self, /)\n--\n\nWhether the lock is acquired.",
                Condition::lock_is_locked,
            )
            .method0(
                c"release",
                c"release($self, /)\n--\n\nRelease the lock.",
                Condition::release_lock,
            )
            .method(
                c"notify",
                c"notify($self, /, n=1)\n--\n\n\
                  Let n of those who wait go on; raises RuntimeError if the lock is not acquired.",
                Condition::notify,
            )
            .method0(
                c"notify_all",
                c"notify_all($self, /)\n--\n\nLet all who wait go on.",
                Condition::notify_all,
            )
            .get_set(
                c"_lock",
                c"The lock.",
                |this| this.lock.get().ok_or_else(|| not_initialized(this)),
                |this, value| {
                    let Some(lock) = value else {
                        return Ok(());
                    };
                    this.locked.set(None);
                    this.acquire.set(None);
                    this.release.set(None);
                    this.set_lock(lock.clone());
                    Ok(())
                },
            );
    }
}
