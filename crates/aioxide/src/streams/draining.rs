//! The coroutines of a writer: `drain` and `wait_closed`, and the protocol's part of `drain`.

use std::cell::Cell;

use cpython::build::Next;
use cpython::callable::callable;
use cpython::{Args, Global, Hot, Obj, Python, Raised, Ref, Slot};

use super::imports::imports;
use super::protocol::{StreamReaderProtocol, drain_turn};
use super::reader::StreamReader;
use super::writer::{StreamWriter, plain_transport};
use crate::coroutines::class::coroutine_class;
use crate::coroutines::coroutine::{Coroutine, CoroutineState, Turn};
use crate::coroutines::describe;

/// The function that has made the coroutine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DrainKind {
    Drain,
    WaitClosed,
    /// The protocol's `_drain_helper`.
    Helper,
}

impl DrainKind {
    fn names(self) -> (&'static str, &'static str) {
        match self {
            DrainKind::Drain => ("drain", "StreamWriter.drain"),
            DrainKind::WaitClosed => ("wait_closed", "StreamWriter.wait_closed"),
            DrainKind::Helper => ("_drain_helper", "FlowControlMixin._drain_helper"),
        }
    }

    /// asyncio's own method.
    fn original(self, py: Python<'_>) -> &'static Global {
        match self {
            DrainKind::Drain => &imports(py).writer.drain,
            DrainKind::WaitClosed => &imports(py).writer.wait_closed,
            DrainKind::Helper => &imports(py).protocol.drain_helper,
        }
    }
}

/// The event for which the coroutine waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DrainStage {
    /// The next iteration, in which `connection_lost` may come.
    Turn,
    /// Room in the write buffer, by a Future in the protocol's deque.
    Room,
    /// An awaitable after which the coroutine returns.
    Last,
}

/// The value of the coroutine object.
pub(super) struct DrainCoroutine {
    kind: DrainKind,
    /// The writer; for `_drain_helper` the protocol.
    subject: Slot,
    protocol: Slot<Ref<StreamReaderProtocol>>,
    waiter: Slot,
    stage: Cell<DrainStage>,
    state: CoroutineState,
}

impl DrainCoroutine {
    #[inline]
    fn create(py: Python<'_>, kind: DrainKind, subject: &Obj) -> Result<Obj, Raised> {
        let value = DrainCoroutine {
            kind,
            subject: Slot::new(Some(subject.clone())),
            protocol: Slot::default(),
            waiter: Slot::default(),
            stage: Cell::new(DrainStage::Last),
            state: CoroutineState::default(),
        };
        Ref::new(py, value).map(Ref::into_obj)
    }

    #[inline]
    fn drain(this: &Ref<DrainCoroutine>, writer: &Ref<StreamWriter>) -> Result<Turn, Raised> {
        if let Some(reader) = writer.reader.get() {
            raise_exception(&reader)?;
        }
        let transport = StreamWriter::transport_object(writer);
        let closing = match plain_transport(&transport) {
            Some(transport) => transport.is_closing(),
            None => transport
                .method(pyo3::intern!(this.py(), "is_closing"), &[])?
                .truth()?,
        };
        if closing {
            this.stage.set(DrainStage::Turn);
            return Ok(Turn::Pause);
        }
        DrainCoroutine::wait_for_room(this, writer)
    }

    #[inline]
    fn wait_for_room(
        this: &Ref<DrainCoroutine>,
        writer: &Ref<StreamWriter>,
    ) -> Result<Turn, Raised> {
        let py = this.py();
        let protocol = writer.protocol.get().unwrap_or_else(|| Obj::none(py));
        if let Some(native) = Ref::<StreamReaderProtocol>::of(&protocol) {
            if !StreamReaderProtocol::is_replaced(native) {
                return DrainCoroutine::wait_natively(this, native);
            }
        }
        this.stage.set(DrainStage::Last);
        let helper = protocol.method(pyo3::intern!(py, "_drain_helper"), &[])?;
        Ok(Turn::Await(helper))
    }

    #[inline]
    fn wait_natively(
        this: &Ref<DrainCoroutine>,
        protocol: &Ref<StreamReaderProtocol>,
    ) -> Result<Turn, Raised> {
        let turn = drain_turn(protocol, &this.waiter)?;
        if let Turn::Await(_) = turn {
            this.stage.set(DrainStage::Room);
            this.protocol.set(Some(protocol.clone()));
        }
        Ok(turn)
    }

    /// Takes the Future out of the protocol's deque, and returns the outcome as it is.
    fn leave(this: &Ref<DrainCoroutine>, outcome: Result<Obj, Raised>) -> Result<Obj, Raised> {
        let (Some(protocol), Some(waiter)) = (this.protocol.take(), this.waiter.take()) else {
            return outcome;
        };
        let outcome = outcome.map_err(|raised| raised.take(this.py()));
        StreamReaderProtocol::forget_waiter(&protocol, &waiter)?;
        outcome.map_err(Raised::raise)
    }
}

/// Whether the writer may write on, by native objects in which nothing was replaced.
#[inline]
fn is_drained(writer: &StreamWriter) -> bool {
    let reads_well = match writer.reader.get() {
        Some(reader) => Ref::<StreamReader>::of(&reader)
            .is_some_and(|reader| !StreamReader::is_replaced(reader) && reader.exception.is_none()),
        None => true,
    };
    let is_open = |transport: Obj| {
        plain_transport(&transport).is_some_and(|transport| !transport.is_closing())
    };
    let has_room = |protocol: Obj| {
        Ref::<StreamReaderProtocol>::of(&protocol).is_some_and(|protocol| protocol.has_room())
    };
    reads_well
        && writer.transport.get().is_some_and(is_open)
        && writer.protocol.get().is_some_and(has_room)
}

/// Raises the reader's exception.
#[inline]
fn raise_exception(reader: &Obj) -> Result<(), Raised> {
    let exception = match Ref::<StreamReader>::of(reader) {
        Some(native) if !StreamReader::is_replaced(native) => native.exception.get(),
        _ => reader
            .method(pyo3::intern!(reader.py(), "exception"), &[])?
            .not_none(),
    };
    match exception {
        Some(exception) => Err(Raised::raise_in_context(exception)),
        None => Ok(()),
    }
}

impl Coroutine for DrainCoroutine {
    fn names(&self) -> (&'static str, &'static str) {
        self.kind.names()
    }

    #[inline]
    fn shortcut(this: &Ref<DrainCoroutine>) -> Option<Next> {
        let value: &DrainCoroutine = this;
        if !value.state.is_new() || value.kind != DrainKind::Drain {
            return None;
        }
        let subject = value.subject.get()?;
        if !is_drained(Ref::<StreamWriter>::of(&subject)?) {
            return None;
        }
        value.state.finish();
        Some(Next::Return(Obj::none(this.py())))
    }

    fn begin(this: &Ref<DrainCoroutine>) -> Result<Turn, Raised> {
        let py = this.py();
        let subject = this.subject.get().unwrap_or_else(|| Obj::none(py));
        if let Some(protocol) = Ref::<StreamReaderProtocol>::of(&subject) {
            return DrainCoroutine::wait_natively(this, protocol);
        }
        let Some(writer) = Ref::<StreamWriter>::of(&subject) else {
            return Ok(Turn::Return(Obj::none(py)));
        };
        if this.kind == DrainKind::Drain {
            return DrainCoroutine::drain(this, writer);
        }
        let protocol = writer.protocol.get().unwrap_or_else(|| Obj::none(py));
        let name = pyo3::intern!(py, "_get_close_waiter");
        protocol.method(name, &[&subject]).map(Turn::Await)
    }

    fn resume(this: &Ref<DrainCoroutine>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised> {
        let py = this.py();
        match this.stage.get() {
            DrainStage::Turn => {
                outcome?;
                let subject = this.subject.get().unwrap_or_else(|| Obj::none(py));
                match Ref::<StreamWriter>::of(&subject) {
                    Some(writer) => DrainCoroutine::wait_for_room(this, writer),
                    None => Ok(Turn::Return(Obj::none(py))),
                }
            }
            DrainStage::Room => {
                DrainCoroutine::leave(this, outcome)?;
                Ok(Turn::Return(Obj::none(py)))
            }
            DrainStage::Last => {
                outcome?;
                Ok(Turn::Return(Obj::none(py)))
            }
        }
    }
}

coroutine_class! {
    DrainCoroutine: c"aioxide._aioxide.drain_coroutine", c"The coroutine object that a writer's methods return.";
    const FREELIST: usize = 1024;
    holds subject, protocol, waiter;
}

/// Makes the coroutine, which is native or asyncio's own.
#[inline]
fn coroutine<T: Hot>(py: Python<'_>, kind: DrainKind, args: &Args<'_>) -> Result<Obj, Raised> {
    if let Some([subject]) = args.only_positional() {
        if Ref::<T>::is(subject) {
            return DrainCoroutine::create(py, kind, subject);
        }
    }
    let (positional, named) = args.to_tuple_and_dict(py)?;
    let original = kind.original(py).get(py);
    original.call_with_dict(&positional, named.as_ref())
}

fn drain(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    coroutine::<StreamWriter>(py, DrainKind::Drain, args)
}

fn wait_closed(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    coroutine::<StreamWriter>(py, DrainKind::WaitClosed, args)
}

fn drain_helper(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    coroutine::<StreamReaderProtocol>(py, DrainKind::Helper, args)
}

/// Adds the methods to the native classes. `inspect` and asyncio see coroutine functions with the
/// parameters of asyncio's.
pub(super) fn add_methods(py: Python<'_>) -> Result<(), Raised> {
    let add = |class: &Obj, made: &Obj, kind: DrainKind| -> Result<(), Raised> {
        describe(py, made, kind.original(py).get(py))?;
        let name = pyo3::types::PyString::intern(py, kind.names().0);
        class.set_attr(&name, made)
    };
    let writer = Ref::<StreamWriter>::class(py);
    let doc = "Wait until the write buffer has room.";
    add(
        &writer,
        &callable(py, "drain", doc, drain)?,
        DrainKind::Drain,
    )?;
    let doc = "Wait until the connection is closed.";
    let made = callable(py, "wait_closed", doc, wait_closed)?;
    add(&writer, &made, DrainKind::WaitClosed)?;
    let doc = "Wait until the transport has resumed writing.";
    let made = callable(py, "_drain_helper", doc, drain_helper)?;
    add(
        &Ref::<StreamReaderProtocol>::class(py),
        &made,
        DrainKind::Helper,
    )
}
