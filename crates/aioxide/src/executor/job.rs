//! A call, run by a thread of the executor.

use std::sync::Arc;

use cpython::build::Builder;
use cpython::{Hot, NoParent, Obj, Raised, Ref, Slot, context};
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

    /// Runs the call in the current thread. Returns the waker to notify so that the loop sees the
    /// outcome.
    pub(super) fn run(this: &Ref<Job>) -> Option<Arc<Waker>> {
        let py = this.py();
        let future = this.future.take()?;
        if future.is_cancelled() {
            this.release();
            return None;
        }
        let outcome = match Job::call(this) {
            Ok(result) => Outcome::Result(result),
            Err(raised) => Outcome::Exception(raised.take(py)),
        };
        this.release();
        Outcomes::hand_over(future, outcome)
    }

    fn call(this: &Ref<Job>) -> Result<Obj, Raised> {
        let py = this.py();
        let (Some(function), Some(args)) = (this.function.get(), this.args.get()) else {
            return Ok(Obj::none(py));
        };
        let kwargs = this.kwargs.get();
        let call = || match &kwargs {
            None => function.call_tuple(&args),
            Some(kwargs) => function.call_with_dict(&args, Some(kwargs)),
        };
        let Some(context) = this.context.get() else {
            return call();
        };
        context::run(&context, call)
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
