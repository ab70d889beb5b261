//! Who waits for whom, on 3.14 and later: what call graphs show.

use cpython::{Obj, Raised};

use super::any_future::native;
use crate::futures::mirror;
use crate::interop::asyncio;

/// `task` waits for `future` without awaiting it itself.
#[inline]
pub(super) fn add(future: &Obj, task: &Obj) -> Result<(), Raised> {
    if cfg!(not(Py_3_14)) {
        return Ok(());
    }
    let py = future.py();
    match (native(future), native(task), mirror(py)) {
        (Some(native), Some(_), Some(mirror)) => mirror.add_awaited_by(native, task),
        _ => match &asyncio(py).books.add_awaited_by {
            Some(add) => add.get(py).call(&[future, task]).map(drop),
            None => Ok(()),
        },
    }
}

/// It no longer does.
#[inline]
pub(super) fn discard(future: &Obj, task: &Obj) -> Result<(), Raised> {
    if cfg!(not(Py_3_14)) {
        return Ok(());
    }
    let py = future.py();
    match (native(future), mirror(py)) {
        (Some(native), Some(mirror)) => mirror.discard_awaited_by(native, task),
        _ => match &asyncio(py).books.discard_awaited_by {
            Some(discard) => discard.get(py).call(&[future, task]).map(drop),
            None => Ok(()),
        },
    }
}
