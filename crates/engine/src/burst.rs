//! How many connections a server takes at one readiness of its listening socket.
//!
//! An `accept` that finds nothing costs as much as five other system calls. With clients that
//! arrive one at a time, every second call would be such a one. So a server takes no more than
//! came together the last time; if more wait, the selector reports the socket again at its next
//! poll, and then twice as many are taken.

use std::cell::Cell;

/// The burst of one listening socket.
#[derive(Debug)]
pub struct Burst {
    /// The maximum number of connections to take at one readiness.
    most: Cell<usize>,
    /// The number of the poll after which `most` connections were there, and perhaps more.
    filled: Cell<Option<u32>>,
}

impl Burst {
    /// A burst without a bound, until the first `accept` that finds nothing.
    pub const fn new() -> Burst {
        Burst {
            most: Cell::new(usize::MAX),
            filled: Cell::new(None),
        }
    }

    /// The number of connections to take, at most `limit`, now that the selector's poll number
    /// `poll` has reported the socket.
    pub fn begin(&self, limit: usize, poll: u32) -> usize {
        if self.filled.replace(Some(poll)) == Some(poll.wrapping_sub(1)) {
            self.most.set(self.most.get().saturating_mul(2));
        }
        self.most.get().min(limit)
    }

    /// Notes that an `accept` has found nothing after `taken` connections.
    pub fn end(&self, taken: usize) {
        self.most.set(taken.max(1));
        self.filled.set(None);
    }
}

impl Default for Burst {
    fn default() -> Self {
        Burst::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{config, up_to};
    use proptest::prelude::*;

    /// A server with a queue of connections. Returns the number of `accept` calls at one readiness.
    fn serve(burst: &Burst, waiting: &mut usize, limit: usize, poll: u32) -> usize {
        let most = burst.begin(limit, poll);
        for taken in 0..most {
            if *waiting == 0 {
                burst.end(taken);
                return taken + 1;
            }
            *waiting -= 1;
        }
        most
    }

    #[test]
    fn clients_that_come_one_by_one_take_one_call_each() {
        let burst = Burst::new();
        assert_eq!(serve(&burst, &mut 1, 100, 1), 2, "nothing is known yet");
        // Other descriptors are reported in between, so that the polls do not follow each other.
        for poll in [3, 5, 7, 9] {
            assert_eq!(serve(&burst, &mut 1, 100, poll), 1);
        }
    }

    #[test]
    fn a_rush_doubles_what_is_taken() {
        let burst = Burst::new();
        serve(&burst, &mut 1, 100, 1);
        let mut waiting = 1000;
        let calls: Vec<usize> = (2..12)
            .map(|poll| serve(&burst, &mut waiting, 101, poll))
            .collect();
        assert_eq!(calls, [1, 2, 4, 8, 16, 32, 64, 101, 101, 101]);
    }

    #[test]
    fn polls_are_counted_around() {
        let burst = Burst::new();
        burst.end(3);
        assert_eq!(burst.begin(100, u32::MAX), 3);
        assert_eq!(burst.begin(100, 0), 6);
    }

    proptest! {
        #![proptest_config(config(300))]

        /// With any clients: a readiness with a client takes at least one and at most the limit, a
        /// socket that is always reported again is emptied, and no readiness makes more than one
        /// call in vain.
        #[test]
        fn every_client_is_taken(
            arrivals in prop::collection::vec((0usize..40, any::<bool>()), 1..up_to(80)),
            limit in 1usize..20,
        ) {
            let burst = Burst::new();
            let (mut waiting, mut poll) = (0, 0);
            for (arriving, skips) in arrivals {
                waiting += arriving;
                poll += 1 + u32::from(skips);
                if waiting == 0 {
                    continue;
                }
                let before = waiting;
                let calls = serve(&burst, &mut waiting, limit, poll);
                let taken = before - waiting;
                prop_assert!(taken >= 1 && taken <= limit);
                prop_assert!(calls <= taken + 1);
            }
            while waiting > 0 {
                let before = waiting;
                poll += 1;
                serve(&burst, &mut waiting, limit, poll);
                prop_assert!(waiting < before);
            }
        }
    }
}
