//! The coroutine of one `sock_*` call.
//!
//! It tries at once; if that would block, it takes the reader's or the writer's place of the
//! descriptor and waits on a Future, which the readiness ends. However it ends, its place is free
//! afterwards, unless somebody else has taken it.
//!
//! Sending and connecting go on as soon as the descriptor is ready. What receives waits for its
//! task: bytes or a connection taken earlier would be lost with a task that is cancelled meanwhile,
//! as they are with asyncio.

use std::cell::Cell;

use cpython::{Obj, Raised, Ref, Slot};
use engine::SocketAddrStorage;

use super::Operation;
use super::attempt::{Attempt, attempt, keep_for_later};
use crate::coroutines::class::coroutine_class;
use crate::coroutines::coroutine::{Coroutine, Course, Turn};
use crate::event_loop::{EventLoop, Side};
use crate::futures::Future;
use crate::interop::imports::ends_program;
use crate::interop::sockets::socket_state;
use crate::transports::ensure_fd_no_transport;

/// The value of the coroutine object.
pub(crate) struct SockCall {
    pub(super) operation: Operation,
    pub(super) event_loop: Slot<Ref<EventLoop>>,
    pub(super) sock: Slot,
    /// The descriptor, from the first step on.
    pub(super) fd: Cell<i32>,
    /// What is sent or received into.
    pub(super) data: Slot,
    /// How much to receive at most; how much is sent already.
    pub(super) count: Cell<usize>,
    /// The address, as the program has given it and as the system takes it.
    pub(super) address: Slot,
    pub(super) target: Option<Box<SocketAddrStorage>>,
    future: Slot<Ref<Future>>,
    course: Course,
}

impl SockCall {
    /// Of an operation; the caller adds what it needs.
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
            course: Course::default(),
        }
    }

    /// The descriptor's number, which is the socket's as long as that is open.
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

    /// It has failed while it waited.
    fn fail(this: &Ref<SockCall>, future: &Ref<Future>, exception: &Obj) -> Result<(), Raised> {
        SockCall::stop_waiting(this);
        Future::set_exception(future, exception)
    }
}

/// The descriptor is ready.
pub(crate) fn on_ready(this: &Ref<SockCall>) -> Result<(), Raised> {
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
        // What it took now, it would lose if the task were cancelled before it goes on.
        SockCall::stop_waiting(this);
        return Future::set_result(&future, Obj::none(this.py()));
    }
    let wait_on = || EventLoop::wait_for(&event_loop, side, fd, this.as_obj());
    let outcome = this.ask_fd().and_then(|now| {
        // The socket may be closed, and another have the number.
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
            Future::set_result(&future, result)
        }
        Err(raised) => {
            let exception = raised.take(this.py());
            if !ends_program(this.py(), &exception) {
                return SockCall::fail(this, &future, &exception);
            }
            // The loop may run again: then there is another try.
            if let Err(raised) = wait_on() {
                let error = raised.take(this.py());
                SockCall::fail(this, &future, &error)?;
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
        // Somebody else may have been quicker: then it waits again.
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
