//! How many datagrams a socket receives at one readiness.
//!
//! A call that can receive several datagrams costs more than a call that receives one. So a socket
//! to which datagrams come one by one asks for one, and at every eighth readiness for two, to
//! notice when they begin to come together. From then on it asks for twice as many while it gets
//! all that it asked for, and for as many as it got once it gets fewer.

use std::cell::Cell;

/// While datagrams come one by one, every readiness whose number is a multiple of this asks for
/// two.
const READS_BETWEEN_TRIES: u32 = 8;

/// The batch of one socket.
#[derive(Debug)]
pub struct Batch {
    /// How many datagrams the next readiness asks for.
    size: Cell<usize>,
    /// The number of readinesses that have asked for one datagram, or for two to try.
    reads: Cell<u32>,
}

impl Batch {
    /// The batch of a new socket, which asks for one datagram.
    pub const fn new() -> Batch {
        Batch {
            size: Cell::new(1),
            reads: Cell::new(0),
        }
    }

    /// The number of datagrams to ask for, now that the socket is readable.
    #[inline]
    pub fn begin(&self) -> usize {
        let size = self.size.get();
        if size > 1 {
            return size;
        }
        let reads = self.reads.get().wrapping_add(1);
        self.reads.set(reads);
        if reads % READS_BETWEEN_TRIES == 0 {
            2
        } else {
            1
        }
    }

    /// Notes that `received` of `asked` datagrams were there. The next readiness asks for at most
    /// `most`.
    #[inline]
    pub fn end(&self, asked: usize, received: usize, most: usize) {
        if asked > 1 {
            let next = if received == asked {
                asked.saturating_mul(2)
            } else {
                received.max(1)
            };
            self.size.set(next.min(most));
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Batch::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{config, up_to};
    use proptest::prelude::*;

    const MOST: usize = 64;

    /// Plays one readiness at which this many datagrams are there. Returns the number asked for.
    fn receive(batch: &Batch, waiting: &mut usize) -> usize {
        let asked = batch.begin();
        let received = asked.min(*waiting);
        *waiting -= received;
        batch.end(asked, received, MOST);
        asked
    }

    #[test]
    fn one_by_one_two_are_tried_every_eighth_time() {
        let batch = Batch::new();
        let asked: Vec<usize> = (0..16).map(|_| receive(&batch, &mut 1)).collect();
        assert_eq!(asked, [1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 2]);
    }

    #[test]
    fn batches_grow_with_what_comes_and_shrink_with_it() {
        let batch = Batch::new();
        (0..7).for_each(|_| assert_eq!(receive(&batch, &mut 1), 1));
        let mut waiting = 200;
        let asked: Vec<usize> = (0..8).map(|_| receive(&batch, &mut waiting)).collect();
        assert_eq!(asked, [2, 4, 8, 16, 32, 64, 64, 64]);
        assert_eq!(
            receive(&batch, &mut 5),
            10,
            "the last batch brought ten of 64"
        );
        assert_eq!(receive(&batch, &mut 1), 5);
        assert_eq!(receive(&batch, &mut 1), 1);
    }

    #[test]
    fn a_readiness_without_a_datagram_asks_for_one_again() {
        let batch = Batch::new();
        batch.end(8, 0, MOST);
        assert_eq!(batch.begin(), 1);
    }

    proptest! {
        #![proptest_config(config(300))]

        /// With any datagrams: each readiness asks for at least one and at most the limit, and,
        /// except for tries, for no more than twice as many as the one before it brought.
        #[test]
        fn batches_follow_what_comes(
            arrivals in prop::collection::vec(0usize..150, 1..up_to(100)),
        ) {
            let batch = Batch::new();
            let mut waiting = 0;
            let mut last = 1;
            for arriving in arrivals {
                waiting += arriving;
                let before = waiting;
                let asked = receive(&batch, &mut waiting);
                prop_assert!((1..=MOST).contains(&asked));
                prop_assert!(asked <= (2 * last).max(2));
                last = before - waiting;
            }
        }
    }
}
