//! Receiving from a pipe.

use std::cell::Cell;
use std::io;

use cpython::build::Builder;
use cpython::{Hot, NoParent, Obj, Raised, Ref, Slot, Visit};
use engine::sys;

use super::super::core::{self, Core, Transport, callback_context, run_callback};
use super::super::reading::{Received, receive_bytes};
use super::super::reports::{in_context, os_exception};
use super::channel::{self, Channel, OverPipe};
use crate::event_loop::{EventLoop, Side};
use crate::handles::Entry;

/// The value of a transport that receives from a pipe.
pub(crate) struct ReadPipeTransport {
    channel: Channel,
    /// Whether the loop watches the descriptor.
    watching: Cell<bool>,
    paused: Cell<bool>,
    /// Much came with the last read.
    plenty: Cell<bool>,
    /// In which the protocol is called.
    context: Slot,
    /// The protocol's bound `data_received`, looked up at its first use.
    receive: Slot,
    /// The protocol's bound `eof_received`, which an entry of ours will call, and its context.
    eof: Slot,
    eof_context: Slot,
}

impl ReadPipeTransport {
    fn stop_reading(&self) -> Result<(), Raised> {
        self.channel.unwatch(Side::Read, &self.watching)
    }
}

fn is_reading(this: &Ref<ReadPipeTransport>) -> bool {
    !this.paused.get() && !this.channel.closing.get()
}

fn pause_reading(this: &Ref<ReadPipeTransport>) -> Result<(), Raised> {
    if !is_reading(this) {
        return Ok(());
    }
    this.paused.set(true);
    this.stop_reading()?;
    channel::log_if_debug(this, "debug", "%r pauses reading")
}

fn resume_reading(this: &Ref<ReadPipeTransport>) -> Result<(), Raised> {
    if this.channel.closing.get() || !this.paused.get() {
        return Ok(());
    }
    this.paused.set(false);
    channel::start_reading(this)?;
    channel::log_if_debug(this, "debug", "%r resumes reading")
}

/// The descriptor can be read: one read of bounded size.
pub(super) fn on_readable(this: &Ref<ReadPipeTransport>) -> Result<(), Raised> {
    if !this.watching.get() {
        return Ok(());
    }
    let Some(context) = this.context.get() else {
        return Ok(());
    };
    match in_context(&context, || read(this)) {
        Ok(()) => Ok(()),
        // asyncio leaves to the handle what the protocol raises; the transport lives on.
        Err(raised) => channel::callback_failed(this, "_start_reading", raised),
    }
}

/// The most that one readiness reads, in bytes; asyncio's `max_size`.
const MOST: usize = 256 * 1024;

/// From so many bytes on, a system call more costs less than a copy.
const PLENTY: usize = 16 * 1024;

/// One read: through the thread's buffer, or, where much is to be expected, directly into a bytes
/// object of the right size.
fn receive(this: &Ref<ReadPipeTransport>) -> Result<Received, Raised> {
    let (py, fd) = (this.py(), this.channel.fd);
    if this.plenty.get() {
        let ready = sys::readable_bytes(fd).unwrap_or_default();
        if ready >= PLENTY {
            let filled = Obj::bytes_filled(py, ready.min(MOST), |room| sys::read_uninit(fd, room));
            return Ok(match filled? {
                Ok(data) => Received::Data(data),
                // Someone else reads from the pipe, too.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
                Err(error) => Received::Failed(error),
            });
        }
    }
    let received = receive_bytes(py, |room| sys::read(fd, room))?;
    if let Received::Data(data) = &received {
        let size = data.as_bytes().map_or(0, <[u8]>::len);
        this.plenty.set(size >= PLENTY);
    }
    Ok(received)
}

fn read(this: &Ref<ReadPipeTransport>) -> Result<(), Raised> {
    let py = this.py();
    match receive(this)? {
        Received::Data(data) => {
            let receive = match this.receive.get() {
                Some(receive) => receive,
                None => look_up(this)?,
            };
            receive.call1(&data).map(drop)
        }
        Received::Eof => on_eof(this),
        Received::Nothing => Ok(()),
        Received::Failed(error) => {
            // A terminal whose other end is gone has this error.
            let gone = error.raw_os_error() == Some(EIO);
            let exception = os_exception(py, error);
            channel::report_error(this, &exception, "Fatal read error on pipe transport", gone)?;
            lose(this, Some(exception))
        }
    }
}

/// `errno.EIO`, the same on every system.
const EIO: i32 = 5;

#[cold]
fn look_up(this: &Ref<ReadPipeTransport>) -> Result<Obj, Raised> {
    let py = this.py();
    let protocol = this.channel.protocol.get();
    let receive = protocol
        .unwrap_or_else(|| Obj::none(py))
        .attr(pyo3::intern!(py, "data_received"))?;
    this.receive.set(Some(receive.clone()));
    Ok(receive)
}

/// The other end is closed: the protocol is told of it and loses the connection.
fn on_eof(this: &Ref<ReadPipeTransport>) -> Result<(), Raised> {
    let py = this.py();
    channel::log_if_debug(this, "info", "%r was closed by peer")?;
    let (Some(event_loop), Some(protocol)) =
        (this.channel.event_loop.get(), this.channel.protocol.get())
    else {
        return Ok(());
    };
    this.channel.closing.set(true);
    this.stop_reading()?;
    let eof = protocol.attr(pyo3::intern!(py, "eof_received"))?;
    if EventLoop::is_fast(&event_loop) {
        this.eof_context.set(Some(callback_context(this)?));
        this.eof.set(Some(eof));
    } else {
        let name = pyo3::intern!(py, "call_soon");
        event_loop.as_obj().method(name, &[&eof])?;
    }
    channel::lose(this, None)
}

/// An entry of ours has come to its turn.
pub(super) fn run_deferred(this: &Ref<ReadPipeTransport>) -> Result<(), Raised> {
    let (Some(eof), Some(event_loop)) = (this.eof.take(), this.channel.event_loop.get()) else {
        return core::run_deferred(this);
    };
    let context = this.eof_context.take();
    if let Err(raised) = run_callback(&event_loop, context, Some(eof), &[]) {
        // The program ends, or goes on by running the loop again; nothing is forgotten.
        EventLoop::schedule(&event_loop, Entry::call(this.as_obj().clone()));
        return Err(raised);
    }
    core::run_deferred(this)
}

fn close(this: &Ref<ReadPipeTransport>) -> Result<(), Raised> {
    if this.channel.closing.get() {
        return Ok(());
    }
    lose(this, None)
}

fn lose(this: &Ref<ReadPipeTransport>, exception: Option<Obj>) -> Result<(), Raised> {
    this.stop_reading()?;
    channel::lose(this, exception)
}

impl Transport for ReadPipeTransport {
    fn event_loop(&self) -> Option<Ref<EventLoop>> {
        self.channel.event_loop.get()
    }

    fn protocol(&self) -> Option<Obj> {
        self.channel.protocol.get()
    }

    fn core(&self) -> &Core {
        &self.channel.core
    }

    fn set_reading_context(&self, context: Obj) {
        self.context.set(Some(context));
    }

    fn start_reading_in_context(this: &Ref<Self>) -> Result<(), Raised> {
        let Some(event_loop) = this.channel.event_loop.get() else {
            return Ok(());
        };
        if !is_reading(this) || this.watching.get() {
            return Ok(());
        }
        EventLoop::watch_side(&event_loop, Side::Read, this.channel.fd, this.as_obj())?;
        this.watching.set(true);
        Ok(())
    }

    fn call_connection_lost(this: &Ref<Self>, exception: &Obj) -> Result<(), Raised> {
        channel::connection_lost(this, exception)
    }
}

impl OverPipe for ReadPipeTransport {
    const REFUSAL: &str = "Pipe transport is for pipes/sockets only.";

    fn over(channel: Channel) -> ReadPipeTransport {
        ReadPipeTransport {
            channel,
            watching: Cell::new(false),
            paused: Cell::new(false),
            plenty: Cell::new(false),
            context: Slot::default(),
            receive: Slot::default(),
            eof: Slot::default(),
            eof_context: Slot::default(),
        }
    }

    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn activity(&self) -> String {
        channel::state(&self.watching).to_owned()
    }

    fn set_protocol(&self, protocol: &Obj) {
        self.receive.set(None);
        self.channel.protocol.set(Some(protocol.clone()));
    }

    fn release(&self) {
        self.context.set(None);
        self.receive.set(None);
        self.eof.set(None);
        self.eof_context.set(None);
    }
}

impl Hot for ReadPipeTransport {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide.ReadPipeTransport";
    const DOC: &'static std::ffi::CStr = c"Transport that receives from a pipe.";
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        channel::build(builder);
        builder
            .method0(
                c"is_reading",
                c"is_reading($self, /)\n--\n\nReturn True if the transport is receiving.",
                is_reading,
            )
            .method0(
                c"pause_reading",
                c"pause_reading($self, /)\n--\n\nPause the receiving end.",
                pause_reading,
            )
            .method0(
                c"resume_reading",
                c"resume_reading($self, /)\n--\n\nResume the receiving end.",
                resume_reading,
            )
            .method0(
                c"close",
                c"close($self, /)\n--\n\nClose the transport.",
                close,
            )
            .method0(
                c"_start_reading",
                c"_start_reading($self, /)\n--\n\nStart to receive, unless paused or closing.",
                channel::start_reading,
            )
            .get(c"_paused", c"Whether reading is paused.", |this| {
                this.paused.get()
            });
    }

    fn traverse(&self, visit: &mut Visit<'_>) {
        self.channel.traverse(visit);
        for slot in [&self.context, &self.receive, &self.eof, &self.eof_context] {
            visit.slot(slot);
        }
    }

    fn clear(&self) {
        self.release();
        self.channel.clear();
    }

    fn needs_finalizer(&self, _: &NoParent) -> bool {
        self.channel.pipe.is_some()
    }

    fn finalize(this: &Ref<Self>) {
        channel::finalize(this);
    }
}
