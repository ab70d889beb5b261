//! Attributes in an object's own dict, where asyncio's classes have them.
//!
//! Native code keeps in fields what asyncio keeps in attributes. `vars()`, `copy`, `pickle` and the
//! hooks of subclasses work on the object's `__dict__`. A program that asks for the dict gets it
//! with all attributes that it has in asyncio, and from then on asyncio's own functions work on the
//! object. The first operation that finds no other reference to the dict takes the attributes back
//! into the fields.
//!
//! An object that was not initialized is in the same state, with nothing in its dict. `copy` and
//! `pickle` make such objects before they fill the dict. An object that lacks an attribute, or has
//! a value there that asyncio would not have put there, stays in this state.

use cpython::error::preserving;
use cpython::{Obj, Python, Raised, Ref};
use pyo3::intern;
use pyo3::types::PyString;

use super::primitive::{Methods, Primitive};

/// Wraps a method without arguments. For an object whose attributes are in its dict it calls
/// asyncio's function of this name.
macro_rules! method {
    ($name:literal, $function:expr) => {
        |this: &cpython::Ref<_>| -> Result<cpython::Obj, cpython::Raised> {
            if $crate::sync::in_dict::stays(this)? {
                return $crate::sync::in_dict::call(this, $name, &[]);
            }
            cpython::build::Answer::answer($function(this), this.py())
        }
    };
}

/// As `method!`, for a method with one argument.
macro_rules! method_with {
    ($name:literal, $function:expr) => {
        |this: &cpython::Ref<_>, argument: &cpython::Obj| -> Result<cpython::Obj, cpython::Raised> {
            if $crate::sync::in_dict::stays(this)? {
                return $crate::sync::in_dict::call(this, $name, &[argument]);
            }
            cpython::build::Answer::answer($function(this, argument), this.py())
        }
    };
}

/// Adds an attribute that is read and set in the object's fields or in its dict.
macro_rules! attribute {
    ($builder:expr, $name:literal, $doc:literal, $get:expr, $set:expr $(,)?) => {{
        const NAME: &std::ffi::CStr =
            match std::ffi::CStr::from_bytes_with_nul(concat!($name, "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => unreachable!(),
            };
        $builder.get_set(
            NAME,
            $doc,
            |this| -> Result<cpython::Obj, cpython::Raised> {
                if $crate::sync::in_dict::is_there(this) {
                    return $crate::sync::in_dict::get(this, $name);
                }
                cpython::build::Answer::answer($get(this), this.py())
            },
            |this, value| {
                if $crate::sync::in_dict::is_there(this) {
                    return $crate::sync::in_dict::set(this, $name, value);
                }
                $set(this, value)
            },
        )
    }};
}

pub(super) use {attribute, method, method_with};

/// Whether the object's attributes are in its dict.
#[inline(always)]
pub(super) fn is_there<T: Primitive>(this: &Ref<T>) -> bool {
    this.shared().methods() == Methods::InDict
}

/// Whether the object's attributes are in its dict and cannot be taken back, so that asyncio's
/// functions must do the work.
#[inline(always)]
pub(super) fn stays<T: Primitive>(this: &Ref<T>) -> Result<bool, Raised> {
    if is_there(this) {
        return take_back(this, false).map(|taken| !taken);
    }
    Ok(false)
}

/// Takes the attributes back into the fields, if all are there and nothing else refers to the dict;
/// with `shared`, even if something does. Returns whether it has.
#[cold]
fn take_back<T: Primitive>(this: &Ref<T>, shared: bool) -> Result<bool, Raised> {
    let py = this.py();
    let Some(dict) = this.own_dict() else {
        return Ok(false);
    };
    // One reference is the object's, one is ours.
    let possible = (shared || dict.refcount() == 2)
        && dict.is_exact(&Obj::class_of::<pyo3::types::PyDict>(py))
        && T::take(this, &dict)?;
    if !possible {
        return Ok(false);
    }
    let event_loop = find(&dict, "_loop")?;
    this.shared().set_event_loop(event_loop);
    for name in T::ATTRIBUTES.iter().chain(&["_loop"]) {
        remove(&dict, name)?;
    }
    this.shared().set_methods(Methods::Unknown);
    find_replaced(this, &dict)?;
    Ok(true)
}

/// Notes whether the dict has methods in the place of those whose work native code does.
fn find_replaced<T: Primitive>(this: &Ref<T>, dict: &Obj) -> Result<(), Raised> {
    for name in T::REPLACEABLE {
        if find(dict, name)?.is_some() {
            this.shared().set_methods(Methods::Replaced);
        }
    }
    Ok(())
}

/// The value that the dict has under the name.
pub(super) fn find(dict: &Obj, name: &str) -> Result<Option<Obj>, Raised> {
    dict.dict_get(Obj::name(&PyString::intern(dict.py(), name)))
}

/// A flag that the dict has under the name.
pub(super) fn find_bool(dict: &Obj, name: &str) -> Result<Option<bool>, Raised> {
    let py = dict.py();
    let value = find(dict, name)?;
    Ok(value.and_then(|value| {
        let is_bool = value.is_exact(&Obj::class_of::<pyo3::types::PyBool>(py));
        is_bool.then(|| value.is_true_object())
    }))
}

/// A count that the dict has under the name.
pub(super) fn find_count(dict: &Obj, name: &str) -> Result<Option<i64>, Raised> {
    let value = find(dict, name)?;
    Ok(value.and_then(|value| value.small_int()))
}

fn remove(dict: &Obj, name: &str) -> Result<(), Raised> {
    let key = PyString::intern(dict.py(), name);
    if dict.dict_get(Obj::name(&key))?.is_some() {
        dict.dict_del(Obj::name(&key))?;
    }
    Ok(())
}

/// Moves all attributes into the object's `__dict__`, which the program asks for.
pub(super) fn show<T: Primitive>(this: &Ref<T>) -> Result<(), Raised> {
    if is_there(this) {
        return Ok(());
    }
    let py = this.py();
    let attributes = T::give(this)?;
    let dict = this.make_own_dict()?;
    // asyncio's attributes come first, in the order in which `__init__()` sets them.
    let own = dict.method(intern!(py, "copy"), &[])?;
    dict.method(intern!(py, "clear"), &[])?;
    for (name, value) in &attributes {
        dict.dict_set(Obj::name(&PyString::intern(py, name)), value)?;
    }
    if let Some(event_loop) = this.shared().event_loop() {
        dict.dict_set(Obj::name(intern!(py, "_loop")), &event_loop)?;
    }
    dict.method(intern!(py, "update"), &[&own])?;
    this.shared().set_methods(Methods::InDict);
    Ok(())
}

/// Notes that the program replaces the object's `__dict__`, and with it all attributes.
pub(super) fn replace<T: Primitive>(this: &Ref<T>) -> Result<(), Raised> {
    this.shared().set_methods(Methods::InDict);
    Ok(())
}

/// Whether asyncio's `__init__()` must initialize the object, because its dict has such attributes.
/// If not, native code does all from here on.
pub(super) fn initializes<T: Primitive>(this: &Ref<T>) -> Result<bool, Raised> {
    if !is_there(this) {
        return Ok(false);
    }
    if let Some(dict) = this.own_dict() {
        for name in T::ATTRIBUTES {
            if find(&dict, name)?.is_some() {
                return Ok(true);
            }
        }
        this.shared().set_methods(Methods::Unknown);
        find_replaced(this, &dict)?;
    } else {
        this.shared().set_methods(Methods::Unknown);
    }
    Ok(false)
}

/// Takes the attributes into the fields, so that native code can go on with what it has begun
/// although the program has asked for the dict meanwhile. Returns whether they must go back into
/// the dict afterwards.
#[inline(always)]
pub(super) fn to_fields<T: Primitive>(this: &Ref<T>) -> bool {
    is_there(this) && move_to_fields(this)
}

#[cold]
fn move_to_fields<T: Primitive>(this: &Ref<T>) -> bool {
    let py = this.py();
    // One reference is the object's, one is ours.
    let is_shared = this.own_dict().is_some_and(|dict| dict.refcount() > 2);
    let taken = preserving(py, || match take_back(this, true) {
        Ok(taken) => taken,
        Err(raised) => {
            drop(raised.take(py));
            false
        }
    });
    taken && is_shared
}

/// Runs `body` with the attributes in the fields, as after [`to_fields`].
pub(super) fn in_fields<T: Primitive, R>(
    this: &Ref<T>,
    body: impl FnOnce() -> Result<R, Raised>,
) -> Result<R, Raised> {
    let was_in_dict = to_fields(this);
    let outcome = body();
    match was_in_dict {
        true => to_dict(this, outcome),
        false => outcome,
    }
}

/// Puts the attributes into the dict again, to which the program still refers.
#[cold]
pub(super) fn to_dict<T: Primitive, R>(
    this: &Ref<T>,
    outcome: Result<R, Raised>,
) -> Result<R, Raised> {
    let outcome = outcome.map_err(|raised| raised.take(this.py()));
    show(this)?;
    outcome.map_err(Raised::raise)
}

/// An attribute that is in the dict.
#[cold]
pub(super) fn get<T: Primitive>(this: &Ref<T>, name: &str) -> Result<Obj, Raised> {
    if let Some(dict) = this.own_dict() {
        if let Some(value) = find(&dict, name)? {
            return Ok(value);
        }
    }
    if name == "_loop" {
        return Ok(Obj::none(this.py()));
    }
    Err(missing(this, name))
}

/// Sets or deletes an attribute that is in the dict.
#[cold]
pub(super) fn set<T: Primitive>(
    this: &Ref<T>,
    name: &str,
    value: Option<&Obj>,
) -> Result<(), Raised> {
    let dict = this.make_own_dict()?;
    let key = PyString::intern(this.py(), name);
    if let Some(value) = value {
        return dict.dict_set(Obj::name(&key), value);
    }
    match dict.dict_get(Obj::name(&key))? {
        Some(_) => dict.dict_del(Obj::name(&key)),
        None => Err(missing(this, name)),
    }
}

/// The AttributeError of an attribute that the object does not have.
#[cold]
pub(super) fn missing<T: Primitive>(this: &Ref<T>, name: &str) -> Raised {
    let py = this.py();
    let class = match this.as_obj().class().attr(intern!(py, "__name__")) {
        Ok(class) => class,
        Err(raised) => return raised,
    };
    match class.to_string() {
        Ok(class) => {
            let text = format!("'{class}' object has no attribute '{name}'");
            let error = Obj::class_of::<pyo3::exceptions::PyAttributeError>(py);
            Raised::with_class(&error, &text)
        }
        Err(raised) => raised,
    }
}

/// Calls asyncio's own function on the object. For a property that is the function that gets its
/// value.
#[cold]
pub(super) fn call<T: Primitive>(
    this: &Ref<T>,
    name: &str,
    arguments: &[&Obj],
) -> Result<Obj, Raised> {
    let py = this.py();
    let class = this.within(|this| T::asyncio_class(this, name).clone());
    let theirs = class.attr_opt(&PyString::intern(py, name))?;
    let theirs = theirs.ok_or_else(|| missing(this, name))?;
    let theirs = match theirs.attr_opt(intern!(py, "fget"))? {
        Some(getter) => getter,
        None => theirs,
    };
    let function = for_class(py, &theirs, &Ref::<T>::class(py))?;
    let mut all = vec![this.as_obj()];
    all.extend(arguments);
    function.call(&all)
}

/// The function with our class for its `super()`.
fn for_class(py: Python<'_>, function: &Obj, class: &Obj) -> Result<Obj, Raised> {
    let closure = match function.attr_opt(intern!(py, "__closure__"))? {
        Some(closure) if closure.tuple_len() == 1 => closure,
        _ => return Ok(function.clone()),
    };
    let Some(cell) = closure.tuple_item(0) else {
        return Ok(function.clone());
    };
    let cell = cell.class().call1(class)?;
    function.class().call(&[
        &function.attr(intern!(py, "__code__"))?,
        &function.attr(intern!(py, "__globals__"))?,
        &function.attr(intern!(py, "__name__"))?,
        &function.attr(intern!(py, "__defaults__"))?,
        &Obj::tuple(py, &[cell])?,
    ])
}
