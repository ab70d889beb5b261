//! One iteration, and running until stopped.

use std::sync::OnceLock;

use cpython::error::check_signals;
use cpython::thread_exit::stop_at_exit;
use cpython::{Obj, Raised, Ref};
use engine::Nanos;

use super::EventLoop;
use crate::handles::{Entry, Handle, TimerEntry};
use crate::interop::asyncio;

/// With work queued, the selector is looked at after so many entries …
const ENTRIES_BETWEEN_POLLS: usize = 256;
/// … or after so many nanoseconds. An empty look costs as much as several short callbacks.
const NANOS_BETWEEN_POLLS: Nanos = 32_000;
/// While entries take less than a thirty-second of that, about so many run between two looks at the
/// clock.
const ENTRIES_BETWEEN_LOOKS: usize = 32;
/// In an iteration of more entries than this, memory is fetched ahead …
const MANY_ENTRIES: usize = 512;
/// … for the entry that runs after so many others.
const PREFETCHED: usize = 6;
/// After so many looks that found nothing, and waits that brought one event, the loop waits
/// without having looked before …
const VAIN_LOOKS: u32 = 8;
/// … but for one time in so many, which tells whether that is still so.
const LOOKS_BETWEEN_TRIES: u32 = 16;
/// The longest wait, as in asyncio: a day.
const LONGEST_WAIT: Nanos = 24 * 3600 * 1_000_000_000;

/// Runs a step or a wake-up of a task of the loop. Fails only with what ends the program.
type Stepper = fn(&Ref<EventLoop>, Obj) -> Result<(), Raised>;

static STEPPER: OnceLock<Stepper> = OnceLock::new();

impl EventLoop {
    /// Has all loops step tasks by this function; called once, when the module starts.
    pub(crate) fn step_by(step: Stepper) {
        let _ = STEPPER.set(step);
    }

    /// `run_forever()`.
    pub(crate) fn run_forever(this: &Ref<EventLoop>) -> Result<(), Raised> {
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
        this.thread_id.set(Some(imports.get_ident.get(py).call0()?));
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
            this.spares.begin(py)?;
            // The first iteration looks at the selector and the timers in any case.
            this.look_next();
            this.held.begin(this.as_obj());
            loop {
                EventLoop::run_once(this)?;
                if this.is_stopping() {
                    return Ok(());
                }
            }
        })();
        // Whatever ended it stays the outcome; the way back must not lose it.
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
        this.thread_id.set(None);
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

    /// `_run_once()`: an iteration that looks at the selector and the timers in any case. It may
    /// be called while the loop runs; then what the calling callback has written leaves first.
    pub(crate) fn run_one_iteration(this: &Ref<EventLoop>) -> Result<(), Raised> {
        this.check_closed(this.py())?;
        stop_at_exit();
        EventLoop::is_fast(this);
        EventLoop::settle_held(this)?;
        this.look_next();
        EventLoop::run_once(this)
    }

    /// One iteration: collects what has become ready and runs what was there.
    #[inline(always)]
    fn run_once(this: &Ref<EventLoop>) -> Result<(), Raised> {
        let value: &EventLoop = this;
        let count = value.ready.borrow().len();
        let unlooked = value.unlooked.get();
        value.iteration.set(value.iteration.get().wrapping_add(1));
        if count == 0 || count > unlooked {
            EventLoop::look_around_and_run(this, count)?;
        } else {
            value.unlooked.set(unlooked - count);
            EventLoop::run_entries(this, count)?;
        }
        if value.held.is_empty() {
            return Ok(());
        }
        EventLoop::settle_held(this)
    }

    /// Runs so many entries.
    #[inline(always)]
    fn run_entries(this: &Ref<EventLoop>, count: usize) -> Result<(), Raised> {
        for _ in 0..count {
            let Some(entry) = this.ready.borrow_mut().pop() else {
                break;
            };
            EventLoop::run_entry(this, entry)?;
        }
        Ok(())
    }

    /// An iteration that looks at the clock, or at the selector and the timers, before it runs what
    /// is ready, of which there were so many entries.
    #[inline(never)]
    fn look_around_and_run(this: &Ref<EventLoop>, count: usize) -> Result<(), Raised> {
        if count == 0 || this.budget.get() == 0 || this.stopping.get() || !this.fast.get() {
            EventLoop::collect(this, count > 0)?;
        } else {
            EventLoop::look_at_clock(this)?;
        }
        let count = this.ready.borrow().len();
        this.budget.set(this.budget.get().saturating_sub(count));
        if this.debug.get() {
            EventLoop::run_entries_in_debug_mode(this, count)
        } else if count > MANY_ENTRIES {
            EventLoop::run_many_entries(this, count)
        } else {
            EventLoop::run_entries(this, count)
        }
    }

    /// Runs so many entries that what they refer to is no longer in the processor's cache.
    #[inline(never)]
    fn run_many_entries(this: &Ref<EventLoop>, count: usize) -> Result<(), Raised> {
        for _ in 0..count {
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

    /// Runs an entry. Fails only with what ends the program.
    #[inline(always)]
    fn run_entry(this: &Ref<EventLoop>, entry: Entry) -> Result<(), Raised> {
        match (entry.into_task(), STEPPER.get()) {
            (Ok(task), Some(step)) => step(this, task),
            (Ok(_), None) => Ok(()),
            (Err(entry), _) => entry.run(&this.spares),
        }
    }

    /// Looks at the selector if the last look is too long ago. While entries are short the clock is
    /// read only every few of them: reading it takes as long as a step.
    #[inline(never)]
    fn look_at_clock(this: &Ref<EventLoop>) -> Result<(), Raised> {
        let since = this.clock.now().wrapping_sub(this.polled.get());
        if since > NANOS_BETWEEN_POLLS {
            return EventLoop::collect(this, true);
        }
        let budget = this.budget.get() + this.unlooked.get();
        let ran = ENTRIES_BETWEEN_POLLS.saturating_sub(budget) as Nanos;
        let short = since < ran.saturating_mul(NANOS_BETWEEN_POLLS / 32);
        let unlooked = budget.min(if short { ENTRIES_BETWEEN_LOOKS } else { 0 });
        this.unlooked.set(unlooked);
        this.budget.set(budget - unlooked);
        Ok(())
    }

    /// Looks at the selector, waiting if nothing else is to do, and at the timers.
    #[inline(never)]
    fn collect(this: &Ref<EventLoop>, has_work: bool) -> Result<(), Raised> {
        let py = this.py();
        let selector = this.selector.borrow().clone();
        let Some(selector) = selector else {
            return Ok(());
        };
        if !has_work {
            // A signal since the last Python code must not wait for the next event. Its handler
            // may schedule something.
            check_signals(py)?;
        }
        let mut timeout = Some(0);
        if !has_work && !this.is_stopping() {
            timeout = match EventLoop::next_deadline(this) {
                Some(deadline) => {
                    let now = EventLoop::now(this)?;
                    Some(deadline.saturating_sub(now).min(LONGEST_WAIT))
                }
                None => None,
            };
        }
        this.looks.set(this.looks.get().wrapping_add(1));
        let mut events = this.events.take();
        events.clear();
        let mut result = Ok(());
        if timeout == Some(0) || !this.expects_nothing() {
            // The first look keeps the GIL: under load something is there.
            result = selector.wait(Some(0), &mut events);
        }
        let idle = result.is_ok() && events.is_empty() && timeout != Some(0);
        if idle && this.ready.borrow().is_empty() && !this.is_stopping() {
            this.held.pace.pause(|| this.clock.now());
            this.waiting.set(true);
            // Whoever schedules from now on sees the flag and ends the wait.
            result = py.detach(|| selector.wait(timeout, &mut events));
            this.waiting.set(false);
            let vain = match events.len() {
                0 | 1 => this.vain_looks.get().saturating_add(1),
                _ => 0,
            };
            this.vain_looks.set(vain);
        } else if !events.is_empty() {
            this.vain_looks.set(0);
        }
        if let Err(error) = result {
            *this.events.borrow_mut() = events;
            return Err(Raised::os_error(py, error));
        }
        // Python's own signal handlers run here when a signal ended the wait.
        let delivered = check_signals(py).and_then(|()| EventLoop::deliver(this, &events));
        *this.events.borrow_mut() = events;
        let now = EventLoop::now(this)?;
        this.polled.set(if this.time_overridden.get() {
            this.clock.now()
        } else {
            now
        });
        let brought = this.events.borrow().len();
        this.held.pace.go_on(this.polled.get(), brought, has_work);
        this.budget.set(ENTRIES_BETWEEN_POLLS);
        this.unlooked.set(0);
        EventLoop::collect_timers(this, now);
        delivered
    }

    /// Whether the next look would be in vain, as the last ones were.
    #[inline]
    fn expects_nothing(&self) -> bool {
        self.vain_looks.get() >= VAIN_LOOKS && self.looks.get() % LOOKS_BETWEEN_TRIES != 0
    }

    fn next_deadline(this: &Ref<EventLoop>) -> Option<Nanos> {
        let mut dropped = Vec::new();
        let deadline = this.timers.borrow_mut().next_deadline(&mut dropped);
        EventLoop::forget(dropped);
        deadline
    }

    /// Moves the timers that are due into the ready queue.
    fn collect_timers(this: &Ref<EventLoop>, now: Nanos) {
        let mut dropped = Vec::new();
        let mut ready = this.ready.borrow_mut();
        this.timers
            .borrow_mut()
            .take_due(now, |due| ready.push(due.into_entry()), &mut dropped);
        drop(ready);
        EventLoop::forget(dropped);
    }

    /// Lets cancelled timers go.
    #[inline]
    pub(super) fn forget(dropped: Vec<TimerEntry>) {
        dropped.iter().for_each(TimerEntry::forget);
    }

    /// Runs entries one by one, timing each.
    #[cold]
    fn run_entries_in_debug_mode(this: &Ref<EventLoop>, count: usize) -> Result<(), Raised> {
        let py = this.py();
        for _ in 0..count {
            let Some(entry) = this.ready.borrow_mut().pop() else {
                break;
            };
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
            let limit = match this.slow_callback_duration.get() {
                Some(limit) => limit.to_f64()?,
                None => 0.1,
            };
            if took >= limit {
                let reports = Obj::import(py, c"aioxide._reports")?;
                let name = pyo3::intern!(py, "callback_was_slow");
                reports.method(name, &[handle.as_obj(), &Obj::float(py, took)?])?;
            }
        }
        Ok(())
    }
}
