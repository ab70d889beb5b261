//! Event.

use std::cell::Cell;
use std::ffi::CStr;
use std::ops::ControlFlow;

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref};

use super::bound::{Bound, Primitive, build_bound, describe_state};
use super::call::Acquired;
use super::deque::Deque;
use super::waiters::{add_waiter, build_waiters, count_text, wake};

/// The value of an Event.
pub(super) struct Event {
    bound: Bound,
    set: Cell<bool>,
    waiters: Deque,
}

impl Event {
    fn value(set: bool) -> Event {
        Event {
            bound: Bound::default(),
            set: Cell::new(set),
            waiters: Deque::empty(),
        }
    }

    /// A new one.
    pub(super) fn create(py: Python<'_>, set: bool) -> Result<Ref<Event>, Raised> {
        Ref::new(py, Event::value(set))
    }

    fn init(this: &Ref<Event>, args: &Args<'_>) -> Result<(), Raised> {
        let [] = args.bind_as_python("Event.__init__", &[], 0)?;
        this.set.set(false);
        this.waiters.reset();
        Ok(())
    }

    /// `set()`.
    pub(super) fn set(this: &Ref<Event>) -> Result<(), Raised> {
        if this.set.replace(true) {
            return Ok(());
        }
        this.waiters.each(|waiter| {
            wake(waiter, Obj::bool(this.py(), true))?;
            Ok(ControlFlow::Continue(()))
        })
    }

    /// `clear()`.
    pub(super) fn unset(&self) {
        self.set.set(false);
    }

    fn repr(this: &Ref<Event>) -> Result<String, Raised> {
        let state = if this.set.get() { "set" } else { "unset" };
        describe_state(this, &format!("{state}{}", count_text(&this.waiters)?))
    }
}

impl Acquired for Event {
    #[inline]
    fn acquires_at_once(this: &Ref<Event>) -> bool {
        this.set.get()
    }

    fn begin(this: &Ref<Event>) -> Result<Option<Obj>, Raised> {
        if this.set.get() {
            return Ok(None);
        }
        add_waiter(this, &this.waiters).map(Some)
    }

    fn finish(this: &Ref<Event>, waiter: &Obj, outcome: Result<Obj, Raised>) -> Result<(), Raised> {
        let outcome = outcome.map_err(|raised| raised.take(this.py()));
        this.waiters.remove(waiter)?;
        outcome.map(drop).map_err(Raised::raise)
    }
}

impl Primitive for Event {
    const REPLACEABLE: &'static [&'static str] = &["_get_loop"];
    const STATE: &'static [&'static str] = &["_waiters", "_value"];

    #[inline]
    fn bound(&self) -> &Bound {
        &self.bound
    }
}

impl Hot for Event {
    type Parent = NoParent;
    const NAME: &'static CStr = c"asyncio.locks.Event";
    const DOC: &'static CStr = c"Event()\n--\n\n\
        A flag that tasks wait for, as asyncio.Event.";
    const FREELIST: usize = 64;
    const BASED: bool = false;
    cpython::hot_type!();
    cpython::holds!(bound, waiters);

    fn build(builder: &mut Builder<Self>) {
        build_bound(builder);
        build_waiters(builder, |this| &this.waiters);
        builder
            .new_value(|_| Ok(Event::value(false)))
            .init(Event::init)
            .repr(Event::repr)
            .method0(
                c"is_set",
                c"is_set($self, /)\n--\n\nWhether the flag is set.",
                |this| this.set.get(),
            )
            .method0(
                c"set",
                c"set($self, /)\n--\n\nSet the flag and let all who wait go on.",
                Event::set,
            )
            .method0(
                c"clear",
                c"clear($self, /)\n--\n\nTake the flag back.",
                |this| this.unset(),
            )
            .flag(c"_value", c"Whether the flag is set.", |this| &this.set);
    }
}
