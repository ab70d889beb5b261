//! Python objects that TLS refers to; imported for the first TLS connection.

use cpython::{Global, Obj, Python, Raised};
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use crate::interop::{filled, tls_module};

/// Objects of asyncio and of the standard library.
pub(super) struct TlsImports {
    /// `asyncio.sslproto`.
    pub(super) module: Global,
    /// The Python subclasses of the native classes.
    pub(super) protocol_class: Global,
    pub(super) transport_class: Global,
    pub(super) ssl_object: Global,
    pub(super) memory_bio: Global,
    pub(super) want_read: Global,
    pub(super) syscall_error: Global,
    pub(super) ssl_error: Global,
    pub(super) certificate_error: Global,
    pub(super) cancelled_error: Global,
    /// Methods of `ssl.SSLObject` as they were when aioxide imported them, which shows whether the
    /// program has replaced one.
    methods: [(&'static str, Global); 5],
    /// Whether `is_closing()` asks the transport below as well.
    pub(super) closing_asks_below: bool,
    /// Whether the shutdown timeout runs until the connection is lost.
    pub(super) shutdown_timeout_stays: bool,
}

static IMPORTS: PyOnceLock<TlsImports> = PyOnceLock::new();

/// The imported objects, if a TLS connection was made before.
#[inline]
pub(super) fn get(py: Python<'_>) -> Option<&'static TlsImports> {
    IMPORTS.get(py)
}

/// The imported objects. Raises RuntimeError where Python has no ssl module.
#[inline]
pub(super) fn imports(py: Python<'_>) -> Result<&'static TlsImports, Raised> {
    match IMPORTS.get(py) {
        Some(imports) => Ok(imports),
        None => filled(py, &IMPORTS, load(py)?),
    }
}

#[cold]
fn load(py: Python<'_>) -> Result<TlsImports, Raised> {
    let get = |module: &Obj, name: &str| module.attr(&PyString::intern(py, name));
    let global = |module: &Obj, name: &str| get(module, name).map(Global::new);
    let module = Obj::import(py, c"asyncio.sslproto")?;
    let Some(ssl) = get(&module, "ssl")?.not_none() else {
        return Err(Raised::runtime_error(py, "stdlib ssl module not available"));
    };
    let ours = tls_module(py)?;
    let ssl_object = get(&ssl, "SSLObject")?;
    let method = |name: &'static str| global(&ssl_object, name).map(|method| (name, method));
    let methods = [
        method("read")?,
        method("write")?,
        method("pending")?,
        method("do_handshake")?,
        method("unwrap")?,
    ];
    // Two changes came with patch releases, so asyncio's code is asked whether they are there, not
    // the version.
    let protocol = get(&module, "SSLProtocol")?;
    let closing_asks_below = protocol
        .attr_opt(pyo3::intern!(py, "_is_transport_closing"))?
        .is_some();
    let names = get(&get(&protocol, "_on_shutdown_complete")?, "__code__")?;
    let names = get(&names, "co_names")?;
    let call_later = Obj::str(py, "call_later")?;
    let mut shutdown_timeout_stays = false;
    for index in 0..names.tuple_len() {
        if let Some(name) = names.tuple_item(index) {
            shutdown_timeout_stays |= name.equals(&call_later)?;
        }
    }
    Ok(TlsImports {
        protocol_class: global(&ours, "SSLProtocol")?,
        transport_class: global(&ours, "_SSLProtocolTransport")?,
        memory_bio: global(&ssl, "MemoryBIO")?,
        want_read: global(&ssl, "SSLWantReadError")?,
        syscall_error: global(&ssl, "SSLSyscallError")?,
        ssl_error: global(&ssl, "SSLError")?,
        certificate_error: global(&ssl, "CertificateError")?,
        cancelled_error: global(&Obj::import(py, c"asyncio.exceptions")?, "CancelledError")?,
        ssl_object: Global::new(ssl_object),
        module: Global::new(module),
        methods,
        closing_asks_below,
        shutdown_timeout_stays,
    })
}

impl TlsImports {
    /// Whether the object is a plain `ssl.SSLObject` of which no method was replaced. Then the
    /// object inside may be called in their place.
    pub(super) fn is_plain(&self, object: &Obj) -> Result<bool, Raised> {
        let py = object.py();
        let class = self.ssl_object.get(py);
        if !object.is_exact(class) {
            return Ok(false);
        }
        for (name, method) in &self.methods {
            if !class.attr(&PyString::intern(py, name))?.is(method.get(py)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the SSLObject only wants more bytes from the peer.
    #[inline]
    pub(super) fn wants_more(&self, py: Python<'_>, raised: &Raised) -> bool {
        raised.matches(self.want_read.get(py)) || raised.matches(self.syscall_error.get(py))
    }
}
