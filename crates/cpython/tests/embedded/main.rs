//! The crate in an interpreter in the same process: types, calls and memory as CPython uses them.
//! `scripts/embedded.py` finds the library to link with and runs this under valgrind.
//!
//! One interpreter serves all tests, so they take turns: counts of objects, freelists and hooks
//! belong to the test whose turn it is.

mod arguments;
mod attributes;
mod callables;
mod contexts;
mod coroutines;
mod dicts;
mod errors;
mod lifetimes;
mod members;
mod memory;
mod panics;
mod slots;
mod stacks;
mod subclasses;
mod thread_exit;
mod toys;

use std::ffi::CString;
use std::sync::{Mutex, Once, PoisonError};

use cpython::{Obj, Python, Raised};
use pyo3::types::{PyDict, PyDictMethods};

static TURN: Mutex<()> = Mutex::new(());

/// Runs a test with the interpreter, in which nothing is left of the last test. An exception fails
/// it.
pub(crate) fn python(test: impl FnOnce(Python<'_>) -> Result<(), Raised>) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    keep_quiet_about_toys();
    Python::initialize();
    Python::attach(|py| {
        let outcome = cpython::interpreter::claim(py)
            .and_then(|()| toys::build(py))
            .and_then(|()| collect(py))
            .and_then(|()| test(py));
        if let Err(raised) = outcome {
            panic!("{}", exception_text(&raised.take(py)));
        }
    });
}

/// Hides the panics of toys, which are intended, and shows all others.
fn keep_quiet_about_toys() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let show = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let payload = panic.payload();
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
            if !text.is_some_and(|text| text.starts_with(toys::ON_PURPOSE)) {
                show(panic);
            }
        }));
    });
}

/// The text of an exception with its traceback.
fn exception_text(exception: &Obj) -> String {
    let py = exception.py();
    Obj::import(py, c"traceback")
        .and_then(|module| module.method(pyo3::intern!(py, "format_exception"), &[exception]))
        .and_then(|lines| {
            Obj::str(py, "")?
                .method(pyo3::intern!(py, "join"), &[&lines])?
                .to_string()
        })
        .unwrap_or_else(|_| "an exception that cannot be shown".to_owned())
}

/// A list of the reports to `sys.unraisablehook` within its `with` block.
const REPORTS: &str = "
class Reports(list):
    def __enter__(self):
        self.hook, sys.unraisablehook = sys.unraisablehook, self.note
        return self
    def note(self, report):
        # The object itself would come back.
        name = getattr(report.object, '__name__', None)
        self.append((report.exc_type, str(report.exc_value), name))
    def __exit__(self, *_):
        sys.unraisablehook = self.hook
";

/// The namespace of a test's Python code.
pub(crate) struct Names(Obj);

impl Names {
    /// The toys' classes, some modules, and [`REPORTS`].
    pub(crate) fn new(py: Python<'_>) -> Result<Names, Raised> {
        let names = Names(Obj::dict(py)?);
        for module in [c"gc", c"sys", c"weakref", c"asyncio"] {
            let name = module.to_str().expect("a name");
            names.set(name, &Obj::import(py, module)?)?;
        }
        toys::name(py, &names)?;
        names.run(REPORTS)?;
        Ok(names)
    }

    /// Gives a name to an object.
    pub(crate) fn set(&self, name: &str, object: &Obj) -> Result<(), Raised> {
        self.0.dict_set(&Obj::str(self.0.py(), name)?, object)
    }

    /// The object of a name.
    pub(crate) fn get(&self, name: &str) -> Result<Obj, Raised> {
        let found = self.0.dict_get(&Obj::str(self.0.py(), name)?)?;
        Ok(found.unwrap_or_else(|| panic!("the test has no {name}")))
    }

    /// Removes a name.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Raised> {
        self.0.dict_del(&Obj::str(self.0.py(), name)?)
    }

    /// Runs code.
    pub(crate) fn run(&self, code: &str) -> Result<(), Raised> {
        let py = self.0.py();
        let bound = self.0.bound(py);
        let globals = bound.cast::<PyDict>().expect("a dict");
        let code = CString::new(code).expect("text");
        py.run(&code, Some(globals), None)?;
        Ok(())
    }
}

impl Drop for Names {
    /// A function of the test's code and the dict of its names refer to each other.
    fn drop(&mut self) {
        let py = self.0.py();
        self.0.bound(py).cast::<PyDict>().expect("a dict").clear();
    }
}

/// Runs code with the toys' classes.
pub(crate) fn run(py: Python<'_>, code: &str) -> Result<(), Raised> {
    Names::new(py)?.run(code)
}

/// Runs the garbage collector over all generations.
pub(crate) fn collect(py: Python<'_>) -> Result<(), Raised> {
    run(py, "gc.collect()")
}
