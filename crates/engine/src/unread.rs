//! Bytes that have come in and were not read yet, and a search for separators in them.

use memchr::memmem;

use crate::sys::find_byte;

/// The maximum room, in bytes, that is kept when everything was read.
const KEPT_ROOM: usize = 64 * 1024;

/// Bytes that are added at the end and taken from the start.
///
/// Bytes that were taken stay in place until they outnumber those that are left. So taking a line
/// costs its own length, however much waits behind it.
#[derive(Debug, Default)]
pub struct Unread {
    bytes: Vec<u8>,
    /// The number of bytes that are taken: fewer than all, or none.
    taken: usize,
}

impl Unread {
    /// The number of bytes that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Whether no byte waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes that wait.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Adds bytes at the end.
    #[inline]
    pub fn append(&mut self, bytes: &[u8]) {
        if self.taken > self.len() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes `count` bytes from the start, or all if there are fewer.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        if count < self.len() {
            self.taken += count;
        } else {
            self.clear();
        }
    }

    /// Takes all bytes.
    pub fn clear(&mut self) {
        self.taken = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_ROOM {
            self.bytes = Vec::new();
        }
    }
}

/// The outcome of a search for the end of a message. Each number is of bytes from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// The length of the message, separator included.
    Found(usize),
    /// The place where a separator begins, beyond the limit.
    FoundBeyond(usize),
    /// A place beyond the limit before which no separator begins.
    NoneWithin(usize),
    /// The first place where a separator can still begin; there is none yet.
    NotYet(usize),
}

/// Looks for the first end of a separator. None begins before `offset`.
///
/// `separators` are sorted by length, the shortest first, and none of them is empty. If several
/// have the same end, the shortest counts. `limit` is the greatest length of a message without its
/// separator, in bytes.
#[inline]
pub fn search(bytes: &[u8], separators: &[&[u8]], offset: usize, limit: usize) -> Search {
    let (Some(shortest), Some(longest)) = (separators.first(), separators.last()) else {
        return Search::NotYet(offset);
    };
    if bytes.len() < offset.saturating_add(shortest.len()) {
        return Search::NotYet(offset);
    }
    let first = match separators {
        [only] => find(&bytes[offset..], only).map(|start| (start + only.len(), start)),
        _ => separators
            .iter()
            .filter_map(|separator| {
                let start = find(&bytes[offset..], separator)?;
                Some((start + separator.len(), start))
            })
            // Of equal ends this takes the first, which is that of the shortest separator.
            .min_by_key(|(end, _)| *end),
    };
    match first {
        Some((_, start)) if offset + start > limit => Search::FoundBeyond(offset + start),
        Some((end, _)) => Search::Found(offset + end),
        None => {
            let offset = (bytes.len() + 1).saturating_sub(longest.len());
            if offset > limit {
                Search::NoneWithin(offset)
            } else {
                Search::NotYet(offset)
            }
        }
    }
}

#[inline]
fn find(bytes: &[u8], separator: &[u8]) -> Option<usize> {
    match separator {
        [byte] => find_byte(*byte, bytes),
        separator => memmem::find(bytes, separator),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{config, up_to};
    use proptest::prelude::*;

    /// As `search`, byte by byte.
    fn plain_search(bytes: &[u8], separators: &[&[u8]], limit: usize) -> Search {
        for end in 0..=bytes.len() {
            for separator in separators {
                if bytes[..end].ends_with(separator) {
                    let start = end - separator.len();
                    return if start > limit {
                        Search::FoundBeyond(start)
                    } else {
                        Search::Found(end)
                    };
                }
            }
        }
        let longest = separators.last().map_or(0, |separator| separator.len());
        let shortest = separators.first().map_or(0, |separator| separator.len());
        let offset = if bytes.len() < shortest {
            0
        } else {
            (bytes.len() + 1).saturating_sub(longest)
        };
        if offset > limit {
            Search::NoneWithin(offset)
        } else {
            Search::NotYet(offset)
        }
    }

    proptest! {
        #![proptest_config(config(256))]

        #[test]
        fn finds_what_a_plain_search_finds(
            bytes in proptest::collection::vec(0u8..3, 0..40),
            mut separators in
                proptest::collection::vec(proptest::collection::vec(0u8..3, 1..4), 1..4),
            limit in 1usize..50,
        ) {
            separators.sort_by_key(Vec::len);
            let separators: Vec<&[u8]> = separators.iter().map(Vec::as_slice).collect();
            let expected = plain_search(&bytes, &separators, limit);
            prop_assert_eq!(search(&bytes, &separators, 0, limit), expected);
        }

        #[test]
        fn goes_on_where_it_has_stopped(
            pieces in proptest::collection::vec(proptest::collection::vec(0u8..3, 1..6), 1..8),
            mut separators in
                proptest::collection::vec(proptest::collection::vec(0u8..3, 1..4), 1..3),
        ) {
            separators.sort_by_key(Vec::len);
            let separators: Vec<&[u8]> = separators.iter().map(Vec::as_slice).collect();
            let mut unread = Unread::default();
            let mut offset = 0;
            for piece in pieces {
                unread.append(&piece);
                let expected = plain_search(unread.as_slice(), &separators, usize::MAX);
                let found = search(unread.as_slice(), &separators, offset, usize::MAX);
                prop_assert_eq!(found, expected);
                offset = match found {
                    Search::NotYet(offset) => offset,
                    Search::Found(end) => {
                        unread.consume(end);
                        0
                    }
                    other => panic!("{other:?} without a limit"),
                };
            }
        }

        #[test]
        fn holds_what_was_not_taken(
            steps in proptest::collection::vec((0usize..300, 0usize..400), 0..up_to(60)),
        ) {
            let mut unread = Unread::default();
            let mut model: Vec<u8> = Vec::new();
            for (number, (added, taken)) in steps.into_iter().enumerate() {
                let piece = vec![number as u8; added];
                unread.append(&piece);
                model.extend(&piece);
                prop_assert_eq!(unread.as_slice(), model.as_slice());
                unread.consume(taken);
                model.drain(..taken.min(model.len()));
                prop_assert_eq!(unread.as_slice(), model.as_slice());
                prop_assert_eq!((unread.len(), unread.is_empty()), (model.len(), model.is_empty()));
            }
        }
    }

    #[test]
    fn gives_back_room_that_was_much() {
        let mut unread = Unread::default();
        unread.append(&vec![0; KEPT_ROOM + 1]);
        unread.consume(usize::MAX);
        assert_eq!(unread.bytes.capacity(), 0);
    }
}
