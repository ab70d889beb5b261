//! The Python modules of aioxide that native code calls.
//!
//! No other file of the extension names them. The functions that a running loop may need are looked
//! up when the first loop is made, since an error may have to be reported when no descriptor is
//! free to import a module, or when its file is gone. The other modules are imported when they are
//! needed.

use std::ffi::CStr;

use cpython::{Global, Obj, Python, Raised};
use pyo3::sync::PyOnceLock;

const COPIES: &CStr = c"aioxide._cold.copies";
const EXECUTOR: &CStr = c"aioxide._cold.executor";
const REPORTS: &CStr = c"aioxide._cold.reports";
const TLS: &CStr = c"aioxide._cold.tls";

/// The functions and modules that a running loop may need.
pub(crate) struct PythonSide {
    /// `reports.callback_failed(handle, exception)`.
    pub(crate) callback_failed: Global,
    /// `reports.callback_was_slow(entry, seconds)`.
    pub(crate) callback_was_slow: Global,
    /// The module `executor`.
    pub(crate) executor: Global,
}

static SIDE: PyOnceLock<PythonSide> = PyOnceLock::new();

/// The Python side. Raises ImportError if a module of the package is missing.
#[inline]
pub(crate) fn python_side(py: Python<'_>) -> Result<&'static PythonSide, Raised> {
    match SIDE.get(py) {
        Some(side) => Ok(side),
        None => filled(py, &SIDE, load(py)?),
    }
}

/// Fills a cell. Two threads may both have made a value; the first one stays. Nothing is made while the
/// cell is being filled: a thread may fork meanwhile, and the child would wait for ever for the
/// thread that fills it.
pub(crate) fn filled<T>(
    py: Python<'_>,
    cell: &'static PyOnceLock<T>,
    value: T,
) -> Result<&'static T, Raised> {
    let _ = cell.set(py, value);
    let filled = cell.get(py);
    filled.ok_or_else(|| Raised::runtime_error(py, "a value was not kept"))
}

/// The module `tls`: the Python subclasses of the native TLS protocol and transport. Raises
/// ImportError where Python has no ssl module.
pub(crate) fn tls_module(py: Python<'_>) -> Result<Obj, Raised> {
    Obj::import(py, TLS)
}

/// The module `copies`: what `copy` and `pickle` do with a lock or queue.
pub(crate) fn copies_module(py: Python<'_>) -> Result<Obj, Raised> {
    Obj::import(py, COPIES)
}

#[cold]
fn load(py: Python<'_>) -> Result<PythonSide, Raised> {
    let reports = Obj::import(py, REPORTS)?;
    Ok(PythonSide {
        callback_failed: Global::new(reports.attr(pyo3::intern!(py, "callback_failed"))?),
        callback_was_slow: Global::new(reports.attr(pyo3::intern!(py, "callback_was_slow"))?),
        executor: Global::new(Obj::import(py, EXECUTOR)?),
    })
}
