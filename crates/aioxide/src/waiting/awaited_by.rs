//! Which task waits for which future, on 3.14 and later: what call graphs show.

use cpython::{Obj, Raised};

use crate::futures::mirror;
use crate::interop::asyncio;
use crate::tasks::any_future::of_native_class;

/// Notes that `task` waits for `future`, which it does not await itself.
#[inline]
pub(super) fn add(future: &Obj, task: &Obj) -> Result<(), Raised> {
    if cfg!(not(Py_3_14)) {
        return Ok(());
    }
    let py = future.py();
    match (of_native_class(future), of_native_class(task), mirror(py)) {
        (Some(native), Some(_), Some(mirror)) => mirror.add_awaited_by(native, task),
        _ => match &asyncio(py).task_functions.add_awaited_by {
            Some(add) => add.get(py).call(&[future, task]).map(drop),
            None => Ok(()),
        },
    }
}

/// Notes that `task` no longer waits for `future`.
#[inline]
pub(super) fn discard(future: &Obj, task: &Obj) -> Result<(), Raised> {
    if cfg!(not(Py_3_14)) {
        return Ok(());
    }
    let py = future.py();
    match (of_native_class(future), mirror(py)) {
        (Some(native), Some(mirror)) => mirror.discard_awaited_by(native, task),
        _ => match &asyncio(py).task_functions.discard_awaited_by {
            Some(discard) => discard.get(py).call(&[future, task]).map(drop),
            None => Ok(()),
        },
    }
}
