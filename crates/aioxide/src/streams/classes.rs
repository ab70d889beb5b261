//! The classes that programs see.
//!
//! Each is made in Python of a native class and, second among the bases, of asyncio's own: so it
//! passes isinstance() either way, and what is not native is asyncio's code of the running version.
//! That code sees the native fields as attributes. A subclass, or an instance, that replaces a
//! method which others of the class call has all of asyncio's code: what is native leaves it to
//! that.

use cpython::{Global, Obj, Python, Raised};
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

/// A class, and what its short ways rely on.
pub(super) struct Class {
    class: PyOnceLock<Global>,
    /// Methods and fields that asyncio's methods of the class ask for by name, native ones not.
    inner: &'static [&'static str],
    /// Methods that asyncio's other classes call, native ones not.
    outer: &'static [&'static str],
}

/// How much of a class an object's own class has replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Replaced {
    Nothing,
    /// A method that native code elsewhere would not call.
    Outer,
    /// A method or a field that native methods would not ask.
    Inner,
}

impl Class {
    pub(super) const fn new(
        inner: &'static [&'static str],
        outer: &'static [&'static str],
    ) -> Class {
        Class {
            class: PyOnceLock::new(),
            inner,
            outer,
        }
    }

    /// Keeps the class; the first one stays.
    pub(super) fn set(&self, class: &Obj) {
        let _ = self.class.set(class.py(), Global::new(class.clone()));
    }

    /// What the object's class has replaced.
    pub(super) fn replaced(&self, object: &Obj) -> Result<Replaced, Raised> {
        let py = object.py();
        let Some(class) = self.class.get(py) else {
            return Ok(Replaced::Inner);
        };
        let class = class.get(py);
        if object.is_exact(class) {
            return Ok(Replaced::Nothing);
        }
        let own = object.class();
        if differ(py, &own, class, self.inner)? {
            return Ok(Replaced::Inner);
        }
        Ok(if differ(py, &own, class, self.outer)? {
            Replaced::Outer
        } else {
            Replaced::Nothing
        })
    }

    /// What an attribute of this name, set on an instance, replaces.
    pub(super) fn replaced_by(&self, name: &Obj) -> Replaced {
        let Ok(name) = name.as_str() else {
            return Replaced::Inner;
        };
        // The fields have setters.
        let is_method = |list: &[&str]| list.contains(&name) && !FIELDS.contains(&name);
        if is_method(self.inner) {
            Replaced::Inner
        } else if is_method(self.outer) {
            Replaced::Outer
        } else {
            Replaced::Nothing
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

fn differ(py: Python<'_>, own: &Obj, class: &Obj, names: &[&str]) -> Result<bool, Raised> {
    for name in names {
        let name = PyString::intern(py, name);
        if !own.attr(&name)?.is(&class.attr(&name)?) {
            return Ok(true);
        }
    }
    Ok(false)
}
