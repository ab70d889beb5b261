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
pub use pool::{BoundContext, Pool};

/// A copy of the current context, as `contextvars.copy_context()`.
#[inline]
pub fn copy_current(_py: Python<'_>) -> Result<Obj, Raised> {
    // SAFETY: the token proves that we are attached; returns a new reference or null.
    unsafe { Obj::from_owned(ffi::PyContext_CopyCurrent()) }
}

/// A copy of a context, as its `copy()`. Raises TypeError if the object is no context.
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

/// Enters the context. Raises RuntimeError if it is entered already, TypeError if the object is no
/// context.
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

/// Runs the body in the context, as `context.run()` does, and leaves the context in any case.
/// Raises as [`enter`] and [`exit`] do; an exception of the body is in the result.
#[inline]
pub fn run<R>(context: &Obj, body: impl FnOnce() -> Result<R, Raised>) -> Result<R, Raised> {
    enter(context)?;
    let result = body();
    // `exit` keeps an exception that the body has set.
    exit(context)?;
    result
}

/// A context that was entered and must be left.
#[must_use]
pub struct EnteredContext(Way);

enum Way {
    /// The thread's state and the context. The thread holds the context, so only the address is
    /// kept, to recognize it.
    Switched(*mut ffi::PyThreadState, *mut ffi::PyObject),
    Called(Obj),
}

/// Enters the context that a field holds. Returns nothing if the field is empty. Raises as
/// [`enter`] does.
#[inline(always)]
pub fn enter_field(field: &Slot) -> Result<Option<EnteredContext>, Raised> {
    match switch_to(field) {
        None => enter_by_call(field),
        entered => Ok(entered),
    }
}

/// As [`enter_field`] for the contexts that can be entered without calling CPython.
#[inline(always)]
fn switch_to(field: &Slot) -> Option<EnteredContext> {
    let switch = fields::switch()?;
    let switched = field.inspect(|context| {
        // SAFETY: attached, since there is an Obj; it is looked at whether it is a context.
        let state = is_context(context).then(|| unsafe { switch.enter(context.as_ptr()) });
        state.flatten().map(|state| (state, context.as_ptr()))
    });
    let (state, address) = switched??;
    Some(EnteredContext(Way::Switched(state, address)))
}

#[inline(never)]
fn enter_by_call(field: &Slot) -> Result<Option<EnteredContext>, Raised> {
    let Some(context) = field.get() else {
        return Ok(None);
    };
    enter(&context)?;
    Ok(Some(EnteredContext(Way::Called(context))))
}

impl EnteredContext {
    /// Leaves the context, as [`exit`] does.
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

/// The short way does not apply: the program has left the context itself, or watches contexts
/// since.
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
