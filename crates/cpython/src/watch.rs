//! Whether a dict has changed since the last look at it.
//!
//! Comparing a version number replaces looking a name up. Before 3.12 the number is the dict's own
//! version. Since 3.12 it counts the calls of CPython's dict watchers; where all of CPython's
//! watchers are taken, the dict always counts as changed. [`on_change`] calls a function at each
//! change of one name in one dict.

use std::ffi::CStr;
#[cfg(Py_3_12)]
use std::ffi::c_int;
#[cfg(Py_3_12)]
use std::sync::atomic::AtomicI32;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use pyo3::{Python, ffi};

use crate::critical_section::locked;
use crate::error::Raised;
use crate::obj::{Global, Obj};
#[cfg(Py_3_12)]
use crate::own_line::OwnLine;
#[cfg(Py_3_12)]
use crate::panics::reported;

/// The number of changes that the watched dicts have seen, all together.
#[cfg(Py_3_12)]
static CHANGES: OwnLine<AtomicU64> = OwnLine(AtomicU64::new(0));

/// A version that no dict has.
const NEVER: u64 = u64::MAX;

/// A number that differs after each change of the dict.
///
/// # Safety
/// The dict is alive and the thread attached.
#[inline(always)]
unsafe fn version(dict: *mut ffi::PyObject) -> u64 {
    #[cfg(Py_3_12)]
    {
        let _ = dict;
        CHANGES.load(Ordering::Relaxed)
    }
    #[cfg(not(Py_3_12))]
    // SAFETY: as promised by the caller.
    unsafe {
        (*dict.cast::<ffi::PyDictObject>()).ma_version_tag
    }
}

/// A dict whose changes are counted.
pub struct WatchedDict {
    dict: Global,
    is_watched: bool,
}

/// The version of one [`WatchedDict`] at which its names were as expected. It is a static, so that
/// it is found without a pointer.
pub struct SeenVersion {
    number: AtomicU64,
    dict: AtomicPtr<ffi::PyObject>,
}

impl SeenVersion {
    /// No version yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> SeenVersion {
        SeenVersion {
            number: AtomicU64::new(NEVER),
            dict: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// Whether the dict is as it was at the version that was remembered last.
    #[inline(always)]
    pub fn is_current(&self, _py: Python<'_>) -> bool {
        let number = self.number.load(Ordering::Relaxed);
        // SAFETY: with a number there is a dict, which is kept for ever; the token proves that the
        // thread is attached. Without one no dict is looked at.
        (cfg!(Py_3_12) || number != NEVER)
            && number == unsafe { version(self.dict.load(Ordering::Relaxed)) }
    }

    fn remember(&self, dict: &Obj, number: u64) {
        if self.dict.load(Ordering::Relaxed).is_null() {
            self.dict.store(dict.clone().into_ptr(), Ordering::Relaxed);
        }
        self.number.store(number, Ordering::Relaxed);
    }
}

impl WatchedDict {
    /// Watches the dict from now on.
    pub fn new(dict: Obj) -> WatchedDict {
        WatchedDict {
            is_watched: watch(&dict),
            dict: Global::new(dict),
        }
    }

    /// Calls `look`, which looks names up in the dict. If it finds nothing that is not as expected,
    /// its version is remembered. Each call must be with the same `seen`, which keeps the dict for
    /// ever.
    ///
    /// CPython tells of a change just before it makes it. Without the GIL, another thread could see
    /// the new version and the old value in between, and remember the two for ever. CPython makes
    /// changes in the dict's critical section, so `look` is called in it.
    pub fn look<R>(
        &self,
        py: Python<'_>,
        seen: &SeenVersion,
        look: impl FnOnce(&Obj) -> Result<Option<R>, Raised>,
    ) -> Result<Option<R>, Raised> {
        let dict = self.dict.get(py);
        locked(dict, || {
            // SAFETY: the dict is kept, and the token proves that the thread is attached.
            let number = unsafe { version(dict.as_ptr()) };
            let found = look(dict)?;
            if self.is_watched && found.is_none() {
                seen.remember(dict, number);
            }
            Ok(found)
        })
    }
}

/// A function that is called with the new value of a name, or with nothing when the name is about
/// to go. It must not run Python code.
pub type Listener = fn(Option<&Obj>);

/// The dict, the name in it and the function to call at a change; there can be one.
#[cfg(Py_3_12)]
static LISTENER: std::sync::OnceLock<(usize, &'static CStr, Listener)> = std::sync::OnceLock::new();

/// Calls a function at each change of a name in a dict, which is kept for ever. Returns false if
/// CPython offers no way to do so. To be called once.
pub fn on_change(dict: &Obj, name: &'static CStr, listener: Listener) -> bool {
    #[cfg(Py_3_12)]
    {
        let kept = dict.clone().into_ptr();
        watch(dict) && LISTENER.set((kept as usize, name, listener)).is_ok()
    }
    #[cfg(not(Py_3_12))]
    {
        let _ = (dict, name, listener);
        false
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
        /// Registers a function that is called just before each change of a watched dict.
        fn PyDict_AddWatcher(callback: Callback) -> c_int;
    }

    unsafe extern "C" fn changed(
        _: c_int,
        dict: *mut ffi::PyObject,
        key: *mut ffi::PyObject,
        value: *mut ffi::PyObject,
    ) -> c_int {
        CHANGES.fetch_add(1, Ordering::Relaxed);
        if let Some((heard, name, listener)) = LISTENER.get() {
            // SAFETY: CPython changes the dict, so the thread is attached; key and value are alive
            // or null, and only a str is compared.
            unsafe {
                let is_name = !key.is_null()
                    && ffi::PyUnicode_Check(key) != 0
                    && ffi::PyUnicode_CompareWithASCIIString(key, name.as_ptr()) == 0;
                if dict as usize == *heard && (key.is_null() || is_name) {
                    let value = (!value.is_null()).then(|| Obj::from_pointer(&value));
                    // The dict may be about to go: a report must not hold it.
                    let py = Python::assume_attached();
                    reported(py, || Obj::none(py), || listener(value));
                }
            }
        }
        0
    }

    /// The number of our watcher, once registered, which happens while the module is imported.
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

/// Before 3.12 each dict has a version, so there is nothing to register.
#[cfg(not(Py_3_12))]
fn watch(_: &Obj) -> bool {
    true
}
