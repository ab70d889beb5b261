//! The fields in the C struct of a Python socket: descriptor, family, type, protocol, timeout.
//!
//! Every operation on a socket needs two or three of them, and through Python each is a call. A
//! probe, made at the first use, finds the fields. Where it fails, Python's own methods answer.

use cpython::foreign::IntField;
use cpython::{Global, Obj, Python, Raised};
use pyo3::sync::PyOnceLock;

/// The state of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SocketState {
    /// -1 once it is closed.
    pub(crate) fd: i32,
    pub(crate) family: i32,
    pub(crate) kind: i64,
    pub(crate) protocol: i64,
    /// Whether the socket's methods neither wait nor time out.
    pub(crate) nonblocking: bool,
}

struct Probed {
    class: Global,
    fields: Option<SocketFields>,
}

#[derive(Clone, Copy)]
struct SocketFields {
    fd: IntField,
    family: IntField,
    kind: IntField,
    protocol: IntField,
    /// In nanoseconds.
    timeout: IntField,
}

static PROBED: PyOnceLock<Probed> = PyOnceLock::new();

fn probed(py: Python<'_>) -> Result<&'static Probed, Raised> {
    if let Some(probed) = PROBED.get(py) {
        return Ok(probed);
    }
    let class = Obj::import(py, c"socket")?.attr(pyo3::intern!(py, "socket"))?;
    let fields = match probe(py, &class) {
        Ok(fields) => fields,
        Err(raised) => {
            drop(raised.take(py));
            None
        }
    };
    let class = Global::new(class);
    Ok(PROBED.get_or_init(py, || Probed { class, fields }))
}

/// Looks for the fields in a socket made for this purpose.
fn probe(py: Python<'_>, class: &Obj) -> Result<Option<SocketFields>, Raised> {
    let sock = class.call0()?;
    let fields = find(py, &sock);
    sock.method(pyo3::intern!(py, "close"), &[])?;
    fields
}

fn find(py: Python<'_>, sock: &Obj) -> Result<Option<SocketFields>, Raised> {
    let number = |name: &str| {
        let name = pyo3::types::PyString::intern(py, name);
        sock.attr(&name)?.to_i64()
    };
    let fd = sock.method(pyo3::intern!(py, "fileno"), &[])?.to_i64()?;
    let (family, kind, protocol) = (number("family")?, number("type")?, number("proto")?);
    let set_timeout = |seconds: f64| {
        let seconds = Obj::float(py, seconds)?;
        sock.method(pyo3::intern!(py, "settimeout"), &[&seconds])
    };
    set_timeout(1.5)?;
    Ok((|| {
        // A pointer lies between the numbers and the timeout.
        let timeout = IntField::wide(sock, 24, 1_500_000_000)?;
        Some(SocketFields {
            fd: IntField::narrow(sock, 0, fd)?,
            family: IntField::narrow(sock, 4, family)?,
            kind: IntField::narrow(sock, 8, kind)?,
            protocol: IntField::narrow(sock, 12, protocol)?,
            timeout,
        })
    })()
    .filter(|fields| set_timeout(0.0).is_ok() && fields.timeout.read(sock) == Some(0)))
}

/// The state of a socket of the standard library's own class. Returns nothing for any other object,
/// which may answer for itself.
#[inline]
pub(crate) fn socket_state(sock: &Obj) -> Result<Option<SocketState>, Raised> {
    let probed = probed(sock.py())?;
    if !sock.is_exact(probed.class.get(sock.py())) {
        return Ok(None);
    }
    match probed.fields {
        Some(fields) => Ok(read(sock, fields)),
        None => ask(sock).map(Some),
    }
}

#[inline]
fn read(sock: &Obj, fields: SocketFields) -> Option<SocketState> {
    Some(SocketState {
        fd: fields.fd.read(sock)? as i32,
        family: fields.family.read(sock)? as i32,
        kind: fields.kind.read(sock)?,
        protocol: fields.protocol.read(sock)?,
        nonblocking: fields.timeout.read(sock)? == 0,
    })
}

/// As [`socket_state`], by Python's methods.
#[cold]
fn ask(sock: &Obj) -> Result<SocketState, Raised> {
    let py = sock.py();
    let number = |name: &str| {
        let name = pyo3::types::PyString::intern(py, name);
        sock.attr(&name)?.to_i64()
    };
    let fd = sock.method(pyo3::intern!(py, "fileno"), &[])?.to_i64()?;
    let timeout = sock.method(pyo3::intern!(py, "gettimeout"), &[])?;
    Ok(SocketState {
        fd: i32::try_from(fd).unwrap_or(-1),
        family: number("family")? as i32,
        kind: number("type")?,
        protocol: number("proto")?,
        nonblocking: !timeout.is_none() && timeout.to_f64()? == 0.0,
    })
}
