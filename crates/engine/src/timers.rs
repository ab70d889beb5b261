//! Scheduled timers: a heap with the earliest on top.
//!
//! A 4-ary heap of (time, item): an entry is 16 bytes and the four children of a node share a
//! cache line, which beats the binary heap of the standard library by a quarter. The item is
//! asked for its sequence number only when two times are equal, so that equal deadlines run in
//! the order in which they were scheduled and the comparison otherwise touches no other memory.
//!
//! A new timer goes into a list in no order, of which only the earliest time is kept; the list
//! joins the heap when that time has come or the loop is about to wait. Most timers are time-outs
//! and cancelled before: those never cost a place in the heap.
//!
//! Cancelling is a mark on the item and a count here. Removing it at once would need its place
//! in the heap, kept up to date with every move; instead a marked entry is passed over when it
//! reaches the top, and a sweep removes them all once they are the majority. So a million timers
//! scheduled and cancelled stay within twice the live ones, at O(1) each, amortised.
//!
//! No method drops an item: what is not wanted any more goes into the caller's `dropped` list.

use crate::clock::Nanos;
use crate::order::ascending;

/// Children per node.
const ARITY: usize = 4;

/// A sweep needs more than this many cancelled entries to pay off.
const SWEEP_ABOVE: usize = 64;

/// Up to this many entries that are due together are taken one by one.
const SORTED_ABOVE: usize = 64;

/// The number of entries that are looked at to estimate how many are due.
const SAMPLES: usize = 16;

/// Memory for at most this many entries is kept for good.
const RETAINED: usize = 1024;

/// What the heap asks of a scheduled item, which is usually a pointer.
pub trait Timer {
    /// The item's number in the order of scheduling, which decides between equal times. It must not
    /// change while the item is in the heap.
    fn sequence(&self) -> u64;

    /// Whether the item was cancelled. Once true, this must stay true.
    fn is_cancelled(&self) -> bool;
}

/// The timers of one loop: asyncio's `_scheduled`.
#[derive(Debug)]
pub struct Timers<T> {
    /// Every entry is due no later than its children; those of entry `i` are `ARITY` entries
    /// from `ARITY * i + 1` on.
    heap: Vec<HeapEntry<T>>,
    /// Entries that are not in the heap yet, in no order.
    fresh: Vec<HeapEntry<T>>,
    /// A time no later than that of the earliest fresh entry.
    fresh_from: Nanos,
    /// The number of entries cancelled since the last sweep. It is no less than the number of
    /// cancelled entries there are, since those that fell due are not subtracted. So a sweep of `n`
    /// entries follows at least `n / 2` cancellations.
    cancelled: usize,
}

#[derive(Debug)]
struct HeapEntry<T> {
    when: Nanos,
    item: T,
}

impl<T: Timer> HeapEntry<T> {
    #[inline]
    fn is_before(&self, other: &HeapEntry<T>) -> bool {
        self.when < other.when
            || (self.when == other.when && self.item.sequence() < other.item.sequence())
    }
}

/// Whether a quarter of the entries or more seems to be due, by a sample.
fn is_mostly_due<T>(entries: &[HeapEntry<T>], now: Nanos) -> bool {
    let step = (entries.len() / SAMPLES).max(1);
    let samples = entries.iter().step_by(step);
    let due = samples.filter(|entry| entry.when <= now).count();
    due * 4 >= SAMPLES
}

/// The entries that are due, and the others.
fn due_of<T>(entries: Vec<HeapEntry<T>>, now: Nanos) -> (Vec<HeapEntry<T>>, Vec<HeapEntry<T>>) {
    if entries.iter().all(|entry| entry.when <= now) {
        return (entries, Vec::new());
    }
    entries.into_iter().partition(|entry| entry.when <= now)
}

impl<T: Timer> Timers<T> {
    /// An empty heap, which has allocated nothing.
    pub const fn new() -> Timers<T> {
        Timers {
            heap: Vec::new(),
            fresh: Vec::new(),
            fresh_from: Nanos::MAX,
            cancelled: 0,
        }
    }

    /// Schedules `item` for the time `when`.
    #[inline]
    pub fn push(&mut self, when: Nanos, item: T) {
        self.fresh_from = self.fresh_from.min(when);
        self.fresh.push(HeapEntry { when, item });
    }

    /// Moves the fresh entries into the heap. Cancelled ones go to `dropped`.
    fn join(&mut self, dropped: &mut Vec<T>) {
        self.fresh_from = Nanos::MAX;
        let mut fresh = std::mem::take(&mut self.fresh);
        // If most entries are fresh, making the heap anew costs less.
        let is_most = fresh.len() > self.heap.len();
        // Asking touches an item's memory, which is no longer in the cache if there are many.
        let asks = self.cancelled > 0;
        for entry in fresh.drain(..) {
            if asks && entry.item.is_cancelled() {
                self.cancelled = self.cancelled.saturating_sub(1);
                dropped.push(entry.item);
                continue;
            }
            self.heap.push(entry);
            if !is_most {
                self.sift_up(self.heap.len() - 1);
            }
        }
        if is_most {
            self.rebuild();
        }
        if fresh.capacity() <= RETAINED {
            self.fresh = fresh;
        }
    }

    /// The time of the next timer that is not cancelled. Cancelled timers before it are removed and
    /// go to `dropped`.
    #[inline]
    pub fn next_deadline(&mut self, dropped: &mut Vec<T>) -> Option<Nanos> {
        if !self.fresh.is_empty() {
            self.join(dropped);
        }
        loop {
            let top = self.heap.first()?;
            if !top.item.is_cancelled() {
                return Some(top.when);
            }
            dropped.push(self.remove_cancelled_top());
        }
    }

    /// Hands out all entries due at `now`, in order of time and, at equal times, of scheduling.
    ///
    /// Cancelled entries may be among them. Asking each would touch its memory now, and the caller
    /// touches it again when it runs the entry: of many thousand that are due at once, none is
    /// still in the cache by then. Entries that are found to be cancelled all the same go to
    /// `dropped`.
    #[inline]
    pub fn take_due(&mut self, now: Nanos, mut each: impl FnMut(T), dropped: &mut Vec<T>) {
        if self.fresh_from <= now {
            // If a good part is due, sorting that part costs less than moving it into the heap and
            // taking one after another from the top.
            if self.fresh.len() > SORTED_ABOVE && is_mostly_due(&self.fresh, now) {
                return self.take_sorted(now, each);
            }
            self.join(dropped);
        }
        if self.heap.first().is_none_or(|top| top.when > now) {
            return;
        }
        let mut one_by_one = SORTED_ABOVE;
        loop {
            for _ in 0..one_by_one {
                match self.pop_due(now) {
                    Some(item) => each(item),
                    None => return,
                }
            }
            if is_mostly_due(&self.heap, now) {
                return self.take_sorted(now, each);
            }
            one_by_one = (self.heap.len() / 8).max(SORTED_ABOVE);
        }
    }

    /// As `take_due`, by sorting all entries that are due, in the heap and among the fresh ones.
    #[cold]
    fn take_sorted(&mut self, now: Nanos, mut each: impl FnMut(T)) {
        let (mut due, fresh) = due_of(std::mem::take(&mut self.fresh), now);
        self.fresh_from = fresh
            .iter()
            .map(|entry| entry.when)
            .min()
            .unwrap_or(Nanos::MAX);
        self.fresh = fresh;
        if self.heap.first().is_some_and(|top| top.when <= now) {
            let (of_heap, heap) = due_of(std::mem::take(&mut self.heap), now);
            due.extend(of_heap);
            self.heap = heap;
            self.rebuild();
        }
        let mut order = ascending(due.iter().map(|entry| entry.when));
        let when = |place: &u32| due[*place as usize].when;
        for equal in order.chunk_by_mut(|one, other| when(one) == when(other)) {
            if equal.len() > 1 {
                equal.sort_by_key(|place| due[*place as usize].item.sequence());
            }
        }
        let mut due: Vec<_> = due.into_iter().map(Some).collect();
        for place in order {
            if let Some(entry) = due[place as usize].take() {
                each(entry.item);
            }
        }
    }

    #[inline]
    fn pop_due(&mut self, now: Nanos) -> Option<T> {
        let top = self.heap.first()?;
        if top.when > now {
            return None;
        }
        Some(self.remove_top())
    }

    /// Counts one more cancelled entry, O(1). The caller calls it once for an item in the heap that
    /// was just cancelled.
    #[inline]
    pub fn note_cancelled(&mut self) {
        self.cancelled += 1;
    }

    /// Whether [`sweep_if_due`](Timers::sweep_if_due) would sweep: more than 64 entries and more
    /// than half of all are cancelled.
    #[inline]
    pub fn is_sweep_due(&self) -> bool {
        self.cancelled > SWEEP_ABOVE && self.cancelled > self.len() / 2
    }

    /// Moves all cancelled entries to `dropped`, if they are more than 64 and more than half. The
    /// caller calls it after [`note_cancelled`](Timers::note_cancelled), or once in an iteration.
    #[inline]
    pub fn sweep_if_due(&mut self, dropped: &mut Vec<T>) {
        if self.is_sweep_due() {
            self.sweep(dropped);
        }
    }

    /// The number of entries, cancelled ones included.
    #[inline]
    pub fn len(&self) -> usize {
        self.heap.len() + self.fresh.len()
    }

    /// Whether there is no entry, not even a cancelled one.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All entries with their times, cancelled ones included, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Nanos, &T)> {
        self.heap
            .iter()
            .chain(&self.fresh)
            .map(|entry| (entry.when, &entry.item))
    }

    /// Removes and hands out all items, cancelled ones included, in no order, together
    /// with the memory.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.cancelled = 0;
        self.fresh_from = Nanos::MAX;
        std::mem::take(&mut self.heap)
            .into_iter()
            .chain(std::mem::take(&mut self.fresh))
            .map(|entry| entry.item)
    }

    /// The number of entries that fit without a further allocation.
    pub fn capacity(&self) -> usize {
        self.heap.capacity() + self.fresh.capacity()
    }

    fn remove_cancelled_top(&mut self) -> T {
        // Saturating, since an item may have been cancelled before it was pushed and so was
        // never counted.
        self.cancelled = self.cancelled.saturating_sub(1);
        self.remove_top()
    }

    fn remove_top(&mut self) -> T {
        let removed = self.heap.swap_remove(0);
        self.sift_down(0);
        self.give_back();
        removed.item
    }

    #[cold]
    fn sweep(&mut self, dropped: &mut Vec<T>) {
        dropped.reserve(self.cancelled);
        self.remove(|item| item.is_cancelled(), dropped);
        self.cancelled = 0;
    }

    /// Moves the entries for which `is_unwanted` returns true to `dropped`. It looks at each of
    /// them.
    pub fn remove(&mut self, is_unwanted: impl Fn(&T) -> bool, dropped: &mut Vec<T>) {
        let in_heap = self.heap.len();
        for entries in [&mut self.heap, &mut self.fresh] {
            let mut place = 0;
            while place < entries.len() {
                if is_unwanted(&entries[place].item) {
                    dropped.push(entries.swap_remove(place).item);
                } else {
                    place += 1;
                }
            }
        }
        if self.heap.len() < in_heap {
            self.rebuild();
        }
        if self.fresh.is_empty() {
            self.fresh_from = Nanos::MAX;
            self.fresh.shrink_to(RETAINED);
        }
    }

    /// Makes a heap of entries in no order.
    fn rebuild(&mut self) {
        // From the last inner node up: every subtree below is already a heap.
        for place in (0..self.heap.len().div_ceil(ARITY)).rev() {
            self.sift_down(place);
        }
        self.give_back();
    }

    /// Halves the memory when three quarters of it lie idle. Half of what is kept is then free,
    /// so that a heap that swings around the limit is not moved each time.
    #[inline]
    fn give_back(&mut self) {
        let capacity = self.heap.capacity();
        if capacity > RETAINED && self.heap.len() < capacity / 4 {
            self.heap.shrink_to((2 * self.heap.len()).max(RETAINED));
        }
    }

    #[inline]
    fn sift_up(&mut self, mut place: usize) {
        let heap = self.heap.as_mut_slice();
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if !heap[place].is_before(&heap[parent]) {
                break;
            }
            heap.swap(place, parent);
            place = parent;
        }
    }

    #[inline]
    fn sift_down(&mut self, mut place: usize) {
        let heap = self.heap.as_mut_slice();
        loop {
            let first = ARITY * place + 1;
            let last = (first + ARITY).min(heap.len());
            if first >= last {
                break;
            }
            let mut least = first;
            for child in first + 1..last {
                if heap[child].is_before(&heap[least]) {
                    least = child;
                }
            }
            if !heap[least].is_before(&heap[place]) {
                break;
            }
            heap.swap(place, least);
            place = least;
        }
    }
}

impl<T: Timer> Default for Timers<T> {
    fn default() -> Self {
        Timers::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{config, up_to};
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    #[derive(Debug)]
    struct Item {
        sequence: u64,
        cancelled: Cell<bool>,
    }

    impl Timer for Rc<Item> {
        fn sequence(&self) -> u64 {
            self.sequence
        }

        fn is_cancelled(&self) -> bool {
            self.cancelled.get()
        }
    }

    fn item(sequence: u64) -> Rc<Item> {
        Rc::new(Item {
            sequence,
            cancelled: Cell::new(false),
        })
    }

    fn assert_is_heap(timers: &Timers<Rc<Item>>) {
        for place in 1..timers.heap.len() {
            let parent = (place - 1) / ARITY;
            assert!(!timers.heap[place].is_before(&timers.heap[parent]));
        }
    }

    /// Takes the next due entry that is not cancelled. Cancelled ones go to `dropped`.
    fn pop_live<T: Timer>(timers: &mut Timers<T>, now: Nanos, dropped: &mut Vec<T>) -> Option<T> {
        if timers.fresh_from <= now {
            timers.join(dropped);
        }
        loop {
            let item = timers.pop_due(now)?;
            if !item.is_cancelled() {
                return Some(item);
            }
            dropped.push(item);
        }
    }

    #[test]
    fn entry_is_sixteen_bytes() {
        assert_eq!(size_of::<HeapEntry<Box<u64>>>(), 16);
    }

    #[test]
    fn empty_heap_has_nothing_due() {
        let mut timers = Timers::<Rc<Item>>::default();
        let mut dropped = Vec::new();
        assert_eq!(timers.next_deadline(&mut dropped), None);
        assert!(pop_live(&mut timers, Nanos::MAX, &mut dropped).is_none());
        assert!(timers.is_empty());
        assert_eq!(timers.capacity(), 0);
    }

    #[test]
    fn fires_at_its_time_and_not_before() {
        let mut timers = Timers::new();
        let mut dropped = Vec::new();
        timers.push(100, item(0));
        assert!(pop_live(&mut timers, 99, &mut dropped).is_none());
        assert_eq!(timers.next_deadline(&mut dropped), Some(100));
        assert!(pop_live(&mut timers, 100, &mut dropped).is_some());
        assert!(timers.is_empty() && dropped.is_empty());
    }

    #[test]
    fn what_is_removed_leaves_a_heap() {
        let mut timers = Timers::new();
        let mut dropped = Vec::new();
        (0..20).for_each(|sequence| timers.push(100 - sequence, item(sequence)));
        assert_eq!(timers.next_deadline(&mut dropped), Some(81));
        timers.push(1, item(20));
        timers.remove(|item| item.sequence % 4 != 1, &mut dropped);
        assert_is_heap(&timers);
        assert_eq!((timers.len(), dropped.len()), (5, 16));
        assert_eq!(timers.next_deadline(&mut dropped), Some(83));
    }

    #[test]
    fn equal_times_keep_the_order_of_scheduling() {
        let count = if cfg!(miri) { 300 } else { 10_000 };
        let mut timers = Timers::new();
        (0..count).for_each(|sequence| timers.push(7, item(sequence)));
        let mut dropped = Vec::new();
        for sequence in 0..count {
            assert_eq!(
                pop_live(&mut timers, 7, &mut dropped).unwrap().sequence,
                sequence
            );
        }
    }

    #[test]
    fn cancelled_top_is_handed_back() {
        let mut timers = Timers::new();
        let items: Vec<_> = (0..3).map(item).collect();
        for (index, item) in items.iter().enumerate() {
            timers.push(index as Nanos, Rc::clone(item));
        }
        for cancelled in &items[..2] {
            cancelled.cancelled.set(true);
            timers.note_cancelled();
        }
        let mut dropped = Vec::new();
        assert_eq!(timers.next_deadline(&mut dropped), Some(2));
        assert!(Rc::ptr_eq(&dropped[0], &items[0]) && Rc::ptr_eq(&dropped[1], &items[1]));
        assert_eq!((timers.len(), timers.cancelled), (1, 0));
        items[2].cancelled.set(true);
        assert!(pop_live(&mut timers, 2, &mut dropped).is_none());
        assert_eq!((timers.len(), timers.cancelled, dropped.len()), (0, 0, 3));
    }

    #[test]
    fn sweeps_only_a_majority_above_the_limit() {
        let mut timers = Timers::new();
        let items: Vec<_> = (0..2 * SWEEP_ABOVE as u64 + 2).map(item).collect();
        for item in &items {
            timers.push(item.sequence * 31 % 17, Rc::clone(item));
        }
        let mut dropped = Vec::new();
        for item in &items[..SWEEP_ABOVE + 1] {
            item.cancelled.set(true);
            timers.note_cancelled();
            timers.sweep_if_due(&mut dropped);
        }
        assert!(dropped.is_empty(), "exactly half is not more than half");
        items[SWEEP_ABOVE + 1].cancelled.set(true);
        timers.note_cancelled();
        timers.sweep_if_due(&mut dropped);
        assert_eq!(dropped.len(), SWEEP_ABOVE + 2);
        assert!(dropped.iter().all(|item| item.is_cancelled()));
        assert_eq!((timers.len(), timers.cancelled), (SWEEP_ABOVE, 0));
        assert_is_heap(&timers);
    }

    #[test]
    fn scheduling_and_cancelling_does_not_grow_memory() {
        let count = if cfg!(miri) { 1_000 } else { 1_000_000 };
        let mut timers = Timers::new();
        let mut dropped = Vec::new();
        for sequence in 0..count {
            let item = item(sequence);
            timers.push(1_000_000 - sequence % 1000, Rc::clone(&item));
            item.cancelled.set(true);
            timers.note_cancelled();
            timers.sweep_if_due(&mut dropped);
            dropped.clear();
            assert!(timers.len() <= SWEEP_ABOVE + 1);
        }
        assert!(timers.capacity() <= RETAINED);
    }

    #[test]
    fn memory_of_a_burst_is_given_back() {
        let count = if cfg!(miri) { 1_500 } else { 200_000 };
        let mut timers = Timers::new();
        (0..count).for_each(|sequence| timers.push(sequence, item(sequence)));
        let mut dropped = Vec::new();
        while pop_live(&mut timers, Nanos::MAX, &mut dropped).is_some() {}
        assert!(timers.capacity() <= RETAINED, "{}", timers.capacity());
    }

    #[test]
    fn no_item_is_dropped_inside() {
        let mut timers = Timers::new();
        let items: Vec<_> = (0..200).map(item).collect();
        for item in &items {
            timers.push(item.sequence, Rc::clone(item));
        }
        for item in &items[..150] {
            item.cancelled.set(true);
            timers.note_cancelled();
        }
        let mut dropped = Vec::new();
        timers.sweep_if_due(&mut dropped);
        items[150].cancelled.set(true);
        timers.note_cancelled();
        timers.next_deadline(&mut dropped);
        assert_eq!(dropped.len(), 151);
        assert_eq!(timers.iter().count(), 49);
        let left: Vec<_> = timers.drain().collect();
        assert_eq!(left.len(), 49);
        assert!(timers.is_empty());
        assert!(items.iter().all(|item| Rc::strong_count(item) == 2));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(Nanos),
        Cancel(usize),
        Advance(Nanos),
        Look,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            // Few different times, so that many are equal.
            4 => (0u64..40).prop_map(Step::Push),
            4 => any::<usize>().prop_map(Step::Cancel),
            1 => (0u64..10).prop_map(Step::Advance),
            1 => Just(Step::Look),
        ]
    }

    proptest! {
        #![proptest_config(config(50))]

        /// If many timers are due they are sorted, if few they are taken one by one: the order is
        /// the same.
        #[test]
        fn many_due_come_in_the_order_of_one_by_one(
            times in prop::collection::vec(0u64..300, 1..up_to(4000)),
            now in 0u64..300,
        ) {
            let mut timers = Timers::new();
            for (sequence, when) in times.iter().enumerate() {
                timers.push(*when, item(sequence as u64));
            }
            let mut taken = Vec::new();
            timers.take_due(now, |item| taken.push(item.sequence), &mut Vec::new());
            let mut expected: Vec<_> = (0..times.len() as u64)
                .filter(|sequence| times[*sequence as usize] <= now)
                .collect();
            expected.sort_by_key(|sequence| (times[*sequence as usize], *sequence));
            prop_assert_eq!(timers.len(), times.len() - expected.len());
            prop_assert_eq!(taken, expected);
            assert_is_heap(&timers);
        }
    }

    proptest! {
        #![proptest_config(config(400))]

        /// Random scheduling, cancelling and firing against a sorted map of the live timers.
        #[test]
        fn agrees_with_a_sorted_map(steps in prop::collection::vec(step(), 1..up_to(600))) {
            let mut timers = Timers::new();
            let mut model = BTreeMap::new();
            let (mut now, mut sequence, mut handed_back) = (0, 0, 0usize);
            let mut dropped = Vec::new();
            for step in steps {
                match step {
                    Step::Push(delay) => {
                        let item = item(sequence);
                        timers.push(now + delay, Rc::clone(&item));
                        model.insert((now + delay, sequence), item);
                        sequence += 1;
                    }
                    Step::Cancel(choice) => {
                        let Some(key) = model.keys().nth(choice % model.len().max(1)).copied()
                        else {
                            continue;
                        };
                        model.remove(&key).unwrap().cancelled.set(true);
                        timers.note_cancelled();
                        timers.sweep_if_due(&mut dropped);
                    }
                    Step::Advance(by) => {
                        now += by;
                        let mut due = Vec::new();
                        timers.take_due(now, |item| due.push(item), &mut dropped);
                        for item in due {
                            if item.is_cancelled() {
                                dropped.push(item);
                                continue;
                            }
                            let ((when, expected), _) = model.pop_first().unwrap();
                            prop_assert!(when <= now, "fired early");
                            prop_assert_eq!(item.sequence, expected);
                        }
                        prop_assert!(model.keys().all(|&(when, _)| when > now));
                    }
                    Step::Look => {
                        let expected = model.keys().next().map(|&(when, _)| when);
                        prop_assert_eq!(timers.next_deadline(&mut dropped), expected);
                    }
                }
                prop_assert!(dropped.iter().all(|item| item.is_cancelled()));
                handed_back += dropped.drain(..).count();
                assert_is_heap(&timers);
                // Those that fell due were not looked at, so the count may be too high.
                prop_assert!(timers.len() <= model.len() + timers.cancelled);
                prop_assert!(timers.len() <= (2 * model.len()).max(model.len() + SWEEP_ABOVE) + 1);
            }
            let live: Vec<_> = timers.drain().collect();
            let cancelled = live.iter().filter(|item| item.is_cancelled()).count();
            prop_assert_eq!(live.len() - cancelled, model.len());
            prop_assert!(handed_back + cancelled <= sequence as usize);
        }

        /// A heap with many cancelled entries in random places is a heap after the sweep.
        #[test]
        fn sweep_keeps_the_order(
            times in prop::collection::vec((0u64..50, prop::bool::weighted(0.7)), 100..up_to(1000))
        ) {
            let mut timers = Timers::new();
            let mut expected = Vec::new();
            let mut marked = Vec::new();
            for (sequence, (when, cancel)) in times.into_iter().enumerate() {
                let item = item(sequence as u64);
                timers.push(when, Rc::clone(&item));
                if sequence == 50 {
                    // The rest stays outside the heap.
                    timers.next_deadline(&mut Vec::new());
                }
                if cancel {
                    marked.push(item);
                } else {
                    expected.push((when, sequence as u64));
                }
            }
            for item in &marked {
                item.cancelled.set(true);
                timers.note_cancelled();
            }
            let mut dropped = Vec::new();
            let due = timers.is_sweep_due();
            timers.sweep_if_due(&mut dropped);
            prop_assert_eq!(dropped.len(), if due { marked.len() } else { 0 });
            assert_is_heap(&timers);
            expected.sort_unstable();
            for (when, sequence) in expected {
                prop_assert!(when == 0 || pop_live(&mut timers, when - 1, &mut dropped).is_none());
                prop_assert_eq!(pop_live(&mut timers, when, &mut dropped).unwrap().sequence, sequence);
            }
            prop_assert!(pop_live(&mut timers, Nanos::MAX, &mut dropped).is_none());
        }
    }
}
