//! Readiness to read: a bounded number of datagrams, then the protocol, one by one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;

use cpython::build::Builder;
use cpython::{Args, GcFields, Obj, Raised, Ref, Slot, Visit, context};
use engine::Batch;
use engine::sys::{self, DatagramBuffer, MAX_DATAGRAMS, family};

use super::senders::Senders;
use super::{DatagramTransport, errors};
use crate::event_loop::EventLoop;
use crate::handles::Entry;
use crate::handles::reports::method_failed;
use crate::interop::EndsProgram;
use crate::transports::extra_info::address_object;
use crate::transports::reading::{SCRATCH, with_scratch};
use crate::transports::reports::os_exception;
use crate::transports::socket::watch_read;
use crate::transports::transport::Transport;

/// The size in bytes that no datagram of UDP exceeds. Other datagrams go one by one through the
/// thread's buffer.
const LARGEST: usize = 64 * 1024;

thread_local! {
    static BUFFER: Cell<Option<Box<DatagramBuffer>>> = const { Cell::new(None) };
}

/// The receiving half of a transport.
pub(super) struct Receiving {
    /// The context in which the protocol is called.
    pub(super) context: Slot,
    /// The protocol's bound `datagram_received`, looked up at its first use.
    receive: Slot,
    pub(super) senders: Senders,
    /// The number of datagrams that the next readiness receives.
    batch: Batch,
    /// Datagrams that were received before the protocol paused or the program was ended, each with
    /// its sender.
    waiting: RefCell<VecDeque<(Obj, Obj)>>,
    /// An entry in the loop's queue will deliver them.
    scheduled: Cell<bool>,
}

impl GcFields for Receiving {
    fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.context);
        visit.slot(&self.receive);
    }
    fn let_go(&self) {
        self.context.set(None);
        self.receive.set(None);
        self.senders.clear();
        self.forget_waiting();
    }
}

impl Receiving {
    pub(super) fn new() -> Receiving {
        Receiving {
            context: Slot::default(),
            receive: Slot::default(),
            senders: Senders::default(),
            batch: Batch::new(),
            waiting: RefCell::default(),
            scheduled: Cell::new(false),
        }
    }

    pub(super) fn forget_waiting(&self) {
        let waiting = self.waiting.take();
        drop(waiting);
    }
}

pub(super) fn build(builder: &mut Builder<DatagramTransport>) {
    builder
        .method(
            c"set_protocol",
            c"set_protocol($self, /, protocol)\n--\n\nSet a new protocol.",
            |this, args: &Args<'_>| -> Result<(), Raised> {
                let protocol = args.one("_SelectorTransport.set_protocol", "protocol")?;
                this.receiving.receive.set(None);
                this.core().protocol.set(Some(protocol.clone()));
                Ok(())
            },
        )
        .method0(
            c"_read_ready",
            c"_read_ready($self, /)\n--\n\nReceive what is there.",
            receive,
        );
}

/// Starts to receive, unless paused or closing, in the context that was set before. Datagrams that
/// were received already come first.
pub(super) fn start_reading_in_context(this: &Ref<DatagramTransport>) -> Result<(), Raised> {
    let Some(event_loop) = this.core().event_loop.get() else {
        return Ok(());
    };
    if !this.core().is_reading() {
        return Ok(());
    }
    event_loop.check_closed(this.py())?;
    if this.receiving.waiting.borrow().is_empty() {
        return watch_read(this);
    }
    if !this.receiving.scheduled.replace(true) {
        EventLoop::schedule(&event_loop, Entry::call(this.as_obj().clone()));
    }
    Ok(())
}

/// Handles that the descriptor can be read.
pub(super) fn on_readable(this: &Ref<DatagramTransport>) -> Result<(), EndsProgram> {
    if this.socket.watches_read.get() {
        in_reading_context(this, receive)
    } else {
        Ok(())
    }
}

/// Runs the transport's entry in the loop's queue: delivers the datagrams that wait, if it was
/// scheduled for them.
pub(super) fn deliver_waiting(this: &Ref<DatagramTransport>) -> Result<(), EndsProgram> {
    if !this.receiving.scheduled.replace(false) || !this.core().is_reading() {
        return Ok(());
    }
    in_reading_context(this, hand_out)?;
    if this.core().is_reading() && this.receiving.waiting.borrow().is_empty() {
        return watch_read(this).or_else(|raised| read_failed(this, raised));
    }
    Ok(())
}

/// Calls the function in the protocol's context, and reports its exception as asyncio does for
/// `_read_ready`.
fn in_reading_context(
    this: &Ref<DatagramTransport>,
    body: fn(&Ref<DatagramTransport>) -> Result<(), Raised>,
) -> Result<(), EndsProgram> {
    let Some(context) = this.receiving.context.get() else {
        return Ok(());
    };
    match context::run(&context, || body(this)) {
        Ok(()) => Ok(()),
        Err(raised) => read_failed(this, raised),
    }
}

#[cold]
fn read_failed(this: &Ref<DatagramTransport>, raised: Raised) -> Result<(), EndsProgram> {
    let event_loop = this.core().event_loop.get();
    method_failed(event_loop, this.as_obj(), "_read_ready", &[], raised)
}

/// `_read_ready()`.
fn receive(this: &Ref<DatagramTransport>) -> Result<(), Raised> {
    if this.socket.lost.get() > 0 {
        return Ok(());
    }
    if !this.receiving.waiting.borrow().is_empty() {
        return hand_out(this);
    }
    match this.native {
        Some(family::UNIX) => receive_one(this),
        Some(_) => receive_several(this),
        None => receive_by_methods(this),
    }
}

/// Receives one datagram of any size.
fn receive_one(this: &Ref<DatagramTransport>) -> Result<(), Raised> {
    let (py, fd) = (this.py(), this.core().fd);
    let received = with_scratch(|scratch| {
        let result = sys::recv_from(fd, scratch);
        result.map(|(count, from)| (Obj::bytes(py, &scratch[..count]), from))
    });
    match received {
        Ok((data, from)) => deliver(this, &data?, &address_object(py, &from)?),
        Err(error) => receive_failed(this, error),
    }
}

/// Receives as many datagrams of an IP socket as are probably there.
fn receive_several(this: &Ref<DatagramTransport>) -> Result<(), Raised> {
    let asked = this.receiving.batch.begin();
    // The buffer is taken out: making objects of its datagrams may run Python code that comes here
    // again.
    let mut buffer = BUFFER
        .take()
        .unwrap_or_else(|| Box::new(DatagramBuffer::new(LARGEST)));
    let received = buffer.receive(this.core().fd, asked);
    let first = match &received {
        Ok(count) => {
            this.receiving.batch.end(asked, *count, MAX_DATAGRAMS);
            make_objects(this, &buffer, *count)
        }
        Err(_) => Ok(None),
    };
    BUFFER.set(Some(buffer));
    if let Err(error) = received {
        return receive_failed(this, error);
    }
    let Some((data, from)) = first? else {
        return Ok(());
    };
    let delivered = deliver(this, &data, &from);
    if this.receiving.waiting.borrow().is_empty() {
        return delivered;
    }
    if let Err(raised) = delivered {
        after_failure(this, raised)?;
    }
    hand_out(this)
}

/// Makes objects of the received datagrams: returns the first and keeps the others for delivery.
fn make_objects(
    this: &Ref<DatagramTransport>,
    buffer: &DatagramBuffer,
    count: usize,
) -> Result<Option<(Obj, Obj)>, Raised> {
    let py = this.py();
    let mut first = None;
    for index in 0..count {
        if let Some((data, from)) = buffer.get(index) {
            let data = Obj::bytes(py, data)?;
            let datagram = (data, this.receiving.senders.object(py, from)?);
            if index == 0 {
                first = Some(datagram);
            } else {
                this.receiving.waiting.borrow_mut().push_back(datagram);
            }
        }
    }
    Ok(first)
}

/// Delivers the datagrams that wait, until the protocol pauses.
fn hand_out(this: &Ref<DatagramTransport>) -> Result<(), Raised> {
    while this.core().is_reading() {
        let next = this.receiving.waiting.borrow_mut().pop_front();
        let Some((data, from)) = next else {
            return Ok(());
        };
        if let Err(raised) = deliver(this, &data, &from) {
            after_failure(this, raised)?;
        }
    }
    Ok(())
}

/// Reports an exception of the protocol while datagrams wait, and delivers these. If the exception
/// ends the program, they wait for the next run of the loop.
#[cold]
fn after_failure(this: &Ref<DatagramTransport>, raised: Raised) -> Result<(), EndsProgram> {
    let Err(raised) = read_failed(this, raised) else {
        return Ok(());
    };
    if !this.receiving.waiting.borrow().is_empty() {
        if let (false, Some(event_loop)) = (
            this.receiving.scheduled.replace(true),
            this.core().event_loop.get(),
        ) {
            EventLoop::schedule(&event_loop, Entry::call(this.as_obj().clone()));
        }
    }
    Err(raised)
}

/// Calls `datagram_received`.
#[inline]
fn deliver(this: &Ref<DatagramTransport>, data: &Obj, from: &Obj) -> Result<(), Raised> {
    let py = this.py();
    let receive = match this.receiving.receive.get() {
        Some(receive) => receive,
        None => {
            let protocol = this.core().protocol_or_none(py);
            let receive = protocol.attr(pyo3::intern!(py, "datagram_received"))?;
            this.receiving.receive.set(Some(receive.clone()));
            receive
        }
    };
    receive.call(&[data, from]).map(drop)
}

#[cold]
fn receive_failed(this: &Ref<DatagramTransport>, error: io::Error) -> Result<(), Raised> {
    if error.kind() == io::ErrorKind::WouldBlock {
        return Ok(());
    }
    errors::error_received(this, &os_exception(this.py(), error))
}

/// Receives one datagram by the socket's own method.
#[cold]
fn receive_by_methods(this: &Ref<DatagramTransport>) -> Result<(), Raised> {
    let py = this.py();
    let size = Obj::int(py, SCRATCH as i64)?;
    let received = DatagramTransport::sock(this, "recvfrom")
        .and_then(|sock| sock.method(pyo3::intern!(py, "recvfrom"), &[&size]));
    match received {
        Ok(received) => {
            let items = received.iter()?;
            match (items.next()?, items.next()?) {
                (Some(data), Some(from)) => deliver(this, &data, &from),
                _ => Err(Raised::value_error(py, "not enough values to unpack")),
            }
        }
        Err(raised) => {
            let message = "Fatal read error on datagram transport";
            errors::method_failed(this, raised, message).map(drop)
        }
    }
}
