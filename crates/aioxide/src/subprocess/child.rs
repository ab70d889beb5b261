//! `SubprocessTransport`: the type, its Python side, and closing.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Raised, Ref, Slot, context};

use super::calls::{self, ChildCall, ChildCalls};
use super::exit::{self, ExitWait};
use super::pipe_protocol::{PipeProtocol, shown};
use crate::event_loop::EventLoop;
use crate::transports::extra_info;
use crate::transports::imports;
use crate::transports::pipes::channel::{NewPipe, open_connected};
use crate::transports::pipes::{ReadPipeTransport, WritePipeTransport};
use crate::transports::reports::warn_unclosed;

/// Popen's attributes with the parent's ends of the pipes, by the pipes' numbers in the child.
const PIPES: [&str; 3] = ["stdin", "stdout", "stderr"];

/// The value of a child process's transport.
pub(crate) struct SubprocessTransport {
    /// The loop. It stays after the end: a later wait for the exit status gets a future of this
    /// loop.
    pub(super) event_loop: Slot<Ref<EventLoop>>,
    /// The protocol, until `connection_lost`; the same holds for `popen`.
    pub(super) protocol: Slot,
    /// The `subprocess.Popen` that has started the child.
    pub(super) popen: Slot,
    pub(super) pid: i32,
    pub(super) returncode: Cell<Option<i64>>,
    /// Whether `close()` was called.
    closed: Cell<bool>,
    /// Whether `connection_lost` is scheduled or was called.
    finished: Cell<bool>,
    lost: Cell<bool>,
    /// Whether each pipe exists; `pipes` has its protocol once that is made.
    piped: [bool; 3],
    pipes: [Slot<Ref<PipeProtocol>>; 3],
    /// The dict in which `get_extra_info` looks.
    extra: Slot,
    /// The context in which the exit is handled.
    pub(super) context: Slot,
    pub(super) calls: ChildCalls,
    pub(super) exit: ExitWait,
}

/// `_make_child_transport(popen, protocol, waiter, extra, watch)`: a transport for the child that a
/// `subprocess.Popen` has started. If `watch`, the transport waits for its exit; otherwise a child
/// watcher calls `_process_exited`. Raises OSError where the system has no descriptor left.
pub(crate) fn make_child_transport(this: &Ref<EventLoop>, args: &Args<'_>) -> Result<Obj, Raised> {
    let py = this.py();
    let [popen, protocol, waiter, extra, watch] = args.positional else {
        return Err(Raised::type_error(py, "five arguments are required"));
    };
    let extra = match extra.clone().not_none() {
        Some(extra) => extra,
        None => Obj::dict(py)?,
    };
    extra.dict_set(Obj::name(pyo3::intern!(py, "subprocess")), popen)?;
    let mut piped = [false; 3];
    for (piped, name) in piped.iter_mut().zip(PIPES) {
        let name = pyo3::types::PyString::intern(py, name);
        *piped = !popen.attr(&name)?.is_none();
    }
    let pid = popen.attr(pyo3::intern!(py, "pid"))?.to_i64()?;
    let transport = Ref::new(
        py,
        SubprocessTransport {
            event_loop: Slot::new(Some(this.clone())),
            protocol: Slot::new(Some(protocol.clone())),
            popen: Slot::new(Some(popen.clone())),
            pid: i32::try_from(pid).unwrap_or(-1),
            returncode: Cell::new(None),
            // Until the child is watched, there is nothing to close.
            closed: Cell::new(true),
            finished: Cell::new(false),
            lost: Cell::new(false),
            piped,
            pipes: Default::default(),
            extra: Slot::new(Some(extra)),
            context: Slot::new(Some(context::copy_current(py)?)),
            calls: ChildCalls::new(waiter.clone().not_none()),
            exit: ExitWait::new(),
        },
    )?;
    if watch.truth()? {
        exit::watch(&transport)?;
    }
    transport.closed.set(false);
    Ok(transport.into_obj())
}

impl SubprocessTransport {
    /// Whether the loop is in debug mode.
    pub(super) fn is_in_debug_mode(&self) -> bool {
        let event_loop = self.event_loop.get();
        event_loop.is_some_and(|event_loop| event_loop.debug())
    }
}

/// `_connect_pipes()`: makes the transports of all pipes, and schedules `connection_made` for the
/// next iteration. If one fails, the pipes connected by then stay for `close()`.
fn connect_pipes(this: &Ref<SubprocessTransport>) -> Result<(), Raised> {
    let py = this.py();
    let (Some(event_loop), Some(popen)) = (this.event_loop.get(), this.popen.get()) else {
        return Ok(());
    };
    for (fd, name) in PIPES.iter().enumerate().filter(|(fd, _)| this.piped[*fd]) {
        let protocol = PipeProtocol::create(this, fd as i64)?;
        let pipe = NewPipe {
            file: popen.attr(&pyo3::types::PyString::intern(py, name))?,
            protocol: protocol.as_obj().clone(),
            waiter: None,
            extra: None,
        };
        let transport = if fd == 0 {
            open_connected::<WritePipeTransport>(&event_loop, &pipe)?.into_obj()
        } else {
            open_connected::<ReadPipeTransport>(&event_loop, &pipe)?.into_obj()
        };
        protocol.pipe.set(Some(transport));
        this.pipes[fd].set(Some(protocol));
    }
    calls::connected(this)
}

/// `_make_pipe_protocol(fd)`: the protocol for one of the pipes, which the caller connects.
fn make_pipe_protocol(this: &Ref<SubprocessTransport>, fd: &Obj) -> Result<Obj, Raised> {
    let number = fd.to_i64()?;
    let protocol = PipeProtocol::create(this, number)?;
    if let Some(place) = slot_of(this, number) {
        place.set(Some(protocol.clone()));
    }
    Ok(protocol.into_obj())
}

fn slot_of(this: &Ref<SubprocessTransport>, fd: i64) -> Option<&Slot<Ref<PipeProtocol>>> {
    this.pipes.get(usize::try_from(fd).ok()?)
}

/// Schedules `connection_lost` if the process has exited and all pipes are closed.
pub(super) fn finish_if_over(this: &Ref<SubprocessTransport>) -> Result<(), Raised> {
    let open = (0..3).any(|fd| {
        let protocol = this.pipes[fd].get();
        this.piped[fd] && protocol.is_none_or(|protocol| !protocol.disconnected.get())
    });
    if open || this.returncode.get().is_none() || this.finished.replace(true) {
        return Ok(());
    }
    calls::add(this, ChildCall::ConnectionLost)
}

/// `_call_connection_lost(exc)`. Raises what the protocol raises, after releasing everything.
fn call_connection_lost(this: &Ref<SubprocessTransport>, exception: &Obj) -> Result<(), Raised> {
    let py = this.py();
    if this.lost.replace(true) {
        return Ok(());
    }
    let result = match this.protocol.get() {
        Some(protocol) => protocol
            .method(pyo3::intern!(py, "connection_lost"), &[exception])
            .map(drop),
        None => Ok(()),
    };
    let raised = result.err().map(|raised| raised.take(py));
    this.popen.set(None);
    this.protocol.set(None);
    this.context.set(None);
    match raised {
        Some(exception) => Err(Raised::raise(exception)),
        None => Ok(()),
    }
}

/// `close()`: closes the pipes and kills the child if it still runs.
fn close(this: &Ref<SubprocessTransport>) -> Result<(), Raised> {
    let py = this.py();
    if this.closed.replace(true) {
        return Ok(());
    }
    let event_loop = this.event_loop.get();
    if event_loop.is_some_and(|event_loop| !event_loop.is_closed()) {
        for protocol in this.pipes.iter().filter_map(Slot::get) {
            if let Some(pipe) = protocol.pipe.get() {
                pipe.method(pyo3::intern!(py, "close"), &[])?;
            }
        }
    }
    let (Some(popen), None) = (this.popen.get(), this.returncode.get()) else {
        return Ok(());
    };
    if !popen.method(pyo3::intern!(py, "poll"), &[])?.is_none() {
        return Ok(());
    }
    if this.is_in_debug_mode() {
        let text = Obj::str(py, "Close running child process: kill %r")?;
        imports(py)
            .logger
            .get(py)
            .method(pyo3::intern!(py, "warning"), &[&text, this.as_obj()])?;
    }
    match popen.method(pyo3::intern!(py, "kill"), &[]) {
        Ok(_) => Ok(()),
        Err(raised) => raised
            .ignore::<pyo3::exceptions::PyProcessLookupError>(py)
            .or_else(|raised| raised.ignore::<pyo3::exceptions::PyPermissionError>(py)),
    }
}

/// `send_signal(signal)`. Raises ProcessLookupError after `connection_lost`.
fn send_signal(this: &Ref<SubprocessTransport>, signal: &Obj) -> Result<(), Raised> {
    let py = this.py();
    if this.popen.is_none() {
        let class = Obj::class_of::<pyo3::exceptions::PyProcessLookupError>(py);
        return Err(Raised::raise_in_context(class.call0()?));
    }
    // Once the status is taken, the process id may be another process's.
    if this.returncode.get().is_some() {
        return Ok(());
    }
    let os = Obj::import(py, c"os")?;
    let pid = Obj::int(py, this.pid.into())?;
    match os.method(pyo3::intern!(py, "kill"), &[&pid, signal]) {
        Ok(_) => Ok(()),
        Err(raised) => raised.ignore::<pyo3::exceptions::PyProcessLookupError>(py),
    }
}

fn send_number(this: &Ref<SubprocessTransport>, signal: i64) -> Result<(), Raised> {
    send_signal(this, &Obj::int(this.py(), signal)?)
}

/// `signal.SIGTERM` and `signal.SIGKILL`, the same on every system.
const SIGTERM: i64 = 15;
const SIGKILL: i64 = 9;

fn get_pipe_transport(this: &Ref<SubprocessTransport>, fd: &Obj) -> Option<Obj> {
    let fd = fd.is_int().then(|| fd.to_i64())?;
    let fd = match fd {
        Ok(fd) => fd,
        Err(raised) => {
            drop(raised.take(this.py()));
            return None;
        }
    };
    slot_of(this, fd)?.get()?.pipe.get()
}

/// asyncio's `_pipes`: the pipes' protocols by number.
fn pipes(this: &Ref<SubprocessTransport>) -> Result<Obj, Raised> {
    let py = this.py();
    let dict = Obj::dict(py)?;
    for fd in (0..3).filter(|fd| this.piped[*fd]) {
        dict.dict_set(&Obj::int(py, fd as i64)?, &shown(py, this.pipes[fd].get()))?;
    }
    Ok(dict)
}

fn repr(this: &Ref<SubprocessTransport>) -> Result<String, Raised> {
    let class = this
        .as_obj()
        .class()
        .attr(pyo3::intern!(this.py(), "__name__"))?;
    let mut text = format!("<{}", class.as_str()?);
    if this.closed.get() {
        text.push_str(" closed");
    }
    text.push_str(&format!(" pid={}", this.pid));
    match this.returncode.get() {
        Some(status) => text.push_str(&format!(" returncode={status}")),
        None => text.push_str(" running"),
    }
    for (name, protocol) in PIPES.iter().zip(&this.pipes) {
        if let Some(pipe) = protocol.get().and_then(|protocol| protocol.pipe.get()) {
            text.push_str(&format!(" {name}={}", pipe.repr()?.to_string()?));
        }
    }
    text.push('>');
    Ok(text)
}

impl Hot for SubprocessTransport {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide.SubprocessTransport";
    const DOC: &'static std::ffi::CStr = c"Transport of a child process.";
    const SUBCLASSABLE: bool = false;
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        extra_info::build(builder, |this| &this.extra);
        builder
            .instance_dict()
            .repr(repr)
            .method(
                c"set_protocol",
                c"set_protocol($self, /, protocol)\n--\n\nSet a new protocol.",
                |this, args: &Args<'_>| -> Result<(), Raised> {
                    let protocol = args.one("BaseSubprocessTransport.set_protocol", "protocol")?;
                    this.protocol.set(Some(protocol.clone()));
                    Ok(())
                },
            )
            .method0(
                c"get_protocol",
                c"get_protocol($self, /)\n--\n\nReturn the current protocol.",
                |this| this.protocol.get(),
            )
            .method0(
                c"is_closing",
                c"is_closing($self, /)\n--\n\nReturn True if the transport is closed.",
                |this| this.closed.get(),
            )
            .method0(
                c"close",
                c"close($self, /)\n--\n\nClose the pipes and kill the child if it still runs.",
                close,
            )
            .method0(
                c"get_pid",
                c"get_pid($self, /)\n--\n\nReturn the process id.",
                |this| i64::from(this.pid),
            )
            .method0(
                c"get_returncode",
                c"get_returncode($self, /)\n--\n\nReturn the exit status, or None while the child runs.",
                |this| this.returncode.get(),
            )
            .method(
                c"get_pipe_transport",
                c"get_pipe_transport($self, /, fd)\n--\n\nReturn the transport of pipe 0, 1 or 2.",
                |this, args: &Args<'_>| -> Result<Option<Obj>, Raised> {
                    let fd = args.one("BaseSubprocessTransport.get_pipe_transport", "fd")?;
                    Ok(get_pipe_transport(this, fd))
                },
            )
            .method(
                c"send_signal",
                c"send_signal($self, /, signal)\n--\n\nSend a signal to the child.",
                |this, args: &Args<'_>| {
                    let name = "BaseSubprocessTransport.send_signal";
                    send_signal(this, args.one(name, "signal")?)
                },
            )
            .method0(
                c"terminate",
                c"terminate($self, /)\n--\n\nStop the child with SIGTERM.",
                |this| send_number(this, SIGTERM),
            )
            .method0(
                c"kill",
                c"kill($self, /)\n--\n\nKill the child with SIGKILL.",
                |this| send_number(this, SIGKILL),
            )
            .method0(
                c"_wait",
                c"_wait($self, /)\n--\n\nReturn a future for the exit status.",
                exit::wait,
            )
            .method1(
                c"_process_exited",
                c"_process_exited($self, returncode, /)\n--\n\nThe child has exited.",
                |this, status: &Obj| exit::process_exited(this, status.to_i64()?),
            )
            .method1(
                c"_call_connection_lost",
                c"_call_connection_lost($self, exc, /)\n--\n\nCall the protocol's connection_lost().",
                call_connection_lost,
            )
            .method0(
                c"_connect_pipes",
                c"_connect_pipes($self, /)\n--\n\nConnect all pipes.",
                connect_pipes,
            )
            .method1(
                c"_make_pipe_protocol",
                c"_make_pipe_protocol($self, fd, /)\n--\n\nReturn a protocol for a pipe.",
                make_pipe_protocol,
            )
            .method0(
                c"_pipes_connected",
                c"_pipes_connected($self, /)\n--\n\nAll pipes are connected.",
                calls::connected,
            )
            .get(c"_closed", c"Whether close() was called.", |this| {
                this.closed.get()
            })
            .get(c"_finished", c"Whether connection_lost() is scheduled or was called.", |this| {
                this.finished.get()
            })
            .get(
                c"_loop",
                c"The loop, until the connection is lost.",
                |this| this.event_loop.get().filter(|_| !this.lost.get()),
            )
            .get(
                c"_protocol",
                c"The protocol, until the connection is lost.",
                |this| this.protocol.get(),
            )
            .get(
                c"_proc",
                c"The Popen, until the connection is lost.",
                |this| this.popen.get(),
            )
            .get(c"_pid", c"The process id.", |this| i64::from(this.pid))
            .get(c"_returncode", c"The exit status.", |this| {
                this.returncode.get()
            })
            .get(c"_pipes", c"The pipes' protocols by number.", pipes);
    }

    cpython::holds!(
        calls, exit, pipes, event_loop, protocol, popen, extra, context
    );

    fn needs_finalizer(&self, _: &NoParent) -> bool {
        !self.closed.get()
    }

    fn finalize(this: &Ref<Self>) {
        if this.closed.get() {
            return;
        }
        for result in [warn_unclosed(this.as_obj()), close(this)] {
            if let Err(raised) = result {
                raised.report_unraisable(Some(this.as_obj()));
            }
        }
    }
}
