//! How a loop waits for its descriptors and its timers.
//!
//! Usually it waits in its [`Selector`]. A loop on a manual clock must not: no time passes on that
//! clock while the thread sleeps. Such a loop waits by a [`Jump`], which moves the clock to the
//! next deadline where the selector finds nothing.

use std::io;

use crate::clock::{Clock, Nanos};
use crate::selector::{Readiness, Selector};

/// What a loop can wait by.
pub trait WaitsForReadiness {
    /// Waits until a descriptor is ready or until `timeout` nanoseconds of the loop's clock have
    /// passed, without end for `None`, not at all for 0. `events` holds what is ready afterwards
    /// and nothing else. The wait may end early, without events.
    ///
    /// # Errors
    /// The system's, which no correct use brings about.
    fn wait(&self, timeout: Option<Nanos>, events: &mut Vec<Readiness>) -> io::Result<()>;
}

impl WaitsForReadiness for Selector {
    #[inline]
    fn wait(&self, timeout: Option<Nanos>, events: &mut Vec<Readiness>) -> io::Result<()> {
        Selector::wait(self, timeout, events)
    }
}

/// Waits on a manual clock: looks whether a descriptor is ready, and moves the clock instead of
/// sleeping if none is. Without a deadline it waits for a descriptor as the selector does, since
/// only another thread or process can end that wait.
#[derive(Debug)]
pub struct Jump<'a, W> {
    clock: &'a Clock,
    selector: &'a W,
}

impl<'a, W: WaitsForReadiness> Jump<'a, W> {
    /// A wait that moves `clock` where `selector` finds nothing.
    pub const fn new(clock: &'a Clock, selector: &'a W) -> Jump<'a, W> {
        Jump { clock, selector }
    }
}

impl<W: WaitsForReadiness> WaitsForReadiness for Jump<'_, W> {
    fn wait(&self, timeout: Option<Nanos>, events: &mut Vec<Readiness>) -> io::Result<()> {
        let Some(timeout) = timeout else {
            return self.selector.wait(None, events);
        };
        self.selector.wait(Some(0), events)?;
        if events.is_empty() {
            self.clock.advance(timeout);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pacing::Pacing;
    use crate::ready::Ready;
    use crate::testing::{config, up_to};
    use crate::timers::{Timer, Timers};
    use proptest::prelude::*;
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;

    /// A selector without a system: each look finds the next entry of the list.
    #[derive(Default)]
    struct Scripted {
        found: RefCell<VecDeque<Vec<Readiness>>>,
        /// The timeouts of the waits.
        asked: RefCell<Vec<Option<Nanos>>>,
    }

    impl WaitsForReadiness for Scripted {
        fn wait(&self, timeout: Option<Nanos>, events: &mut Vec<Readiness>) -> io::Result<()> {
            events.clear();
            self.asked.borrow_mut().push(timeout);
            events.extend(self.found.borrow_mut().pop_front().unwrap_or_default());
            Ok(())
        }
    }

    fn readable(token: u64) -> Readiness {
        Readiness {
            token,
            readable: true,
            writable: false,
        }
    }

    #[test]
    fn clock_jumps_where_nothing_is_ready() {
        let (clock, selector) = (Clock::manual(10), Scripted::default());
        let mut events = vec![readable(1)];
        Jump::new(&clock, &selector)
            .wait(Some(5), &mut events)
            .unwrap();
        assert!(events.is_empty());
        assert_eq!(clock.now(), 15);
        assert_eq!(
            *selector.asked.borrow(),
            [Some(0)],
            "no real time is waited for"
        );
    }

    #[test]
    fn clock_stands_where_something_is_ready() {
        let (clock, selector) = (Clock::manual(10), Scripted::default());
        selector.found.borrow_mut().push_back(vec![readable(7)]);
        let mut events = Vec::new();
        Jump::new(&clock, &selector)
            .wait(Some(5), &mut events)
            .unwrap();
        assert_eq!(events, [readable(7)]);
        assert_eq!(clock.now(), 10);
    }

    #[test]
    fn without_a_deadline_the_selector_waits() {
        let (clock, selector) = (Clock::manual(10), Scripted::default());
        let mut events = Vec::new();
        Jump::new(&clock, &selector)
            .wait(None, &mut events)
            .unwrap();
        assert_eq!(clock.now(), 10);
        assert_eq!(*selector.asked.borrow(), [None]);
    }

    /// A timer: its number, and how often it schedules itself again after the same time.
    struct Item {
        number: u64,
        period: Nanos,
        left: Cell<u32>,
    }

    impl Timer for Item {
        fn sequence(&self) -> u64 {
            self.number
        }

        fn is_cancelled(&self) -> bool {
            false
        }
    }

    /// Runs a loop that has only timers until none is left. Returns the times at which they ran.
    fn run(clock: &Clock, items: Vec<Item>) -> Vec<(Nanos, u64)> {
        let (pacing, selector) = (Pacing::new(), Scripted::default());
        let waiting = Jump::new(clock, &selector);
        let (mut timers, mut ready) = (Timers::new(), Ready::new());
        let (mut ran, mut dropped, mut events) = (Vec::new(), Vec::new(), Vec::new());
        for item in items {
            timers.push(clock.now() + item.period, item);
        }
        loop {
            let count = ready.len();
            if !pacing.may_run(count) {
                if pacing.is_poll_due(count) || !pacing.may_go_on(clock.now()) {
                    let timeout = match timers.next_deadline(&mut dropped) {
                        _ if count > 0 => Some(0),
                        Some(deadline) => Some(deadline.saturating_sub(clock.now())),
                        None => return ran,
                    };
                    if pacing.begin_poll(timeout) {
                        waiting.wait(Some(0), &mut events).unwrap();
                    }
                    if timeout != Some(0) {
                        waiting.wait(timeout, &mut events).unwrap();
                        pacing.waited(0);
                    }
                    pacing.end_poll(clock.now());
                    timers.take_due(clock.now(), |due| ready.push(due), &mut dropped);
                }
                pacing.spend(ready.len());
            }
            for _ in 0..ready.len() {
                let Some(item) = ready.pop() else { break };
                ran.push((clock.now(), item.number));
                if item.left.get() > 0 {
                    item.left.set(item.left.get() - 1);
                    timers.push(clock.now() + item.period, item);
                }
            }
        }
    }

    #[test]
    fn ten_tenths_of_a_second_are_one() {
        let clock = Clock::manual(0);
        let item = Item {
            number: 0,
            period: crate::nanos_from_seconds(0.1),
            left: Cell::new(9),
        };
        let ran = run(&clock, vec![item]);
        assert_eq!(ran.len(), 10);
        assert_eq!(clock.now(), 1_000_000_000);
    }

    proptest! {
        #![proptest_config(config(200))]

        /// On a clock that jumps each timer runs exactly when it is due, in the order of the times
        /// and, among equals, of the numbers; and the clock stops at the last one.
        #[test]
        fn timers_run_when_they_are_due(
            periods in prop::collection::vec((1u64..50, 0u32..4), 1..up_to(40)),
        ) {
            let clock = Clock::manual(100);
            let mut expected = Vec::new();
            let mut items = Vec::new();
            for (number, (period, left)) in periods.into_iter().enumerate() {
                let number = number as u64;
                expected.extend((1..=u64::from(left) + 1).map(|nth| (100 + nth * period, number)));
                items.push(Item { number, period, left: Cell::new(left) });
            }
            expected.sort_unstable();
            let ran = run(&clock, items);
            prop_assert_eq!(Some(clock.now()), expected.last().map(|(when, _)| *when));
            prop_assert_eq!(ran, expected);
        }
    }
}
