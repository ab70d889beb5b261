//! `sendto`: what the socket takes leaves at once, the rest waits in a queue of datagrams.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;

use cpython::build::Builder;
use cpython::{Args, Obj, Raised, Ref, Slot, Visit};
use engine::sys::{self, MAX_DATAGRAMS, Outgoing};
use engine::{FlowControl, SocketAddrStorage};

use super::DatagramTransport;
use super::errors::{self, Failure};
use crate::transports::addresses::plain_address;
use crate::transports::core::{self, Transport};
use crate::transports::imports;
use crate::transports::outgoing::{
    self, Chunk, count_lost_write, pause_if_full, resume_if_drained,
};
use crate::transports::reports::{in_context, method_failed, os_exception};
use crate::transports::socket::{unwatch_write, watch_write};

/// What a queued datagram counts besides its bytes, and whether empty ones are sent: 3.13 and
/// later count a header.
const HEADER: usize = if cfg!(Py_3_13) { 8 } else { 0 };
const SENDS_EMPTY: bool = cfg!(Py_3_13);

/// Where a datagram goes.
#[derive(Clone)]
enum Target {
    /// To the peer that the socket is connected to.
    Peer,
    Address(SocketAddrStorage),
    /// By the socket's own method: a name to be resolved, or no address at all.
    Object(Obj),
}

#[derive(Clone)]
struct Packet {
    data: Chunk,
    target: Target,
}

impl Packet {
    fn bytes(&self) -> &[u8] {
        self.data.as_ref()
    }
}

/// The sending half of a transport.
pub(super) struct Sending {
    queue: RefCell<VecDeque<Packet>>,
    /// Bytes of the queued datagrams and their headers.
    size: Cell<usize>,
    pub(super) flow: RefCell<FlowControl>,
    /// In which `resume_writing`, `error_received` and a late `connection_lost` are called.
    context: Slot,
}

impl Sending {
    pub(super) fn new() -> Sending {
        Sending {
            queue: RefCell::default(),
            size: Cell::new(0),
            flow: RefCell::new(FlowControl::new()),
            context: Slot::default(),
        }
    }

    /// Bytes that wait, with headers.
    pub(super) fn size(&self) -> usize {
        self.size.get()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    fn push(&self, packet: Packet) {
        self.size
            .set(self.size.get() + packet.bytes().len() + HEADER);
        self.queue.borrow_mut().push_back(packet);
    }

    /// The first datagram is on its way, or is no more to be sent.
    fn pop(&self) {
        let packet = self.queue.borrow_mut().pop_front();
        if let Some(packet) = packet {
            self.size
                .set(self.size.get() - packet.bytes().len() - HEADER);
        }
    }

    pub(super) fn traverse(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.context);
        if let Ok(queue) = self.queue.try_borrow() {
            for packet in &*queue {
                if let Target::Object(address) = &packet.target {
                    visit.object(address);
                }
            }
        }
    }

    pub(super) fn clear(&self) {
        self.context.set(None);
        self.discard();
    }

    /// Forgets what waits.
    pub(super) fn discard(&self) {
        self.size.set(0);
        let queue = self.queue.take();
        drop(queue);
    }
}

pub(super) fn build(builder: &mut Builder<DatagramTransport>) {
    outgoing::build(builder);
    builder
        .method(
            c"sendto",
            c"sendto($self, /, data, addr=None)\n--\n\nSend data to the transport.",
            sendto,
        )
        .get(c"_buffer", c"A copy of the queue.", queue_copy)
        .get(c"_buffer_size", c"Bytes that wait.", |this| {
            this.sending.size()
        });
}

/// `sendto(data, addr=None)`.
fn sendto(this: &Ref<DatagramTransport>, args: &Args<'_>) -> Result<(), Raised> {
    let py = this.py();
    let name = "_SelectorDatagramTransport.sendto";
    let [data, address] = args.bind_as_python(name, &["data", "addr"], 1)?;
    let (data, address) = (
        data.unwrap_or_else(|| Obj::none(py)),
        address.and_then(Obj::not_none),
    );
    check_data(&data)?;
    if !SENDS_EMPTY && !data.truth()? {
        return Ok(());
    }
    let address = match this.address.get() {
        None => address,
        Some(remote) => {
            if let Some(address) = address {
                check_address(&address, &remote)?;
            }
            if this.socket.lost.get() > 0 {
                return count_lost_write(py, &this.socket.lost, "socket.send() raised exception.");
            }
            Some(remote)
        }
    };
    if let (false, Some(sock), Some(address)) = (
        this.has_peer,
        this.socket.descriptor.made_socket(),
        &address,
    ) {
        cpython::interpreter::audit(c"socket.sendto", &sock, address)?;
    }
    let target = target(this, address);
    if this.sending.is_empty() {
        match send(this, &data, &target)? {
            Sent::Done => return Ok(()),
            Sent::Wait => watch_write(this, &this.sending.context)?,
        }
    }
    keep(this, &data, target)
}

#[inline]
fn check_data(data: &Obj) -> Result<(), Raised> {
    let py = data.py();
    if data.as_bytes().is_some()
        || data.is_subtype_of(&Obj::class_of::<pyo3::types::PyByteArray>(py))
        || data.is_subtype_of(&Obj::class_of::<pyo3::types::PyMemoryView>(py))
    {
        return Ok(());
    }
    let name = data.class().attr(pyo3::intern!(py, "__name__"))?.repr()?;
    let text = format!(
        "data argument must be a bytes-like object, not {}",
        name.as_str()?
    );
    Err(Raised::type_error(py, &text))
}

/// An address was given although the transport has one.
fn check_address(address: &Obj, remote: &Obj) -> Result<(), Raised> {
    if address.is(remote) || address.equals(remote)? {
        return Ok(());
    }
    let remote = remote.str_of()?;
    let text = format!("Invalid address: must be None or {}", remote.as_str()?);
    Err(Raised::value_error(address.py(), &text))
}

fn target(this: &Ref<DatagramTransport>, address: Option<Obj>) -> Target {
    if this.has_peer {
        return Target::Peer;
    }
    let Some(address) = address else {
        return Target::Object(Obj::none(this.py()));
    };
    if let Some(known) = this.receiving.senders.address(&address) {
        return Target::Address(known.into());
    }
    match this
        .native
        .and_then(|family| plain_address(family, &address))
    {
        Some(plain) => Target::Address(plain),
        None => Target::Object(address),
    }
}

/// What came of sending that did not fail, or failed and was reported.
enum Sent {
    Done,
    Wait,
}

/// Sends one datagram.
fn send(this: &Ref<DatagramTransport>, data: &Obj, target: &Target) -> Result<Sent, Raised> {
    this.core().look_next();
    let to = match target {
        Target::Peer => None,
        Target::Address(to) => Some(to),
        Target::Object(_) => return send_by_methods(this, data, target),
    };
    if this.native.is_none() || !this.socket.descriptor.is_open() {
        return send_by_methods(this, data, target);
    }
    let fd = this.core().fd;
    let send = |bytes: &[u8]| match to {
        None => sys::send(fd, bytes),
        Some(to) => sys::send_to(fd, bytes, to),
    };
    let result = match data.as_bytes() {
        Some(bytes) => send(bytes),
        None => match data.with_buffer(send) {
            Ok(result) => result,
            Err(raised) => {
                // Not in one piece: the socket's own method says what is wrong with it.
                drop(raised.take(this.py()));
                return send_by_methods(this, data, target);
            }
        },
    };
    match result {
        Ok(_) => Ok(Sent::Done),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Sent::Wait),
        Err(error) => {
            errors::error_received(this, &os_exception(this.py(), error))?;
            Ok(Sent::Done)
        }
    }
}

/// By the socket's own methods.
#[cold]
fn send_by_methods(
    this: &Ref<DatagramTransport>,
    data: &Obj,
    target: &Target,
) -> Result<Sent, Raised> {
    let py = this.py();
    let sent = match target {
        Target::Peer => DatagramTransport::sock(this, "send")
            .and_then(|sock| sock.method(pyo3::intern!(py, "send"), &[data])),
        target => DatagramTransport::sock(this, "sendto").and_then(|sock| {
            let address = address_of(py, target)?;
            sock.method(pyo3::intern!(py, "sendto"), &[data, &address])
        }),
    };
    match sent {
        Ok(_) => Ok(Sent::Done),
        Err(raised) => {
            let message = "Fatal write error on datagram transport";
            Ok(match errors::method_failed(this, raised, message)? {
                Failure::Wait => Sent::Wait,
                Failure::Told => Sent::Done,
            })
        }
    }
}

/// The address as the socket's methods take it.
fn address_of(py: cpython::Python<'_>, target: &Target) -> Result<Obj, Raised> {
    match target {
        Target::Peer => Ok(Obj::none(py)),
        Target::Address(address) => crate::transports::extra_info::address_object(py, address),
        Target::Object(address) => Ok(address.clone()),
    }
}

/// Queues a datagram: a bytes object as it is, a copy of what may change.
fn keep(this: &Ref<DatagramTransport>, data: &Obj, target: Target) -> Result<(), Raised> {
    let data = match data.as_bytes() {
        Some(bytes) => Chunk::of_bytes(data, bytes, 0).0,
        None => {
            let class = Obj::class_of::<pyo3::types::PyBytes>(this.py());
            let copy = class.call1(data)?;
            Chunk::Copy(copy.as_bytes().unwrap_or_default().into())
        }
    };
    this.sending.push(Packet { data, target });
    pause_if_full(this)
}

/// The descriptor can be written.
pub(super) fn on_writable(this: &Ref<DatagramTransport>) -> Result<(), Raised> {
    let (true, Some(context), Some(event_loop)) = (
        this.socket.watches_write.get(),
        this.sending.context.get(),
        this.core().event_loop.get(),
    ) else {
        return Ok(());
    };
    match in_context(&context, || flush(this)) {
        Ok(()) => Ok(()),
        Err(raised) => method_failed(Some(event_loop), this.as_obj(), "sendto", &[], raised),
    }
}

/// Sends what the socket takes, up to the first error, and does what comes after the last one.
fn flush(this: &Ref<DatagramTransport>) -> Result<(), Raised> {
    while !this.sending.is_empty() {
        match send_queued(this)? {
            Queued::Sent => {}
            Queued::Full => break,
            Queued::Failed => return Ok(()),
        }
    }
    // The protocol may send again at once.
    resume_if_drained(this)?;
    if !this.sending.is_empty() {
        return Ok(());
    }
    unwatch_write(this)?;
    if this.core().closing.get() && this.socket.lost.get() == 0 {
        this.socket.lost.set(1);
        return core::call_connection_lost(this, &Obj::none(this.py()));
    }
    Ok(())
}

enum Queued {
    Sent,
    Full,
    /// The datagram that failed is out of the queue, and whoever is to hear of it was told.
    Failed,
}

/// Sends some of the queue.
fn send_queued(this: &Ref<DatagramTransport>) -> Result<Queued, Raised> {
    this.core().look_next();
    match send_batch(this) {
        Some(Ok(count)) => {
            (0..count).for_each(|_| this.sending.pop());
            Ok(Queued::Sent)
        }
        Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(Queued::Full),
        Some(Err(error)) => {
            this.sending.pop();
            errors::error_received(this, &os_exception(this.py(), error))?;
            Ok(Queued::Failed)
        }
        None => send_first_by_methods(this),
    }
}

/// Sends the first datagrams by one call, if it can be the system's.
fn send_batch(this: &Ref<DatagramTransport>) -> Option<io::Result<usize>> {
    this.native?;
    let queue = this.sending.queue.borrow();
    let mut batch: [Outgoing<'_>; MAX_DATAGRAMS] = [(&[], None); MAX_DATAGRAMS];
    let mut count = 0;
    for (place, packet) in batch.iter_mut().zip(&*queue) {
        *place = match &packet.target {
            Target::Peer => (packet.bytes(), None),
            Target::Address(to) => (packet.bytes(), Some(to)),
            Target::Object(_) => break,
        };
        count += 1;
    }
    (count > 0).then(|| sys::send_many(this.core().fd, &batch[..count]))
}

#[cold]
fn send_first_by_methods(this: &Ref<DatagramTransport>) -> Result<Queued, Raised> {
    let py = this.py();
    let first = this.sending.queue.borrow_mut().pop_front();
    let Some(Packet { data, target }) = first else {
        return Ok(Queued::Sent);
    };
    let bytes = Obj::bytes(py, data.as_ref())?;
    let size = data.as_ref().len() + HEADER;
    this.sending.size.set(this.sending.size.get() - size);
    let sent = DatagramTransport::sock(this, "send").and_then(|sock| match &target {
        Target::Peer => sock.method(pyo3::intern!(py, "send"), &[&bytes]),
        target => {
            let address = address_of(py, target)?;
            sock.method(pyo3::intern!(py, "sendto"), &[&bytes, &address])
        }
    });
    let Err(raised) = sent else {
        return Ok(Queued::Sent);
    };
    let message = "Fatal write error on datagram transport";
    match errors::method_failed(this, raised, message)? {
        Failure::Told => Ok(Queued::Failed),
        Failure::Wait => {
            this.sending.size.set(this.sending.size.get() + size);
            let packet = Packet { data, target };
            this.sending.queue.borrow_mut().push_front(packet);
            Ok(Queued::Full)
        }
    }
}

/// What asyncio calls `_buffer`: a deque of pairs.
fn queue_copy(this: &Ref<DatagramTransport>) -> Result<Obj, Raised> {
    let py = this.py();
    // Making objects may run the garbage collector, and finalisers that send.
    let queue = this.sending.queue.borrow().clone();
    let list = Obj::list(py)?;
    for packet in &queue {
        let address = address_of(py, &packet.target)?;
        list.append(&Obj::tuple(
            py,
            &[Obj::bytes(py, packet.bytes())?, address],
        )?)?;
    }
    imports(py).deque.get(py).call1(&list)
}
