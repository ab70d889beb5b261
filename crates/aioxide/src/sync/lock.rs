//! Lock.

use std::cell::Cell;
use std::ffi::CStr;

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Raised, Ref};

use super::bound::{Bound, Primitive, build_bound, describe_state};
use super::call::Acquired;
use super::deque::Deque;
use super::is_cancellation;
use super::waiters::{add_waiter, all_cancelled, build_waiters, count_text, wake};

/// The value of a Lock.
pub(super) struct Lock {
    bound: Bound,
    locked: Cell<bool>,
    waiters: Deque,
}

impl Lock {
    /// Of a Lock that is free.
    pub(super) fn value() -> Lock {
        Lock {
            bound: Bound::default(),
            locked: Cell::new(false),
            waiters: Deque::absent(),
        }
    }

    fn init(this: &Ref<Lock>, args: &Args<'_>) -> Result<(), Raised> {
        let [] = args.bind_as_python("Lock.__init__", &[], 0)?;
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

    #[inline]
    fn wake_native(this: &Ref<Lock>) -> Result<(), Raised> {
        let mut first = None;
        this.waiters.each(|waiter| {
            first = Some(waiter.clone());
            Ok(std::ops::ControlFlow::Break(()))
        })?;
        match first {
            Some(waiter) => wake(&waiter, Obj::bool(this.py(), true)).map(drop),
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
    #[inline]
    fn acquires_at_once(this: &Ref<Lock>) -> bool {
        this.is_known_native() && this.waiters.is_plainly_empty() && !this.locked.replace(true)
    }

    #[inline]
    fn releases_at_once(this: &Ref<Lock>) -> bool {
        this.is_known_native() && this.waiters.is_plainly_empty() && this.locked.replace(false)
    }

    #[inline]
    fn begin(this: &Ref<Lock>) -> Result<Option<Obj>, Raised> {
        // It passes none of those who wait already.
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
                // It may have been woken: then the next one must be.
                if is_cancellation(&error) && !this.locked.get() {
                    Lock::wake_up_first(this)?;
                }
                Err(Raised::raise(error))
            }
        }
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
    const STATE: &'static [&'static str] = &["_waiters", "_locked"];

    #[inline]
    fn bound(&self) -> &Bound {
        &self.bound
    }
}

impl Hot for Lock {
    type Parent = NoParent;
    const NAME: &'static CStr = c"asyncio.locks.Lock";
    const DOC: &'static CStr = c"Lock()\n--\n\n\
        A lock for tasks, as asyncio.Lock: one holds it, the others wait for their turn.";
    const FREELIST: usize = 64;
    const BASED: bool = false;
    cpython::hot_type!();
    cpython::holds!(bound, waiters);

    fn build(builder: &mut Builder<Self>) {
        build_bound(builder);
        build_waiters(builder, |this| &this.waiters);
        builder
            .new_value(|_| Ok(Lock::value()))
            .init(Lock::init)
            .repr(Lock::repr)
            .method0(
                c"locked",
                c"locked($self, /)\n--\n\nWhether it is acquired.",
                |this| this.locked.get(),
            )
            .method0(
                c"release",
                c"release($self, /)\n--\n\n\
                  Release it and let the first who waits go on; raises RuntimeError if it is not acquired.",
                Lock::release,
            )
            .method0(
                c"_wake_up_first",
                c"_wake_up_first($self, /)\n--\n\nLet the first who waits go on.",
                Lock::wake_native,
            )
            .flag(c"_locked", c"Whether it is acquired.", |this| &this.locked);
    }
}
