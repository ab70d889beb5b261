//! Serving: taking connections from a listening socket.
//!
//! asyncio makes a task for each connection, which calls the protocol factory and waits for the
//! transport. Without TLS that task has nothing to wait for, so the factory is called right away:
//! factories and `connection_made` run in the same order, one iteration earlier. With TLS the
//! handshake has to be awaited, so the task is asyncio's own.

use std::cell::Cell;
use std::os::fd::{AsRawFd, OwnedFd};

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot, context};
use engine::{AcceptError, Burst, SocketAddrStorage, sys};

use crate::event_loop::EventLoop;
use crate::handles::reports;
use crate::handles::reports::method_failed;
use crate::interop::EndsProgram;
use crate::transports::StreamTransport;
use crate::transports::descriptor::{OwnedSocket, SocketKind};
use crate::transports::extra_info::address_object;
use crate::transports::imports;
use crate::transports::reports::os_exception;
use crate::transports::stream::NewConnection;

/// The value of the object for which the loop watches a listening socket.
pub(crate) struct Acceptor {
    event_loop: Slot<Ref<EventLoop>>,
    factory: Slot,
    sock: Slot,
    fd: Cell<i32>,
    ssl: Slot,
    server: Slot,
    /// The number of connections that are taken at one readiness at most, as asyncio counts them.
    backlog: Cell<i64>,
    handshake_timeout: Slot,
    shutdown_timeout: Slot,
    /// The context of the server. The factory of each connection runs in a copy of it.
    context: Slot,
    /// Whether a context was given (3.15): then all callbacks of a connection share its copy.
    context_given: Cell<bool>,
    watching: Cell<bool>,
    /// The kind of the accepted connections.
    kind: SocketKind,
    burst: Burst,
}

/// `_start_serving(protocol_factory, sock, sslcontext=None, server=None, backlog=100,
/// ssl_handshake_timeout=..., ssl_shutdown_timeout=...)`, and `context=None` from 3.15 on.
pub(crate) fn start_serving(this: &Ref<EventLoop>, args: &Args<'_>) -> Result<(), Raised> {
    const NAMES: [&str; 8] = [
        "protocol_factory",
        "sock",
        "sslcontext",
        "server",
        "backlog",
        "ssl_handshake_timeout",
        "ssl_shutdown_timeout",
        "context",
    ];
    let py = this.py();
    let positional = if cfg!(Py_3_15) { 8 } else { 7 };
    let [
        factory,
        sock,
        ssl,
        server,
        backlog,
        handshake,
        shutdown,
        context,
    ] = args.bind("_start_serving", &NAMES, positional, 2)?;
    let (Some(factory), Some(sock)) = (factory, sock) else {
        return Err(Raised::type_error(
            py,
            "a protocol factory and a socket are required",
        ));
    };
    this.check_closed(py)?;
    let constants = imports(py).constants.get(py);
    let timeout = |given: Option<Obj>, name: &str| match given {
        Some(given) => Ok(given),
        None => constants.attr(&pyo3::types::PyString::intern(py, name)),
    };
    let context = context.and_then(Obj::not_none);
    let context_given = context.is_some();
    let context = match context {
        Some(context) => context,
        None => context::copy_current(py)?,
    };
    let fd = sock.method(pyo3::intern!(py, "fileno"), &[])?.to_i64()?;
    let kind = kind_of_connections(py, &sock)?;
    let acceptor = Acceptor {
        event_loop: Slot::new(Some(this.clone())),
        factory: Slot::new(Some(factory)),
        sock: Slot::new(Some(sock)),
        fd: Cell::new(i32::try_from(fd).unwrap_or(-1)),
        ssl: Slot::new(ssl.and_then(Obj::not_none)),
        server: Slot::new(server.and_then(Obj::not_none)),
        backlog: Cell::new(match backlog {
            Some(backlog) => backlog.to_i64()?,
            None => 100,
        }),
        handshake_timeout: Slot::new(Some(timeout(handshake, "SSL_HANDSHAKE_TIMEOUT")?)),
        shutdown_timeout: Slot::new(Some(timeout(shutdown, "SSL_SHUTDOWN_TIMEOUT")?)),
        context: Slot::new(Some(context)),
        context_given: Cell::new(context_given),
        watching: Cell::new(false),
        kind,
        burst: Burst::new(),
    };
    start_watching(&Ref::new(py, acceptor)?)
}

/// `_stop_serving(sock)`: stops and closes the listening socket.
pub(crate) fn stop_serving(this: &Ref<EventLoop>, args: &Args<'_>) -> Result<(), Raised> {
    let py = this.py();
    let [Some(sock)] = args.bind("_stop_serving", &["sock"], 1, 1)? else {
        return Ok(());
    };
    let fd = sock.method(pyo3::intern!(py, "fileno"), &[])?.to_i64()?;
    let watcher = i32::try_from(fd)
        .ok()
        .and_then(|fd| EventLoop::watched(this, fd));
    if let Some(acceptor) = watcher.as_ref().and_then(Ref::<Acceptor>::of_exact) {
        stop_watching(acceptor)?;
    }
    sock.method(pyo3::intern!(py, "close"), &[]).map(drop)
}

/// The kind of the connections that a socket accepts.
fn kind_of_connections(py: Python<'_>, sock: &Obj) -> Result<SocketKind, Raised> {
    // A socket says -1 of what the system cannot number.
    let number = |object: Obj| {
        object
            .to_i64()
            .map(|number| i32::try_from(number).unwrap_or(-1))
    };
    let family = number(sock.attr(pyo3::intern!(py, "family"))?)?;
    let kind = number(sock.attr(pyo3::intern!(py, "type"))?)?;
    let protocol = number(sock.attr(pyo3::intern!(py, "proto"))?)?;
    let module = Obj::import(py, c"socket")?;
    let flag = match module.attr_opt(pyo3::intern!(py, "SOCK_NONBLOCK"))? {
        Some(flag) => number(flag)?,
        None => 0,
    };
    Ok(SocketKind {
        family,
        kind: kind | flag,
        protocol,
        says_nonblocking: flag != 0,
    })
}

fn start_watching(this: &Ref<Acceptor>) -> Result<(), Raised> {
    let Some(event_loop) = this.event_loop.get() else {
        return Ok(());
    };
    EventLoop::watch(&event_loop, this.fd.get(), this.as_obj(), true, false)?;
    this.watching.set(true);
    Ok(())
}

fn stop_watching(this: &Ref<Acceptor>) -> Result<(), Raised> {
    if !this.watching.replace(false) {
        return Ok(());
    }
    match this.event_loop.get() {
        Some(event_loop) if !event_loop.is_closed() => {
            EventLoop::watch(&event_loop, this.fd.get(), this.as_obj(), false, false)
        }
        _ => Ok(()),
    }
}

/// `_resume()`: goes on after [`back_off`], unless the server was closed meanwhile.
fn resume(this: &Ref<Acceptor>) -> Result<(), Raised> {
    let py = this.py();
    let Some(sock) = this.sock.get() else {
        return Ok(());
    };
    let fd = sock.method(pyo3::intern!(py, "fileno"), &[])?.to_i64()?;
    if this.watching.get() || fd != i64::from(this.fd.get()) {
        return Ok(());
    }
    start_watching(this)
}

/// Takes connections when the listening socket is readable.
pub(super) fn on_readable(this: &Ref<Acceptor>) -> Result<(), EndsProgram> {
    let py = this.py();
    let Some(event_loop) = this.event_loop.get() else {
        return Ok(());
    };
    // One connection more than the backlog, because the system keeps one more. asyncio takes it
    // from 3.14 on.
    let backlog = usize::try_from(this.backlog.get().max(0)).unwrap_or(usize::MAX);
    let most = backlog.saturating_add(1);
    let most = this.burst.begin(most, event_loop.polls());
    for taken in 0..most {
        if !this.watching.get() {
            break;
        }
        match sys::accept(this.fd.get()) {
            Ok((connection, peer)) => {
                if let Err(raised) = take(this, &event_loop, connection, peer) {
                    return failed(this, raised);
                }
            }
            Err(error) => match AcceptError::classify(&error) {
                AcceptError::WouldBlock => {
                    this.burst.end(taken);
                    break;
                }
                AcceptError::Retry => {}
                AcceptError::OutOfResources => {
                    return back_off(this, &event_loop, &os_exception(py, error))
                        .or_else(|raised| failed(this, raised));
                }
                AcceptError::Fatal => {
                    return failed(this, Raised::os_error(py, error));
                }
            },
        }
    }
    Ok(())
}

/// Reports an exception of accepting.
#[cold]
fn failed(this: &Ref<Acceptor>, raised: Raised) -> Result<(), EndsProgram> {
    let event_loop = this.event_loop.get();
    method_failed(event_loop, this.as_obj(), "_accept_connection", &[], raised)
}

/// Stops accepting for a while, because no descriptor or memory is left: the socket would stay
/// readable and keep the loop spinning.
#[cold]
fn back_off(
    this: &Ref<Acceptor>,
    event_loop: &Ref<EventLoop>,
    exception: &Obj,
) -> Result<(), Raised> {
    let py = this.py();
    let sock = this.sock.get().unwrap_or_else(|| Obj::none(py));
    let sock = imports(py).transport_socket.get(py).call1(&sock)?;
    let parts = [("exception", exception), ("socket", &sock)];
    reports::send(
        event_loop.as_obj(),
        "socket.accept() out of system resource",
        &parts,
    )?;
    stop_watching(this)?;
    let constants = imports(py).constants.get(py);
    let delay = constants.attr(pyo3::intern!(py, "ACCEPT_RETRY_DELAY"))?;
    let resume = this.as_obj().attr(pyo3::intern!(py, "_resume"))?;
    event_loop
        .as_obj()
        .method(pyo3::intern!(py, "call_later"), &[&delay, &resume])
        .map(drop)
}

/// Takes one connection over.
fn take(
    this: &Ref<Acceptor>,
    event_loop: &Ref<EventLoop>,
    connection: OwnedFd,
    peer: SocketAddrStorage,
) -> Result<(), Raised> {
    let py = this.py();
    let fd = connection.as_raw_fd();
    let mut owned = OwnedSocket::Bare(connection, this.kind);
    if event_loop.debug() {
        let sock = owned.into_socket(py)?;
        let logger = imports(py).logger.get(py);
        let format = Obj::str(py, "%r got a new connection from %r: %r")?;
        let server = this.server.get().unwrap_or_else(|| Obj::none(py));
        let peer = address_object(py, &peer)?;
        logger.method(
            pyo3::intern!(py, "debug"),
            &[&format, &server, &peer, &sock],
        )?;
        owned = OwnedSocket::Socket(sock);
    }
    let Some(context) = this.context.get() else {
        return Ok(());
    };
    let own_context = if this.context_given.get() {
        context.method(pyo3::intern!(py, "copy"), &[])?
    } else {
        context::run(&context, || context::copy_current(py))?
    };
    if let Some(ssl) = this.ssl.get() {
        if ssl.truth()? {
            let sock = owned.into_socket(py)?;
            return start_tls_task(this, event_loop, &sock, &peer, &ssl, &own_context);
        }
    }
    let sock = match &owned {
        OwnedSocket::Socket(sock) => Some(sock.clone()),
        OwnedSocket::Bare(..) => None,
    };
    let mut protocol = None;
    let made = context::run(&own_context, || {
        let accepted = AcceptedConnection { owned, fd, peer };
        connect(this, event_loop, accepted, &own_context, &mut protocol)
    });
    match made {
        Ok(()) => Ok(()),
        Err(raised) => {
            let exception = EndsProgram::or_caught(py, raised)?;
            if let Some(sock) = sock {
                sock.method(pyo3::intern!(py, "close"), &[])?;
            }
            if !event_loop.debug() {
                return Ok(());
            }
            let message = "Error on transport creation for incoming connection";
            let mut parts = vec![("exception", &exception)];
            parts.extend(protocol.as_ref().map(|protocol| ("protocol", protocol)));
            reports::send(event_loop.as_obj(), message, &parts)
        }
    }
}

/// A connection that was just accepted.
struct AcceptedConnection {
    owned: OwnedSocket,
    fd: i32,
    peer: SocketAddrStorage,
}

/// Makes protocol and transport. `made` gets the protocol, even if the rest fails.
fn connect(
    this: &Ref<Acceptor>,
    event_loop: &Ref<EventLoop>,
    accepted: AcceptedConnection,
    context: &Obj,
    made: &mut Option<Obj>,
) -> Result<(), Raised> {
    let Some(factory) = this.factory.get() else {
        return Ok(());
    };
    let protocol = made.insert(factory.call0()?);
    let AcceptedConnection { owned, fd, peer } = accepted;
    let connection = NewConnection {
        owned,
        fd,
        protocol: protocol.clone(),
        waiter: None,
        extra: None,
        server: this.server.get(),
        context: this.context_given.get().then(|| context.clone()),
        peer: Some(peer),
    };
    StreamTransport::open(event_loop, connection).map(drop)
}

/// Starts asyncio's own task for a TLS connection.
fn start_tls_task(
    this: &Ref<Acceptor>,
    event_loop: &Ref<EventLoop>,
    sock: &Obj,
    peer: &SocketAddrStorage,
    ssl: &Obj,
    context: &Obj,
) -> Result<(), Raised> {
    let py = this.py();
    let part = |slot: &Slot| slot.get().unwrap_or_else(|| Obj::none(py));
    let extra = Obj::dict(py)?;
    extra.dict_set(
        Obj::name(pyo3::intern!(py, "peername")),
        &address_object(py, peer)?,
    )?;
    let (factory, server) = (part(&this.factory), part(&this.server));
    let (handshake, shutdown) = (part(&this.handshake_timeout), part(&this.shutdown_timeout));
    let mut call = vec![&factory, sock, &extra, ssl, &server, &handshake, &shutdown];
    let accept = pyo3::intern!(py, "_accept_connection2");
    let create_task = pyo3::intern!(py, "create_task");
    let event_loop = event_loop.as_obj();
    if this.context_given.get() {
        let names = crate::interop::asyncio(py).context_name.get(py);
        call.push(context);
        let coroutine = event_loop.method_named(accept, &call, Some(names))?;
        return event_loop
            .method_named(create_task, &[&coroutine, context], Some(names))
            .map(drop);
    }
    let coroutine = event_loop.method(accept, &call)?;
    context::run(context, || event_loop.method(create_task, &[&coroutine])).map(drop)
}

impl Hot for Acceptor {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide.Acceptor";
    const DOC: &'static std::ffi::CStr = c"Takes connections from a listening socket.";
    const SUBCLASSABLE: bool = false;
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        builder
            .method0(
                c"_accept_connection",
                c"_accept_connection($self, /)\n--\n\nTake the connections that are waiting.",
                |this| on_readable(this).map_err(Raised::from),
            )
            .method0(
                c"_resume",
                c"_resume($self, /)\n--\n\nGo on after the system was out of resources.",
                resume,
            );
    }

    cpython::holds!(
        event_loop,
        factory,
        sock,
        ssl,
        server,
        handshake_timeout,
        shutdown_timeout,
        context
    );
}
