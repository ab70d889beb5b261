//! `_SSLProtocolTransport`: the transport to which the program writes plain bytes.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot};
use engine::FlowControl;

use super::imports::imports;
use super::protocol::{SslProtocol, get_extra_info};
use super::{closing, reading, writing};
use crate::transports::imports as common;
use crate::transports::is_changeable;
use crate::transports::transport::build_closing;

/// The value of the transport above TLS.
pub(crate) struct SslTransport {
    event_loop: Slot,
    /// The protocol below, until `close()` is called again.
    protocol: Slot<Ref<SslProtocol>>,
    closed: Cell<bool>,
}

impl SslTransport {
    /// Notes that the transport is closed or closing.
    pub(super) fn set_closed(&self) {
        self.closed.set(true);
    }

    /// The protocol below. Raises AttributeError if it is gone, as asyncio does.
    #[inline]
    fn below(this: &Ref<SslTransport>, name: &str) -> Result<Ref<SslProtocol>, Raised> {
        match this.protocol.get() {
            Some(protocol) => Ok(protocol),
            None => Err(gone(this, name)),
        }
    }
}

#[cold]
fn gone(this: &Ref<SslTransport>, name: &str) -> Raised {
    let text = format!("'NoneType' object has no attribute '{name}'");
    Raised::new::<pyo3::exceptions::PyAttributeError>(this.py(), &text)
}

/// `__init__(loop, ssl_protocol)`.
fn init(this: &Ref<SslTransport>, args: &Args<'_>) -> Result<(), Raised> {
    let name = "_SSLProtocolTransport.__init__";
    let [event_loop, protocol] = args.bind_as_python(name, &["loop", "ssl_protocol"], 2)?;
    let protocol = protocol.as_ref().and_then(Ref::<SslProtocol>::of_any);
    let Some(protocol) = protocol else {
        return Err(Raised::type_error(
            this.py(),
            "the protocol must be aioxide's SSLProtocol",
        ));
    };
    if !protocol.is_here() && this.protocol.is_none() {
        this.follow(protocol);
    }
    this.within(|this| {
        this.event_loop.set(event_loop);
        this.protocol.set(Some(protocol.clone()));
        this.closed.set(false);
    });
    Ok(())
}

/// `write(data)`.
#[inline]
fn write(this: &Ref<SslTransport>, data: &Obj) -> Result<(), Raised> {
    let size = match data.as_bytes() {
        Some(bytes) => bytes.len(),
        None => size_of_changeable(data)?,
    };
    if size == 0 {
        return Ok(());
    }
    writing::write(&SslTransport::below(this, "_write_appdata")?, data)
}

/// The length of a bytearray or memoryview. Raises TypeError for any other object.
fn size_of_changeable(data: &Obj) -> Result<usize, Raised> {
    let py = data.py();
    if is_changeable(data) {
        return data.length();
    }
    let class = data.class().attr(pyo3::intern!(py, "__name__"))?;
    let text = format!(
        "data: expecting a bytes-like instance, got {}",
        class.as_str()?
    );
    Err(Raised::type_error(py, &text))
}

fn close(this: &Ref<SslTransport>) -> Result<(), Raised> {
    if this.closed.replace(true) {
        this.protocol.set(None);
        return Ok(());
    }
    closing::start_shutdown(&SslTransport::below(this, "_start_shutdown")?)
}

fn force_close(this: &Ref<SslTransport>, exception: Option<Obj>) -> Result<(), Raised> {
    this.closed.set(true);
    match this.protocol.get() {
        Some(protocol) => closing::abort(&protocol, exception),
        None => Ok(()),
    }
}

fn is_closing(this: &Ref<SslTransport>) -> Result<bool, Raised> {
    if this.closed.get() || !imports(this.py())?.closing_asks_below {
        return Ok(this.closed.get());
    }
    SslTransport::below(this, "_is_transport_closing")?
        .channel
        .is_closing()
}

/// High and low, from the arguments of a method that sets them.
fn limits(args: &Args<'_>, name: &str) -> Result<(Option<Obj>, Option<Obj>), Raised> {
    let [high, low] = args.bind_as_python(name, &["high", "low"], 0)?;
    Ok((high, low))
}

/// The tuple of low and high that the methods for asking return.
fn limits_of(marks: &FlowControl, py: Python<'_>) -> Result<Obj, Raised> {
    let (low, high) = (marks.low() as i64, marks.high() as i64);
    Obj::tuple(py, &[Obj::int(py, low)?, Obj::int(py, high)?])
}

fn build_writing(builder: &mut Builder<SslTransport>) {
    builder
        .method(
            c"write",
            c"write($self, /, data)\n--\n\nWrite some data bytes to the transport.",
            |this, args: &Args<'_>| write(this, args.one("_SSLProtocolTransport.write", "data")?),
        )
        .method(
            c"writelines",
            c"writelines($self, /, list_of_data)\n--\n\nWrite a list of data to the transport.",
            |this, args: &Args<'_>| {
                let lines = args.one("_SSLProtocolTransport.writelines", "list_of_data")?;
                writing::write_lines(&SslTransport::below(this, "_write_appdata")?, lines)
            },
        )
        .method0(
            c"write_eof",
            c"write_eof($self, /)\n--\n\nNot supported: raises NotImplementedError.",
            |this| -> Result<(), Raised> {
                let class = Obj::class_of::<pyo3::exceptions::PyNotImplementedError>(this.py());
                Err(Raised::raise_in_context(class.call0()?))
            },
        )
        .method0(
            c"can_write_eof",
            c"can_write_eof($self, /)\n--\n\nReturn False: write_eof() is not supported.",
            |_| false,
        )
        .method(
            c"set_write_buffer_limits",
            c"set_write_buffer_limits($self, /, high=None, low=None)\n--\n\n\
              Set the high and low water marks, in bytes, for pausing the protocol.",
            |this, args: &Args<'_>| {
                let name = "_SSLProtocolTransport.set_write_buffer_limits";
                let (high, low) = limits(args, name)?;
                let below = SslTransport::below(this, "_set_write_buffer_limits")?;
                writing::set_limits(&below, high, low)
            },
        )
        .method0(
            c"get_write_buffer_limits",
            c"get_write_buffer_limits($self, /)\n--\n\nReturn the low and high water marks.",
            |this| {
                let below = SslTransport::below(this, "_outgoing_low_water")?;
                limits_of(&below.outgoing.marks, this.py())
            },
        )
        .method0(
            c"get_write_buffer_size",
            c"get_write_buffer_size($self, /)\n--\n\nReturn the size of the write buffers in bytes.",
            |this| writing::size(&SslTransport::below(this, "_get_write_buffer_size")?),
        )
        .method1(
            c"_test__append_write_backlog",
            c"_test__append_write_backlog($self, data, /)\n--\n\nFor CPython's tests only.",
            |this, data| {
                let below = SslTransport::below(this, "_write_backlog")?;
                let name = pyo3::intern!(this.py(), "_append_write_backlog");
                below.as_obj().method(name, &[data]).map(drop)
            },
        )
        .get(
            c"_protocol_paused",
            c"Whether the protocol is paused.",
            |this| {
                let below = SslTransport::below(this, "_app_writing_paused")?;
                Ok::<bool, Raised>(below.outgoing.marks.is_paused())
            },
        );
}

fn build_reading(builder: &mut Builder<SslTransport>) {
    builder
        .method(
            c"set_protocol",
            c"set_protocol($self, /, protocol)\n--\n\nSet a new protocol.",
            |this, args: &Args<'_>| {
                let protocol = args.one("_SSLProtocolTransport.set_protocol", "protocol")?;
                let below = SslTransport::below(this, "_set_app_protocol")?;
                reading::set_app_protocol(&below, protocol)
            },
        )
        .method0(
            c"get_protocol",
            c"get_protocol($self, /)\n--\n\nReturn the current protocol.",
            |this| {
                let below = SslTransport::below(this, "_app_protocol")?;
                Ok::<Option<Obj>, Raised>(below.app.protocol.get())
            },
        )
        .method0(
            c"is_reading",
            c"is_reading($self, /)\n--\n\nReturn True if the transport is receiving.",
            |this| {
                let below = SslTransport::below(this, "_app_reading_paused")?;
                Ok::<bool, Raised>(!below.incoming.app_paused.get())
            },
        )
        .method0(
            c"pause_reading",
            c"pause_reading($self, /)\n--\n\nPause the receiving end.",
            |this| {
                let below = SslTransport::below(this, "_pause_reading")?;
                below.incoming.app_paused.set(true);
                Ok::<(), Raised>(())
            },
        )
        .method0(
            c"resume_reading",
            c"resume_reading($self, /)\n--\n\nResume the receiving end.",
            |this| reading::resume_app(&SslTransport::below(this, "_resume_reading")?),
        )
        .method(
            c"set_read_buffer_limits",
            c"set_read_buffer_limits($self, /, high=None, low=None)\n--\n\n\
              Set the high and low water marks, in bytes, for pausing the transport below.",
            |this, args: &Args<'_>| {
                let name = "_SSLProtocolTransport.set_read_buffer_limits";
                let (high, low) = limits(args, name)?;
                let below = SslTransport::below(this, "_set_read_buffer_limits")?;
                reading::set_limits(&below, high, low)
            },
        )
        .method0(
            c"get_read_buffer_limits",
            c"get_read_buffer_limits($self, /)\n--\n\nReturn the low and high water marks.",
            |this| {
                let below = SslTransport::below(this, "_incoming_low_water")?;
                limits_of(&below.incoming.marks, this.py())
            },
        )
        .method0(
            c"get_read_buffer_size",
            c"get_read_buffer_size($self, /)\n--\n\nReturn the size of the read buffer in bytes.",
            |this| {
                SslTransport::below(this, "_get_read_buffer_size")?
                    .session
                    .incoming_size()
            },
        );
}

impl Hot for SslTransport {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide._aioxide._SSLProtocolTransport";
    const DOC: &'static std::ffi::CStr = c"The native part of aioxide's TLS transport.";
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        build_closing(builder, close, |this| force_close(this, None));
        builder
            .new_value(|_| {
                Ok(SslTransport {
                    event_loop: Slot::default(),
                    protocol: Slot::default(),
                    closed: Cell::new(true),
                })
            })
            .init(init)
            .method(
                c"get_extra_info",
                c"get_extra_info($self, /, name, default=None)\n--\n\n\
                  Get optional transport information.",
                |this, args: &Args<'_>| {
                    let function = "_SSLProtocolTransport.get_extra_info";
                    let [name, default] = args.bind_as_python(function, &["name", "default"], 1)?;
                    let none = Obj::none(this.py());
                    let name = name.unwrap_or_else(|| none.clone());
                    let below = SslTransport::below(this, "_get_extra_info")?;
                    get_extra_info(&below, &name, &default.unwrap_or(none))
                },
            )
            .method0(
                c"is_closing",
                c"is_closing($self, /)\n--\n\nReturn True if the transport is closing or closed.",
                is_closing,
            )
            .method(
                c"_force_close",
                c"_force_close($self, /, exc)\n--\n\nClose the transport immediately.",
                |this, args: &Args<'_>| {
                    let exception = args.one("_SSLProtocolTransport._force_close", "exc")?;
                    force_close(this, exception.clone().not_none())
                },
            )
            .get(c"_loop", c"The loop.", |this| this.event_loop.get())
            .get(c"_ssl_protocol", c"The protocol below.", |this| {
                this.protocol.get()
            })
            .get(
                c"_closed",
                c"Whether the transport is closing or closed.",
                |this| this.closed.get(),
            );
        build_writing(builder);
        build_reading(builder);
    }

    cpython::holds!(event_loop, protocol);

    fn needs_finalizer(&self, _: &NoParent) -> bool {
        !self.closed.get()
    }

    fn finalize(this: &Ref<Self>) {
        if this.closed.replace(true) {
            return;
        }
        let py = this.py();
        let warned = Obj::str(
            py,
            "unclosed transport <asyncio._SSLProtocolTransport object>",
        )
        .and_then(|text| {
            let class = Obj::class_of::<pyo3::exceptions::PyResourceWarning>(py);
            common(py).warn.get(py).call(&[&text, &class])
        });
        if let Err(raised) = warned {
            raised.report_unraisable(Some(this.as_obj()));
        }
    }
}
