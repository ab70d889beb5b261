//! How the running version's accelerator behaves where patch releases differ.
//!
//! Such changes come without a new minor version. So the accelerator itself is tried, once, with
//! objects that no other code sees.

use cpython::{Obj, Python, Raised};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::intern;

/// The results of the trials.
pub(crate) struct AcceleratorBehaviour {
    /// `set_exception` turns a StopIteration into a RuntimeError; otherwise it refuses it.
    pub(crate) turns_stop_iteration: bool,
    /// `__init__` of a Future or Task has an effect only once.
    pub(crate) initializes_once: bool,
    /// A Task's `context` must be a `contextvars.Context`.
    pub(crate) checks_context: bool,
}

impl AcceleratorBehaviour {
    /// Tries the accelerator's module. Raises what its objects raise unexpectedly.
    pub(crate) fn of(accelerator: &Obj) -> Result<AcceleratorBehaviour, Raised> {
        let py = accelerator.py();
        let types = Obj::import(py, c"types")?;
        let builtins = Obj::import(py, c"builtins")?;
        let partial = Obj::import(py, c"functools")?.attr(intern!(py, "partial"))?;
        let no_debug = Obj::class_of::<pyo3::types::PyBool>(py);
        let names = |names: &[&str]| -> Result<Obj, Raised> {
            let names: Result<Vec<Obj>, Raised> =
                names.iter().map(|name| Obj::str(py, name)).collect();
            Obj::tuple(py, &names?)
        };
        // The object has all that a new Future or Task asks of its loop. What it schedules never
        // runs.
        let event_loop = types.attr(intern!(py, "SimpleNamespace"))?.call_named(
            &[&no_debug, &partial],
            Some(&names(&["get_debug", "call_soon"])?),
        )?;

        let future = accelerator
            .attr(intern!(py, "Future"))?
            .call_named(&[&event_loop], Some(&names(&["loop"])?))?;
        let again = future.method_named(
            intern!(py, "__init__"),
            &[&event_loop],
            Some(&names(&["loop"])?),
        );
        let initializes_once = refused::<PyRuntimeError>(py, again)?;

        let stop = Obj::class_of::<PyStopIteration>(py);
        let set = future.method(intern!(py, "set_exception"), &[&stop]);
        let turns_stop_iteration = !refused::<PyTypeError>(py, set)?;
        if turns_stop_iteration {
            // The exception is retrieved, so that it is not reported.
            future.method(intern!(py, "exception"), &[])?;
        }

        let globals = Obj::dict(py)?;
        let code = Obj::str(py, "async def function(): pass\ncoroutine = function()\n")?;
        builtins.method(intern!(py, "exec"), &[&code, &globals])?;
        let coroutine = globals
            .dict_get(&Obj::str(py, "coroutine")?)?
            .unwrap_or_else(|| Obj::none(py));
        // The task gets a name, because the numbers of the others are asyncio's to give.
        let task = accelerator.attr(intern!(py, "Task"))?.call_named(
            &[&coroutine, &event_loop, &code, &event_loop],
            Some(&names(&["loop", "name", "context"])?),
        );
        if let Ok(task) = &task {
            task.set_attr(intern!(py, "_log_destroy_pending"), &Obj::bool(py, false))?;
        }
        let checks_context = refused::<PyTypeError>(py, task)?;
        coroutine.method(intern!(py, "close"), &[])?;
        Ok(AcceleratorBehaviour {
            turns_stop_iteration,
            initializes_once,
            checks_context,
        })
    }
}

/// Whether the call raised this class. Raises any other exception of the call.
fn refused<T: pyo3::PyTypeInfo>(
    py: Python<'_>,
    answer: Result<Obj, Raised>,
) -> Result<bool, Raised> {
    match answer {
        Ok(_) => Ok(false),
        Err(raised) => raised.ignore::<T>(py).map(|()| true),
    }
}
