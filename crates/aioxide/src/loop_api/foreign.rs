//! Loops whose class derives from ours but whose code is asyncio's: they wait by a selector of the
//! program's own.
//!
//! All native code treats such a loop as a foreign one. Its native part is closed, and its methods
//! are reached only by name, as in `asyncio.SelectorEventLoop.stop(self)`. Then asyncio's methods
//! are called.

use cpython::build::function;
use cpython::{Args, Obj, Python, Raised, Ref};

use crate::event_loop::EventLoop;
use crate::interop::asyncio;

/// asyncio's method, if the loop is one of those.
#[inline]
pub(super) fn method_of_asyncio(this: &Ref<EventLoop>, name: &str) -> Result<Option<Obj>, Raised> {
    if !this.is_closed() {
        return Ok(None);
    }
    find_method(this, name)
}

#[cold]
fn find_method(this: &Ref<EventLoop>, name: &str) -> Result<Option<Obj>, Raised> {
    let py = this.py();
    if Ref::<EventLoop>::is(this.as_obj()) {
        return Ok(None);
    }
    let class = asyncio(py).selector_loop.get(py);
    class.attr(&pyo3::types::PyString::new(py, name)).map(Some)
}

/// Calls asyncio's method with these arguments.
#[cold]
pub(super) fn call_method(
    method: &Obj,
    this: &Ref<EventLoop>,
    args: &Args<'_>,
) -> Result<Obj, Raised> {
    let py = this.py();
    let (positional, keywords) = args.to_tuple_and_dict(py)?;
    let given = (0..positional.tuple_len()).filter_map(|index| positional.tuple_item(index));
    let call: Vec<Obj> = std::iter::once(this.as_obj().clone())
        .chain(given)
        .collect();
    method.call_with_dict(&Obj::tuple(py, &call)?, keywords.as_ref())
}

/// The result of a native method that does nothing if the loop is closed. If the loop is one of
/// those, the result is that of asyncio's method.
#[inline(always)]
pub(super) fn or_of_asyncio(
    result: Result<Obj, Raised>,
    this: &Ref<EventLoop>,
    name: &str,
    args: &Args<'_>,
) -> Result<Obj, Raised> {
    match result {
        Ok(result) => Ok(result),
        Err(raised) => after_failure(raised, this, name, args),
    }
}

#[cold]
fn after_failure(
    raised: Raised,
    this: &Ref<EventLoop>,
    name: &str,
    args: &Args<'_>,
) -> Result<Obj, Raised> {
    if !this.is_closed() {
        return Err(raised);
    }
    let error = raised.take(this.py());
    match find_method(this, name)? {
        Some(method) => call_method(&method, this, args),
        None => Err(Raised::raise(error)),
    }
}

/// Makes methods that asyncio's loop has as well: with any arguments, with none (from any thread at
/// any time, too) or with one.
macro_rules! method {
    ($builder:expr, $name:literal, $doc:literal, $call:expr) => {
        $builder.method($name, $doc, |this, args| {
            let name = $name.to_str().unwrap_or_default();
            match $crate::loop_api::foreign::method_of_asyncio(this, name)? {
                Some(method) => $crate::loop_api::foreign::call_method(&method, this, args),
                None => cpython::answer::Answer::answer($call(this, args), this.py()),
            }
        })
    };
}
macro_rules! method0 {
    ($builder:expr, $name:literal, $doc:literal, $call:expr) => {
        $builder.method0($name, $doc, |this| {
            let name = $name.to_str().unwrap_or_default();
            match $crate::loop_api::foreign::method_of_asyncio(this, name)? {
                Some(method) => method.call1(this.as_obj()),
                None => cpython::answer::Answer::answer($call(this), this.py()),
            }
        })
    };
}
macro_rules! method0_anywhere {
    ($builder:expr, $name:literal, $doc:literal, $call:expr) => {
        $builder.method0_anywhere($name, $doc, |this| {
            let name = $name.to_str().unwrap_or_default();
            match $crate::loop_api::foreign::method_of_asyncio(this, name)? {
                Some(method) => method.call1(this.as_obj()),
                None => cpython::answer::Answer::answer($call(this), this.py()),
            }
        })
    };
}
macro_rules! method1 {
    ($builder:expr, $name:literal, $doc:literal, $call:expr) => {
        $builder.method1($name, $doc, |this, argument| {
            let name = $name.to_str().unwrap_or_default();
            match $crate::loop_api::foreign::method_of_asyncio(this, name)? {
                Some(method) => method.call(&[this.as_obj(), argument]),
                None => cpython::answer::Answer::answer($call(this, argument), this.py()),
            }
        })
    };
}
pub(super) use {method, method0, method0_anywhere, method1};

/// Adds a function that names the class of such loops.
pub(super) fn add_function(py: Python<'_>, module: &Obj, name: &Obj) -> Result<(), Raised> {
    let doc = c"Treat the loops of a class as foreign ones.";
    let made = function(py, c"_leave_out", doc, name, |_, args: &Args<'_>| {
        let [class] = args.bind("_leave_out", &["class"], 1, 1)?;
        class.map_or(Ok(()), |class| Ref::<EventLoop>::leave_out(&class))
    })?;
    module.set_attr(pyo3::intern!(py, "_leave_out"), &made)
}
