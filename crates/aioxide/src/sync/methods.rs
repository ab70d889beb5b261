//! Building a class with its coroutine functions, each of which makes a [`SyncCall`] of an
//! operation.

use std::marker::PhantomData;

use cpython::build::build as build_type;
use cpython::callable::{callable, quick_method};
use cpython::{Args, Hot, Obj, Python, Raised, Ref};
use pyo3::types::PyString;

use super::call::{Op, SyncCall};
use super::primitive::Primitive;
use crate::coroutines::put_method;

/// The object that a method without other arguments is called on.
#[inline]
pub(super) fn receiver<'a, T: Hot>(
    py: Python<'_>,
    args: &Args<'a>,
    function: &str,
) -> Result<&'a Ref<T>, Raised> {
    if let Some([this]) = args.only_positional() {
        if let Some(this) = Ref::<T>::of_any(this) {
            return Ok(this);
        }
    }
    args.bind_function(function, &["self"], 1)?;
    self_among(py, args, function)
}

/// The object that `__aexit__` is called on.
#[inline]
pub(super) fn exiting<'a, T: Hot>(
    py: Python<'_>,
    args: &Args<'a>,
    function: &str,
) -> Result<&'a Ref<T>, Raised> {
    if let Some([this, _, _, _]) = args.only_positional() {
        if let Some(this) = Ref::<T>::of_any(this) {
            return Ok(this);
        }
    }
    args.bind_function(function, &["self", "exc_type", "exc", "tb"], 4)?;
    self_among(py, args, function)
}

/// The argument `self`, by its position or its name.
fn self_among<'a, T: Hot>(
    py: Python<'_>,
    args: &Args<'a>,
    function: &str,
) -> Result<&'a Ref<T>, Raised> {
    let given = args.positional.first().or_else(|| args.named("self"));
    match given.and_then(Ref::<T>::of_any) {
        Some(this) => Ok(this),
        None => Err(wrong_object::<T>(py, given, function)),
    }
}

/// The TypeError of a function that is called on an object of another class.
#[cold]
pub(super) fn wrong_object<T: Hot>(py: Python<'_>, given: Option<&Obj>, function: &str) -> Raised {
    let given = given.cloned().unwrap_or_else(|| Obj::none(py)).class();
    let text = (|| {
        let name = pyo3::intern!(py, "__name__");
        let (wanted, given) = (Ref::<T>::class(py).attr(name)?, given.attr(name)?);
        Ok(format!(
            "{function}() doesn't apply to a '{}' object, only to '{}' objects",
            given.as_str()?,
            wanted.as_str()?
        ))
    })();
    match text {
        Ok(text) => Raised::type_error(py, &text),
        Err(raised) => raised,
    }
}

/// One of our classes, and asyncio's class of the same name.
pub(super) struct ClassPair<'py, T> {
    py: Python<'py>,
    ours: Obj,
    theirs: Obj,
    class: PhantomData<T>,
}

impl<'py, T: Primitive> ClassPair<'py, T> {
    /// Builds our class. asyncio's is in the module.
    pub(super) fn build(py: Python<'py>, module: &Obj) -> Result<ClassPair<'py, T>, Raised> {
        let ours = build_type::<T>(py, None, 0)?;
        // CPython's messages name a class made in C with its module, unless its name was set.
        let name = ours.attr(pyo3::intern!(py, "__name__"))?;
        ours.set_attr(pyo3::intern!(py, "__name__"), &name)?;
        Ok(ClassPair {
            py,
            theirs: module.attr(&PyString::intern(py, name.as_str()?))?,
            ours,
            class: PhantomData,
        })
    }

    /// Adds the coroutine function of an operation without arguments.
    pub(super) fn add_plain<O: Op<Target = T>>(&self, doc: &str) -> Result<(), Raised> {
        self.add_quick(
            O::NAME,
            doc,
            |this: &Ref<T>, _: &[Obj; 0]| SyncCall::create::<O>(this),
            |py, args| SyncCall::create::<O>(receiver(py, args, O::QUALIFIED_NAME)?),
        )
    }

    /// Adds an `__aexit__`.
    pub(super) fn add_exit<O: Op<Target = T>>(&self, doc: &str) -> Result<(), Raised> {
        self.add_quick(
            O::NAME,
            doc,
            |this: &Ref<T>, _: &[Obj; 3]| SyncCall::create::<O>(this),
            |py, args| SyncCall::create::<O>(exiting(py, args, O::QUALIFIED_NAME)?),
        )
    }

    /// Adds a coroutine function that takes any arguments.
    pub(super) fn add<F>(&self, name: &str, doc: &str, function: F) -> Result<(), Raised>
    where
        F: Fn(Python<'_>, &Args<'_>) -> Result<Ref<SyncCall>, Raised> + Copy + 'static,
    {
        self.put(name, &callable(self.py, name, doc, function)?)
    }

    /// As `add`, with a quicker way for calls with exactly `COUNT` positional arguments.
    pub(super) fn add_quick<Q, F, const COUNT: usize>(
        &self,
        name: &str,
        doc: &str,
        quick: Q,
        function: F,
    ) -> Result<(), Raised>
    where
        Q: Fn(&Ref<T>, &[Obj; COUNT]) -> Result<Ref<SyncCall>, Raised> + Copy + 'static,
        F: Fn(Python<'_>, &Args<'_>) -> Result<Ref<SyncCall>, Raised> + Copy + 'static,
    {
        let made = quick_method::<T, Q, F, _, COUNT>(self.py, name, doc, quick, function)?;
        self.put(name, &made)
    }

    fn put(&self, name: &str, made: &Obj) -> Result<(), Raised> {
        put_method(&self.ours, &self.theirs, name, made)
    }

    /// Puts asyncio's own function into our class.
    pub(super) fn take_over(&self, name: &str) -> Result<(), Raised> {
        let name = PyString::intern(self.py, name);
        self.ours.set_attr(&name, &self.theirs.attr(&name)?)
    }

    /// Puts a function into our class under a name that asyncio's class does not have.
    pub(super) fn put_own(&self, name: &str, made: &Obj) -> Result<(), Raised> {
        self.ours.set_attr(&PyString::intern(self.py, name), made)
    }
}

/// Makes a class that differs from its native base only by its name. The base does the work.
pub(super) fn derive<T: Hot>(
    py: Python<'_>,
    name: &str,
    module: &str,
    doc: &str,
) -> Result<Obj, Raised> {
    let namespace = Obj::dict(py)?;
    for (key, value) in [("__module__", module), ("__doc__", doc)] {
        namespace.dict_set(&Obj::str(py, key)?, &Obj::str(py, value)?)?;
    }
    let bases = Obj::tuple(py, &[Ref::<T>::class(py)])?;
    Obj::class_of::<pyo3::types::PyType>(py).call(&[&Obj::str(py, name)?, &bases, &namespace])
}
