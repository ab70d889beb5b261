//! Serving: taking connections from a listening socket.
//!
//! asyncio makes a task for each connection, which calls the protocol factory and waits for the
//! transport. Without TLS that task has nothing to wait for, so the factory is called right away:
//! factories and `connection_made` run in the same order, one iteration earlier. With TLS the
//! task is asyncio's own, as the handshake takes its time.

use std::cell::Cell;
use std::os::fd::{AsRawFd, OwnedFd};

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot, Visit, context};
use engine::{AcceptError, SocketAddrStorage, sys};

use crate::event_loop::EventLoop;
use crate::transports::StreamTransport;
use crate::transports::descriptor::{Owned, SocketKind};
use crate::transports::extra_info::address_object;
use crate::transports::imports;
use crate::transports::reports::{callback_failed, caught, in_context, os_exception, report};
use crate::transports::stream::Connection;

/// The value of what a listening socket is watched by.
pub(crate) struct Acceptor {
    event_loop: Slot<Ref<EventLoop>>,
    factory: Slot,
    sock: Slot,
    fd: Cell<i32>,
    ssl: Slot,
    server: Slot,
    /// The most connections taken at one readiness.
    backlog: Cell<i64>,
    handshake_timeout: Slot,
    shutdown_timeout: Slot,
    /// In which factories are called; a copy for each connection.
    context: Slot,
    /// Whether a context was given (3.15): then all callbacks of a connection share its copy.
    context_given: Cell<bool>,
    watching: Cell<bool>,
    /// What the connections are.
    kind: SocketKind,
    burst: Burst,
}

/// How many connections to take at one readiness. To hear that no more are there takes as long as
/// five other system calls, and where clients come one by one every second call would be for that.
/// If more wait, the selector says so at its next look: then twice as many are taken.
struct Burst {
    most: Cell<i64>,
    /// The look at the selector after which so many were there, and perhaps more.
    filled: Cell<Option<u32>>,
}

impl Burst {
    fn new() -> Burst {
        Burst {
            most: Cell::new(i64::MAX),
            filled: Cell::new(None),
        }
    }

    /// How many to take, at most `limit`, after this look at the selector.
    fn begin(&self, limit: i64, look: u32) -> i64 {
        if self.filled.replace(Some(look)) == Some(look.wrapping_sub(1)) {
            self.most.set(self.most.get().saturating_mul(2));
        }
        self.most.get().min(limit)
    }

    /// There were only so many.
    fn end(&self, taken: i64) {
        self.most.set(taken.max(1));
        self.filled.set(None);
    }
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

/// What the connections are that a socket accepts.
fn kind_of_connections(py: Python<'_>, sock: &Obj) -> Result<SocketKind, Raised> {
    let family = sock.attr(pyo3::intern!(py, "family"))?.to_i64()?;
    let kind = sock.attr(pyo3::intern!(py, "type"))?.to_i64()?;
    let protocol = sock.attr(pyo3::intern!(py, "proto"))?.to_i64()?;
    let module = Obj::import(py, c"socket")?;
    let flag = match module.attr_opt(pyo3::intern!(py, "SOCK_NONBLOCK"))? {
        Some(flag) => flag.to_i64()?,
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

/// Connections are waiting.
pub(super) fn on_readable(this: &Ref<Acceptor>) -> Result<(), Raised> {
    let py = this.py();
    let Some(event_loop) = this.event_loop.get() else {
        return Ok(());
    };
    // From 3.14 on asyncio takes one more than the backlog, as the system keeps one more.
    let most = this.backlog.get().max(0).saturating_add(1);
    let most = this.burst.begin(most, event_loop.looks());
    for taken in 0..most {
        if !this.watching.get() {
            break;
        }
        match sys::accept(this.fd.get()) {
            Ok((connection, peer)) => {
                if let Err(raised) = take(this, &event_loop, connection, peer) {
                    let raised = Raised::raise(caught(py, raised)?);
                    return callback_failed(&event_loop, &on_connection(this)?, &[], raised);
                }
            }
            Err(error) => match AcceptError::classify(&error) {
                AcceptError::WouldBlock => {
                    this.burst.end(taken);
                    break;
                }
                AcceptError::Retry => {}
                AcceptError::OutOfResources => {
                    return back_off(this, &event_loop, &os_exception(py, error));
                }
                AcceptError::Fatal => {
                    let raised = Raised::raise(os_exception(py, error));
                    return callback_failed(&event_loop, &on_connection(this)?, &[], raised);
                }
            },
        }
    }
    Ok(())
}

/// What reports name as the callback that failed.
fn on_connection(this: &Ref<Acceptor>) -> Result<Obj, Raised> {
    this.as_obj()
        .attr(pyo3::intern!(this.py(), "_accept_connection"))
}

/// No descriptors or memory left: the socket would stay readable and keep the loop spinning.
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
    report(event_loop, "socket.accept() out of system resource", &parts)?;
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
    let mut owned = Owned::Bare(connection, this.kind);
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
        owned = Owned::Socket(sock);
    }
    let Some(context) = this.context.get() else {
        return Ok(());
    };
    let own_context = if this.context_given.get() {
        context.method(pyo3::intern!(py, "copy"), &[])?
    } else {
        in_context(&context, || context::copy_current(py))?
    };
    if let Some(ssl) = this.ssl.get() {
        if ssl.truth()? {
            let sock = owned.into_socket(py)?;
            return start_tls_task(this, event_loop, &sock, &peer, &ssl, &own_context);
        }
    }
    let sock = match &owned {
        Owned::Socket(sock) => Some(sock.clone()),
        Owned::Bare(..) => None,
    };
    let mut protocol = None;
    let made = in_context(&own_context, || {
        let accepted = Accepted { owned, fd, peer };
        connect(this, event_loop, accepted, &own_context, &mut protocol)
    });
    match made {
        Ok(()) => Ok(()),
        Err(raised) => {
            let exception = caught(py, raised)?;
            if let Some(sock) = sock {
                sock.method(pyo3::intern!(py, "close"), &[])?;
            }
            if !event_loop.debug() {
                return Ok(());
            }
            let message = "Error on transport creation for incoming connection";
            let mut parts = vec![("exception", &exception)];
            parts.extend(protocol.as_ref().map(|protocol| ("protocol", protocol)));
            report(event_loop, message, &parts)
        }
    }
}

/// A connection that was just accepted.
struct Accepted {
    owned: Owned,
    fd: i32,
    peer: SocketAddrStorage,
}

/// Makes protocol and transport. `made` is the protocol, also if the rest fails.
fn connect(
    this: &Ref<Acceptor>,
    event_loop: &Ref<EventLoop>,
    accepted: Accepted,
    context: &Obj,
    made: &mut Option<Obj>,
) -> Result<(), Raised> {
    let Some(factory) = this.factory.get() else {
        return Ok(());
    };
    let protocol = made.insert(factory.call0()?);
    let Accepted { owned, fd, peer } = accepted;
    let connection = Connection {
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

/// asyncio's own task for a TLS connection.
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
    in_context(context, || event_loop.method(create_task, &[&coroutine])).map(drop)
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
                on_readable,
            )
            .method0(
                c"_resume",
                c"_resume($self, /)\n--\n\nGo on after the system was out of resources.",
                resume,
            );
    }

    fn traverse(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.event_loop);
        for slot in [
            &self.factory,
            &self.sock,
            &self.ssl,
            &self.server,
            &self.handshake_timeout,
            &self.shutdown_timeout,
            &self.context,
        ] {
            visit.slot(slot);
        }
    }

    fn clear(&self) {
        self.event_loop.set(None);
        self.factory.set(None);
        self.ssl.set(None);
        self.server.set(None);
        self.sock.set(None);
        self.context.set(None);
    }
}
