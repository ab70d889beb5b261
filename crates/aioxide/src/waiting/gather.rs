//! `gather(*coros_or_futures, return_exceptions=False)`.
//!
//! The future that it returns watches its children and counts those that are done. It makes the
//! list of results only at the end.

use std::cell::{Cell, RefCell};

use cpython::build::{Builder, Next, function};
use cpython::{Args, Hot, Obj, Python, Raised, Ref, Slot, stack};

use super::arguments::Arguments;
use super::awaited_by;
use super::callables::{CallableName, callable_of};
use super::ensure_future::{current_loop, ensure_future};
use crate::event_loop::EventLoop;
use crate::futures::{Flag, Future, FutureIter, await_step, create_future, mirror};
use crate::handles::served::Watcher;
use crate::interop::asyncio;
use crate::interop::current::{current_task, running_loop};
use crate::interop::mirror::FutureFields;
use crate::tasks::Task;
use crate::tasks::any_future::{AnyFuture, cancel_with, of_native_class};

/// The value of the future that `gather()` returns, behind that of a Future.
pub(crate) struct GatheringFuture {
    children: RefCell<Vec<Obj>>,
    /// The number of children that are not done, each counted once.
    remaining: Cell<usize>,
    /// The number of times that [`Watcher::on_done`] will be called; `usize::MAX` if nobody knows.
    expected: Cell<usize>,
    /// Whether the program has asked for the children.
    shown: Cell<bool>,
    return_exceptions: bool,
    cancel_requested: Cell<bool>,
    /// Whether `gather()` has gone through all arguments.
    whole: Cell<bool>,
    /// The task that called `gather()`.
    task: Slot,
}

/// The number of references to a child that has just ended in its step, if the program has none:
/// from the running entry of the ready queue, the thread's running task, and the list of children.
const REFERENCES_IN_STEP: isize = 3;

impl GatheringFuture {
    fn value(&self, index: usize) -> Option<Obj> {
        self.children.borrow().get(index).cloned()
    }

    /// The call.
    fn gather(py: Python<'_>, args: &[Obj], return_exceptions: bool) -> Result<Obj, Raised> {
        if args.is_empty() {
            let outer = create_future(&current_loop(py)?)?;
            AnyFuture::of(&outer).set(Ok(Obj::list(py)?))?;
            return Ok(outer);
        }
        let running = running_loop(py)?;
        let (mut event_loop, task) = if cfg!(Py_3_14) {
            let task = match &running {
                Some(running) => current_task(py, Some(running))?,
                None => None,
            };
            (running.clone(), task)
        } else {
            (None, None)
        };
        let outer = Ref::with_parent(py, Future::empty, || GatheringFuture {
            children: RefCell::default(),
            remaining: Cell::new(0),
            expected: Cell::new(0),
            shown: Cell::new(false),
            return_exceptions,
            cancel_requested: Cell::new(false),
            whole: Cell::new(false),
            task: Slot::new(task.clone()),
        })?;
        // If a native task waits, its fields for call graphs are found once for all children.
        let fields = match &task {
            Some(task) if AnyFuture::of(task).native().is_some() => mirror(py),
            _ => None,
        };
        let native_loop = running.as_ref().and_then(Ref::<EventLoop>::of);
        let mut arguments = Arguments::of(py, args)?;
        let mut children: Vec<Obj> = Vec::with_capacity(args.len());
        let mut done = Vec::new();
        for (index, argument) in args.iter().enumerate() {
            if let Some(child) = arguments.known(args, index, &children)? {
                children.push(child);
                continue;
            }
            if let Some(running) = native_loop {
                // Without a loop a coroutine goes to the running one in any case.
                let started = match &event_loop {
                    Some(other) if !other.is(running.as_obj()) => None,
                    _ => Task::create_plain(running, argument)?,
                };
                if let Some(child) = started {
                    if event_loop.is_none() {
                        event_loop = Some(running.as_obj().clone());
                    }
                    // The program cannot reach this task, so its end while pending is not reported.
                    child.parent().flags.set(Flag::LogDestroyPending, false);
                    arguments.learn(argument, child.as_obj())?;
                    outer.remaining.set(outer.remaining.get() + 1);
                    GatheringFuture::watch_pending(&outer, child.parent(), task.as_ref(), fields)?;
                    children.push(child.into_obj());
                    continue;
                }
            }
            arguments.meet_other();
            let child = match (&event_loop, &running) {
                // Without a loop a coroutine goes to the running one in any case.
                (None, Some(running)) if argument.is_coroutine_exact() => {
                    ensure_future(argument, Some(running))?
                }
                (event_loop, _) => ensure_future(argument, event_loop.as_ref())?,
            };
            let asked = AnyFuture::of(&child);
            if event_loop.is_none() {
                event_loop = asked.event_loop()?;
            }
            if !child.is(argument) {
                // The program cannot reach this task, so its end while pending is not reported.
                asked.log_destroy_pending_off()?;
            }
            arguments.learn(argument, &child)?;
            outer.remaining.set(outer.remaining.get() + 1);
            if !GatheringFuture::watch_child(&outer, &child, task.as_ref(), fields)? {
                done.push(child.clone());
            }
            children.push(child);
        }
        Future::init(outer.parent(), event_loop)?;
        outer.parent_value().flags.set(Flag::NothingReplaced, true);
        *outer.children.borrow_mut() = children;
        outer.whole.set(true);
        for child in done {
            GatheringFuture::child_done(&outer, &child)?;
        }
        Ok(outer.into_obj())
    }

    /// Watches the child, and notes for call graphs that the task waits for it. Returns false if
    /// the child is done already.
    #[inline(always)]
    fn watch_child(
        this: &Ref<GatheringFuture>,
        child: &Obj,
        task: Option<&Obj>,
        fields: Option<&FutureFields<Future>>,
    ) -> Result<bool, Raised> {
        let native = match AnyFuture::of(child) {
            AnyFuture::Native(native) => native,
            AnyFuture::Other(other) => return GatheringFuture::watch_foreign(this, other, task),
        };
        if cfg!(Py_3_12) && !native.is_pending() {
            return Ok(false);
        }
        GatheringFuture::watch_pending(this, native, task, fields)?;
        Ok(true)
    }

    /// As `watch_child`, for a native child that is not known to be done.
    #[inline(always)]
    fn watch_pending(
        this: &Ref<GatheringFuture>,
        child: &Ref<Future>,
        task: Option<&Obj>,
        fields: Option<&FutureFields<Future>>,
    ) -> Result<(), Raised> {
        match (task, fields) {
            (Some(task), Some(fields)) => fields.add_awaited_by(child, task)?,
            (Some(task), None) => awaited_by::add(child.as_obj(), task)?,
            (None, _) => {}
        }
        child.ensure_alive(child.py())?;
        Future::add_watcher(child, this.as_obj())
    }

    #[cold]
    fn watch_foreign(
        this: &Ref<GatheringFuture>,
        child: &Obj,
        task: Option<&Obj>,
    ) -> Result<bool, Raised> {
        let other = AnyFuture::Other(child);
        if cfg!(Py_3_12) && other.is_done()? {
            return Ok(false);
        }
        if let Some(task) = task {
            awaited_by::add(child, task)?;
        }
        other.watch(this.as_obj())?;
        Ok(true)
    }

    /// Notes for call graphs, after a failure, that the task no longer waits for children that go
    /// on.
    fn let_go_of_children(this: &Ref<GatheringFuture>) -> Result<(), Raised> {
        if let Some(task) = this.task.get() {
            let mut index = 0;
            while let Some(child) = this.value(index) {
                awaited_by::discard(&child, &task)?;
                index += 1;
            }
        }
        Ok(())
    }

    /// Whether the end of a child that returns may be counted at once: until the ready queue would
    /// deliver it, nothing can happen that makes a difference. No delivery is under way, and
    /// another child is pending, whose end goes through the ready queue: so the result is set where
    /// asyncio sets it.
    #[inline]
    fn may_count(this: &Ref<GatheringFuture>) -> bool {
        this.whole.get()
            && this.expected.get() == 0
            && this.remaining.get() > 1
            && !this.has_attributes()
    }

    /// Notes for call graphs that the task no longer waits for the child, if nobody can see that
    /// this is early: only the child's step and this refer to it. Returns whether it has.
    #[inline]
    fn forget_awaited_by(&self, child: &Ref<Future>) -> bool {
        if cfg!(not(Py_3_14)) || self.task.is_none() {
            return true;
        }
        !self.shown.get()
            && child.as_obj().refcount() <= REFERENCES_IN_STEP
            && mirror(child.py())
                .is_some_and(|mirror| mirror.discard_only_awaited_by(child, &self.task))
    }

    /// Sets the result, when all children are done.
    fn finish(this: &Ref<GatheringFuture>) -> Result<(), Raised> {
        let py = this.py();
        let length = this.children.borrow().len();
        let results = Obj::list_of(py, length, |index| {
            let returned = this.children.borrow().get(index).and_then(stored_result);
            match returned {
                Some(result) => Ok(result),
                None => match this.value(index) {
                    Some(child) => outcome(&child),
                    None => Ok(Obj::none(py)),
                },
            }
        })?;
        let last = length.checked_sub(1).and_then(|last| this.value(last));
        if let (true, Some(last)) = (this.cancel_requested.get(), last) {
            // asyncio takes the error of the last argument's future, whichever ended last, and
            // whether it was cancelled or not.
            return GatheringFuture::settle(this, Err(AnyFuture::of(&last).cancelled_error()?));
        }
        GatheringFuture::settle(this, Ok(results))
    }

    /// `self.done()`.
    #[inline]
    fn is_settled(this: &Ref<GatheringFuture>) -> Result<bool, Raised> {
        if this.has_attributes() {
            return AnyFuture::of(this.as_obj()).is_done();
        }
        Ok(!this.parent_value().is_pending())
    }

    /// `self.set_result(result)` or `self.set_exception(exception)`.
    fn settle(this: &Ref<GatheringFuture>, outcome: Result<Obj, Obj>) -> Result<(), Raised> {
        if this.has_attributes() {
            return AnyFuture::of(this.as_obj()).set(outcome);
        }
        match outcome {
            Ok(result) => Future::set_result(this.parent(), result),
            Err(exception) => Future::set_exception(this.parent(), &exception),
        }
    }

    /// `cancel(msg=None)`: cancels the children.
    fn cancel(this: &Ref<GatheringFuture>, args: &Args<'_>) -> Result<bool, Raised> {
        let [message] = args.bind("cancel", &["msg"], 1, 0)?;
        if GatheringFuture::is_settled(this)? {
            return Ok(false);
        }
        let message = message.and_then(Obj::not_none);
        // A child may be another such future, and so on.
        stack::check(this.py())?;
        let mut any = false;
        let mut index = 0;
        while let Some(child) = this.value(index) {
            any |= cancel_with(&child, message.as_ref())?;
            index += 1;
        }
        if any {
            this.cancel_requested.set(true);
        }
        Ok(any)
    }

    /// Counts a child that is done, and ends with it if it has failed or is the last.
    fn child_done(this: &Ref<GatheringFuture>, child: &Obj) -> Result<(), Raised> {
        let remaining = this.remaining.get().saturating_sub(1);
        this.remaining.set(remaining);
        let native = AnyFuture::of(child).native();
        let returned = native.is_some_and(|native| native.has_returned());
        if cfg!(Py_3_14) {
            if let Some(task) = this.task.get() {
                match (native, mirror(child.py())) {
                    (Some(native), Some(mirror)) => mirror.discard_awaited_by(native, &task)?,
                    _ => awaited_by::discard(child, &task)?,
                }
            }
        }
        if !this.whole.get() || GatheringFuture::is_settled(this)? {
            let child = AnyFuture::of(child);
            if !returned && !child.is_cancelled()? {
                // Asking for the exception marks it as retrieved, so it is not reported.
                child.exception()?;
            }
            return Ok(());
        }
        if !returned && !this.return_exceptions {
            let child = AnyFuture::of(child);
            let failure = if child.is_cancelled()? {
                Some(child.cancelled_error()?)
            } else {
                child.exception()?
            };
            if let Some(failure) = failure {
                GatheringFuture::let_go_of_children(this)?;
                return GatheringFuture::settle(this, Err(failure));
            }
        }
        if remaining == 0 {
            return GatheringFuture::finish(this);
        }
        Ok(())
    }

    fn step(this: &Ref<GatheringFuture>, _value: &Obj) -> Result<Next, Raised> {
        await_step(this.parent(), this.parent_value())
    }

    fn python_iter(this: &Ref<GatheringFuture>) -> Result<Ref<FutureIter>, Raised> {
        FutureIter::create(this.parent())
    }

    fn python_children(this: &Ref<GatheringFuture>) -> Result<Obj, Raised> {
        let py = this.py();
        this.shown.set(true);
        let length = this.children.borrow().len();
        Obj::list_of(py, length, |index| {
            Ok(this.value(index).unwrap_or_else(|| Obj::none(py)))
        })
    }
}

/// The result of a native child that has returned.
#[inline]
fn stored_result(child: &Obj) -> Option<Obj> {
    AnyFuture::of(child).native()?.stored_result()
}

/// The entry in the list of results of a child without such a result.
fn outcome(child: &Obj) -> Result<Obj, Raised> {
    let py = child.py();
    let child = AnyFuture::of(child);
    if child.is_cancelled()? {
        let message = match child.cancel_message()? {
            Some(message) => message,
            None => Obj::str(py, "")?,
        };
        return asyncio(py).cancelled_error.get(py).call1(&message);
    }
    match child.exception()? {
        Some(exception) => Ok(exception),
        None => child.result(),
    }
}

impl Watcher for GatheringFuture {
    const COUNTS: bool = true;

    /// Counts a child that is done at once, instead of in the next iteration, if nothing can show
    /// the difference.
    #[inline]
    fn count(this: &Ref<GatheringFuture>, child: &Obj) -> bool {
        let counts = of_native_class(child).is_some_and(|child| {
            child.has_returned()
                && GatheringFuture::may_count(this)
                && !child.has_attributes()
                && this.forget_awaited_by(child)
        });
        if counts {
            this.remaining.set(this.remaining.get() - 1);
        } else {
            GatheringFuture::expect_done(this);
        }
        counts
    }

    #[inline]
    fn expect_done(this: &Ref<GatheringFuture>) {
        this.expected.set(this.expected.get().saturating_add(1));
    }

    /// Other code may call this callable at any time, so from now on the number of calls is
    /// unknown.
    fn callable(this: &Ref<GatheringFuture>, _: &Obj) -> Result<Obj, Raised> {
        this.expected.set(usize::MAX);
        callable_of(CallableName::GatherDone, this.as_obj())
    }

    fn on_done(this: &Ref<GatheringFuture>, child: &Obj) -> Result<(), Raised> {
        let expected = this.expected.get();
        if expected != usize::MAX {
            this.expected.set(expected.saturating_sub(1));
        }
        GatheringFuture::child_done(this, child)
    }
}

impl Hot for GatheringFuture {
    type Parent = Future;
    const NAME: &'static std::ffi::CStr = c"aioxide._GatheringFuture";
    const DOC: &'static std::ffi::CStr =
        c"The Future that gather() returns; its cancel() cancels the children.";
    const FREELIST: usize = 64;
    const SUBCLASSABLE: bool = false;
    cpython::hot_type!();
    cpython::holds!(task, children);

    fn build(builder: &mut Builder<Self>) {
        builder
            .repr(|this| {
                let py = this.py();
                asyncio(py).future_repr.get(py).call1(this.as_obj())
            })
            // Slots come from the foreign base, not from the Future above it.
            .iter(GatheringFuture::python_iter)
            .awaits_itself(
                c"__await__($self, /)\n--\n\nThe iterator of await.",
                GatheringFuture::python_iter,
            )
            .step(GatheringFuture::step)
            .method(
                c"cancel",
                c"cancel($self, /, msg=None)\n--\n\nCancel the children; returns whether one was pending.",
                GatheringFuture::cancel,
            )
            .get(c"_children", c"The futures gathered.", GatheringFuture::python_children)
            .get(
                c"_cancel_requested",
                c"Whether cancel() has cancelled children.",
                |this| this.cancel_requested.get(),
            );
    }

    fn needs_finalizer(&self, future: &Future) -> bool {
        future.has_unseen_exception()
    }

    fn empty_foreign_part(this: &Ref<Self>) {
        Future::empty_foreign_part(this.parent());
    }

    fn finalize(this: &Ref<Self>) {
        Future::report_unretrieved(this.parent());
    }
}

fn python_gather(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    let return_exceptions = match args.only_keyword("gather", "return_exceptions")? {
        Some(value) => value.truth()?,
        None => false,
    };
    GatheringFuture::gather(py, args.positional, return_exceptions)
}

/// Builds the type: a subclass of the accelerator's Future and of ours.
pub(super) fn build(py: Python<'_>) -> Result<(), Raised> {
    cpython::build::build::<GatheringFuture>(py, Some(asyncio(py).c_future.get(py)), 0)?;
    cpython::build::adopt::<GatheringFuture>(py)
}

/// Adds the function to the module.
pub(super) fn add_functions(py: Python<'_>, module: &Obj, name: &Obj) -> Result<(), Raised> {
    let doc = c"gather(*coros_or_futures, return_exceptions=False)\n--\n\n\
        A future of the list of results, in the order of the arguments.\n\n\
        return_exceptions: put exceptions into the list instead of raising the first.";
    let gather = function(py, c"gather", doc, name, python_gather)?;
    module.set_attr(pyo3::intern!(py, "gather"), &gather)
}
