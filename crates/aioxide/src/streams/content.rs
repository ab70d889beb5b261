//! The bytes that a reader has received and not returned yet.
//!
//! They are one `bytes` object in most cases, and a call that reads all of it returns the object
//! itself. Further bytes go to the engine's buffer. Code that looks at the reader's `_buffer` gets
//! a bytearray. As long as any code has that bytearray it is the content, and asyncio's own methods
//! work on it.

use std::cell::{Cell, OnceCell, RefCell};

use cpython::{GcFields, Obj, Python, Raised, Slot, Visit};
use engine::Unread;

/// The content of a reader: a chunk, or the engine's buffer, or a bytearray that was shown.
#[derive(Default)]
pub(super) struct Content {
    /// A `bytes` object, of which the first `read` bytes were read. With a chunk, `unread` is
    /// empty.
    chunk: Slot,
    /// The number of bytes of the chunk that were read: fewer than it has.
    read: Cell<usize>,
    unread: OnceCell<Box<RefCell<Unread>>>,
    shown: Slot,
}

impl GcFields for Content {
    fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.shown);
    }
    fn let_go(&self) {
        self.set_shown(None);
    }
}

impl Content {
    /// Whether the content is native. Takes it back first from a bytearray that no other code has
    /// any more.
    #[inline]
    pub(super) fn is_native(&self, py: Python<'_>) -> bool {
        self.shown.is_none() || self.take_back(py)
    }

    /// Whether the content was shown as a bytearray and not taken back.
    #[inline]
    pub(super) fn is_shown(&self) -> bool {
        self.shown.is_some()
    }

    #[cold]
    fn take_back(&self, py: Python<'_>) -> bool {
        let Some(shown) = self.shown.take() else {
            return true;
        };
        let exact = shown.is_exact(&Obj::class_of::<pyo3::types::PyByteArray>(py));
        if exact && shown.is_unique() {
            let bytes = shown.with_buffer(<[u8]>::to_vec);
            if let Ok(bytes) = bytes {
                self.unread().borrow_mut().append(&bytes);
                return true;
            }
        }
        self.shown.set(Some(shown));
        false
    }

    /// Returns a bytearray that is the content from now on.
    pub(super) fn show(&self, py: Python<'_>) -> Result<Obj, Raised> {
        if let Some(shown) = self.shown.get() {
            return Ok(shown);
        }
        let bytes = self.with(|bytes| Obj::bytes(py, bytes))?;
        let shown = Obj::class_of::<pyo3::types::PyByteArray>(py).call1(&bytes)?;
        self.clear();
        self.shown.set(Some(shown.clone()));
        Ok(shown)
    }

    /// Makes another object the content: the program has set `_buffer`.
    pub(super) fn set_shown(&self, value: Option<Obj>) {
        self.clear();
        self.shown.set(value);
    }

    /// Calls `body` with the bytes of a native content; it must not run Python code.
    #[inline]
    pub(super) fn with<R>(&self, body: impl FnOnce(&[u8]) -> R) -> R {
        if let Some(chunk) = self.chunk.get() {
            return body(
                chunk
                    .as_bytes()
                    .map_or(&[], |bytes| &bytes[self.read.get()..]),
            );
        }
        match self.unread.get() {
            Some(unread) => body(unread.borrow().as_slice()),
            None => body(&[]),
        }
    }

    /// The engine's buffer, which is made when it is first needed.
    #[inline]
    fn unread(&self) -> &RefCell<Unread> {
        self.unread.get_or_init(Box::default)
    }

    /// The number of bytes of a native content.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.with(<[u8]>::len)
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        let unread = self.unread.get();
        self.chunk.is_none() && unread.is_none_or(|unread| unread.borrow().is_empty())
    }

    /// Adds the bytes of a `bytes` object that is not empty.
    #[inline]
    pub(super) fn add_object(&self, object: &Obj, bytes: &[u8]) {
        if self.is_empty() {
            self.read.set(0);
            self.chunk.set(Some(object.clone()));
        } else {
            self.append(bytes);
        }
    }

    /// Adds bytes, at least one.
    #[inline]
    pub(super) fn add(&self, py: Python<'_>, bytes: &[u8]) -> Result<(), Raised> {
        if self.is_empty() {
            let object = Obj::bytes(py, bytes)?;
            self.read.set(0);
            self.chunk.set(Some(object));
        } else {
            self.append(bytes);
        }
        Ok(())
    }

    fn append(&self, bytes: &[u8]) {
        let mut unread = self.unread().borrow_mut();
        if let Some(chunk) = self.chunk.take() {
            unread.append(
                chunk
                    .as_bytes()
                    .map_or(&[], |bytes| &bytes[self.read.get()..]),
            );
        }
        unread.append(bytes);
    }

    /// Takes the first `count` bytes, or all if there are fewer, as a `bytes` object.
    #[inline]
    pub(super) fn take(&self, py: Python<'_>, count: usize) -> Result<Obj, Raised> {
        let Some(chunk) = self.chunk.get() else {
            let Some(unread) = self.unread.get() else {
                return Obj::bytes(py, b"");
            };
            let mut unread = unread.borrow_mut();
            let count = count.min(unread.len());
            let taken = Obj::bytes(py, &unread.as_slice()[..count])?;
            unread.consume(count);
            return Ok(taken);
        };
        let bytes = chunk.as_bytes().unwrap_or_default();
        let read = self.read.get();
        let end = read.saturating_add(count).min(bytes.len());
        let taken = if read == 0 && end == bytes.len() {
            chunk.clone()
        } else {
            Obj::bytes(py, &bytes[read..end])?
        };
        self.go_to(end, bytes.len());
        Ok(taken)
    }

    /// Takes the first bytes; `measure`, which must not run Python code, looks at the content and
    /// returns their number. Returns nothing, and sets no exception, if it finds none or there is
    /// no memory.
    #[inline]
    pub(super) fn take_measured(
        &self,
        py: Python<'_>,
        measure: impl FnOnce(&[u8]) -> Option<usize>,
    ) -> Option<Obj> {
        let Some(chunk) = self.chunk.take() else {
            let count = match self.unread.get() {
                Some(unread) => measure(unread.borrow().as_slice())?,
                None => measure(&[])?,
            };
            return unless_no_memory(py, self.take(py, count));
        };
        // No Python code runs until the chunk is back in its place.
        let bytes = chunk.as_bytes().unwrap_or_default();
        let read = self.read.get();
        let rest = &bytes[read..];
        let count = measure(rest).map(|count| count.min(rest.len()));
        if count == Some(bytes.len()) {
            return Some(chunk);
        }
        let data = count.and_then(|count| unless_no_memory(py, Obj::bytes(py, &rest[..count])));
        let position = read + data.as_ref().and(count).unwrap_or(0);
        if position < bytes.len() {
            self.read.set(position);
            self.chunk.set(Some(chunk));
        }
        data
    }

    #[inline]
    fn go_to(&self, position: usize, end: usize) {
        if position < end {
            self.read.set(position);
        } else {
            self.chunk.set(None);
        }
    }

    /// Drops the first `count` bytes, or all if there are fewer.
    pub(super) fn consume(&self, count: usize) {
        if let Some(chunk) = self.chunk.get() {
            let end = chunk.as_bytes().map_or(0, <[u8]>::len);
            self.go_to(self.read.get().saturating_add(count).min(end), end);
        } else if let Some(unread) = self.unread.get() {
            unread.borrow_mut().consume(count);
        }
    }

    /// Drops all bytes.
    pub(super) fn clear(&self) {
        self.chunk.set(None);
        if let Some(unread) = self.unread.get() {
            unread.borrow_mut().clear();
        }
    }
}

#[inline]
fn unless_no_memory(py: Python<'_>, made: Result<Obj, Raised>) -> Option<Obj> {
    made.map_err(|raised| drop(raised.take(py))).ok()
}
