//! The ready queue: what runs in this iteration or the next, first in, first out.
//!
//! A ring buffer, so that pushing and popping touch one cache line and allocate nothing. A plain
//! ring keeps the memory of its largest burst for ever. This one gives it back once a few rounds
//! have passed without use for it. Both directions stay O(1) per entry, amortised: a buffer of n
//! entries is given back after n pops at the earliest, or after it has run empty four times.
//!
//! The queue has no priorities, and the loop removes nothing from the middle: a cancelled entry
//! stays in its place and is skipped when its turn comes. Only a program that looks into the queue
//! inserts and removes entries by their place.

use std::collections::{VecDeque, vec_deque};

/// A buffer of at most this many entries is kept for good.
const RETAINED: usize = 4096;

/// How many times a large buffer runs empty before it is given back.
const ROUNDS: usize = 4;

/// A first-in, first-out queue of entries: asyncio's `_ready`.
#[derive(Debug)]
pub struct Ready<E> {
    entries: VecDeque<E>,
    /// How long a buffer above `RETAINED` was not needed: one for each entry popped, and a quarter
    /// of the capacity for each time the queue ran empty. Above the capacity, the buffer is shrunk.
    disuse: usize,
}

impl<E> Ready<E> {
    /// An empty queue, which has allocated nothing.
    pub const fn new() -> Ready<E> {
        Ready {
            entries: VecDeque::new(),
            disuse: 0,
        }
    }

    /// Adds an entry at the end.
    #[inline]
    pub fn push(&mut self, entry: E) {
        self.entries.push_back(entry);
    }

    /// Takes the entry that has waited longest.
    #[inline]
    pub fn pop(&mut self) -> Option<E> {
        let entry = self.entries.pop_front();
        let capacity = self.entries.capacity();
        if capacity > RETAINED {
            self.disuse += 1;
            if self.disuse > capacity || self.entries.is_empty() {
                self.shrink_if_unused();
            }
        }
        entry
    }

    /// Adds an entry that runs after `after` others, at the end if there are fewer.
    pub fn insert(&mut self, after: usize, entry: E) {
        self.entries.insert(after.min(self.entries.len()), entry);
    }

    /// Takes out the entry that runs after `after` others.
    pub fn remove(&mut self, after: usize) -> Option<E> {
        self.entries.remove(after)
    }

    /// The number of entries. An iteration reads it once and runs that many, so that entries pushed
    /// meanwhile wait for the next iteration.
    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry that runs after `after` others.
    #[inline]
    pub fn get(&self, after: usize) -> Option<&E> {
        self.entries.get(after)
    }

    /// Whether there is no entry.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries in the order in which they will run.
    pub fn iter(&self) -> vec_deque::Iter<'_, E> {
        self.entries.iter()
    }

    /// Empties the queue and hands the entries out in order, together with the memory. The queue
    /// may be used again while they are looked through.
    pub fn drain(&mut self) -> vec_deque::IntoIter<E> {
        self.disuse = 0;
        std::mem::take(&mut self.entries).into_iter()
    }

    /// How many entries fit before the buffer grows.
    pub fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    #[inline(never)]
    fn shrink_if_unused(&mut self) {
        let capacity = self.entries.capacity();
        if self.entries.is_empty() {
            self.disuse += capacity / ROUNDS;
        }
        if self.disuse > capacity {
            self.disuse = 0;
            let needed = self.entries.len().saturating_mul(2).max(RETAINED);
            if needed <= capacity / 2 {
                self.entries.shrink_to(needed);
            }
        }
    }
}

impl<E> Default for Ready<E> {
    fn default() -> Self {
        Ready::new()
    }
}

impl<'a, E> IntoIterator for &'a Ready<E> {
    type Item = &'a E;
    type IntoIter = vec_deque::Iter<'a, E>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{config, up_to};
    use proptest::prelude::*;

    const BURST: usize = if cfg!(miri) { 9_000 } else { 1_000_000 };

    #[test]
    fn starts_empty_without_memory() {
        let mut ready = Ready::<u64>::new();
        assert_eq!(ready.capacity(), 0);
        assert!(ready.is_empty());
        assert_eq!(ready.pop(), None);
    }

    #[test]
    fn drained_queue_may_be_used_at_once() {
        let mut ready = Ready::default();
        (0..3).for_each(|entry| ready.push(entry));
        assert_eq!(ready.iter().copied().collect::<Vec<_>>(), [0, 1, 2]);
        let drained = ready.drain();
        ready.push(9);
        assert_eq!(drained.collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((&ready).into_iter().copied().collect::<Vec<_>>(), [9]);
    }

    #[test]
    fn entries_come_and_go_in_the_middle() {
        let mut ready = Ready::default();
        (0..3).for_each(|entry| ready.push(entry));
        ready.insert(1, 7);
        ready.insert(0, 8);
        ready.insert(99, 9);
        assert_eq!(
            ready.iter().copied().collect::<Vec<_>>(),
            [8, 0, 7, 1, 2, 9]
        );
        assert_eq!((ready.remove(2), ready.remove(9)), (Some(7), None));
        assert_eq!(ready.drain().collect::<Vec<_>>(), [8, 0, 1, 2, 9]);
    }

    #[test]
    fn burst_gives_memory_back_when_the_queue_runs_empty() {
        let mut ready = Ready::new();
        (0..BURST).for_each(|entry| ready.push(entry));
        (0..BURST).for_each(|entry| assert_eq!(ready.pop(), Some(entry)));
        for entry in 0..ROUNDS {
            ready.push(entry);
            assert_eq!(ready.pop(), Some(entry));
        }
        assert!(ready.capacity() <= RETAINED, "{}", ready.capacity());
    }

    #[test]
    fn burst_gives_memory_back_though_the_queue_never_runs_empty() {
        let mut ready = Ready::new();
        (0..BURST).for_each(|entry| ready.push(entry));
        let capacity = ready.capacity();
        (2..BURST).for_each(|entry| assert_eq!(ready.pop(), Some(entry - 2)));
        for _ in 0..2 * capacity {
            let entry = ready.pop().unwrap();
            ready.push(entry);
            if ready.capacity() <= RETAINED {
                break;
            }
        }
        assert_eq!(ready.len(), 2);
        assert!(ready.capacity() <= RETAINED, "{}", ready.capacity());
    }

    #[test]
    fn small_buffer_is_kept() {
        let mut ready = Ready::new();
        (0..1000).for_each(|entry| ready.push(entry));
        let capacity = ready.capacity();
        for _ in 0..3 * capacity {
            ready.pop();
            ready.push(0);
        }
        while ready.pop().is_some() {}
        assert_eq!(ready.capacity(), capacity);
    }

    proptest! {
        #![proptest_config(config(200))]

        /// Bursts and drains of random sizes against a plain list.
        #[test]
        fn keeps_order(steps in prop::collection::vec((0..up_to(6000), 0..up_to(7000)), 1..up_to(16))) {
            let mut ready = Ready::new();
            let (mut pushed, mut popped) = (0u64, 0u64);
            for (pushes, pops) in steps {
                for _ in 0..pushes {
                    ready.push(pushed);
                    pushed += 1;
                }
                prop_assert_eq!(ready.len() as u64, pushed - popped);
                for _ in 0..pops {
                    let entry = ready.pop();
                    if popped < pushed {
                        prop_assert_eq!(entry, Some(popped));
                        popped += 1;
                    } else {
                        prop_assert_eq!(entry, None);
                    }
                }
                prop_assert!(ready.iter().copied().eq(popped..pushed));
            }
            prop_assert!(ready.drain().eq(popped..pushed));
            prop_assert!(ready.is_empty());
        }
    }
}
