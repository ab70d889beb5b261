//! One iteration, and running until stopped.

use std::io;

use cpython::error::check_signals;
use cpython::thread_exit::stop_at_exit;
use cpython::{Obj, Raised, Ref};
use engine::{Jump, Nanos, Readiness, Selector, WaitsForReadiness};

use super::EventLoop;
use crate::handles::{Entry, Handle, Spares, TimerEntry};
use crate::interop::{EndsProgram, asyncio, python_side};

/// In an iteration of more entries than this, memory is fetched ahead.
const MANY_ENTRIES: usize = 512;
/// The distance, in entries, from the running entry to the one whose memory is fetched.
const PREFETCHED: usize = 6;
/// The longest wait, as in asyncio: a day.
pub(super) const LONGEST_WAIT: Nanos = 24 * 3600 * 1_000_000_000;

/// The longest wait of a loop that has memory of a burst to give back.
const SHORT_WAIT: Nanos = 10_000_000;

/// Runs a step or a wake-up of a task of the loop.
pub(crate) type Stepper = fn(&Ref<EventLoop>, Obj) -> Result<(), EndsProgram>;

impl EventLoop {
    /// `run_forever()`.
    pub(crate) fn run_forever(this: &Ref<EventLoop>) -> Result<(), Raised> {
        this.run_within(EventLoop::run_in_own_domain)
    }

    fn run_in_own_domain(this: &Ref<EventLoop>) -> Result<(), Raised> {
        let py = this.py();
        this.check_closed(py)?;
        this.as_obj()
            .method(pyo3::intern!(py, "_check_running"), &[])?;
        stop_at_exit();
        let imports = asyncio(py);
        let origin = pyo3::intern!(py, "_set_coroutine_origin_tracking");
        this.as_obj()
            .method(origin, &[&Obj::bool(py, this.debug())])?;
        let hooks = imports.get_asyncgen_hooks.get(py).call0()?;
        this.set_thread_id(Some(imports.get_ident.get(py).call0()?));
        let outcome = (|| {
            let first = this
                .as_obj()
                .attr(pyo3::intern!(py, "_asyncgen_firstiter_hook"))?;
            let last = this
                .as_obj()
                .attr(pyo3::intern!(py, "_asyncgen_finalizer_hook"))?;
            imports.set_asyncgen_hooks.get(py).call(&[&first, &last])?;
            let events = imports.events.get(py);
            events.method(pyo3::intern!(py, "_set_running_loop"), &[this.as_obj()])?;
            EventLoop::is_fast(this);
            this.look_for_clock(py)?;
            this.spares.begin(py)?;
            // The first iteration looks at the selector and the timers in any case.
            this.poll_next();
            this.held.begin(this.as_obj());
            loop {
                EventLoop::run_once(this)?;
                if this.is_stopping() {
                    return Ok(());
                }
            }
        })();
        // The exception that ended the run stays the outcome, whatever the steps below raise.
        let outcome = match outcome {
            Ok(()) => Ok(()),
            Err(raised) => Err(Raised::take(raised, py)),
        };
        let outcome = match EventLoop::settle_held(this) {
            Err(raised) if outcome.is_ok() => Err(raised.take(py)),
            Err(raised) => {
                drop(raised.take(py));
                outcome
            }
            Ok(()) => outcome,
        };
        this.held.end(py);
        this.spares.end();
        this.set_stopping(false);
        this.set_thread_id(None);
        let restored = (|| {
            let events = imports.events.get(py);
            events.method(pyo3::intern!(py, "_set_running_loop"), &[&Obj::none(py)])?;
            this.as_obj().method(origin, &[&Obj::bool(py, false)])?;
            imports
                .set_asyncgen_hooks
                .get(py)
                .call_tuple(&hooks)
                .map(drop)
        })();
        match outcome {
            Ok(()) => restored,
            Err(exception) => {
                if let Err(raised) = restored {
                    drop(raised.take(py));
                }
                Err(Raised::raise(exception))
            }
        }
    }

    /// `_run_once()`: an iteration that looks at the selector and the timers in any case. The
    /// program may call it while the loop runs; then writes that are held leave first.
    pub(crate) fn run_one_iteration(this: &Ref<EventLoop>) -> Result<(), Raised> {
        this.check_closed(this.py())?;
        stop_at_exit();
        EventLoop::is_fast(this);
        this.look_for_clock(this.py())?;
        EventLoop::settle_held(this)?;
        this.poll_next();
        EventLoop::run_once(this)
    }

    /// One iteration: collects what has become ready, and runs the entries that were in the queue.
    #[inline(always)]
    fn run_once(this: &Ref<EventLoop>) -> Result<(), Raised> {
        let value: &EventLoop = this;
        let count = value.ready.borrow().len();
        value.iteration.set(value.iteration.get().wrapping_add(1));
        if value.pacing.may_run(count) {
            EventLoop::run_entries(this, count)?;
        } else {
            EventLoop::look_and_run(this, count)?;
        }
        if !value.held.is_empty() {
            EventLoop::settle_held(this)?;
        }
        Ok(())
    }

    /// Runs the first `count` entries.
    #[inline(always)]
    fn run_entries(this: &Ref<EventLoop>, count: usize) -> Result<(), EndsProgram> {
        for _ in 0..count {
            this.give_way();
            let Some(entry) = this.ready.borrow_mut().pop() else {
                break;
            };
            EventLoop::run_entry(this, entry)?;
        }
        Ok(())
    }

    /// An iteration that looks at the clock, or at the selector and the timers, before it runs the
    /// `count` entries of the queue and those that the look adds.
    #[inline(never)]
    fn look_and_run(this: &Ref<EventLoop>, count: usize) -> Result<(), Raised> {
        let must_poll = this.pacing.is_poll_due(count) || this.stopping.get() || !this.fast.get();
        if must_poll || !this.pacing.may_go_on(this.clock.now()) {
            EventLoop::collect(this, count > 0)?;
        }
        let count = this.ready.borrow().len();
        this.pacing.spend(count);
        if this.debug() {
            EventLoop::run_entries_in_debug_mode(this, count)?;
        } else if count > MANY_ENTRIES {
            EventLoop::run_many_entries(this, count)?;
        } else {
            EventLoop::run_entries(this, count)?;
        }
        Ok(())
    }

    /// Runs the first `count` entries, more than [`MANY_ENTRIES`]. Their objects are no longer in
    /// the processor's cache, so this fetches them ahead.
    #[inline(never)]
    fn run_many_entries(this: &Ref<EventLoop>, count: usize) -> Result<(), EndsProgram> {
        for _ in 0..count {
            this.give_way();
            let mut ready = this.ready.borrow_mut();
            let Some(entry) = ready.pop() else { break };
            if let Some(later) = ready.get(PREFETCHED) {
                later.prefetch();
            }
            if let Some(soon) = ready.get(PREFETCHED / 2) {
                soon.prefetch_context();
            }
            drop(ready);
            EventLoop::run_entry(this, entry)?;
        }
        Ok(())
    }

    /// Runs an entry.
    #[inline(always)]
    pub(super) fn run_entry(this: &Ref<EventLoop>, entry: Entry) -> Result<(), EndsProgram> {
        match entry.into_task() {
            Ok(task) => (this.step)(this, task),
            Err(entry) => entry.run(&this.spares),
        }
    }

    /// Looks at the selector and at the timers. Waits if there is nothing else to do.
    #[inline(never)]
    fn collect(this: &Ref<EventLoop>, has_work: bool) -> Result<(), Raised> {
        if !this.class_checked.get() {
            EventLoop::is_fast(this);
        }
        if this.is_clock_changed() {
            this.follow_clock();
        }
        if let Some(select) = this.select.get() {
            return EventLoop::collect_by_select(this, &select, has_work);
        }
        let Some(selector) = this.selector.borrow().clone() else {
            return Ok(());
        };
        if !has_work {
            // A signal that came since the last Python code must not wait for the next event. Its
            // handler may schedule something.
            check_signals(this.py())?;
            // Signal numbers may be left from a look whose handlers raised.
            EventLoop::deliver_signals(this)?;
        }
        let timeout = EventLoop::timeout(this, has_work)?;
        let mut events = this.events.take();
        events.clear();
        let polled = if this.clock.is_manual() {
            EventLoop::poll_and_jump(this, &selector, timeout, &mut events)
        } else {
            EventLoop::poll_and_wait(this, &*selector, timeout, &mut events)
        };
        let brought = events.len();
        EventLoop::hand_out(this, polled, events)?;
        EventLoop::end_poll(this, brought, has_work)
    }

    /// The longest wait for the selector, in nanoseconds; without end for `None`.
    #[inline(always)]
    fn timeout(this: &Ref<EventLoop>, has_work: bool) -> Result<Option<Nanos>, Raised> {
        if has_work || this.is_stopping() {
            return Ok(Some(0));
        }
        let Some(deadline) = EventLoop::next_deadline(this) else {
            return Ok(None);
        };
        let now = EventLoop::now(this)?;
        Ok(Some(deadline.saturating_sub(now).min(LONGEST_WAIT)))
    }

    /// Looks for events, first without waiting if that is worth while, and waits if nothing is
    /// ready. Only the wait gives the GIL up: under load something is there.
    #[inline(always)]
    fn poll_and_wait<W: WaitsForReadiness + Sync>(
        this: &Ref<EventLoop>,
        waiting: &W,
        timeout: Option<Nanos>,
        events: &mut Vec<Readiness>,
    ) -> io::Result<()> {
        if this.pacing.begin_poll(timeout) {
            waiting.wait(Some(0), events)?;
        }
        let is_idle = events.is_empty() && timeout != Some(0);
        if !is_idle || !this.ready.borrow().is_empty() || this.is_stopping() {
            this.pacing.found(events.len());
            return Ok(());
        }
        let timeout = if Spares::trim(this.py()) && !this.clock.is_manual() {
            Some(timeout.map_or(SHORT_WAIT, |timeout| timeout.min(SHORT_WAIT)))
        } else {
            timeout
        };
        this.held.pace.pause(|| this.clock.now());
        this.waiting.set(true);
        // A thread that schedules something from now on sees the flag and ends the wait.
        cpython::domain::before_wait(this.py());
        let waited = this.py().detach(|| waiting.wait(timeout, events));
        this.waiting.set(false);
        this.pacing.waited(events.len());
        waited
    }

    /// As `poll_and_wait`, on a manual clock, which jumps to the deadline if nothing is ready.
    #[cold]
    fn poll_and_jump(
        this: &Ref<EventLoop>,
        selector: &Selector,
        timeout: Option<Nanos>,
        events: &mut Vec<Readiness>,
    ) -> io::Result<()> {
        let waiting = Jump::new(&this.clock, selector);
        EventLoop::poll_and_wait(this, &waiting, timeout, events)
    }

    /// Delivers what the selector has reported, and signals.
    #[inline(always)]
    fn hand_out(
        this: &Ref<EventLoop>,
        polled: io::Result<()>,
        events: Vec<Readiness>,
    ) -> Result<(), Raised> {
        let py = this.py();
        if let Err(error) = polled {
            *this.events.borrow_mut() = events;
            return Err(Raised::os_error(py, error));
        }
        // Python's own signal handlers run here when a signal ended the wait. Whatever they raise,
        // the events that were fetched are delivered: the next look would not bring them again.
        let handled = check_signals(py).map_err(|raised| raised.take(py));
        EventLoop::deliver(this, &events);
        *this.events.borrow_mut() = events;
        if let Err(exception) = handled {
            return Err(Raised::raise(exception));
        }
        EventLoop::deliver_signals(this)?;
        Ok(())
    }

    /// Ends the poll: counts the events that it has brought, and collects the timers that are due.
    #[inline(always)]
    fn end_poll(this: &Ref<EventLoop>, brought: usize, has_work: bool) -> Result<(), Raised> {
        let now = EventLoop::now(this)?;
        let polled = if this.time_replaced.get() {
            this.clock.now()
        } else {
            now
        };
        this.pacing.end_poll(polled);
        this.held.pace.go_on(polled, brought, has_work);
        EventLoop::collect_timers(this, now);
        Ok(())
    }

    pub(super) fn next_deadline(this: &Ref<EventLoop>) -> Option<Nanos> {
        let mut dropped = Vec::new();
        let deadline = this.timers.borrow_mut().next_deadline(&mut dropped);
        EventLoop::forget(dropped);
        deadline
    }

    /// Moves the timers that are due into the ready queue.
    #[inline(always)]
    pub(super) fn collect_timers(this: &Ref<EventLoop>, now: Nanos) {
        let mut dropped = Vec::new();
        let mut ready = this.ready.borrow_mut();
        this.timers
            .borrow_mut()
            .take_due(now, |due| ready.push(due.into_entry()), &mut dropped);
        drop(ready);
        EventLoop::forget(dropped);
    }

    /// Releases cancelled timers.
    #[inline]
    pub(super) fn forget(dropped: Vec<TimerEntry>) {
        dropped.iter().for_each(TimerEntry::forget);
    }

    /// Runs entries one by one, timing each.
    #[cold]
    fn run_entries_in_debug_mode(this: &Ref<EventLoop>, count: usize) -> Result<(), EndsProgram> {
        for _ in 0..count {
            this.give_way();
            let Some(entry) = this.ready.borrow_mut().pop() else {
                break;
            };
            entry.forget_schedule();
            let Some(handle) = entry.as_handle() else {
                EventLoop::run_entry(this, entry)?;
                continue;
            };
            if handle.is_cancelled() {
                continue;
            }
            this.current_handle.set(Some(handle.as_obj().clone()));
            let started = this.clock.now();
            let outcome = Handle::run_kept(&handle);
            let took = engine::seconds(this.clock.now().saturating_sub(started));
            this.current_handle.set(None);
            outcome?;
            let reported = EventLoop::report_if_slow(this, &handle, took);
            EndsProgram::after_report(handle.as_obj(), reported)?;
        }
        Ok(())
    }

    /// Logs a callback that took this many seconds, if that is longer than
    /// `slow_callback_duration`.
    fn report_if_slow(
        this: &Ref<EventLoop>,
        handle: &Ref<Handle>,
        took: f64,
    ) -> Result<(), Raised> {
        let py = this.py();
        let limit = match this.slow_callback_duration.get() {
            Some(limit) => limit.to_f64()?,
            None => 0.1,
        };
        if took < limit {
            return Ok(());
        }
        let report = python_side(py)?.callback_was_slow.get(py);
        report
            .call(&[handle.as_obj(), &Obj::float(py, took)?])
            .map(drop)
    }
}
