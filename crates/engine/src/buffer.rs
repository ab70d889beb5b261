//! Bytes waiting to be sent.
//!
//! The write buffer keeps the chunks as they were handed in and joins nothing: many small ones
//! leave in one `sendmsg`, and a large one is never copied. Its length in bytes is a field, since
//! flow control asks for it at every write. Joining would copy everything and, for one large
//! buffer, move the rest to the front after each partial send.
//!
//! Chunks must give the same bytes each time they are asked, so a caller that accepts changeable
//! memory copies it first.

use std::collections::{VecDeque, vec_deque};
use std::io::IoSlice;
use std::ops::Deref;

/// The maximum number of chunks in one `sendmsg` (`IOV_MAX`).
pub const IOV_MAX: usize = 1024;

/// Places for chunks that an empty buffer keeps for the next burst.
const RETAINED: usize = 64;

/// At most this many slices are gathered without allocating.
const INLINE: usize = 16;

/// The chunks of one transport that the socket has not taken yet: asyncio's `_buffer`.
#[derive(Debug)]
pub struct WriteBuffer<C> {
    /// None of them is empty.
    chunks: VecDeque<C>,
    /// The number of bytes of the first chunk that are sent already. It is always less than the
    /// chunk's length.
    sent: usize,
    /// The number of bytes in all chunks, without those sent.
    len: usize,
}

impl<C: AsRef<[u8]>> WriteBuffer<C> {
    /// An empty buffer, which has allocated nothing.
    pub const fn new() -> WriteBuffer<C> {
        WriteBuffer {
            chunks: VecDeque::new(),
            sent: 0,
            len: 0,
        }
    }

    /// Adds a chunk at the end. An empty chunk is handed back.
    #[inline]
    pub fn push(&mut self, chunk: C) -> Option<C> {
        self.push_from(chunk, 0)
    }

    /// Adds a chunk whose first `sent` bytes the socket has taken already. A chunk that is sent
    /// whole is handed back.
    #[inline]
    pub fn push_from(&mut self, chunk: C, sent: usize) -> Option<C> {
        let size = chunk.as_ref().len();
        if sent >= size {
            return Some(chunk);
        }
        if self.chunks.is_empty() {
            self.sent = sent;
        } else {
            debug_assert_eq!(sent, 0, "only the first chunk may be partly sent");
        }
        self.len += size - sent;
        self.chunks.push_back(chunk);
        None
    }

    /// The number of bytes that wait, O(1): asyncio's `get_write_buffer_size()`.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no byte waits.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of chunks that wait.
    #[inline]
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// The unsent bytes of the first chunk, for a plain `send` when there is no other chunk.
    #[inline]
    pub fn first(&self) -> Option<&[u8]> {
        self.chunks
            .front()
            .map(|chunk| &chunk.as_ref()[self.sent..])
    }

    /// The bytes that wait, in order, as the argument of one `sendmsg`: at most `max` slices and
    /// never more than [`IOV_MAX`].
    pub fn slices(&self, max: usize) -> IoSlices<'_> {
        let count = self.chunks.len().min(max).min(IOV_MAX);
        let slices = self
            .chunks
            .iter()
            .take(count)
            .enumerate()
            .map(|(index, chunk)| {
                let sent = if index == 0 { self.sent } else { 0 };
                IoSlice::new(&chunk.as_ref()[sent..])
            });
        let mut gathered = IoSlices {
            inline: [IoSlice::new(&[]); INLINE],
            count: 0,
            many: Vec::new(),
        };
        if count > INLINE {
            gathered.many = slices.collect();
        } else {
            gathered.count = count;
            for (place, slice) in gathered.inline.iter_mut().zip(slices) {
                *place = slice;
            }
        }
        gathered
    }

    /// Removes the first `count` bytes, which the socket has taken. Chunks that are sent whole go
    /// to `done`, in order. If `count` exceeds the length, all is removed.
    pub fn consume(&mut self, count: usize, done: &mut dyn FnMut(C)) {
        let mut left = count.min(self.len);
        self.len -= left;
        while left > 0 {
            let Some(first) = self.chunks.front() else {
                break;
            };
            let size = first.as_ref().len() - self.sent;
            if left < size {
                self.sent += left;
                break;
            }
            left -= size;
            self.sent = 0;
            self.chunks.pop_front().into_iter().for_each(&mut *done);
        }
        if self.chunks.is_empty() && self.chunks.capacity() > RETAINED {
            self.chunks.shrink_to(RETAINED);
        }
    }

    /// Empties the buffer and hands all chunks out, together with the memory.
    pub fn clear(&mut self) -> vec_deque::IntoIter<C> {
        self.sent = 0;
        self.len = 0;
        std::mem::take(&mut self.chunks).into_iter()
    }

    /// The chunks that are not yet sent whole, in order.
    pub fn iter(&self) -> vec_deque::Iter<'_, C> {
        self.chunks.iter()
    }
}

impl<C: AsRef<[u8]>> Default for WriteBuffer<C> {
    fn default() -> Self {
        WriteBuffer::new()
    }
}

impl<'a, C: AsRef<[u8]>> IntoIterator for &'a WriteBuffer<C> {
    type Item = &'a C;
    type IntoIter = vec_deque::Iter<'a, C>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The slices for one `sendmsg`, borrowed from a [`WriteBuffer`]. Reads as `&[IoSlice]`.
#[derive(Debug)]
pub struct IoSlices<'a> {
    /// The slices when they are few: the first `count` of these.
    inline: [IoSlice<'a>; INLINE],
    count: usize,
    /// The slices when they are more than `INLINE`; then `count` is 0.
    many: Vec<IoSlice<'a>>,
}

impl<'a> Deref for IoSlices<'a> {
    type Target = [IoSlice<'a>];

    #[inline]
    fn deref(&self) -> &[IoSlice<'a>] {
        if self.many.is_empty() {
            &self.inline[..self.count]
        } else {
            &self.many
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{config, up_to};
    use proptest::prelude::*;

    fn flat(buffer: &WriteBuffer<Vec<u8>>) -> Vec<u8> {
        let slices = buffer.slices(usize::MAX);
        slices.iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn empty_chunks_are_handed_back() {
        let mut buffer = WriteBuffer::default();
        assert_eq!(buffer.push(Vec::new()), Some(Vec::new()));
        assert_eq!(buffer.push_from(vec![1, 2], 2), Some(vec![1, 2]));
        assert!(buffer.is_empty());
        assert_eq!((buffer.chunks(), buffer.first()), (0, None));
        assert!(buffer.slices(8).is_empty());
    }

    #[test]
    fn partly_sent_chunk_keeps_its_rest() {
        let mut buffer = WriteBuffer::new();
        assert_eq!(buffer.push_from(vec![1, 2, 3], 2), None);
        buffer.push(vec![4]);
        assert_eq!((buffer.len(), buffer.first()), (2, Some(&[3u8][..])));
        assert_eq!(flat(&buffer), [3, 4]);
        assert_eq!((&buffer).into_iter().count(), 2);
    }

    #[test]
    fn finished_chunks_come_back_in_order() {
        let mut buffer = WriteBuffer::new();
        for chunk in [vec![1, 2], vec![3], vec![4, 5, 6]] {
            buffer.push(chunk);
        }
        let mut done = Vec::new();
        buffer.consume(1, &mut |chunk| done.push(chunk));
        assert!(done.is_empty());
        buffer.consume(3, &mut |chunk| done.push(chunk));
        assert_eq!(done, [vec![1, 2], vec![3]]);
        assert_eq!((buffer.len(), flat(&buffer)), (2, vec![5, 6]));
        buffer.consume(100, &mut |chunk| done.push(chunk));
        assert_eq!((done.len(), buffer.len(), buffer.chunks()), (3, 0, 0));
    }

    #[test]
    fn slices_are_bounded() {
        let mut buffer = WriteBuffer::new();
        for index in 0..IOV_MAX + 10 {
            buffer.push(vec![index as u8]);
        }
        assert_eq!(buffer.slices(usize::MAX).len(), IOV_MAX);
        assert_eq!(buffer.slices(3).len(), 3);
        assert_eq!(buffer.slices(INLINE).len(), INLINE);
        assert_eq!(&*buffer.slices(INLINE + 1)[INLINE], &[INLINE as u8]);
        assert_eq!(buffer.slices(0).len(), 0);
    }

    #[test]
    fn cleared_buffer_hands_everything_out() {
        let mut buffer = WriteBuffer::new();
        buffer.push_from(vec![1, 2], 1);
        buffer.push(vec![3]);
        assert_eq!(buffer.clear().collect::<Vec<_>>(), [vec![1, 2], vec![3]]);
        assert!(buffer.is_empty());
        buffer.push(vec![7]);
        assert_eq!(flat(&buffer), [7]);
    }

    #[test]
    fn burst_gives_memory_back() {
        let mut buffer = WriteBuffer::new();
        for _ in 0..500 {
            buffer.push([0u8; 3]);
        }
        let mut finished = 0;
        buffer.consume(1500, &mut |_| finished += 1);
        assert_eq!(finished, 500);
        assert!(buffer.is_empty());
        assert!(buffer.chunks.capacity() <= RETAINED);
    }

    proptest! {
        #![proptest_config(config(300))]

        /// Random chunks and random partial sends give the same stream, with an exact length.
        #[test]
        fn partial_sends_reproduce_the_stream(
            steps in prop::collection::vec((0usize..40, 0usize..60, 1usize..24), 1..up_to(80))
        ) {
            let mut buffer = WriteBuffer::new();
            let (mut written, mut received) = (Vec::new(), Vec::new());
            let (mut stored, mut finished) = (Vec::new(), Vec::new());
            for (size, takes, max) in steps {
                let chunk: Vec<u8> = (0..size).map(|index| (written.len() + index) as u8).collect();
                written.extend_from_slice(&chunk);
                if size > 0 {
                    stored.push(chunk.clone());
                }
                prop_assert_eq!(buffer.push(chunk).is_some(), size == 0);
                let sent = {
                    let slices = buffer.slices(max);
                    prop_assert!(slices.iter().all(|slice| !slice.is_empty()));
                    let offered: Vec<u8> =
                        slices.iter().flat_map(|slice| slice.to_vec()).collect();
                    let sent = takes.min(offered.len());
                    received.extend_from_slice(&offered[..sent]);
                    sent
                };
                buffer.consume(sent, &mut |chunk| finished.push(chunk));
                prop_assert_eq!(buffer.len(), written.len() - received.len());
                prop_assert_eq!(buffer.is_empty(), buffer.chunks() == 0);
                prop_assert_eq!(finished.len() + buffer.chunks(), stored.len());
            }
            received.extend(flat(&buffer));
            prop_assert_eq!(received, written);
            finished.extend(buffer.clear());
            prop_assert_eq!(finished, stored);
        }
    }
}
