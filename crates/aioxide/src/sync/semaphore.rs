//! Semaphore and BoundedSemaphore.

use std::cell::Cell;
use std::ffi::CStr;
use std::ops::ControlFlow;

use cpython::build::Builder;
use cpython::{Args, Global, Hot, NoParent, Obj, Python, Raised, Ref, Slot};
use pyo3::sync::PyOnceLock;

use super::acquired::{Acquire, Acquired, Enter, Leave, Released};
use super::binding::{build_shared, describe_state};
use super::deque::Deque;
use super::imports::{imports, is_cancellation};
use super::in_dict;
use super::methods::{ClassPair, derive};
use super::number::CountNumber;
use super::primitive::{Attributes, Primitive, PrimitiveFields};
use super::waiters::{
    add_waiter, all_cancelled, build_waiters, count_text, give_waiters, take_waiters,
};
use crate::tasks::any_future::AnyFuture;

static BOUNDED_SEMAPHORE: PyOnceLock<Global> = PyOnceLock::new();

/// The class BoundedSemaphore: a Semaphore that knows its first value.
pub(super) fn bounded_semaphore(py: Python<'_>) -> &'static Obj {
    match BOUNDED_SEMAPHORE.get(py) {
        Some(class) => class.get(py),
        None => unreachable!("the classes are built before any native object is made"),
    }
}

/// The value of a Semaphore.
pub(super) struct Semaphore {
    shared: PrimitiveFields,
    value: Cell<CountNumber>,
    /// `_bound_value` of a BoundedSemaphore.
    most: Slot,
    waiters: Deque,
}

impl Semaphore {
    fn empty() -> Semaphore {
        Semaphore {
            shared: PrimitiveFields::uninitialized(),
            value: Cell::new(CountNumber::int(1)),
            most: Slot::default(),
            waiters: Deque::absent(),
        }
    }

    fn init(this: &Ref<Semaphore>, args: &Args<'_>) -> Result<(), Raised> {
        let py = this.py();
        let is_bounded = this.as_obj().is_subtype_of(bounded_semaphore(py));
        let name = if is_bounded {
            "BoundedSemaphore.__init__"
        } else {
            "Semaphore.__init__"
        };
        let [value] = args.bind_as_python(name, &["value"], 0)?;
        // asyncio's own code does the counting if the value would be another number here.
        let is_kept = value.as_ref().is_none_or(CountNumber::is_kept);
        if !is_kept {
            in_dict::replace(this)?;
        }
        if !is_kept || in_dict::initializes(this)? {
            let value = match value {
                Some(value) => value,
                None => Obj::int(py, 1)?,
            };
            if is_bounded {
                in_dict::set(this, "_bound_value", Some(&value))?;
            }
            return in_dict::call(this, "__init__", &[&value]).map(drop);
        }
        let number = match &value {
            Some(value) => CountNumber::of(value)?,
            None => CountNumber::int(1),
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

    /// `locked()`: whether no permit is left, or a waiter must go first.
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

    /// Gives a permit to the first waiter that is not done; returns whether there was one.
    #[inline]
    fn wake_native(this: &Ref<Semaphore>) -> Result<bool, Raised> {
        let mut found = false;
        this.waiters.each(|waiter| {
            if AnyFuture::of_waiter(waiter).is_done()? {
                return Ok(ControlFlow::Continue(()));
            }
            this.value.set(this.value.get().less_one());
            found = true;
            AnyFuture::of_waiter(waiter).set(Ok(Obj::bool(this.py(), true)))?;
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// `release()` of a Semaphore whose attributes are in its dict.
    fn release_in_dict(this: &Ref<Semaphore>) -> Result<(), Raised> {
        let py = this.py();
        if this.as_obj().is_subtype_of(bounded_semaphore(py)) {
            let value = this.as_obj().attr(pyo3::intern!(py, "_value"))?;
            let most = this.as_obj().attr(pyo3::intern!(py, "_bound_value"))?;
            if value.is_at_least(&most)? {
                return Err(released_too_often(py));
            }
        }
        in_dict::call(this, "release", &[]).map(drop)
    }

    fn repr(this: &Ref<Semaphore>) -> Result<String, Raised> {
        let locked = pyo3::intern!(this.py(), "locked");
        let state = if this.as_obj().method(locked, &[])?.truth()? {
            String::from("locked")
        } else {
            let value = this.value.get().show(this.py())?.str_of()?;
            format!("unlocked, value:{}", value.as_str()?)
        };
        describe_state(this, &format!("{state}{}", count_text(&this.waiters)?))
    }
}

impl Acquired for Semaphore {
    const ACQUIRE: (&'static str, &'static str) = ("acquire", "Semaphore.acquire");

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
        let wakes_all = imports(py).semaphore_wakes_all;
        let outcome = outcome.map_err(|raised| raised.take(py));
        this.waiters.remove(waiter)?;
        if let Err(error) = &outcome {
            // The waiter had got a permit already, which goes to the next one.
            let gives_back = is_cancellation(error)
                && !AnyFuture::of_waiter(waiter).is_cancelled()?
                && (!wakes_all || AnyFuture::of_waiter(waiter).is_done()?);
            if gives_back {
                this.value.set(this.value.get().plus_one());
                if !wakes_all {
                    Semaphore::wake_up_next(this)?;
                }
            }
        }
        if wakes_all {
            // Tasks that came meanwhile wait, although permits are left.
            while this.value.get().is_positive() && Semaphore::wake_up_next(this)? {}
        } else if outcome.is_ok() && this.value.get().is_positive() {
            Semaphore::wake_up_next(this)?;
        }
        outcome.map(drop).map_err(Raised::raise)
    }
}

impl Released for Semaphore {
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
    fn release(this: &Ref<Semaphore>) -> Result<(), Raised> {
        if in_dict::stays(this)? {
            return Semaphore::release_in_dict(this);
        }
        if let Some(most) = this.most.get() {
            if this.value.get().is_at_least(CountNumber::of(&most)?) {
                return Err(released_too_often(this.py()));
            }
        }
        this.value.set(this.value.get().plus_one());
        Semaphore::wake_up_next(this).map(drop)
    }
}

#[cold]
fn released_too_often(py: Python<'_>) -> Raised {
    Raised::value_error(py, "BoundedSemaphore released too many times")
}

impl Primitive for Semaphore {
    const REPLACEABLE: &'static [&'static str] =
        &["acquire", "release", "locked", "_wake_up_next", "_get_loop"];
    const ATTRIBUTES: &'static [&'static str] = &["_bound_value", "_waiters", "_value"];

    #[inline]
    fn shared(&self) -> &PrimitiveFields {
        &self.shared
    }

    fn asyncio_class<'a>(this: &'a Ref<Semaphore>, _: &str) -> &'a Obj {
        imports(this.py()).classes.semaphore.get(this.py())
    }

    fn give(this: &Ref<Semaphore>) -> Result<Attributes, Raised> {
        let mut attributes = Vec::new();
        if let Some(most) = this.most.get() {
            attributes.push(("_bound_value", most));
        }
        attributes.push(("_waiters", give_waiters(this, &this.waiters)?));
        attributes.push(("_value", this.value.get().show(this.py())?));
        Ok(attributes)
    }

    fn take(this: &Ref<Semaphore>, dict: &Obj) -> Result<bool, Raised> {
        let found = (
            in_dict::find(dict, "_waiters")?,
            in_dict::find(dict, "_value")?,
        );
        let (Some(waiters), Some(value)) = found else {
            return Ok(false);
        };
        let most = in_dict::find(dict, "_bound_value")?;
        let bounded = bounded_semaphore(this.py());
        let numbers = CountNumber::is_kept(&value)
            && match &most {
                Some(most) => CountNumber::is_kept(most),
                None => !this.as_obj().is_subtype_of(bounded),
            };
        if !numbers {
            return Ok(false);
        }
        this.value.set(CountNumber::of(&value)?);
        this.most.set(most);
        take_waiters(this, &this.waiters, waiters)?;
        Ok(true)
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
    const MOVES: bool = true;
    cpython::hot_type!();

    fn may_move(this: &Ref<Semaphore>) -> bool {
        !in_dict::is_there(this) && this.waiters.is_plainly_empty()
    }
    cpython::holds!(shared, most, waiters);

    fn build(builder: &mut Builder<Self>) {
        build_shared(builder);
        build_waiters(builder, |this| &this.waiters);
        builder
            .new_value(|_: Python<'_>| Ok(Semaphore::empty()))
            .init(Semaphore::init)
            .repr(in_dict::method!("__repr__", Semaphore::repr))
            .method0(
                c"locked",
                c"locked($self, /)\n--\n\nWhether acquire() would have to wait.",
                in_dict::method!("locked", Semaphore::is_locked),
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
                c"_wake_up_next($self, /)\n--\n\nGive a permit to the first waiter.",
                in_dict::method!("_wake_up_next", Semaphore::wake_native),
            );
        in_dict::attribute!(
            builder,
            "_value",
            c"The number of permits left.",
            |this: &Ref<Semaphore>| this.value.get().show(this.py()),
            |this: &Ref<Semaphore>, value: Option<&Obj>| {
                match value {
                    Some(value) if CountNumber::is_kept(value) => {
                        this.value.set(CountNumber::of(value)?)
                    }
                    _ => {
                        in_dict::show(this)?;
                        in_dict::set(this, "_value", value)?;
                    }
                }
                Ok(())
            },
        );
        in_dict::attribute!(
            builder,
            "_bound_value",
            c"The first number of permits of a BoundedSemaphore.",
            |this: &Ref<Semaphore>| {
                let most = this.most.get();
                most.ok_or_else(|| in_dict::missing(this, "_bound_value"))
            },
            |this: &Ref<Semaphore>, value: Option<&Obj>| {
                this.most.set(value.cloned());
                Ok(())
            },
        );
    }
}

/// Builds the class and BoundedSemaphore; `locks` is the module `asyncio.locks`.
pub(super) fn build(py: Python<'_>, locks: &Obj) -> Result<(), Raised> {
    let class = ClassPair::<Semaphore>::build(py, locks)?;
    class.add_plain::<Acquire<Semaphore>>(
        "Take a permit, waiting until one is left; returns True.",
    )?;
    class.add_plain::<Enter<Semaphore>>("Acquire it.")?;
    class.add_exit::<Leave<Semaphore>>("Release it.")?;
    let bounded = derive::<Semaphore>(
        py,
        "BoundedSemaphore",
        "asyncio.locks",
        "A Semaphore whose value never exceeds the first one, as asyncio.BoundedSemaphore.",
    )?;
    let _ = BOUNDED_SEMAPHORE.set(py, Global::new(bounded));
    Ok(())
}
