//! One attempt of an operation: it is done, or it would block.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd};

use cpython::{Obj, Raised, Ref};
use engine::sys;

use super::Operation;
use super::call::SockCall;
use crate::interop::sockets::socket_state;
use crate::transports::extra_info::address_object;
use crate::transports::imports;
use crate::transports::reading::with_scratch;

/// The result of an attempt that did not fail.
pub(super) enum Attempt {
    Done(Obj),
    /// The operation would block.
    Wait,
}

/// Makes one attempt. Raises what Python's socket methods raise.
pub(super) fn attempt(this: &Ref<SockCall>) -> Result<Attempt, Raised> {
    match this.operation {
        Operation::Recv => recv(this),
        Operation::RecvFrom => recvfrom(this),
        Operation::RecvInto => recv_into(this),
        Operation::RecvFromInto => recvfrom_into(this),
        Operation::SendAll => sendall(this),
        Operation::SendTo => sendto(this),
        Operation::Connect => connect(this),
        Operation::Accept => accept(this),
    }
}

/// The outcome of a system call, as an object.
fn outcome<T>(
    this: &Ref<SockCall>,
    result: io::Result<T>,
    make: impl FnOnce(T) -> Result<Obj, Raised>,
) -> Result<Attempt, Raised> {
    match result {
        Ok(value) => make(value).map(Attempt::Done),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Attempt::Wait),
        Err(error) => Err(Raised::os_error(this.py(), error)),
    }
}

/// The object to send from or receive into. The operations without one do not call this.
fn data(this: &Ref<SockCall>) -> Obj {
    this.data.get().unwrap_or_else(|| Obj::none(this.py()))
}

/// From this many bytes on, a copy costs more than asking how many bytes are there.
const LARGE: usize = 32 * 1024;

thread_local! {
    /// The number of bytes received last. The next data probably has the same size.
    static RECEIVED: Cell<usize> = const { Cell::new(0) };
}

fn recv(this: &Ref<SockCall>) -> Result<Attempt, Raised> {
    let (py, fd, most) = (this.py(), this.fd.get(), this.count.get());
    if RECEIVED.get() >= LARGE {
        let size = sys::readable_bytes(fd).unwrap_or(0).min(most);
        if size >= LARGE {
            let received = Obj::bytes_filled(py, size, |room| sys::read_uninit(fd, room))?;
            return outcome(this, received, Ok);
        }
    }
    let received = with_scratch(|scratch| {
        let result = sys::recv(fd, &mut scratch[..most]);
        result.map(|count| {
            RECEIVED.set(count);
            Obj::bytes(py, &scratch[..count])
        })
    });
    outcome(this, received, |bytes| bytes)
}

fn recvfrom(this: &Ref<SockCall>) -> Result<Attempt, Raised> {
    let (py, fd, most) = (this.py(), this.fd.get(), this.count.get());
    let received = with_scratch(|scratch| {
        let result = sys::recv_from(fd, &mut scratch[..most]);
        result.map(|(count, from)| (Obj::bytes(py, &scratch[..count]), from))
    });
    outcome(this, received, |(bytes, from)| {
        Obj::tuple(py, &[bytes?, address_object(py, &from)?])
    })
}

fn recv_into(this: &Ref<SockCall>) -> Result<Attempt, Raised> {
    let (py, fd) = (this.py(), this.fd.get());
    let result = data(this).with_buffer_mut(|bytes| match bytes {
        [] => Ok(0),
        bytes => sys::recv(fd, bytes),
    })?;
    outcome(this, result, |count| Obj::int(py, count as i64))
}

fn recvfrom_into(this: &Ref<SockCall>) -> Result<Attempt, Raised> {
    let (py, fd, most) = (this.py(), this.fd.get(), this.count.get());
    let result =
        data(this).with_buffer_mut(|bytes| Some(sys::recv_from(fd, bytes.get_mut(..most)?)))?;
    let Some(result) = result else {
        // The buffer has shrunk while the call waited.
        let text = "nbytes is greater than the length of the buffer";
        return Err(Raised::value_error(py, text));
    };
    outcome(this, result, |(count, from)| {
        let count = Obj::int(py, count as i64)?;
        Obj::tuple(py, &[count, address_object(py, &from)?])
    })
}

/// Sends as much as the socket takes. The operation is done when it has taken everything.
fn sendall(this: &Ref<SockCall>) -> Result<Attempt, Raised> {
    let (fd, sent) = (this.fd.get(), this.count.get());
    let data = data(this);
    let send = |bytes: &[u8]| {
        let rest = bytes.get(sent..).unwrap_or_default();
        sys::send(fd, rest).map(|count| (sent + count, count == rest.len()))
    };
    let result = match data.as_bytes() {
        Some(bytes) => send(bytes),
        None => data.with_buffer(send)?,
    };
    match result {
        Ok((sent, all)) => {
            this.count.set(sent);
            if all {
                Ok(Attempt::Done(Obj::none(this.py())))
            } else {
                Ok(Attempt::Wait)
            }
        }
        Err(error) => outcome(this, Err(error), |()| Ok(Obj::none(this.py()))),
    }
}

fn sendto(this: &Ref<SockCall>) -> Result<Attempt, Raised> {
    let py = this.py();
    let (Some(target), Some(sock), Some(address)) =
        (&this.target, this.sock.get(), this.address.get())
    else {
        return Ok(Attempt::Done(Obj::none(py)));
    };
    cpython::interpreter::audit(c"socket.sendto", &sock, &address)?;
    let (fd, data) = (this.fd.get(), data(this));
    let result = match data.as_bytes() {
        Some(bytes) => sys::send_to(fd, bytes, target),
        None => data.with_buffer(|bytes| sys::send_to(fd, bytes, target))?,
    };
    outcome(this, result, |count| Obj::int(py, count as i64))
}

/// Begins to connect. Once the descriptor is ready, returns the outcome.
fn connect(this: &Ref<SockCall>) -> Result<Attempt, Raised> {
    let py = this.py();
    let (Some(target), Some(sock), Some(address)) =
        (&this.target, this.sock.get(), this.address.get())
    else {
        return Ok(Attempt::Done(Obj::none(py)));
    };
    if this.count.replace(1) == 0 {
        cpython::interpreter::audit(c"socket.connect", &sock, &address)?;
        return match sys::connect(this.fd.get(), target) {
            Ok(()) => Ok(Attempt::Done(Obj::none(py))),
            Err(error) if sys::is_in_progress(&error) => Ok(Attempt::Wait),
            Err(error) => Err(Raised::os_error(py, error)),
        };
    }
    let code = match sys::so_error(this.fd.get()) {
        Ok(None) => return Ok(Attempt::Done(Obj::none(py))),
        Ok(Some(error)) => error.raw_os_error().unwrap_or_default(),
        Err(error) => return Err(Raised::os_error(py, error)),
    };
    let shown = address_object(py, target)?;
    let shown = if shown.tuple_len() == 0 {
        address
    } else {
        shown
    };
    let text = format!("Connect call failed {}", shown.str_of()?.as_str()?);
    let class = Obj::class_of::<pyo3::exceptions::PyOSError>(py);
    let exception = class.call(&[&Obj::int(py, code.into())?, &Obj::str(py, &text)?])?;
    Err(Raised::raise_in_context(exception))
}

/// Accepts a connection. Returns its socket, which does not block, and the peer's address.
fn accept(this: &Ref<SockCall>) -> Result<Attempt, Raised> {
    let py = this.py();
    let Some(sock) = this.sock.get() else {
        return Ok(Attempt::Done(Obj::none(py)));
    };
    let result = sys::accept(this.fd.get());
    outcome(this, result, |(connection, peer)| {
        let Some(state) = socket_state(&sock)? else {
            return Ok(Obj::none(py));
        };
        let connection_fd = Obj::int(py, connection.as_raw_fd().into())?;
        let made = imports(py).socket.get(py).call(&[
            &Obj::int(py, state.family.into())?,
            &Obj::int(py, state.kind)?,
            &Obj::int(py, state.protocol)?,
            &connection_fd,
        ])?;
        // From here on the Python socket owns the descriptor.
        let _ = connection.into_raw_fd();
        made.method(pyo3::intern!(py, "setblocking"), &[&Obj::bool(py, false)])?;
        Obj::tuple(py, &[made, address_object(py, &peer)?])
    })
}

/// Keeps the data of a call that waits, so that it is still there, in its full size, when the call
/// goes on.
pub(super) fn keep_for_later(this: &Ref<SockCall>) -> Result<(), Raised> {
    let data = data(this);
    if this.operation == Operation::SendAll && data.as_bytes().is_none() {
        let view = Obj::class_of::<pyo3::types::PyMemoryView>(this.py()).call1(&data)?;
        this.data.set(Some(view));
    }
    Ok(())
}
