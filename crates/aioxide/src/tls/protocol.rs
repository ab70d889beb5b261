//! `SSLProtocol`: the type, its Python side, and how one is made.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot, Visit};

use super::channel::TlsChannel;
use super::imports::imports;
use super::session::Session;
use super::state::{AppState, State, app_state_object, state_object};
use super::transport::SslTransport;
use super::{closing, handshake, reading, writing};
use crate::event_loop::EventLoop;
use crate::transports::imports as common;

/// The value of the protocol under a TLS transport.
pub(crate) struct SslProtocol {
    pub(super) event_loop: Slot<Ref<EventLoop>>,
    pub(super) channel: TlsChannel,
    pub(super) session: Session,
    pub(super) app: AppSide,
    pub(super) app_transport: Slot<Ref<SslTransport>>,
    pub(super) state: Cell<State>,
    pub(super) app_state: Cell<AppState>,
    /// The future that gets a result or an exception when the handshake is over.
    pub(super) waiter: Slot,
    /// The dict in which `get_extra_info` looks before it asks the transport below.
    pub(super) extra: Slot,
    context: Slot,
    server_side: Cell<bool>,
    hostname: Slot,
    pub(super) handshake_timeout: Slot,
    pub(super) shutdown_timeout: Slot,
    pub(super) handshake_timer: Slot,
    pub(super) shutdown_timer: Slot,
    /// The loop's time in seconds at the start of the handshake, in debug mode.
    pub(super) handshake_start: Slot,
    /// asyncio's `_conn_lost`: counts writes that come too late.
    pub(super) lost: Cell<u32>,
    pub(super) eof_received: Cell<bool>,
    pub(super) incoming: reading::TlsIncoming,
    pub(super) outgoing: writing::TlsOutgoing,
    /// The program has replaced a method on this object.
    pub(super) replaced: Cell<bool>,
}

/// The program's protocol, and its methods that are called often.
#[derive(Default)]
pub(super) struct AppSide {
    pub(super) protocol: Slot,
    /// The protocol is a BufferedProtocol.
    pub(super) buffered: Cell<bool>,
    /// `data_received`, looked up at its first use, or `buffer_updated`.
    pub(super) receive: Slot,
    pub(super) get_buffer: Slot,
}

impl SslProtocol {
    fn empty(_py: Python<'_>) -> Result<SslProtocol, Raised> {
        Ok(SslProtocol {
            event_loop: Slot::default(),
            channel: TlsChannel::default(),
            session: Session::default(),
            app: AppSide::default(),
            app_transport: Slot::default(),
            state: Cell::new(State::Unwrapped),
            app_state: Cell::new(AppState::Init),
            waiter: Slot::default(),
            extra: Slot::default(),
            context: Slot::default(),
            server_side: Cell::new(false),
            hostname: Slot::default(),
            handshake_timeout: Slot::default(),
            shutdown_timeout: Slot::default(),
            handshake_timer: Slot::default(),
            shutdown_timer: Slot::default(),
            handshake_start: Slot::default(),
            lost: Cell::new(0),
            eof_received: Cell::new(false),
            incoming: reading::TlsIncoming::new(),
            outgoing: writing::TlsOutgoing::new(),
            replaced: Cell::new(false),
        })
    }

    /// The loop. Raises RuntimeError if the object was never initialized.
    pub(super) fn event_loop(this: &Ref<SslProtocol>) -> Result<Ref<EventLoop>, Raised> {
        match this.event_loop.get() {
            Some(event_loop) => Ok(event_loop),
            None => Err(Raised::runtime_error(
                this.py(),
                "SSLProtocol object is not initialized",
            )),
        }
    }

    /// `loop.call_soon(callback, *args)`.
    pub(super) fn call_soon(this: &Ref<SslProtocol>, call: &[&Obj]) -> Result<(), Raised> {
        let name = pyo3::intern!(this.py(), "call_soon");
        let event_loop = SslProtocol::event_loop(this)?;
        event_loop.as_obj().method(name, call).map(drop)
    }

    /// `loop.call_later(timeout, self.name)`.
    pub(super) fn call_later(
        this: &Ref<SslProtocol>,
        timeout: &Slot,
        name: &str,
    ) -> Result<Obj, Raised> {
        let py = this.py();
        let timeout = timeout.get().unwrap_or_else(|| Obj::none(py));
        let name = pyo3::types::PyString::intern(py, name);
        let callback = this.as_obj().attr(&name)?;
        let event_loop = SslProtocol::event_loop(this)?;
        event_loop
            .as_obj()
            .method(pyo3::intern!(py, "call_later"), &[&timeout, &callback])
    }
}

/// `__init__(loop, app_protocol, sslcontext, waiter, server_side=False, server_hostname=None,
/// call_connection_made=True, ssl_handshake_timeout=None, ssl_shutdown_timeout=None)`.
fn init(this: &Ref<SslProtocol>, args: &Args<'_>) -> Result<(), Raised> {
    const NAMES: [&str; 9] = [
        "loop",
        "app_protocol",
        "sslcontext",
        "waiter",
        "server_side",
        "server_hostname",
        "call_connection_made",
        "ssl_handshake_timeout",
        "ssl_shutdown_timeout",
    ];
    let py = this.py();
    let bound = args.bind_as_python("SSLProtocol.__init__", &NAMES, 4)?;
    let [
        event_loop,
        app,
        context,
        waiter,
        server_side,
        hostname,
        call_made,
        handshake,
        shutdown,
    ] = bound.map(|value| value.and_then(Obj::not_none));
    let imports = imports(py)?;
    let event_loop = event_loop.as_ref().and_then(Ref::<EventLoop>::of_any);
    let Some(event_loop) = event_loop else {
        return Err(Raised::type_error(py, "the loop must be aioxide's"));
    };
    if !event_loop.is_here() && this.event_loop.is_none() {
        this.follow(event_loop);
    }
    event_loop.within(|event_loop| {
        let handshake = timeout(py, handshake, "ssl_handshake_timeout")?;
        let shutdown = timeout(py, shutdown, "ssl_shutdown_timeout")?;
        let server_side = truth(server_side.as_ref(), false)?;
        let none = Obj::none(py);
        let context = match context {
            Some(context) if context.truth()? => context,
            _ => imports.module.get(py).method(
                pyo3::intern!(py, "_create_transport_context"),
                &[
                    &Obj::bool(py, server_side),
                    hostname.as_ref().unwrap_or(&none),
                ],
            )?,
        };
        let hostname = match hostname {
            Some(hostname) if !server_side && hostname.truth()? => Some(hostname),
            _ => None,
        };
        let extra = Obj::dict(py)?;
        extra.dict_set(Obj::name(pyo3::intern!(py, "sslcontext")), &context)?;
        this.event_loop.set(Some(event_loop.clone()));
        this.server_side.set(server_side);
        this.hostname.set(hostname.clone());
        this.extra.set(Some(extra));
        this.waiter.set(waiter);
        this.handshake_timeout.set(Some(handshake));
        this.shutdown_timeout.set(Some(shutdown));
        reading::set_app_protocol(this, app.as_ref().unwrap_or(&none))?;
        this.state.set(State::Unwrapped);
        this.app_state.set(if truth(call_made.as_ref(), true)? {
            AppState::Init
        } else {
            AppState::ConnectionMade
        });
        this.session.open(&context, server_side, hostname)?;
        this.context.set(Some(context));
        let class = imports.transport_class.get(py);
        let transport = class.call(&[event_loop.as_obj(), this.as_obj()])?;
        this.app_transport
            .set(Ref::<SslTransport>::of(&transport).cloned());
        Ok(())
    })
}

fn truth(value: Option<&Obj>, default: bool) -> Result<bool, Raised> {
    value.map_or(Ok(default), Obj::truth)
}

/// A timeout in seconds. Raises ValueError unless it is positive.
fn timeout(py: Python<'_>, given: Option<Obj>, name: &str) -> Result<Obj, Raised> {
    let Some(given) = given else {
        let constant = name.to_uppercase();
        let constant = pyo3::types::PyString::intern(py, &constant);
        return common(py).constants.get(py).attr(&constant);
    };
    if given.to_f64()? <= 0.0 {
        let shown = given.str_of()?;
        let text = format!(
            "{name} should be a positive number, got {}",
            shown.as_str()?
        );
        return Err(Raised::value_error(py, &text));
    }
    Ok(given)
}

/// `_get_extra_info(name, default=None)`.
pub(super) fn get_extra_info(
    this: &Ref<SslProtocol>,
    name: &Obj,
    default: &Obj,
) -> Result<Obj, Raised> {
    if let Some(extra) = this.extra.get() {
        if let Some(value) = extra.dict_get(name)? {
            return Ok(value);
        }
    }
    match this.channel.get() {
        Some(transport) => {
            transport.method(pyo3::intern!(this.py(), "get_extra_info"), &[name, default])
        }
        None => Ok(default.clone()),
    }
}

impl Hot for SslProtocol {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide._aioxide.SSLProtocol";
    const DOC: &'static std::ffi::CStr =
        c"The native part of aioxide's SSLProtocol: TLS between two transports.";
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        builder
            .new_value(SslProtocol::empty)
            .init(init)
            .on_set_attribute(|this, _| this.replaced.set(true))
            .get(c"_loop", c"The loop.", |this| this.event_loop.get())
            .get(c"_transport", c"The transport below.", |this| {
                this.channel.get()
            })
            .get(c"_app_transport", c"The transport above.", |this| {
                this.app_transport.get()
            })
            .get(c"_app_protocol", c"The program's protocol.", |this| {
                this.app.protocol.get()
            })
            .get(c"_sslcontext", c"The SSLContext.", |this| {
                this.context.get()
            })
            .get(c"_server_side", c"Whether this is the server.", |this| {
                this.server_side.get()
            })
            .get(c"_server_hostname", c"The server's name.", |this| {
                this.hostname.get()
            })
            .get(c"_extra", c"Extra information of TLS.", |this| {
                this.extra.get()
            })
            .get(
                c"_waiter",
                c"The future that waits for the handshake.",
                |this| this.waiter.get(),
            )
            .get(c"_state", c"State of the connection.", state_object)
            .get(
                c"_app_state",
                c"The last event that the program's protocol got.",
                app_state_object,
            )
            .get(
                c"_conn_lost",
                c"Not 0 once the connection is lost.",
                |this| i64::from(this.lost.get()),
            )
            .get(
                c"_eof_received",
                c"Whether the peer has ended the connection.",
                |this| this.eof_received.get(),
            )
            .get(c"_ssl_handshake_timeout", c"In seconds.", |this| {
                this.handshake_timeout.get()
            })
            .get(c"_ssl_shutdown_timeout", c"In seconds.", |this| {
                this.shutdown_timeout.get()
            })
            .get(c"_handshake_timeout_handle", c"The timer.", |this| {
                this.handshake_timer.get()
            })
            .get(c"_shutdown_timeout_handle", c"The timer.", |this| {
                this.shutdown_timer.get()
            })
            .get_set(
                c"_sslobj",
                c"The SSLObject.",
                |this| this.session.object(),
                |this, value| match value {
                    Some(value) => this.session.set_object(value.clone()),
                    None => Ok(()),
                },
            )
            .get_set(
                c"_incoming",
                c"The MemoryBIO with received encrypted bytes.",
                |this| this.session.incoming(),
                |this, value| match value {
                    Some(value) => this.session.set_incoming(value.clone()),
                    None => Ok(()),
                },
            )
            .get_set(
                c"_outgoing",
                c"The MemoryBIO with encrypted bytes to be sent.",
                |this| this.session.outgoing(),
                |this, value| match value {
                    Some(value) => this.session.set_outgoing(value.clone()),
                    None => Ok(()),
                },
            )
            .method(
                c"_get_extra_info",
                c"_get_extra_info($self, /, name, default=None)\n--\n\nLook up information.",
                |this, args: &Args<'_>| {
                    let names = &["name", "default"];
                    let [name, default] =
                        args.bind_as_python("SSLProtocol._get_extra_info", names, 1)?;
                    let none = Obj::none(this.py());
                    let name = name.unwrap_or_else(|| none.clone());
                    get_extra_info(this, &name, &default.unwrap_or(none))
                },
            );
        handshake::build(builder);
        reading::build(builder);
        writing::build(builder);
        closing::build(builder);
    }

    fn traverse(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.event_loop);
        visit.slot(&self.app_transport);
        self.channel.traverse(visit);
        self.session.traverse(visit);
        for slot in self.slots() {
            visit.slot(slot);
        }
        self.incoming.traverse(visit);
        if let Ok(backlog) = self.outgoing.backlog.try_borrow() {
            backlog.iter().for_each(|chunk| visit.object(chunk));
        }
    }

    fn clear(&self) {
        self.event_loop.set(None);
        self.app_transport.set(None);
        self.channel.set(None);
        self.session.clear();
        for slot in self.slots() {
            slot.set(None);
        }
        self.incoming.clear();
        let backlog = self.outgoing.backlog.try_borrow_mut();
        drop(backlog.map(|mut backlog| std::mem::take(&mut *backlog)));
    }
}

impl SslProtocol {
    fn slots(&self) -> [&Slot; 12] {
        [
            &self.app.protocol,
            &self.app.receive,
            &self.app.get_buffer,
            &self.waiter,
            &self.extra,
            &self.context,
            &self.hostname,
            &self.handshake_timeout,
            &self.shutdown_timeout,
            &self.handshake_timer,
            &self.shutdown_timer,
            &self.handshake_start,
        ]
    }
}
