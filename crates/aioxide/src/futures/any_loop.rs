//! Making a future of any loop, as its `create_future()` does.

use cpython::{Obj, Raised, Ref};

use super::future::Future;
use crate::event_loop::EventLoop;
use crate::interop::replaced::FUTURE;

/// Whether the loop's `create_future()` would only make a native Future: the program has replaced
/// neither the method nor asyncio's class.
#[inline]
pub(crate) fn makes_native_futures(event_loop: &Ref<EventLoop>) -> bool {
    EventLoop::is_fast(event_loop) && !FUTURE.is_replaced::<Future>(event_loop.py())
}

/// The loop as a native one, if its `create_future()` would only make a native Future.
#[inline]
pub(crate) fn with_native_futures(event_loop: &Obj) -> Option<&Ref<EventLoop>> {
    Ref::<EventLoop>::of(event_loop).filter(|native| makes_native_futures(native))
}

/// `loop.create_future()`.
#[inline]
pub(crate) fn create_future(event_loop: &Obj) -> Result<Obj, Raised> {
    match with_native_futures(event_loop) {
        Some(native) => Future::create(native).map(Ref::into_obj),
        None => event_loop.method(pyo3::intern!(event_loop.py(), "create_future"), &[]),
    }
}
