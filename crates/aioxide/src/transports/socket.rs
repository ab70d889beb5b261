//! The socket under a transport, and how it is watched and closed: the part that streams and
//! datagrams share.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::{Args, Obj, Python, Raised, Ref, Slot};
use engine::SocketAddrStorage;

use super::descriptor::{Descriptor, OwnedSocket};
use super::extra_info::{ExtraInfo, get_extra_info};
use super::outgoing::Writes;
use super::reports::{log_exception, report_failure};
use super::transport::{self, Core, Transport, TransportChannel, callback_context};
use crate::event_loop::EventLoop;

/// A socket, and the state of the transport that depends on it.
pub(crate) struct Socket {
    pub(super) core: Core,
    /// The descriptor, or the Python socket that owns it, until the connection is lost.
    pub(super) descriptor: Descriptor,
    pub(super) extra: ExtraInfo,
    /// Whether the loop watches the descriptor for reading. If it does not, an entry that is still
    /// in the ready queue does nothing.
    pub(super) watches_read: Cell<bool>,
    /// Whether the loop watches the descriptor for writing.
    pub(super) watches_write: Cell<bool>,
    /// asyncio's `_conn_lost`: not 0 once `connection_lost` is scheduled; counts writes after.
    pub(super) lost: Cell<u32>,
}

cpython::holds!(Socket: core, extra, descriptor);

impl Socket {
    /// Takes a socket over; `extra` and `peer` are arguments of [`ExtraInfo::new`].
    pub(super) fn open(
        event_loop: &Ref<EventLoop>,
        owned: OwnedSocket,
        fd: i32,
        extra: Option<Obj>,
        peer: Option<SocketAddrStorage>,
    ) -> Result<Socket, Raised> {
        let descriptor = Descriptor::new(owned);
        Ok(Socket {
            extra: ExtraInfo::new(event_loop.py(), fd, &descriptor, extra, peer)?,
            core: Core::new(event_loop, fd),
            descriptor,
            watches_read: Cell::new(false),
            watches_write: Cell::new(false),
            lost: Cell::new(0),
        })
    }

    /// Has the loop watch the descriptor for reading, writing, both or neither.
    fn update_watch(&self, transport: &Obj) -> Result<(), Raised> {
        let Some(event_loop) = self.core.event_loop.get() else {
            return Ok(());
        };
        if event_loop.is_closed() {
            return Ok(());
        }
        let (read, write) = (self.watches_read.get(), self.watches_write.get());
        EventLoop::watch(&event_loop, self.core.fd, transport, read, write)
    }
}

impl TransportChannel for Socket {
    #[inline]
    fn core(&self) -> &Core {
        &self.core
    }

    fn is_open(&self) -> bool {
        self.descriptor.is_open()
    }

    fn close(&self, py: Python<'_>) -> Result<(), Raised> {
        match self.descriptor.take() {
            Some(owned) => owned.close(py),
            None => Ok(()),
        }
    }

    fn stop_reading(&self, transport: &Obj) -> Result<(), Raised> {
        match self.watches_read.replace(false) {
            true => self.update_watch(transport),
            false => Ok(()),
        }
    }
}

/// A transport over a socket.
pub(super) trait OverSocket: Writes + Transport<Channel = Socket> {
    /// The qualified name of `_call_connection_lost` in reports.
    const LOST_METHOD: &str;

    /// Handles an error, of the system or not, that comes after the connection was lost, when there
    /// is no loop to report to. Raises what asyncio's transport raises then, if anything.
    fn error_without_loop(py: Python<'_>, system: bool) -> Result<(), Raised>;

    /// Whether nothing waits to be written.
    fn is_drained(&self) -> bool;

    /// Drops the bytes that wait to be written.
    fn discard(&self);

    /// Drops received data that the protocol has not got yet.
    fn forget_received(&self) {}

    /// Sends held bytes, which count as sent.
    fn settle(_this: &Ref<Self>) -> Result<(), Raised> {
        Ok(())
    }
}

/// Adds the methods and properties of both kinds.
pub(super) fn build<T: OverSocket>(builder: &mut Builder<T>) {
    transport::build(builder);
    transport::build_reading(builder);
    build_closing(builder);
    builder
        .repr(repr)
        .method(
            c"get_extra_info",
            c"get_extra_info($self, /, name, default=None)\n--\n\n\
              Get optional transport information.",
            |this, args: &Args<'_>| {
                // The held bytes leave first, because the program may go on with the socket.
                T::settle(this)?;
                let socket = this.channel();
                get_extra_info(&socket.extra, &socket.descriptor, this.py(), args)
            },
        )
        .get_set(
            c"_sock",
            c"The socket, until the connection is lost. One that is set is closed in its place.",
            |this| this.channel().descriptor.socket(this.py()),
            |this, value| {
                let sock = value.cloned().and_then(Obj::not_none);
                this.channel().descriptor.replace(sock);
                Ok(())
            },
        )
        .get(c"_sock_fd", c"Number of the descriptor.", |this| {
            i64::from(this.core().fd)
        })
        .get_set(
            c"_extra",
            c"The dict in which get_extra_info() looks.",
            |this| {
                let socket = this.channel();
                socket.extra.dict(this.py(), &socket.descriptor)
            },
            |this, value| {
                this.channel().extra.set_dict(value.cloned());
                Ok(())
            },
        );
}

fn build_closing<T: OverSocket>(builder: &mut Builder<T>) {
    transport::build_closing(builder, close, |this| force_close(this, None));
    builder
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
            |this, args: &Args<'_>| {
                transport::call_connection_lost(this, args.one(T::LOST_METHOD, "exc")?)
            },
        )
        .get(
            c"_conn_lost",
            c"Not 0 once connection_lost() is scheduled.",
            |this| i64::from(this.channel().lost.get()),
        )
        .get(
            c"_protocol_connected",
            c"Whether a protocol was set.",
            |this| this.is_connected(),
        );
}

/// Has the loop watch the descriptor for reading from now on.
pub(super) fn watch_read<T: OverSocket>(this: &Ref<T>) -> Result<(), Raised> {
    let socket = this.channel();
    if socket.watches_read.replace(true) {
        return Ok(());
    }
    let watched = socket.update_watch(this.as_obj());
    socket.watches_read.set(watched.is_ok());
    watched
}

/// Has the loop watch the descriptor for writing from now on; `context` gets the context for the
/// callbacks that follow.
pub(super) fn watch_write<T: OverSocket>(this: &Ref<T>, context: &Slot) -> Result<(), Raised> {
    if this.channel().watches_write.replace(true) {
        return Ok(());
    }
    let socket = this.channel();
    let watched = callback_context(this).and_then(|copy| {
        context.set(Some(copy));
        socket.update_watch(this.as_obj())
    });
    socket.watches_write.set(watched.is_ok());
    watched
}

/// Stops watching the descriptor for writing.
pub(super) fn unwatch_write<T: OverSocket>(this: &Ref<T>) -> Result<(), Raised> {
    match this.channel().watches_write.replace(false) {
        true => this.channel().update_watch(this.as_obj()),
        false => Ok(()),
    }
}

/// Stops receiving, and drops received data that the protocol has not got yet.
fn stop_reading<T: OverSocket>(this: &Ref<T>) -> Result<(), Raised> {
    this.forget_received();
    this.channel().stop_reading(this.as_obj())
}

/// `close()`: sends the bytes that wait, then ends the connection.
pub(super) fn close<T: OverSocket>(this: &Ref<T>) -> Result<(), Raised> {
    let socket = this.channel();
    if this.core().closing.replace(true) {
        return Ok(());
    }
    stop_reading(this)?;
    T::settle(this)?;
    if this.is_drained() {
        socket.lost.set(socket.lost.get().saturating_add(1));
        unwatch_write(this)?;
        transport::schedule_lost(this, None)?;
    }
    Ok(())
}

/// `_force_close(exc)` and `abort()`: ends the connection now.
pub(super) fn force_close<T: OverSocket>(
    this: &Ref<T>,
    exception: Option<Obj>,
) -> Result<(), Raised> {
    T::settle(this)?;
    let socket = this.channel();
    if socket.lost.get() > 0 {
        return Ok(());
    }
    this.discard();
    unwatch_write(this)?;
    this.core().closing.set(true);
    stop_reading(this)?;
    socket.lost.set(1);
    transport::schedule_lost(this, exception)
}

/// `_fatal_error(exc, message)`: an error of the system gives a debug message only.
#[cold]
pub(super) fn fatal_error<T: OverSocket>(
    this: &Ref<T>,
    exception: &Obj,
    message: &str,
) -> Result<(), Raised> {
    let py = this.py();
    let system = exception.is_instance(&Obj::class_of::<pyo3::exceptions::PyOSError>(py))?;
    match this.core().event_loop.get() {
        Some(event_loop) if !system => {
            let protocol = this.core().protocol_or_none(py);
            report_failure(&event_loop, message, exception, this.as_obj(), &protocol)?;
        }
        Some(event_loop) if event_loop.debug() => {
            log_exception(this.as_obj(), message, exception)?;
        }
        Some(_) => {}
        None => T::error_without_loop(py, system)?,
    }
    force_close(this, Some(exception.clone()))
}

fn repr<T: OverSocket>(this: &Ref<T>) -> Result<String, Raised> {
    let mut text = transport::describe(this)?;
    let event_loop = this.core().event_loop.get();
    if event_loop.is_some_and(|event_loop| !event_loop.is_closed()) {
        let state = |watches: &Cell<bool>| if watches.get() { "polling" } else { "idle" };
        text.push_str(&format!(
            " read={} write=<{}, bufsize={}>",
            state(&this.channel().watches_read),
            state(&this.channel().watches_write),
            this.waiting()
        ));
    }
    text.push('>');
    Ok(text)
}
