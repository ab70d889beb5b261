//! The SSLObject between its two MemoryBIOs, called without attribute lookups.

use std::cell::{Cell, RefCell};

use cpython::{BytesBuilder, Obj, Python, Raised, Slot, Visit};
use engine::Records;
use engine::records::Piece;

use super::imports::imports;

/// asyncio's `max_size`, in bytes: the most that it reads at once.
pub(super) const MAX_SIZE: usize = 256 * 1024;

/// The largest size of one record, in bytes, with what encryption adds. If no more bytes are there,
/// they are one record in most cases.
const ONE_RECORD: usize = 16 * 1024 + 256;

/// The initial size in bytes of the object into which everything is decrypted at once.
const ROOM: usize = 2 * MAX_SIZE;

/// The SSLObject and its buffers.
#[derive(Default)]
pub(super) struct Session {
    object: Slot,
    incoming: Slot,
    outgoing: Slot,
    /// Bound methods, of the object inside the SSLObject if it is a plain one.
    read: Slot,
    write: Slot,
    pending: Slot,
    feed: Slot,
    drain: Slot,
    /// The SSLObject is a plain one, whose behaviour is known.
    plain: Cell<bool>,
    /// The MemoryBIO of received bytes is a plain one, which may be lent memory.
    borrows: Cell<bool>,
    /// The last read has filled its buffer: the SSLObject may hold more of the record.
    rest: Cell<bool>,
    /// The ends of the records in the received bytes.
    records: RefCell<Records>,
    /// All received bytes were read, except those of an incomplete record.
    drained: Cell<bool>,
}

/// Plain bytes of the peer, and whether it has ended the connection.
pub(super) struct Decrypted {
    /// Plain bytes, if there are any.
    pub(super) data: Option<Obj>,
    /// The peer has sent close_notify.
    pub(super) closed: bool,
}

impl Session {
    /// Makes the buffers and the SSLObject. Raises what `wrap_bio` raises.
    pub(super) fn open(
        &self,
        context: &Obj,
        server_side: bool,
        hostname: Option<Obj>,
    ) -> Result<(), Raised> {
        let py = context.py();
        let bio = imports(py)?.memory_bio.get(py);
        let (incoming, outgoing) = (bio.call0()?, bio.call0()?);
        let names = [
            Obj::str(py, "server_side")?,
            Obj::str(py, "server_hostname")?,
        ];
        let hostname = hostname.unwrap_or_else(|| Obj::none(py));
        let object = context.method_named(
            pyo3::intern!(py, "wrap_bio"),
            &[&incoming, &outgoing, &Obj::bool(py, server_side), &hostname],
            Some(&Obj::tuple(py, &names)?),
        )?;
        self.set_incoming(incoming)?;
        self.set_outgoing(outgoing)?;
        self.set_object(object)
    }

    /// asyncio's `_sslobj`.
    pub(super) fn object(&self) -> Option<Obj> {
        self.object.get()
    }

    pub(super) fn set_object(&self, object: Obj) -> Result<(), Raised> {
        let py = object.py();
        self.drained.set(false);
        let parts = |object: Obj| -> Result<[Obj; 3], Raised> {
            let read = object.attr(pyo3::intern!(py, "read"))?;
            let write = object.attr(pyo3::intern!(py, "write"))?;
            Ok([object, read, write])
        };
        // What is lent memory must not be code of the program.
        let mut plain_parts = None;
        if imports(py)?.is_plain(&object)? {
            let inside = parts(object.attr(pyo3::intern!(py, "_sslobj"))?)?;
            let [_, read, write] = &inside;
            let built_in = read.is_built_in_function() && write.is_built_in_function();
            plain_parts = built_in.then_some(inside);
        }
        self.plain.set(plain_parts.is_some());
        let [inside, read, write] = match plain_parts {
            Some(parts) => parts,
            None => parts(object.clone())?,
        };
        self.read.set(Some(read));
        self.write.set(Some(write));
        self.pending
            .set(inside.attr_opt(pyo3::intern!(py, "pending"))?);
        self.object.set(Some(object));
        Ok(())
    }

    /// asyncio's `_incoming`. Code that has it may write to it unseen, so nothing is known about
    /// its content from now on.
    pub(super) fn incoming(&self) -> Option<Obj> {
        self.drained.set(false);
        self.records.borrow_mut().lose();
        self.incoming.get()
    }

    pub(super) fn set_incoming(&self, bio: Obj) -> Result<(), Raised> {
        let py = bio.py();
        let feed = bio.attr(pyo3::intern!(py, "write"))?;
        let plain = bio.is_exact(imports(py)?.memory_bio.get(py));
        self.borrows.set(plain && feed.is_built_in_function());
        self.feed.set(Some(feed));
        self.incoming.set(Some(bio));
        Ok(())
    }

    /// asyncio's `_outgoing`.
    pub(super) fn outgoing(&self) -> Option<Obj> {
        self.outgoing.get()
    }

    pub(super) fn set_outgoing(&self, bio: Obj) -> Result<(), Raised> {
        let drain = bio.attr(pyo3::intern!(bio.py(), "read"))?;
        self.drain.set(Some(drain));
        self.outgoing.set(Some(bio));
        Ok(())
    }

    /// The number of encrypted bytes that were not read yet.
    #[inline]
    pub(super) fn incoming_size(&self) -> Result<usize, Raised> {
        size_of_bio(self.incoming.get())
    }

    /// The number of encrypted bytes that were not sent yet.
    #[inline]
    pub(super) fn outgoing_size(&self) -> Result<usize, Raised> {
        size_of_bio(self.outgoing.get())
    }

    /// Takes encrypted bytes in, to be read later.
    pub(super) fn feed(&self, py: Python<'_>, bytes: &[u8]) -> Result<(), Raised> {
        self.drained.set(false);
        let mut rest = bytes;
        while !rest.is_empty() {
            let piece = self.records.borrow_mut().cut(rest, MAX_SIZE);
            rest = &rest[piece.size..];
        }
        self.store(py, bytes)
    }

    #[inline]
    fn store(&self, py: Python<'_>, bytes: &[u8]) -> Result<(), Raised> {
        let Some(feed) = self.feed.get() else {
            return Ok(());
        };
        if self.borrows.get() {
            return Obj::lend(py, bytes, |lent| feed.call1(lent).map(drop))?;
        }
        feed.call1(&Obj::bytes(py, bytes)?).map(drop)
    }

    /// Takes encrypted bytes in, from any bytes-like object.
    pub(super) fn feed_object(&self, data: &Obj) -> Result<(), Raised> {
        let bytes = data.with_buffer(<[u8]>::to_vec)?;
        self.feed(data.py(), &bytes)
    }

    /// Whether the SSLObject takes anything that has a buffer.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.plain.get()
    }

    /// Whether [`Session::decrypt`] may be called.
    #[inline]
    pub(super) fn is_drained(&self) -> bool {
        self.drained.get()
    }

    /// Decrypts received bytes, record by record; all before them must have been read.
    #[inline]
    pub(super) fn decrypt(&self, py: Python<'_>, bytes: &[u8]) -> Result<Decrypted, Raised> {
        // The bytes of an incomplete record, of which nothing could be read.
        let before = self.records.borrow().partial();
        let piece = self.records.borrow_mut().cut(bytes, ONE_RECORD);
        if piece.whole == 1 && piece.size == bytes.len() {
            // One whole record is by far the most frequent case. It needs no buffer but the bytes
            // object itself.
            self.drained.set(false);
            self.store(py, bytes)?;
            let data = self.read_bytes(py, before + piece.size)?;
            let size = data.as_ref().and_then(Obj::as_bytes).map(<[u8]>::len);
            self.drained.set(size != Some(0));
            return Ok(Decrypted {
                data: data.filter(|_| size != Some(0)),
                closed: size == Some(0),
            });
        }
        let room = before + bytes.len();
        self.decrypt_pieces(py, bytes, piece, BytesBuilder::new(py, room)?)
    }

    fn decrypt_pieces(
        &self,
        py: Python<'_>,
        bytes: &[u8],
        first: Piece,
        mut builder: BytesBuilder,
    ) -> Result<Decrypted, Raised> {
        self.drained.set(false);
        let (mut rest, mut piece) = (bytes, first);
        let mut closed = false;
        loop {
            let (now, later) = rest.split_at(piece.size);
            rest = later;
            self.store(py, now)?;
            let mut unread = if self.records.borrow().is_lost() {
                usize::MAX
            } else {
                piece.whole
            };
            while unread > 0 {
                match self.read_more(py, &mut builder)? {
                    None => break,
                    Some(0) => {
                        closed = true;
                        break;
                    }
                    Some(_) if self.rest.get() => {}
                    Some(_) => unread -= 1,
                }
            }
            if closed {
                if !rest.is_empty() {
                    self.feed(py, rest)?;
                }
                break;
            }
            if rest.is_empty() {
                break;
            }
            piece = self.records.borrow_mut().cut(rest, ONE_RECORD);
        }
        self.drained
            .set(!closed && !self.records.borrow().is_lost());
        let data = match builder.filled() {
            0 => None,
            _ => Some(builder.finish(py)?),
        };
        Ok(Decrypted { data, closed })
    }

    /// Takes the encrypted bytes that wait to be sent out of their MemoryBIO.
    #[inline]
    pub(super) fn drain(&self) -> Result<Option<Obj>, Raised> {
        let Some(drain) = self.drain.get() else {
            return Ok(None);
        };
        let data = drain.call0()?;
        let empty = match data.as_bytes() {
            Some(bytes) => bytes.is_empty(),
            None => data.length()? == 0,
        };
        Ok((!empty).then_some(data))
    }

    /// Makes one step of the handshake; returns whether it is complete.
    pub(super) fn do_handshake(&self, py: Python<'_>) -> Result<bool, Raised> {
        self.step(py, pyo3::intern!(py, "do_handshake"))
    }

    /// Makes one step of the closing handshake; returns whether it is complete.
    pub(super) fn unwrap(&self, py: Python<'_>) -> Result<bool, Raised> {
        self.step(py, pyo3::intern!(py, "unwrap"))
    }

    fn step(
        &self,
        py: Python<'_>,
        name: &pyo3::Bound<'_, pyo3::types::PyString>,
    ) -> Result<bool, Raised> {
        let Some(object) = self.object.get() else {
            return Ok(false);
        };
        let answer = object.method(name, &[]);
        Ok(unless_more_is_wanted(py, answer)?.is_some())
    }

    /// Encrypts data. Returns the number of bytes that it took, or nothing if the peer has to send
    /// first.
    #[inline]
    pub(super) fn write(&self, data: &Obj) -> Result<Option<usize>, Raised> {
        let Some(write) = self.write.get() else {
            return Ok(None);
        };
        let answer = write.call1(data);
        count(unless_more_is_wanted(data.py(), answer)?)
    }

    /// Decrypts into a buffer. Returns the number of bytes, or nothing if there are none.
    #[inline]
    pub(super) fn read_into(&self, size: usize, room: &Obj) -> Result<Option<usize>, Raised> {
        let Some(read) = self.read.get() else {
            return Ok(None);
        };
        let py = room.py();
        let answer = read.call(&[&Obj::int(py, size as i64)?, room]);
        let count = count(unless_more_is_wanted(py, answer)?)?;
        self.rest.set(count.is_some_and(|count| count >= size));
        Ok(count)
    }

    #[inline]
    fn read_bytes(&self, py: Python<'_>, size: usize) -> Result<Option<Obj>, Raised> {
        let Some(read) = self.read.get() else {
            return Ok(None);
        };
        let answer = read.call1(&Obj::int(py, size as i64)?);
        unless_more_is_wanted(py, answer)
    }

    /// An upper bound of the plain bytes that can be read; 0 if there are certainly none.
    #[inline]
    pub(super) fn most_to_read(&self) -> Result<usize, Raised> {
        let mut most = self.incoming_size()?;
        if !self.plain.get() {
            return Ok(most.max(MAX_SIZE));
        }
        if self.rest.get() {
            if let Some(pending) = self.pending.get() {
                most += usize::try_from(pending.call0()?.to_i64()?).unwrap_or(0);
            }
        }
        Ok(most)
    }

    /// Decrypts all received bytes into one bytes object.
    pub(super) fn read_all(&self, py: Python<'_>) -> Result<Decrypted, Raised> {
        let incoming = self.read_to_the_end(py)?;
        let known = self.plain.get() && !self.records.borrow().is_lost();
        self.drained.set(known && !incoming.closed);
        Ok(incoming)
    }

    fn read_to_the_end(&self, py: Python<'_>) -> Result<Decrypted, Raised> {
        let most = self.most_to_read()?;
        let nothing = Decrypted {
            data: None,
            closed: false,
        };
        if most == 0 {
            return Ok(nothing);
        }
        if !self.plain.get() || most > ONE_RECORD {
            return self.read_many(py, BytesBuilder::new(py, most.min(ROOM))?);
        }
        let Some(data) = self.read_bytes(py, most)? else {
            self.rest.set(false);
            return Ok(nothing);
        };
        let bytes = data.as_bytes().unwrap_or_default();
        if bytes.is_empty() {
            return Ok(Decrypted {
                data: None,
                closed: true,
            });
        }
        self.rest.set(bytes.len() >= most);
        let more = self.most_to_read()?;
        if more == 0 {
            return Ok(Decrypted {
                data: Some(data),
                closed: false,
            });
        }
        // The bytes are several small records.
        let mut builder = BytesBuilder::new(py, bytes.len() + more)?;
        builder.extend(py, bytes)?;
        self.read_many(py, builder)
    }

    fn read_many(&self, py: Python<'_>, mut builder: BytesBuilder) -> Result<Decrypted, Raised> {
        let mut closed = false;
        loop {
            match self.read_more(py, &mut builder)? {
                None => break,
                Some(0) => {
                    closed = true;
                    break;
                }
                Some(_) => {}
            }
            if self.most_to_read()? == 0 {
                break;
            }
        }
        let data = match builder.filled() {
            0 => None,
            _ => Some(builder.finish(py)?),
        };
        Ok(Decrypted { data, closed })
    }

    #[inline]
    fn read_more(
        &self,
        py: Python<'_>,
        builder: &mut BytesBuilder,
    ) -> Result<Option<usize>, Raised> {
        if self.plain.get() {
            return builder.fill(py, |room, size| self.read_into(size, room));
        }
        // A program's own class must not see memory that is not filled yet.
        let Some(data) = self.read_bytes(py, MAX_SIZE)? else {
            return Ok(None);
        };
        let bytes = data.as_bytes().unwrap_or_default();
        builder.extend(py, bytes)?;
        Ok(Some(bytes.len()))
    }

    pub(super) fn traverse(&self, visit: &mut Visit<'_>) {
        for slot in self.slots() {
            visit.slot(slot);
        }
    }

    pub(super) fn clear(&self) {
        for slot in self.slots() {
            slot.set(None);
        }
    }

    fn slots(&self) -> [&Slot; 8] {
        [
            &self.object,
            &self.incoming,
            &self.outgoing,
            &self.read,
            &self.write,
            &self.pending,
            &self.feed,
            &self.drain,
        ]
    }
}

#[inline]
fn size_of_bio(bio: Option<Obj>) -> Result<usize, Raised> {
    match bio {
        Some(bio) => {
            let pending = bio.attr(pyo3::intern!(bio.py(), "pending"))?.to_i64()?;
            Ok(usize::try_from(pending).unwrap_or(0))
        }
        None => Ok(0),
    }
}

/// Turns the exception that asks for more bytes from the peer into nothing.
#[inline]
fn unless_more_is_wanted(
    py: Python<'_>,
    answer: Result<Obj, Raised>,
) -> Result<Option<Obj>, Raised> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(raised) => {
            if imports(py)?.wants_more(py, &raised) {
                drop(raised.take(py));
                return Ok(None);
            }
            Err(raised)
        }
    }
}

#[inline]
fn count(answer: Option<Obj>) -> Result<Option<usize>, Raised> {
    match answer {
        Some(answer) => Ok(Some(usize::try_from(answer.to_i64()?).unwrap_or(0))),
        None => Ok(None),
    }
}
