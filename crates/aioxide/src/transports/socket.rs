//! The socket under a transport, and a transport's life from `connection_made` to
//! `connection_lost`: what streams and datagrams share.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::{Args, Obj, Python, Raised, Ref, Slot, Visit};
use engine::SocketAddrStorage;

use super::core::{self, Core, callback_context};
use super::descriptor::{Descriptor, Owned};
use super::extra_info::{ExtraInfo, get_extra_info};
use super::outgoing::Writes;
use super::reports::{log_debug, log_exception, report, warn_unclosed};
use crate::event_loop::EventLoop;

/// A socket and what a transport has of it.
pub(super) struct Socket {
    /// The loop, until the connection is lost.
    pub(super) event_loop: Slot<Ref<EventLoop>>,
    /// The descriptor, or the Python socket that owns it, until the connection is lost.
    pub(super) descriptor: Descriptor,
    /// The descriptor's number; still shown after the socket is closed.
    pub(super) fd: i32,
    pub(super) protocol: Slot,
    pub(super) extra: ExtraInfo,
    pub(super) core: Core,
    /// Whether the loop watches the descriptor for reading. An entry that is still in the ready
    /// queue after that has ended does nothing.
    pub(super) watches_read: Cell<bool>,
    /// Whether the loop watches the descriptor for writing.
    pub(super) watches_write: Cell<bool>,
    /// `pause_reading()` was called.
    paused: Cell<bool>,
    /// `close()` was called, or an error has closed it.
    pub(super) closing: Cell<bool>,
    /// asyncio's `_conn_lost`: not 0 once `connection_lost` is scheduled; counts writes after.
    pub(super) lost: Cell<u32>,
}

impl Socket {
    /// Takes a socket over; `extra` and `peer` are what [`ExtraInfo::new`] takes.
    pub(super) fn open(
        event_loop: &Ref<EventLoop>,
        owned: Owned,
        fd: i32,
        extra: Option<Obj>,
        peer: Option<SocketAddrStorage>,
    ) -> Result<Socket, Raised> {
        let descriptor = Descriptor::new(owned);
        Ok(Socket {
            extra: ExtraInfo::new(event_loop.py(), fd, &descriptor, extra, peer)?,
            event_loop: Slot::new(Some(event_loop.clone())),
            descriptor,
            fd,
            protocol: Slot::default(),
            core: Core::new(),
            watches_read: Cell::new(false),
            watches_write: Cell::new(false),
            paused: Cell::new(false),
            closing: Cell::new(false),
            lost: Cell::new(0),
        })
    }

    /// Whether the program wants to receive.
    #[inline]
    pub(super) fn is_reading(&self) -> bool {
        !self.closing.get() && !self.paused.get()
    }

    /// Something leaves this end of the connection: the program may hold the other.
    #[inline]
    pub(super) fn look_next(&self) {
        if let Some(event_loop) = self.event_loop.get() {
            event_loop.look_next();
        }
    }

    pub(super) fn traverse(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.event_loop);
        self.descriptor.traverse(visit);
        visit.slot(&self.protocol);
        self.extra.traverse(visit);
        self.core.traverse(visit);
    }

    pub(super) fn clear(&self) {
        self.core.clear();
        self.extra.clear();
        self.event_loop.set(None);
        self.protocol.set(None);
        self.descriptor.clear();
    }
}

/// A transport over a socket.
pub(super) trait OverSocket: Writes {
    /// What reports call its method `_call_connection_lost`.
    const LOST_METHOD: &str;

    /// The socket and what belongs to it.
    fn socket(&self) -> &Socket;

    /// What the loop's exception handler is told of, after the connection was lost.
    fn error_without_loop(py: Python<'_>, system: bool) -> Result<(), Raised>;

    /// Whether nothing waits to be written.
    fn is_drained(&self) -> bool;

    /// Forgets what waits to be written.
    fn discard(&self);

    /// Forgets what was received, but not handed out.
    fn forget_received(&self) {}

    /// Sends what counts as sent but is not.
    fn settle(_this: &Ref<Self>) -> Result<(), Raised> {
        Ok(())
    }

    /// Whether the protocol hears of the end.
    fn is_connected(&self) -> bool {
        true
    }

    /// Lets go of what calls the protocol.
    fn release(&self);

    /// The socket is closed; what comes of that goes to `then`.
    fn after_close(_this: &Ref<Self>, _then: &mut dyn FnMut(Result<(), Raised>)) {}

    /// The transport is released without having been closed.
    fn after_release(_this: &Ref<Self>) -> Result<(), Raised> {
        Ok(())
    }
}

/// The methods and properties of both.
pub(super) fn build<T: OverSocket>(builder: &mut Builder<T>) {
    build_lifecycle(builder);
    build_reading(builder);
    builder
        .instance_dict()
        .repr(repr)
        .method(
            c"get_extra_info",
            c"get_extra_info($self, /, name, default=None)\n--\n\n\
              Get optional transport information.",
            |this, args: &Args<'_>| {
                // The program may go on with the socket.
                T::settle(this)?;
                let socket = this.socket();
                get_extra_info(&socket.extra, &socket.descriptor, this.py(), args)
            },
        )
        .get(
            c"_loop",
            c"The loop, until the connection is lost.",
            |this| this.socket().event_loop.get(),
        )
        .get_set(
            c"_sock",
            c"The socket, until the connection is lost. Another one is closed in its place.",
            |this| this.socket().descriptor.socket(this.py()),
            |this, value| {
                let sock = value.cloned().and_then(Obj::not_none);
                this.socket().descriptor.replace(sock);
                Ok(())
            },
        )
        .get(c"_sock_fd", c"Number of the descriptor.", |this| {
            i64::from(this.socket().fd)
        })
        .get_set(
            c"_extra",
            c"What get_extra_info() looks up.",
            |this| {
                let socket = this.socket();
                socket.extra.dict(this.py(), &socket.descriptor)
            },
            |this, value| {
                this.socket().extra.set_dict(value.cloned());
                Ok(())
            },
        );
}

fn build_lifecycle<T: OverSocket>(builder: &mut Builder<T>) {
    builder
        .method0(
            c"is_closing",
            c"is_closing($self, /)\n--\n\nReturn True if the transport is closing or closed.",
            |this| this.socket().closing.get(),
        )
        .method0(
            c"close",
            c"close($self, /)\n--\n\nClose the transport. Buffered data will be flushed.",
            close,
        )
        .method0(
            c"abort",
            c"abort($self, /)\n--\n\nClose the transport immediately. Buffered data is lost.",
            |this| force_close(this, None),
        )
        .method(
            c"_force_close",
            c"_force_close($self, /, exc)\n--\n\nClose the transport immediately.",
            |this, args: &Args<'_>| {
                let exception = args.one("_SelectorTransport._force_close", "exc")?;
                force_close(this, exception.clone().not_none())
            },
        )
        .method(
            c"_fatal_error",
            c"_fatal_error($self, /, exc, message='Fatal error on transport')\n--\n\n\
              Report an error and close the transport immediately.",
            |this, args: &Args<'_>| {
                let (name, names) = ("_SelectorTransport._fatal_error", &["exc", "message"]);
                let [exception, message] = args.bind_as_python(name, names, 1)?;
                let exception = exception.unwrap_or_else(|| Obj::none(this.py()));
                match message {
                    Some(message) => fatal_error(this, &exception, message.as_str()?),
                    None => fatal_error(this, &exception, "Fatal error on transport"),
                }
            },
        )
        .method(
            c"_call_connection_lost",
            c"_call_connection_lost($self, /, exc)\n--\n\nTell the protocol, close the socket.",
            |this, args: &Args<'_>| call_connection_lost(this, args.one(T::LOST_METHOD, "exc")?),
        )
        .get(c"_closing", c"Whether it is closing or closed.", |this| {
            this.socket().closing.get()
        })
        .get(
            c"_conn_lost",
            c"Not 0 once connection_lost() is scheduled.",
            |this| i64::from(this.socket().lost.get()),
        )
        .get(
            c"_protocol_connected",
            c"Whether a protocol was set.",
            |this| this.is_connected(),
        );
}

fn build_reading<T: OverSocket>(builder: &mut Builder<T>) {
    builder
        .method0(
            c"get_protocol",
            c"get_protocol($self, /)\n--\n\nReturn the current protocol.",
            |this| this.socket().protocol.get(),
        )
        .method0(
            c"is_reading",
            c"is_reading($self, /)\n--\n\nReturn True if the transport is receiving.",
            |this| this.socket().is_reading(),
        )
        .method0(
            c"pause_reading",
            c"pause_reading($self, /)\n--\n\nPause the receiving end.",
            pause_reading,
        )
        .method0(
            c"resume_reading",
            c"resume_reading($self, /)\n--\n\nResume the receiving end.",
            resume_reading,
        )
        .method0(
            c"_start_reading",
            c"_start_reading($self, /)\n--\n\nStart to receive, unless paused or closing.",
            start_reading,
        )
        .get(
            c"_protocol",
            c"The protocol, until the connection is lost.",
            |this| this.socket().protocol.get(),
        )
        .get(c"_paused", c"Whether reading is paused.", |this| {
            this.socket().paused.get()
        });
}

/// `pause_reading()`.
pub(super) fn pause_reading<T: OverSocket>(this: &Ref<T>) -> Result<(), Raised> {
    if !this.socket().is_reading() {
        return Ok(());
    }
    this.socket().paused.set(true);
    unwatch_read(this)?;
    log_if_debug(this, "%r pauses reading")
}

/// `resume_reading()`.
pub(super) fn resume_reading<T: OverSocket>(this: &Ref<T>) -> Result<(), Raised> {
    if this.socket().closing.get() || !this.socket().paused.get() {
        return Ok(());
    }
    this.socket().paused.set(false);
    start_reading(this)?;
    log_if_debug(this, "%r resumes reading")
}

/// Starts to receive, unless paused or closing.
fn start_reading<T: OverSocket>(this: &Ref<T>) -> Result<(), Raised> {
    if !this.socket().is_reading() {
        return Ok(());
    }
    this.set_reading_context(callback_context(this)?);
    T::start_reading_in_context(this)
}

/// Tells the loop what to watch the descriptor for.
fn update_watch<T: OverSocket>(this: &Ref<T>) -> Result<(), Raised> {
    let socket = this.socket();
    let Some(event_loop) = socket.event_loop.get() else {
        return Ok(());
    };
    if event_loop.is_closed() {
        return Ok(());
    }
    let (read, write) = (socket.watches_read.get(), socket.watches_write.get());
    EventLoop::watch(&event_loop, socket.fd, this.as_obj(), read, write)
}

/// The loop watches the descriptor for reading from now on.
pub(super) fn watch_read<T: OverSocket>(this: &Ref<T>) -> Result<(), Raised> {
    match this.socket().watches_read.replace(true) {
        true => Ok(()),
        false => update_watch(this),
    }
}

/// The loop does not watch the descriptor for reading any more.
pub(super) fn unwatch_read<T: OverSocket>(this: &Ref<T>) -> Result<(), Raised> {
    match this.socket().watches_read.replace(false) {
        true => update_watch(this),
        false => Ok(()),
    }
}

/// The loop watches the descriptor for writing from now on; `context` gets the context for what
/// comes then.
pub(super) fn watch_write<T: OverSocket>(this: &Ref<T>, context: &Slot) -> Result<(), Raised> {
    if this.socket().watches_write.replace(true) {
        return Ok(());
    }
    context.set(Some(callback_context(this)?));
    update_watch(this)
}

/// The loop does not watch the descriptor for writing any more.
pub(super) fn unwatch_write<T: OverSocket>(this: &Ref<T>) -> Result<(), Raised> {
    match this.socket().watches_write.replace(false) {
        true => update_watch(this),
        false => Ok(()),
    }
}

/// Nothing is received any more.
fn stop_reading<T: OverSocket>(this: &Ref<T>) -> Result<(), Raised> {
    this.forget_received();
    unwatch_read(this)
}

/// `close()`: flush, then lose.
pub(super) fn close<T: OverSocket>(this: &Ref<T>) -> Result<(), Raised> {
    let socket = this.socket();
    if socket.closing.replace(true) {
        return Ok(());
    }
    stop_reading(this)?;
    T::settle(this)?;
    if this.is_drained() {
        socket.lost.set(socket.lost.get().saturating_add(1));
        unwatch_write(this)?;
        core::schedule_lost(this, None)?;
    }
    Ok(())
}

/// `_force_close(exc)` and `abort()`: lose now.
pub(super) fn force_close<T: OverSocket>(
    this: &Ref<T>,
    exception: Option<Obj>,
) -> Result<(), Raised> {
    T::settle(this)?;
    let socket = this.socket();
    if socket.lost.get() > 0 {
        return Ok(());
    }
    this.discard();
    unwatch_write(this)?;
    socket.closing.set(true);
    stop_reading(this)?;
    socket.lost.set(1);
    core::schedule_lost(this, exception)
}

/// `_fatal_error(exc, message)`: errors of the system are only worth a debug message.
#[cold]
pub(super) fn fatal_error<T: OverSocket>(
    this: &Ref<T>,
    exception: &Obj,
    message: &str,
) -> Result<(), Raised> {
    let py = this.py();
    let system = exception.is_instance(&Obj::class_of::<pyo3::exceptions::PyOSError>(py))?;
    match this.socket().event_loop.get() {
        Some(event_loop) if !system => {
            let protocol = this.socket().protocol.get();
            let protocol = protocol.unwrap_or_else(|| Obj::none(py));
            let parts = [
                ("exception", exception),
                ("transport", this.as_obj()),
                ("protocol", &protocol),
            ];
            report(&event_loop, message, &parts)?;
        }
        Some(event_loop) if event_loop.debug() => {
            log_exception(this.as_obj(), message, exception)?;
        }
        Some(_) => {}
        None => T::error_without_loop(py, system)?,
    }
    force_close(this, Some(exception.clone()))
}

/// A debug message about the transport, in debug mode.
#[inline]
pub(super) fn log_if_debug<T: OverSocket>(this: &Ref<T>, message: &str) -> Result<(), Raised> {
    match this.socket().event_loop.get() {
        Some(event_loop) if event_loop.debug() => log_debug(this.as_obj(), message),
        _ => Ok(()),
    }
}

/// `_call_connection_lost(exc)`: tells the protocol, closes the socket and lets go of everything.
/// Raises what the protocol raises, after that.
pub(super) fn call_connection_lost<T: OverSocket>(
    this: &Ref<T>,
    exception: &Obj,
) -> Result<(), Raised> {
    let py = this.py();
    let socket = this.socket();
    let told = match socket.protocol.get() {
        Some(protocol) if this.is_connected() => protocol
            .method(pyo3::intern!(py, "connection_lost"), &[exception])
            .map(drop),
        _ => Ok(()),
    };
    // The first exception is the one that counts, and none must be set while Python runs.
    let mut first = told.err().map(|raised| raised.take(py));
    let mut then = |result: Result<(), Raised>| {
        if let Err(raised) = result {
            let exception = raised.take(py);
            first.get_or_insert(exception);
        }
    };
    socket.look_next();
    if let Some(owned) = socket.descriptor.take() {
        then(owned.close(py));
    }
    this.release();
    socket.protocol.set(None);
    socket.event_loop.set(None);
    T::after_close(this, &mut then);
    match first {
        Some(exception) => Err(Raised::raise(exception)),
        None => Ok(()),
    }
}

/// The transport is released without having been closed.
pub(super) fn finalize<T: OverSocket>(this: &Ref<T>) {
    let py = this.py();
    if !this.socket().descriptor.is_open() {
        return;
    }
    let then = |result: Result<(), Raised>| {
        if let Err(raised) = result {
            raised.report_unraisable(Some(this.as_obj()));
        }
    };
    then(warn_unclosed(this.as_obj()));
    if let Some(owned) = this.socket().descriptor.take() {
        then(owned.close(py));
    }
    then(T::after_release(this));
}

fn repr<T: OverSocket>(this: &Ref<T>) -> Result<String, Raised> {
    let py = this.py();
    let socket = this.socket();
    let class = this.as_obj().class().attr(pyo3::intern!(py, "__name__"))?;
    let mut text = format!("<{}", class.as_str()?);
    if !socket.descriptor.is_open() {
        text.push_str(" closed");
    } else if socket.closing.get() {
        text.push_str(" closing");
    }
    text.push_str(&format!(" fd={}", socket.fd));
    if socket
        .event_loop
        .get()
        .is_some_and(|event_loop| !event_loop.is_closed())
    {
        let state = |watches: &Cell<bool>| if watches.get() { "polling" } else { "idle" };
        text.push_str(&format!(
            " read={} write=<{}, bufsize={}>",
            state(&socket.watches_read),
            state(&socket.watches_write),
            this.waiting()
        ));
    }
    text.push('>');
    Ok(text)
}
