//! What all primitives share: the loop they are bound to, and whether a program has replaced
//! methods of theirs.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::{Held, Hot, NoParent, Obj, Raised, Ref, Slot, Visit};
use pyo3::types::PyString;

use crate::event_loop::EventLoop;
use crate::futures::Future;
use crate::interop::current::running_loop;

/// Whether a program has replaced methods, in a subclass or on the object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Methods {
    /// Nobody has looked yet.
    Unknown,
    /// Native code may do what they do without calling them.
    Native,
    /// Each must be called by its name.
    Replaced,
}

/// The fields.
pub(super) struct Bound {
    event_loop: Slot,
    methods: Cell<Methods>,
}

impl Default for Bound {
    fn default() -> Bound {
        Bound {
            event_loop: Slot::default(),
            methods: Cell::new(Methods::Unknown),
        }
    }
}

impl Held for Bound {
    fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.event_loop);
    }
    fn let_go(&self) {
        self.event_loop.set(None);
    }
}

/// A lock or queue.
pub(super) trait Primitive: Hot<Parent = NoParent> {
    /// Methods that native code would otherwise not call.
    const REPLACEABLE: &'static [&'static str];
    /// The attributes that a copy of the object gets.
    const STATE: &'static [&'static str];

    /// The shared fields.
    fn bound(&self) -> &Bound;

    /// Whether somebody has looked, and none of its methods was replaced.
    #[inline]
    fn is_known_native(&self) -> bool {
        self.bound().methods.get() == Methods::Native
    }

    /// Whether none of its methods was replaced.
    #[inline]
    fn is_native(this: &Ref<Self>) -> bool {
        match this.bound().methods.get() {
            Methods::Native => true,
            Methods::Replaced => false,
            Methods::Unknown => look(this),
        }
    }
}

#[inline(never)]
fn look<T: Primitive>(this: &Ref<T>) -> bool {
    let native = Ref::<T>::is_exact(this.as_obj()) || has_own_methods(this, T::REPLACEABLE);
    this.bound().methods.set(if native {
        Methods::Native
    } else {
        Methods::Replaced
    });
    native
}

/// Whether the object's class has these attributes of the native type.
pub(super) fn has_own_methods<T: Hot>(this: &Ref<T>, names: &[&str]) -> bool {
    let py = this.py();
    let (class, own) = (this.as_obj().class(), Ref::<T>::class(py));
    let same = |name: &&str| -> Result<bool, Raised> {
        let name = PyString::intern(py, name);
        Ok(match (class.attr_opt(&name)?, own.attr_opt(&name)?) {
            (Some(found), Some(native)) => found.is(&native),
            // Not every version has all.
            (None, None) => true,
            _ => false,
        })
    };
    names.iter().all(|name| match same(name) {
        Ok(same) => same,
        Err(raised) => {
            drop(raised.take(py));
            false
        }
    })
}

/// `_get_loop()`: the running loop, to which the object is bound from the first time on.
///
/// # Errors
/// RuntimeError if it is bound to another one.
pub(super) fn bind<T: Primitive>(this: &Ref<T>) -> Result<Obj, Raised> {
    let py = this.py();
    let running = running_loop(py)?.unwrap_or_else(|| Obj::none(py));
    let bound = &this.bound().event_loop;
    if bound.holds(&running) {
        return Ok(running);
    }
    if bound.is_none() {
        bound.set(running.clone().not_none());
        return Ok(running);
    }
    let repr = this.as_obj().repr()?;
    let text = format!("{} is bound to a different event loop", repr.as_str()?);
    Err(Raised::runtime_error(py, &text))
}

/// A new Future of the running loop, to wait on.
#[inline]
pub(super) fn new_waiter<T: Primitive>(this: &Ref<T>) -> Result<Obj, Raised> {
    let py = this.py();
    let running = if T::is_native(this) {
        bind(this)?
    } else {
        this.as_obj().method(pyo3::intern!(py, "_get_loop"), &[])?
    };
    if let Some(native) = Ref::<EventLoop>::of(&running) {
        if EventLoop::is_fast(native) {
            return Future::create(native).map(Ref::into_obj);
        }
    }
    running.method(pyo3::intern!(py, "create_future"), &[])
}

/// Adds what all have: their loop, attributes of their own, weak references, copies.
pub(super) fn build_bound<T: Primitive>(builder: &mut Builder<T>) {
    builder
        .instance_dict()
        .weak_references()
        .on_set_attribute(|this, name| {
            if let Ok(name) = name.as_str() {
                if T::REPLACEABLE.contains(&name) {
                    this.bound().methods.set(Methods::Replaced);
                }
            }
        })
        .method0(
            c"_get_loop",
            c"_get_loop($self, /)\n--\n\nThe running loop, to which it is bound from then on.",
            bind,
        )
        .attribute(c"_loop", c"The loop it is bound to, or None.", |this| {
            &this.bound().event_loop
        })
        .method0(
            c"__reduce__",
            c"__reduce__($self, /)\n--\n\nHow to copy it.",
            reduce,
        )
        .method1(
            c"__setstate__",
            c"__setstate__($self, state, /)\n--\n\nMake it a copy.",
            set_state,
        );
}

/// A copy is an object of the class whose attributes are set, as that of an object with a dict.
fn reduce<T: Primitive>(this: &Ref<T>) -> Result<Obj, Raised> {
    let py = this.py();
    let object = this.as_obj();
    let state = object
        .attr(pyo3::intern!(py, "__dict__"))?
        .method(pyo3::intern!(py, "copy"), &[])?;
    for name in T::STATE {
        let name = PyString::intern(py, name);
        if let Some(value) = object.attr_opt(&name)? {
            state.dict_set(Obj::name(&name), &value)?;
        }
    }
    if let Some(event_loop) = this.bound().event_loop.get() {
        state.dict_set(&Obj::str(py, "_loop")?, &event_loop)?;
    }
    let make = Obj::import(py, c"copyreg")?.attr(pyo3::intern!(py, "__newobj__"))?;
    let class = Obj::tuple(py, &[object.class()])?;
    Obj::tuple(py, &[make, class, state])
}

fn set_state<T: Primitive>(this: &Ref<T>, state: &Obj) -> Result<(), Raised> {
    let builtins = Obj::import(this.py(), c"builtins")?;
    let set = builtins.attr(pyo3::intern!(this.py(), "setattr"))?;
    let names = state.iter()?;
    while let Some(name) = names.next()? {
        if let Some(value) = state.dict_get(&name)? {
            set.call(&[this.as_obj(), &name, &value])?;
        }
    }
    Ok(())
}

/// `<module.Class object at 0x… [extra]>`.
pub(super) fn describe_state<T: Hot>(this: &Ref<T>, extra: &str) -> Result<String, Raised> {
    let py = this.py();
    let object = Obj::class_of::<pyo3::PyAny>(py);
    let plain = object
        .attr(pyo3::intern!(py, "__repr__"))?
        .call1(this.as_obj())?;
    let plain = plain.as_str()?;
    let inner = plain.strip_prefix('<').unwrap_or(plain);
    let inner = inner.strip_suffix('>').unwrap_or(inner);
    Ok(format!("<{inner} [{extra}]>"))
}
