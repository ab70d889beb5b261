//! `sendto`: a datagram leaves at once if the socket takes it, and waits in a queue otherwise.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;

use cpython::build::Builder;
use cpython::{Args, GcFields, Obj, Raised, Ref, Slot, Visit, context};
use engine::sys::{self, MAX_DATAGRAMS, OutgoingDatagram};
use engine::{FlowControl, SocketAddrStorage};

use super::DatagramTransport;
use super::errors::{self, MethodFailure};
use crate::handles::reports::method_failed;
use crate::interop::EndsProgram;
use crate::transports::addresses::plain_address;
use crate::transports::imports;
use crate::transports::outgoing::{
    self, Chunk, count_lost_write, pause_if_full, resume_if_drained,
};
use crate::transports::reports::os_exception;
use crate::transports::socket::{unwatch_write, watch_write};
use crate::transports::transport::{self, Transport};

/// The bytes of header that a queued datagram counts since 3.13.
const HEADER: usize = if cfg!(Py_3_13) { 8 } else { 0 };
/// Whether empty datagrams are sent, as since 3.13.
const SENDS_EMPTY: bool = cfg!(Py_3_13);

/// Where a datagram goes.
#[derive(Clone)]
enum DatagramTarget {
    /// To the peer that the socket is connected to.
    Peer,
    Address(SocketAddrStorage),
    /// An address for the socket's own method: a name to be resolved, or no address at all.
    Object(Obj),
}

#[derive(Clone)]
struct QueuedDatagram {
    data: Chunk,
    target: DatagramTarget,
}

impl QueuedDatagram {
    fn bytes(&self) -> &[u8] {
        self.data.as_ref()
    }
}

/// The sending half of a transport.
pub(super) struct Sending {
    queue: RefCell<VecDeque<QueuedDatagram>>,
    /// Bytes of the queued datagrams and their headers.
    size: Cell<usize>,
    pub(super) flow: FlowControl,
    /// The context in which `resume_writing`, `error_received` and a late `connection_lost` are
    /// called.
    context: Slot,
}

impl GcFields for Sending {
    fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.context);
        if let Ok(queue) = self.queue.try_borrow() {
            for packet in &*queue {
                if let DatagramTarget::Object(address) = &packet.target {
                    visit.object(address);
                }
            }
        }
    }
    fn let_go(&self) {
        self.context.set(None);
        self.discard();
    }
}

impl Sending {
    pub(super) fn new() -> Sending {
        Sending {
            queue: RefCell::default(),
            size: Cell::new(0),
            flow: FlowControl::new(),
            context: Slot::default(),
        }
    }

    /// The number of bytes that wait, with headers.
    pub(super) fn size(&self) -> usize {
        self.size.get()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    fn push(&self, packet: QueuedDatagram) {
        self.size
            .set(self.size.get() + packet.bytes().len() + HEADER);
        self.queue.borrow_mut().push_back(packet);
    }

    /// Removes the first datagram, which was sent or given up.
    fn pop(&self) {
        let packet = self.queue.borrow_mut().pop_front();
        if let Some(packet) = packet {
            self.size
                .set(self.size.get() - packet.bytes().len() - HEADER);
        }
    }

    /// Drops the datagrams that wait.
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
        .get(c"_buffer_size", c"The number of bytes that wait.", |this| {
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
            SendOutcome::Done => return Ok(()),
            SendOutcome::Wait => watch_write(this, &this.sending.context)?,
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

/// Raises ValueError if the address given is not the transport's own.
fn check_address(address: &Obj, remote: &Obj) -> Result<(), Raised> {
    if address.is(remote) || address.equals(remote)? {
        return Ok(());
    }
    let remote = remote.str_of()?;
    let text = format!("Invalid address: must be None or {}", remote.as_str()?);
    Err(Raised::value_error(address.py(), &text))
}

fn target(this: &Ref<DatagramTransport>, address: Option<Obj>) -> DatagramTarget {
    if this.has_peer {
        return DatagramTarget::Peer;
    }
    let Some(address) = address else {
        return DatagramTarget::Object(Obj::none(this.py()));
    };
    if let Some(known) = this.receiving.senders.address(&address) {
        return DatagramTarget::Address(known.into());
    }
    match this
        .native
        .and_then(|family| plain_address(family, &address))
    {
        Some(plain) => DatagramTarget::Address(plain),
        None => DatagramTarget::Object(address),
    }
}

/// The outcome of sending one datagram; a failure that was reported counts as done.
enum SendOutcome {
    Done,
    Wait,
}

/// Sends one datagram.
fn send(
    this: &Ref<DatagramTransport>,
    data: &Obj,
    target: &DatagramTarget,
) -> Result<SendOutcome, Raised> {
    this.core().poll_next();
    let to = match target {
        DatagramTarget::Peer => None,
        DatagramTarget::Address(to) => Some(to),
        DatagramTarget::Object(_) => return send_by_methods(this, data, target),
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
                // The data is not in one piece: the socket's own method raises the exception.
                drop(raised.take(this.py()));
                return send_by_methods(this, data, target);
            }
        },
    };
    match result {
        Ok(_) => Ok(SendOutcome::Done),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(SendOutcome::Wait),
        Err(error) => {
            errors::error_received(this, &os_exception(this.py(), error))?;
            Ok(SendOutcome::Done)
        }
    }
}

/// Sends one datagram by the socket's own methods.
#[cold]
fn send_by_methods(
    this: &Ref<DatagramTransport>,
    data: &Obj,
    target: &DatagramTarget,
) -> Result<SendOutcome, Raised> {
    let py = this.py();
    let sent = match target {
        DatagramTarget::Peer => DatagramTransport::sock(this, "send")
            .and_then(|sock| sock.method(pyo3::intern!(py, "send"), &[data])),
        target => DatagramTransport::sock(this, "sendto").and_then(|sock| {
            let address = address_of(py, target)?;
            sock.method(pyo3::intern!(py, "sendto"), &[data, &address])
        }),
    };
    match sent {
        Ok(_) => Ok(SendOutcome::Done),
        Err(raised) => {
            let message = "Fatal write error on datagram transport";
            Ok(match errors::method_failed(this, raised, message)? {
                MethodFailure::Wait => SendOutcome::Wait,
                MethodFailure::Told => SendOutcome::Done,
            })
        }
    }
}

/// The address as the socket's methods take it.
fn address_of(py: cpython::Python<'_>, target: &DatagramTarget) -> Result<Obj, Raised> {
    match target {
        DatagramTarget::Peer => Ok(Obj::none(py)),
        DatagramTarget::Address(address) => {
            crate::transports::extra_info::address_object(py, address)
        }
        DatagramTarget::Object(address) => Ok(address.clone()),
    }
}

/// Queues a datagram: a bytes object as it is, other memory as a copy, because it may change.
fn keep(this: &Ref<DatagramTransport>, data: &Obj, target: DatagramTarget) -> Result<(), Raised> {
    let data = match data.as_bytes() {
        Some(bytes) => Chunk::of_bytes(data, bytes, 0).0,
        None => {
            let class = Obj::class_of::<pyo3::types::PyBytes>(this.py());
            let copy = class.call1(data)?;
            Chunk::Copy(copy.as_bytes().unwrap_or_default().into())
        }
    };
    this.sending.push(QueuedDatagram { data, target });
    pause_if_full(this)
}

/// Handles that the descriptor can be written.
pub(super) fn on_writable(this: &Ref<DatagramTransport>) -> Result<(), EndsProgram> {
    let (true, Some(context), Some(event_loop)) = (
        this.socket.watches_write.get(),
        this.sending.context.get(),
        this.core().event_loop.get(),
    ) else {
        return Ok(());
    };
    match context::run(&context, || flush(this)) {
        Ok(()) => Ok(()),
        Err(raised) => method_failed(Some(event_loop), this.as_obj(), "sendto", &[], raised),
    }
}

/// Sends as many datagrams as the socket takes, up to the first error; after the last one, stops
/// watching or closes.
fn flush(this: &Ref<DatagramTransport>) -> Result<(), Raised> {
    while !this.sending.is_empty() {
        match send_queued(this)? {
            QueueOutcome::Sent => {}
            QueueOutcome::Full => break,
            QueueOutcome::Failed => return Ok(()),
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
        return transport::call_connection_lost(this, &Obj::none(this.py()));
    }
    Ok(())
}

enum QueueOutcome {
    Sent,
    Full,
    /// The datagram that failed is out of the queue, and its error was reported.
    Failed,
}

/// Sends a part of the queue.
fn send_queued(this: &Ref<DatagramTransport>) -> Result<QueueOutcome, Raised> {
    this.core().poll_next();
    match send_batch(this) {
        Some(Ok(count)) => {
            (0..count).for_each(|_| this.sending.pop());
            Ok(QueueOutcome::Sent)
        }
        Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(QueueOutcome::Full),
        Some(Err(error)) => {
            this.sending.pop();
            errors::error_received(this, &os_exception(this.py(), error))?;
            Ok(QueueOutcome::Failed)
        }
        None => send_first_by_methods(this),
    }
}

/// Sends the first datagrams by one system call, if Rust can make it.
fn send_batch(this: &Ref<DatagramTransport>) -> Option<io::Result<usize>> {
    this.native?;
    let queue = this.sending.queue.borrow();
    let mut batch: [OutgoingDatagram<'_>; MAX_DATAGRAMS] = [(&[], None); MAX_DATAGRAMS];
    let mut count = 0;
    for (place, packet) in batch.iter_mut().zip(&*queue) {
        *place = match &packet.target {
            DatagramTarget::Peer => (packet.bytes(), None),
            DatagramTarget::Address(to) => (packet.bytes(), Some(to)),
            DatagramTarget::Object(_) => break,
        };
        count += 1;
    }
    (count > 0).then(|| sys::send_many(this.core().fd, &batch[..count]))
}

#[cold]
fn send_first_by_methods(this: &Ref<DatagramTransport>) -> Result<QueueOutcome, Raised> {
    let py = this.py();
    let first = this.sending.queue.borrow_mut().pop_front();
    let Some(QueuedDatagram { data, target }) = first else {
        return Ok(QueueOutcome::Sent);
    };
    let bytes = Obj::bytes(py, data.as_ref())?;
    let size = data.as_ref().len() + HEADER;
    this.sending.size.set(this.sending.size.get() - size);
    let sent = DatagramTransport::sock(this, "send").and_then(|sock| match &target {
        DatagramTarget::Peer => sock.method(pyo3::intern!(py, "send"), &[&bytes]),
        target => {
            let address = address_of(py, target)?;
            sock.method(pyo3::intern!(py, "sendto"), &[&bytes, &address])
        }
    });
    let Err(raised) = sent else {
        return Ok(QueueOutcome::Sent);
    };
    let message = "Fatal write error on datagram transport";
    match errors::method_failed(this, raised, message)? {
        MethodFailure::Told => Ok(QueueOutcome::Failed),
        MethodFailure::Wait => {
            this.sending.size.set(this.sending.size.get() + size);
            let packet = QueuedDatagram { data, target };
            this.sending.queue.borrow_mut().push_front(packet);
            Ok(QueueOutcome::Full)
        }
    }
}

/// asyncio's `_buffer`, a deque of pairs, as a copy.
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
