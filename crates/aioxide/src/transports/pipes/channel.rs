//! The file object under a transport, which owns the descriptor.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Raised, Ref, Slot, Visit};
use engine::sys::{self, FileKind};

use super::super::core::{self, Core, Transport, callback_context, schedule_lost};
use super::super::reports::{caught, report, warn_unclosed};
use super::super::{imports, reports};
use crate::event_loop::{EventLoop, Side};

/// What both directions have.
pub(crate) struct Channel {
    /// The loop, until the connection is lost.
    pub(super) event_loop: Slot<Ref<EventLoop>>,
    /// The file object, until the connection is lost.
    pub(super) pipe: Slot,
    /// The descriptor's number; still shown after the file is closed.
    pub(super) fd: i32,
    pub(super) kind: FileKind,
    pub(super) protocol: Slot,
    /// What `get_extra_info` looks up.
    extra: Slot,
    /// Nothing is received or accepted for writing any more.
    pub(super) closing: Cell<bool>,
    /// `connection_lost` is scheduled, or was called.
    lost: Cell<bool>,
    pub(super) core: Core,
}

/// What a transport over a file object is made of.
pub(crate) struct Pipe {
    /// The file object: a pipe, a socket or a character device.
    pub(crate) file: Obj,
    pub(crate) protocol: Obj,
    /// A future that gets a result once `connection_made` was called.
    pub(crate) waiter: Option<Obj>,
    /// Extra information; the dict is completed, not copied.
    pub(crate) extra: Option<Obj>,
}

impl Pipe {
    /// Of the arguments `(pipe, protocol, waiter=None, extra=None)`.
    pub(super) fn bind(args: &Args<'_>, name: &str, event_loop: &Obj) -> Result<Pipe, Raised> {
        let names = &["pipe", "protocol", "waiter", "extra"];
        let [file, protocol, waiter, extra] = args.bind(name, names, 4, 2)?;
        let (Some(file), Some(protocol)) = (file, protocol) else {
            let text = "a file object and a protocol are required";
            return Err(Raised::type_error(event_loop.py(), text));
        };
        Ok(Pipe {
            file,
            protocol,
            waiter: waiter.and_then(Obj::not_none),
            extra: extra.and_then(Obj::not_none),
        })
    }
}

impl Channel {
    /// Takes the file object over. Raises ValueError with the text `refusal` for a kind of file
    /// that cannot be watched; the file stays as it was then.
    fn open(event_loop: &Ref<EventLoop>, pipe: &Pipe, refusal: &str) -> Result<Channel, Raised> {
        let py = event_loop.py();
        let fd = pipe.file.method(pyo3::intern!(py, "fileno"), &[])?;
        let fd = i32::try_from(fd.to_i64()?).unwrap_or(-1);
        let kind = sys::file_kind(fd).map_err(|error| Raised::os_error(py, error))?;
        if kind == FileKind::Other {
            return Err(Raised::value_error(py, refusal));
        }
        sys::set_nonblocking(fd, true).map_err(|error| Raised::os_error(py, error))?;
        let extra = match &pipe.extra {
            Some(extra) => extra.clone(),
            None => Obj::dict(py)?,
        };
        extra.dict_set(Obj::name(pyo3::intern!(py, "pipe")), &pipe.file)?;
        Ok(Channel {
            event_loop: Slot::new(Some(event_loop.clone())),
            pipe: Slot::new(Some(pipe.file.clone())),
            fd,
            kind,
            protocol: Slot::new(Some(pipe.protocol.clone())),
            extra: Slot::new(Some(extra)),
            closing: Cell::new(false),
            lost: Cell::new(false),
            core: Core::new(),
        })
    }

    /// The loop does not watch this half any more.
    pub(super) fn unwatch(&self, side: Side, watching: &Cell<bool>) -> Result<(), Raised> {
        match self.event_loop.get() {
            Some(event_loop) if watching.replace(false) => {
                EventLoop::unwatch_side(&event_loop, side, self.fd).map(drop)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn traverse(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.event_loop);
        visit.slot(&self.pipe);
        visit.slot(&self.protocol);
        visit.slot(&self.extra);
        self.core.traverse(visit);
    }

    pub(super) fn clear(&self) {
        self.core.clear();
        self.extra.set(None);
        self.event_loop.set(None);
        self.protocol.set(None);
        self.pipe.set(None);
    }
}

/// A transport over a file object.
pub(crate) trait OverPipe: Transport + Hot<Parent = NoParent> {
    /// What is said of a kind of file that cannot be watched.
    const REFUSAL: &str;

    /// A transport that does nothing yet.
    fn over(channel: Channel) -> Self;

    /// The file object and what belongs to it.
    fn channel(&self) -> &Channel;

    /// What `repr()` says of an open transport, after the descriptor.
    fn activity(&self) -> String;

    /// Sets a protocol; what was kept of the one before is forgotten.
    fn set_protocol(&self, protocol: &Obj);

    /// Lets go of what the transport holds besides its channel.
    fn release(&self);
}

/// A loop's method `name(pipe, protocol, waiter=None, extra=None)`.
pub(super) fn make<T: OverPipe>(
    this: &Ref<EventLoop>,
    args: &Args<'_>,
    name: &str,
) -> Result<Obj, Raised> {
    let pipe = Pipe::bind(args, name, this.as_obj())?;
    open::<T>(this, pipe).map(Ref::into_obj)
}

/// Makes a transport; `connection_made` is called in the next iteration.
fn open<T: OverPipe>(event_loop: &Ref<EventLoop>, pipe: Pipe) -> Result<Ref<T>, Raised> {
    let channel = Channel::open(event_loop, &pipe, T::REFUSAL)?;
    let this = Ref::new(event_loop.py(), T::over(channel))?;
    core::start(&this, &pipe.protocol, pipe.waiter)?;
    Ok(this)
}

/// Makes a transport whose protocol needs no call of `connection_made`; it watches at once.
pub(crate) fn open_connected<T: OverPipe>(
    event_loop: &Ref<EventLoop>,
    pipe: &Pipe,
) -> Result<Ref<T>, Raised> {
    let channel = Channel::open(event_loop, pipe, T::REFUSAL)?;
    let this = Ref::new(event_loop.py(), T::over(channel))?;
    start_reading(&this)?;
    Ok(this)
}

/// Watches for something to read, or for the end of the reader, in a copy of the current context.
pub(super) fn start_reading<T: OverPipe>(this: &Ref<T>) -> Result<(), Raised> {
    this.set_reading_context(callback_context(this)?);
    T::start_reading_in_context(this)
}

/// What `repr()` calls a half of a descriptor.
pub(super) fn state(watching: &Cell<bool>) -> &'static str {
    if watching.get() { "polling" } else { "idle" }
}

/// The methods and properties of both directions.
pub(super) fn build<T: OverPipe>(builder: &mut Builder<T>) {
    builder
        .instance_dict()
        .repr(repr)
        .method(
            c"get_extra_info",
            c"get_extra_info($self, /, name, default=None)\n--\n\n\
              Get optional transport information.",
            get_extra_info,
        )
        .method(
            c"set_protocol",
            c"set_protocol($self, /, protocol)\n--\n\nSet a new protocol.",
            |this, args: &Args<'_>| -> Result<(), Raised> {
                this.set_protocol(args.one("BaseTransport.set_protocol", "protocol")?);
                Ok(())
            },
        )
        .method0(
            c"get_protocol",
            c"get_protocol($self, /)\n--\n\nReturn the current protocol.",
            |this| this.channel().protocol.get(),
        )
        .method0(
            c"is_closing",
            c"is_closing($self, /)\n--\n\nReturn True if the transport is closing or closed.",
            |this| this.channel().closing.get(),
        )
        .method(
            c"_call_connection_lost",
            c"_call_connection_lost($self, /, exc)\n--\n\nTell the protocol, close the file.",
            |this, args: &Args<'_>| {
                T::call_connection_lost(this, args.one("_call_connection_lost", "exc")?)
            },
        )
        .get(c"_closing", c"Whether it is closing or closed.", |this| {
            this.channel().closing.get()
        })
        .get(
            c"_loop",
            c"The loop, until the connection is lost.",
            |this| this.channel().event_loop.get(),
        )
        .get(
            c"_protocol",
            c"The protocol, until the connection is lost.",
            |this| this.channel().protocol.get(),
        )
        .get(c"_fileno", c"Number of the descriptor.", |this| {
            i64::from(this.channel().fd)
        })
        .get_set(
            c"_pipe",
            c"The file object, until the connection is lost. Another one is closed in its place.",
            |this| this.channel().pipe.get(),
            |this, value| {
                this.channel()
                    .pipe
                    .set(value.cloned().and_then(Obj::not_none));
                Ok(())
            },
        )
        .get_set(
            c"_extra",
            c"What get_extra_info() looks up.",
            |this| this.channel().extra.get(),
            |this, value| {
                this.channel().extra.set(value.cloned());
                Ok(())
            },
        );
}

fn get_extra_info<T: OverPipe>(this: &Ref<T>, args: &Args<'_>) -> Result<Obj, Raised> {
    let py = this.py();
    let [name, default] =
        args.bind_as_python("BaseTransport.get_extra_info", &["name", "default"], 1)?;
    let name = name.unwrap_or_else(|| Obj::none(py));
    let found = match this.channel().extra.get() {
        Some(extra) => extra.dict_get(&name)?,
        None => None,
    };
    Ok(found.or(default).unwrap_or_else(|| Obj::none(py)))
}

fn repr<T: OverPipe>(this: &Ref<T>) -> Result<String, Raised> {
    let py = this.py();
    let class = this.as_obj().class().attr(pyo3::intern!(py, "__name__"))?;
    let channel = this.channel();
    let mut text = format!("<{}", class.as_str()?);
    if channel.pipe.is_none() {
        text.push_str(" closed");
    } else if channel.closing.get() {
        text.push_str(" closing");
    }
    text.push_str(&format!(" fd={}", channel.fd));
    let event_loop = channel.event_loop.get();
    if channel.pipe.is_none() {
        text.push_str(" closed");
    } else if event_loop.is_some_and(|event_loop| !event_loop.is_closed()) {
        text.push(' ');
        text.push_str(&this.activity());
    } else {
        text.push_str(" open");
    }
    text.push('>');
    Ok(text)
}

/// `connection_lost` will be called, once.
pub(super) fn lose<T: OverPipe>(this: &Ref<T>, exception: Option<Obj>) -> Result<(), Raised> {
    this.channel().closing.set(true);
    if this.channel().lost.replace(true) {
        return Ok(());
    }
    schedule_lost(this, exception)
}

/// `connection_lost` is called now, if it was not scheduled before.
pub(super) fn lose_now<T: OverPipe>(this: &Ref<T>) -> Result<(), Raised> {
    if this.channel().lost.replace(true) {
        return Ok(());
    }
    T::call_connection_lost(this, &Obj::none(this.py()))
}

/// Tells the protocol that the connection is lost, closes the file and lets go of everything.
/// Raises what the protocol raises, after that.
pub(super) fn connection_lost<T: OverPipe>(this: &Ref<T>, exception: &Obj) -> Result<(), Raised> {
    let py = this.py();
    let channel = this.channel();
    let told = match channel.protocol.get() {
        Some(protocol) => protocol
            .method(pyo3::intern!(py, "connection_lost"), &[exception])
            .map(drop),
        None => Ok(()),
    };
    // The first exception is the one that counts, and none must be set while Python runs.
    let mut first = told.err().map(|raised| raised.take(py));
    look_next(channel);
    if let Some(pipe) = channel.pipe.take() {
        if let Err(raised) = pipe.method(pyo3::intern!(py, "close"), &[]) {
            let exception = raised.take(py);
            first.get_or_insert(exception);
        }
    }
    this.release();
    channel.protocol.set(None);
    channel.event_loop.set(None);
    match first {
        Some(exception) => Err(Raised::raise(exception)),
        None => Ok(()),
    }
}

/// Something leaves this end: the program may hold the other.
pub(super) fn look_next(channel: &Channel) {
    if let Some(event_loop) = channel.event_loop.get() {
        event_loop.look_next();
    }
}

/// Reports an error, `as_usual` ones in debug mode only. Closing is the caller's.
#[cold]
pub(super) fn report_error<T: OverPipe>(
    this: &Ref<T>,
    exception: &Obj,
    message: &str,
    as_usual: bool,
) -> Result<(), Raised> {
    let py = this.py();
    let Some(event_loop) = this.channel().event_loop.get() else {
        return Ok(());
    };
    if !as_usual {
        let protocol = this
            .channel()
            .protocol
            .get()
            .unwrap_or_else(|| Obj::none(py));
        let parts = [
            ("exception", exception),
            ("transport", this.as_obj()),
            ("protocol", &protocol),
        ];
        return report(&event_loop, message, &parts);
    }
    if !event_loop.debug() {
        return Ok(());
    }
    reports::log_exception(this.as_obj(), message, exception)
}

/// A message to asyncio's log about the transport, in debug mode.
pub(super) fn log_if_debug<T: OverPipe>(
    this: &Ref<T>,
    level: &str,
    message: &str,
) -> Result<(), Raised> {
    let event_loop = this.channel().event_loop.get();
    if !event_loop.is_some_and(|event_loop| event_loop.debug()) {
        return Ok(());
    }
    let py = this.py();
    let level = pyo3::types::PyString::intern(py, level);
    imports(py)
        .logger
        .get(py)
        .method(&level, &[&Obj::str(py, message)?, this.as_obj()])
        .map(drop)
}

/// Catches what asyncio's handle would report of a callback `name` of the transport.
#[cold]
pub(super) fn callback_failed<T: OverPipe>(
    this: &Ref<T>,
    name: &str,
    raised: Raised,
) -> Result<(), Raised> {
    let py = this.py();
    let exception = caught(py, raised)?;
    let Some(event_loop) = this.channel().event_loop.get() else {
        return Ok(());
    };
    let name = pyo3::types::PyString::intern(py, name);
    let callback = this.as_obj().attr(&name)?;
    reports::callback_failed(&event_loop, &callback, &[], Raised::raise(exception))
}

/// The transport is released without having been closed.
pub(super) fn finalize<T: OverPipe>(this: &Ref<T>) {
    let Some(pipe) = this.channel().pipe.get() else {
        return;
    };
    let then = |result: Result<(), Raised>| {
        if let Err(raised) = result {
            raised.report_unraisable(Some(this.as_obj()));
        }
    };
    then(warn_unclosed(this.as_obj()));
    this.channel().pipe.set(None);
    then(
        pipe.method(pyo3::intern!(this.py(), "close"), &[])
            .map(drop),
    );
}
