//! Event.

use std::cell::Cell;
use std::ffi::CStr;
use std::ops::ControlFlow;

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref};

use super::acquired::{Acquire, Acquired};
use super::binding::{build_shared, describe_state};
use super::deque::Deque;
use super::imports::imports;
use super::in_dict;
use super::methods::ClassPair;
use super::primitive::{Attributes, Primitive, PrimitiveFields};
use super::waiters::{add_waiter, build_waiters, count_text, give_waiters, take_waiters};
use crate::tasks::any_future::AnyFuture;

/// The value of an Event.
pub(super) struct Event {
    shared: PrimitiveFields,
    set: Cell<bool>,
    waiters: Deque,
}

impl Event {
    fn value(shared: PrimitiveFields, set: bool) -> Event {
        Event {
            shared,
            set: Cell::new(set),
            waiters: Deque::empty(),
        }
    }

    /// A new Event.
    pub(super) fn create(py: Python<'_>, set: bool) -> Result<Ref<Event>, Raised> {
        Ref::new(py, Event::value(PrimitiveFields::default(), set))
    }

    fn init(this: &Ref<Event>, args: &Args<'_>) -> Result<(), Raised> {
        let [] = args.bind_as_python("Event.__init__", &[], 0)?;
        if in_dict::initializes(this)? {
            return in_dict::call(this, "__init__", &[]).map(drop);
        }
        this.set.set(false);
        this.waiters.reset();
        Ok(())
    }

    /// `set()`.
    pub(super) fn set(this: &Ref<Event>) -> Result<(), Raised> {
        if in_dict::stays(this)? {
            return in_dict::call(this, "set", &[]).map(drop);
        }
        if this.set.replace(true) {
            return Ok(());
        }
        this.waiters.each(|waiter| {
            AnyFuture::of_waiter(waiter).set_unless_done(Ok(Obj::bool(this.py(), true)))?;
            Ok(ControlFlow::Continue(()))
        })
    }

    /// `clear()`.
    pub(super) fn unset(this: &Ref<Event>) -> Result<(), Raised> {
        if in_dict::stays(this)? {
            return in_dict::call(this, "clear", &[]).map(drop);
        }
        this.set.set(false);
        Ok(())
    }

    fn repr(this: &Ref<Event>) -> Result<String, Raised> {
        let state = if this.set.get() { "set" } else { "unset" };
        describe_state(this, &format!("{state}{}", count_text(&this.waiters)?))
    }
}

impl Acquired for Event {
    const ACQUIRE: (&'static str, &'static str) = ("wait", "Event.wait");

    #[inline]
    fn acquires_at_once(this: &Ref<Event>) -> bool {
        this.set.get() && !in_dict::is_there(this)
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
    const ATTRIBUTES: &'static [&'static str] = &["_waiters", "_value"];

    #[inline]
    fn shared(&self) -> &PrimitiveFields {
        &self.shared
    }

    fn asyncio_class<'a>(this: &'a Ref<Event>, _: &str) -> &'a Obj {
        imports(this.py()).classes.event.get(this.py())
    }

    fn give(this: &Ref<Event>) -> Result<Attributes, Raised> {
        Ok(vec![
            ("_waiters", give_waiters(this, &this.waiters)?),
            ("_value", Obj::bool(this.py(), this.set.get())),
        ])
    }

    fn take(this: &Ref<Event>, dict: &Obj) -> Result<bool, Raised> {
        let found = (
            in_dict::find(dict, "_waiters")?,
            in_dict::find_bool(dict, "_value")?,
        );
        let (Some(waiters), Some(set)) = found else {
            return Ok(false);
        };
        take_waiters(this, &this.waiters, waiters)?;
        this.set.set(set);
        Ok(true)
    }
}

impl Hot for Event {
    type Parent = NoParent;
    const NAME: &'static CStr = c"asyncio.locks.Event";
    const DOC: &'static CStr = c"Event()\n--\n\n\
        A flag that tasks wait for, as asyncio.Event.";
    const FREELIST: usize = 64;
    const BASED: bool = false;
    const MOVES: bool = true;
    cpython::hot_type!();

    fn may_move(this: &Ref<Event>) -> bool {
        !in_dict::is_there(this) && this.waiters.is_plainly_empty()
    }
    cpython::holds!(shared, waiters);

    fn build(builder: &mut Builder<Self>) {
        build_shared(builder);
        build_waiters(builder, |this| &this.waiters);
        builder
            .new_value(|_| Ok(Event::value(PrimitiveFields::uninitialized(), false)))
            .init(Event::init)
            .repr(in_dict::method!("__repr__", Event::repr))
            .method0(
                c"is_set",
                c"is_set($self, /)\n--\n\nWhether the flag is set.",
                in_dict::method!("is_set", |this: &Ref<Event>| this.set.get()),
            )
            .method0(
                c"set",
                c"set($self, /)\n--\n\nSet the flag and wake all waiters.",
                Event::set,
            )
            .method0(
                c"clear",
                c"clear($self, /)\n--\n\nClear the flag.",
                Event::unset,
            );
        in_dict::attribute!(
            builder,
            "_value",
            c"Whether the flag is set.",
            |this: &Ref<Event>| this.set.get(),
            |this: &Ref<Event>, value: Option<&Obj>| {
                this.set.set(value.map_or(Ok(false), Obj::truth)?);
                Ok(())
            },
        );
    }
}

/// Builds the class; `locks` is the module `asyncio.locks`.
pub(super) fn build(py: Python<'_>, locks: &Obj) -> Result<(), Raised> {
    let class = ClassPair::<Event>::build(py, locks)?;
    class.add_plain::<Acquire<Event>>("Wait until the flag is set; returns True.")
}
