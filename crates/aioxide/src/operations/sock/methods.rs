//! The methods, and which calls are native.

use cpython::callable::callable;
use cpython::{Args, Global, Obj, Python, Raised, Ref};
use engine::sys::family;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use super::Operation;
use super::call::SockCall;
use crate::coroutines::describe;
use crate::event_loop::EventLoop;
use crate::interop::sockets::{SocketState, socket_state};
use crate::transports::addresses::plain_address;
use crate::transports::reading::SCRATCH;

/// asyncio's own coroutine functions, by operation.
static COLD: PyOnceLock<[Global; 8]> = PyOnceLock::new();

/// A call with its loop, if it can be native.
struct Call<'a> {
    event_loop: &'a Ref<EventLoop>,
    sock: &'a Obj,
    state: SocketState,
}

impl<'a> Call<'a> {
    /// Where asyncio would look at the socket's class, its mode and the loop's methods and find
    /// nothing of interest.
    #[inline]
    fn native(this: &'a Obj, sock: &'a Option<Obj>) -> Result<Option<Call<'a>>, Raised> {
        let (Some(event_loop), Some(sock)) = (Ref::<EventLoop>::of(this), sock) else {
            return Ok(None);
        };
        if !EventLoop::is_fast(event_loop) {
            return Ok(None);
        }
        Ok(socket_state(sock)?
            .filter(|state| state.nonblocking && state.fd >= 0)
            .map(|state| Call {
                event_loop,
                sock,
                state,
            }))
    }

    fn start(&self, operation: Operation) -> SockCall {
        SockCall::new(operation, self.event_loop, self.sock.clone())
    }

    fn has_known_addresses(&self) -> bool {
        matches!(
            self.state.family,
            family::INET | family::INET6 | family::UNIX
        )
    }
}

/// A count of bytes that the thread's buffer has room for.
fn count(size: &Obj) -> Option<usize> {
    let size = usize::try_from(size.small_int()?).ok()?;
    (1..=SCRATCH).contains(&size).then_some(size)
}

/// The length of bytes in one piece, if each item is a byte: `len()` counts items.
fn byte_length(data: &Obj) -> Option<usize> {
    if let Some(bytes) = data.as_bytes() {
        return Some(bytes.len());
    }
    let length = data
        .with_buffer(|bytes| bytes.len())
        .and_then(|bytes| Ok((bytes, data.length()?)));
    match length {
        Ok((bytes, items)) => (bytes == items).then_some(bytes),
        Err(raised) => {
            drop(raised.take(data.py()));
            None
        }
    }
}

/// The length of memory that can be written to, if each item is a byte.
fn writable_length(buffer: &Obj) -> Option<usize> {
    let writable = buffer.with_buffer_mut(|bytes| bytes.len());
    match writable {
        Ok(_) => byte_length(buffer),
        Err(raised) => {
            drop(raised.take(buffer.py()));
            None
        }
    }
}

type Bound<const N: usize> = [Option<Obj>; N];

fn sock_recv(this: &Obj, [_, sock, size]: &Bound<3>) -> Result<Option<SockCall>, Raised> {
    receive(Operation::Recv, this, sock, size)
}

fn sock_recvfrom(this: &Obj, [_, sock, size]: &Bound<3>) -> Result<Option<SockCall>, Raised> {
    receive(Operation::RecvFrom, this, sock, size)
}

fn receive(
    operation: Operation,
    this: &Obj,
    sock: &Option<Obj>,
    size: &Option<Obj>,
) -> Result<Option<SockCall>, Raised> {
    let Some(size) = size.as_ref().and_then(count) else {
        return Ok(None);
    };
    Ok(Call::native(this, sock)?
        .filter(Call::has_known_addresses)
        .map(|call| {
            let call = call.start(operation);
            call.count.set(size);
            call
        }))
}

fn sock_recv_into(this: &Obj, [_, sock, buffer]: &Bound<3>) -> Result<Option<SockCall>, Raised> {
    let Some(buffer) = buffer
        .as_ref()
        .filter(|buffer| writable_length(buffer).is_some())
    else {
        return Ok(None);
    };
    Ok(Call::native(this, sock)?.map(|call| {
        let call = call.start(Operation::RecvInto);
        call.data.set(Some(buffer.clone()));
        call
    }))
}

fn sock_recvfrom_into(
    this: &Obj,
    [_, sock, buffer, size]: &Bound<4>,
) -> Result<Option<SockCall>, Raised> {
    let Some(buffer) = buffer else {
        return Ok(None);
    };
    let length = writable_length(buffer);
    let size = match size {
        None => Some(0),
        Some(size) => size.small_int().and_then(|size| usize::try_from(size).ok()),
    };
    let (Some(length), Some(size)) = (length, size) else {
        return Ok(None);
    };
    if length == 0 || size > length {
        return Ok(None);
    }
    Ok(Call::native(this, sock)?
        .filter(Call::has_known_addresses)
        .map(|call| {
            let call = call.start(Operation::RecvFromInto);
            call.data.set(Some(buffer.clone()));
            call.count.set(if size == 0 { length } else { size });
            call
        }))
}

fn sock_sendall(this: &Obj, [_, sock, data]: &Bound<3>) -> Result<Option<SockCall>, Raised> {
    let Some(data) = data.as_ref().filter(|data| byte_length(data).is_some()) else {
        return Ok(None);
    };
    Ok(Call::native(this, sock)?.map(|call| {
        let call = call.start(Operation::SendAll);
        call.data.set(Some(data.clone()));
        call
    }))
}

fn sock_sendto(
    this: &Obj,
    [_, sock, data, address]: &Bound<4>,
) -> Result<Option<SockCall>, Raised> {
    let Some(data) = data.as_ref().filter(|data| byte_length(data).is_some()) else {
        return Ok(None);
    };
    let started = to_address(Operation::SendTo, this, sock, address)?;
    Ok(started.inspect(|call| call.data.set(Some(data.clone()))))
}

fn sock_connect(this: &Obj, [_, sock, address]: &Bound<3>) -> Result<Option<SockCall>, Raised> {
    to_address(Operation::Connect, this, sock, address)
}

fn to_address(
    operation: Operation,
    this: &Obj,
    sock: &Option<Obj>,
    address: &Option<Obj>,
) -> Result<Option<SockCall>, Raised> {
    let (Some(call), Some(address)) = (Call::native(this, sock)?, address) else {
        return Ok(None);
    };
    let target = plain_address(call.state.family, address);
    Ok(target.map(|target| {
        let mut call = call.start(operation);
        call.address.set(Some(address.clone()));
        call.target = Some(Box::new(target));
        call
    }))
}

fn sock_accept(this: &Obj, [_, sock]: &Bound<2>) -> Result<Option<SockCall>, Raised> {
    Ok(Call::native(this, sock)?
        .filter(Call::has_known_addresses)
        .map(|call| call.start(Operation::Accept)))
}

/// Makes the coroutine: native, or asyncio's own.
#[inline]
fn coroutine<const N: usize>(
    py: Python<'_>,
    operation: Operation,
    args: &Args<'_>,
    parameters: &[&str; N],
    required: usize,
    start: impl FnOnce(&Obj, &Bound<N>) -> Result<Option<SockCall>, Raised>,
) -> Result<Obj, Raised> {
    let bound = args.bind_function(operation.names().1, parameters, required)?;
    if let Some(this) = &bound[0] {
        if let Some(call) = start(this, &bound)? {
            return Ref::new(py, call).map(Ref::into_obj);
        }
    }
    match COLD.get(py) {
        Some(cold) => {
            let given: Vec<&Obj> = bound.iter().flatten().collect();
            cold[operation as usize].get(py).call(&given)
        }
        None => Ok(Obj::none(py)),
    }
}

/// Adds the methods to the loop's native class. To all who ask they are coroutine functions with
/// the parameters of asyncio's.
pub(crate) fn add_methods(py: Python<'_>) -> Result<(), Raised> {
    let class = Obj::import(py, c"asyncio.selector_events")?
        .attr(pyo3::intern!(py, "BaseSelectorEventLoop"))?;
    let function = |operation: Operation| class.attr(&PyString::intern(py, operation.names().0));
    let mut cold = Vec::new();
    for operation in Operation::ALL {
        let made = make(py, operation)?;
        let original = function(operation)?;
        describe(py, &made, &original)?;
        Ref::<EventLoop>::class(py).set_attr(&PyString::intern(py, operation.names().0), &made)?;
        cold.push(Global::new(original));
    }
    if let Ok(cold) = <[Global; 8]>::try_from(cold) {
        let _ = COLD.set(py, cold);
    }
    Ok(())
}

fn make(py: Python<'_>, operation: Operation) -> Result<Obj, Raised> {
    /// The method of an operation: what it says of itself, its parameters, how many of them are
    /// required, and what starts it.
    macro_rules! made {
        ($operation:ident, $doc:expr, $parameters:expr, $required:literal, $start:ident) => {
            callable(
                py,
                operation.names().0,
                $doc,
                |py: Python<'_>, args: &Args<'_>| {
                    coroutine(
                        py,
                        Operation::$operation,
                        args,
                        &$parameters,
                        $required,
                        $start,
                    )
                },
            )
        };
    }
    match operation {
        Operation::Recv => {
            let doc = "Receive up to n bytes.";
            made!(Recv, doc, ["self", "sock", "n"], 3, sock_recv)
        }
        Operation::RecvFrom => {
            let doc = "Receive a datagram of up to bufsize bytes: it and its sender's address.";
            made!(RecvFrom, doc, ["self", "sock", "bufsize"], 3, sock_recvfrom)
        }
        Operation::RecvInto => {
            let doc = "Receive into a buffer; returns the number of bytes.";
            made!(RecvInto, doc, ["self", "sock", "buf"], 3, sock_recv_into)
        }
        Operation::RecvFromInto => {
            let doc =
                "Receive a datagram into a buffer; returns the number of bytes and the sender.";
            made!(
                RecvFromInto,
                doc,
                ["self", "sock", "buf", "nbytes"],
                3,
                sock_recvfrom_into
            )
        }
        Operation::SendAll => {
            let doc = "Send all data.";
            made!(SendAll, doc, ["self", "sock", "data"], 3, sock_sendall)
        }
        Operation::SendTo => {
            let doc = "Send a datagram to an address; returns the number of bytes.";
            made!(
                SendTo,
                doc,
                ["self", "sock", "data", "address"],
                4,
                sock_sendto
            )
        }
        Operation::Connect => {
            let doc = "Connect to an address.";
            made!(Connect, doc, ["self", "sock", "address"], 3, sock_connect)
        }
        Operation::Accept => {
            let doc = "Accept a connection: its socket and the peer's address.";
            made!(Accept, doc, ["self", "sock"], 2, sock_accept)
        }
    }
}
