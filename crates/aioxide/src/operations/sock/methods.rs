//! The methods, and the choice of the calls that are native.

use cpython::callable::callable;
use cpython::{Args, Global, Obj, Python, Raised, Ref};
use engine::sys::family;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use super::Operation;
use super::call::SockCall;
use crate::coroutines::describe;
use crate::event_loop::EventLoop;
use crate::futures::makes_native_futures;
use crate::interop::sockets::{SocketState, socket_state};
use crate::transports::addresses::plain_address;
use crate::transports::reading::SCRATCH;

/// asyncio's own coroutine functions, by operation.
static ASYNCIO_FUNCTIONS: PyOnceLock<[Global; 8]> = PyOnceLock::new();

/// A call that can be native, with its loop.
struct NativeCall<'a> {
    event_loop: &'a Ref<EventLoop>,
    sock: &'a Obj,
    state: SocketState,
}

impl<'a> NativeCall<'a> {
    /// The call, if it can be native: the socket is the standard library's and does not block, and
    /// the program has replaced neither the loop's methods nor the class of its futures.
    #[inline]
    fn native(this: &'a Obj, sock: &'a Option<Obj>) -> Result<Option<NativeCall<'a>>, Raised> {
        let (Some(event_loop), Some(sock)) = (Ref::<EventLoop>::of(this), sock) else {
            return Ok(None);
        };
        if !makes_native_futures(event_loop) {
            return Ok(None);
        }
        Ok(socket_state(sock)?
            .filter(|state| state.nonblocking && state.fd >= 0)
            .map(|state| NativeCall {
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

/// The count of bytes, if the thread's buffer has room for them.
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

type BoundArguments<const N: usize> = [Option<Obj>; N];

/// A method: its name and documentation, its parameters, the number of required ones, and the
/// function that makes the native call, if there can be one.
struct SockMethod<const N: usize> {
    operation: Operation,
    doc: &'static str,
    parameters: [&'static str; N],
    required: usize,
    start: fn(&Obj, &BoundArguments<N>) -> Result<Option<SockCall>, Raised>,
}

const RECV: SockMethod<3> = SockMethod {
    operation: Operation::Recv,
    doc: "Receive up to n bytes.",
    parameters: ["self", "sock", "n"],
    required: 3,
    start: sock_recv,
};

fn sock_recv(this: &Obj, [_, sock, size]: &BoundArguments<3>) -> Result<Option<SockCall>, Raised> {
    receive(Operation::Recv, this, sock, size)
}

const RECVFROM: SockMethod<3> = SockMethod {
    operation: Operation::RecvFrom,
    doc: "Receive a datagram of up to bufsize bytes: it and its sender's address.",
    parameters: ["self", "sock", "bufsize"],
    required: 3,
    start: sock_recvfrom,
};

fn sock_recvfrom(
    this: &Obj,
    [_, sock, size]: &BoundArguments<3>,
) -> Result<Option<SockCall>, Raised> {
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
    Ok(NativeCall::native(this, sock)?
        .filter(NativeCall::has_known_addresses)
        .map(|call| {
            let call = call.start(operation);
            call.count.set(size);
            call
        }))
}

const RECV_INTO: SockMethod<3> = SockMethod {
    operation: Operation::RecvInto,
    doc: "Receive into a buffer; returns the number of bytes.",
    parameters: ["self", "sock", "buf"],
    required: 3,
    start: sock_recv_into,
};

fn sock_recv_into(
    this: &Obj,
    [_, sock, buffer]: &BoundArguments<3>,
) -> Result<Option<SockCall>, Raised> {
    let Some(buffer) = buffer
        .as_ref()
        .filter(|buffer| writable_length(buffer).is_some())
    else {
        return Ok(None);
    };
    Ok(NativeCall::native(this, sock)?.map(|call| {
        let call = call.start(Operation::RecvInto);
        call.data.set(Some(buffer.clone()));
        call
    }))
}

const RECVFROM_INTO: SockMethod<4> = SockMethod {
    operation: Operation::RecvFromInto,
    doc: "Receive a datagram into a buffer; returns the number of bytes and the sender.",
    parameters: ["self", "sock", "buf", "nbytes"],
    required: 3,
    start: sock_recvfrom_into,
};

fn sock_recvfrom_into(
    this: &Obj,
    [_, sock, buffer, size]: &BoundArguments<4>,
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
    Ok(NativeCall::native(this, sock)?
        .filter(NativeCall::has_known_addresses)
        .map(|call| {
            let call = call.start(Operation::RecvFromInto);
            call.data.set(Some(buffer.clone()));
            call.count.set(if size == 0 { length } else { size });
            call
        }))
}

const SENDALL: SockMethod<3> = SockMethod {
    operation: Operation::SendAll,
    doc: "Send all data.",
    parameters: ["self", "sock", "data"],
    required: 3,
    start: sock_sendall,
};

fn sock_sendall(
    this: &Obj,
    [_, sock, data]: &BoundArguments<3>,
) -> Result<Option<SockCall>, Raised> {
    let Some(data) = data.as_ref().filter(|data| byte_length(data).is_some()) else {
        return Ok(None);
    };
    Ok(NativeCall::native(this, sock)?.map(|call| {
        let call = call.start(Operation::SendAll);
        call.data.set(Some(data.clone()));
        call
    }))
}

const SENDTO: SockMethod<4> = SockMethod {
    operation: Operation::SendTo,
    doc: "Send a datagram to an address; returns the number of bytes.",
    parameters: ["self", "sock", "data", "address"],
    required: 4,
    start: sock_sendto,
};

fn sock_sendto(
    this: &Obj,
    [_, sock, data, address]: &BoundArguments<4>,
) -> Result<Option<SockCall>, Raised> {
    let Some(data) = data.as_ref().filter(|data| byte_length(data).is_some()) else {
        return Ok(None);
    };
    let started = to_address(Operation::SendTo, this, sock, address)?;
    Ok(started.inspect(|call| call.data.set(Some(data.clone()))))
}

const CONNECT: SockMethod<3> = SockMethod {
    operation: Operation::Connect,
    doc: "Connect to an address.",
    parameters: ["self", "sock", "address"],
    required: 3,
    start: sock_connect,
};

fn sock_connect(
    this: &Obj,
    [_, sock, address]: &BoundArguments<3>,
) -> Result<Option<SockCall>, Raised> {
    to_address(Operation::Connect, this, sock, address)
}

fn to_address(
    operation: Operation,
    this: &Obj,
    sock: &Option<Obj>,
    address: &Option<Obj>,
) -> Result<Option<SockCall>, Raised> {
    let (Some(call), Some(address)) = (NativeCall::native(this, sock)?, address) else {
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

const ACCEPT: SockMethod<2> = SockMethod {
    operation: Operation::Accept,
    doc: "Accept a connection: its socket and the peer's address.",
    parameters: ["self", "sock"],
    required: 2,
    start: sock_accept,
};

fn sock_accept(this: &Obj, [_, sock]: &BoundArguments<2>) -> Result<Option<SockCall>, Raised> {
    Ok(NativeCall::native(this, sock)?
        .filter(NativeCall::has_known_addresses)
        .map(|call| call.start(Operation::Accept)))
}

impl<const N: usize> SockMethod<N> {
    /// Makes the coroutine, which is native or asyncio's own.
    #[inline]
    fn coroutine(&self, py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
        let name = self.operation.names().1;
        let bound = args.bind_function(name, &self.parameters, self.required)?;
        if let Some(this) = &bound[0] {
            if let Some(call) = (self.start)(this, &bound)? {
                return Ref::new(py, call).map(Ref::into_obj);
            }
        }
        match ASYNCIO_FUNCTIONS.get(py) {
            Some(functions) => {
                let given: Vec<&Obj> = bound.iter().flatten().collect();
                functions[self.operation as usize].get(py).call(&given)
            }
            None => Ok(Obj::none(py)),
        }
    }

    /// Makes the function; `coroutine` calls [`SockMethod::coroutine`].
    fn function<F>(&self, py: Python<'_>, coroutine: F) -> Result<Obj, Raised>
    where
        F: Fn(Python<'_>, &Args<'_>) -> Result<Obj, Raised> + Copy + 'static,
    {
        callable(py, self.operation.names().0, self.doc, coroutine)
    }
}

/// Adds the methods to the loop's native class. `inspect` and asyncio see coroutine functions with
/// the parameters of asyncio's.
pub(crate) fn add_methods(py: Python<'_>) -> Result<(), Raised> {
    let class = Obj::import(py, c"asyncio.selector_events")?
        .attr(pyo3::intern!(py, "BaseSelectorEventLoop"))?;
    let function = |operation: Operation| class.attr(&PyString::intern(py, operation.names().0));
    let mut functions = Vec::new();
    for operation in Operation::ALL {
        let made = make(py, operation)?;
        let original = function(operation)?;
        describe(py, &made, &original)?;
        Ref::<EventLoop>::class(py).set_attr(&PyString::intern(py, operation.names().0), &made)?;
        functions.push(Global::new(original));
    }
    if let Ok(functions) = <[Global; 8]>::try_from(functions) {
        let _ = ASYNCIO_FUNCTIONS.set(py, functions);
    }
    Ok(())
}

fn make(py: Python<'_>, operation: Operation) -> Result<Obj, Raised> {
    match operation {
        Operation::Recv => RECV.function(py, |py, args| RECV.coroutine(py, args)),
        Operation::RecvFrom => RECVFROM.function(py, |py, args| RECVFROM.coroutine(py, args)),
        Operation::RecvInto => RECV_INTO.function(py, |py, args| RECV_INTO.coroutine(py, args)),
        Operation::RecvFromInto => {
            RECVFROM_INTO.function(py, |py, args| RECVFROM_INTO.coroutine(py, args))
        }
        Operation::SendAll => SENDALL.function(py, |py, args| SENDALL.coroutine(py, args)),
        Operation::SendTo => SENDTO.function(py, |py, args| SENDTO.coroutine(py, args)),
        Operation::Connect => CONNECT.function(py, |py, args| CONNECT.coroutine(py, args)),
        Operation::Accept => ACCEPT.function(py, |py, args| ACCEPT.coroutine(py, args)),
    }
}
