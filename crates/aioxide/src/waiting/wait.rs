//! `wait(fs, *, timeout=None, return_when=ALL_COMPLETED)`.

use std::cell::{Cell, RefCell};

use cpython::callable::callable;
use cpython::error::handling;
use cpython::{Args, Obj, Python, Raised, Ref, Slot};

use super::awaited_by;
use super::callables::{CallableName, callable_of};
use super::codes::{Code, codes};
use super::ensure_future::get_running_loop;
use super::timer::WaitTimer;
use crate::coroutines::class::coroutine_class;
use crate::coroutines::coroutine::{Coroutine, CoroutineState, Turn};
use crate::coroutines::describe;
use crate::futures::create_future;
use crate::handles::served::{DueCall, Watcher};
use crate::interop::current::current_task;
use crate::tasks::any_future::{AnyFuture, is_future};
use crate::tasks::is_coroutine;

/// What ends the wait.
#[derive(Clone, Copy, PartialEq)]
enum Until {
    First,
    FirstException,
    All,
}

/// The value of the coroutine object that `wait()` returns.
pub(crate) struct Wait {
    /// The argument, until the wait begins; then the set made of it.
    futures: Slot,
    /// The members of the set, in its order.
    members: RefCell<Vec<Obj>>,
    timeout: Slot,
    return_when: Slot,
    until: Cell<Until>,
    left: Cell<usize>,
    waiter: Slot,
    task: Slot,
    timer: WaitTimer,
    state: CoroutineState,
}

impl Wait {
    fn create(py: Python<'_>, args: &Args<'_>) -> Result<Ref<Wait>, Raised> {
        let [futures, timeout, return_when] =
            args.bind_function_in_part("wait", &["fs", "timeout", "return_when"], 1, 1)?;
        Ref::new(
            py,
            Wait {
                futures: Slot::new(futures),
                members: RefCell::default(),
                timeout: Slot::new(timeout.and_then(Obj::not_none)),
                return_when: Slot::new(return_when),
                until: Cell::new(Until::All),
                left: Cell::new(0),
                waiter: Slot::default(),
                task: Slot::default(),
                timer: WaitTimer::default(),
                state: CoroutineState::default(),
            },
        )
    }

    fn member(&self, index: usize) -> Option<Obj> {
        self.members.borrow().get(index).cloned()
    }

    /// Calls the function for each member.
    fn each(&self, mut each: impl FnMut(&Obj) -> Result<(), Raised>) -> Result<(), Raised> {
        let mut index = 0;
        while let Some(member) = self.member(index) {
            each(&member)?;
            index += 1;
        }
        Ok(())
    }

    fn until(py: Python<'_>, given: &Obj) -> Result<Until, Raised> {
        for (text, until) in [
            ("FIRST_COMPLETED", Until::First),
            ("FIRST_EXCEPTION", Until::FirstException),
            ("ALL_COMPLETED", Until::All),
        ] {
            let same = match given.as_ascii() {
                Some(given) => given == text,
                None => given.equals(&Obj::str(py, text)?)?,
            };
            if same {
                return Ok(until);
            }
        }
        let text = format!("Invalid return_when value: {}", given.str_of()?.as_str()?);
        Err(Raised::value_error(py, &text))
    }

    /// Ends the wait.
    fn stop(this: &Ref<Wait>) -> Result<(), Raised> {
        this.timer.cancel()?;
        let task = this.task.get();
        this.each(|future| {
            AnyFuture::of(future).unwatch(this.as_obj())?;
            match &task {
                Some(task) => awaited_by::discard(future, task),
                None => Ok(()),
            }
        })
    }

    /// The result: the set of the futures that are done, and the set of those that are pending.
    fn result(this: &Ref<Wait>) -> Result<Obj, Raised> {
        let py = this.py();
        let is_known_as_done = |member: &Obj| {
            AnyFuture::of(member)
                .native()
                .is_some_and(|native| !native.is_pending())
        };
        let all_done = this.members.borrow().iter().all(is_known_as_done);
        if let (true, Some(all)) = (all_done, this.futures.take()) {
            return Obj::tuple(py, &[all, Obj::set(py)?]);
        }
        let (done, pending) = (Obj::set(py)?, Obj::set(py)?);
        this.each(|member| {
            if AnyFuture::of(member).is_done()? {
                done.add(member)
            } else {
                pending.add(member)
            }
        })?;
        Obj::tuple(py, &[done, pending])
    }
}

impl Watcher for Wait {
    fn callable(this: &Ref<Wait>, _: &Obj) -> Result<Obj, Raised> {
        callable_of(CallableName::WaitDone, this.as_obj())
    }

    fn due_call(this: &Ref<Wait>) -> Result<DueCall, Raised> {
        let due = callable_of(CallableName::WaitDue, this.as_obj())?;
        Ok((due, this.waiter.get().into_iter().collect()))
    }

    fn on_done(this: &Ref<Wait>, future: &Obj) -> Result<(), Raised> {
        let left = this.left.get().saturating_sub(1);
        this.left.set(left);
        let enough = left == 0
            || match this.until.get() {
                Until::All => false,
                Until::First => true,
                Until::FirstException => {
                    let asked = AnyFuture::of(future);
                    !asked.is_cancelled()? && asked.exception()?.is_some()
                }
            };
        if enough {
            this.timer.cancel()?;
            if let Some(waiter) = this.waiter.get() {
                AnyFuture::of(&waiter).release()?;
            }
        }
        match this.task.get() {
            Some(task) => awaited_by::discard(future, &task),
            None => Ok(()),
        }
    }

    fn due(this: &Ref<Wait>) -> Result<(), Raised> {
        this.timer.ran();
        match this.waiter.get() {
            Some(waiter) => AnyFuture::of(&waiter).release(),
            None => Ok(()),
        }
    }
}

impl Coroutine for Wait {
    fn names(&self) -> (&'static str, &'static str) {
        ("wait", "wait")
    }

    fn codes(&self, py: Python<'_>) -> Vec<Obj> {
        if self.waiter.is_some() {
            codes(py, &[Code::Wait, Code::WaitInner])
        } else {
            codes(py, &[Code::Wait])
        }
    }

    fn begin(this: &Ref<Wait>) -> Result<Turn, Raised> {
        let py = this.py();
        let given = this.futures.take().unwrap_or_else(|| Obj::none(py));
        if is_future(&given)? || is_coroutine(&given)? {
            let name = given.class().attr(pyo3::intern!(py, "__name__"))?;
            let text = format!("expect a list of futures, not {}", name.as_str()?);
            return Err(Raised::type_error(py, &text));
        }
        if !given.truth()? {
            return Err(Raised::value_error(py, "Set of Tasks/Futures is empty."));
        }
        if let Some(return_when) = this.return_when.take() {
            this.until.set(Wait::until(py, &return_when)?);
        }
        let futures = Obj::set_of(&given)?;
        drop(given);
        let mut members = Vec::with_capacity(futures.set_len());
        let iterator = futures.iter()?;
        while let Some(future) = iterator.next()? {
            if AnyFuture::of(&future).native().is_none() && is_coroutine(&future)? {
                let text = "Passing coroutines is forbidden, use tasks explicitly.";
                return Err(Raised::type_error(py, text));
            }
            members.push(future);
        }
        let event_loop = get_running_loop(py)?;
        if members.is_empty() {
            let class = Obj::class_of::<pyo3::exceptions::PyAssertionError>(py);
            return Err(Raised::with_class(&class, "Set of Futures is empty."));
        }
        let waiter = create_future(&event_loop)?;
        this.waiter.set(Some(waiter.clone()));
        if let Some(timeout) = this.timeout.take() {
            this.timer
                .start_after(&event_loop, &timeout, this.as_obj())?;
        }
        this.left.set(members.len());
        this.futures.set(Some(futures));
        *this.members.borrow_mut() = members;
        if cfg!(Py_3_14) {
            this.task.set(current_task(py, Some(&event_loop))?);
        }
        let task = this.task.get();
        this.each(|future| {
            AnyFuture::of(future).watch(this.as_obj())?;
            match &task {
                Some(task) => awaited_by::add(future, task),
                None => Ok(()),
            }
        })?;
        Ok(Turn::Await(waiter))
    }

    fn resume(this: &Ref<Wait>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised> {
        match outcome {
            Ok(_) => {
                Wait::stop(this)?;
                Wait::result(this).map(Turn::Return)
            }
            Err(raised) => {
                let exception = raised.take(this.py());
                handling(&exception, || Wait::stop(this))?;
                Err(Raised::raise(exception))
            }
        }
    }
}

coroutine_class! {
    Wait: c"aioxide._aioxide.wait_coroutine", c"The coroutine object that wait() returns.";
    const FREELIST: usize = 256;
    const MOVES: bool = true;
    holds futures, timeout, return_when, waiter, task, members, timer;
}

/// Builds the type.
pub(super) fn build(py: Python<'_>) -> Result<(), Raised> {
    cpython::build::build::<Wait>(py, None, 0).map(drop)
}

/// Adds the function to the module; `tasks` is asyncio's.
pub(super) fn add_functions(py: Python<'_>, module: &Obj, tasks: &Obj) -> Result<(), Raised> {
    let doc = "Wait for futures: two sets, of those done and of those pending.";
    let wait = callable(py, "wait", doc, Wait::create)?;
    describe(py, &wait, &tasks.attr(pyo3::intern!(py, "wait"))?)?;
    module.set_attr(pyo3::intern!(py, "wait"), &wait)
}
