//! Any bytes, split anywhere: `Records` finds the ends that a scan of the whole stream finds.
#![no_main]

use engine::Records;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

const HEADER: usize = 5;
const MOST: usize = 16 * 1024 + 2048;

/// Parts of a stream: what looks like a record, or bytes that may be anything.
#[derive(Arbitrary, Debug)]
enum Part {
    Record { kind: u8, minor: u8, size: u16 },
    Bytes(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
struct Input {
    parts: Vec<Part>,
    /// Sizes of what arrives at once; the rest arrives together.
    arrivals: Vec<u16>,
    most: u16,
}

/// The ends of the records, and whether something that is no record follows the last.
fn scan(stream: &[u8]) -> (Vec<usize>, Option<usize>) {
    let (mut ends, mut at) = (Vec::new(), 0);
    while let Some(header) = stream.get(at..at + HEADER) {
        let size = usize::from(header[3]) << 8 | usize::from(header[4]);
        if size > MOST || header[1] != 3 {
            return (ends, Some(at + HEADER));
        }
        at += HEADER + size;
        if at > stream.len() {
            break;
        }
        ends.push(at);
    }
    (ends, None)
}

fuzz_target!(|input: Input| {
    let mut stream = Vec::new();
    for part in &input.parts {
        match part {
            Part::Record { kind, minor, size } => {
                stream.extend_from_slice(&[*kind, 3, *minor]);
                let size = usize::from(*size).min(MOST);
                stream.extend_from_slice(&(size as u16).to_be_bytes());
                stream.resize(stream.len() + size, 0x16);
            }
            Part::Bytes(bytes) => stream.extend_from_slice(bytes),
        }
    }
    let (ends, garbage) = scan(&stream);
    let most = usize::from(input.most);
    let mut records = Records::default();
    let mut arrivals = input.arrivals.iter().map(|size| usize::from(*size).max(1));
    let (mut at, mut arrived, mut found) = (0, 0, 0);
    while at < stream.len() {
        if at == arrived {
            arrived = arrivals
                .next()
                .map_or(stream.len(), |size| stream.len().min(arrived + size));
        }
        let piece = records.cut(&stream[at..arrived], most);
        assert!(piece.size > 0 && at + piece.size <= arrived);
        let start = at;
        at += piece.size;
        if records.is_lost() {
            // Not before the header that is none has been seen, and then all is passed on.
            let garbage = garbage.expect("a stream of records is not lost");
            assert!(start < garbage && garbage <= arrived);
            assert_eq!((at, piece.whole), (arrived, 0));
            // Records that came together with it may be passed on uncounted.
            assert_eq!(found, ends.iter().filter(|end| **end <= start).count());
            return;
        }
        found += piece.whole;
        assert!(found <= ends.len());
        let last = if found == 0 { 0 } else { ends[found - 1] };
        if piece.whole > 0 {
            assert_eq!(at, last, "a piece with records ends with one");
            assert!(piece.whole == 1 || piece.size <= most);
        } else {
            assert_eq!(at, arrived, "what does not end is passed on whole");
        }
        assert_eq!(records.partial(), at - last);
    }
    assert_eq!(found, ends.len());
    assert!(garbage.is_none(), "a header that is none was not noticed");
});
