//! `StreamReaderProtocol`: the native part of the protocol between a transport and a reader.
//!
//! asyncio's own code handles the beginning and the end of a connection. This file handles each
//! packet in between, and waiting in `drain()`.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot};

use super::classes::{ReplacedPart, StreamClass};
use super::connection::{self, Connection, HasConnection};
use super::imports::imports;
use super::reader::{StreamReader, is_debugging, loop_or_current};
use crate::coroutines::coroutine::Turn;
use crate::futures::create_future;
use crate::handles::served::{Taken, TakesBytes};

/// The class that programs see.
pub(super) static CLASS: StreamClass = StreamClass::new(
    &["_stream_reader", "_stream_reader_wr", "data_received"],
    &[
        "_drain_helper",
        "_drain_waiters",
        "_paused",
        "_connection_lost",
        "_loop",
    ],
);

/// The value of a protocol.
pub(crate) struct StreamReaderProtocol {
    event_loop: Slot,
    /// A weak reference to the reader: if the program drops its reader, received bytes are dropped.
    reader: Slot,
    /// The write buffer is above high water.
    paused: Cell<bool>,
    connection_lost: Cell<bool>,
    connection: Connection,
    /// The part of the class that was replaced; nothing until it was looked at.
    replaced: Cell<Option<ReplacedPart>>,
}

impl StreamReaderProtocol {
    fn value(_: Python<'_>) -> Result<StreamReaderProtocol, Raised> {
        Ok(StreamReaderProtocol {
            event_loop: Slot::default(),
            reader: Slot::default(),
            paused: Cell::new(false),
            connection_lost: Cell::new(false),
            connection: Connection::default(),
            replaced: Cell::new(None),
        })
    }

    /// `__init__(stream_reader, client_connected_cb=None, loop=None)`. asyncio's own runs for
    /// objects of subclasses, in which another class may stand between it and what it calls.
    fn init(this: &Ref<StreamReaderProtocol>, args: &Args<'_>) -> Result<(), Raised> {
        let py = this.py();
        if !CLASS.is_of(this.as_obj()) {
            let (positional, named) = args.to_tuple_and_dict(py)?;
            let init = imports(py).protocol.init.get(py);
            let bound = init.method(pyo3::intern!(py, "__get__"), &[this.as_obj()])?;
            return bound.call_with_dict(&positional, named.as_ref()).map(drop);
        }
        let names = &["stream_reader", "client_connected_cb", "loop"];
        let [reader, callback, event_loop] =
            args.bind_as_python("StreamReaderProtocol.__init__", names, 1)?;
        let event_loop = loop_or_current(py, event_loop, 2)?;
        this.event_loop.set(Some(event_loop.clone()));
        this.paused.set(false);
        this.connection_lost.set(false);
        let reader = reader.and_then(Obj::not_none);
        match &reader {
            Some(reader) => {
                let reference = imports(py).weak_reference.get(py).call1(reader)?;
                this.reader.set(Some(reference));
                let name = pyo3::intern!(py, "_source_traceback");
                if let Some(source) = reader.attr(name)?.not_none() {
                    this.as_obj().set_attr(name, &source)?;
                }
            }
            None => this.reader.set(None),
        }
        let callback = callback.and_then(Obj::not_none);
        this.connection.begin(&event_loop, reader, callback)
    }

    #[inline]
    fn replaced(this: &Ref<StreamReaderProtocol>) -> ReplacedPart {
        if let Some(replaced) = this.replaced.get() {
            return replaced;
        }
        let replaced = CLASS.replaced(this.as_obj());
        if replaced == ReplacedPart::Nothing {
            Ref::remember_class(this);
        }
        this.replaced.set(Some(replaced));
        replaced
    }

    fn attribute_set(this: &Ref<StreamReaderProtocol>, name: &Obj) {
        match CLASS.replaced_by(name) {
            ReplacedPart::Nothing => {}
            _ => this.replaced.set(Some(ReplacedPart::Inner)),
        }
    }

    /// The reader, while there is one.
    #[inline]
    fn reader(this: &Ref<StreamReaderProtocol>) -> Result<Option<Obj>, Raised> {
        match this.reader.get() {
            Some(reference) => Ok(reference.call0()?.not_none()),
            None => Ok(None),
        }
    }

    fn data_received(this: &Ref<StreamReaderProtocol>, data: &Obj) -> Result<(), Raised> {
        let py = this.py();
        let reader = if StreamReaderProtocol::replaced(this) == ReplacedPart::Inner {
            let reader = this.as_obj().attr(pyo3::intern!(py, "_stream_reader"))?;
            reader.not_none()
        } else {
            StreamReaderProtocol::reader(this)?
        };
        let Some(reader) = reader else {
            return Ok(());
        };
        match Ref::<StreamReader>::of(&reader) {
            Some(reader) if !StreamReader::is_replaced(reader) => {
                StreamReader::feed_object(reader, data)
            }
            _ => {
                let name = pyo3::intern!(py, "feed_data");
                reader.method(name, &[data]).map(drop)
            }
        }
    }

    /// Whether a method was replaced. If not, native code of other classes may look at the fields.
    #[inline]
    pub(super) fn is_replaced(this: &Ref<StreamReaderProtocol>) -> bool {
        StreamReaderProtocol::replaced(this) != ReplacedPart::Nothing
    }

    /// Whether writing may go on, as far as the fields alone show.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.replaced.get() == Some(ReplacedPart::Nothing)
            && !self.paused.get()
            && !self.connection_lost.get()
    }

    /// `_drain_helper()`: a Future to be awaited, which is in the deque; nothing if there is room.
    #[inline]
    pub(super) fn wait_for_room(this: &Ref<StreamReaderProtocol>) -> Result<Option<Obj>, Raised> {
        if this.connection_lost.get() {
            let class = Obj::class_of::<pyo3::exceptions::PyConnectionResetError>(this.py());
            return Err(Raised::with_class(&class, "Connection lost"));
        }
        if !this.paused.get() {
            return Ok(None);
        }
        StreamReaderProtocol::new_waiter(this).map(Some)
    }

    #[inline(never)]
    fn new_waiter(this: &Ref<StreamReaderProtocol>) -> Result<Obj, Raised> {
        let py = this.py();
        let event_loop = this.event_loop.get().unwrap_or_else(|| Obj::none(py));
        let waiter = create_future(&event_loop)?;
        let waiters = StreamReaderProtocol::drain_waiters(this)?;
        waiters.method(pyo3::intern!(py, "append"), &[&waiter])?;
        Ok(waiter)
    }

    fn drain_waiters(this: &Ref<StreamReaderProtocol>) -> Result<Obj, Raised> {
        let py = this.py();
        let waiters = this.connection.drain_waiters(py)?;
        Ok(waiters.unwrap_or_else(|| Obj::none(py)))
    }

    /// Takes the Future out of the deque.
    pub(super) fn forget_waiter(
        this: &Ref<StreamReaderProtocol>,
        waiter: &Obj,
    ) -> Result<(), Raised> {
        let py = this.py();
        let waiters = StreamReaderProtocol::drain_waiters(this)?;
        let name = pyo3::intern!(py, "remove");
        waiters.method(name, &[waiter]).map(drop)
    }

    fn pause_writing(this: &Ref<StreamReaderProtocol>) -> Result<(), Raised> {
        let py = this.py();
        if this.paused.get() || StreamReaderProtocol::is_debugging(this)? {
            let method = imports(py).protocol.pause_writing.get(py);
            return method.call1(this.as_obj()).map(drop);
        }
        this.paused.set(true);
        Ok(())
    }

    fn resume_writing(this: &Ref<StreamReaderProtocol>) -> Result<(), Raised> {
        let py = this.py();
        let nobody_waits = this.connection.has_no_waiters()
            || match this.connection.drain_waiters(py)? {
                Some(waiters) => waiters.length()? == 0,
                None => false,
            };
        if !this.paused.get() || !nobody_waits || StreamReaderProtocol::is_debugging(this)? {
            let method = imports(py).protocol.resume_writing.get(py);
            return method.call1(this.as_obj()).map(drop);
        }
        this.paused.set(false);
        Ok(())
    }

    fn is_debugging(this: &Ref<StreamReaderProtocol>) -> Result<bool, Raised> {
        match this.event_loop.get() {
            Some(event_loop) => is_debugging(&event_loop),
            None => Ok(true),
        }
    }
}

impl HasConnection for StreamReaderProtocol {
    fn connection(&self) -> &Connection {
        &self.connection
    }

    fn event_loop(&self) -> Option<Obj> {
        self.event_loop.get()
    }
}

impl TakesBytes for StreamReaderProtocol {
    const BUFFERED: bool = false;

    fn takes(this: &Ref<Self>) -> bool {
        StreamReaderProtocol::replaced(this) != ReplacedPart::Inner
    }

    #[inline]
    fn is_open(this: &Ref<Self>) -> bool {
        this.replaced.get() != Some(ReplacedPart::Inner)
    }

    /// Stores the bytes in the reader.
    #[inline]
    fn take(this: &Ref<Self>, bytes: &[u8]) -> Result<Taken, Raised> {
        let Some(reader) = StreamReaderProtocol::reader(this)? else {
            return Ok(Taken::Dropped);
        };
        match Ref::<StreamReader>::of(&reader) {
            Some(native)
                if !StreamReader::is_replaced(native)
                    && StreamReader::has_native_fields(native) =>
            {
                StreamReader::feed(native, bytes)?;
            }
            _ => return Ok(Taken::Refused),
        }
        Ok(Taken::In(Some(reader), false))
    }

    /// Wakes the reader after its bytes were stored.
    #[inline]
    fn proceed(_: &Ref<Self>, taken: Taken) -> Result<(), Raised> {
        match taken {
            Taken::In(Some(reader), _) => match Ref::<StreamReader>::of(&reader) {
                Some(reader) => StreamReader::has_data(reader),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// `_drain_helper()` as a turn of a coroutine: awaits the Future, which is kept in `place`, or
/// returns.
#[inline]
pub(super) fn drain_turn(this: &Ref<StreamReaderProtocol>, place: &Slot) -> Result<Turn, Raised> {
    match StreamReaderProtocol::wait_for_room(this)? {
        None => Ok(Turn::Return(Obj::none(this.py()))),
        Some(waiter) => {
            place.set(Some(waiter.clone()));
            Ok(Turn::Await(waiter))
        }
    }
}

impl Hot for StreamReaderProtocol {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide._aioxide.StreamReaderProtocol";
    const DOC: &'static std::ffi::CStr =
        c"StreamReaderProtocol(stream_reader, client_connected_cb=None, loop=None)\n--\n\n\
The native part of a StreamReaderProtocol.";
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        connection::build(builder);
        builder
            .new_value(StreamReaderProtocol::value)
            .init(StreamReaderProtocol::init)
            .on_set_attribute(StreamReaderProtocol::attribute_set)
            .method(
                c"data_received",
                c"data_received($self, /, data)\n--\n\nData has come in.",
                |this, args: &Args<'_>| {
                    let data = args.one("StreamReaderProtocol.data_received", "data")?;
                    StreamReaderProtocol::data_received(this, data)
                },
            )
            .method0(
                c"pause_writing",
                c"pause_writing($self, /)\n--\n\nThe write buffer is above high water.",
                StreamReaderProtocol::pause_writing,
            )
            .method0(
                c"resume_writing",
                c"resume_writing($self, /)\n--\n\nThe write buffer has drained.",
                StreamReaderProtocol::resume_writing,
            )
            .attribute(c"_loop", c"The loop.", |this| &this.event_loop)
            .attribute(
                c"_stream_reader_wr",
                c"A weak reference to the reader.",
                |this| &this.reader,
            )
            .flag(
                c"_paused",
                c"Whether the write buffer is above high water.",
                |this| &this.paused,
            )
            .flag(
                c"_connection_lost",
                c"Whether the connection is lost.",
                |this| &this.connection_lost,
            );
    }

    cpython::holds!(event_loop, reader, connection);
}
