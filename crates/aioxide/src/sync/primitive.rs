//! Any lock or queue: the fields that all have, and the trait that each class implements.

use std::cell::Cell;

use cpython::{GcFields, Hot, NoParent, Obj, Raised, Ref, Slot, Visit};
use pyo3::types::PyString;

/// The attributes of an object, in the order in which asyncio sets them.
pub(super) type Attributes = Vec<(&'static str, Obj)>;

/// Whether a program has replaced methods, in a subclass or on the object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Methods {
    /// Nothing is known yet.
    Unknown,
    /// None is replaced: native code does their work without calling them.
    Native,
    /// One is replaced: each must be called by its name.
    Replaced,
    /// The attributes are in the object's dict: asyncio's own functions work on them.
    InDict,
}

/// The fields that all have.
pub(super) struct PrimitiveFields {
    event_loop: Slot,
    methods: Cell<Methods>,
}

impl Default for PrimitiveFields {
    fn default() -> PrimitiveFields {
        PrimitiveFields::with(Methods::Unknown)
    }
}

impl PrimitiveFields {
    /// The fields of an object whose `__init__` has not run.
    pub(super) fn uninitialized() -> PrimitiveFields {
        PrimitiveFields::with(Methods::InDict)
    }

    fn with(methods: Methods) -> PrimitiveFields {
        PrimitiveFields {
            event_loop: Slot::default(),
            methods: Cell::new(methods),
        }
    }

    #[inline(always)]
    pub(super) fn methods(&self) -> Methods {
        self.methods.get()
    }

    pub(super) fn set_methods(&self, methods: Methods) {
        self.methods.set(methods);
    }

    /// The loop that the object is bound to.
    pub(super) fn event_loop(&self) -> Option<Obj> {
        self.event_loop.get()
    }

    /// Whether the object is bound to this loop.
    #[inline]
    pub(super) fn is_bound_to(&self, event_loop: &Obj) -> bool {
        self.event_loop.holds(event_loop)
    }

    /// Binds the object to a loop, or to none.
    pub(super) fn set_event_loop(&self, event_loop: Option<Obj>) {
        self.event_loop.set(event_loop.and_then(Obj::not_none));
    }
}

impl GcFields for PrimitiveFields {
    fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.event_loop);
    }
    fn let_go(&self) {
        self.event_loop.set(None);
    }
}

/// A lock or queue.
pub(super) trait Primitive: Hot<Parent = NoParent> {
    /// The methods whose work native code does without calling them, unless they are replaced.
    const REPLACEABLE: &'static [&'static str];
    /// The attributes that asyncio's objects have in their dict, but for the loop.
    const ATTRIBUTES: &'static [&'static str];

    /// The fields that all have.
    fn shared(&self) -> &PrimitiveFields;

    /// asyncio's class that has the function of this name.
    fn asyncio_class<'a>(this: &'a Ref<Self>, name: &str) -> &'a Obj;

    /// The attributes that the fields hold.
    fn give(this: &Ref<Self>) -> Result<Attributes, Raised>;

    /// Takes the attributes from a dict into the fields. Returns false, and does nothing, if one is
    /// missing or is nothing that asyncio would have put there.
    fn take(this: &Ref<Self>, dict: &Obj) -> Result<bool, Raised>;

    /// Whether it is known that no method is replaced. This asks nothing, so false may also mean
    /// that nothing is known.
    #[inline]
    fn is_known_native(&self) -> bool {
        self.shared().methods.get() == Methods::Native
    }

    /// Whether no method is replaced.
    #[inline]
    fn is_native(this: &Ref<Self>) -> bool {
        match this.shared().methods.get() {
            Methods::Native => true,
            Methods::Replaced | Methods::InDict => false,
            Methods::Unknown => look(this),
        }
    }
}

#[inline(never)]
fn look<T: Primitive>(this: &Ref<T>) -> bool {
    let native = Ref::<T>::is_exact(this.as_obj()) || has_own_methods(this, T::REPLACEABLE);
    this.shared().methods.set(if native {
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
            // Not every version has all of these names.
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
