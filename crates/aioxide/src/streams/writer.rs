//! `StreamWriter`: its native part.

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot};

use super::imports::imports;
use super::reader::StreamReader;
use crate::futures::create_future;
use crate::transports::{self, StreamTransport};

/// The value of a writer.
pub(crate) struct StreamWriter {
    pub(super) transport: Slot,
    pub(super) protocol: Slot,
    pub(super) reader: Slot,
    event_loop: Slot,
    /// asyncio's `_complete_fut`, a Future that is done; made when it is first asked for.
    complete: Slot,
}

impl StreamWriter {
    fn value(_: Python<'_>) -> Result<StreamWriter, Raised> {
        Ok(StreamWriter {
            transport: Slot::default(),
            protocol: Slot::default(),
            reader: Slot::default(),
            event_loop: Slot::default(),
            complete: Slot::default(),
        })
    }

    fn init(this: &Ref<StreamWriter>, args: &Args<'_>) -> Result<(), Raised> {
        let py = this.py();
        let names = &["transport", "protocol", "reader", "loop"];
        let [transport, protocol, reader, event_loop] =
            args.bind_as_python("StreamWriter.__init__", names, 4)?;
        let reader = reader.and_then(Obj::not_none);
        // The fields are set before the check: a writer that fails it is released with them.
        this.transport.set(transport.and_then(Obj::not_none));
        this.protocol.set(protocol.and_then(Obj::not_none));
        this.event_loop.set(event_loop.and_then(Obj::not_none));
        if let Some(reader) = &reader {
            let original = imports(py).reader_class.get(py);
            if !Ref::<StreamReader>::is(reader) && !reader.is_instance(original)? {
                return Err(Raised::new::<pyo3::exceptions::PyAssertionError>(py, ""));
            }
        }
        Ref::remember_class(this);
        this.reader.set(reader);
        this.complete.set(None);
        Ok(())
    }

    /// The transport, or None.
    #[inline]
    pub(super) fn transport_object(this: &Ref<StreamWriter>) -> Obj {
        let transport = this.transport.get();
        transport.unwrap_or_else(|| Obj::none(this.py()))
    }

    fn write(this: &Ref<StreamWriter>, args: &Args<'_>) -> Result<(), Raised> {
        let data = args.one("StreamWriter.write", "data")?;
        let transport = StreamWriter::transport_object(this);
        match plain_transport(&transport) {
            Some(transport) => transports::write(transport, data),
            None => {
                let name = pyo3::intern!(this.py(), "write");
                transport.method(name, &[data]).map(drop)
            }
        }
    }

    fn writelines(this: &Ref<StreamWriter>, args: &Args<'_>) -> Result<(), Raised> {
        let data = args.one("StreamWriter.writelines", "data")?;
        let name = pyo3::intern!(this.py(), "writelines");
        let transport = StreamWriter::transport_object(this);
        transport.method(name, &[data]).map(drop)
    }

    fn is_closing(this: &Ref<StreamWriter>) -> Result<Obj, Raised> {
        let py = this.py();
        let transport = StreamWriter::transport_object(this);
        match plain_transport(&transport) {
            Some(transport) => Ok(Obj::bool(py, transport.is_closing())),
            None => transport.method(pyo3::intern!(py, "is_closing"), &[]),
        }
    }

    fn complete(this: &Ref<StreamWriter>) -> Result<Obj, Raised> {
        let py = this.py();
        if let Some(complete) = this.complete.get() {
            return Ok(complete);
        }
        let event_loop = this.event_loop.get().unwrap_or_else(|| Obj::none(py));
        let complete = create_future(&event_loop)?;
        complete.method(pyo3::intern!(py, "set_result"), &[&Obj::none(py)])?;
        this.complete.set(Some(complete.clone()));
        Ok(complete)
    }
}

/// The native transport, if the program has replaced nothing of it.
#[inline]
pub(super) fn plain_transport(transport: &Obj) -> Option<&Ref<StreamTransport>> {
    Ref::<StreamTransport>::of_exact(transport).filter(|transport| !transport.has_attributes())
}

impl Hot for StreamWriter {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide._aioxide.StreamWriter";
    const DOC: &'static std::ffi::CStr = c"StreamWriter(transport, protocol, reader, loop)\n--\n\n\
The native part of a StreamWriter.";
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        builder
            .new_value(StreamWriter::value)
            .init(StreamWriter::init)
            .method(
                c"write",
                c"write($self, /, data)\n--\n\nWrite data; what the socket does not take is buffered.",
                StreamWriter::write,
            )
            .method(
                c"writelines",
                c"writelines($self, /, data)\n--\n\nWrite an iterable of data.",
                StreamWriter::writelines,
            )
            .method0(
                c"is_closing",
                c"is_closing($self, /)\n--\n\nReturn True if the writer is closed or closing.",
                StreamWriter::is_closing,
            )
            .get(
                c"transport",
                c"The transport.",
                StreamWriter::transport_object,
            )
            .get_set(
                c"_complete_fut",
                c"A Future that is done.",
                StreamWriter::complete,
                |this, value| {
                    this.complete.set(value.cloned());
                    Ok(())
                },
            )
            .attribute(c"_transport", c"The transport.", |this| &this.transport)
            .attribute(c"_protocol", c"The protocol.", |this| &this.protocol)
            .attribute(c"_reader", c"The reader, or None.", |this| &this.reader)
            .attribute(c"_loop", c"The loop.", |this| &this.event_loop);
    }

    cpython::holds!(transport, protocol, reader, event_loop, complete);
}
