//! Handing results to a loop: many results by one entry of its queue.
//!
//! A Future may change only in its loop's thread, so a thread of the executor leaves the outcome
//! here. The first outcome schedules the delivery and wakes the loop. Outcomes that come before the
//! loop gets there are delivered with it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use cpython::build::Builder;
use cpython::{Hot, NoParent, Obj, Python, Raised, Ref, Visit};
use engine::Waker;

use super::jobs::executor_module;
use super::submit::is_ordinary;
use crate::event_loop::EventLoop;
use crate::futures::Future;
use crate::handles::{Entry, Handle};
use crate::interop::EndsProgram;

/// The outcome of a call.
pub(super) enum Outcome {
    Result(Obj),
    Exception(Obj),
    /// The call was never begun.
    Cancelled,
}

/// The value: outcomes in the order in which the calls ended.
#[derive(Default)]
pub(crate) struct Outcomes {
    waiting: RefCell<VecDeque<(Ref<Future>, Outcome)>>,
}

impl Outcomes {
    /// Leaves the outcome to the Future's loop. Returns the waker to notify so that the loop sees
    /// it.
    pub(super) fn hand_over(future: Ref<Future>, outcome: Outcome) -> Option<Arc<Waker>> {
        match future.within(|future| Outcomes::try_to_hand_over(future, outcome)) {
            Ok(waker) => waker,
            Err(raised) => {
                raised.report_unraisable(Some(future.as_obj()));
                None
            }
        }
    }

    fn try_to_hand_over(
        future: &Ref<Future>,
        outcome: Outcome,
    ) -> Result<Option<Arc<Waker>>, Raised> {
        let py = future.py();
        let Some(event_loop) = future.event_loop() else {
            return Ok(None);
        };
        let native = Ref::<EventLoop>::of(&event_loop).filter(|native| EventLoop::is_fast(native));
        let (Some(native), true) = (native, outcome.is_ordinary(py)) else {
            return Outcomes::chain(future, outcome).map(|()| None);
        };
        let outcomes = match native.outcomes.get() {
            Some(outcomes) => outcomes,
            None => {
                let outcomes = Ref::new(py, Outcomes::default())?.into_obj();
                native.outcomes.set(Some(outcomes.clone()));
                outcomes
            }
        };
        let Some(value) = Ref::<Outcomes>::of_exact(&outcomes) else {
            return Ok(None);
        };
        let is_first = {
            let mut waiting = value.waiting.borrow_mut();
            waiting.push_back((future.clone(), outcome));
            waiting.len() == 1
        };
        if !is_first {
            return Ok(None);
        }
        Ok(EventLoop::schedule_unnoticed(native, Entry::call(outcomes)))
    }

    /// Hands an outcome over as asyncio does: through a `concurrent.futures.Future` and the loop's
    /// own methods.
    #[cold]
    fn chain(future: &Ref<Future>, outcome: Outcome) -> Result<(), Raised> {
        let py = future.py();
        let none = Obj::none(py);
        let (result, exception, cancelled) = match &outcome {
            Outcome::Result(result) => (result, &none, false),
            Outcome::Exception(exception) => (&none, exception, false),
            Outcome::Cancelled => (&none, &none, true),
        };
        let arguments = [
            future.as_obj(),
            result,
            exception,
            &Obj::bool(py, cancelled),
        ];
        executor_module(py)?
            .method(pyo3::intern!(py, "chain"), &arguments)
            .map(drop)
    }

    /// Gives the Futures their outcomes, in the loop's thread.
    pub(super) fn deliver(this: &Ref<Outcomes>) -> Result<(), EndsProgram> {
        loop {
            let next = this.waiting.borrow_mut().pop_front();
            let Some((future, outcome)) = next else {
                return Ok(());
            };
            if !future.is_pending() {
                continue;
            }
            let delivered = match outcome {
                outcome if future.has_attributes() => Outcomes::chain(&future, outcome),
                Outcome::Result(result) => Future::set_result(&future, result),
                Outcome::Exception(exception) => Future::set_exception(&future, &exception),
                Outcome::Cancelled => Future::cancel(&future, None).map(drop),
            };
            if let Err(raised) = delivered {
                Outcomes::failed(this, &future, raised)?;
            }
        }
    }

    /// Reports that a Future refuses its outcome, or that a method of the loop that the program has
    /// replaced raises.
    #[cold]
    fn failed(
        this: &Ref<Outcomes>,
        future: &Ref<Future>,
        raised: Raised,
    ) -> Result<(), EndsProgram> {
        let Some(event_loop) = future.event_loop() else {
            return EndsProgram::or_caught(this.py(), raised).map(drop);
        };
        let set_state = || Ok(future.as_obj().clone());
        let reported = Handle::report_call(&event_loop, set_state, &[], None, raised);
        if let (Err(_), Some(native)) = (&reported, Ref::<EventLoop>::of(&event_loop)) {
            // The program ends, or runs the loop again: the other outcomes must not be lost.
            if !this.waiting.borrow().is_empty() {
                EventLoop::schedule(native, Entry::call(this.as_obj().clone()));
            }
        }
        reported
    }
}

impl Outcome {
    /// Whether a Future takes the outcome as it is.
    fn is_ordinary(&self, py: Python<'_>) -> bool {
        match self {
            Outcome::Exception(exception) => is_ordinary(py, exception),
            _ => true,
        }
    }
}

impl Hot for Outcomes {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide._aioxide._Outcomes";
    const DOC: &'static std::ffi::CStr = c"Outcomes of calls that wait for their loop.";
    const SUBCLASSABLE: bool = false;
    cpython::hot_type!();

    fn build(_: &mut Builder<Self>) {}

    fn traverse(&self, visit: &mut Visit<'_>) {
        if let Ok(waiting) = self.waiting.try_borrow() {
            for (future, outcome) in waiting.iter() {
                visit.object(future.as_obj());
                if let Outcome::Result(object) | Outcome::Exception(object) = outcome {
                    visit.object(object);
                }
            }
        }
    }

    fn clear(&self) {
        let waiting = self.waiting.take();
        drop(waiting);
    }
}
