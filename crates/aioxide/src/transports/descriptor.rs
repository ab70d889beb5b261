//! The owner of the descriptor under a transport.
//!
//! asyncio's transports have a Python socket from the start. Most programs never ask for that of an
//! accepted connection, and making and closing a Python socket takes as long as five system calls.
//! So such a transport owns the bare descriptor, and hands it over to a Python socket when other
//! code asks for one: at any time there is one owner.

use std::cell::Cell;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

use cpython::{GcFields, Obj, Python, Raised, Slot, Visit};
use engine::sys;

use super::imports;

/// The family, type and protocol of a descriptor: the arguments of `socket.socket()`.
#[derive(Clone, Copy)]
pub(crate) struct SocketKind {
    pub(crate) family: i32,
    pub(crate) kind: i32,
    pub(crate) protocol: i32,
    /// Whether `kind` says that the descriptor is non-blocking.
    pub(crate) says_nonblocking: bool,
}

/// A connected, non-blocking socket, with its owner.
pub(crate) enum OwnedSocket {
    /// The Python socket owns the descriptor.
    Socket(Obj),
    /// This value owns the descriptor.
    Bare(OwnedFd, SocketKind),
}

impl OwnedSocket {
    /// The Python socket, which is the owner from now on.
    pub(crate) fn into_socket(self, py: Python<'_>) -> Result<Obj, Raised> {
        match self {
            OwnedSocket::Socket(sock) => Ok(sock),
            OwnedSocket::Bare(fd, kind) => make_socket(py, kind, fd).map_err(|(_, raised)| raised),
        }
    }

    /// Closes it. Raises what `socket.close()` does.
    pub(super) fn close(self, py: Python<'_>) -> Result<(), Raised> {
        match self {
            OwnedSocket::Socket(sock) => sock.method(pyo3::intern!(py, "close"), &[]).map(drop),
            // Closing may take a while with SO_LINGER, which a connection inherits from the
            // listening socket.
            OwnedSocket::Bare(fd, _) => match py.detach(|| sys::close(fd)) {
                Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => {
                    Err(Raised::os_error(py, error))
                }
                _ => Ok(()),
            },
        }
    }
}

/// A transport's descriptor, until it is closed.
pub(super) struct Descriptor {
    /// The Python socket, if that is the owner.
    sock: Slot,
    /// The descriptor, if there is no Python socket.
    bare: Cell<Option<OwnedFd>>,
    /// The kind of the descriptor that this has, or had.
    kind: Option<SocketKind>,
}

impl GcFields for Descriptor {
    fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.sock);
    }
    fn let_go(&self) {
        self.replace(None);
    }
}

impl Descriptor {
    pub(super) fn new(owned: OwnedSocket) -> Descriptor {
        let (sock, bare, kind) = match owned {
            OwnedSocket::Socket(sock) => (Some(sock), None, None),
            OwnedSocket::Bare(fd, kind) => (None, Some(fd), Some(kind)),
        };
        Descriptor {
            sock: Slot::new(sock),
            bare: Cell::new(bare),
            kind,
        }
    }

    /// Whether the descriptor is not closed yet.
    pub(super) fn is_open(&self) -> bool {
        if self.sock.is_some() {
            return true;
        }
        let bare = self.bare.take();
        let is_open = bare.is_some();
        self.bare.set(bare);
        is_open
    }

    /// The Python socket, if there is one already.
    pub(super) fn made_socket(&self) -> Option<Obj> {
        self.sock.get()
    }

    /// The Python socket, which is made if there is none yet; `None` once it is closed.
    pub(super) fn socket(&self, py: Python<'_>) -> Result<Option<Obj>, Raised> {
        let bare = self.bare.take();
        if let (Some(fd), Some(kind)) = (bare, self.kind) {
            match make_socket(py, kind, fd) {
                Ok(sock) => self.sock.set(Some(sock)),
                Err((fd, raised)) => {
                    self.bare.set(fd);
                    return Err(raised);
                }
            }
        }
        Ok(self.sock.get())
    }

    /// The object that `get_extra_info('socket')` shows: the Python socket, or a closed one that
    /// looks like it.
    pub(super) fn shown_socket(&self, py: Python<'_>) -> Result<Obj, Raised> {
        if let Some(sock) = self.socket(py)? {
            return Ok(sock);
        }
        let Some(kind) = self.kind else {
            return Ok(Obj::none(py));
        };
        let [family, kind, protocol] = kind.arguments(py)?;
        let socket = imports(py).socket.get(py);
        let sock = socket.call(&[&family, &kind, &protocol])?;
        sock.method(pyo3::intern!(py, "close"), &[])?;
        Ok(sock)
    }

    /// Puts another Python socket, or none, in the place of this one. The transport closes that one
    /// at its end.
    pub(super) fn replace(&self, sock: Option<Obj>) {
        drop(self.bare.take());
        self.sock.set(sock);
    }

    /// The socket that has to be closed, if there is one.
    pub(super) fn take(&self) -> Option<OwnedSocket> {
        match (self.bare.take(), self.kind) {
            (Some(fd), Some(kind)) => Some(OwnedSocket::Bare(fd, kind)),
            _ => self.sock.take().map(OwnedSocket::Socket),
        }
    }
}

impl SocketKind {
    fn arguments(self, py: Python<'_>) -> Result<[Obj; 3], Raised> {
        Ok([
            Obj::int(py, self.family.into())?,
            Obj::int(py, self.kind.into())?,
            Obj::int(py, self.protocol.into())?,
        ])
    }
}

/// A `socket.socket` that owns the descriptor, or the descriptor back if that fails.
///
/// This does not call the class: a signal handler may raise at the end of its `__init__`, which is
/// Python code, and the half-made socket would close a descriptor that is still the transport's.
fn make_socket(
    py: Python<'_>,
    kind: SocketKind,
    fd: OwnedFd,
) -> Result<Obj, (Option<OwnedFd>, Raised)> {
    let made = (|| {
        let imports = imports(py);
        let class = imports.socket.get(py);
        let sock = imports.new_socket.get(py).call1(class)?;
        sock.set_attr(pyo3::intern!(py, "_io_refs"), &Obj::int(py, 0)?)?;
        sock.set_attr(pyo3::intern!(py, "_closed"), &Obj::bool(py, false))?;
        let [family, kind, protocol] = kind.arguments(py)?;
        let number = Obj::int(py, fd.as_raw_fd().into())?;
        imports
            .init_socket
            .get(py)
            .call(&[&sock, &family, &kind, &protocol, &number])?;
        Ok(sock)
    })();
    let sock = match made {
        Ok(sock) => sock,
        Err(raised) => return Err((Some(fd), raised)),
    };
    let _ = fd.into_raw_fd();
    if !kind.says_nonblocking {
        sock.method(pyo3::intern!(py, "setblocking"), &[&Obj::bool(py, false)])
            .map_err(|raised| (None, raised))?;
    }
    Ok(sock)
}
