//! Where TLS records end in a stream of bytes.
//!
//! A record begins with a header of five bytes, the last two of which say how long the rest is, in
//! every version of TLS. Whoever knows where the last whole record ends need not ask OpenSSL for
//! more than it can give, which it answers with an exception. And records that go through OpenSSL
//! one after another stay in the processor's cache, where a hundred kilobytes at once do not.

/// The size of a record's header, in bytes.
const HEADER: usize = 5;

/// The longest rest that a header may announce, in bytes: a full record and what encryption adds.
const MOST: usize = 16 * 1024 + 2048;

/// Finds the ends of records in a stream that comes in any pieces.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// The header of the record that is not complete yet.
    header: [u8; HEADER],
    /// The number of bytes of the header that have come.
    seen: usize,
    /// The number of bytes of the record that are missing after the header.
    missing: usize,
    /// Whether the ends are unknown: the stream does not consist of records, or a part of it was
    /// not seen.
    lost: bool,
}

/// The next bytes to pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Their number.
    pub size: usize,
    /// The number of records that end in them. If one does, the piece ends with the last of them.
    pub whole: usize,
}

impl Records {
    /// Whether the ends are unknown. If so, the other answers mean nothing.
    #[inline]
    pub const fn is_lost(&self) -> bool {
        self.lost
    }

    /// Notes that a part of the stream came by another way, so the ends are unknown from now on.
    pub const fn lose(&mut self) {
        self.lost = true;
    }

    /// The number of bytes of an incomplete record that have been passed on.
    pub fn partial(&self) -> usize {
        if self.seen < HEADER {
            return self.seen;
        }
        let size = u16::from_be_bytes([self.header[3], self.header[4]]);
        HEADER + usize::from(size) - self.missing
    }

    /// Cuts the next piece off: whole records of about `most` bytes together, or one if it is
    /// larger, or all bytes if not even one ends in them. The stream goes on after the piece.
    pub fn cut(&mut self, bytes: &[u8], most: usize) -> Piece {
        let mut piece = Piece { size: 0, whole: 0 };
        while piece.size < bytes.len() {
            let mut next = self.clone();
            let taken = next.record(&bytes[piece.size..]);
            let complete = next.seen == 0;
            if piece.whole > 0 && (!complete || piece.size + taken > most) {
                break;
            }
            *self = next;
            piece.size += taken;
            piece.whole += usize::from(complete);
            if self.lost {
                return Piece {
                    size: bytes.len(),
                    whole: 0,
                };
            }
        }
        piece
    }

    /// Goes to the end of one record, or of the bytes. Returns the number of bytes up to there.
    fn record(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        if self.seen < HEADER {
            taken = bytes.len().min(HEADER - self.seen);
            self.header[self.seen..self.seen + taken].copy_from_slice(&bytes[..taken]);
            self.seen += taken;
            if self.seen < HEADER {
                return taken;
            }
            self.missing = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
            self.lost |= self.missing > MOST || self.header[1] != 3;
        }
        let rest = self.missing.min(bytes.len() - taken);
        self.missing -= rest;
        if self.missing == 0 {
            self.seen = 0;
        }
        taken + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{config, up_to};
    use proptest::prelude::*;

    fn record(size: usize) -> Vec<u8> {
        let mut bytes = vec![23, 3, 3];
        bytes.extend_from_slice(&(size as u16).to_be_bytes());
        bytes.resize(HEADER + size, 0xff);
        bytes
    }

    #[test]
    fn whole_records_are_gathered_up_to_the_size_asked_for() {
        let stream = [record(10), record(0), record(5), record(100)].concat();
        let mut records = Records::default();
        assert_eq!(records.cut(&stream, 32), Piece { size: 30, whole: 3 });
        let piece = Piece {
            size: 105,
            whole: 1,
        };
        assert_eq!(records.cut(&stream[30..], 32), piece);
        assert_eq!(records.cut(&[], 32), Piece { size: 0, whole: 0 });
    }

    #[test]
    fn what_is_not_complete_is_passed_on_by_itself() {
        let stream = [record(10), record(10)].concat();
        let mut records = Records::default();
        let whole = Piece { size: 15, whole: 1 };
        assert_eq!(records.cut(&stream[..20], 100), whole);
        assert_eq!(
            records.cut(&stream[15..20], 100),
            Piece { size: 5, whole: 0 }
        );
        assert_eq!(records.partial(), 5);
        assert_eq!(
            records.cut(&stream[20..29], 100),
            Piece { size: 9, whole: 0 }
        );
        assert_eq!(records.partial(), 14);
        assert_eq!(records.cut(&stream[29..], 100), Piece { size: 1, whole: 1 });
        assert_eq!(records.partial(), 0);
        assert_eq!(records.cut(&[23, 3], 100), Piece { size: 2, whole: 0 });
        assert_eq!(records.partial(), 2);
    }

    #[test]
    fn other_streams_are_recognized() {
        for stream in [b"GET / HTTP/1.1\r\n".as_slice(), &[22, 3, 1, 0xff, 0xff, 1]] {
            let mut records = Records::default();
            let piece = records.cut(stream, 100);
            assert_eq!((piece.size, piece.whole), (stream.len(), 0));
            assert!(records.is_lost());
        }
        let mut records = Records::default();
        records.lose();
        assert!(records.is_lost());
    }

    proptest! {
        #![proptest_config(config(300))]

        /// With any split of the stream: the pieces put together give it again, and end where
        /// records do.
        #[test]
        fn pieces_end_where_records_do(
            sizes in prop::collection::vec(0usize..60, 1..up_to(30)),
            splits in prop::collection::vec(1usize..80, 1..up_to(60)),
            most in 1usize..100,
        ) {
            let stream: Vec<u8> = sizes.iter().flat_map(|size| record(*size)).collect();
            let mut ends = vec![0];
            for size in &sizes {
                ends.push(ends[ends.len() - 1] + HEADER + size);
            }
            let (mut records, mut at, mut whole) = (Records::default(), 0, 0);
            for split in splits.iter().cycle() {
                let end = (at + split).min(stream.len());
                while at < end {
                    let piece = records.cut(&stream[at..end], most);
                    prop_assert!(piece.size > 0);
                    at += piece.size;
                    whole += piece.whole;
                    if piece.whole > 0 {
                        prop_assert_eq!(ends[whole], at);
                        prop_assert!(piece.whole == 1 || piece.size <= most);
                    } else {
                        prop_assert_eq!(at, end);
                    }
                }
                if at == stream.len() {
                    break;
                }
            }
            prop_assert_eq!(whole, sizes.len());
            prop_assert!(!records.is_lost());
        }
    }
}
