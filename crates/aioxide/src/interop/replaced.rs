//! Whether the program has replaced a method, function or class of asyncio's.
//!
//! asyncio calls methods by name and finds classes and functions in its modules, so a program may
//! put its own in their place: in a subclass, on an object or in a module. Native code calls none
//! of them by name, so it asks here first, and calls the replacement as asyncio would.
//!
//! - In a module: [`replacement`], which looks at the namespace only after it has changed;
//!   [`ReplaceableClass`], a class of which asyncio makes objects.
//! - In a subclass: [`is_replaced_in_class`]. A replacement in a class that was already looked at
//!   goes unnoticed.
//! - On an object: each type has a function called when an attribute is set on one of its objects
//!   (`Builder::on_set_attribute`), which compares the name with the type's table.

use cpython::watch::{SeenVersion, WatchedDict};
use cpython::{Global, Hot, Obj, Python, Raised, Ref};
use pyo3::types::PyString;

use super::imports::{AsyncioImports, asyncio};

/// A class in a module of asyncio's of which asyncio makes objects. aioxide makes native ones
/// instead.
pub(crate) struct ReplaceableClass {
    name: &'static str,
    namespace: fn(&'static AsyncioImports) -> &'static WatchedDict,
    original: fn(&'static AsyncioImports) -> &'static Global,
    /// The namespace as it was when nothing was replaced.
    seen: SeenVersion,
}

/// `asyncio.futures.Future`, of which `create_future()` makes an object.
pub(crate) static FUTURE: ReplaceableClass = ReplaceableClass {
    name: "Future",
    namespace: |imports| &imports.futures_namespace,
    original: |imports| &imports.c_future,
    seen: SeenVersion::new(),
};

/// `asyncio.tasks.Task`, of which `create_task()` makes an object.
pub(crate) static TASK: ReplaceableClass = ReplaceableClass {
    name: "Task",
    namespace: |imports| &imports.tasks_namespace,
    original: |imports| &imports.c_task,
    seen: SeenVersion::new(),
};

impl ReplaceableClass {
    /// The object that the program has put in the place of the class: neither asyncio's own class
    /// nor `T`.
    #[inline(always)]
    pub(crate) fn replacement<T: Hot>(
        &'static self,
        py: Python<'_>,
    ) -> Result<Option<Obj>, Raised> {
        if self.seen.is_current(py) {
            return Ok(None);
        }
        self.look(py, &Ref::<T>::class(py))
    }

    /// Whether the program has put something in the place of the class. A failing look-up counts as
    /// a replacement: asyncio's code, which is called then, fails in the same way.
    #[inline(always)]
    pub(crate) fn is_replaced<T: Hot>(&'static self, py: Python<'_>) -> bool {
        !self.seen.is_current(py) && self.is_found_replaced(py, &Ref::<T>::class(py))
    }

    #[cold]
    fn is_found_replaced(&'static self, py: Python<'_>, native: &Obj) -> bool {
        match self.look(py, native) {
            Ok(found) => found.is_some(),
            Err(raised) => {
                drop(raised.take(py));
                true
            }
        }
    }

    #[inline(never)]
    fn look(&'static self, py: Python<'_>, native: &Obj) -> Result<Option<Obj>, Raised> {
        let imports = asyncio(py);
        let name = PyString::intern(py, self.name);
        let known = [(self.original)(imports).get(py), native];
        let names = [(Obj::name(&name), &known[..])];
        replacement((self.namespace)(imports), &self.seen, &names)
    }
}

/// The object that the program has put in the place of one of these names of a module: none of the
/// objects that are known under that name. If there is none, this remembers the version of the
/// namespace.
pub(crate) fn replacement(
    namespace: &WatchedDict,
    seen: &SeenVersion,
    names: &[(&Obj, &[&Obj])],
) -> Result<Option<Obj>, Raised> {
    let Some((first, _)) = names.first() else {
        return Ok(None);
    };
    let py = first.py();
    namespace.look(py, seen, |dict| {
        for (name, known) in names {
            let found = dict.dict_get(name)?;
            if let Some(found) = found.filter(|found| !known.iter().any(|known| found.is(known))) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    })
}

/// Whether a class has overridden one of these names of its base `known`. A class whose attributes
/// cannot be read counts as one that has.
pub(crate) fn is_replaced_in_class(class: &Obj, known: &Obj, names: &[&str]) -> bool {
    let py = class.py();
    let differs = |name: &&str| -> Result<bool, Raised> {
        let name = PyString::intern(py, name);
        Ok(match (class.attr_opt(&name)?, known.attr_opt(&name)?) {
            (Some(found), Some(known)) => !found.is(&known),
            // Some versions lack the name.
            (None, None) => false,
            _ => true,
        })
    };
    names.iter().any(|name| {
        differs(name).unwrap_or_else(|raised| {
            drop(raised.take(py));
            true
        })
    })
}
