//! [`Watched`]: a dict of which is known whether it has changed since the last look.
//!
//! By CPython's dict watchers, of 3.12 and later: a look at a counter instead of a look-up. Where
//! there are none, or all are taken, the dict always counts as changed.

#[cfg(Py_3_12)]
use std::ffi::c_int;
#[cfg(Py_3_12)]
use std::sync::atomic::AtomicI32;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(Py_3_12)]
use pyo3::ffi;

use crate::obj::{Global, Obj};

/// How many changes the watched dicts have seen, all together.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// A dict and the number of changes at the last look.
pub struct Watched {
    dict: Global,
    is_watched: bool,
    seen: AtomicU64,
}

/// A look at the dict that is under way.
pub struct Look(u64);

impl Watched {
    /// Watches the dict from now on; it counts as changed.
    pub fn new(dict: Obj) -> Watched {
        Watched {
            is_watched: watch(&dict),
            dict: Global::new(dict),
            seen: AtomicU64::new(u64::MAX),
        }
    }

    /// The dict.
    pub fn dict(&self, py: pyo3::Python<'_>) -> &Obj {
        self.dict.get(py)
    }

    /// Whether the dict is as it was at the last look.
    #[inline]
    pub fn is_unchanged(&self) -> bool {
        self.seen.load(Ordering::Relaxed) == CHANGES.load(Ordering::Relaxed)
    }

    /// Begins a look.
    pub fn look(&self) -> Look {
        Look(CHANGES.load(Ordering::Relaxed))
    }

    /// What was looked at is as it should be: it need not be looked at until the next change.
    pub fn remember(&self, look: Look) {
        if self.is_watched {
            self.seen.store(look.0, Ordering::Relaxed);
        }
    }
}

#[cfg(Py_3_12)]
fn watch(dict: &Obj) -> bool {
    type Callback = unsafe extern "C" fn(
        c_int,
        *mut ffi::PyObject,
        *mut ffi::PyObject,
        *mut ffi::PyObject,
    ) -> c_int;

    unsafe extern "C" {
        /// Registers a function that is told of each change of a watched dict, just before it.
        fn PyDict_AddWatcher(callback: Callback) -> c_int;
    }

    unsafe extern "C" fn changed(
        _: c_int,
        _: *mut ffi::PyObject,
        _: *mut ffi::PyObject,
        _: *mut ffi::PyObject,
    ) -> c_int {
        CHANGES.fetch_add(1, Ordering::Relaxed);
        0
    }

    /// The number of our watcher, once registered.
    static WATCHER: AtomicI32 = AtomicI32::new(-1);

    // SAFETY: attached, as an Obj is at hand; both functions raise by -1.
    unsafe {
        let mut watcher = WATCHER.load(Ordering::Relaxed);
        if watcher < 0 {
            watcher = PyDict_AddWatcher(changed);
            WATCHER.store(watcher, Ordering::Relaxed);
        }
        let watched = watcher >= 0 && ffi::PyDict_Watch(watcher, dict.as_ptr()) >= 0;
        if !watched {
            ffi::PyErr_Clear();
        }
        watched
    }
}

#[cfg(not(Py_3_12))]
fn watch(_: &Obj) -> bool {
    false
}
