//! A call, run by a thread of the executor.

use std::sync::Arc;

use cpython::build::Builder;
use cpython::{Hot, NoParent, Obj, Python, Raised, Ref, Slot, context};
use engine::Waker;

use super::outcomes::{Outcome, Outcomes};
use crate::futures::Future;

/// The value of a job: a call for a thread.
pub(crate) struct Job {
    /// The loop's Future. If it is cancelled before the call begins, the call is skipped.
    future: Slot<Ref<Future>>,
    function: Slot,
    args: Slot,
    kwargs: Slot,
    /// The context in which the call runs; if empty, the thread's own.
    context: Slot,
}

impl Job {
    /// A call whose outcome the Future gets. `args` is a tuple, `kwargs` a dict.
    pub(super) fn value(
        future: &Ref<Future>,
        function: &Obj,
        args: Obj,
        kwargs: Option<Obj>,
        context: Option<Obj>,
    ) -> Job {
        Job {
            future: Slot::new(Some(future.clone())),
            function: Slot::new(Some(function.clone())),
            args: Slot::new(Some(args)),
            kwargs: Slot::new(kwargs),
            context: Slot::new(context),
        }
    }

    /// Runs the call in the current thread, outside the domain of the queue that has had the job.
    /// Returns the waker to notify so that the loop sees the outcome.
    pub(super) fn run<Q: Hot>(this: &Ref<Job>, queue: &Ref<Q>) -> Option<Arc<Waker>> {
        let py = this.py();
        let future = this.future.take()?;
        let call = Call {
            function: this.function.take(),
            args: this.args.take(),
            kwargs: this.kwargs.take(),
            context: this.context.take(),
        };
        queue.outside(|| {
            if future.within(|future| future.is_cancelled()) {
                return None;
            }
            let outcome = match call.make(py) {
                Ok(result) => Outcome::Result(result),
                Err(raised) => Outcome::Exception(raised.take(py)),
            };
            drop(call);
            Outcomes::hand_over(future, outcome)
        })
    }

    /// `cancel()`: called when the executor is shut down, for jobs that still wait.
    fn cancel(this: &Ref<Job>) -> bool {
        let Some(future) = this.future.take() else {
            return false;
        };
        this.release();
        if let Some(waker) = Outcomes::hand_over(future, Outcome::Cancelled) {
            waker.notify();
        }
        true
    }

    fn release(&self) {
        self.function.set(None);
        self.args.set(None);
        self.kwargs.set(None);
        self.context.set(None);
    }
}

/// A call that its job has given away.
struct Call {
    function: Option<Obj>,
    args: Option<Obj>,
    kwargs: Option<Obj>,
    context: Option<Obj>,
}

impl Call {
    fn make(&self, py: Python<'_>) -> Result<Obj, Raised> {
        let (Some(function), Some(args)) = (&self.function, &self.args) else {
            return Ok(Obj::none(py));
        };
        let call = || match &self.kwargs {
            None => function.call_tuple(args),
            Some(kwargs) => function.call_with_dict(args, Some(kwargs)),
        };
        match &self.context {
            Some(context) => context::run(context, call),
            None => call(),
        }
    }
}

impl Hot for Job {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide._aioxide._Job";
    const DOC: &'static std::ffi::CStr = c"A call that waits for a thread.";
    const FREELIST: usize = 1024;
    const SUBCLASSABLE: bool = false;
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        builder
            .get(
                c"future",
                c"The object whose cancel() the executor calls: the job itself.",
                |this| this.clone(),
            )
            .method0(
                c"cancel",
                c"cancel($self, /)\n--\n\nDo not run the call.",
                Job::cancel,
            );
    }

    cpython::holds!(future, function, args, kwargs, context);
}
