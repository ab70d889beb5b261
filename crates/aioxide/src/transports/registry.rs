//! The transports by descriptor: asyncio's `loop._transports`.
//!
//! This is asyncio's own WeakValueDictionary, because its UDP transports and its sendfile write to
//! it too. Native transports put plain weak references into the dict inside it, which calls no
//! Python code. The WeakValueDictionary treats a dead reference as an absent one.

use cpython::{Obj, Raised, Ref};

use super::imports;
use crate::event_loop::EventLoop;

/// The dict from descriptor number to weak reference.
fn table(event_loop: &Ref<EventLoop>) -> Result<Option<Obj>, Raised> {
    let py = event_loop.py();
    match event_loop
        .as_obj()
        .attr_opt(pyo3::intern!(py, "_transports"))?
    {
        Some(transports) => transports.attr_opt(pyo3::intern!(py, "data")),
        None => Ok(None),
    }
}

/// Registers the transport as that of its descriptor.
pub(super) fn register(
    event_loop: &Ref<EventLoop>,
    fd: i32,
    transport: &Obj,
) -> Result<(), Raised> {
    let py = event_loop.py();
    match table(event_loop)? {
        Some(table) => {
            let reference = imports(py).weak_reference.get(py).call1(transport)?;
            table.dict_set(&Obj::int(py, fd.into())?, &reference)
        }
        None => Ok(()),
    }
}

/// `_ensure_fd_no_transport(fd)`: raises RuntimeError if a transport that is not closing has the
/// descriptor (a number or an object with `fileno()`).
pub(crate) fn ensure_fd_no_transport(this: &Ref<EventLoop>, file: &Obj) -> Result<(), Raised> {
    let py = this.py();
    let number = if file.is_int() {
        file.clone()
    } else {
        match file
            .method(pyo3::intern!(py, "fileno"), &[])
            .and_then(|fd| Obj::class_of::<pyo3::types::PyInt>(py).call1(&fd))
        {
            Ok(fd) => fd,
            Err(raised) => return Err(invalid_file(file, raised)),
        }
    };
    let Some(table) = table(this)? else {
        return Ok(());
    };
    let Some(reference) = table.dict_get(&number)? else {
        return Ok(());
    };
    let Some(transport) = reference.call0()?.not_none() else {
        return Ok(());
    };
    if transport
        .method(pyo3::intern!(py, "is_closing"), &[])?
        .truth()?
    {
        return Ok(());
    }
    let text = format!(
        "File descriptor {} is used by transport {}",
        file.repr()?.as_str()?,
        transport.repr()?.as_str()?
    );
    Err(Raised::runtime_error(py, &text))
}

#[cold]
fn invalid_file(file: &Obj, raised: Raised) -> Raised {
    let py = file.py();
    let expected = [
        Obj::class_of::<pyo3::exceptions::PyAttributeError>(py),
        Obj::class_of::<pyo3::exceptions::PyTypeError>(py),
        Obj::class_of::<pyo3::exceptions::PyValueError>(py),
    ];
    if !expected.iter().any(|class| raised.matches(class)) {
        return raised;
    }
    drop(raised.take(py));
    match file.repr() {
        Ok(repr) => {
            let text = repr.as_str().unwrap_or_default();
            Raised::value_error(py, &format!("Invalid file object: {text}"))
        }
        Err(raised) => raised,
    }
}
