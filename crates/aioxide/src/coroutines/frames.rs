//! The frames that native coroutines show. They are the frames of asyncio's functions in whose
//! place the coroutines stand, and belong to coroutines that never run.

use cpython::{Obj, Raised, Ref, Slot, coro};

use super::coroutine::Coroutine;

/// The coroutines that stand for asyncio's functions, made at the first call.
fn standing<T: Coroutine>(this: &Ref<T>) -> Result<Vec<Obj>, Raised> {
    let py = this.py();
    let runs = !this.state().is_new() && this.state().needs_finalizer();
    let codes = this.codes(py);
    if !runs || codes.is_empty() {
        return Ok(Vec::new());
    }
    let slot = &this.state().shown;
    let known = slot.get();
    let known = known.filter(|known| known.tuple_len() == codes.len());
    let shown = match known {
        Some(known) => known,
        None => {
            let made: Result<Vec<Obj>, Raised> = codes.iter().map(coro::standing).collect();
            let made = Obj::tuple(py, &made?)?;
            close(slot)?;
            slot.set(Some(made.clone()));
            made
        }
    };
    Ok((0..shown.tuple_len())
        .filter_map(|index| shown.tuple_item(index))
        .collect())
}

/// Closes the coroutines that were shown. Nothing of them has run.
pub(super) fn close(slot: &Slot) -> Result<(), Raised> {
    let Some(shown) = slot.take() else {
        return Ok(());
    };
    let mut index = 0;
    while let Some(coroutine) = shown.tuple_item(index) {
        coro::close(&coroutine)?;
        index += 1;
    }
    Ok(())
}

/// A frame of the asyncio function in whose place the coroutine stands.
pub(super) fn frame<T: Coroutine>(this: &Ref<T>) -> Result<Option<Obj>, Raised> {
    match standing(this)?.first() {
        Some(coroutine) => coroutine
            .attr(pyo3::intern!(this.py(), "cr_frame"))
            .map(Some),
        None => Ok(None),
    }
}

/// The awaited object, within the coroutines that asyncio's function awaits itself.
pub(super) fn awaited<T: Coroutine>(this: &Ref<T>) -> Result<Option<Obj>, Raised> {
    let py = this.py();
    let mut awaited = this.state().awaited();
    for inner in standing(this)?.iter().skip(1).rev() {
        let types = Obj::import(py, c"types")?;
        let names = [Obj::str(py, "cr_frame")?, Obj::str(py, "cr_await")?];
        let none = Obj::none(py);
        let frame = inner.attr(pyo3::intern!(py, "cr_frame"))?;
        let inner = types
            .attr(pyo3::intern!(py, "SimpleNamespace"))?
            .call_named(
                &[&frame, awaited.as_ref().unwrap_or(&none)],
                Some(&Obj::tuple(py, &names)?),
            )?;
        awaited = Some(inner);
    }
    Ok(awaited)
}
