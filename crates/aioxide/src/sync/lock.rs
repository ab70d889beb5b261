//! Lock.

use std::cell::Cell;
use std::ffi::CStr;

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref};

use super::acquired::{Acquire, Acquired, Enter, Leave, Released};
use super::binding::{build_shared, describe_state};
use super::deque::Deque;
use super::imports::{imports, is_cancellation};
use super::in_dict;
use super::methods::ClassPair;
use super::primitive::{Attributes, Primitive, PrimitiveFields};
use super::waiters::{
    add_waiter, all_cancelled, build_waiters, count_text, give_waiters, take_waiters,
};
use crate::tasks::any_future::AnyFuture;

/// The value of a Lock.
pub(super) struct Lock {
    shared: PrimitiveFields,
    locked: Cell<bool>,
    waiters: Deque,
}

impl Lock {
    /// The value of a Lock that is free.
    pub(super) fn value() -> Lock {
        Lock::with(PrimitiveFields::default())
    }

    fn with(shared: PrimitiveFields) -> Lock {
        Lock {
            shared,
            locked: Cell::new(false),
            waiters: Deque::absent(),
        }
    }

    fn init(this: &Ref<Lock>, args: &Args<'_>) -> Result<(), Raised> {
        let [] = args.bind_as_python("Lock.__init__", &[], 0)?;
        if in_dict::initializes(this)? {
            return in_dict::call(this, "__init__", &[]).map(drop);
        }
        this.locked.set(false);
        this.waiters.clear();
        Ok(())
    }

    #[inline]
    pub(super) fn is_locked(&self) -> bool {
        self.locked.get()
    }

    #[inline]
    fn wake_up_first(this: &Ref<Lock>) -> Result<(), Raised> {
        if Lock::is_native(this) {
            if this.waiters.is_plainly_empty() {
                return Ok(());
            }
            return Lock::wake_native(this);
        }
        let name = pyo3::intern!(this.py(), "_wake_up_first");
        this.as_obj().method(name, &[]).map(drop)
    }

    #[inline(never)]
    fn wake_native(this: &Ref<Lock>) -> Result<(), Raised> {
        let mut first = this.waiters.first_plain();
        if first.is_none() {
            this.waiters.each(|waiter| {
                first = Some(waiter.clone());
                Ok(std::ops::ControlFlow::Break(()))
            })?;
        }
        match first {
            Some(waiter) => AnyFuture::of_waiter(&waiter)
                .set_unless_done(Ok(Obj::bool(this.py(), true)))
                .map(drop),
            None => Ok(()),
        }
    }

    fn repr(this: &Ref<Lock>) -> Result<String, Raised> {
        let state = if this.locked.get() {
            "locked"
        } else {
            "unlocked"
        };
        describe_state(this, &format!("{state}{}", count_text(&this.waiters)?))
    }
}

impl Acquired for Lock {
    const ACQUIRE: (&'static str, &'static str) = ("acquire", "Lock.acquire");

    #[inline]
    fn acquires_at_once(this: &Ref<Lock>) -> bool {
        this.is_known_native() && this.waiters.is_plainly_empty() && !this.locked.replace(true)
    }

    #[inline]
    fn begin(this: &Ref<Lock>) -> Result<Option<Obj>, Raised> {
        // A task that comes now does not overtake those that wait already.
        if !this.locked.get() && all_cancelled(&this.waiters)? {
            this.locked.set(true);
            return Ok(None);
        }
        add_waiter(this, &this.waiters).map(Some)
    }

    #[inline]
    fn finish(this: &Ref<Lock>, waiter: &Obj, outcome: Result<Obj, Raised>) -> Result<(), Raised> {
        match outcome {
            Ok(_) => {
                this.waiters.remove(waiter)?;
                this.locked.set(true);
                Ok(())
            }
            Err(raised) => {
                let error = raised.take(this.py());
                this.waiters.remove(waiter)?;
                // The cancelled task may have been woken already; then the next one must be.
                if is_cancellation(&error) && !this.locked.get() {
                    Lock::wake_up_first(this)?;
                }
                Err(Raised::raise(error))
            }
        }
    }
}

impl Released for Lock {
    #[inline]
    fn releases_at_once(this: &Ref<Lock>) -> bool {
        this.is_known_native() && this.waiters.is_plainly_empty() && this.locked.replace(false)
    }

    #[inline]
    fn release(this: &Ref<Lock>) -> Result<(), Raised> {
        if !this.locked.replace(false) {
            return Err(Raised::runtime_error(this.py(), "Lock is not acquired."));
        }
        Lock::wake_up_first(this)
    }
}

impl Primitive for Lock {
    const REPLACEABLE: &'static [&'static str] = &[
        "acquire",
        "release",
        "locked",
        "_wake_up_first",
        "_get_loop",
    ];
    const ATTRIBUTES: &'static [&'static str] = &["_waiters", "_locked"];

    #[inline]
    fn shared(&self) -> &PrimitiveFields {
        &self.shared
    }

    fn asyncio_class<'a>(this: &'a Ref<Lock>, _: &str) -> &'a Obj {
        imports(this.py()).classes.lock.get(this.py())
    }

    fn give(this: &Ref<Lock>) -> Result<Attributes, Raised> {
        Ok(vec![
            ("_waiters", give_waiters(this, &this.waiters)?),
            ("_locked", Obj::bool(this.py(), this.locked.get())),
        ])
    }

    fn take(this: &Ref<Lock>, dict: &Obj) -> Result<bool, Raised> {
        let found = (
            in_dict::find(dict, "_waiters")?,
            in_dict::find_bool(dict, "_locked")?,
        );
        let (Some(waiters), Some(locked)) = found else {
            return Ok(false);
        };
        take_waiters(this, &this.waiters, waiters)?;
        this.locked.set(locked);
        Ok(true)
    }
}

impl Hot for Lock {
    type Parent = NoParent;
    const NAME: &'static CStr = c"asyncio.locks.Lock";
    const DOC: &'static CStr = c"Lock()\n--\n\n\
        A lock for tasks, as asyncio.Lock: one holds it, the others wait for their turn.";
    const FREELIST: usize = 64;
    const BASED: bool = false;
    const MOVES: bool = true;
    cpython::hot_type!();

    fn may_move(this: &Ref<Lock>) -> bool {
        !in_dict::is_there(this) && this.waiters.is_plainly_empty()
    }
    cpython::holds!(shared, waiters);

    fn build(builder: &mut Builder<Self>) {
        build_shared(builder);
        build_waiters(builder, |this| &this.waiters);
        builder
            .new_value(|_| Ok(Lock::with(PrimitiveFields::uninitialized())))
            .init(Lock::init)
            .repr(in_dict::method!("__repr__", Lock::repr))
            .method0(
                c"locked",
                c"locked($self, /)\n--\n\nWhether the lock is acquired.",
                in_dict::method!("locked", |this: &Ref<Lock>| this.locked.get()),
            )
            .method0(
                c"release",
                c"release($self, /)\n--\n\n\
                  Release it and let the first who waits go on; raises RuntimeError if it is not acquired.",
                in_dict::method!("release", Lock::release),
            )
            .method0(
                c"_wake_up_first",
                c"_wake_up_first($self, /)\n--\n\nWake the first waiter.",
                in_dict::method!("_wake_up_first", Lock::wake_native),
            );
        in_dict::attribute!(
            builder,
            "_locked",
            c"Whether the lock is acquired.",
            |this: &Ref<Lock>| this.locked.get(),
            |this: &Ref<Lock>, value: Option<&Obj>| {
                this.locked.set(value.map_or(Ok(false), Obj::truth)?);
                Ok(())
            },
        );
    }
}

/// Builds the class; `locks` is the module `asyncio.locks`.
pub(super) fn build(py: Python<'_>, locks: &Obj) -> Result<(), Raised> {
    let class = ClassPair::<Lock>::build(py, locks)?;
    class
        .add_plain::<Acquire<Lock>>("Wait until the lock is free and acquire it; returns True.")?;
    class.add_plain::<Enter<Lock>>("Acquire it.")?;
    class.add_exit::<Leave<Lock>>("Release it.")
}
