//! What all locks and queues do in the same way: they bind themselves to a loop, make its Futures
//! to wait on, and have attributes, copies and texts like objects of a class made in Python.

use cpython::build::Builder;
use cpython::{Hot, Obj, Raised, Ref};

use super::copies::build_copies;
use super::in_dict;
use super::primitive::{Methods, Primitive};
use crate::futures::create_future;
use crate::interop::current::{known_loop, running_loop};

/// `_get_loop()`: the running loop, to which the object is bound from the first time on.
///
/// # Errors
/// RuntimeError if the object is bound to another loop.
#[inline]
pub(super) fn bind<T: Primitive>(this: &Ref<T>) -> Result<Obj, Raised> {
    match known_loop(this.py()) {
        Some(running) if this.shared().is_bound_to(&running) => Ok(running),
        _ => bind_for_the_first_time(this),
    }
}

#[inline(never)]
fn bind_for_the_first_time<T: Primitive>(this: &Ref<T>) -> Result<Obj, Raised> {
    let py = this.py();
    let running = running_loop(py)?.unwrap_or_else(|| Obj::none(py));
    let shared = this.shared();
    if shared.is_bound_to(&running) {
        return Ok(running);
    }
    if shared.event_loop().is_none() {
        shared.set_event_loop(Some(running.clone()));
        return Ok(running);
    }
    Err(bound_elsewhere(this.as_obj()))
}

/// The RuntimeError about an object that another loop uses.
#[cold]
pub(super) fn bound_elsewhere(object: &Obj) -> Raised {
    match object.repr().and_then(|repr| repr.to_string()) {
        Ok(repr) => {
            let text = format!("{repr} is bound to a different event loop");
            Raised::runtime_error(object.py(), &text)
        }
        Err(raised) => raised,
    }
}

/// A new Future of the running loop, to wait on.
#[inline]
pub(super) fn new_waiter<T: Primitive>(this: &Ref<T>) -> Result<Obj, Raised> {
    let running = if T::is_native(this) {
        bind(this)?
    } else {
        let name = pyo3::intern!(this.py(), "_get_loop");
        this.as_obj().method(name, &[])?
    };
    create_future(&running)
}

/// Adds what all classes have: the loop, attributes of an object's own, weak references, copies.
pub(super) fn build_shared<T: Primitive>(builder: &mut Builder<T>) {
    builder
        .watched_dict(in_dict::show, in_dict::replace)
        .weak_references()
        .on_set_attribute(|this, name| {
            if let Ok(name) = name.as_str() {
                if T::REPLACEABLE.contains(&name) && !in_dict::is_there(this) {
                    this.shared().set_methods(Methods::Replaced);
                }
            }
        })
        .method0(
            c"_get_loop",
            c"_get_loop($self, /)\n--\n\nThe running loop, to which the object is bound from then on.",
            in_dict::method!("_get_loop", bind),
        );
    in_dict::attribute!(
        builder,
        "_loop",
        c"The loop that the object is bound to, or None.",
        |this: &Ref<T>| this.shared().event_loop(),
        |this: &Ref<T>, value: Option<&Obj>| {
            this.shared().set_event_loop(value.cloned());
            Ok(())
        },
    );
    build_copies(builder);
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
