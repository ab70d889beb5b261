//! The link between a pipe's transport and the child's protocol: asyncio's
//! `ReadSubprocessPipeProto` and `WriteSubprocessPipeProto`.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot};

use super::SubprocessTransport;
use super::calls::{self, ChildCall};
use super::child;

/// The value of a pipe's protocol.
pub(super) struct PipeProtocol {
    /// The child, until the pipe is closed.
    child: Slot<Ref<SubprocessTransport>>,
    /// The pipe's number in the child: 0, 1 or 2.
    fd: i64,
    /// The pipe's transport, once connected.
    pub(super) pipe: Slot,
    /// Whether the pipe is closed.
    pub(super) disconnected: Cell<bool>,
}

impl PipeProtocol {
    /// Makes the protocol of the child's pipe with this number.
    pub(super) fn create(
        child: &Ref<SubprocessTransport>,
        fd: i64,
    ) -> Result<Ref<PipeProtocol>, Raised> {
        Ref::new(
            child.py(),
            PipeProtocol {
                child: Slot::new(Some(child.clone())),
                fd,
                pipe: Slot::default(),
                disconnected: Cell::new(false),
            },
        )
    }
}

fn data_received(this: &Ref<PipeProtocol>, data: &Obj) -> Result<(), Raised> {
    match this.child.get() {
        Some(child) => calls::add(&child, ChildCall::PipeDataReceived(this.fd, data.clone())),
        None => Ok(()),
    }
}

fn connection_lost(this: &Ref<PipeProtocol>, exception: &Obj) -> Result<(), Raised> {
    this.disconnected.set(true);
    let Some(child) = this.child.take() else {
        return Ok(());
    };
    calls::add(
        &child,
        ChildCall::PipeConnectionLost(this.fd, exception.clone()),
    )?;
    child::finish_if_over(&child)
}

/// Passes a call on to the child's protocol.
fn hand_on(this: &Ref<PipeProtocol>, method: &str) -> Result<(), Raised> {
    let protocol = this.child.get().and_then(|child| child.protocol.get());
    match protocol {
        Some(protocol) => {
            let method = pyo3::types::PyString::intern(this.py(), method);
            protocol.method(&method, &[]).map(drop)
        }
        None => Ok(()),
    }
}

fn repr(this: &Ref<PipeProtocol>) -> Result<String, Raised> {
    let pipe = match this.pipe.get() {
        Some(pipe) => pipe.repr()?.to_string()?,
        None => "None".to_owned(),
    };
    Ok(format!("<PipeProtocol fd={} pipe={pipe}>", this.fd))
}

/// The argument of a protocol's method.
fn argument<'a>(args: &Args<'a>, method: &str, name: &str) -> Result<&'a Obj, Raised> {
    args.one(&format!("PipeProtocol.{method}"), name)
}

impl Hot for PipeProtocol {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide.PipeProtocol";
    const DOC: &'static std::ffi::CStr = c"Protocol of a child process's pipe.";
    const SUBCLASSABLE: bool = false;
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        builder
            .repr(repr)
            .method(
                c"connection_made",
                c"connection_made($self, /, transport)\n--\n\nThe pipe is connected.",
                |this, args: &Args<'_>| -> Result<(), Raised> {
                    let transport = argument(args, "connection_made", "transport")?;
                    this.pipe.set(Some(transport.clone()));
                    Ok(())
                },
            )
            .method1(
                c"data_received",
                c"data_received($self, data, /)\n--\n\nThe pipe has received data.",
                data_received,
            )
            .method(
                c"connection_lost",
                c"connection_lost($self, /, exc)\n--\n\nThe pipe is closed.",
                |this, args: &Args<'_>| {
                    connection_lost(this, argument(args, "connection_lost", "exc")?)
                },
            )
            .method0(
                c"pause_writing",
                c"pause_writing($self, /)\n--\n\nThe pipe's write buffer is above high water.",
                |this| hand_on(this, "pause_writing"),
            )
            .method0(
                c"resume_writing",
                c"resume_writing($self, /)\n--\n\nThe pipe's write buffer has drained.",
                |this| hand_on(this, "resume_writing"),
            )
            .get(c"proc", c"The child, until the pipe is closed.", |this| {
                this.child.get()
            })
            .get(c"fd", c"The pipe's number in the child.", |this| this.fd)
            .get(c"pipe", c"The pipe's transport.", |this| this.pipe.get())
            .get(c"disconnected", c"Whether the pipe is closed.", |this| {
                this.disconnected.get()
            });
    }

    cpython::holds!(child, pipe);
}

/// The value of a property for a pipe that may not exist.
pub(super) fn shown(py: Python<'_>, protocol: Option<Ref<PipeProtocol>>) -> Obj {
    protocol.map_or_else(|| Obj::none(py), Ref::into_obj)
}
