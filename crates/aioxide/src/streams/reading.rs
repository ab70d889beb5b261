//! The coroutines of a reader: `read`, `readline`, `readexactly`, `readuntil`, and `__anext__`.
//!
//! Each looks at the content first, and returns without suspending if that is enough. Otherwise it
//! waits on the reader's one waiter, and looks again when that is done.

use std::cell::Cell;

use cpython::build::Next;
use cpython::callable::{callable, quick_method};
use cpython::{Args, Global, Obj, Python, Raised, Ref, Slot};
use engine::Search;
use engine::unread::search;

use super::imports::imports;
use super::reader::StreamReader;
use crate::coroutines::class::coroutine_class;
use crate::coroutines::coroutine::{Coroutine, CoroutineState, Turn};
use crate::coroutines::describe;

/// The method that has made the coroutine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadKind {
    Read,
    ReadLine,
    ReadExactly,
    ReadUntil,
    Next,
}

impl ReadKind {
    fn names(self) -> (&'static str, &'static str) {
        match self {
            ReadKind::Read => ("read", "StreamReader.read"),
            ReadKind::ReadLine => ("readline", "StreamReader.readline"),
            ReadKind::ReadExactly => ("readexactly", "StreamReader.readexactly"),
            ReadKind::ReadUntil => ("readuntil", "StreamReader.readuntil"),
            ReadKind::Next => ("__anext__", "StreamReader.__anext__"),
        }
    }

    /// asyncio's own method.
    fn original(self, py: Python<'_>) -> &'static Global {
        let methods = &imports(py).reader;
        match self {
            ReadKind::Read => &methods.read,
            ReadKind::ReadLine => &methods.readline,
            ReadKind::ReadExactly => &methods.readexactly,
            ReadKind::ReadUntil => &methods.readuntil,
            ReadKind::Next => &methods.anext,
        }
    }
}

/// The event for which the coroutine waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadStage {
    /// Data in the reader.
    Data,
    /// The end of asyncio's own coroutine, which does the rest.
    Rest,
}

/// Bytes that were read already.
#[derive(Default)]
struct Collected(Vec<u8>);

/// The value of the coroutine object.
pub(super) struct ReadCoroutine {
    kind: Cell<ReadKind>,
    reader: Slot<Ref<StreamReader>>,
    /// Of `read` and `readexactly`: the number of bytes to read; below 0: all until the end. Of the
    /// others: no separator begins before this position.
    count: Cell<i64>,
    /// The separator: bytes, or a tuple of bytes; none means a newline.
    separator: Slot,
    /// The bytes that `read()` until the end has read so far.
    collected: Cell<Option<Box<Collected>>>,
    stage: Cell<ReadStage>,
    state: CoroutineState,
}

impl ReadCoroutine {
    #[inline]
    fn create(
        py: Python<'_>,
        kind: ReadKind,
        reader: &Ref<StreamReader>,
        count: i64,
        separator: Option<Obj>,
    ) -> Result<Obj, Raised> {
        if separator.is_none() {
            if let Some(spare) = ReadCoroutine::reuse_spare(reader) {
                spare.kind.set(kind);
                spare.count.set(count);
                return Ok(spare.into_obj());
            }
        }
        Ref::make(py, || ReadCoroutine {
            kind: Cell::new(kind),
            reader: Slot::new(Some(reader.clone())),
            count: Cell::new(count),
            separator: Slot::new(separator),
            collected: Cell::new(None),
            stage: Cell::new(ReadStage::Data),
            state: CoroutineState::default(),
        })
        .map(Ref::into_obj)
    }

    /// The reader's last coroutine, to be used again, if it has ended by the short way and no other
    /// code has it. The short way leaves no objects in it.
    #[inline]
    fn reuse_spare(reader: &Ref<StreamReader>) -> Option<Ref<ReadCoroutine>> {
        let value: &StreamReader = reader;
        let spare = value.spare.take()?;
        // The one reference is the reader's. Such objects have no weak references and no
        // attributes.
        if !spare.as_obj().is_unique() {
            return None;
        }
        let read: &ReadCoroutine = &spare;
        read.state.renew();
        read.reader.set(Some(reader.clone()));
        Some(spare)
    }

    /// No separator begins before this position.
    #[inline]
    fn offset(&self) -> usize {
        self.count.get() as usize
    }

    /// The result of a coroutine that begins, if the content has it and nothing else is to be done.
    #[inline]
    fn result_at_once(&self, reader: &Ref<StreamReader>) -> Option<Obj> {
        let value: &StreamReader = reader;
        if !value.is_ready_to_take() {
            return None;
        }
        let count = usize::try_from(self.count.get()).unwrap_or(0);
        value
            .content
            .take_measured(reader.py(), |bytes| match self.kind.get() {
                ReadKind::ReadLine | ReadKind::Next => {
                    let (offset, limit) = (self.offset(), value.limit.get());
                    match search(bytes, &[b"\n"], offset, limit) {
                        Search::Found(end) => Some(end),
                        Search::NotYet(offset) => {
                            self.count.set(offset as i64);
                            None
                        }
                        Search::FoundBeyond(_) | Search::NoneWithin(_) => None,
                    }
                }
                ReadKind::Read if count > 0 && !bytes.is_empty() => Some(count),
                ReadKind::ReadExactly if count > 0 && bytes.len() >= count => Some(count),
                _ => None,
            })
    }

    /// Goes on with the content; `woken` says whether the coroutine has waited for it.
    #[inline]
    fn go_on(this: &Ref<ReadCoroutine>, woken: bool) -> Result<Turn, Raised> {
        let Some(reader) = this.reader.get() else {
            return Ok(Turn::Return(Obj::none(this.py())));
        };
        if !StreamReader::has_native_fields(&reader) {
            return ReadCoroutine::await_rest(this, &reader);
        }
        match this.kind.get() {
            ReadKind::Read if this.count.get() < 0 => ReadCoroutine::read_all(this, &reader, woken),
            ReadKind::Read => ReadCoroutine::read_some(this, &reader, woken),
            ReadKind::ReadExactly => ReadCoroutine::read_exactly(this, &reader),
            ReadKind::ReadLine | ReadKind::ReadUntil | ReadKind::Next => {
                ReadCoroutine::read_message(this, &reader)
            }
        }
    }

    /// Leaves the rest to asyncio's coroutine, because other code has the reader's bytearray.
    #[cold]
    fn await_rest(this: &Ref<ReadCoroutine>, reader: &Ref<StreamReader>) -> Result<Turn, Raised> {
        let py = this.py();
        this.stage.set(ReadStage::Rest);
        let original = this.kind.get().original(py).get(py);
        let reader = reader.as_obj();
        let coroutine = match this.kind.get() {
            ReadKind::Read | ReadKind::ReadExactly => {
                original.call(&[reader, &Obj::int(py, this.count.get())?])?
            }
            ReadKind::ReadUntil => match this.separator.get() {
                Some(separator) => original.call(&[reader, &separator])?,
                None => original.call1(reader)?,
            },
            ReadKind::ReadLine | ReadKind::Next => original.call1(reader)?,
        };
        Ok(Turn::Await(coroutine))
    }

    /// Returns the bytes read so far and those that asyncio's coroutine has read.
    #[cold]
    fn with_rest(this: &Ref<ReadCoroutine>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised> {
        let rest = outcome?;
        let Some(mut collected) = this.collected.take() else {
            return Ok(Turn::Return(rest));
        };
        collected
            .0
            .extend_from_slice(rest.as_bytes().unwrap_or_default());
        Obj::bytes(this.py(), &collected.0).map(Turn::Return)
    }

    fn wait(
        this: &Ref<ReadCoroutine>,
        reader: &Ref<StreamReader>,
        name: &str,
    ) -> Result<Turn, Raised> {
        this.stage.set(ReadStage::Data);
        StreamReader::wait_for_data(reader, name)
    }

    /// `read(n)` of at least one byte.
    #[inline]
    fn read_some(
        this: &Ref<ReadCoroutine>,
        reader: &Ref<StreamReader>,
        woken: bool,
    ) -> Result<Turn, Raised> {
        if !woken && !reader.eof.get() && reader.content.is_empty() {
            return ReadCoroutine::wait(this, reader, "read");
        }
        let data = reader.content.take(this.py(), this.count.get() as usize)?;
        StreamReader::maybe_resume_transport(reader)?;
        Ok(Turn::Return(data))
    }

    /// `read()` until the end.
    fn read_all(
        this: &Ref<ReadCoroutine>,
        reader: &Ref<StreamReader>,
        mut woken: bool,
    ) -> Result<Turn, Raised> {
        let py = this.py();
        loop {
            if !woken {
                raise_exception(reader)?;
                if reader.content.is_empty() && !reader.eof.get() {
                    return ReadCoroutine::wait(this, reader, "read");
                }
            }
            woken = false;
            let nothing = reader.content.with(|bytes| {
                let block = &bytes[..bytes.len().min(reader.limit.get())];
                if !block.is_empty() {
                    let mut collected = this.collected.take().unwrap_or_default();
                    collected.0.extend_from_slice(block);
                    this.collected.set(Some(collected));
                }
                block.is_empty()
            });
            if nothing {
                StreamReader::maybe_resume_transport(reader)?;
                let collected = this.collected.take().unwrap_or_default();
                return Obj::bytes(py, &collected.0).map(Turn::Return);
            }
            reader.content.consume(reader.limit.get());
            StreamReader::maybe_resume_transport(reader)?;
            if !StreamReader::has_native_fields(reader) {
                return ReadCoroutine::await_rest(this, reader);
            }
        }
    }

    /// `readexactly(n)` of at least one byte.
    #[inline]
    fn read_exactly(this: &Ref<ReadCoroutine>, reader: &Ref<StreamReader>) -> Result<Turn, Raised> {
        let py = this.py();
        let wanted = this.count.get() as usize;
        if reader.content.len() < wanted {
            if !reader.eof.get() {
                return ReadCoroutine::wait(this, reader, "readexactly");
            }
            let expected = Obj::int(py, this.count.get())?;
            return Err(incomplete(reader, &expected));
        }
        let data = reader.content.take(py, wanted)?;
        StreamReader::maybe_resume_transport(reader)?;
        Ok(Turn::Return(data))
    }

    /// `readuntil(separator)`, and the methods that are made of it.
    #[inline]
    fn read_message(this: &Ref<ReadCoroutine>, reader: &Ref<StreamReader>) -> Result<Turn, Raised> {
        let py = this.py();
        let (offset, limit) = (this.offset(), reader.limit.get());
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
                this.count.set(offset as i64);
                if reader.eof.get() {
                    return ReadCoroutine::end_of_messages(this, reader);
                }
                ReadCoroutine::wait(this, reader, "readuntil")
            }
            Search::FoundBeyond(start) => {
                let text = "Separator is found, but chunk is longer than limit";
                Err(ReadCoroutine::overrun(this, reader, text, start))
            }
            Search::NoneWithin(offset) => {
                let text = "Separator is not found, and chunk exceed the limit";
                Err(ReadCoroutine::overrun(this, reader, text, offset))
            }
        }
    }

    /// Ends a method of lines or messages when no more data will come.
    #[cold]
    fn end_of_messages(
        this: &Ref<ReadCoroutine>,
        reader: &Ref<StreamReader>,
    ) -> Result<Turn, Raised> {
        let py = this.py();
        match this.kind.get() {
            ReadKind::ReadLine => reader.content.take(py, usize::MAX).map(Turn::Return),
            ReadKind::Next if reader.content.is_empty() => {
                let class = Obj::class_of::<pyo3::exceptions::PyStopAsyncIteration>(py);
                Err(Raised::raise_in_context(class.call0()?))
            }
            ReadKind::Next => reader.content.take(py, usize::MAX).map(Turn::Return),
            _ => Err(incomplete(reader, &Obj::none(py))),
        }
    }

    /// Makes the exception for a message that is longer than the limit.
    #[cold]
    fn overrun(
        this: &Ref<ReadCoroutine>,
        reader: &Ref<StreamReader>,
        text: &str,
        consumed: usize,
    ) -> Raised {
        match ReadCoroutine::try_overrun(this, reader, text, consumed) {
            Ok(exception) => Raised::raise(exception),
            Err(raised) => raised,
        }
    }

    fn try_overrun(
        this: &Ref<ReadCoroutine>,
        reader: &Ref<StreamReader>,
        text: &str,
        consumed: usize,
    ) -> Result<Obj, Raised> {
        let py = this.py();
        let class = imports(py).limit_overrun_error.get(py);
        let text = Obj::str(py, text)?;
        let overrun = class.call(&[&text, &Obj::int(py, consumed as i64)?])?;
        let overrun = Raised::raise_in_context(overrun);
        if this.kind.get() == ReadKind::ReadUntil {
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

/// Searches for the first of several separators.
#[cold]
fn search_any(bytes: &[u8], separators: &Obj, offset: usize, limit: usize) -> Search {
    let separators: Vec<Obj> = (0..separators.tuple_len())
        .filter_map(|index| separators.tuple_item(index))
        .collect();
    let mut sorted: Vec<&[u8]> = separators.iter().filter_map(Obj::as_bytes).collect();
    sorted.sort_by_key(|separator| separator.len());
    search(bytes, &sorted, offset, limit)
}

/// Makes the IncompleteReadError, which takes all bytes of the content.
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

/// Raises the exception that was set by `set_exception`.
#[inline]
fn raise_exception(reader: &Ref<StreamReader>) -> Result<(), Raised> {
    match reader.exception.get() {
        Some(exception) => Err(Raised::raise_in_context(exception)),
        None => Ok(()),
    }
}

impl Coroutine for ReadCoroutine {
    fn names(&self) -> (&'static str, &'static str) {
        self.kind.get().names()
    }

    #[inline]
    fn shortcut(this: &Ref<ReadCoroutine>) -> Option<Next> {
        let value: &ReadCoroutine = this;
        if !value.state.is_new() {
            return None;
        }
        let reader = value.reader.take()?;
        let Some(data) = value.result_at_once(&reader) else {
            value.reader.set(Some(reader));
            return None;
        };
        value.state.finish();
        if value.separator.is_none() && reader.spare.is_none() {
            reader.spare.set(Some(this.clone()));
        }
        Some(Next::Return(data))
    }

    fn begin(this: &Ref<ReadCoroutine>) -> Result<Turn, Raised> {
        if let Some(reader) = this.reader.get() {
            let py = this.py();
            if this.kind.get() == ReadKind::ReadExactly && this.count.get() < 0 {
                let text = "readexactly size can not be less than zero";
                return Err(Raised::value_error(py, text));
            }
            raise_exception(&reader)?;
            if this.count.get() == 0
                && matches!(this.kind.get(), ReadKind::Read | ReadKind::ReadExactly)
            {
                return Obj::bytes(py, b"").map(Turn::Return);
            }
        }
        ReadCoroutine::go_on(this, false)
    }

    #[inline]
    fn resume(this: &Ref<ReadCoroutine>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised> {
        if this.stage.get() == ReadStage::Rest {
            return ReadCoroutine::with_rest(this, outcome);
        }
        if let Some(reader) = this.reader.get() {
            reader.waiter.set(None);
        }
        outcome?;
        ReadCoroutine::go_on(this, true)
    }

    #[inline]
    fn end(this: &Ref<ReadCoroutine>) {
        this.reader.set(None);
        this.separator.set(None);
        this.collected.take();
    }
}

coroutine_class! {
    ReadCoroutine: c"aioxide._aioxide.read_coroutine", c"The coroutine object that a reader's methods return.";
    const FREELIST: usize = 1024;
    holds reader, separator;
}

/// The reader and the arguments of a method's call: if the reader is native, and there are at most
/// `most` arguments, all positional.
#[inline]
fn native<'a>(args: &Args<'a>, most: usize) -> Option<(&'a Ref<StreamReader>, &'a [Obj])> {
    let (this, rest) = args.only_positional()?.split_first()?;
    let reader = Ref::<StreamReader>::of(this)?;
    (rest.len() <= most && StreamReader::has_native_fields(reader)).then_some((reader, rest))
}

/// Makes asyncio's own coroutine.
#[cold]
fn original(py: Python<'_>, kind: ReadKind, args: &Args<'_>) -> Result<Obj, Raised> {
    let (positional, named) = args.to_tuple_and_dict(py)?;
    let original = kind.original(py).get(py);
    original.call_with_dict(&positional, named.as_ref())
}

/// Makes the coroutine of `read(n)` and `readexactly(n)`.
#[inline]
fn counted(reader: &Ref<StreamReader>, kind: ReadKind, count: &Obj) -> Result<Obj, Raised> {
    let py = reader.py();
    match count.small_int() {
        Some(number) if StreamReader::has_native_fields(reader) => {
            ReadCoroutine::create(py, kind, reader, number, None)
        }
        _ => kind.original(py).get(py).call(&[reader.as_obj(), count]),
    }
}

/// `readline()`.
#[inline]
fn plain_line(reader: &Ref<StreamReader>) -> Result<Obj, Raised> {
    let py = reader.py();
    if StreamReader::has_native_fields(reader) {
        return ReadCoroutine::create(py, ReadKind::ReadLine, reader, 0, None);
    }
    let original = ReadKind::ReadLine.original(py).get(py);
    original.call1(reader.as_obj())
}

fn read(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    match native(args, 1) {
        Some((reader, [])) => ReadCoroutine::create(py, ReadKind::Read, reader, -1, None),
        Some((reader, [count])) => counted(reader, ReadKind::Read, count),
        _ => original(py, ReadKind::Read, args),
    }
}

fn readexactly(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    match native(args, 1) {
        Some((reader, [count])) => counted(reader, ReadKind::ReadExactly, count),
        _ => original(py, ReadKind::ReadExactly, args),
    }
}

fn readline(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    match native(args, 0) {
        Some((reader, _)) => plain_line(reader),
        None => original(py, ReadKind::ReadLine, args),
    }
}

fn anext(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    match native(args, 0) {
        Some((reader, _)) => ReadCoroutine::create(py, ReadKind::Next, reader, 0, None),
        None => original(py, ReadKind::Next, args),
    }
}

fn readuntil(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    match native(args, 1) {
        Some((reader, [])) => ReadCoroutine::create(py, ReadKind::ReadUntil, reader, 0, None),
        Some((reader, [separator])) if is_separator(separator) => {
            ReadCoroutine::create(py, ReadKind::ReadUntil, reader, 0, Some(separator.clone()))
        }
        _ => original(py, ReadKind::ReadUntil, args),
    }
}

/// Whether a separator is bytes or, from 3.13 on, a tuple of bytes, none of them empty. All others
/// are left to asyncio's code, which may refuse them.
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

/// Adds the methods to the native class. `inspect` and asyncio see coroutine functions with the
/// parameters of asyncio's.
pub(super) fn add_methods(py: Python<'_>) -> Result<(), Raised> {
    let methods = [
        (
            quick_method::<_, _, _, _, 1>(
                py,
                "read",
                "Read up to n bytes, or until the end.",
                |reader: &Ref<StreamReader>, [count]: &[Obj; 1]| {
                    counted(reader, ReadKind::Read, count)
                },
                read,
            )?,
            ReadKind::Read,
        ),
        (
            quick_method::<_, _, _, _, 1>(
                py,
                "readexactly",
                "Read exactly n bytes; raise IncompleteReadError if there are fewer.",
                |reader: &Ref<StreamReader>, [count]: &[Obj; 1]| {
                    counted(reader, ReadKind::ReadExactly, count)
                },
                readexactly,
            )?,
            ReadKind::ReadExactly,
        ),
        (
            quick_method::<_, _, _, _, 0>(
                py,
                "readline",
                "Read a line with its newline; at the end the bytes that are left.",
                |reader: &Ref<StreamReader>, _: &[Obj; 0]| plain_line(reader),
                readline,
            )?,
            ReadKind::ReadLine,
        ),
        (
            callable(
                py,
                "readuntil",
                "Read until a separator, and it; raise IncompleteReadError if there is none, \
                 LimitOverrunError if it comes too late.",
                readuntil,
            )?,
            ReadKind::ReadUntil,
        ),
        (
            callable(py, "__anext__", "Read the next line.", anext)?,
            ReadKind::Next,
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
