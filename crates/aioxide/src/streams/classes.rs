//! The classes that programs see.
//!
//! Python makes each of them from a native class and, as the second base, from asyncio's own. So
//! its objects pass isinstance() either way, and a method that is not native is asyncio's of the
//! running version. asyncio's code sees the native fields as attributes. If a subclass or an
//! instance replaces a method that other methods of the class call, native methods leave all work
//! to asyncio's.

use cpython::{Global, Obj};
use pyo3::sync::PyOnceLock;

use crate::interop::replaced::is_replaced_in_class;

/// A class, and the names that its short ways rely on.
pub(super) struct StreamClass {
    class: PyOnceLock<Global>,
    /// Methods and fields that asyncio's methods of the class look up by name and native ones do
    /// not.
    inner: &'static [&'static str],
    /// Methods that asyncio's other classes call and native ones do not.
    outer: &'static [&'static str],
}

/// The part of a class that an object's own class, or the object, has replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplacedPart {
    Nothing,
    /// A method that native code of other classes does not call.
    Outer,
    /// A method or a field that native methods of this class do not look up.
    Inner,
}

impl StreamClass {
    pub(super) const fn new(
        inner: &'static [&'static str],
        outer: &'static [&'static str],
    ) -> StreamClass {
        StreamClass {
            class: PyOnceLock::new(),
            inner,
            outer,
        }
    }

    /// Keeps the class; the first one stays.
    pub(super) fn set(&self, class: &Obj) {
        let _ = self.class.set(class.py(), Global::new(class.clone()));
    }

    /// Whether the object is of exactly this class.
    pub(super) fn is_of(&self, object: &Obj) -> bool {
        let py = object.py();
        let class = self.class.get(py);
        class.is_some_and(|class| object.is_exact(class.get(py)))
    }

    /// The part that the object's class has replaced.
    pub(super) fn replaced(&self, object: &Obj) -> ReplacedPart {
        let py = object.py();
        let Some(class) = self.class.get(py) else {
            return ReplacedPart::Inner;
        };
        let class = class.get(py);
        if object.is_exact(class) {
            return ReplacedPart::Nothing;
        }
        let own = object.class();
        if is_replaced_in_class(&own, class, self.inner) {
            ReplacedPart::Inner
        } else if is_replaced_in_class(&own, class, self.outer) {
            ReplacedPart::Outer
        } else {
            ReplacedPart::Nothing
        }
    }

    /// The part that an attribute of this name replaces when it is set on an instance.
    pub(super) fn replaced_by(&self, name: &Obj) -> ReplacedPart {
        let Ok(name) = name.as_str() else {
            return ReplacedPart::Inner;
        };
        // Setting a field replaces no method: fields have setters.
        let is_method = |list: &[&str]| list.contains(&name) && !FIELDS.contains(&name);
        if is_method(self.inner) {
            ReplacedPart::Inner
        } else if is_method(self.outer) {
            ReplacedPart::Outer
        } else {
            ReplacedPart::Nothing
        }
    }
}

/// Fields of all classes: attributes that can be set without replacing a method.
const FIELDS: &[&str] = &[
    "_buffer",
    "_limit",
    "_loop",
    "_eof",
    "_waiter",
    "_exception",
    "_transport",
    "_paused",
    "_stream_reader_wr",
    "_drain_waiters",
    "_connection_lost",
];
