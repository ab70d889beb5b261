//! Copying and pickling objects as those of asyncio's classes, which are plain Python classes and
//! define no methods for it.
//!
//! `copy` and `pickle` ask a class for `__reduce_ex__`, `__reduce__` and `__getstate__`. `object`'s
//! methods refuse objects of a type made in C. So our classes have these three methods: they call
//! those of another base of a subclass, and without such a base do what `object`'s do.

use cpython::build::Builder;
use cpython::{Obj, Raised, Ref};
use pyo3::intern;
use pyo3::types::PyString;

use super::in_dict::show;
use super::primitive::Primitive;
use crate::interop::copies_module;

/// Adds the three methods.
pub(super) fn build_copies<T: Primitive>(builder: &mut Builder<T>) {
    builder
        .method0(
            c"__getstate__",
            c"__getstate__($self, /)\n--\n\nHelper for pickle.",
            |this| {
                show(this)?;
                behind(this)?.method(intern!(this.py(), "__getstate__"), &[])
            },
        )
        .method0(
            c"__reduce__",
            c"__reduce__($self, /)\n--\n\nHelper for pickle.",
            |this| match others(this, "__reduce__")? {
                Some(others) => others.call0(),
                None => reduce(this, 0),
            },
        )
        .method1(
            c"__reduce_ex__",
            c"__reduce_ex__($self, protocol, /)\n--\n\nHelper for pickle.",
            reduce_ex,
        );
}

/// `super(Class, self)`.
fn behind<T: Primitive>(this: &Ref<T>) -> Result<Obj, Raised> {
    let py = this.py();
    Obj::class_of::<pyo3::types::PySuper>(py).call(&[&Ref::<T>::class(py), this.as_obj()])
}

/// The attribute of this name of a base behind the native class, other than `object`.
fn others<T: Primitive>(this: &Ref<T>, name: &str) -> Result<Option<Obj>, Raised> {
    let py = this.py();
    let name = PyString::intern(py, name);
    let order = this.as_obj().class().attr(intern!(py, "__mro__"))?;
    let own = Ref::<T>::class(py);
    let object = Obj::class_of::<pyo3::PyAny>(py);
    let mut is_behind = false;
    for index in 0..order.tuple_len() {
        let Some(base) = order.tuple_item(index) else {
            break;
        };
        if is_behind && !base.is(&object) {
            let namespace = base.attr(intern!(py, "__dict__"))?;
            let has = namespace.method(intern!(py, "__contains__"), &[Obj::name(&name)])?;
            if has.truth()? {
                return behind(this)?.attr(&name).map(Some);
            }
        }
        is_behind = is_behind || base.is(&own);
    }
    Ok(None)
}

fn reduce_ex<T: Primitive>(this: &Ref<T>, protocol: &Obj) -> Result<Obj, Raised> {
    let py = this.py();
    if let Some(others) = others(this, "__reduce_ex__")? {
        return others.call1(protocol);
    }
    let name = intern!(py, "__reduce__");
    let found = this.as_obj().class().attr(name)?;
    if !found.is(&Ref::<T>::class(py).attr(name)?) {
        return this.as_obj().method(name, &[]);
    }
    if let Some(others) = others(this, "__reduce__")? {
        return others.call0();
    }
    reduce(this, protocol.to_i64()?)
}

/// The result that `object.__reduce_ex__()` has for an object of a class made in Python.
fn reduce<T: Primitive>(this: &Ref<T>, protocol: i64) -> Result<Obj, Raised> {
    let py = this.py();
    let copies = copies_module(py)?;
    let arguments = [
        &Ref::<T>::class(py),
        this.as_obj(),
        &Obj::int(py, protocol)?,
    ];
    copies.method(intern!(py, "reduce"), &arguments)
}
