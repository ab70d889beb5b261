//! The coroutine of one `sock_*` call.
//!
//! It makes an attempt at once. If that would block, it takes the place of the descriptor's reader
//! or writer and waits on a Future, which the readiness ends. However the call ends, that place is
//! free afterwards, unless other code has taken it.
//!
//! Sending and connecting go on as soon as the descriptor is ready. Receiving and accepting wait
//! for their task: bytes or a connection taken earlier would be lost if the task were cancelled
//! meanwhile, as they are with asyncio.

use std::cell::Cell;

use cpython::{Obj, Raised, Ref, Slot};
use engine::SocketAddrStorage;

use super::Operation;
use super::attempt::{Attempt, attempt, keep_for_later};
use crate::coroutines::class::coroutine_class;
use crate::coroutines::coroutine::{Coroutine, CoroutineState, Turn};
use crate::event_loop::{EventLoop, Side};
use crate::futures::Future;
use crate::handles::Handle;
use crate::interop::EndsProgram;
use crate::interop::ending::ends_program;
use crate::interop::sockets::socket_state;
use crate::transports::ensure_fd_no_transport;

/// The value of the coroutine object.
pub(crate) struct SockCall {
    pub(super) operation: Operation,
    pub(super) event_loop: Slot<Ref<EventLoop>>,
    pub(super) sock: Slot,
    /// The descriptor, from the first step on.
    pub(super) fd: Cell<i32>,
    /// The object to send from or receive into.
    pub(super) data: Slot,
    /// The number of bytes to receive at most, or the number already sent.
    pub(super) count: Cell<usize>,
    /// The address, as the program has given it and as the system takes it.
    pub(super) address: Slot,
    pub(super) target: Option<Box<SocketAddrStorage>>,
    future: Slot<Ref<Future>>,
    state: CoroutineState,
}

impl SockCall {
    /// A call of an operation. The caller adds the fields that it needs.
    pub(super) fn new(operation: Operation, event_loop: &Ref<EventLoop>, sock: Obj) -> SockCall {
        SockCall {
            operation,
            event_loop: Slot::new(Some(event_loop.clone())),
            sock: Slot::new(Some(sock)),
            fd: Cell::new(-1),
            data: Slot::default(),
            count: Cell::new(0),
            address: Slot::default(),
            target: None,
            future: Slot::default(),
            state: CoroutineState::default(),
        }
    }

    /// The descriptor's number, which is the socket's as long as the socket is open.
    fn ask_fd(&self) -> Result<i32, Raised> {
        match self.sock.get() {
            Some(sock) => Ok(socket_state(&sock)?.map_or(-1, |state| state.fd)),
            None => Ok(-1),
        }
    }

    /// Waits for the descriptor, on a new Future.
    fn begin_to_wait(this: &Ref<SockCall>) -> Result<Turn, Raised> {
        let py = this.py();
        let Some(event_loop) = this.event_loop.get() else {
            return Err(Raised::runtime_error(py, "Event loop is closed"));
        };
        let future = Future::create(&event_loop)?;
        ensure_fd_no_transport(&event_loop, &Obj::int(py, this.fd.get().into())?)?;
        event_loop.check_closed(py)?;
        keep_for_later(this)?;
        let side = this.operation.side();
        EventLoop::wait_for(&event_loop, side, this.fd.get(), this.as_obj())?;
        this.future.set(Some(future.clone()));
        Ok(Turn::Await(future.into_obj()))
    }

    fn stop_waiting(this: &Ref<SockCall>) {
        if let Some(event_loop) = this.event_loop.get() {
            let side = this.operation.side();
            EventLoop::stop_waiting(&event_loop, side, this.fd.get(), this.as_obj());
        }
    }

    /// Ends the Future of a call that failed while it waited.
    fn fail(this: &Ref<SockCall>, future: &Ref<Future>, exception: &Obj) -> Result<(), Raised> {
        SockCall::stop_waiting(this);
        Future::set_exception(future, exception)
    }
}

/// Goes on after the descriptor has become ready.
pub(crate) fn on_ready(this: &Ref<SockCall>) -> Result<(), EndsProgram> {
    let (Some(event_loop), Some(future)) = (this.event_loop.get(), this.future.get()) else {
        return Ok(());
    };
    let (side, fd) = (this.operation.side(), this.fd.get());
    if !EventLoop::waits(&event_loop, side, fd, this.as_obj()) {
        return Ok(());
    }
    if !future.is_pending() {
        SockCall::stop_waiting(this);
        return Ok(());
    }
    if side == Side::Read {
        // Bytes taken now would be lost if the task were cancelled before its next step.
        SockCall::stop_waiting(this);
        return report(this, Future::set_result(&future, Obj::none(this.py())));
    }
    report(this, try_again(this, &event_loop, &future))
}

/// Reports an exception that is not the outcome of the operation.
fn report(this: &Ref<SockCall>, outcome: Result<(), Raised>) -> Result<(), EndsProgram> {
    match (outcome, this.event_loop.get()) {
        (Ok(()), _) => Ok(()),
        (Err(raised), Some(event_loop)) => {
            let operation = || Ok(this.as_obj().clone());
            Handle::report_call(event_loop.as_obj(), operation, &[], None, raised)
        }
        (Err(raised), None) => EndsProgram::or_caught(this.py(), raised).map(drop),
    }
}

/// Makes another attempt. The future gets the outcome, or the call goes on waiting.
fn try_again(
    this: &Ref<SockCall>,
    event_loop: &Ref<EventLoop>,
    future: &Ref<Future>,
) -> Result<(), Raised> {
    let (side, fd) = (this.operation.side(), this.fd.get());
    let wait_on = || EventLoop::wait_for(event_loop, side, fd, this.as_obj());
    let outcome = this.ask_fd().and_then(|now| {
        // The socket may be closed, and another may have the number.
        if now != fd {
            this.fd.set(-1);
        }
        let outcome = attempt(this);
        this.fd.set(fd);
        match outcome? {
            Attempt::Done(result) => Ok(Some(result)),
            Attempt::Wait => wait_on().map(|()| None),
        }
    });
    match outcome {
        Ok(None) => Ok(()),
        Ok(Some(result)) => {
            SockCall::stop_waiting(this);
            Future::set_result(future, result)
        }
        Err(raised) => {
            let exception = raised.take(this.py());
            if !ends_program(this.py(), &exception) {
                return SockCall::fail(this, future, &exception);
            }
            // The loop may run again, and then makes another attempt.
            if let Err(raised) = wait_on() {
                let error = raised.take(this.py());
                SockCall::fail(this, future, &error)?;
            }
            Err(Raised::raise(exception))
        }
    }
}

impl Coroutine for SockCall {
    fn names(&self) -> (&'static str, &'static str) {
        self.operation.names()
    }

    fn begin(this: &Ref<SockCall>) -> Result<Turn, Raised> {
        this.fd.set(this.ask_fd()?);
        match attempt(this)? {
            Attempt::Done(result) => Ok(Turn::Return(result)),
            Attempt::Wait => SockCall::begin_to_wait(this),
        }
    }

    fn resume(this: &Ref<SockCall>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised> {
        let result = outcome?;
        if this.operation.side() == Side::Write {
            return Ok(Turn::Return(result));
        }
        // Other code may have been quicker. Then the call waits again.
        SockCall::begin(this)
    }

    fn end(this: &Ref<SockCall>) {
        if this.future.take().is_some() {
            SockCall::stop_waiting(this);
        }
        this.event_loop.set(None);
        this.sock.set(None);
        this.data.set(None);
        this.address.set(None);
    }
}

coroutine_class! {
    SockCall: c"aioxide._aioxide.sock_coroutine", c"The coroutine object that the sock_* methods return.";
    const FREELIST: usize = 1024;
    holds event_loop, sock, data, address, future;
}
