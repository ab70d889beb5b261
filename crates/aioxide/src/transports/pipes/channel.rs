//! The file object under a transport, which owns the descriptor.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot};
use engine::sys::{self, FileKind};

use super::super::extra_info;
use super::super::reports::{log_exception, report_failure};
use super::super::transport::{self, Core, Transport, TransportChannel, schedule_lost};
use crate::event_loop::{EventLoop, Side};

/// The fields that transports of both directions share.
pub(crate) struct PipeFile {
    core: Core,
    /// The file object, until the connection is lost.
    pipe: Slot,
    pub(super) kind: FileKind,
    /// The dict in which `get_extra_info` looks.
    extra: Slot,
    /// Whether the loop watches the descriptor for reading.
    pub(super) watches_read: Cell<bool>,
    /// Whether the loop watches the descriptor for writing.
    pub(super) watches_write: Cell<bool>,
    /// `connection_lost` is scheduled, or was called.
    lost: Cell<bool>,
}

/// The arguments for a new transport over a file object.
pub(crate) struct NewPipe {
    /// The file object: a pipe, a socket or a character device.
    pub(crate) file: Obj,
    pub(crate) protocol: Obj,
    /// A future that gets a result once `connection_made` was called.
    pub(crate) waiter: Option<Obj>,
    /// Extra information; the dict is completed, not copied.
    pub(crate) extra: Option<Obj>,
}

impl NewPipe {
    /// Binds the arguments `(pipe, protocol, waiter=None, extra=None)`.
    pub(super) fn bind(args: &Args<'_>, name: &str, event_loop: &Obj) -> Result<NewPipe, Raised> {
        let names = &["pipe", "protocol", "waiter", "extra"];
        let [file, protocol, waiter, extra] = args.bind(name, names, 4, 2)?;
        let (Some(file), Some(protocol)) = (file, protocol) else {
            let text = "a file object and a protocol are required";
            return Err(Raised::type_error(event_loop.py(), text));
        };
        Ok(NewPipe {
            file,
            protocol,
            waiter: waiter.and_then(Obj::not_none),
            extra: extra.and_then(Obj::not_none),
        })
    }
}

cpython::holds!(PipeFile: core, extra, pipe);

impl PipeFile {
    /// Takes the file object over. Raises ValueError with the text `refusal` for a kind of file
    /// that cannot be watched; the file stays as it was then.
    fn open(
        event_loop: &Ref<EventLoop>,
        pipe: &NewPipe,
        refusal: &str,
    ) -> Result<PipeFile, Raised> {
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
        let core = Core::new(event_loop, fd);
        core.protocol.set(Some(pipe.protocol.clone()));
        Ok(PipeFile {
            core,
            pipe: Slot::new(Some(pipe.file.clone())),
            kind,
            extra: Slot::new(Some(extra)),
            watches_read: Cell::new(false),
            watches_write: Cell::new(false),
            lost: Cell::new(false),
        })
    }

    fn watches(&self, side: Side) -> &Cell<bool> {
        match side {
            Side::Read => &self.watches_read,
            Side::Write => &self.watches_write,
        }
    }

    /// Has the loop watch this half from now on, on behalf of the transport.
    pub(super) fn watch(&self, side: Side, transport: &Obj) -> Result<(), Raised> {
        if let Some(event_loop) = self.core.event_loop.get() {
            EventLoop::watch_side(&event_loop, side, self.core.fd, transport)?;
            self.watches(side).set(true);
        }
        Ok(())
    }

    /// Stops watching this half.
    pub(super) fn unwatch(&self, side: Side) -> Result<(), Raised> {
        match self.core.event_loop.get() {
            Some(event_loop) if self.watches(side).replace(false) => {
                EventLoop::unwatch_side(&event_loop, side, self.core.fd).map(drop)
            }
            _ => Ok(()),
        }
    }
}

impl TransportChannel for PipeFile {
    #[inline]
    fn core(&self) -> &Core {
        &self.core
    }

    fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    fn close(&self, py: Python<'_>) -> Result<(), Raised> {
        match self.pipe.take() {
            Some(pipe) => pipe.method(pyo3::intern!(py, "close"), &[]).map(drop),
            None => Ok(()),
        }
    }

    fn stop_reading(&self, _: &Obj) -> Result<(), Raised> {
        self.unwatch(Side::Read)
    }
}

/// A transport over a file object.
pub(crate) trait OverPipe: Transport<Channel = PipeFile> + Hot<Parent = NoParent> {
    /// The text of the ValueError for a kind of file that cannot be watched.
    const REFUSAL: &str;

    /// Makes a transport that does nothing yet.
    fn over(file: PipeFile) -> Self;

    /// The part of an open transport's `repr()` after the descriptor.
    fn activity(&self) -> String;

    /// Sets a protocol, and drops the bound methods of the previous one.
    fn set_protocol(&self, protocol: &Obj);
}

/// A loop's method `name(pipe, protocol, waiter=None, extra=None)`.
pub(super) fn make<T: OverPipe>(
    this: &Ref<EventLoop>,
    args: &Args<'_>,
    name: &str,
) -> Result<Obj, Raised> {
    let pipe = NewPipe::bind(args, name, this.as_obj())?;
    open::<T>(this, pipe).map(Ref::into_obj)
}

/// Makes a transport; `connection_made` is called in the next iteration.
fn open<T: OverPipe>(event_loop: &Ref<EventLoop>, pipe: NewPipe) -> Result<Ref<T>, Raised> {
    let file = PipeFile::open(event_loop, &pipe, T::REFUSAL)?;
    let this = Ref::new(event_loop.py(), T::over(file))?;
    transport::start(&this, &pipe.protocol, pipe.waiter)?;
    Ok(this)
}

/// Makes a transport whose protocol needs no call of `connection_made`; it watches at once.
pub(crate) fn open_connected<T: OverPipe>(
    event_loop: &Ref<EventLoop>,
    pipe: &NewPipe,
) -> Result<Ref<T>, Raised> {
    let file = PipeFile::open(event_loop, pipe, T::REFUSAL)?;
    let this = Ref::new(event_loop.py(), T::over(file))?;
    transport::start_reading(&this)?;
    Ok(this)
}

/// The name in `repr()` of the state of one half of a descriptor.
pub(super) fn state(watching: &Cell<bool>) -> &'static str {
    if watching.get() { "polling" } else { "idle" }
}

/// Adds the methods and properties of both directions.
pub(super) fn build<T: OverPipe>(builder: &mut Builder<T>) {
    transport::build(builder);
    extra_info::build(builder, |this| &this.channel().extra);
    builder
        .repr(repr)
        .method(
            c"set_protocol",
            c"set_protocol($self, /, protocol)\n--\n\nSet a new protocol.",
            |this, args: &Args<'_>| -> Result<(), Raised> {
                this.set_protocol(args.one("BaseTransport.set_protocol", "protocol")?);
                Ok(())
            },
        )
        .method(
            c"_call_connection_lost",
            c"_call_connection_lost($self, /, exc)\n--\n\nTell the protocol, close the file.",
            |this, args: &Args<'_>| {
                transport::call_connection_lost(this, args.one("_call_connection_lost", "exc")?)
            },
        )
        .get(c"_fileno", c"Number of the descriptor.", |this| {
            i64::from(this.core().fd)
        })
        .attribute(
            c"_pipe",
            c"The file object, until the connection is lost. One that is set is closed in its place.",
            |this| &this.channel().pipe,
        );
}

fn repr<T: OverPipe>(this: &Ref<T>) -> Result<String, Raised> {
    let text = transport::describe(this)?;
    let event_loop = this.core().event_loop.get();
    Ok(if !this.channel().is_open() {
        format!("{text} closed>")
    } else if event_loop.is_some_and(|event_loop| !event_loop.is_closed()) {
        format!("{text} {}>", this.activity())
    } else {
        format!("{text} open>")
    })
}

/// Schedules `connection_lost`, once.
pub(super) fn lose<T: OverPipe>(this: &Ref<T>, exception: Option<Obj>) -> Result<(), Raised> {
    this.core().closing.set(true);
    if this.channel().lost.replace(true) {
        return Ok(());
    }
    schedule_lost(this, exception)
}

/// Calls `connection_lost` now, if it was not scheduled before.
pub(super) fn lose_now<T: OverPipe>(this: &Ref<T>) -> Result<(), Raised> {
    if this.channel().lost.replace(true) {
        return Ok(());
    }
    transport::call_connection_lost(this, &Obj::none(this.py()))
}

/// Reports an error; one that is `as_usual` gives a message in debug mode only. The caller closes
/// the transport.
#[cold]
pub(super) fn report_error<T: OverPipe>(
    this: &Ref<T>,
    exception: &Obj,
    message: &str,
    as_usual: bool,
) -> Result<(), Raised> {
    match this.core().event_loop.get() {
        Some(event_loop) if !as_usual => {
            let protocol = this.core().protocol_or_none(this.py());
            report_failure(&event_loop, message, exception, this.as_obj(), &protocol)
        }
        Some(event_loop) if event_loop.debug() => log_exception(this.as_obj(), message, exception),
        _ => Ok(()),
    }
}
