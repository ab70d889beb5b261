//! Python objects that streams refer to.

use cpython::{Global, Obj, Python, Raised};
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

/// asyncio's own methods of a reader, to which the native ones leave the rarer cases.
pub(super) struct ReaderMethods {
    pub(super) feed_data: Global,
    pub(super) feed_eof: Global,
    pub(super) at_eof: Global,
    pub(super) set_exception: Global,
    pub(super) wakeup_waiter: Global,
    pub(super) maybe_resume_transport: Global,
    pub(super) read: Global,
    pub(super) readline: Global,
    pub(super) readuntil: Global,
    pub(super) readexactly: Global,
    pub(super) anext: Global,
}

/// asyncio's own methods of a writer.
pub(super) struct WriterMethods {
    pub(super) drain: Global,
    pub(super) wait_closed: Global,
}

/// asyncio's own methods of a protocol.
pub(super) struct ProtocolMethods {
    pub(super) init: Global,
    pub(super) pause_writing: Global,
    pub(super) resume_writing: Global,
    pub(super) drain_helper: Global,
}

/// Objects of asyncio, as they were when aioxide was imported.
pub(super) struct StreamImports {
    pub(super) reader: ReaderMethods,
    pub(super) writer: WriterMethods,
    pub(super) protocol: ProtocolMethods,
    /// asyncio's own StreamReader.
    pub(super) reader_class: Global,
    pub(super) incomplete_read_error: Global,
    pub(super) limit_overrun_error: Global,
    /// `format_helpers.extract_stack`.
    pub(super) extract_stack: Global,
    /// `collections.deque`.
    pub(super) deque: Global,
    /// `weakref.ref`.
    pub(super) weak_reference: Global,
}

static IMPORTS: PyOnceLock<StreamImports> = PyOnceLock::new();

/// The imported objects. They are there once the module is.
#[inline]
pub(super) fn imports(py: Python<'_>) -> &'static StreamImports {
    match IMPORTS.get(py) {
        Some(imports) => imports,
        None => missing(),
    }
}

#[cold]
fn missing() -> &'static StreamImports {
    // A stream exists only after `load`, which runs first when the module starts.
    unreachable!("imported before any stream is made")
}

/// Imports everything. Raises what importing asyncio raises.
pub(super) fn load(py: Python<'_>) -> Result<(), Raised> {
    let global = |object: &Obj, name: &str| -> Result<Global, Raised> {
        object.attr(&PyString::intern(py, name)).map(Global::new)
    };
    let streams = Obj::import(py, c"asyncio.streams")?;
    let exceptions = Obj::import(py, c"asyncio.exceptions")?;
    let reader = streams.attr(pyo3::intern!(py, "StreamReader"))?;
    let writer = streams.attr(pyo3::intern!(py, "StreamWriter"))?;
    let protocol = streams.attr(pyo3::intern!(py, "StreamReaderProtocol"))?;
    let imports = StreamImports {
        writer: WriterMethods {
            drain: global(&writer, "drain")?,
            wait_closed: global(&writer, "wait_closed")?,
        },
        protocol: ProtocolMethods {
            init: global(&protocol, "__init__")?,
            pause_writing: global(&protocol, "pause_writing")?,
            resume_writing: global(&protocol, "resume_writing")?,
            drain_helper: global(&protocol, "_drain_helper")?,
        },
        reader: ReaderMethods {
            feed_data: global(&reader, "feed_data")?,
            feed_eof: global(&reader, "feed_eof")?,
            at_eof: global(&reader, "at_eof")?,
            set_exception: global(&reader, "set_exception")?,
            wakeup_waiter: global(&reader, "_wakeup_waiter")?,
            maybe_resume_transport: global(&reader, "_maybe_resume_transport")?,
            read: global(&reader, "read")?,
            readline: global(&reader, "readline")?,
            readuntil: global(&reader, "readuntil")?,
            readexactly: global(&reader, "readexactly")?,
            anext: global(&reader, "__anext__")?,
        },
        reader_class: Global::new(reader),
        incomplete_read_error: global(&exceptions, "IncompleteReadError")?,
        limit_overrun_error: global(&exceptions, "LimitOverrunError")?,
        extract_stack: global(
            &Obj::import(py, c"asyncio.format_helpers")?,
            "extract_stack",
        )?,
        deque: global(&Obj::import(py, c"collections")?, "deque")?,
        weak_reference: global(&Obj::import(py, c"weakref")?, "ref")?,
    };
    let _ = IMPORTS.set(py, imports);
    Ok(())
}
