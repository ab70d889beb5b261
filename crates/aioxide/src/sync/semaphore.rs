//! Semaphore, and what a bounded one has more.

use std::cell::Cell;
use std::ffi::CStr;
use std::ops::ControlFlow;

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot};

use super::bound::{Bound, Primitive, build_bound, describe_state};
use super::call::Acquired;
use super::deque::Deque;
use super::number::Number;
use super::waiters::{
    add_waiter, all_cancelled, build_waiters, count_text, is_cancelled, is_done, wake,
};
use super::{is_cancellation, originals};

/// The value of a Semaphore.
pub(super) struct Semaphore {
    bound: Bound,
    value: Cell<Number>,
    /// `_bound_value`, of a bounded one.
    most: Slot,
    waiters: Deque,
}

impl Semaphore {
    fn empty() -> Semaphore {
        Semaphore {
            bound: Bound::default(),
            value: Cell::new(Number::int(1)),
            most: Slot::default(),
            waiters: Deque::absent(),
        }
    }

    fn init(this: &Ref<Semaphore>, args: &Args<'_>) -> Result<(), Raised> {
        let py = this.py();
        let is_bounded = this.as_obj().is_subtype_of(super::bounded_semaphore(py));
        let name = if is_bounded {
            "BoundedSemaphore.__init__"
        } else {
            "Semaphore.__init__"
        };
        let [value] = args.bind_as_python(name, &["value"], 0)?;
        let number = match &value {
            Some(value) => Number::of(value)?,
            None => Number::int(1),
        };
        if number.is_negative() {
            let text = "Semaphore initial value must be >= 0";
            return Err(Raised::value_error(py, text));
        }
        this.most.set(match (is_bounded, value) {
            (false, _) => None,
            (true, Some(value)) => Some(value),
            (true, None) => Some(Obj::int(py, 1)?),
        });
        this.value.set(number);
        this.waiters.clear();
        Ok(())
    }

    /// `locked()`: whether nothing is left, or others must go first.
    #[inline]
    fn is_locked(this: &Ref<Semaphore>) -> Result<bool, Raised> {
        Ok(this.value.get().is_zero() || !all_cancelled(&this.waiters)?)
    }

    #[inline]
    fn wake_up_next(this: &Ref<Semaphore>) -> Result<bool, Raised> {
        if Semaphore::is_native(this) {
            if this.waiters.is_plainly_empty() {
                return Ok(false);
            }
            return Semaphore::wake_native(this);
        }
        let name = pyo3::intern!(this.py(), "_wake_up_next");
        this.as_obj().method(name, &[])?.truth()
    }

    /// Gives one to the first who waits; whether there was one.
    #[inline]
    fn wake_native(this: &Ref<Semaphore>) -> Result<bool, Raised> {
        let mut found = false;
        this.waiters.each(|waiter| {
            if is_done(waiter)? {
                return Ok(ControlFlow::Continue(()));
            }
            this.value.set(this.value.get().less_one());
            found = true;
            wake(waiter, Obj::bool(this.py(), true))?;
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    fn repr(this: &Ref<Semaphore>) -> Result<String, Raised> {
        let locked = pyo3::intern!(this.py(), "locked");
        let state = if this.as_obj().method(locked, &[])?.truth()? {
            String::from("locked")
        } else {
            format!("unlocked, value:{}", this.value.get())
        };
        describe_state(this, &format!("{state}{}", count_text(&this.waiters)?))
    }
}

impl Acquired for Semaphore {
    #[inline]
    fn acquires_at_once(this: &Ref<Semaphore>) -> bool {
        let value = this.value.get();
        let free = this.is_known_native() && !value.is_zero();
        if free && this.waiters.is_plainly_empty() {
            this.value.set(value.less_one());
            return true;
        }
        false
    }

    #[inline]
    fn releases_at_once(this: &Ref<Semaphore>) -> bool {
        let unbounded = this.is_known_native() && this.most.is_none();
        if unbounded && this.waiters.is_plainly_empty() {
            this.value.set(this.value.get().plus_one());
            return true;
        }
        false
    }

    #[inline]
    fn begin(this: &Ref<Semaphore>) -> Result<Option<Obj>, Raised> {
        let locked = if Semaphore::is_native(this) {
            Semaphore::is_locked(this)?
        } else {
            let name = pyo3::intern!(this.py(), "locked");
            this.as_obj().method(name, &[])?.truth()?
        };
        if !locked {
            this.value.set(this.value.get().less_one());
            return Ok(None);
        }
        add_waiter(this, &this.waiters).map(Some)
    }

    #[inline]
    fn finish(
        this: &Ref<Semaphore>,
        waiter: &Obj,
        outcome: Result<Obj, Raised>,
    ) -> Result<(), Raised> {
        let py = this.py();
        let wakes_all = originals(py).semaphore_wakes_all;
        let outcome = outcome.map_err(|raised| raised.take(py));
        this.waiters.remove(waiter)?;
        if let Err(error) = &outcome {
            // Its turn had come: it is another's now.
            let gives_back = is_cancellation(error)
                && !is_cancelled(waiter)?
                && (!wakes_all || is_done(waiter)?);
            if gives_back {
                this.value.set(this.value.get().plus_one());
                if !wakes_all {
                    Semaphore::wake_up_next(this)?;
                }
            }
        }
        if wakes_all {
            // Those who came meanwhile had to wait for their turn.
            while this.value.get().is_positive() && Semaphore::wake_up_next(this)? {}
        } else if outcome.is_ok() && this.value.get().is_positive() {
            Semaphore::wake_up_next(this)?;
        }
        outcome.map(drop).map_err(Raised::raise)
    }

    #[inline]
    fn release(this: &Ref<Semaphore>) -> Result<(), Raised> {
        if let Some(most) = this.most.get() {
            if this.value.get().is_at_least(Number::of(&most)?) {
                let text = "BoundedSemaphore released too many times";
                return Err(Raised::value_error(this.py(), text));
            }
        }
        this.value.set(this.value.get().plus_one());
        Semaphore::wake_up_next(this).map(drop)
    }
}

impl Primitive for Semaphore {
    const REPLACEABLE: &'static [&'static str] =
        &["acquire", "release", "locked", "_wake_up_next", "_get_loop"];
    const STATE: &'static [&'static str] = &["_waiters", "_value", "_bound_value"];

    #[inline]
    fn bound(&self) -> &Bound {
        &self.bound
    }
}

impl Hot for Semaphore {
    type Parent = NoParent;
    const NAME: &'static CStr = c"asyncio.locks.Semaphore";
    const DOC: &'static CStr = c"Semaphore(value=1)\n--\n\n\
        A counter that tasks take from and give back to, as asyncio.Semaphore.\n\n\
        value: how many can take before one must wait; not negative.";
    const FREELIST: usize = 64;
    const BASED: bool = false;
    cpython::hot_type!();
    cpython::holds!(bound, most, waiters);

    fn build(builder: &mut Builder<Self>) {
        build_bound(builder);
        build_waiters(builder, |this| &this.waiters);
        builder
            .new_value(|_: Python<'_>| Ok(Semaphore::empty()))
            .init(Semaphore::init)
            .repr(Semaphore::repr)
            .method0(
                c"locked",
                c"locked($self, /)\n--\n\nWhether acquire() would have to wait.",
                Semaphore::is_locked,
            )
            .method0(
                c"release",
                c"release($self, /)\n--\n\n\
                  Give one back, to the first who waits. A bounded one raises ValueError where that \
                  would be more than at first.",
                Semaphore::release,
            )
            .method0(
                c"_wake_up_next",
                c"_wake_up_next($self, /)\n--\n\nGive one to the first who waits.",
                Semaphore::wake_native,
            )
            .get_set(
                c"_value",
                c"How many are left.",
                |this| this.value.get().show(this.py()),
                |this, value| {
                    if let Some(value) = value {
                        this.value.set(Number::of(value)?);
                    }
                    Ok(())
                },
            )
            .get_set(
                c"_bound_value",
                c"How many there were at first, of a bounded one.",
                |this| {
                    this.most.get().ok_or_else(|| {
                        let class = Obj::class_of::<pyo3::exceptions::PyAttributeError>(this.py());
                        Raised::with_class(&class, "_bound_value")
                    })
                },
                |this, value| {
                    this.most.set(value.cloned());
                    Ok(())
                },
            );
    }
}
