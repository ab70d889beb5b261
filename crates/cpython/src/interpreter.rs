//! Which interpreter of the process the types belong to.

use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{AtomicI64, Ordering};

use pyo3::exceptions::PyImportError;
use pyo3::{Python, ffi};

use crate::error::Raised;
use crate::obj::{Obj, done};

/// The number of the interpreter that has claimed this crate.
static OWNER: AtomicI64 = AtomicI64::new(NOBODY);
const NOBODY: i64 = -1;

/// Makes the calling interpreter the one that may use this crate. A module calls it at its start,
/// before it builds any type. Raises ImportError in every other interpreter, because types, their
/// offsets and freelists are statics (see [`crate::hot::TypeInfo`]).
pub fn claim(py: Python<'_>) -> Result<(), Raised> {
    // SAFETY: the token proves that we are attached, so there is a current interpreter.
    let id = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    if id < 0 {
        return Err(Raised::by_cpython());
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

/// Raises an audit event about two objects (`sys.audit`). Fails if an audit hook raises.
pub fn audit(event: &CStr, first: &Obj, second: &Obj) -> Result<(), Raised> {
    // SAFETY: the format asks for two objects, both alive; both texts end with NUL.
    done(unsafe {
        PySys_Audit(
            event.as_ptr(),
            c"OO".as_ptr(),
            first.as_ptr(),
            second.as_ptr(),
        )
    })
}

// SAFETY: CPython exports it with this signature; PyO3 does not declare it.
unsafe extern "C" {
    fn PySys_Audit(event: *const c_char, format: *const c_char, ...) -> c_int;
}
