//! Which interpreter of the process the types belong to.

use std::sync::atomic::{AtomicI64, Ordering};

use pyo3::exceptions::PyImportError;
use pyo3::{Python, ffi};

use crate::error::Raised;

/// The number of the interpreter that was first.
static OWNER: AtomicI64 = AtomicI64::new(NOBODY);
const NOBODY: i64 = -1;

/// Makes the calling interpreter the one that may use this crate; called when a module starts,
/// before any type is built. Raises ImportError in every other interpreter: types, their offsets
/// and freelists are statics (see [`crate::hot::TypeInfo`]).
pub fn claim(py: Python<'_>) -> Result<(), Raised> {
    // SAFETY: the token proves that we are attached, so there is a current interpreter.
    let id = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    if id < 0 {
        return Err(Raised);
    }
    match OWNER.compare_exchange(NOBODY, id, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => crate::obj::find_zero(py),
        Err(owner) if owner == id => Ok(()),
        Err(_) => Err(Raised::new::<PyImportError>(
            py,
            "only one interpreter of a process can import aioxide",
        )),
    }
}
