//! Python objects that transports refer to.

use cpython::{Global, Obj, Python, Raised};
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

/// Objects of asyncio and of the standard library, as they were when aioxide was imported.
pub(crate) struct TransportImports {
    /// A subclass of asyncio's `_FlowControlMixin` that allows weak references.
    pub(crate) transport_base: Global,
    pub(crate) buffered_protocol: Global,
    pub(crate) transport_socket: Global,
    pub(crate) constants: Global,
    pub(crate) logger: Global,
    pub(super) try_native_sendfile: Global,
    pub(crate) set_result_unless_cancelled: Global,
    /// `socket.socket`.
    pub(crate) socket: Global,
    /// `__new__` of that class, and `__init__` of its base: neither is Python code.
    pub(super) new_socket: Global,
    pub(super) init_socket: Global,
    /// asyncio's own server.
    pub(super) server: Global,
    pub(super) weak_set: Global,
    /// Whether a `WeakSet` has `_iterating` and `_pending_removals`.
    pub(super) weak_set_puts_off: bool,
    pub(super) weak_reference: Global,
    pub(super) deque: Global,
    pub(super) fsdecode: Global,
    pub(crate) warn: Global,
    /// The tuple `("exc_info",)`, names of a call's keyword arguments.
    pub(super) exc_info_name: Global,
    /// The tuple `("source",)`.
    pub(super) source_name: Global,
}

static IMPORTS: PyOnceLock<TransportImports> = PyOnceLock::new();

/// The imported objects. They are there once the module is.
#[inline]
pub(crate) fn imports(py: Python<'_>) -> &'static TransportImports {
    match IMPORTS.get(py) {
        Some(imports) => imports,
        None => missing(),
    }
}

#[cold]
fn missing() -> &'static TransportImports {
    // A transport exists only after `load`, which runs first when the module starts.
    unreachable!("imported before any transport is made")
}

/// Imports everything. Raises what importing asyncio raises.
pub(super) fn load(py: Python<'_>) -> Result<(), Raised> {
    let get = |module: &Obj, name: &str| module.attr(&PyString::intern(py, name));
    let global = |module: &Obj, name: &str| get(module, name).map(Global::new);
    let names = |name: &str| -> Result<Global, Raised> {
        let name = Obj::from_bound(PyString::intern(py, name));
        Ok(Global::new(Obj::tuple(py, &[name])?))
    };
    let constants = Obj::import(py, c"asyncio.constants")?;
    let weak_set = get(&Obj::import(py, c"weakref")?, "WeakSet")?;
    let put_off = PyString::intern(py, "_pending_removals");
    let socket = Obj::import(py, c"socket")?;
    let socket = get(&socket, "socket")?;
    let sendfile_modes = get(&constants, "_SendfileMode")?;
    let imports = TransportImports {
        transport_base: Global::new(make_base(py, &["_FlowControlMixin"])?),
        buffered_protocol: global(&Obj::import(py, c"asyncio.protocols")?, "BufferedProtocol")?,
        transport_socket: global(&Obj::import(py, c"asyncio.trsock")?, "TransportSocket")?,
        try_native_sendfile: global(&sendfile_modes, "TRY_NATIVE")?,
        constants: Global::new(constants),
        logger: global(&Obj::import(py, c"asyncio.log")?, "logger")?,
        set_result_unless_cancelled: global(
            &Obj::import(py, c"asyncio.futures")?,
            "_set_result_unless_cancelled",
        )?,
        new_socket: global(&socket, "__new__")?,
        init_socket: global(&get(&socket, "__base__")?, "__init__")?,
        socket: Global::new(socket),
        server: global(&Obj::import(py, c"asyncio.base_events")?, "Server")?,
        weak_set_puts_off: weak_set.call0()?.attr_opt(&put_off)?.is_some(),
        weak_set: Global::new(weak_set),
        weak_reference: global(&Obj::import(py, c"weakref")?, "ref")?,
        deque: global(&Obj::import(py, c"collections")?, "deque")?,
        fsdecode: global(&Obj::import(py, c"os")?, "fsdecode")?,
        warn: global(&Obj::import(py, c"warnings")?, "warn")?,
        exc_info_name: names("exc_info")?,
        source_name: names("source")?,
    };
    let _ = IMPORTS.set(py, imports);
    Ok(())
}

/// Makes a subclass of classes of `asyncio.transports`. It has to be a `_FlowControlMixin` for
/// asyncio's sendfile fallback. It has to allow weak references for servers, and asyncio's base
/// classes do not.
pub(crate) fn make_base(py: Python<'_>, bases: &[&str]) -> Result<Obj, Raised> {
    let transports = Obj::import(py, c"asyncio.transports")?;
    let bases: Result<Vec<Obj>, Raised> = bases
        .iter()
        .map(|name| transports.attr(&PyString::intern(py, name)))
        .collect();
    let bases = Obj::tuple(py, &bases?)?;
    let slots = Obj::tuple(py, &[Obj::str(py, "__weakref__")?])?;
    let namespace = Obj::dict(py)?;
    namespace.dict_set(&Obj::str(py, "__slots__")?, &slots)?;
    namespace.dict_set(&Obj::str(py, "__module__")?, &Obj::str(py, "aioxide")?)?;
    let class = Obj::class_of::<pyo3::types::PyType>(py);
    class.call(&[&Obj::str(py, "_Transport")?, &bases, &namespace])
}
