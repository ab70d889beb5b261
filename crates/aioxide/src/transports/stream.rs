//! `StreamTransport`: the type, its Python face, and how one is made.

use std::cell::{Cell, RefCell};

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Raised, Ref, Slot, Visit};
use engine::{FlowControl, SocketAddrStorage, sys};

use super::core::{self, Core, Transport};
use super::extra_info::{self, ExtraInfo};
use super::holding;
use super::imports;
use super::lifecycle::{self, Lifecycle};
use super::outgoing::Writes;
use super::reading::{self, Reading};
use super::registry;
use super::writing::{self, Writing};
use crate::event_loop::EventLoop;

/// The value of a transport over a stream socket.
pub(crate) struct StreamTransport {
    /// The loop, until the connection is lost.
    pub(super) event_loop: Slot<Ref<EventLoop>>,
    /// The Python socket, which owns the descriptor, until the connection is lost.
    pub(super) sock: Slot,
    /// The descriptor's number; still shown after the socket is closed.
    pub(super) fd: Cell<i32>,
    pub(super) protocol: Slot,
    pub(super) server: Slot,
    /// The context in which all callbacks run, if the caller has given one (3.15).
    pub(super) context: Slot,
    pub(super) extra: ExtraInfo,
    pub(super) reading: Reading,
    pub(super) writing: Writing,
    pub(super) lifecycle: Lifecycle,
}

/// What a transport is made of.
pub(crate) struct Connection {
    /// The Python socket: connected and non-blocking.
    pub(crate) sock: Obj,
    /// Its descriptor.
    pub(crate) fd: i32,
    pub(crate) protocol: Obj,
    /// A future that gets a result once `connection_made` was called.
    pub(crate) waiter: Option<Obj>,
    /// Extra information; the dict is completed, not copied.
    pub(crate) extra: Option<Obj>,
    pub(crate) server: Option<Obj>,
    /// The context in which all callbacks run; without one they run in copies of the current
    /// one, as asyncio's.
    pub(crate) context: Option<Obj>,
    /// The peer's address, if it is known.
    pub(crate) peer: Option<SocketAddrStorage>,
}

/// `_make_socket_transport(sock, protocol, waiter=None, *, extra=None, server=None)`, and
/// `context=None` from 3.15 on.
pub(crate) fn make_socket_transport(this: &Ref<EventLoop>, args: &Args<'_>) -> Result<Obj, Raised> {
    const NAME: &str = "_make_socket_transport";
    let py = this.py();
    let [sock, protocol, waiter, extra, server, context] = if cfg!(Py_3_15) {
        let names = &["sock", "protocol", "waiter", "extra", "server", "context"];
        args.bind(NAME, names, 3, 2)?
    } else {
        let names = &["sock", "protocol", "waiter", "extra", "server"];
        let [sock, protocol, waiter, extra, server] = args.bind(NAME, names, 3, 2)?;
        [sock, protocol, waiter, extra, server, None]
    };
    let (Some(sock), Some(protocol)) = (sock, protocol) else {
        return Err(Raised::type_error(
            py,
            "a socket and a protocol are required",
        ));
    };
    if cfg!(Py_3_12) {
        registry::ensure_fd_no_transport(this, &sock)?;
    }
    let fd = sock.method(pyo3::intern!(py, "fileno"), &[])?.to_i64()?;
    let connection = Connection {
        fd: i32::try_from(fd).unwrap_or(-1),
        sock,
        protocol,
        waiter: waiter.and_then(Obj::not_none),
        extra: extra.and_then(Obj::not_none),
        server: server.and_then(Obj::not_none),
        context: context.and_then(Obj::not_none),
        peer: None,
    };
    Ok(StreamTransport::open(this, connection)?.into_obj())
}

impl StreamTransport {
    /// Makes a transport; `connection_made` is called in the next iteration.
    pub(crate) fn open(
        event_loop: &Ref<EventLoop>,
        connection: Connection,
    ) -> Result<Ref<StreamTransport>, Raised> {
        let py = event_loop.py();
        let Connection {
            sock,
            fd,
            protocol,
            waiter,
            extra,
            server,
            context,
            peer,
        } = connection;
        let extra = ExtraInfo::new(py, fd, &sock, extra, peer)?;
        // Small writes leave without waiting for the peer's acknowledgement. asyncio forgets this
        // for Python sockets that were made without naming the protocol, as most servers make the
        // ones that they listen on: an answer in two writes then takes 40 ms more.
        if extra.is_ip() {
            let _ = sys::set_nodelay(fd, true);
        }
        let this = Ref::new(
            py,
            StreamTransport {
                event_loop: Slot::new(Some(event_loop.clone())),
                sock: Slot::new(Some(sock)),
                fd: Cell::new(fd),
                protocol: Slot::default(),
                server: Slot::default(),
                context: Slot::new(context),
                extra,
                reading: Reading::new(),
                writing: Writing::new(),
                lifecycle: Lifecycle::new(),
            },
        )?;
        reading::set_protocol(&this, &protocol)?;
        if let Some(server) = server {
            lifecycle::attach(&this, &server)?;
            this.server.set(Some(server));
        }
        registry::register(event_loop, fd, this.as_obj())?;
        core::start(&this, &protocol, waiter)?;
        Ok(this)
    }

    /// Whether `close()` was called or the connection is lost.
    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.lifecycle.closing.get()
    }

    /// Tells the loop what to watch the descriptor for.
    pub(super) fn update_watch(this: &Ref<StreamTransport>) -> Result<(), Raised> {
        let Some(event_loop) = this.event_loop.get() else {
            return Ok(());
        };
        if event_loop.is_closed() {
            return Ok(());
        }
        let (read, write) = (this.reading.watching.get(), this.writing.watching.get());
        EventLoop::watch(&event_loop, this.fd.get(), this.as_obj(), read, write)
    }
}

impl Transport for StreamTransport {
    fn event_loop(&self) -> Option<Ref<EventLoop>> {
        self.event_loop.get()
    }

    fn protocol(&self) -> Option<Obj> {
        self.protocol.get()
    }

    fn core(&self) -> &Core {
        &self.lifecycle.core
    }

    fn given_context(&self) -> Option<Obj> {
        self.context.get()
    }

    fn set_reading_context(&self, context: Obj) {
        self.reading.set_context(context);
    }

    fn start_reading_in_context(this: &Ref<Self>) -> Result<(), Raised> {
        reading::start_reading_in_context(this)
    }

    fn call_connection_lost(this: &Ref<Self>, exception: &Obj) -> Result<(), Raised> {
        lifecycle::call_connection_lost(this, exception)
    }
}

impl Writes for StreamTransport {
    fn flow(&self) -> &RefCell<FlowControl> {
        &self.writing.outgoing.flow
    }

    fn waiting(&self) -> usize {
        writing::size(self)
    }
}

impl Hot for StreamTransport {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide.StreamTransport";
    const DOC: &'static std::ffi::CStr = c"Transport over a TCP or Unix socket.";
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        lifecycle::build(builder);
        reading::build(builder);
        writing::build(builder);
        builder
            .instance_dict()
            .method(
                c"get_extra_info",
                c"get_extra_info($self, /, name, default=None)\n--\n\n\
                  Get optional transport information.",
                |this, args: &Args<'_>| {
                    // The program may go on with the socket.
                    holding::settle(this)?;
                    extra_info::get_extra_info(&this.extra, this.py(), args)
                },
            )
            .get(
                c"_start_tls_compatible",
                c"loop.start_tls() takes it.",
                |_| true,
            )
            .get(
                c"_sendfile_compatible",
                c"How loop.sendfile() sends.",
                |this| {
                    imports(this.py())
                        .try_native_sendfile
                        .get(this.py())
                        .clone()
                },
            )
            .get(
                c"_loop",
                c"The loop, until the connection is lost.",
                |this| this.event_loop.get(),
            )
            .get_set(
                c"_sock",
                c"The socket, until the connection is lost. Another one is closed in its place.",
                |this| this.sock.get(),
                |this, value| {
                    this.sock.set(value.cloned().and_then(Obj::not_none));
                    Ok(())
                },
            )
            .get(c"_sock_fd", c"Number of the descriptor.", |this| {
                i64::from(this.fd.get())
            })
            .get(
                c"_server",
                c"The server that has accepted the connection.",
                |this| this.server.get(),
            )
            .get_set(
                c"_extra",
                c"What get_extra_info() looks up.",
                |this| this.extra.dict(this.py()),
                |this, value| {
                    this.extra.set_dict(value.cloned());
                    Ok(())
                },
            );
    }

    fn traverse(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.event_loop);
        visit.slot(&self.sock);
        visit.slot(&self.protocol);
        visit.slot(&self.server);
        visit.slot(&self.context);
        self.extra.traverse(visit);
        self.reading.traverse(visit);
        self.writing.traverse(visit);
        self.lifecycle.traverse(visit);
    }

    fn clear(&self) {
        self.reading.clear();
        self.writing.clear();
        self.lifecycle.clear();
        self.extra.clear();
        self.event_loop.set(None);
        self.protocol.set(None);
        self.server.set(None);
        self.context.set(None);
        self.sock.set(None);
    }

    fn needs_finalizer(&self, _: &NoParent) -> bool {
        self.sock.is_some()
    }

    fn finalize(this: &Ref<Self>) {
        lifecycle::finalize(this);
    }
}
