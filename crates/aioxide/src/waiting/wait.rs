//! `wait(fs, *, timeout=None, return_when=ALL_COMPLETED)`.

use std::cell::{Cell, RefCell};

use cpython::build::MethodDef;
use cpython::callable::callable;
use cpython::{Args, Obj, Python, Raised, Ref, Slot};

use super::any_future::{
    create_future, exception, is_cancelled, is_done, is_future, release, unwatch, watch,
};
use super::awaited_by;
use super::codes::{Code, codes};
use super::ensure_future::get_running_loop;
use super::timer::Timer;
use super::watching::Watcher;
use crate::coroutines::class::coroutine_class;
use crate::coroutines::coroutine::{Coroutine, Course, Turn};
use crate::coroutines::describe;
use crate::interop::current::current_task;
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
    /// What was given, until the wait begins; then the set made of it.
    futures: Slot,
    /// The members of the set, in its order.
    members: RefCell<Vec<Obj>>,
    timeout: Slot,
    return_when: Slot,
    until: Cell<Until>,
    left: Cell<usize>,
    waiter: Slot,
    task: Slot,
    timer: Timer,
    course: Course,
}

impl Wait {
    fn create(py: Python<'_>, args: &Args<'_>) -> Result<Ref<Wait>, Raised> {
        let [futures, timeout, return_when] =
            args.bind("wait", &["fs", "timeout", "return_when"], 1, 1)?;
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
                timer: Timer::default(),
                course: Course::default(),
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

    /// The futures done and those pending.
    fn result(this: &Ref<Wait>) -> Result<Obj, Raised> {
        let py = this.py();
        let mut pending = 0;
        this.each(|member| {
            pending += usize::from(!is_done(member)?);
            Ok(())
        })?;
        if let (0, Some(all)) = (pending, this.futures.take()) {
            return Obj::tuple(py, &[all, Obj::set(py)?]);
        }
        let (done, pending) = (Obj::set(py)?, Obj::set(py)?);
        this.each(|member| {
            if is_done(member)? {
                done.add(member)
            } else {
                pending.add(member)
            }
        })?;
        Obj::tuple(py, &[done, pending])
    }
}

impl Watcher for Wait {
    const CALLABLE: &'static MethodDef = {
        static CALLABLE: MethodDef = MethodDef::new(c"_on_completion", c"One is done.");
        &CALLABLE
    };
    const DUE: &'static MethodDef = {
        static DUE: MethodDef = MethodDef::new(c"_release_waiter", c"The time is over.");
        &DUE
    };

    fn told(this: &Ref<Wait>, future: &Obj) -> Result<(), Raised> {
        let left = this.left.get().saturating_sub(1);
        this.left.set(left);
        let enough = left == 0
            || match this.until.get() {
                Until::All => false,
                Until::First => true,
                Until::FirstException => !is_cancelled(future)? && exception(future)?.is_some(),
            };
        if enough {
            this.timer.cancel()?;
            if let Some(waiter) = this.waiter.get() {
                release(&waiter)?;
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
            Some(waiter) => release(&waiter),
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
            if super::any_future::native(&future).is_none() && is_coroutine(&future)? {
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
            watch(future, this.as_obj())?;
            match &task {
                Some(task) => awaited_by::add(future, task),
                None => Ok(()),
            }
        })?;
        Ok(Turn::Await(waiter))
    }

    fn resume(this: &Ref<Wait>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised> {
        let outcome = outcome.map_err(|raised| raised.take(this.py()));
        this.timer.cancel()?;
        let task = this.task.get();
        this.each(|future| {
            unwatch(future, this.as_obj())?;
            match &task {
                Some(task) => awaited_by::discard(future, task),
                None => Ok(()),
            }
        })?;
        outcome.map_err(Raised::raise)?;
        Wait::result(this).map(Turn::Return)
    }
}

coroutine_class! {
    Wait: c"aioxide._aioxide.wait_coroutine", c"The coroutine object that wait() returns.";
    const FREELIST: usize = 256;
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
