//! `StreamReader`: the type, and how it gets its data.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot};

use super::classes::{ReplacedPart, StreamClass};
use super::content::Content;
use super::imports::imports;
use super::reading::ReadCoroutine;
use crate::coroutines::coroutine::Turn;
use crate::event_loop::EventLoop;
use crate::futures::create_future;
use crate::interop::asyncio;
use crate::tasks::any_future::AnyFuture;

/// The class that programs see.
pub(super) static CLASS: StreamClass = StreamClass::new(
    &[
        "read",
        "readline",
        "readuntil",
        "_wait_for_data",
        "_wakeup_waiter",
        "_maybe_resume_transport",
        "_buffer",
        "_limit",
        "_loop",
        "_eof",
        "_waiter",
        "_exception",
        "_transport",
        "_paused",
    ],
    &["feed_data", "exception"],
);

/// asyncio's `_DEFAULT_LIMIT`, in bytes.
const DEFAULT_LIMIT: usize = 64 * 1024;

/// The value of a reader.
pub(crate) struct StreamReader {
    pub(super) content: Content,
    /// The largest size of a line, in bytes; `limit_object` is `_limit` as the program has given
    /// it.
    pub(super) limit: Cell<usize>,
    limit_object: Slot,
    event_loop: Slot,
    /// The Future on which a reading coroutine waits for data.
    pub(super) waiter: Slot,
    pub(super) exception: Slot,
    transport: Slot,
    pub(super) eof: Cell<bool>,
    paused: Cell<bool>,
    replaced: Cell<ReplacedPart>,
    /// A coroutine that has ended, kept as a spare.
    pub(super) spare: Slot<Ref<ReadCoroutine>>,
}

impl StreamReader {
    fn value(_: Python<'_>) -> Result<StreamReader, Raised> {
        Ok(StreamReader {
            content: Content::default(),
            limit: Cell::new(DEFAULT_LIMIT),
            limit_object: Slot::default(),
            event_loop: Slot::default(),
            waiter: Slot::default(),
            exception: Slot::default(),
            transport: Slot::default(),
            eof: Cell::new(false),
            paused: Cell::new(false),
            replaced: Cell::new(ReplacedPart::Inner),
            spare: Slot::default(),
        })
    }

    fn init(this: &Ref<StreamReader>, args: &Args<'_>) -> Result<(), Raised> {
        let py = this.py();
        let names = &["limit", "loop"];
        let [limit, event_loop] = args.bind_as_python("StreamReader.__init__", names, 0)?;
        this.replaced.set(CLASS.replaced(this.as_obj()));
        if this.replaced.get() == ReplacedPart::Nothing {
            Ref::remember_class(this);
        }
        match &limit {
            Some(limit) => {
                check_limit(limit)?;
                StreamReader::set_limit(this, Some(limit))?;
            }
            None => this.limit.set(DEFAULT_LIMIT),
        }
        let event_loop = loop_or_current(py, event_loop, 2)?;
        this.content.set_shown(None);
        this.eof.set(false);
        this.waiter.set(None);
        this.exception.set(None);
        this.transport.set(None);
        this.paused.set(false);
        this.event_loop.set(Some(event_loop.clone()));
        if is_debugging(&event_loop)? {
            let frame = asyncio(py).getframe.get(py).call1(&Obj::int(py, 0)?)?;
            let stack = imports(py).extract_stack.get(py).call1(&frame)?;
            let name = pyo3::intern!(py, "_source_traceback");
            this.as_obj().set_attr(name, &stack)?;
        }
        Ok(())
    }

    /// Whether native methods may look at the fields; otherwise asyncio's code does the work.
    #[inline]
    pub(super) fn has_native_fields(this: &Ref<StreamReader>) -> bool {
        this.replaced.get() != ReplacedPart::Inner && this.content.is_native(this.py())
    }

    /// Whether a read needs nothing but to take bytes from the native content.
    #[inline]
    pub(super) fn is_ready_to_take(&self) -> bool {
        self.replaced.get() != ReplacedPart::Inner
            && !self.content.is_shown()
            && self.exception.is_none()
            && !self.paused.get()
    }

    /// Whether a method was replaced. If not, native code of other classes need not call the public
    /// methods.
    #[inline]
    pub(super) fn is_replaced(this: &Ref<StreamReader>) -> bool {
        this.replaced.get() != ReplacedPart::Nothing
    }

    fn set_limit(this: &Ref<StreamReader>, value: Option<&Obj>) -> Result<(), Raised> {
        let limit = value.and_then(Obj::small_int);
        match limit.and_then(|limit| usize::try_from(limit).ok()) {
            Some(limit) => this.limit.set(limit),
            // A limit that is no length is left to asyncio's code, which compares with it.
            None => this.replaced.set(ReplacedPart::Inner),
        }
        this.limit_object.set(value.cloned());
        Ok(())
    }

    fn shown_limit(this: &Ref<StreamReader>) -> Result<Obj, Raised> {
        match this.limit_object.get() {
            Some(limit) => Ok(limit),
            None => Obj::int(this.py(), this.limit.get() as i64),
        }
    }

    /// `feed_data(data)`.
    fn feed_data(this: &Ref<StreamReader>, args: &Args<'_>) -> Result<(), Raised> {
        StreamReader::feed_object(this, args.one("StreamReader.feed_data", "data")?)
    }

    /// `feed_data(data)`: adds a bytes-like object.
    #[inline]
    pub(super) fn feed_object(this: &Ref<StreamReader>, data: &Obj) -> Result<(), Raised> {
        match data.as_bytes() {
            Some(bytes) if data.is_bytes_exact() && StreamReader::has_native_fields(this) => {
                StreamReader::refuse_after_eof(this)?;
                if bytes.is_empty() {
                    return Ok(());
                }
                this.content.add_object(data, bytes);
                StreamReader::has_data(this)
            }
            _ => StreamReader::feed_slowly(this, data),
        }
    }

    #[cold]
    fn feed_slowly(this: &Ref<StreamReader>, data: &Obj) -> Result<(), Raised> {
        let py = this.py();
        let method = imports(py).reader.feed_data.get(py);
        method.call(&[this.as_obj(), data]).map(drop)
    }

    /// Adds bytes in native memory, as `feed_data`, without waking the reader.
    #[inline]
    pub(super) fn feed(this: &Ref<StreamReader>, bytes: &[u8]) -> Result<(), Raised> {
        StreamReader::refuse_after_eof(this)?;
        this.content.add(this.py(), bytes)
    }

    #[inline]
    fn refuse_after_eof(this: &Ref<StreamReader>) -> Result<(), Raised> {
        if this.eof.get() {
            return Err(Raised::new::<pyo3::exceptions::PyAssertionError>(
                this.py(),
                "feed_data after feed_eof",
            ));
        }
        Ok(())
    }

    /// Wakes the waiter after data was added, and pauses the transport if there is too much data.
    #[inline]
    pub(super) fn has_data(this: &Ref<StreamReader>) -> Result<(), Raised> {
        StreamReader::wake(this)?;
        let limit = this.limit.get();
        if this.content.len() > limit.saturating_mul(2) && !this.paused.get() {
            StreamReader::pause_transport(this)?;
        }
        Ok(())
    }

    #[inline(never)]
    fn pause_transport(this: &Ref<StreamReader>) -> Result<(), Raised> {
        let py = this.py();
        let Some(transport) = this.transport.get() else {
            return Ok(());
        };
        match transport.method(pyo3::intern!(py, "pause_reading"), &[]) {
            Ok(_) => this.paused.set(true),
            Err(raised) => {
                raised.ignore::<pyo3::exceptions::PyNotImplementedError>(py)?;
                this.transport.set(None);
            }
        }
        Ok(())
    }

    /// `_wakeup_waiter()`.
    #[inline]
    fn wake(this: &Ref<StreamReader>) -> Result<(), Raised> {
        let Some(waiter) = this.waiter.take() else {
            return Ok(());
        };
        let none = Obj::none(this.py());
        AnyFuture::of_waiter(&waiter).set_unless_cancelled(Ok(none))
    }

    /// `_maybe_resume_transport()`.
    #[inline]
    pub(super) fn maybe_resume_transport(this: &Ref<StreamReader>) -> Result<(), Raised> {
        if this.paused.get() && this.content.len() <= this.limit.get() {
            return StreamReader::resume_transport(this);
        }
        Ok(())
    }

    #[inline(never)]
    fn resume_transport(this: &Ref<StreamReader>) -> Result<(), Raised> {
        let py = this.py();
        this.paused.set(false);
        let transport = this.transport.get().unwrap_or_else(|| Obj::none(py));
        let name = pyo3::intern!(py, "resume_reading");
        transport.method(name, &[]).map(drop)
    }

    /// `_wait_for_data(function)`: the waiter to be awaited. The caller takes it out of its place
    /// afterwards, whatever its outcome.
    pub(super) fn wait_for_data(this: &Ref<StreamReader>, function: &str) -> Result<Turn, Raised> {
        let py = this.py();
        if this.waiter.is_some() {
            let text = format!(
                "{function}() called while another coroutine is already waiting for incoming data"
            );
            return Err(Raised::runtime_error(py, &text));
        }
        // The transport is resumed: while it is paused, no data comes.
        if this.paused.get() {
            StreamReader::resume_transport(this)?;
        }
        let event_loop = this.event_loop.get().unwrap_or_else(|| Obj::none(py));
        let waiter = create_future(&event_loop)?;
        this.waiter.set(Some(waiter.clone()));
        Ok(Turn::Await(waiter))
    }

    fn feed_eof(this: &Ref<StreamReader>) -> Result<(), Raised> {
        let py = this.py();
        if this.replaced.get() == ReplacedPart::Inner {
            let method = imports(py).reader.feed_eof.get(py);
            return method.call1(this.as_obj()).map(drop);
        }
        this.eof.set(true);
        StreamReader::wake(this)
    }

    fn at_eof(this: &Ref<StreamReader>) -> Result<Obj, Raised> {
        let py = this.py();
        if !StreamReader::has_native_fields(this) {
            return imports(py).reader.at_eof.get(py).call1(this.as_obj());
        }
        Ok(Obj::bool(py, this.eof.get() && this.content.is_empty()))
    }

    fn set_exception(this: &Ref<StreamReader>, args: &Args<'_>) -> Result<(), Raised> {
        let py = this.py();
        let exception = args.one("StreamReader.set_exception", "exc")?;
        if this.replaced.get() == ReplacedPart::Inner {
            let method = imports(py).reader.set_exception.get(py);
            return method.call(&[this.as_obj(), exception]).map(drop);
        }
        this.exception.set(exception.clone().not_none());
        match this.waiter.take() {
            Some(waiter) => {
                AnyFuture::of_waiter(&waiter).set_unless_cancelled(Err(exception.clone()))
            }
            None => Ok(()),
        }
    }

    fn set_transport(this: &Ref<StreamReader>, args: &Args<'_>) -> Result<(), Raised> {
        let transport = args.one("StreamReader.set_transport", "transport")?;
        if this.transport.is_some() {
            return Err(Raised::new::<pyo3::exceptions::PyAssertionError>(
                this.py(),
                "Transport already set",
            ));
        }
        this.transport.set(transport.clone().not_none());
        Ok(())
    }

    fn attribute_set(this: &Ref<StreamReader>, name: &Obj) {
        match CLASS.replaced_by(name) {
            ReplacedPart::Nothing => {}
            ReplacedPart::Outer if this.replaced.get() == ReplacedPart::Inner => {}
            replaced => this.replaced.set(replaced),
        }
    }
}

/// `limit` must be above 0. Raises ValueError, or what comparing raises.
fn check_limit(limit: &Obj) -> Result<(), Raised> {
    let py = limit.py();
    let refused = match limit.small_int() {
        Some(limit) => limit <= 0,
        None => limit.is_at_most(&Obj::int(py, 0)?)?,
    };
    if refused {
        return Err(Raised::value_error(py, "Limit cannot be <= 0"));
    }
    Ok(())
}

/// The loop that was given, or the current one. 3.11 warns if there is none; `level` is the
/// `stacklevel` of the warning.
pub(super) fn loop_or_current(
    py: Python<'_>,
    given: Option<Obj>,
    level: i64,
) -> Result<Obj, Raised> {
    if let Some(event_loop) = given.and_then(Obj::not_none) {
        return Ok(event_loop);
    }
    let events = asyncio(py).events.get(py);
    if cfg!(Py_3_12) {
        return events.method(pyo3::intern!(py, "get_event_loop"), &[]);
    }
    let name = pyo3::intern!(py, "_get_event_loop");
    events.method(name, &[&Obj::int(py, level)?])
}

/// `loop.get_debug()`.
pub(super) fn is_debugging(event_loop: &Obj) -> Result<bool, Raised> {
    match Ref::<EventLoop>::of(event_loop) {
        Some(native) if !EventLoop::is_replaced(native) => Ok(native.debug()),
        _ => event_loop
            .method(pyo3::intern!(event_loop.py(), "get_debug"), &[])?
            .truth(),
    }
}

impl Hot for StreamReader {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide._aioxide.StreamReader";
    const DOC: &'static std::ffi::CStr =
        c"StreamReader(limit=65536, loop=None)\n--\n\nThe native part of a StreamReader.";
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        builder
            .new_value(StreamReader::value)
            .init(StreamReader::init)
            .on_set_attribute(StreamReader::attribute_set)
            .method(
                c"feed_data",
                c"feed_data($self, /, data)\n--\n\nAdd data that has come in.",
                StreamReader::feed_data,
            )
            .method0(
                c"feed_eof",
                c"feed_eof($self, /)\n--\n\nNothing more will come in.",
                StreamReader::feed_eof,
            )
            .method0(
                c"at_eof",
                c"at_eof($self, /)\n--\n\nReturn True if everything was read and nothing more comes.",
                StreamReader::at_eof,
            )
            .method0(
                c"exception",
                c"exception($self, /)\n--\n\nReturn the exception that reading raises, or None.",
                |this| this.exception.get(),
            )
            .method(
                c"set_exception",
                c"set_exception($self, /, exc)\n--\n\nHave reading raise an exception.",
                StreamReader::set_exception,
            )
            .method(
                c"set_transport",
                c"set_transport($self, /, transport)\n--\n\nSet the transport to be paused when too much comes in.",
                StreamReader::set_transport,
            )
            .method0(
                c"_wakeup_waiter",
                c"_wakeup_waiter($self, /)\n--\n\nWake the coroutine that waits for data.",
                |this| {
                    let py = this.py();
                    if this.replaced.get() == ReplacedPart::Inner {
                        let method = imports(py).reader.wakeup_waiter.get(py);
                        return method.call1(this.as_obj()).map(drop);
                    }
                    StreamReader::wake(this)
                },
            )
            .method0(
                c"_maybe_resume_transport",
                c"_maybe_resume_transport($self, /)\n--\n\nResume the transport if enough was read.",
                |this| {
                    let py = this.py();
                    if !StreamReader::has_native_fields(this) {
                        let method = imports(py).reader.maybe_resume_transport.get(py);
                        return method.call1(this.as_obj()).map(drop);
                    }
                    StreamReader::maybe_resume_transport(this)
                },
            )
            .get_set(
                c"_buffer",
                c"The bytes that were not read yet.",
                |this| this.content.show(this.py()),
                |this, value| {
                    this.content.set_shown(value.cloned());
                    Ok(())
                },
            )
            .get_set(
                c"_limit",
                c"The largest size of a line, in bytes.",
                StreamReader::shown_limit,
                StreamReader::set_limit,
            )
            .attribute(
                c"_loop",
                c"The loop.",
                |this| &this.event_loop,
            )
            .attribute(
                c"_waiter",
                c"The Future on which a reading coroutine waits.",
                |this| &this.waiter,
            )
            .attribute(
                c"_exception",
                c"The exception that reading raises.",
                |this| &this.exception,
            )
            .attribute(
                c"_transport",
                c"The transport to be paused.",
                |this| &this.transport,
            )
            .flag(
                c"_eof",
                c"Whether no more data will come in.",
                |this| &this.eof,
            )
            .flag(
                c"_paused",
                c"Whether the transport is paused.",
                |this| &this.paused,
            );
    }

    cpython::holds!(
        content,
        limit_object,
        event_loop,
        waiter,
        exception,
        transport,
        spare
    );
}
