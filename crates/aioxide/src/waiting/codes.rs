//! The code of the asyncio functions that native coroutines replace.
//!
//! Native coroutines have no frames: call graphs show those of asyncio's functions instead. The
//! code is taken when the module starts, before the program can replace a function.

use cpython::{Global, Obj, Python, Raised};
use pyo3::sync::PyOnceLock;

/// One of the functions.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Code {
    Wait,
    WaitInner,
    WaitFor,
    CancelAndWait,
    NextCompleted,
    WaitForOne,
    QueueGet,
    GroupEnter,
    GroupExit,
    GroupExitInner,
    TimeoutEnter,
    TimeoutExit,
}

/// Module and path of each, in the order of [`Code`].
const PLACES: [(&str, &str); 12] = [
    ("asyncio.tasks", "wait"),
    ("asyncio.tasks", "_wait"),
    ("asyncio.tasks", "wait_for"),
    ("asyncio.tasks", "_cancel_and_wait"),
    ("asyncio.tasks", "_AsCompletedIterator.__anext__"),
    ("asyncio.tasks", "_AsCompletedIterator._wait_for_one"),
    ("asyncio.queues", "Queue.get"),
    ("asyncio.taskgroups", "TaskGroup.__aenter__"),
    ("asyncio.taskgroups", "TaskGroup.__aexit__"),
    ("asyncio.taskgroups", "TaskGroup._aexit"),
    ("asyncio.timeouts", "Timeout.__aenter__"),
    ("asyncio.timeouts", "Timeout.__aexit__"),
];

static CODES: PyOnceLock<[Option<Global>; 12]> = PyOnceLock::new();

/// Takes the codes from asyncio. A function that the running version lacks has none.
pub(super) fn load(py: Python<'_>) -> Result<(), Raised> {
    let mut codes = [const { None }; 12];
    for (code, (module, path)) in codes.iter_mut().zip(PLACES) {
        *code = find(py, module, path)?.map(Global::new);
    }
    let _ = CODES.set(py, codes);
    Ok(())
}

fn find(py: Python<'_>, module: &str, path: &str) -> Result<Option<Obj>, Raised> {
    let intern = |name: &str| pyo3::types::PyString::intern(py, name);
    let importlib = Obj::import(py, c"importlib")?;
    let module = Obj::str(py, module)?;
    let mut object = importlib.method(&intern("import_module"), &[&module])?;
    for name in path.split('.').chain(["__code__"]) {
        object = match object.attr_opt(&intern(name))? {
            Some(object) => object,
            None => return Ok(None),
        };
    }
    Ok(Some(object))
}

/// The wanted codes that the running version has.
pub(super) fn codes(py: Python<'_>, wanted: &[Code]) -> Vec<Obj> {
    let Some(known) = CODES.get(py) else {
        return Vec::new();
    };
    wanted
        .iter()
        .filter_map(|code| known[*code as usize].as_ref())
        .map(|code| code.get(py).clone())
        .collect()
}
