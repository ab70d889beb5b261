//! `contextvars` contexts.
//!
//! - [`fields`]: where contexts and thread states keep what the rest reads and writes.
//! - [`pool`]: contexts that are used again.

mod fields;
mod pool;

use pyo3::{Python, ffi};

use crate::error::Raised;
use crate::obj::{Obj, done};
use crate::slot::Slot;

pub use fields::verify;
pub use pool::{Bound, Pool};

/// A copy of the current context, as `contextvars.copy_context()`.
#[inline]
pub fn copy_current(_py: Python<'_>) -> Result<Obj, Raised> {
    // SAFETY: the token proves that we are attached; returns a new reference or null.
    unsafe { Obj::from_owned(ffi::PyContext_CopyCurrent()) }
}

/// A copy of a context, as its `copy()`. Raises TypeError if it is none.
#[inline]
pub fn copy(context: &Obj) -> Result<Obj, Raised> {
    // SAFETY: the object is alive; CPython checks that it is a context, and returns a new
    // reference or null.
    unsafe { Obj::from_owned(ffi::PyContext_Copy(context.as_ptr())) }
}

/// Whether the object is a context.
#[inline]
pub fn is_context(object: &Obj) -> bool {
    // SAFETY: the object is alive; only its type is compared.
    unsafe { ffi::PyContext_CheckExact(object.as_ptr()) != 0 }
}

/// Enters the context. Raises RuntimeError if it is entered already, TypeError if it is none.
#[inline]
pub fn enter(context: &Obj) -> Result<(), Raised> {
    if !is_context(context) {
        return Err(not_a_context(context));
    }
    if let Some(switch) = fields::switch() {
        // SAFETY: attached, since there is an Obj; it was checked to be a context.
        if unsafe { switch.enter(context.as_ptr()) }.is_some() {
            return Ok(());
        }
    }
    // SAFETY: the object is alive, and was checked to be a context.
    done(unsafe { ffi::PyContext_Enter(context.as_ptr()) })
}

/// Leaves the context, which must be the current one. An exception that is set stays set.
#[inline]
pub fn exit(context: &Obj) -> Result<(), Raised> {
    if let Some(switch) = fields::switch() {
        // SAFETY: attached, since there is an Obj; only a current context is looked into.
        if unsafe { switch.exit(ffi::PyThreadState_Get(), context.as_ptr()) } {
            return Ok(());
        }
    }
    // SAFETY: the object is alive; CPython checks that it is a context, and the current one.
    done(unsafe { ffi::PyContext_Exit(context.as_ptr()) })
}

/// A context that was entered and is to be left.
#[must_use]
pub struct Entered(Way);

enum Way {
    /// The thread, whose state that is, holds the context: only its address is kept, to know it
    /// again.
    Switched(*mut ffi::PyThreadState, *mut ffi::PyObject),
    Called(Obj),
}

/// Enters the context of a field; nothing if there is none. Raises as [`enter`].
#[inline(always)]
pub fn enter_field(field: &Slot) -> Result<Option<Entered>, Raised> {
    match switch_to(field) {
        None => enter_by_call(field),
        entered => Ok(entered),
    }
}

/// Enters the context of a field, if CPython need not be called for that.
#[inline(always)]
fn switch_to(field: &Slot) -> Option<Entered> {
    let switch = fields::switch()?;
    let switched = field.inspect(|context| {
        // SAFETY: attached, since there is an Obj; it is looked at whether it is a context.
        let state = is_context(context).then(|| unsafe { switch.enter(context.as_ptr()) });
        state.flatten().map(|state| (state, context.as_ptr()))
    });
    let (state, address) = switched??;
    Some(Entered(Way::Switched(state, address)))
}

#[inline(never)]
fn enter_by_call(field: &Slot) -> Result<Option<Entered>, Raised> {
    let Some(context) = field.get() else {
        return Ok(None);
    };
    enter(&context)?;
    Ok(Some(Entered(Way::Called(context))))
}

impl Entered {
    /// Leaves it, as [`exit`].
    #[inline(always)]
    pub fn exit(self, py: Python<'_>) -> Result<(), Raised> {
        match self.0 {
            Way::Switched(state, address) => {
                // SAFETY: the token proves that we are attached, and an Entered cannot be sent, so
                // that the state is still the thread's; an address that is not the current
                // context's is only compared.
                let left =
                    fields::switch().is_some_and(|switch| unsafe { switch.exit(state, address) });
                if left {
                    return Ok(());
                }
                exit_of_other(py, address)
            }
            Way::Called(context) => exit(&context),
        }
    }
}

/// Somebody has left it before us, or watches contexts since.
#[cold]
fn exit_of_other(py: Python<'_>, address: *mut ffi::PyObject) -> Result<(), Raised> {
    match fields::current(py) {
        Some(context) if context.as_ptr() == address => exit(&context),
        _ => Err(Raised::runtime_error(
            py,
            "cannot exit context: it is not the current one",
        )),
    }
}

#[cold]
fn not_a_context(object: &Obj) -> Raised {
    let class = object.class();
    let name = class
        .attr(pyo3::intern!(object.py(), "__name__"))
        .and_then(|name| name.to_string())
        .unwrap_or_default();
    Raised::type_error(object.py(), &format!("a context was expected, got {name}"))
}
