//! A server's list of the transports of its connections.
//!
//! From 3.13 on that list is a `WeakSet`. For asyncio's own server the set of weak references
//! inside it is changed directly, which calls no Python code. Other servers have their methods
//! called.

use cpython::{Obj, Raised};

use super::imports;

/// `server._attach(transport)`.
pub(super) fn attach(server: &Obj, transport: &Obj) -> Result<(), Raised> {
    let py = server.py();
    if let Some(clients) = clients(server)? {
        if !server.attr(pyo3::intern!(py, "_sockets"))?.is_none() {
            let forget = clients.attr(pyo3::intern!(py, "_remove"))?;
            let weak = imports(py).weak_reference.get(py);
            let reference = weak.call(&[transport, &forget])?;
            return clients.attr(pyo3::intern!(py, "data"))?.add(&reference);
        }
    }
    call_server(server, transport, pyo3::intern!(py, "_attach"))
}

/// `server._detach(transport)`.
pub(super) fn detach(server: &Obj, transport: &Obj) -> Result<(), Raised> {
    let py = server.py();
    if let Some(clients) = clients(server)? {
        // A closed server may wait for its last client, so its own method has to run.
        if !server.attr(pyo3::intern!(py, "_sockets"))?.is_none() {
            let reference = imports(py).weak_reference.get(py).call1(transport)?;
            let data = clients.attr(pyo3::intern!(py, "data"))?;
            return data.discard(&reference).map(drop);
        }
    }
    call_server(server, transport, pyo3::intern!(py, "_detach"))
}

fn call_server(
    server: &Obj,
    transport: &Obj,
    name: &pyo3::Bound<'_, pyo3::types::PyString>,
) -> Result<(), Raised> {
    let result = if cfg!(Py_3_13) {
        server.method(name, &[transport])
    } else {
        server.method(name, &[])
    };
    result.map(drop)
}

/// The clients of asyncio's own server, unless code is iterating over them: before 3.14 a `WeakSet`
/// puts removals off meanwhile.
fn clients(server: &Obj) -> Result<Option<Obj>, Raised> {
    let py = server.py();
    let imports = imports(py);
    if !cfg!(Py_3_13) || !server.is_exact(imports.server.get(py)) {
        return Ok(None);
    }
    let clients = server.attr(pyo3::intern!(py, "_clients"))?;
    if !clients.is_exact(imports.weak_set.get(py)) {
        return Ok(None);
    }
    let put_off = pyo3::intern!(py, "_pending_removals");
    let walked = imports.weak_set_puts_off
        && (clients.attr(pyo3::intern!(py, "_iterating"))?.truth()?
            || clients.attr(put_off)?.truth()?);
    Ok((!walked).then_some(clients))
}
