//! `DatagramTransport`: UDP and Unix datagrams, asyncio's `_SelectorDatagramTransport`.
//!
//! One readiness receives several datagrams of an IP socket by one call, and the protocol gets them
//! one by one. asyncio polls between two datagrams, which costs more than the datagram. If the
//! protocol pauses reading in between, the rest waits here. Datagrams leave at once, as with
//! asyncio; only those that had to wait leave several by one call.
//!
//! - [`receiving`]: readiness to read, `datagram_received`, pausing.
//! - [`sending`]: `sendto`, the queue, flow control.
//! - [`errors`]: how failed calls are handled.
//! - [`senders`]: addresses, and the objects that stand for them.

mod errors;
mod receiving;
mod senders;
mod sending;

use cpython::build::Builder;
use cpython::{Args, GcFields, Hot, NoParent, Obj, Python, Raised, Ref, Slot};
use engine::FlowControl;
use engine::sys::{family, peer_address};

use super::descriptor::OwnedSocket;
use super::imports::make_base;
use super::outgoing::Writes;
use super::registry;
use super::socket::{self, OverSocket, Socket};
use super::transport::{self, Transport, TransportChannel};
use crate::event_loop::EventLoop;
use crate::handles::{Registry, Served};
use crate::interop::EndsProgram;
use crate::interop::sockets::socket_state;
use receiving::Receiving;
use sending::Sending;

/// The value of a transport over a datagram socket.
pub(crate) struct DatagramTransport {
    socket: Socket,
    /// The socket's family, if Rust can make the system calls: the socket is of the standard
    /// library's own class, does not block, and its addresses are of a known kind.
    native: Option<i32>,
    /// The remote address that the caller has given, or nothing.
    address: Slot,
    /// `get_extra_info('peername')` is true: the system knows where to send.
    has_peer: bool,
    receiving: Receiving,
    sending: Sending,
}

/// `_make_datagram_transport(sock, protocol, address=None, waiter=None, extra=None)`.
pub(crate) fn make_datagram_transport(
    this: &Ref<EventLoop>,
    args: &Args<'_>,
) -> Result<Obj, Raised> {
    let py = this.py();
    let names = &["sock", "protocol", "address", "waiter", "extra"];
    let [sock, protocol, address, waiter, extra] =
        args.bind("_make_datagram_transport", names, 5, 2)?;
    let (Some(sock), Some(protocol)) = (sock, protocol) else {
        return Err(Raised::type_error(
            py,
            "a socket and a protocol are required",
        ));
    };
    if cfg!(Py_3_12) {
        registry::ensure_fd_no_transport(this, &sock)?;
    }
    let address = match address {
        Some(address) if address.truth()? => Some(address),
        _ => None,
    };
    let extra = extra.and_then(Obj::not_none);
    let waiter = waiter.and_then(Obj::not_none);
    open(this, sock, &protocol, address, extra, waiter).map(Ref::into_obj)
}

/// Makes a transport; `connection_made` is called in the next iteration.
fn open(
    event_loop: &Ref<EventLoop>,
    sock: Obj,
    protocol: &Obj,
    address: Option<Obj>,
    extra: Option<Obj>,
    waiter: Option<Obj>,
) -> Result<Ref<DatagramTransport>, Raised> {
    let py = event_loop.py();
    let number = sock.method(pyo3::intern!(py, "fileno"), &[])?.to_i64()?;
    let fd = i32::try_from(number).unwrap_or(-1);
    let native = socket_state(&sock)?
        .filter(|state| state.nonblocking && state.fd == fd)
        .map(|state| state.family)
        .filter(|known| matches!(*known, family::INET | family::INET6 | family::UNIX));
    let given_peer = match &extra {
        Some(extra) => extra.dict_get(Obj::name(pyo3::intern!(py, "peername")))?,
        None => None,
    };
    let socket = Socket::open(event_loop, OwnedSocket::Socket(sock), fd, extra, None)?;
    socket.core.protocol.set(Some(protocol.clone()));
    let has_peer = match (given_peer, native) {
        (Some(peer), _) => peer.truth()?,
        (None, Some(_)) => peer_address(fd).is_ok_and(|peer| {
            peer.ip().is_some() || peer.unix_path().is_some_and(|path| !path.is_empty())
        }),
        (None, None) => {
            let dict = socket.extra.dict(py, &socket.descriptor)?;
            match dict.dict_get(Obj::name(pyo3::intern!(py, "peername")))? {
                Some(peer) => peer.truth()?,
                None => false,
            }
        }
    };
    let this = Ref::new(
        py,
        DatagramTransport {
            socket,
            native,
            address: Slot::new(address),
            has_peer,
            receiving: Receiving::new(),
            sending: Sending::new(),
        },
    )?;
    registry::register(event_loop, fd, this.as_obj())?;
    transport::start(&this, protocol, waiter)?;
    Ok(this)
}

impl DatagramTransport {
    /// The socket. Raises the AttributeError that asyncio's method gets from a transport without
    /// one.
    fn sock(this: &Ref<DatagramTransport>, method: &str) -> Result<Obj, Raised> {
        this.socket.descriptor.made_socket().ok_or_else(|| {
            let text = format!("'NoneType' object has no attribute '{method}'");
            Raised::new::<pyo3::exceptions::PyAttributeError>(this.py(), &text)
        })
    }
}

impl Transport for DatagramTransport {
    type Channel = Socket;

    #[inline]
    fn channel(&self) -> &Socket {
        &self.socket
    }

    fn set_reading_context(&self, context: Obj) {
        self.receiving.context.set(Some(context));
    }

    fn start_reading_in_context(this: &Ref<Self>) -> Result<(), Raised> {
        receiving::start_reading_in_context(this)
    }

    fn release(&self) {
        self.receiving.let_go();
        self.sending.let_go();
    }
}

impl Writes for DatagramTransport {
    fn flow(&self) -> &FlowControl {
        &self.sending.flow
    }

    fn waiting(&self) -> usize {
        self.sending.size()
    }
}

impl OverSocket for DatagramTransport {
    const LOST_METHOD: &str = "_SelectorTransport._call_connection_lost";

    /// asyncio's transport calls a method of its loop, which is None by then.
    fn error_without_loop(py: Python<'_>, system: bool) -> Result<(), Raised> {
        let method = if system {
            "get_debug"
        } else {
            "call_exception_handler"
        };
        let text = format!("'NoneType' object has no attribute '{method}'");
        Err(Raised::new::<pyo3::exceptions::PyAttributeError>(py, &text))
    }

    fn is_drained(&self) -> bool {
        self.sending.is_empty()
    }

    fn discard(&self) {
        self.sending.discard();
    }

    fn forget_received(&self) {
        self.receiving.forget_waiting();
    }
}

/// Builds the type; called when the module starts.
pub(super) fn build(py: Python<'_>, registry: &mut Registry) -> Result<(), Raised> {
    let bases: &[&str] = if cfg!(Py_3_12) {
        &["_FlowControlMixin", "DatagramTransport"]
    } else {
        &["_FlowControlMixin"]
    };
    let base = make_base(py, bases)?;
    cpython::build::build::<DatagramTransport>(py, Some(&base), 0)?;
    registry.serve::<DatagramTransport>();
    Ok(())
}

impl Served for DatagramTransport {
    #[inline]
    fn on_readable(this: &Ref<Self>) -> Result<(), EndsProgram> {
        receiving::on_readable(this)
    }

    #[inline]
    fn on_writable(this: &Ref<Self>) -> Result<(), EndsProgram> {
        sending::on_writable(this)
    }

    fn on_turn(this: &Ref<Self>) -> Result<(), EndsProgram> {
        receiving::deliver_waiting(this).and_then(|()| transport::run_deferred(this))
    }
}

impl Hot for DatagramTransport {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide.DatagramTransport";
    const DOC: &'static std::ffi::CStr = c"Transport over a UDP or Unix datagram socket.";
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        socket::build(builder);
        receiving::build(builder);
        sending::build(builder);
        builder.get(
            c"_address",
            c"The remote address, if one was given.",
            |this| this.address.get(),
        );
    }

    cpython::holds!(receiving, sending, socket, address);

    fn needs_finalizer(&self, _: &NoParent) -> bool {
        self.socket.is_open()
    }

    fn finalize(this: &Ref<Self>) {
        transport::finalize(this);
    }
}
