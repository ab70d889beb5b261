//! `StreamTransport`: the type, its Python side, and how one is made.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::{Args, GcFields, Hot, NoParent, Obj, Python, Raised, Ref, Slot};
use engine::{FlowControl, SocketAddrStorage, sys};

use super::descriptor::OwnedSocket;
use super::holding;
use super::imports;
use super::outgoing::Writes;
use super::reading::{self, Reading};
use super::registry;
use super::server;
use super::socket::{self, OverSocket, Socket};
use super::transport::{self, Transport, TransportChannel};
use super::writing::{self, Writing};
use crate::event_loop::EventLoop;
use crate::handles::Served;
use crate::interop::EndsProgram;

/// The value of a transport over a stream socket.
pub(crate) struct StreamTransport {
    pub(super) socket: Socket,
    /// A protocol was set: its `connection_lost` is to be called.
    pub(super) connected: Cell<bool>,
    pub(super) server: Slot,
    /// The context in which all callbacks run, if the caller has given one (3.15).
    pub(super) context: Slot,
    pub(super) reading: Reading,
    pub(super) writing: Writing,
}

/// The arguments for a new transport.
pub(crate) struct NewConnection {
    pub(crate) owned: OwnedSocket,
    /// The socket that the transport takes over.
    pub(crate) fd: i32,
    pub(crate) protocol: Obj,
    /// A future that gets a result once `connection_made` was called.
    pub(crate) waiter: Option<Obj>,
    /// Extra information; the dict is completed, not copied.
    pub(crate) extra: Option<Obj>,
    pub(crate) server: Option<Obj>,
    /// The context in which all callbacks run; without one they run in copies of the current one,
    /// as with asyncio.
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
    let connection = NewConnection {
        fd: i32::try_from(fd).unwrap_or(-1),
        owned: OwnedSocket::Socket(sock),
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
        connection: NewConnection,
    ) -> Result<Ref<StreamTransport>, Raised> {
        let py = event_loop.py();
        let NewConnection {
            owned,
            fd,
            protocol,
            waiter,
            extra,
            server,
            context,
            peer,
        } = connection;
        let socket = Socket::open(event_loop, owned, fd, extra, peer)?;
        // With TCP_NODELAY small writes do not wait for the peer's acknowledgement. asyncio leaves
        // the option out for Python sockets that were made without naming the protocol, and most
        // servers make their listening sockets so: an answer in two writes then takes 40 ms more.
        if socket.extra.is_ip() {
            let _ = sys::set_nodelay(fd, true);
        }
        let this = Ref::new(
            py,
            StreamTransport {
                socket,
                connected: Cell::new(false),
                server: Slot::default(),
                context: Slot::new(context),
                reading: Reading::new(),
                writing: Writing::new(),
            },
        )?;
        reading::set_protocol(&this, &protocol)?;
        if let Some(server) = server {
            server::attach(&server, this.as_obj())?;
            this.server.set(Some(server));
        }
        registry::register(event_loop, fd, this.as_obj())?;
        transport::start(&this, &protocol, waiter)?;
        Ok(this)
    }

    /// Whether `close()` was called or the connection is lost.
    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.socket.core.closing.get()
    }
}

impl Transport for StreamTransport {
    type Channel = Socket;

    #[inline]
    fn channel(&self) -> &Socket {
        &self.socket
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

    fn is_connected(&self) -> bool {
        self.connected.get()
    }

    fn release(&self) {
        self.reading.let_go();
    }

    fn after_close(this: &Ref<Self>, then: &mut dyn FnMut(Result<(), Raised>)) {
        if let Some(server) = this.server.take() {
            then(server::detach(&server, this.as_obj()));
        }
        then(writing::connection_lost(this));
        this.context.set(None);
    }

    fn after_release(this: &Ref<Self>) -> Result<(), Raised> {
        match this.server.take() {
            Some(server) if cfg!(Py_3_13) => server::detach(&server, this.as_obj()),
            _ => Ok(()),
        }
    }
}

impl Writes for StreamTransport {
    fn flow(&self) -> &FlowControl {
        &self.writing.outgoing.flow
    }

    fn waiting(&self) -> usize {
        writing::size(self)
    }
}

impl OverSocket for StreamTransport {
    const LOST_METHOD: &str = "_SelectorSocketTransport._call_connection_lost";

    fn error_without_loop(_: Python<'_>, _: bool) -> Result<(), Raised> {
        Ok(())
    }

    fn is_drained(&self) -> bool {
        writing::is_empty(self)
    }

    fn discard(&self) {
        self.writing.outgoing.clear();
    }

    fn settle(this: &Ref<Self>) -> Result<(), Raised> {
        writing::settle(this)
    }
}

impl Served for StreamTransport {
    #[inline]
    fn on_readable(this: &Ref<Self>) -> Result<(), EndsProgram> {
        reading::on_readable(this)
    }

    #[inline]
    fn on_writable(this: &Ref<Self>) -> Result<(), EndsProgram> {
        writing::on_writable(this)
    }

    fn on_turn(this: &Ref<Self>) -> Result<(), EndsProgram> {
        transport::run_deferred(this)
    }

    fn send_held(this: &Ref<Self>) -> bool {
        holding::send(this)
    }

    fn settle_held(this: &Ref<Self>) -> Result<(), EndsProgram> {
        writing::settle_at_end(this)
    }

    fn note_overdue(this: &Ref<Self>) {
        holding::note_overdue(this);
    }
}

impl Hot for StreamTransport {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide.StreamTransport";
    const DOC: &'static std::ffi::CStr = c"Transport over a TCP or Unix socket.";
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        socket::build(builder);
        reading::build(builder);
        writing::build(builder);
        builder
            .get(
                c"_start_tls_compatible",
                c"loop.start_tls() takes it.",
                |_| true,
            )
            .get(
                c"_sendfile_compatible",
                c"The way in which loop.sendfile() sends.",
                |this| {
                    imports(this.py())
                        .try_native_sendfile
                        .get(this.py())
                        .clone()
                },
            )
            .get(
                c"_server",
                c"The server that has accepted the connection.",
                |this| this.server.get(),
            );
    }

    cpython::holds!(reading, writing, socket, server, context);

    fn needs_finalizer(&self, _: &NoParent) -> bool {
        self.socket.is_open()
    }

    fn finalize(this: &Ref<Self>) {
        transport::finalize(this);
    }
}
