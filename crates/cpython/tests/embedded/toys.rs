//! Hot types for the tests: toys.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cpython::build::{Builder, Next, adopt, build as build_type};
use cpython::coro::{Step, raise_stop_iteration, send};
use cpython::{
    Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot, Visit, holds, hot_type, members,
};

use crate::Names;

/// The beginning of the message of each panic of a toy.
pub(crate) const ON_PURPOSE: &str = "on purpose";

/// A value that counts its instances.
pub(crate) struct Counted;

static ALIVE: AtomicUsize = AtomicUsize::new(0);

impl Counted {
    pub(crate) fn alive() -> usize {
        ALIVE.load(Ordering::Relaxed)
    }
}

impl Default for Counted {
    fn default() -> Self {
        ALIVE.fetch_add(1, Ordering::Relaxed);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The shared methods of toys without a parent: they are made without arguments, and return
/// themselves.
fn toy<T: Hot<Parent = NoParent> + Default>(builder: &mut Builder<T>) -> &mut Builder<T> {
    builder
        .new_value(|_| Ok(T::default()))
        .method0(c"me", c"Itself.", |this| this.clone())
}

/// An object with everything that a hot type may have, without a base.
#[derive(Default)]
pub(crate) struct Node {
    pub(crate) next: Slot,
    pub(crate) value: Slot,
    /// Called with the object by its finaliser.
    pub(crate) on_end: Slot,
    pub(crate) flag: Cell<bool>,
    /// Whether the finaliser panics.
    pub(crate) breaks_at_end: Cell<bool>,
    _counted: Counted,
}

impl Hot for Node {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"toys.Node";
    const DOC: &'static std::ffi::CStr = c"A node of a chain.";
    const FREELIST: usize = 3;
    const FREELIST_IN_BURSTS: usize = 9;
    hot_type!();
    holds!(next, value, on_end);

    fn needs_finalizer(&self, _: &NoParent) -> bool {
        self.on_end.is_some() || self.breaks_at_end.get()
    }

    fn finalize(this: &Ref<Self>) {
        assert!(!this.breaks_at_end.get(), "on purpose, at the end");
        if let Some(function) = this.on_end.take() {
            if let Err(raised) = function.call1(this.as_obj()) {
                raised.report_unraisable(Some(&function));
            }
        }
    }

    fn build(builder: &mut Builder<Self>) {
        toy(builder)
            .init(|this, args| {
                let [next, value] = args.bind("Node", &["next", "value"], 2, 0)?;
                this.next.set(next.and_then(Obj::not_none));
                this.value.set(value.and_then(Obj::not_none));
                Ok(())
            })
            .repr(|this| match this.value.get() {
                Some(value) => Ok(format!("Node({})", value.repr()?.to_string()?)),
                None => Ok("Node()".to_owned()),
            })
            .attribute(c"next", c"The next one.", |node| &node.next)
            .attribute(c"value", c"Anything.", |node| &node.value)
            .attribute(c"on_end", c"Called at the end.", |node| &node.on_end)
            .flag(c"flag", c"A flag.", |node| &node.flag)
            .flag(c"breaks_at_end", c"Whether it panics.", |node| {
                &node.breaks_at_end
            })
            .get(c"broken", c"Panics.", |_: &Ref<Self>| -> bool {
                panic!("on purpose, while read")
            })
            .get_set(
                c"broken_when_set",
                c"Panics.",
                |_| 1_i64,
                |_, _| panic!("on purpose, while set"),
            )
            .method0(c"panics", c"Panics.", |this: &Ref<Self>| -> bool {
                // The unwinding releases what this frame holds.
                let _held = this.value.get();
                panic!("on purpose")
            })
            .method0(c"panics_in_words", c"Panics.", |this: &Ref<Self>| -> bool {
                panic!("on purpose: {}", this.flag.get())
            })
            .method1(c"echo", c"What it is given.", |_, argument| {
                argument.clone()
            })
            .method(c"bind", c"Binds as a built-in function.", |this, args| {
                bound(this, args.bind("bind", &["first", "second", "third"], 2, 1))
            })
            .method(c"bind_as_python", c"Binds as a method.", |this, args| {
                let names = ["first", "second", "third"];
                bound(this, args.bind_as_python("f", &names, 1))
            })
            .method(c"bind_in_part", c"Binds as a function.", |this, args| {
                let names = ["first", "second", "third"];
                bound(this, args.bind_function_in_part("f", &names, 2, 1))
            })
            .method(c"one", c"Takes one argument.", |_, args| {
                args.one("f", "only").cloned()
            })
            .method(c"only_keyword", c"Takes `name`.", |_, args| {
                args.only_keyword("f", "name")
            })
            .method(c"hand_on", c"Calls `value`.", |this, args| {
                let py = this.py();
                let (tuple, dict) = args.to_tuple_and_dict(py)?;
                let function = this.value.get().unwrap_or_else(|| Obj::none(py));
                function.call_with_dict(&tuple, dict.as_ref())
            })
            .class_method(c"made_by", c"A class and an object.", |class, argument| {
                Obj::tuple(class.py(), &[class.clone(), argument.clone()])
            })
            .instance_dict()
            .weak_references();
    }
}

/// The arguments as they were bound, with "absent" for those not given.
fn bound<const N: usize>(
    this: &Ref<Node>,
    found: Result<[Option<Obj>; N], Raised>,
) -> Result<Obj, Raised> {
    let absent = Obj::str(this.py(), "absent")?;
    let all: Vec<Obj> = found?
        .into_iter()
        .map(|value| value.unwrap_or_else(|| absent.clone()))
        .collect();
    Obj::tuple(this.py(), &all)
}

impl Node {
    /// An empty one.
    pub(crate) fn make(py: Python<'_>) -> Result<Ref<Node>, Raised> {
        Ref::new(py, Node::default())
    }
}

/// The least that a hot type can be: no base, no subclass, no finaliser.
#[derive(Default)]
pub(crate) struct Plain {
    pub(crate) held: Slot,
    _counted: Counted,
}

impl Plain {
    /// An empty one.
    pub(crate) fn make(py: Python<'_>) -> Result<Ref<Plain>, Raised> {
        Ref::new(py, Plain::default())
    }
}

impl Hot for Plain {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"toys.Plain";
    const DOC: &'static std::ffi::CStr = c"A plain object.";
    const FREELIST: usize = 2;
    const SUBCLASSABLE: bool = false;
    const BASED: bool = false;
    const FINALIZES: bool = false;
    hot_type!();
    holds!(held);

    fn build(builder: &mut Builder<Self>) {
        builder.attribute(c"held", c"Anything.", |plain| &plain.held);
    }
}

/// A coroutine: waits on each of what `waits_on` has, then returns what was sent into it.
#[derive(Default)]
pub(crate) struct Steps {
    pub(crate) waits_on: Slot,
    pub(crate) sent: Slot,
    pub(crate) returns: Slot,
    pub(crate) closed: Cell<bool>,
}

impl Steps {
    fn step(this: &Ref<Self>, value: &Obj) -> Result<Next, Raised> {
        let py = this.py();
        if this.closed.get() {
            return Err(Raised::runtime_error(py, "cannot reuse closed steps"));
        }
        if let Some(sent) = this.sent.get().filter(|_| !value.is_none()) {
            sent.append(value)?;
        }
        match this.waits_on.get().map(|iterator| iterator.next()) {
            Some(Ok(Some(object))) if object.is_str_exact() => panic!("on purpose, in a step"),
            Some(Ok(Some(object))) => Ok(Next::Yield(object)),
            Some(Err(raised)) => Err(raised),
            Some(Ok(None)) | None => {
                this.closed.set(true);
                let result = this.returns.get().or_else(|| this.sent.get());
                Ok(Next::Return(result.unwrap_or_else(|| Obj::none(py))))
            }
        }
    }
}

impl Hot for Steps {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"toys.Steps";
    const DOC: &'static std::ffi::CStr = c"A coroutine.";
    hot_type!();
    holds!(waits_on, sent, returns);

    fn build(builder: &mut Builder<Self>) {
        toy(builder)
            .init(|this, args| {
                let py = this.py();
                let [waits_on, returns] = args.bind("Steps", &["waits_on", "returns"], 2, 1)?;
                let waits_on = waits_on.unwrap_or_else(|| Obj::none(py));
                this.waits_on.set(Some(waits_on.iter()?));
                this.returns.set(returns);
                this.sent.set(Some(Obj::list(py)?));
                Ok(())
            })
            .get(c"sent", c"What was sent.", |this| this.sent.get())
            .get(c"closed", c"Whether it has ended.", |this| {
                this.closed.get()
            })
            .step(Steps::step)
            .iter(|this| this.clone())
            .awaits_itself(c"Iterates over it.", |this| this.clone())
            .method1(c"send", c"Goes on.", |this, value| {
                Steps::step(this, value).and_then(yielded)
            })
            .method(c"throw", c"Ends it, or goes on.", |this, args| {
                let exception = args.positional.last().cloned();
                let exception = exception.unwrap_or_else(|| Obj::none(this.py()));
                let goes_on = Obj::class_of::<pyo3::exceptions::PyKeyError>(this.py());
                if exception.is_subtype_of(&goes_on) {
                    return Steps::step(this, &Obj::none(this.py())).and_then(yielded);
                }
                this.closed.set(true);
                Err(cpython::coro::leave(exception, "coroutine"))
            })
            .method0(c"close", c"Ends it.", |this| this.closed.set(true));
    }
}

/// The result of `send` or `throw`: the object yielded, or StopIteration with the value.
fn yielded(step: Next) -> Result<Obj, Raised> {
    match step {
        Next::Yield(object) => Ok(object),
        Next::Return(value) => Err(raise_stop_iteration(&value)),
    }
}

/// Where a [`Fragile`] may panic.
const PLACES: [&str; 14] = [
    "init", "repr", "str", "iter", "aiter", "await", "setattr", "getdict", "setdict", "traverse",
    "clear", "asked", "leave", "drop",
];

/// An object that panics in the place that it was given, and in no other. It panics there once, or,
/// in a traversal, each time.
#[derive(Default)]
pub(crate) struct Fragile {
    pub(crate) held: Slot,
    pub(crate) place: Cell<Option<&'static str>>,
}

impl Fragile {
    fn breaks_in(&self, place: &'static str) {
        if self.place.get() == Some(place) {
            if place != "traverse" {
                self.place.set(None);
            }
            panic!("on purpose, in {place}");
        }
    }

    fn set_place(&self, name: Option<&Obj>) -> Result<(), Raised> {
        let name = name.filter(|name| !name.is_none());
        let name = name.map(Obj::to_string).transpose()?;
        let place = PLACES
            .into_iter()
            .find(|place| Some(*place) == name.as_deref());
        assert_eq!(place, name.as_deref(), "no such place");
        self.place.set(place);
        Ok(())
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        self.breaks_in("drop");
    }
}

impl Hot for Fragile {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"toys.Fragile";
    const DOC: &'static std::ffi::CStr = c"Panics in the place that it was given.";
    const FREELIST: usize = 2;
    hot_type!();

    fn traverse(&self, visit: &mut Visit<'_>) {
        self.breaks_in("traverse");
        visit.slot(&self.held);
    }

    fn clear(&self) {
        self.breaks_in("clear");
        self.held.set(None);
    }

    fn needs_finalizer(&self, _: &NoParent) -> bool {
        self.breaks_in("asked");
        false
    }

    fn leave(this: &Ref<Self>) {
        this.breaks_in("leave");
    }

    fn build(builder: &mut Builder<Self>) {
        toy(builder)
            .init(|this, args| {
                let [place] = args.bind("Fragile", &["place"], 1, 0)?;
                this.set_place(place.as_ref())?;
                this.breaks_in("init");
                Ok(())
            })
            .repr(|this| {
                this.breaks_in("repr");
                Obj::str(this.py(), "Fragile()")
            })
            .string(|this| {
                this.breaks_in("str");
                Obj::str(this.py(), "fragile")
            })
            .iter(|this| this.breaks_in("iter"))
            .async_iter(|this| this.breaks_in("aiter"))
            .awaits(|this| this.breaks_in("await"))
            .on_set_attribute(|this, _| this.breaks_in("setattr"))
            .watched_dict(
                |this| {
                    this.breaks_in("getdict");
                    Ok(())
                },
                |this| {
                    this.breaks_in("setdict");
                    Ok(())
                },
            )
            .attribute(c"held", c"Anything.", |fragile| &fragile.held)
            .get_set(
                c"breaks_in",
                c"Where it panics.",
                |this| this.place.get().map(str::to_owned),
                |this, name| this.set_place(name),
            )
            .weak_references();
    }
}

/// A coroutine that drives another.
#[derive(Default)]
pub(crate) struct Wrapper {
    inner: Slot,
}

impl Hot for Wrapper {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"toys.Wrapper";
    const DOC: &'static std::ffi::CStr = c"Drives another coroutine.";
    hot_type!();
    holds!(inner);

    fn build(builder: &mut Builder<Self>) {
        toy(builder)
            .init(|this, args| {
                let [inner] = args.bind("Wrapper", &["inner"], 1, 1)?;
                this.inner.set(inner);
                Ok(())
            })
            .awaits_itself(c"Iterates over it.", |this| this.clone())
            .step(|this, value| {
                let Some(inner) = this.inner.get() else {
                    return Ok(Next::Return(Obj::none(this.py())));
                };
                match send(&inner, value) {
                    Step::Yielded(object) => Ok(Next::Yield(object)),
                    Step::Returned(object) => Ok(Next::Return(object)),
                    Step::Raised(raised) => Err(raised),
                }
            });
    }
}

/// A type over a foreign base: a class of Python's with `__slots__`, a dict and weak references.
#[derive(Default)]
pub(crate) struct Based {
    pub(crate) held: Slot,
    _counted: Counted,
}

impl Hot for Based {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"toys.Based";
    const DOC: &'static std::ffi::CStr = c"Over a class of Python's.";
    const FREELIST: usize = 2;
    hot_type!();
    holds!(held);

    fn build(builder: &mut Builder<Self>) {
        toy(builder).attribute(c"held", c"Anything.", |based| &based.held);
    }
}

/// A type over the accelerator's Future, as aioxide's own, whose place moves in its child.
#[derive(Default)]
pub(crate) struct Promise {
    pub(crate) held: Slot,
    _counted: Counted,
}

impl Hot for Promise {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"toys.Promise";
    const DOC: &'static std::ffi::CStr = c"Over the accelerator's Future.";
    const FREELIST: usize = 2;
    const MOVES_IN_CHILD: bool = true;
    hot_type!();
    holds!(held);

    fn build(builder: &mut Builder<Self>) {
        toy(builder)
            .init(|_, _| Ok(()))
            .attribute(c"held", c"Anything.", |promise| &promise.held);
    }
}

/// The child of that type, over the accelerator's Task.
#[derive(Default)]
pub(crate) struct Chore {
    pub(crate) own: Slot,
}

impl Hot for Chore {
    type Parent = Promise;
    const NAME: &'static std::ffi::CStr = c"toys.Chore";
    const DOC: &'static std::ffi::CStr = c"Over the accelerator's Task.";
    const FREELIST: usize = 2;
    hot_type!();

    holds!(own);

    fn build(builder: &mut Builder<Self>) {
        builder
            .new_values(|_| Ok((Promise::default(), Chore::default())))
            .init(|_, _| Ok(()))
            .attribute(c"own", c"Anything.", |chore| &chore.own)
            .get(c"of_parent", c"The parent's value.", |this| {
                this.parent_value().held.get()
            })
            .method(
                c"keeps",
                c"Whether it holds it.",
                |this, args: &Args<'_>| {
                    let one = args.one("keeps", "object")?;
                    Ok::<bool, Raised>(this.own.holds(one) || this.parent().held.holds(one))
                },
            );
    }
}

/// A type whose fields are the slots of a class of Python's.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Lean {
    pub(crate) first: Slot,
    pub(crate) second: Slot,
}

impl Hot for Lean {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"toys.Lean";
    const DOC: &'static std::ffi::CStr = c"Over the slots of a class of Python's.";
    const FREELIST: usize = 2;
    hot_type!();
    holds!(first, second);
    members! {
        c"first": first,
        c"second": second,
    }

    fn build(builder: &mut Builder<Self>) {
        toy(builder)
            .attribute(c"first", c"Anything.", |lean| &lean.first)
            .attribute(c"second", c"Anything.", |lean| &lean.second);
    }
}

/// The child of that type, with a slot and a word of its own.
#[repr(C)]
#[derive(Default)]
pub(crate) struct LeanChild {
    pub(crate) third: Slot,
    pub(crate) number: Cell<u64>,
}

impl Hot for LeanChild {
    type Parent = Lean;
    const NAME: &'static std::ffi::CStr = c"toys.LeanChild";
    const DOC: &'static std::ffi::CStr = c"Over the slots of a class that derives from it.";
    const FREELIST: usize = 2;
    hot_type!();
    holds!(third);
    members! {
        c"third": third,
    }

    fn build(builder: &mut Builder<Self>) {
        builder
            .new_values(|_| {
                let child = LeanChild::default();
                child.number.set(u64::MAX);
                Ok((Lean::default(), child))
            })
            .attribute(c"third", c"Anything.", |child| &child.third)
            .get(c"is_whole", c"Whether the number is there.", |this| {
                this.number.get() == u64::MAX
            });
    }
}

type Class = fn(Python<'_>) -> Obj;

/// The types that were built, by their names.
static TYPES: Mutex<Vec<(&str, Class)>> = Mutex::new(Vec::new());

fn add<T: Hot>(py: Python<'_>, base: Option<&Obj>) -> Result<(), Raised> {
    build_type::<T>(py, base, 0)?;
    let name = T::NAME.to_str().expect("a name");
    let name = name.strip_prefix("toys.").expect("a toy");
    let mut types = TYPES.lock().expect("no test has it");
    types.push((name, Ref::<T>::class));
    Ok(())
}

/// Builds all types, once.
pub(crate) fn build(py: Python<'_>) -> Result<(), Raised> {
    if Ref::<Based>::class_address() != 0 {
        return Ok(());
    }
    add::<Node>(py, None)?;
    add::<Plain>(py, None)?;
    add::<Steps>(py, None)?;
    add::<Wrapper>(py, None)?;
    add::<Fragile>(py, None)?;
    let accelerator = Obj::import(py, c"_asyncio")?;
    let future = accelerator.attr(pyo3::intern!(py, "Future"))?;
    let task = accelerator.attr(pyo3::intern!(py, "Task"))?;
    add::<Promise>(py, Some(&future))?;
    add::<Chore>(py, Some(&task))?;
    adopt::<Chore>(py)?;
    let base = slotted(py, &[], &["first", "second"])?;
    let child = slotted(py, std::slice::from_ref(&base), &["third"])?;
    add::<Lean>(py, Some(&base))?;
    add::<LeanChild>(py, Some(&child))?;
    adopt::<LeanChild>(py)?;
    add::<Based>(py, Some(&base))
}

/// A class of Python's with these bases and `__slots__`.
pub(crate) fn slotted(py: Python<'_>, bases: &[Obj], slots: &[&str]) -> Result<Obj, Raised> {
    let slots: Result<Vec<_>, _> = slots.iter().map(|name| Obj::str(py, name)).collect();
    let names = Obj::dict(py)?;
    names.dict_set(&Obj::str(py, "__slots__")?, &Obj::tuple(py, &slots?)?)?;
    Obj::class_of::<pyo3::types::PyType>(py).call(&[
        &Obj::str(py, "Base")?,
        &Obj::tuple(py, bases)?,
        &names,
    ])
}

/// Gives the types' names to the code of a test.
pub(crate) fn name(py: Python<'_>, names: &Names) -> Result<(), Raised> {
    let types = TYPES.lock().expect("no test has it");
    types
        .iter()
        .try_for_each(|(name, class)| names.set(name, &class(py)))
}
