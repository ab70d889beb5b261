//! The coroutine of one `acquire()`, `wait()`, `get()` or the like.
//!
//! One type for all: it knows what it does, to which object, and the Future that it waits on. What
//! need not wait runs to its end in the first step, and the object is soon used again.

use std::cell::Cell;

use cpython::build::Next;
use cpython::{Hot, Obj, Python, Raised, Ref, Slot, Spare};

use super::barrier::Barrier;
use super::bound::Primitive;
use super::condition::Condition;
use super::event::Event;
use super::lock::Lock;
use super::queue::Queue;
use super::semaphore::Semaphore;
use crate::coroutines::class::coroutine_class;
use crate::coroutines::coroutine::{Coroutine, Course, Turn};

/// What it does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    LockAcquire,
    LockEnter,
    LockExit,
    SemaphoreAcquire,
    SemaphoreEnter,
    SemaphoreExit,
    EventWait,
    ConditionWait,
    ConditionWaitFor,
    ConditionEnter,
    ConditionExit,
    BarrierWait,
    BarrierEnter,
    BarrierExit,
    BarrierReset,
    BarrierAbort,
    QueuePut,
    QueueGet,
    QueueJoin,
}

impl Operation {
    /// The names of asyncio's function.
    fn names(self) -> (&'static str, &'static str) {
        use Operation::*;
        match self {
            LockAcquire => ("acquire", "Lock.acquire"),
            SemaphoreAcquire => ("acquire", "Semaphore.acquire"),
            LockEnter | SemaphoreEnter | ConditionEnter => {
                ("__aenter__", "_ContextManagerMixin.__aenter__")
            }
            LockExit | SemaphoreExit | ConditionExit => {
                ("__aexit__", "_ContextManagerMixin.__aexit__")
            }
            EventWait => ("wait", "Event.wait"),
            ConditionWait => ("wait", "Condition.wait"),
            ConditionWaitFor => ("wait_for", "Condition.wait_for"),
            BarrierWait => ("wait", "Barrier.wait"),
            BarrierEnter => ("__aenter__", "Barrier.__aenter__"),
            BarrierExit => ("__aexit__", "Barrier.__aexit__"),
            BarrierReset => ("reset", "Barrier.reset"),
            BarrierAbort => ("abort", "Barrier.abort"),
            QueuePut => ("put", "Queue.put"),
            QueueGet => ("get", "Queue.get"),
            QueueJoin => ("join", "Queue.join"),
        }
    }

    /// Whether it may leave something in a Call's fields.
    fn has_more(self) -> bool {
        use Operation::*;
        !matches!(
            self,
            LockAcquire
                | LockEnter
                | LockExit
                | SemaphoreAcquire
                | SemaphoreEnter
                | SemaphoreExit
                | EventWait
                | ConditionWait
                | QueueGet
        )
    }

    fn enters(self) -> bool {
        matches!(self, Operation::LockEnter | Operation::SemaphoreEnter)
    }

    fn exits(self) -> bool {
        matches!(self, Operation::LockExit | Operation::SemaphoreExit)
    }
}

/// Where one with several awaits waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// On what it is there for.
    Waiting,
    /// For a native lock.
    Locking,
    /// For whatever a lock's `acquire()` has returned.
    Acquiring,
    /// For a method that a program has replaced.
    Elsewhere,
    /// A Barrier's: until it is ready for another round.
    Blocked,
}

/// The value of the coroutine object.
pub(super) struct Call {
    operation: Cell<Operation>,
    pub(super) stage: Cell<Stage>,
    /// The primitive; not here while a step runs.
    target: Slot,
    /// The Future that it waits on.
    pub(super) waiter: Slot,
    /// What is put into a queue, the predicate of a condition, the number of one at a barrier.
    pub(super) item: Slot,
    /// What it will raise as soon as the lock is its own again.
    pub(super) error: Slot,
    /// The last cancellation while it waited for that.
    pub(super) cancelled: Slot,
    course: Course,
}

/// The last that has ended, to use again.
static ENDED: Spare<Call> = Spare::new();

impl Call {
    /// One that does this to the object.
    #[inline(always)]
    pub(super) fn create(
        py: Python<'_>,
        operation: Operation,
        target: &Obj,
    ) -> Result<Ref<Call>, Raised> {
        let Some(call) = ENDED.take(py) else {
            return Call::create_new(py, operation, target);
        };
        call.operation.set(operation);
        call.stage.set(Stage::Waiting);
        call.target.set(Some(target.clone()));
        call.course.renew();
        Ok(call)
    }

    #[inline(never)]
    fn create_new(py: Python<'_>, operation: Operation, target: &Obj) -> Result<Ref<Call>, Raised> {
        Ref::make(py, || Call {
            operation: Cell::new(operation),
            stage: Cell::new(Stage::Waiting),
            target: Slot::new(Some(target.clone())),
            waiter: Slot::default(),
            item: Slot::default(),
            error: Slot::default(),
            cancelled: Slot::default(),
            course: Course::default(),
        })
    }

    /// What it does.
    #[inline]
    pub(super) fn operation(&self) -> Operation {
        self.operation.get()
    }

    /// It returns a value, and the object may be used again.
    #[inline]
    pub(super) fn done(this: &Ref<Call>, value: Obj) -> Result<Turn, Raised> {
        ENDED.keep(this);
        Ok(Turn::Return(value))
    }

    /// As `done`, unless it raises an exception.
    pub(super) fn done_or_raise(
        this: &Ref<Call>,
        outcome: Result<Obj, Obj>,
    ) -> Result<Turn, Raised> {
        match outcome {
            Ok(value) => Call::done(this, value),
            Err(error) => Err(Raised::raise(error)),
        }
    }

    /// It waits on a Future of the primitive's.
    #[inline]
    pub(super) fn wait_on(this: &Ref<Call>, waiter: Obj) -> Result<Turn, Raised> {
        this.waiter.set(Some(waiter.clone()));
        Ok(Turn::Await(waiter))
    }
}

/// What is acquired and released, or waited for, with one await.
pub(super) trait Acquired: Primitive {
    /// Acquires it, if that needs nothing but a look at its own fields.
    fn acquires_at_once(this: &Ref<Self>) -> bool;

    /// Releases it, if nobody waits for that and nothing is wrong.
    fn releases_at_once(_this: &Ref<Self>) -> bool {
        false
    }

    /// Acquires it, or returns the Future to wait on.
    fn begin(this: &Ref<Self>) -> Result<Option<Obj>, Raised>;

    /// The wait is over, and with it the object acquired; or it has failed.
    fn finish(this: &Ref<Self>, waiter: &Obj, outcome: Result<Obj, Raised>) -> Result<(), Raised>;

    /// `release()`, of what can be released.
    fn release(_this: &Ref<Self>) -> Result<(), Raised> {
        Ok(())
    }

    #[inline]
    fn start(this: &Ref<Self>, call: &Ref<Call>) -> Result<Turn, Raised> {
        let py = this.py();
        let operation = call.operation();
        if operation.exits() {
            if Self::is_native(this) {
                Self::release(this)?;
            } else {
                let name = pyo3::intern!(py, "release");
                this.as_obj().method(name, &[])?;
            }
            return Call::done(call, Obj::none(py));
        }
        if operation.enters() && !Self::is_native(this) {
            let acquire = pyo3::intern!(py, "acquire");
            return Ok(Turn::Await(this.as_obj().method(acquire, &[])?));
        }
        match Self::begin(this)? {
            None => Call::done(call, acquired(py, operation)),
            Some(waiter) => Call::wait_on(call, waiter),
        }
    }

    #[inline]
    fn go_on(
        this: &Ref<Self>,
        call: &Ref<Call>,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        match call.waiter.take() {
            Some(waiter) => Self::finish(this, &waiter, outcome)?,
            None => drop(outcome?),
        }
        Call::done(call, acquired(this.py(), call.operation()))
    }
}

#[inline]
fn acquired(py: Python<'_>, operation: Operation) -> Obj {
    if operation.enters() {
        Obj::none(py)
    } else {
        Obj::bool(py, true)
    }
}

/// A step of a call, by a method of the primitive's with these arguments.
macro_rules! step {
    ($call:ident, $method:ident $(, $outcome:ident)?) => {{
        let Some(target) = $call.target.take() else {
            return Ok(Turn::Return(Obj::none($call.py())));
        };
        macro_rules! of {
            ($class:ident) => {
                match Ref::<$class>::of(&target) {
                    Some(target) => $class::$method(target, $call $(, $outcome)?),
                    None => Ok(Turn::Return(Obj::none($call.py()))),
                }
            };
        }
        use Operation::*;
        let turn = match $call.operation.get() {
            LockAcquire | LockEnter | LockExit => of!(Lock),
            QueuePut | QueueGet | QueueJoin => of!(Queue),
            EventWait => of!(Event),
            SemaphoreAcquire | SemaphoreEnter | SemaphoreExit => of!(Semaphore),
            ConditionWait | ConditionWaitFor | ConditionEnter | ConditionExit => of!(Condition),
            BarrierWait | BarrierEnter | BarrierExit | BarrierReset | BarrierAbort => of!(Barrier),
        };
        if let Ok(Turn::Await(_)) = &turn {
            $call.target.set(Some(target));
        }
        turn
    }};
}

/// What is done without a wait: the value that it returns; none if it takes the whole way.
#[inline(always)]
fn at_once<T: Hot>(this: &Ref<Call>, attempt: impl FnOnce(&Ref<T>) -> Option<Obj>) -> Option<Next> {
    let call: &Call = this;
    let target = call.target.take()?;
    let Some(value) = Ref::<T>::of(&target).and_then(attempt) else {
        call.target.set(Some(target));
        return None;
    };
    call.course.finish();
    ENDED.keep(this);
    Some(Next::Return(value))
}

impl Coroutine for Call {
    fn names(&self) -> (&'static str, &'static str) {
        self.operation.get().names()
    }

    #[inline(always)]
    fn shortcut(this: &Ref<Call>) -> Option<Next> {
        use Operation::*;
        let call: &Call = this;
        if !call.course.is_new() {
            return None;
        }
        let py = this.py();
        let none = |done: bool| done.then(|| Obj::none(py));
        let yes = |done: bool| done.then(|| Obj::bool(py, true));
        match call.operation.get() {
            LockEnter => at_once(this, |lock| none(Lock::acquires_at_once(lock))),
            LockExit => at_once(this, |lock| none(Lock::releases_at_once(lock))),
            LockAcquire => at_once(this, |lock| yes(Lock::acquires_at_once(lock))),
            QueueGet => at_once(this, Queue::gets_at_once),
            QueuePut => at_once(this, |queue| {
                let item = call.item.take()?;
                let refused = Queue::puts_at_once(queue, item);
                if refused.is_some() {
                    call.item.set(refused);
                    return None;
                }
                Some(Obj::none(py))
            }),
            EventWait => at_once(this, |event| yes(Event::acquires_at_once(event))),
            SemaphoreEnter => at_once(this, |it| none(Semaphore::acquires_at_once(it))),
            SemaphoreExit => at_once(this, |it| none(Semaphore::releases_at_once(it))),
            SemaphoreAcquire => at_once(this, |it| yes(Semaphore::acquires_at_once(it))),
            _ => None,
        }
    }

    #[inline]
    fn begin(this: &Ref<Call>) -> Result<Turn, Raised> {
        step!(this, start)
    }

    #[inline]
    fn resume(this: &Ref<Call>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised> {
        step!(this, go_on, outcome)
    }

    #[inline]
    fn end(this: &Ref<Call>) {
        // One that has run to its end has nothing left but what it was given.
        if this.target.take().is_some() || this.operation.get().has_more() {
            this.clear();
        }
    }
}

coroutine_class! {
    Call: c"aioxide._aioxide.sync_coroutine", c"The coroutine object that methods of locks and queues return.";
    const FREELIST: usize = 1024;
    holds target, waiter, item, error, cancelled;
}
