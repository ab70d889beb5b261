//! `as_completed(fs, *, timeout=None)`.
//!
//! The iterator watches the futures and queues those that are done; each step of an iteration is a
//! coroutine that takes one from the queue.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use cpython::build::{Builder, Next, function};
use cpython::error::handling;
use cpython::{Args, GcFields, Hot, NoParent, Obj, Python, Raised, Ref, Slot, Visit, coro};

use super::awaited_by;
use super::callables::{CallableName, callable_of};
use super::codes::{Code, codes};
use super::ensure_future::{current_loop, ensure_future, get_running_loop};
use super::expiry::timeout_error;
use super::timer::WaitTimer;
use crate::coroutines::class::coroutine_class;
use crate::coroutines::coroutine::{Coroutine, CoroutineState, Turn};
use crate::coroutines::describe;
use crate::futures::create_future;
use crate::handles::served::{DueCall, Watcher};
use crate::interop::current::current_task;
use crate::tasks::any_future::{AnyFuture, cancel, is_future};
use crate::tasks::is_coroutine;

/// The value of the iterator.
pub(crate) struct AsCompleted {
    /// The argument, until the futures are taken from it: on 3.13 and later that is at once.
    given: Slot,
    timeout: Slot,
    /// The set of the futures that are not done.
    todo: Slot,
    /// The futures that are done, in order. None stands for one that was not done in time.
    done: RefCell<VecDeque<Option<Obj>>>,
    /// The Futures on which steps wait.
    getters: RefCell<VecDeque<Obj>>,
    left: Cell<usize>,
    task: Slot,
    timer: WaitTimer,
}

impl AsCompleted {
    fn create(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
        let [given, timeout] =
            args.bind_function_in_part("as_completed", &["fs", "timeout"], 1, 1)?;
        let value = AsCompleted {
            given: Slot::new(given),
            timeout: Slot::new(timeout.and_then(Obj::not_none)),
            todo: Slot::default(),
            done: RefCell::default(),
            getters: RefCell::default(),
            left: Cell::new(0),
            task: Slot::default(),
            timer: WaitTimer::default(),
        };
        let this = Ref::new(py, value)?;
        if cfg!(Py_3_13) {
            AsCompleted::begin(&this)?;
        }
        Ok(this.into_obj())
    }

    /// Takes the futures from the argument, once.
    fn begin(this: &Ref<AsCompleted>) -> Result<(), Raised> {
        let py = this.py();
        let Some(given) = this.given.take() else {
            return Ok(());
        };
        AsCompleted::check(&given)?;
        let event_loop = current_loop(py)?;
        if cfg!(Py_3_14) {
            this.task.set(current_task(py, None)?);
        }
        let iterator = Obj::set_of(&given)?.iter()?;
        let todo = Obj::set(py)?;
        let mut futures = Vec::new();
        while let Some(awaitable) = iterator.next()? {
            todo.add(&ensure_future(&awaitable, Some(&event_loop))?)?;
        }
        let iterator = todo.iter()?;
        while let Some(future) = iterator.next()? {
            futures.push(future);
        }
        let task = this.task.get();
        for future in &futures {
            AnyFuture::of(future).watch(this.as_obj())?;
            if let Some(task) = &task {
                awaited_by::add(future, task)?;
            }
        }
        if let (Some(timeout), false) = (this.timeout.take(), futures.is_empty()) {
            this.timer
                .start_after(&event_loop, &timeout, this.as_obj())?;
        }
        this.todo.set(Some(todo));
        this.left.set(futures.len());
        Ok(())
    }

    fn check(given: &Obj) -> Result<(), Raised> {
        let py = given.py();
        let text = if cfg!(Py_3_13) {
            let inspect = Obj::import(py, c"inspect")?;
            let name = pyo3::intern!(py, "isawaitable");
            inspect
                .method(name, &[given])?
                .truth()?
                .then_some("expects an iterable of awaitables")
        } else {
            (is_future(given)? || is_coroutine(given)?).then_some("expect an iterable of futures")
        };
        match text {
            Some(text) => {
                let name = given.class().attr(pyo3::intern!(py, "__name__"))?;
                let text = format!("{text}, not {}", name.as_str()?);
                Err(Raised::type_error(py, &text))
            }
            None => Ok(()),
        }
    }

    fn members(&self) -> Result<Vec<Obj>, Raised> {
        let mut members = Vec::new();
        if let Some(todo) = self.todo.get() {
            let iterator = todo.iter()?;
            while let Some(future) = iterator.next()? {
                members.push(future);
            }
        }
        Ok(members)
    }

    fn is_over(&self) -> bool {
        self.todo.get().is_none_or(|todo| todo.set_len() == 0)
    }

    fn put(&self, done: Option<Obj>) -> Result<(), Raised> {
        self.done.borrow_mut().push_back(done);
        self.wake_next()
    }

    fn wake_next(&self) -> Result<(), Raised> {
        loop {
            let getter = self.getters.borrow_mut().pop_front();
            let Some(getter) = getter else { return Ok(()) };
            if AnyFuture::of(&getter).set_unless_done(Ok(Obj::none(getter.py())))? {
                return Ok(());
            }
        }
    }

    /// A step of the plain iteration: the coroutine of the next result.
    fn step(this: &Ref<AsCompleted>, _value: &Obj) -> Result<Next, Raised> {
        if let Err(raised) = AsCompleted::begin(this) {
            // Where it begins only now, asyncio's iterator is a generator.
            return Err(coro::leave(raised.take(this.py()), "generator"));
        }
        let left = this.left.get();
        if left == 0 {
            return Ok(Next::Return(Obj::none(this.py())));
        }
        this.left.set(left - 1);
        NextCompleted::create(this, Mode::Result).map(|step| Next::Yield(step.into_obj()))
    }

    /// `__anext__()`: the coroutine of the next future.
    fn next(py: Python<'_>, args: &Args<'_>) -> Result<Ref<NextCompleted>, Raised> {
        let [this] = args.bind_function("_AsCompletedIterator.__anext__", &["self"], 1)?;
        match this.as_ref().and_then(Ref::<AsCompleted>::of_any) {
            Some(this) => this.within(|this| NextCompleted::create(this, Mode::Future)),
            None => Err(Raised::type_error(py, "not an iterator of as_completed()")),
        }
    }
}

impl Watcher for AsCompleted {
    fn callable(this: &Ref<AsCompleted>, _: &Obj) -> Result<Obj, Raised> {
        callable_of(CallableName::CompletedDone, this.as_obj())
    }

    fn due_call(this: &Ref<AsCompleted>) -> Result<DueCall, Raised> {
        callable_of(CallableName::CompletedDue, this.as_obj()).map(|due| (due, Vec::new()))
    }

    fn on_done(this: &Ref<AsCompleted>, future: &Obj) -> Result<(), Raised> {
        if this.is_over() {
            return Ok(());
        }
        if let Some(todo) = this.todo.get() {
            todo.discard(future)?;
        }
        if let Some(task) = this.task.get() {
            awaited_by::discard(future, &task)?;
        }
        this.put(Some(future.clone()))?;
        if this.is_over() {
            this.timer.cancel()?;
        }
        Ok(())
    }

    fn due(this: &Ref<AsCompleted>) -> Result<(), Raised> {
        this.timer.ran();
        let task = this.task.get();
        for future in this.members()? {
            AnyFuture::of(&future).unwatch(this.as_obj())?;
            if let Some(task) = &task {
                awaited_by::discard(&future, task)?;
            }
            this.put(None)?;
        }
        this.todo.set(None);
        Ok(())
    }
}

impl Hot for AsCompleted {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide._AsCompletedIterator";
    const DOC: &'static std::ffi::CStr = c"The iterator that as_completed() returns.";
    const FREELIST: usize = 64;
    const SUBCLASSABLE: bool = false;
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        builder.iter(|this| this.clone()).step(AsCompleted::step);
        if cfg!(Py_3_13) {
            builder.async_iter(|this| this.clone());
        }
    }

    fn traverse(&self, visit: &mut Visit<'_>) {
        for slot in [&self.given, &self.timeout, &self.todo, &self.task] {
            visit.slot(slot);
        }
        if let (Ok(done), Ok(getters)) = (self.done.try_borrow(), self.getters.try_borrow()) {
            for object in done.iter().flatten().chain(getters.iter()) {
                visit.object(object);
            }
        }
        self.timer.visit(visit);
    }

    fn clear(&self) {
        for slot in [&self.given, &self.timeout, &self.todo, &self.task] {
            slot.set(None);
        }
        let done = std::mem::take(&mut *self.done.borrow_mut());
        let getters = std::mem::take(&mut *self.getters.borrow_mut());
        drop((done, getters));
        self.timer.let_go();
    }
}

/// What a step returns.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// The result of the next future that is done.
    Result,
    /// The next future that is done.
    Future,
}

/// The value of the coroutine object of one step.
pub(crate) struct NextCompleted {
    iterator: Slot<Ref<AsCompleted>>,
    mode: Cell<Mode>,
    getter: Slot,
    state: CoroutineState,
}

impl NextCompleted {
    fn create(iterator: &Ref<AsCompleted>, mode: Mode) -> Result<Ref<NextCompleted>, Raised> {
        Ref::new(
            iterator.py(),
            NextCompleted {
                iterator: Slot::new(Some(iterator.clone())),
                mode: Cell::new(mode),
                getter: Slot::default(),
                state: CoroutineState::default(),
            },
        )
    }

    /// Takes a future from the queue, or waits.
    fn take(this: &Ref<NextCompleted>, iterator: &Ref<AsCompleted>) -> Result<Turn, Raised> {
        let py = this.py();
        let next = iterator.done.borrow_mut().pop_front();
        match next {
            None => {
                let getter = create_future(&get_running_loop(py)?)?;
                iterator.getters.borrow_mut().push_back(getter.clone());
                this.getter.set(Some(getter.clone()));
                Ok(Turn::Await(getter))
            }
            Some(None) => Err(timeout_error(py, None)?),
            Some(Some(future)) if this.mode.get() == Mode::Future => Ok(Turn::Return(future)),
            Some(Some(future)) => AnyFuture::of(&future).result().map(Turn::Return),
        }
    }

    /// Ends a wait that was cancelled, and wakes the next step in its place.
    fn give_up(this: &Ref<NextCompleted>, iterator: &Ref<AsCompleted>) -> Result<(), Raised> {
        let Some(getter) = this.getter.take() else {
            return Ok(());
        };
        cancel(&getter)?;
        iterator
            .getters
            .borrow_mut()
            .retain(|waiting| !waiting.is(&getter));
        let any = !iterator.done.borrow().is_empty();
        if any && !AnyFuture::of(&getter).is_cancelled()? {
            iterator.wake_next()?;
        }
        if cfg!(Py_3_14) {
            iterator.left.set(iterator.left.get() + 1);
        }
        Ok(())
    }
}

impl Coroutine for NextCompleted {
    fn names(&self) -> (&'static str, &'static str) {
        match self.mode.get() {
            Mode::Future => ("__anext__", "_AsCompletedIterator.__anext__"),
            Mode::Result if cfg!(Py_3_13) => {
                ("_wait_for_one", "_AsCompletedIterator._wait_for_one")
            }
            Mode::Result => ("_wait_for_one", "as_completed.<locals>._wait_for_one"),
        }
    }

    fn codes(&self, py: Python<'_>) -> Vec<Obj> {
        let all = [Code::NextCompleted, Code::WaitForOne, Code::QueueGet];
        let first = usize::from(self.mode.get() == Mode::Result);
        codes(py, &all[first..])
    }

    fn begin(this: &Ref<NextCompleted>) -> Result<Turn, Raised> {
        let py = this.py();
        let Some(iterator) = this.iterator.get() else {
            return Ok(Turn::Return(Obj::none(py)));
        };
        if this.mode.get() == Mode::Future {
            let left = iterator.left.get();
            if left == 0 {
                let stop = Obj::class_of::<pyo3::exceptions::PyStopAsyncIteration>(py);
                return Err(Raised::raise_in_context(stop.call0()?));
            }
            iterator.left.set(left - 1);
        }
        NextCompleted::take(this, &iterator)
    }

    fn resume(this: &Ref<NextCompleted>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised> {
        let Some(iterator) = this.iterator.get() else {
            return outcome.map(Turn::Return);
        };
        if let Err(raised) = outcome {
            let exception = raised.take(this.py());
            handling(&exception, || NextCompleted::give_up(this, &iterator))?;
            return Err(Raised::raise(exception));
        }
        this.getter.set(None);
        NextCompleted::take(this, &iterator)
    }
}

coroutine_class! {
    NextCompleted: c"aioxide._aioxide.as_completed_coroutine", c"The coroutine object of a step of as_completed().";
    const FREELIST: usize = 1024;
    holds iterator, getter;
}

/// Builds the types; `tasks` is asyncio's module.
pub(super) fn build(py: Python<'_>, tasks: &Obj) -> Result<(), Raised> {
    let class = cpython::build::build::<AsCompleted>(py, None, 0)?;
    cpython::build::build::<NextCompleted>(py, None, 0)?;
    if cfg!(Py_3_13) {
        let name = pyo3::intern!(py, "__anext__");
        let doc = "The next future that is done.";
        let next = cpython::callable::callable(py, "__anext__", doc, AsCompleted::next)?;
        let original = tasks.attr(pyo3::intern!(py, "_AsCompletedIterator"))?;
        describe(py, &next, &original.attr(name)?)?;
        class.set_attr(name, &next)?;
    }
    Ok(())
}

/// Adds the function to the module.
pub(super) fn add_functions(py: Python<'_>, module: &Obj, name: &Obj) -> Result<(), Raised> {
    let doc = c"as_completed(fs, *, timeout=None)\n--\n\n\
        An iterator of coroutines, each of the result of the next that is done; since Python 3.13 \
        also an asynchronous iterator of the futures.\n\n\
        timeout: seconds for all of them; TimeoutError for those that are not done then.";
    let made = function(py, c"as_completed", doc, name, AsCompleted::create)?;
    module.set_attr(pyo3::intern!(py, "as_completed"), &made)
}
