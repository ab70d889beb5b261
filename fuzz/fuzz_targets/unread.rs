//! Any bytes, appended and taken in any pieces: `Unread` is a queue of bytes, and the search finds
//! the separator that a search of everything from the start finds.
#![no_main]

use engine::unread::{Search, Unread, search};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Step {
    Append {
        bytes: Vec<u8>,
        repeated: u8,
    },
    Consume(u16),
    Clear,
    /// Read messages as they come, each search from where the last one ended.
    Search,
}

#[derive(Arbitrary, Debug)]
struct Input {
    separators: Vec<Vec<u8>>,
    limit: u16,
    steps: Vec<Step>,
}

/// Where the first separator ends, and the shortest that ends there begins.
fn naive(bytes: &[u8], separators: &[&[u8]]) -> Option<(usize, usize)> {
    (0..=bytes.len()).find_map(|end| {
        let mut ending = separators
            .iter()
            .filter(|separator| bytes[..end].ends_with(separator));
        ending.next().map(|separator| (end - separator.len(), end))
    })
}

fuzz_target!(|input: Input| {
    let limit = usize::from(input.limit);
    let mut separators: Vec<&[u8]> = input.separators.iter().map(|bytes| &bytes[..]).collect();
    separators.retain(|separator| !separator.is_empty());
    separators.truncate(4);
    separators.sort_by_key(|separator| separator.len());
    let (mut unread, mut model, mut offset) = (Unread::default(), Vec::new(), 0);
    for step in input.steps {
        match step {
            Step::Append { bytes, repeated } => {
                let bytes = bytes.repeat(usize::from(repeated) + 1);
                unread.append(&bytes);
                model.extend_from_slice(&bytes);
            }
            Step::Consume(count) => {
                unread.consume(count.into());
                model.drain(..model.len().min(count.into()));
                offset = 0;
            }
            Step::Clear => {
                unread.clear();
                model.clear();
                offset = 0;
            }
            Step::Search => {
                let expected = naive(&model, &separators);
                match search(unread.as_slice(), &separators, offset, limit) {
                    Search::Found(end) => {
                        let (start, expected_end) = expected.expect("there is none");
                        assert_eq!(end, expected_end);
                        assert!(start <= limit);
                        unread.consume(end);
                        model.drain(..end);
                        offset = 0;
                    }
                    Search::FoundBeyond(start) => {
                        assert_eq!(expected.map(|(start, _)| start), Some(start));
                        assert!(start > limit);
                    }
                    Search::NoneWithin(from) => {
                        assert_eq!(expected, None);
                        assert!(from > limit);
                    }
                    Search::NotYet(from) => {
                        assert_eq!(expected, None);
                        offset = from;
                    }
                }
            }
        }
        assert_eq!(unread.as_slice(), model);
        assert_eq!(
            (unread.len(), unread.is_empty()),
            (model.len(), model.is_empty())
        );
    }
});
