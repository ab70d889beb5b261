//! Waiting by a function that the program has put in the place of `loop._selector.select`.
//!
//! Such a function, of a virtual clock for example, is called in every iteration, with the timeout
//! that asyncio would give it, and decides how long the loop waits. It calls what it has replaced,
//! [`EventLoop::poll`], which delivers at once what it finds.

use cpython::error::check_signals;
use cpython::{Obj, Raised, Ref};
use engine::{Nanos, Readiness, Timer};

use super::EventLoop;
use super::run::LONGEST_WAIT;
use crate::handles::{Shown, Spares, TimerHandle};

impl EventLoop {
    /// Makes the loop wait by a function of the program's, or, without one, by its own again.
    pub(crate) fn set_select(this: &Ref<EventLoop>, select: Option<Obj>) {
        this.select.set(select);
        this.update_replaced();
    }

    /// Calls the program's function once, then looks at the timers.
    #[cold]
    pub(super) fn collect_by_select(
        this: &Ref<EventLoop>,
        select: &Obj,
        has_work: bool,
    ) -> Result<(), Raised> {
        let py = this.py();
        if !has_work {
            check_signals(py)?;
            EventLoop::deliver_signals(this)?;
        }
        let timeout = if has_work || !this.ready.borrow().is_empty() || this.is_stopping() {
            Obj::int(py, 0)?
        } else {
            match EventLoop::next_time(this)? {
                Some(when) => {
                    let now = this.as_obj().method(pyo3::intern!(py, "time"), &[])?;
                    let wait = when - now.to_f64()?;
                    Obj::float(py, wait.clamp(0.0, engine::seconds(LONGEST_WAIT)))?
                }
                None => Obj::none(py),
            }
        };
        this.pacing.begin_poll(None);
        Spares::trim(py);
        // Another thread that schedules something from now on ends the wait, even one that has not
        // begun.
        this.waiting.set(true);
        *this.found.borrow_mut() = Some(Vec::new());
        let events = select.call1(&timeout);
        *this.found.borrow_mut() = None;
        this.waiting.set(false);
        let name = pyo3::intern!(py, "_process_events");
        this.as_obj().method(name, &[&events?])?;
        let now = EventLoop::now(this)?;
        let polled = this.clock.now();
        this.pacing.end_poll(polled);
        this.held.pace.go_on(polled, 0, has_work);
        this.poll_next();
        EventLoop::collect_timers(this, now.saturating_add(this.resolution.get()));
        Ok(())
    }

    /// The time of the next timer, as exactly as the program gave it.
    fn next_time(this: &Ref<EventLoop>) -> Result<Option<f64>, Raised> {
        let Some(deadline) = EventLoop::next_deadline(this) else {
            return Ok(None);
        };
        let first = {
            let timers = this.timers.borrow();
            let due = timers.iter().filter(|(when, _)| *when == deadline);
            due.min_by_key(|(_, item)| item.sequence())
                .map(|(_, item)| item.shown())
        };
        match first {
            Some(Shown::Handle(handle)) => match Ref::<TimerHandle>::of(&handle) {
                Some(timer) => timer.seconds().map(Some),
                None => Ok(Some(engine::seconds(deadline))),
            },
            _ => Ok(Some(engine::seconds(deadline))),
        }
    }

    /// `select(timeout)` of the loop's own selector. It waits no longer than `timeout` seconds, or
    /// for ever without one, delivers what has become ready, and returns it. What an earlier call
    /// in the same iteration has found is still ready, as for asyncio's selector: no callback runs
    /// in between.
    pub(crate) fn poll(
        this: &Ref<EventLoop>,
        timeout: Option<Nanos>,
    ) -> Result<Vec<Readiness>, Raised> {
        let py = this.py();
        this.check_closed(py)?;
        let Some(selector) = this.selector.borrow().clone() else {
            return Ok(Vec::new());
        };
        let mut events = Vec::new();
        let mut result = selector.wait(Some(0), &mut events);
        let before = this.found.borrow().clone().unwrap_or_default();
        if result.is_ok() && events.is_empty() && before.is_empty() && timeout != Some(0) {
            let before = this.waiting.replace(true);
            cpython::domain::before_wait(py);
            result = py.detach(|| selector.wait(timeout, &mut events));
            this.waiting.set(before);
        }
        result.map_err(|error| Raised::os_error(py, error))?;
        let handled = check_signals(py).map_err(|raised| raised.take(py));
        EventLoop::deliver(this, &events);
        let found: Vec<Readiness> = before.into_iter().chain(events).collect();
        if let Some(all) = &mut *this.found.borrow_mut() {
            all.clone_from(&found);
        }
        if let Err(exception) = handled {
            return Err(Raised::raise(exception));
        }
        EventLoop::deliver_signals(this)?;
        Ok(found)
    }
}
