//! `gather(*coros_or_futures, return_exceptions=False)`.
//!
//! The future that it returns watches its children and counts those that are done; the results
//! become a list only at the end.

use std::cell::{Cell, RefCell};

use cpython::build::{Builder, MethodDef, Next, function};
use cpython::{Args, Hot, Obj, Python, Raised, Ref, Slot};

use super::any_future::{
    cancel, cancel_message, cancelled_error, exception, is_cancelled, is_done,
    log_destroy_pending_off, loop_of, native, result, set, watch,
};
use super::arguments::Arguments;
use super::ensure_future::{current_loop, ensure_future};
use super::watching::Watcher;
use super::{any_future, awaited_by};
use crate::event_loop::EventLoop;
use crate::futures::{Flag, Future, FutureIter, await_step, mirror};
use crate::interop::asyncio;
use crate::interop::current::{current_task, running_loop};
use crate::interop::mirror::FutureFields;
use crate::tasks::Task;

/// The value of the future that `gather()` returns, behind that of a Future.
pub(crate) struct GatheringFuture {
    children: RefCell<Vec<Obj>>,
    /// Those of them, each counted once, that are not done.
    remaining: Cell<usize>,
    /// How often it is going to be told that a child is done.
    untold: Cell<usize>,
    /// Whether the program has asked for the children.
    shown: Cell<bool>,
    return_exceptions: bool,
    cancel_requested: Cell<bool>,
    /// Whether all children are known.
    whole: Cell<bool>,
    /// The task that called `gather()`.
    task: Slot,
}

/// To a child that has just ended in its step and is known to nobody else: the entry of the ready
/// queue that runs, the thread's running task, and the list of children.
const REFERENCES_IN_STEP: isize = 3;

impl GatheringFuture {
    fn value(&self, index: usize) -> Option<Obj> {
        self.children.borrow().get(index).cloned()
    }

    /// The call.
    fn gather(py: Python<'_>, args: &[Obj], return_exceptions: bool) -> Result<Obj, Raised> {
        if args.is_empty() {
            let outer = any_future::create_future(&current_loop(py)?)?;
            set(&outer, Ok(&Obj::list(py)?))?;
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
            untold: Cell::new(0),
            shown: Cell::new(false),
            return_exceptions,
            cancel_requested: Cell::new(false),
            whole: Cell::new(false),
            task: Slot::new(task.clone()),
        })?;
        // Where a native task waits, call graphs are told without a look at it for each child.
        let books = match &task {
            Some(task) if native(task).is_some() => mirror(py),
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
                    // Nobody else can keep it from going while it is pending.
                    child.parent().flags.set(Flag::LogDestroyPending, false);
                    arguments.learn(argument, child.as_obj())?;
                    outer.remaining.set(outer.remaining.get() + 1);
                    GatheringFuture::watch_pending(&outer, child.parent(), task.as_ref(), books)?;
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
            if event_loop.is_none() {
                event_loop = loop_of(&child)?;
            }
            if !child.is(argument) {
                // Nobody else can keep it from going while it is pending.
                log_destroy_pending_off(&child)?;
            }
            arguments.learn(argument, &child)?;
            outer.remaining.set(outer.remaining.get() + 1);
            if !GatheringFuture::watch_child(&outer, &child, task.as_ref(), books)? {
                done.push(child.clone());
            }
            children.push(child);
        }
        Future::init(outer.parent(), event_loop)?;
        outer.parent_value().flags.set(Flag::Plain, true);
        *outer.children.borrow_mut() = children;
        outer.whole.set(true);
        for child in done {
            GatheringFuture::hear(&outer, &child)?;
        }
        Ok(outer.into_obj())
    }

    /// Has itself told when the child is done, and the task shown as one that waits for it; false
    /// if the child is done already.
    #[inline(always)]
    fn watch_child(
        this: &Ref<GatheringFuture>,
        child: &Obj,
        task: Option<&Obj>,
        books: Option<&FutureFields<Future>>,
    ) -> Result<bool, Raised> {
        let Some(native) = native(child) else {
            return GatheringFuture::watch_foreign(this, child, task);
        };
        if cfg!(Py_3_12) && !native.is_pending() {
            return Ok(false);
        }
        GatheringFuture::watch_pending(this, native, task, books)?;
        Ok(true)
    }

    /// The same of a native one that is not known to be done.
    #[inline(always)]
    fn watch_pending(
        this: &Ref<GatheringFuture>,
        child: &Ref<Future>,
        task: Option<&Obj>,
        books: Option<&FutureFields<Future>>,
    ) -> Result<(), Raised> {
        match (task, books) {
            (Some(task), Some(books)) => books.add_awaited_by(child, task)?,
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
        if cfg!(Py_3_12) && is_done(child)? {
            return Ok(false);
        }
        if let Some(task) = task {
            awaited_by::add(child, task)?;
        }
        watch(child, this.as_obj())?;
        Ok(true)
    }

    /// It has failed: children that go on are no longer awaited.
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

    /// It is going to be told of a child.
    #[inline]
    pub(super) fn to_be_told(&self) {
        self.untold.set(self.untold.get().saturating_add(1));
    }

    /// A child is done, of which the next iteration would tell: whether it is counted now, since
    /// nothing can show the difference.
    #[inline]
    pub(super) fn count(this: &Ref<GatheringFuture>, child: &Ref<Future>) -> bool {
        let counts = child.has_returned() && this.may_count() && this.forget_awaited_by(child);
        if counts {
            this.remaining.set(this.remaining.get() - 1);
        } else {
            this.to_be_told();
        }
        counts
    }

    /// Whether the end of a child that returns would only be counted, whoever runs until it is
    /// told. All children before were counted or told, so that another one is pending. That goes
    /// through the ready queue: all is done where it is in asyncio's order.
    #[inline]
    fn may_count(&self) -> bool {
        self.whole.get() && self.untold.get() == 0 && self.remaining.get() > 1
    }

    /// The task no longer waits for the child, where nobody can see that it ends early: only its
    /// step and this refer to the child.
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

    /// All children are done.
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
            // Of the last argument's future, whichever ended last, and whether cancelled or not.
            let error = cancelled_error(&last)?;
            return Future::set_exception(this.parent(), &error);
        }
        Future::set_result(this.parent(), results)
    }

    /// `cancel(msg=None)`: cancels the children.
    fn cancel(this: &Ref<GatheringFuture>, args: &Args<'_>) -> Result<bool, Raised> {
        let [message] = args.bind("cancel", &["msg"], 1, 0)?;
        if !this.parent_value().is_pending() {
            return Ok(false);
        }
        let message = message.and_then(Obj::not_none);
        let mut any = false;
        let mut index = 0;
        while let Some(child) = this.value(index) {
            any |= cancel(&child, message.as_ref())?;
            index += 1;
        }
        if any {
            this.cancel_requested.set(true);
        }
        Ok(any)
    }

    /// A child is done.
    fn hear(this: &Ref<GatheringFuture>, child: &Obj) -> Result<(), Raised> {
        let outer = this.parent_value();
        let remaining = this.remaining.get().saturating_sub(1);
        this.remaining.set(remaining);
        let native = native(child);
        let returned = native.is_some_and(|native| native.has_returned());
        if cfg!(Py_3_14) {
            if let Some(task) = this.task.get() {
                match (native, mirror(child.py())) {
                    (Some(native), Some(mirror)) => mirror.discard_awaited_by(native, &task)?,
                    _ => awaited_by::discard(child, &task)?,
                }
            }
        }
        if !this.whole.get() || !outer.is_pending() {
            if !returned && !is_cancelled(child)? {
                // Seen, so that nobody reports it.
                exception(child)?;
            }
            return Ok(());
        }
        if !returned && !this.return_exceptions {
            let failure = if is_cancelled(child)? {
                Some(cancelled_error(child)?)
            } else {
                exception(child)?
            };
            if let Some(failure) = failure {
                GatheringFuture::let_go_of_children(this)?;
                return Future::set_exception(this.parent(), &failure);
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
    native(child)?.stored_result()
}

/// What a child that has no such result has in the list of results.
fn outcome(child: &Obj) -> Result<Obj, Raised> {
    let py = child.py();
    if is_cancelled(child)? {
        let message = match cancel_message(child)? {
            Some(message) => message,
            None => Obj::str(py, "")?,
        };
        return asyncio(py).cancelled_error.get(py).call1(&message);
    }
    match exception(child)? {
        Some(exception) => Ok(exception),
        None => result(child),
    }
}

impl Watcher for GatheringFuture {
    const CALLABLE: &'static MethodDef = {
        static CALLABLE: MethodDef = MethodDef::new(c"_done_callback", c"A child is done.");
        &CALLABLE
    };

    fn has_callable(this: &Ref<GatheringFuture>) {
        this.untold.set(usize::MAX);
    }

    fn told(this: &Ref<GatheringFuture>, child: &Obj) -> Result<(), Raised> {
        let untold = this.untold.get();
        if untold != usize::MAX {
            this.untold.set(untold.saturating_sub(1));
        }
        GatheringFuture::hear(this, child)
    }
}

impl Hot for GatheringFuture {
    type Parent = Future;
    const NAME: &'static std::ffi::CStr = c"aioxide._GatheringFuture";
    const DOC: &'static std::ffi::CStr =
        c"What gather() returns: a Future whose cancel() cancels the children.";
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
                c"__await__($self, /)\n--\n\nWhat await iterates over.",
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
