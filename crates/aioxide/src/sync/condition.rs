//! Condition: its lock, its waiters and how they are notified. Its coroutines are in
//! [`condition_calls`](super::condition_calls).

use std::ffi::CStr;
use std::ops::ControlFlow;

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Raised, Ref, Slot};
use pyo3::intern;
use pyo3::types::PyString;

use super::acquired::{Acquire, Acquired, Released};
use super::binding::{build_shared, describe_state};
use super::call::SyncCall;
use super::deque::Deque;
use super::imports::imports;
use super::in_dict;
use super::lock::Lock;
use super::primitive::{Attributes, Primitive, PrimitiveFields};
use super::waiters::{build_waiters, count_text, give_waiters, take_waiters};
use crate::tasks::any_future::AnyFuture;

/// The value of a Condition.
pub(super) struct Condition {
    shared: PrimitiveFields,
    lock: Slot,
    /// The lock, if it is one of ours.
    native: Slot<Ref<Lock>>,
    /// The methods of a lock that is not ours, in this field and the next two.
    locked: Slot,
    acquire: Slot,
    release: Slot,
    pub(super) waiters: Deque,
}

impl Condition {
    fn empty(shared: PrimitiveFields) -> Condition {
        Condition {
            shared,
            lock: Slot::default(),
            native: Slot::default(),
            locked: Slot::default(),
            acquire: Slot::default(),
            release: Slot::default(),
            waiters: Deque::empty(),
        }
    }

    /// A new Condition with a lock of its own.
    pub(super) fn create(py: cpython::Python<'_>) -> Result<Ref<Condition>, Raised> {
        let condition = Ref::new(py, Condition::empty(PrimitiveFields::default()))?;
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
        if in_dict::initializes(this)? {
            return in_dict::call(this, "__init__", &[&lock]).map(drop);
        }
        for (slot, name) in [
            (&this.locked, intern!(py, "locked")),
            (&this.acquire, intern!(py, "acquire")),
            (&this.release, intern!(py, "release")),
        ] {
            let found = match Ref::<Lock>::bring(&lock) {
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
        self.native.set(Ref::<Lock>::bring(&lock).cloned());
        self.lock.set(Some(lock));
    }

    /// The lock, if native code may use it directly.
    #[inline]
    pub(super) fn native_lock(this: &Ref<Condition>) -> Option<Ref<Lock>> {
        let lock = this.native.get()?;
        lock.brought()?;
        Lock::is_native(&lock).then_some(lock)
    }

    /// Ends the wait for the native lock.
    pub(super) fn finish_locking(
        this: &Ref<Condition>,
        waiter: Option<Obj>,
        outcome: Result<Obj, Raised>,
    ) -> Result<(), Raised> {
        let native = this.native.get().filter(Ref::is_here);
        match (native, waiter) {
            (Some(lock), Some(waiter)) => {
                in_dict::in_fields(&lock, || Lock::finish(&lock, &waiter, outcome))
            }
            _ => outcome.map(drop),
        }
    }

    /// The lock's methods that asyncio's Condition has among its attributes.
    fn lock_methods(this: &Ref<Condition>) -> Result<Attributes, Raised> {
        let py = this.py();
        let mut methods = Vec::new();
        for (slot, name) in [
            (&this.locked, "locked"),
            (&this.acquire, "acquire"),
            (&this.release, "release"),
        ] {
            let name_in_python = PyString::intern(py, name);
            let Some(lock) = this.lock.get() else {
                continue;
            };
            let mut method = match slot.get() {
                Some(method) => method,
                None => lock.attr(&name_in_python)?,
            };
            // A method made in C is not copied together with its lock.
            let in_c = method.is_exact(&Obj::class_of::<pyo3::types::PyCFunction>(py));
            if in_c && Condition::is_method_of(&method, &lock, name)? {
                let function = lock.class().attr(&name_in_python)?;
                let types = Obj::import(py, c"types")?;
                method = types.method(intern!(py, "MethodType"), &[&function, &lock])?;
            }
            methods.push((name, method));
        }
        Ok(methods)
    }

    /// Whether this is the lock's own method.
    fn is_method_of(method: &Obj, lock: &Obj, name: &str) -> Result<bool, Raised> {
        let py = lock.py();
        let owner = method.attr_opt(intern!(py, "__self__"))?;
        if !owner.is_some_and(|owner| owner.is(lock)) {
            return Ok(false);
        }
        match method.attr_opt(intern!(py, "__name__"))? {
            Some(found) => Ok(found.is_str_exact() && found.as_str()? == name),
            None => Ok(false),
        }
    }

    /// Calls a method of a lock that is not ours.
    fn call_lock(this: &Ref<Condition>, method: &Slot, name: &str) -> Result<Obj, Raised> {
        match (method.get(), this.lock.get()) {
            (Some(method), _) => method.call0(),
            (None, Some(lock)) => lock.method(&PyString::intern(this.py(), name), &[]),
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
            Some(lock) => SyncCall::create::<Acquire<Lock>>(&lock).map(Ref::into_obj),
            None => Condition::call_lock(this, &this.acquire, "acquire"),
        }
    }

    /// `self.locked()`.
    pub(super) fn is_locked(this: &Ref<Condition>) -> Result<bool, Raised> {
        if Condition::is_native(this) {
            return Condition::lock_is_locked(this);
        }
        let name = intern!(this.py(), "locked");
        this.as_obj().method(name, &[])?.truth()
    }

    /// `self.release()`.
    pub(super) fn release(this: &Ref<Condition>) -> Result<(), Raised> {
        if Condition::is_native(this) {
            return Condition::release_lock(this).map(drop);
        }
        let name = intern!(this.py(), "release");
        this.as_obj().method(name, &[]).map(drop)
    }

    /// Notifies at most `count` waiters. Those that are done do not count.
    pub(super) fn wake(this: &Ref<Condition>, count: f64) -> Result<(), Raised> {
        let mut woken = 0.0;
        this.waiters.each(|waiter| {
            if woken >= count {
                return Ok(ControlFlow::Break(()));
            }
            if AnyFuture::of_waiter(waiter).set_unless_done(Ok(Obj::bool(this.py(), false)))? {
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
        if in_dict::stays(this)? {
            let count = match count {
                Some(count) => count,
                None => Obj::int(this.py(), 1)?,
            };
            return in_dict::call(this, "notify", &[&count]).map(drop);
        }
        Condition::check_locked(this)?;
        let Some(count) = count else {
            return Condition::wake(this, 1.0);
        };
        if imports(this.py()).condition_notifies_again && !Condition::is_native(this) {
            let name = intern!(this.py(), "_notify");
            return this.as_obj().method(name, &[&count]).map(drop);
        }
        Condition::notify_private(this, &count)
    }

    /// Notifies as many waiters as the program says, by a number of any type.
    fn notify_private(this: &Ref<Condition>, count: &Obj) -> Result<(), Raised> {
        if let Some(count) = count.small_int() {
            return Condition::wake(this, count as f64);
        }
        let py = this.py();
        let mut woken = 0;
        this.waiters.each(|waiter| {
            if Obj::int(py, woken)?.is_at_least(count)? {
                return Ok(ControlFlow::Break(()));
            }
            if AnyFuture::of_waiter(waiter).set_unless_done(Ok(Obj::bool(py, false)))? {
                woken += 1;
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// `notify_all()`.
    pub(super) fn notify_all(this: &Ref<Condition>) -> Result<(), Raised> {
        if in_dict::stays(this)? {
            return in_dict::call(this, "notify_all", &[]).map(drop);
        }
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
    in_dict::missing(this, "_lock")
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
    const ATTRIBUTES: &'static [&'static str] =
        &["_lock", "locked", "acquire", "release", "_waiters"];

    #[inline]
    fn shared(&self) -> &PrimitiveFields {
        &self.shared
    }

    fn asyncio_class<'a>(this: &'a Ref<Condition>, _: &str) -> &'a Obj {
        imports(this.py()).classes.condition.get(this.py())
    }

    fn give(this: &Ref<Condition>) -> Result<Attributes, Raised> {
        let mut attributes = Vec::new();
        if let Some(lock) = this.lock.get() {
            attributes.push(("_lock", lock));
        }
        attributes.extend(Condition::lock_methods(this)?);
        attributes.push(("_waiters", give_waiters(this, &this.waiters)?));
        Ok(attributes)
    }

    fn take(this: &Ref<Condition>, dict: &Obj) -> Result<bool, Raised> {
        let found = (
            in_dict::find(dict, "_lock")?,
            in_dict::find(dict, "_waiters")?,
        );
        let (Some(lock), Some(waiters)) = found else {
            return Ok(false);
        };
        let native = Ref::<Lock>::bring(&lock);
        let mut methods = Vec::new();
        for name in ["locked", "acquire", "release"] {
            let Some(method) = in_dict::find(dict, name)? else {
                return Ok(false);
            };
            if native.is_some() && !Condition::is_method_of(&method, &lock, name)? {
                return Ok(false);
            }
            methods.push(native.is_none().then_some(method));
        }
        let slots = [&this.locked, &this.acquire, &this.release];
        for (slot, method) in slots.into_iter().zip(methods) {
            slot.set(method);
        }
        this.set_lock(lock);
        take_waiters(this, &this.waiters, waiters)?;
        Ok(true)
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
    const MOVES: bool = true;
    cpython::hot_type!();

    fn may_move(this: &Ref<Condition>) -> bool {
        !in_dict::is_there(this) && this.waiters.is_plainly_empty()
    }
    cpython::holds!(shared, lock, native, locked, acquire, release, waiters);

    fn build(builder: &mut Builder<Self>) {
        build_shared(builder);
        build_waiters(builder, |this| &this.waiters);
        if cfg!(Py_3_13) {
            builder.method1(
                c"_notify",
                c"_notify($self, n, /)\n--\n\nWake n waiters.",
                in_dict::method_with!("_notify", Condition::notify_private),
            );
        }
        builder
            .new_value(|_| Ok(Condition::empty(PrimitiveFields::uninitialized())))
            .init(Condition::init)
            .repr(in_dict::method!("__repr__", Condition::repr))
            .method0(
                c"locked",
                c"locked($self, /)\n--\n\nWhether the lock is acquired.",
                in_dict::method!("locked", Condition::lock_is_locked),
            )
            .method0(
                c"release",
                c"release($self, /)\n--\n\nRelease the lock.",
                in_dict::method!("release", Condition::release_lock),
            )
            .method(
                c"notify",
                c"notify($self, /, n=1)\n--\n\n\
                  Let n of those who wait go on; raises RuntimeError if the lock is not acquired.",
                Condition::notify,
            )
            .method0(
                c"notify_all",
                c"notify_all($self, /)\n--\n\nWake all waiters.",
                Condition::notify_all,
            );
        in_dict::attribute!(
            builder,
            "_lock",
            c"The lock.",
            |this: &Ref<Condition>| this.lock.get().ok_or_else(|| not_initialized(this)),
            |this: &Ref<Condition>, value: Option<&Obj>| {
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
