//! The coroutines of a reader: `read`, `readline`, `readexactly`, `readuntil`, and what
//! `async for` awaits.
//!
//! Each looks at the content first: what is there already is returned without suspending. It waits
//! on the reader's one waiter, and looks again when that is done.

use std::cell::{Cell, RefCell};

use cpython::build::Next;
use cpython::callable::{callable, quick_method};
use cpython::{Args, Global, Obj, Python, Raised, Ref, Slot};
use engine::Search;
use engine::unread::search;

use super::imports::imports;
use super::reader::StreamReader;
use crate::coroutines::class::coroutine_class;
use crate::coroutines::coroutine::{Coroutine, Course, Turn};
use crate::coroutines::describe;

/// Which coroutine it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    ReadLine,
    ReadExactly,
    ReadUntil,
    Next,
}

impl Kind {
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Kind::Read => ("read", "StreamReader.read"),
            Kind::ReadLine => ("readline", "StreamReader.readline"),
            Kind::ReadExactly => ("readexactly", "StreamReader.readexactly"),
            Kind::ReadUntil => ("readuntil", "StreamReader.readuntil"),
            Kind::Next => ("__anext__", "StreamReader.__anext__"),
        }
    }

    /// asyncio's own method.
    fn original(self, py: Python<'_>) -> &'static Global {
        let methods = &imports(py).reader;
        match self {
            Kind::Read => &methods.read,
            Kind::ReadLine => &methods.readline,
            Kind::ReadExactly => &methods.readexactly,
            Kind::ReadUntil => &methods.readuntil,
            Kind::Next => &methods.anext,
        }
    }
}

/// What it waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Data.
    Data,
    /// asyncio's own coroutine, which does the rest.
    Rest,
}

/// The value of the coroutine object.
pub(super) struct Read {
    kind: Cell<Kind>,
    reader: Slot<Ref<StreamReader>>,
    /// How many bytes to read; below 0: all there will be.
    count: Cell<i64>,
    /// Bytes, or a tuple of them; none: a newline.
    separator: Slot,
    /// No separator begins before there.
    offset: Cell<usize>,
    /// What was read of all there will be.
    collected: RefCell<Vec<u8>>,
    stage: Cell<Stage>,
    course: Course,
}

impl Read {
    #[inline]
    fn create(
        py: Python<'_>,
        kind: Kind,
        reader: &Ref<StreamReader>,
        count: i64,
        separator: Option<Obj>,
    ) -> Result<Obj, Raised> {
        if separator.is_none() {
            if let Some(spare) = Read::renewed(reader) {
                spare.kind.set(kind);
                spare.count.set(count);
                return Ok(spare.into_obj());
            }
        }
        Ref::make(py, || Read {
            kind: Cell::new(kind),
            reader: Slot::new(Some(reader.clone())),
            count: Cell::new(count),
            separator: Slot::new(separator),
            offset: Cell::new(0),
            collected: RefCell::default(),
            stage: Cell::new(Stage::Data),
            course: Course::default(),
        })
        .map(Ref::into_obj)
    }

    /// The reader's last coroutine, if it has ended by the short way, which leaves nothing in it, and
    /// nobody has it any more.
    #[inline]
    fn renewed(reader: &Ref<StreamReader>) -> Option<Ref<Read>> {
        let value: &StreamReader = reader;
        let spare = value.spare.take()?;
        // One reference, ours: such objects have no weak ones and no attributes.
        if spare.as_obj().refcount() != 1 {
            return None;
        }
        let read: &Read = &spare;
        read.course.renew();
        read.offset.set(0);
        read.reader.set(Some(reader.clone()));
        Some(spare)
    }

    /// What a coroutine that begins returns, if it is there and nothing else is to be done.
    #[inline]
    fn at_once(&self, reader: &Ref<StreamReader>) -> Option<Obj> {
        let value: &StreamReader = reader;
        if !value.is_at_ease() {
            return None;
        }
        let count = usize::try_from(self.count.get()).unwrap_or(0);
        value
            .content
            .take_measured(reader.py(), |bytes| match self.kind.get() {
                Kind::ReadLine | Kind::Next => {
                    let (offset, limit) = (self.offset.get(), value.limit.get());
                    match search(bytes, &[b"\n"], offset, limit) {
                        Search::Found(end) => Some(end),
                        Search::NotYet(offset) => {
                            self.offset.set(offset);
                            None
                        }
                        Search::FoundBeyond(_) | Search::NoneWithin(_) => None,
                    }
                }
                Kind::Read if count > 0 && !bytes.is_empty() => Some(count),
                Kind::ReadExactly if count > 0 && bytes.len() >= count => Some(count),
                _ => None,
            })
    }

    /// Goes on with what is there; `woken` if it has waited.
    #[inline]
    fn go_on(this: &Ref<Read>, woken: bool) -> Result<Turn, Raised> {
        let Some(reader) = this.reader.get() else {
            return Ok(Turn::Return(Obj::none(this.py())));
        };
        if !StreamReader::is_native(&reader) {
            return Read::await_rest(this, &reader);
        }
        match this.kind.get() {
            Kind::Read if this.count.get() < 0 => Read::read_all(this, &reader, woken),
            Kind::Read => Read::read_some(this, &reader, woken),
            Kind::ReadExactly => Read::read_exactly(this, &reader),
            Kind::ReadLine | Kind::ReadUntil | Kind::Next => Read::read_message(this, &reader),
        }
    }

    /// Somebody works on the reader's bytearray: asyncio's coroutine does the rest.
    #[cold]
    fn await_rest(this: &Ref<Read>, reader: &Ref<StreamReader>) -> Result<Turn, Raised> {
        let py = this.py();
        this.stage.set(Stage::Rest);
        let original = this.kind.get().original(py).get(py);
        let reader = reader.as_obj();
        let coroutine = match this.kind.get() {
            Kind::Read | Kind::ReadExactly => {
                original.call(&[reader, &Obj::int(py, this.count.get())?])?
            }
            Kind::ReadUntil => match this.separator.get() {
                Some(separator) => original.call(&[reader, &separator])?,
                None => original.call1(reader)?,
            },
            Kind::ReadLine | Kind::Next => original.call1(reader)?,
        };
        Ok(Turn::Await(coroutine))
    }

    /// asyncio's coroutine has done the rest.
    #[cold]
    fn with_rest(this: &Ref<Read>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised> {
        let rest = outcome?;
        let mut collected = this.collected.take();
        if collected.is_empty() {
            return Ok(Turn::Return(rest));
        }
        collected.extend_from_slice(rest.as_bytes().unwrap_or_default());
        Obj::bytes(this.py(), &collected).map(Turn::Return)
    }

    fn wait(this: &Ref<Read>, reader: &Ref<StreamReader>, name: &str) -> Result<Turn, Raised> {
        this.stage.set(Stage::Data);
        StreamReader::wait_for_data(reader, name)
    }

    /// `read(n)` of at least one byte.
    #[inline]
    fn read_some(
        this: &Ref<Read>,
        reader: &Ref<StreamReader>,
        woken: bool,
    ) -> Result<Turn, Raised> {
        if !woken && !reader.eof.get() && reader.content.is_empty() {
            return Read::wait(this, reader, "read");
        }
        let data = reader.content.take(this.py(), this.count.get() as usize)?;
        StreamReader::maybe_resume_transport(reader)?;
        Ok(Turn::Return(data))
    }

    /// `read()` until the end.
    fn read_all(
        this: &Ref<Read>,
        reader: &Ref<StreamReader>,
        mut woken: bool,
    ) -> Result<Turn, Raised> {
        let py = this.py();
        loop {
            if !woken {
                raise_exception(reader)?;
                if reader.content.is_empty() && !reader.eof.get() {
                    return Read::wait(this, reader, "read");
                }
            }
            woken = false;
            let nothing = reader.content.with(|bytes| {
                let block = &bytes[..bytes.len().min(reader.limit.get())];
                this.collected.borrow_mut().extend_from_slice(block);
                block.is_empty()
            });
            if nothing {
                StreamReader::maybe_resume_transport(reader)?;
                let collected = this.collected.take();
                return Obj::bytes(py, &collected).map(Turn::Return);
            }
            reader.content.consume(reader.limit.get());
            StreamReader::maybe_resume_transport(reader)?;
            if !StreamReader::is_native(reader) {
                return Read::await_rest(this, reader);
            }
        }
    }

    /// `readexactly(n)` of at least one byte.
    #[inline]
    fn read_exactly(this: &Ref<Read>, reader: &Ref<StreamReader>) -> Result<Turn, Raised> {
        let py = this.py();
        let wanted = this.count.get() as usize;
        if reader.content.len() < wanted {
            if !reader.eof.get() {
                return Read::wait(this, reader, "readexactly");
            }
            let expected = Obj::int(py, this.count.get())?;
            return Err(incomplete(reader, &expected));
        }
        let data = reader.content.take(py, wanted)?;
        StreamReader::maybe_resume_transport(reader)?;
        Ok(Turn::Return(data))
    }

    /// `readuntil(separator)` and what is made of it.
    #[inline]
    fn read_message(this: &Ref<Read>, reader: &Ref<StreamReader>) -> Result<Turn, Raised> {
        let py = this.py();
        let (offset, limit) = (this.offset.get(), reader.limit.get());
        let separator = this.separator.get();
        let found = reader.content.with(|bytes| match &separator {
            None => search(bytes, &[b"\n"], offset, limit),
            Some(separator) => match separator.as_bytes() {
                Some(separator) => search(bytes, &[separator], offset, limit),
                None => search_any(bytes, separator, offset, limit),
            },
        });
        match found {
            Search::Found(end) => {
                let message = reader.content.take(py, end)?;
                StreamReader::maybe_resume_transport(reader)?;
                Ok(Turn::Return(message))
            }
            Search::NotYet(offset) => {
                this.offset.set(offset);
                if reader.eof.get() {
                    return Read::end_of_messages(this, reader);
                }
                Read::wait(this, reader, "readuntil")
            }
            Search::FoundBeyond(start) => {
                let text = "Separator is found, but chunk is longer than limit";
                Err(Read::overrun(this, reader, text, start))
            }
            Search::NoneWithin(offset) => {
                let text = "Separator is not found, and chunk exceed the limit";
                Err(Read::overrun(this, reader, text, offset))
            }
        }
    }

    /// Nothing more will come.
    #[cold]
    fn end_of_messages(this: &Ref<Read>, reader: &Ref<StreamReader>) -> Result<Turn, Raised> {
        let py = this.py();
        match this.kind.get() {
            Kind::ReadLine => reader.content.take(py, usize::MAX).map(Turn::Return),
            Kind::Next if reader.content.is_empty() => {
                let class = Obj::class_of::<pyo3::exceptions::PyStopAsyncIteration>(py);
                Err(Raised::raise_in_context(class.call0()?))
            }
            Kind::Next => reader.content.take(py, usize::MAX).map(Turn::Return),
            _ => Err(incomplete(reader, &Obj::none(py))),
        }
    }

    /// The message is longer than the limit.
    #[cold]
    fn overrun(
        this: &Ref<Read>,
        reader: &Ref<StreamReader>,
        text: &str,
        consumed: usize,
    ) -> Raised {
        match Read::try_overrun(this, reader, text, consumed) {
            Ok(exception) => Raised::raise(exception),
            Err(raised) => raised,
        }
    }

    fn try_overrun(
        this: &Ref<Read>,
        reader: &Ref<StreamReader>,
        text: &str,
        consumed: usize,
    ) -> Result<Obj, Raised> {
        let py = this.py();
        let class = imports(py).limit_overrun_error.get(py);
        let text = Obj::str(py, text)?;
        let overrun = class.call(&[&text, &Obj::int(py, consumed as i64)?])?;
        let overrun = Raised::raise_in_context(overrun);
        if this.kind.get() == Kind::ReadUntil {
            return Err(overrun);
        }
        let overrun = overrun.take(py);
        let is_line = reader
            .content
            .with(|bytes| bytes.get(consumed) == Some(&b'\n'));
        if is_line {
            reader.content.consume(consumed + 1);
        } else {
            reader.content.clear();
        }
        StreamReader::maybe_resume_transport(reader)?;
        let class = Obj::class_of::<pyo3::exceptions::PyValueError>(py);
        let exception = class.call1(&text)?;
        cpython::error::set_context(&exception, overrun);
        Ok(exception)
    }
}

/// The same for one of several separators.
#[cold]
fn search_any(bytes: &[u8], separators: &Obj, offset: usize, limit: usize) -> Search {
    let separators: Vec<Obj> = (0..separators.tuple_len())
        .filter_map(|index| separators.tuple_item(index))
        .collect();
    let mut sorted: Vec<&[u8]> = separators.iter().filter_map(Obj::as_bytes).collect();
    sorted.sort_by_key(|separator| separator.len());
    search(bytes, &sorted, offset, limit)
}

/// The IncompleteReadError with all that is there, which is read by that.
#[cold]
fn incomplete(reader: &Ref<StreamReader>, expected: &Obj) -> Raised {
    let py = reader.py();
    let made = reader.content.take(py, usize::MAX).and_then(|partial| {
        imports(py)
            .incomplete_read_error
            .get(py)
            .call(&[&partial, expected])
    });
    match made {
        Ok(exception) => Raised::raise_in_context(exception),
        Err(raised) => raised,
    }
}

/// Raises the exception that was set.
#[inline]
fn raise_exception(reader: &Ref<StreamReader>) -> Result<(), Raised> {
    match reader.exception.get() {
        Some(exception) => Err(Raised::raise_in_context(exception)),
        None => Ok(()),
    }
}

impl Coroutine for Read {
    fn names(&self) -> (&'static str, &'static str) {
        self.kind.get().names()
    }

    #[inline]
    fn shortcut(this: &Ref<Read>) -> Option<Next> {
        let value: &Read = this;
        if !value.course.is_new() {
            return None;
        }
        let reader = value.reader.take()?;
        let Some(data) = value.at_once(&reader) else {
            value.reader.set(Some(reader));
            return None;
        };
        value.course.finish();
        if value.separator.is_none() && reader.spare.is_none() {
            reader.spare.set(Some(this.clone()));
        }
        Some(Next::Return(data))
    }

    fn begin(this: &Ref<Read>) -> Result<Turn, Raised> {
        if let Some(reader) = this.reader.get() {
            let py = this.py();
            if this.kind.get() == Kind::ReadExactly && this.count.get() < 0 {
                let text = "readexactly size can not be less than zero";
                return Err(Raised::value_error(py, text));
            }
            raise_exception(&reader)?;
            if this.count.get() == 0 && matches!(this.kind.get(), Kind::Read | Kind::ReadExactly) {
                return Obj::bytes(py, b"").map(Turn::Return);
            }
        }
        Read::go_on(this, false)
    }

    #[inline]
    fn resume(this: &Ref<Read>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised> {
        if this.stage.get() == Stage::Rest {
            return Read::with_rest(this, outcome);
        }
        if let Some(reader) = this.reader.get() {
            reader.waiter.set(None);
        }
        outcome?;
        Read::go_on(this, true)
    }

    #[inline]
    fn end(this: &Ref<Read>) {
        this.reader.set(None);
        this.separator.set(None);
        this.collected.take();
    }
}

coroutine_class! {
    Read: c"aioxide._aioxide.read_coroutine", c"The coroutine object that a reader's methods return.";
    const FREELIST: usize = 1024;
    holds reader, separator;
}

/// The reader whose method is called with no other arguments than so many, if it is native.
#[inline]
fn native<'a>(args: &Args<'a>, most: usize) -> Option<(&'a Ref<StreamReader>, &'a [Obj])> {
    let (this, rest) = args.only_positional()?.split_first()?;
    let reader = Ref::<StreamReader>::of(this)?;
    (rest.len() <= most && StreamReader::is_native(reader)).then_some((reader, rest))
}

/// asyncio's own coroutine.
#[cold]
fn original(py: Python<'_>, kind: Kind, args: &Args<'_>) -> Result<Obj, Raised> {
    let (positional, named) = args.to_tuple_and_dict(py)?;
    let original = kind.original(py).get(py);
    original.call_with_dict(&positional, named.as_ref())
}

/// `read(n)` and `readexactly(n)`.
#[inline]
fn counted(reader: &Ref<StreamReader>, kind: Kind, count: &Obj) -> Result<Obj, Raised> {
    let py = reader.py();
    match count.small_int() {
        Some(number) if StreamReader::is_native(reader) => {
            Read::create(py, kind, reader, number, None)
        }
        _ => kind.original(py).get(py).call(&[reader.as_obj(), count]),
    }
}

/// `readline()`.
#[inline]
fn plain_line(reader: &Ref<StreamReader>) -> Result<Obj, Raised> {
    let py = reader.py();
    if StreamReader::is_native(reader) {
        return Read::create(py, Kind::ReadLine, reader, 0, None);
    }
    let original = Kind::ReadLine.original(py).get(py);
    original.call1(reader.as_obj())
}

fn read(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    match native(args, 1) {
        Some((reader, [])) => Read::create(py, Kind::Read, reader, -1, None),
        Some((reader, [count])) => counted(reader, Kind::Read, count),
        _ => original(py, Kind::Read, args),
    }
}

fn readexactly(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    match native(args, 1) {
        Some((reader, [count])) => counted(reader, Kind::ReadExactly, count),
        _ => original(py, Kind::ReadExactly, args),
    }
}

fn readline(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    match native(args, 0) {
        Some((reader, _)) => plain_line(reader),
        None => original(py, Kind::ReadLine, args),
    }
}

fn anext(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    match native(args, 0) {
        Some((reader, _)) => Read::create(py, Kind::Next, reader, 0, None),
        None => original(py, Kind::Next, args),
    }
}

fn readuntil(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    match native(args, 1) {
        Some((reader, [])) => Read::create(py, Kind::ReadUntil, reader, 0, None),
        Some((reader, [separator])) if is_separator(separator) => {
            Read::create(py, Kind::ReadUntil, reader, 0, Some(separator.clone()))
        }
        _ => original(py, Kind::ReadUntil, args),
    }
}

/// Whether it is bytes or, from 3.13 on, a tuple of them. All else, empty ones too, asyncio's code
/// refuses or takes.
#[inline]
fn is_separator(object: &Obj) -> bool {
    let is_bytes = |object: &Obj| object.as_bytes().is_some_and(|bytes| !bytes.is_empty());
    is_bytes(object)
        || cfg!(Py_3_13)
            && object.tuple_len() > 0
            && (0..object.tuple_len()).all(|index| {
                let item = object.tuple_item(index);
                item.is_some_and(|item| is_bytes(&item))
            })
}

/// Adds the methods to the native class. To all who ask they are coroutine functions with the
/// parameters of asyncio's.
pub(super) fn add_methods(py: Python<'_>) -> Result<(), Raised> {
    let methods = [
        (
            quick_method::<_, _, _, _, 1>(
                py,
                "read",
                "Read up to n bytes, or until the end.",
                |reader: &Ref<StreamReader>, [count]: &[Obj; 1]| counted(reader, Kind::Read, count),
                read,
            )?,
            Kind::Read,
        ),
        (
            quick_method::<_, _, _, _, 1>(
                py,
                "readexactly",
                "Read exactly n bytes; raise IncompleteReadError if there are less.",
                |reader: &Ref<StreamReader>, [count]: &[Obj; 1]| {
                    counted(reader, Kind::ReadExactly, count)
                },
                readexactly,
            )?,
            Kind::ReadExactly,
        ),
        (
            quick_method::<_, _, _, _, 0>(
                py,
                "readline",
                "Read a line with its newline; at the end what is left.",
                |reader: &Ref<StreamReader>, _: &[Obj; 0]| plain_line(reader),
                readline,
            )?,
            Kind::ReadLine,
        ),
        (
            callable(
                py,
                "readuntil",
                "Read until a separator, and it; raise IncompleteReadError if there is none, \
                 LimitOverrunError if it comes too late.",
                readuntil,
            )?,
            Kind::ReadUntil,
        ),
        (
            callable(py, "__anext__", "Read the next line.", anext)?,
            Kind::Next,
        ),
    ];
    let class = Ref::<StreamReader>::class(py);
    for (made, kind) in methods {
        describe(py, &made, kind.original(py).get(py))?;
        let name = pyo3::types::PyString::intern(py, kind.names().0);
        class.set_attr(&name, &made)?;
    }
    Ok(())
}
