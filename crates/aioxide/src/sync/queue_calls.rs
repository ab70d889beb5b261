//! The coroutine functions of Queue: `put()`, `get()`, `join()`.

use cpython::{Args, Obj, Python, Raised, Ref};
use pyo3::intern;

use super::acquired::Acquire;
use super::binding::new_waiter;
use super::call::{Op, Shortcut, SyncCall, SyncStage};
use super::event::Event;
use super::methods::{ClassPair, derive, wrong_object};
use super::primitive::Primitive;
use super::queue::{Queue, keep_ordered_queues, shut_down_error};
use crate::coroutines::coroutine::Turn;
use crate::tasks::any_future::{AnyFuture, cancel};

/// `put(item)`.
struct QueuePut;

impl Op for QueuePut {
    type Target = Queue;
    const NAME: &'static str = "put";
    const QUALIFIED_NAME: &'static str = "Queue.put";
    const SHORTCUT: Option<Shortcut<Queue>> = Some(|queue, call| {
        let refused = Queue::puts_at_once(queue, call.item.take()?);
        if refused.is_some() {
            call.item.set(refused);
            return None;
        }
        Some(Obj::none(queue.py()))
    });

    #[inline]
    fn begin(this: &Ref<Queue>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
        put(this, call)
    }

    #[inline]
    fn resume(
        this: &Ref<Queue>,
        call: &Ref<SyncCall>,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        go_on(this, call, outcome, true)
    }
}

/// `get()`.
struct QueueGet;

impl Op for QueueGet {
    type Target = Queue;
    const NAME: &'static str = "get";
    const QUALIFIED_NAME: &'static str = "Queue.get";
    const LEAVES_FIELDS: bool = false;
    const SHORTCUT: Option<Shortcut<Queue>> = Some(|queue, _| Queue::gets_at_once(queue));

    #[inline]
    fn begin(this: &Ref<Queue>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
        get(this, call)
    }

    #[inline]
    fn resume(
        this: &Ref<Queue>,
        call: &Ref<SyncCall>,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        go_on(this, call, outcome, false)
    }
}

/// `join()`.
struct QueueJoin;

impl Op for QueueJoin {
    type Target = Queue;
    const NAME: &'static str = "join";
    const QUALIFIED_NAME: &'static str = "Queue.join";

    fn begin(this: &Ref<Queue>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
        join(this, call)
    }
}

/// Tries again after the wait for room (`puts`) or for an item.
#[inline]
fn go_on(
    this: &Ref<Queue>,
    call: &Ref<SyncCall>,
    outcome: Result<Obj, Raised>,
    puts: bool,
) -> Result<Turn, Raised> {
    let Some(waiter) = call.waiter.take() else {
        outcome?;
        return SyncCall::done(call, Obj::none(this.py()));
    };
    match outcome {
        Ok(_) if puts => put(this, call),
        Ok(_) => get(this, call),
        Err(raised) => Err(give_up(this, puts, &waiter, raised)),
    }
}

#[inline]
fn put(this: &Ref<Queue>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
    if Queue::asks_full(this)? {
        if this.is_shut_down.get() {
            return Err(shut_down_error(this));
        }
        let putter = new_waiter(this)?;
        this.putters.push(putter.clone())?;
        return SyncCall::wait_on(call, putter);
    }
    let py = this.py();
    let item = call.item.take().unwrap_or_else(|| Obj::none(py));
    if Queue::is_native(this) {
        if this.is_shut_down.get() {
            return Err(shut_down_error(this));
        }
        Queue::put_now(this, &item)?;
        return SyncCall::done(call, Obj::none(py));
    }
    let result = this.as_obj().method(intern!(py, "put_nowait"), &[&item])?;
    SyncCall::done(call, result)
}

#[inline]
fn get(this: &Ref<Queue>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
    if Queue::asks_empty(this)? {
        if this.is_shut_down.get() && Queue::asks_empty(this)? {
            return Err(shut_down_error(this));
        }
        let getter = new_waiter(this)?;
        this.getters.push(getter.clone())?;
        return SyncCall::wait_on(call, getter);
    }
    let item = if Queue::is_native(this) {
        Queue::get_now(this)?
    } else {
        let name = intern!(this.py(), "get_nowait");
        this.as_obj().method(name, &[])?
    };
    SyncCall::done(call, item)
}

fn join(this: &Ref<Queue>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
    let py = this.py();
    if this.unfinished.get() <= 0 {
        return SyncCall::done(call, Obj::none(py));
    }
    let finished = Queue::finished(this)?;
    call.stage.set(SyncStage::Elsewhere);
    Ok(Turn::Await(match Ref::<Event>::of_exact_any(&finished) {
        Some(event) => SyncCall::create::<Acquire<Event>>(event)?.into_obj(),
        None => finished.method(intern!(py, "wait"), &[])?,
    }))
}

/// Ends the wait of a call that has failed. A call that was woken already wakes the next waiter in
/// its place.
fn give_up(this: &Ref<Queue>, puts: bool, waiter: &Obj, raised: Raised) -> Raised {
    let error = raised.take(this.py());
    let given_up = (|| -> Result<(), Raised> {
        cancel(waiter)?;
        let waiters = if puts { &this.putters } else { &this.getters };
        waiters.remove(waiter)?;
        let closed = if puts {
            Queue::asks_full(this)?
        } else {
            Queue::asks_empty(this)?
        };
        if !closed && !AnyFuture::of_waiter(waiter).is_cancelled()? {
            Queue::wake_next(this, waiters)?;
        }
        Ok(())
    })();
    match given_up {
        Ok(()) => Raised::raise(error),
        Err(raised) => raised,
    }
}

#[inline]
fn create_put(this: &Ref<Queue>, item: Obj) -> Result<Ref<SyncCall>, Raised> {
    let call = SyncCall::create::<QueuePut>(this)?;
    call.item.set(Some(item));
    Ok(call)
}

fn bind_put(py: Python<'_>, args: &Args<'_>) -> Result<Ref<SyncCall>, Raised> {
    const FUNCTION: &str = QueuePut::QUALIFIED_NAME;
    let [this, item] = args.bind_function(FUNCTION, &["self", "item"], 2)?;
    match (this.as_ref().and_then(Ref::<Queue>::of_any), item) {
        (Some(this), Some(item)) => create_put(this, item),
        _ => Err(wrong_object::<Queue>(py, this.as_ref(), FUNCTION)),
    }
}

/// Builds the class, PriorityQueue and LifoQueue; `queues` is the module `asyncio.queues`.
pub(super) fn build(py: Python<'_>, queues: &Obj) -> Result<(), Raised> {
    let class = ClassPair::<Queue>::build(py, queues)?;
    class.add_quick(
        QueuePut::NAME,
        "Put an item, waiting until there is room.",
        |this: &Ref<Queue>, [item]: &[Obj; 1]| create_put(this, item.clone()),
        bind_put,
    )?;
    class.add_plain::<QueueGet>("Take the next item, waiting until there is one.")?;
    class.add_plain::<QueueJoin>("Wait until task_done() was called for all items.")?;
    let priority = derive::<Queue>(
        py,
        "PriorityQueue",
        "asyncio.queues",
        "A Queue that gives the least item first, as asyncio.PriorityQueue.",
    )?;
    let lifo = derive::<Queue>(
        py,
        "LifoQueue",
        "asyncio.queues",
        "A Queue that gives the last item first, as asyncio.LifoQueue.",
    )?;
    keep_ordered_queues(py, priority, lifo);
    Ok(())
}
