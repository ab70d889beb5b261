//! The attributes of a stream's protocol that asyncio's code for the beginning and the end of a
//! connection reads and sets.
//!
//! As native fields they take a third of what they take in a dict. Two of them are made when they
//! are first asked for, because a connection that waits for data needs neither: an empty deque
//! takes 760 bytes, and the Future `_closed` about 200.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::{Hot, Obj, Python, Raised, Ref, Slot};

use super::imports::imports;
use crate::event_loop::EventLoop;
use crate::futures::{Future, create_future, with_native_futures};

/// What a protocol knows of its connection.
#[derive(Default)]
pub(super) struct Connection {
    /// Whether an empty `closed` stands for a Future that is not made yet.
    makes_closed: Cell<bool>,
    /// Whether an empty `drain_waiters` stands for a deque that is not made yet.
    makes_waiters: Cell<bool>,
    rejects: Cell<bool>,
    over_ssl: Cell<bool>,
    /// The reader until the connection is made. An empty field is no attribute, as with the next.
    strong_reader: Slot,
    stream_writer: Slot,
    task: Slot,
    transport: Slot,
    connected_callback: Slot,
    closed: Slot,
    drain_waiters: Slot,
}

cpython::holds!(
    Connection: strong_reader,
    stream_writer,
    task,
    transport,
    connected_callback,
    closed,
    drain_waiters
);

/// A type that has a [`Connection`].
pub(super) trait HasConnection: Hot {
    /// The fields.
    fn connection(&self) -> &Connection;
    /// The protocol's loop.
    fn event_loop(&self) -> Option<Obj>;
}

impl Connection {
    /// Sets the fields as asyncio's `__init__` does; `reader` and `callback` are its arguments.
    pub(super) fn begin(
        &self,
        event_loop: &Obj,
        reader: Option<Obj>,
        callback: Option<Obj>,
    ) -> Result<(), Raised> {
        let none = || Obj::none(event_loop.py());
        if callback.is_some() {
            self.strong_reader.set(Some(reader.unwrap_or_else(none)));
        }
        self.drain_waiters.set(None);
        self.makes_waiters.set(true);
        self.rejects.set(false);
        if cfg!(not(Py_3_13)) {
            self.stream_writer.set(Some(none()));
        }
        self.task.set(None);
        self.transport.set(None);
        self.connected_callback.set(callback);
        self.over_ssl.set(false);
        let may_wait = with_native_futures(event_loop).is_some();
        let closed = match may_wait {
            true => None,
            false => Some(create_future(event_loop)?),
        };
        self.makes_closed.set(may_wait);
        self.closed.set(closed);
        Ok(())
    }

    /// Whether no `drain()` waits, as far as that is known without calling anything.
    pub(super) fn has_no_waiters(&self) -> bool {
        self.makes_waiters.get() && self.drain_waiters.is_none()
    }

    /// `_drain_waiters`; `None` if the attribute is not there.
    pub(super) fn drain_waiters(&self, py: Python<'_>) -> Result<Option<Obj>, Raised> {
        if self.has_no_waiters() {
            let deque = imports(py).deque.get(py).call0()?;
            self.drain_waiters.set(Some(deque));
        }
        Ok(self.drain_waiters.get())
    }

    /// `_closed`; `None` if the attribute is not there.
    fn closed(&self, event_loop: Option<Obj>) -> Result<Option<Obj>, Raised> {
        if let (true, None, Some(event_loop)) =
            (self.makes_closed.get(), self.closed.get(), event_loop)
        {
            let closed = match Ref::<EventLoop>::of(&event_loop) {
                Some(native) => Future::create(native)?.into_obj(),
                None => create_future(&event_loop)?,
            };
            self.closed.set(Some(closed));
        }
        Ok(self.closed.get())
    }
}

/// Adds the attributes.
pub(super) fn build<T: HasConnection>(builder: &mut Builder<T>) {
    builder
        .flag(
            c"_reject_connection",
            c"Whether the stream was dropped before the connection was made.",
            |this| &this.connection().rejects,
        )
        .flag(c"_over_ssl", c"Whether the connection has TLS.", |this| {
            &this.connection().over_ssl
        })
        .attribute(c"_task", c"The task of the server's coroutine.", |this| {
            &this.connection().task
        })
        .attribute(c"_transport", c"The transport.", |this| {
            &this.connection().transport
        })
        .attribute(
            c"_client_connected_cb",
            c"The server's function for new connections.",
            |this| &this.connection().connected_callback,
        );
    builder
        .get_set(
            c"_strong_reader",
            c"The reader, until the connection is made.",
            |this| {
                there(
                    this,
                    "_strong_reader",
                    this.connection().strong_reader.get(),
                )
            },
            |this, value| {
                this.connection().strong_reader.set(value.cloned());
                Ok(())
            },
        )
        .get_set(
            c"_stream_writer",
            c"The writer, before Python 3.13.",
            |this| {
                there(
                    this,
                    "_stream_writer",
                    this.connection().stream_writer.get(),
                )
            },
            |this, value| {
                this.connection().stream_writer.set(value.cloned());
                Ok(())
            },
        )
        .get_set(
            c"_drain_waiters",
            c"The Futures on which drain() waits.",
            |this| {
                let waiters = this.connection().drain_waiters(this.py())?;
                there(this, "_drain_waiters", waiters)
            },
            |this, value| {
                this.connection().makes_waiters.set(false);
                this.connection().drain_waiters.set(value.cloned());
                Ok(())
            },
        )
        .get_set(
            c"_closed",
            c"The Future that is done when the connection is closed.",
            |this| {
                let closed = this.connection().closed(this.event_loop())?;
                there(this, "_closed", closed)
            },
            |this, value| {
                this.connection().makes_closed.set(false);
                this.connection().closed.set(value.cloned());
                Ok(())
            },
        );
}

/// The value of an attribute that need not be there.
fn there<T: Hot>(this: &Ref<T>, name: &str, value: Option<Obj>) -> Result<Obj, Raised> {
    match value {
        Some(value) => Ok(value),
        None => Err(no_attribute(this.as_obj(), name)),
    }
}

#[cold]
fn no_attribute(object: &Obj, name: &str) -> Raised {
    let py = object.py();
    let class = object
        .class()
        .attr(pyo3::intern!(py, "__name__"))
        .and_then(|name| name.to_string());
    match class {
        Ok(class) => Raised::new::<pyo3::exceptions::PyAttributeError>(
            py,
            &format!("'{class}' object has no attribute '{name}'"),
        ),
        Err(raised) => raised,
    }
}
