//! `contextvars` contexts.
//!
//! - [`fields`]: where contexts and thread states keep what the rest reads and writes.
//! - [`pool`]: contexts that are used again.

mod fields;
mod pool;

use pyo3::{Python, ffi};

use crate::error::Raised;
use crate::obj::{Obj, done};

pub use fields::verify;
pub use pool::Pool;

/// A copy of the current context, as `contextvars.copy_context()`.
#[inline]
pub fn copy_current(_py: Python<'_>) -> Result<Obj, Raised> {
    // SAFETY: the token proves that we are attached; returns a new reference or null.
    unsafe { Obj::from_owned(ffi::PyContext_CopyCurrent()) }
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
        if unsafe { switch.enter(context.as_ptr()) } {
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
        if unsafe { switch.exit(context.as_ptr()) } {
            return Ok(());
        }
    }
    // SAFETY: the object is alive; CPython checks that it is a context, and the current one.
    done(unsafe { ffi::PyContext_Exit(context.as_ptr()) })
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
