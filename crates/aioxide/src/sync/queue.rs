//! Queue, and in which order each of the three gives its items back.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::CStr;

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Raised, Ref, Slot};
use pyo3::intern;

use super::bound::{Bound, Primitive, build_bound, has_own_methods, new_waiter};
use super::call::{Call, Operation, Stage};
use super::deque::Deque;
use super::event::Event;
use super::number::Number;
use super::originals;
use super::waiters::{cancel, is_cancelled, wake};
use crate::coroutines::coroutine::Turn;

/// Which item is the next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    First,
    Last,
    Least,
}

/// What is given as `maxsize` is no number: it is compared when that matters.
const UNKNOWN: usize = 0;

/// The value of a Queue.
pub(super) struct Queue {
    pub(super) bound: Bound,
    order: Cell<Order>,
    maxsize: Slot,
    /// With so many items it is full.
    limit: Cell<usize>,
    pub(super) items: Deque,
    pub(super) getters: Deque,
    pub(super) putters: Deque,
    pub(super) unfinished: Cell<i64>,
    /// The Event behind `join()`, made when somebody asks for it.
    finished: Slot,
    pub(super) is_shut_down: Cell<bool>,
}

impl Queue {
    fn empty() -> Queue {
        Queue {
            bound: Bound::default(),
            order: Cell::new(Order::First),
            maxsize: Slot::default(),
            limit: Cell::new(usize::MAX),
            items: Deque::absent(),
            getters: Deque::empty(),
            putters: Deque::empty(),
            unfinished: Cell::new(0),
            finished: Slot::default(),
            is_shut_down: Cell::new(false),
        }
    }

    fn init(this: &Ref<Queue>, args: &Args<'_>) -> Result<(), Raised> {
        let py = this.py();
        let [maxsize] = args.bind_as_python("Queue.__init__", &["maxsize"], 0)?;
        let maxsize = match maxsize {
            Some(maxsize) => maxsize,
            None => Obj::int(py, 0)?,
        };
        this.set_maxsize(Some(maxsize.clone()))?;
        this.getters.reset();
        this.putters.reset();
        this.unfinished.set(0);
        this.finished.set(None);
        this.is_shut_down.set(false);
        if Ref::<Queue>::is_exact(this.as_obj()) {
            this.order.set(Order::First);
            this.items.reset();
            return Ok(());
        }
        let [priority, lifo] = super::ordered_queues(py);
        this.order.set(if this.as_obj().is_subtype_of(priority) {
            Order::Least
        } else if this.as_obj().is_subtype_of(lifo) {
            Order::Last
        } else {
            Order::First
        });
        if has_own_methods(this, &["_init"]) {
            return Queue::init_items(this);
        }
        this.as_obj()
            .method(intern!(py, "_init"), &[&maxsize])
            .map(drop)
    }

    /// `_init(maxsize)`.
    pub(super) fn init_items(this: &Ref<Queue>) -> Result<(), Raised> {
        if this.order.get() == Order::Least {
            this.items.put_in_place(Some(Obj::list(this.py())?));
        } else {
            this.items.reset();
        }
        Ok(())
    }

    pub(super) fn maxsize(&self) -> Option<Obj> {
        self.maxsize.get()
    }

    /// Sets how many items there may be.
    pub(super) fn set_maxsize(&self, maxsize: Option<Obj>) -> Result<(), Raised> {
        self.limit.set(match &maxsize {
            Some(maxsize) if maxsize.is_int() || maxsize.is_float_exact() => {
                Number::of(maxsize)?.limit()
            }
            _ => UNKNOWN,
        });
        self.maxsize.set(maxsize);
        Ok(())
    }

    /// The class of `_queue`, if it is not set by a program.
    pub(super) fn show_items(this: &Ref<Queue>) -> Result<Obj, Raised> {
        let py = this.py();
        let class = if this.order.get() == Order::First {
            originals(py).deque.get(py).clone()
        } else {
            Obj::class_of::<pyo3::types::PyList>(py)
        };
        this.items.show(py, &class)?.ok_or_else(|| {
            let class = Obj::class_of::<pyo3::exceptions::PyAttributeError>(py);
            Raised::with_class(&class, "'Queue' object has no attribute '_queue'")
        })
    }

    /// `qsize()`.
    #[inline]
    pub(super) fn size(this: &Ref<Queue>) -> Result<usize, Raised> {
        this.items.len()
    }

    /// `empty()`.
    #[inline]
    pub(super) fn is_empty(this: &Ref<Queue>) -> Result<bool, Raised> {
        this.items.is_empty()
    }

    /// `full()`.
    #[inline]
    pub(super) fn is_full(this: &Ref<Queue>) -> Result<bool, Raised> {
        match this.limit.get() {
            usize::MAX => Ok(false),
            UNKNOWN => Queue::compare_size(this),
            limit if Queue::is_native(this) => Ok(this.items.len()? >= limit),
            _ => Queue::compare_size(this),
        }
    }

    #[cold]
    fn compare_size(this: &Ref<Queue>) -> Result<bool, Raised> {
        let py = this.py();
        let operator = Obj::import(py, c"operator")?;
        let maxsize = this.maxsize.get().unwrap_or_else(|| Obj::none(py));
        let zero = Obj::int(py, 0)?;
        let unlimited = operator.method(intern!(py, "le"), &[&maxsize, &zero])?;
        if unlimited.truth()? {
            return Ok(false);
        }
        let size = this.as_obj().method(intern!(py, "qsize"), &[])?;
        let reached = operator.method(intern!(py, "ge"), &[&size, &maxsize])?;
        reached.truth()
    }

    /// `self.empty()`.
    #[inline]
    fn asks_empty(this: &Ref<Queue>) -> Result<bool, Raised> {
        if Queue::is_native(this) {
            return Queue::is_empty(this);
        }
        let name = intern!(this.py(), "empty");
        this.as_obj().method(name, &[])?.truth()
    }

    /// `self.full()`.
    #[inline]
    fn asks_full(this: &Ref<Queue>) -> Result<bool, Raised> {
        if Queue::is_native(this) {
            return Queue::is_full(this);
        }
        let name = intern!(this.py(), "full");
        this.as_obj().method(name, &[])?.truth()
    }

    /// `_put(item)`.
    #[inline]
    pub(super) fn put_item(this: &Ref<Queue>, item: &Obj) -> Result<(), Raised> {
        if this.order.get() == Order::Least {
            let heap = Queue::show_items(this)?;
            let push = originals(this.py()).heap_push.get(this.py());
            return push.call(&[&heap, item]).map(drop);
        }
        this.items.push(item.clone())
    }

    /// `_get()`.
    #[inline]
    pub(super) fn get_item(this: &Ref<Queue>) -> Result<Obj, Raised> {
        let item = match this.order.get() {
            Order::First => this.items.pop_first()?,
            Order::Last => this.items.pop_last()?,
            Order::Least => {
                let heap = Queue::show_items(this)?;
                let pop = originals(this.py()).heap_pop.get(this.py());
                return pop.call1(&heap);
            }
        };
        item.ok_or_else(|| {
            let class = Obj::class_of::<pyo3::exceptions::PyIndexError>(this.py());
            let text = match this.order.get() {
                Order::First => "pop from an empty deque",
                _ => "pop from empty list",
            };
            Raised::with_class(&class, text)
        })
    }

    /// Lets the first who waits and is not done go on.
    #[inline]
    fn wake_next(this: &Ref<Queue>, waiters: &Deque) -> Result<(), Raised> {
        if Queue::is_native(this) && waiters.is_plainly_empty() {
            return Ok(());
        }
        Queue::wake_one(this, waiters)
    }

    fn wake_one(this: &Ref<Queue>, waiters: &Deque) -> Result<(), Raised> {
        if Queue::is_native(this) || has_own_methods(this, &["_wakeup_next"]) {
            while let Some(waiter) = waiters.pop_first()? {
                if wake(&waiter, Obj::none(this.py()))? {
                    break;
                }
            }
            return Ok(());
        }
        let py = this.py();
        match waiters.show(py, originals(py).deque.get(py))? {
            Some(waiters) => {
                let name = intern!(py, "_wakeup_next");
                this.as_obj().method(name, &[&waiters]).map(drop)
            }
            None => Ok(()),
        }
    }

    /// `put_nowait(item)`.
    #[inline]
    pub(super) fn put_nowait(this: &Ref<Queue>, item: &Obj) -> Result<(), Raised> {
        let py = this.py();
        if this.is_shut_down.get() {
            return Err(shut_down(this));
        }
        if Queue::asks_full(this)? {
            return Err(raise(originals(py).queue_full.get(py)));
        }
        Queue::put_now(this, item)
    }

    /// There is room.
    #[inline]
    fn put_now(this: &Ref<Queue>, item: &Obj) -> Result<(), Raised> {
        if Queue::is_native(this) {
            Queue::put_item(this, item)?;
        } else {
            let name = intern!(this.py(), "_put");
            this.as_obj().method(name, &[item])?;
        }
        this.unfinished.set(this.unfinished.get() + 1);
        if this.finished.is_some() {
            Queue::tell_finished(this, false)?;
        }
        Queue::wake_next(this, &this.getters)
    }

    /// `get_nowait()`.
    #[inline]
    pub(super) fn get_nowait(this: &Ref<Queue>) -> Result<Obj, Raised> {
        let py = this.py();
        if Queue::asks_empty(this)? {
            if this.is_shut_down.get() {
                return Err(shut_down(this));
            }
            return Err(raise(originals(py).queue_empty.get(py)));
        }
        Queue::get_now(this)
    }

    /// There is an item.
    #[inline]
    fn get_now(this: &Ref<Queue>) -> Result<Obj, Raised> {
        let item = if Queue::is_native(this) {
            Queue::get_item(this)?
        } else {
            let name = intern!(this.py(), "_get");
            this.as_obj().method(name, &[])?
        };
        Queue::wake_next(this, &this.putters)?;
        Ok(item)
    }

    /// Begins a coroutine.
    #[inline]
    pub(super) fn start(this: &Ref<Queue>, call: &Ref<Call>) -> Result<Turn, Raised> {
        match call.operation() {
            Operation::QueuePut => Queue::put(this, call),
            Operation::QueueGet => Queue::get(this, call),
            _ => Queue::join(this, call),
        }
    }

    #[inline]
    fn put(this: &Ref<Queue>, call: &Ref<Call>) -> Result<Turn, Raised> {
        if Queue::asks_full(this)? {
            if this.is_shut_down.get() {
                return Err(shut_down(this));
            }
            let putter = new_waiter(this)?;
            this.putters.push(putter.clone())?;
            return Call::wait_on(call, putter);
        }
        let py = this.py();
        let item = call.item.take().unwrap_or_else(|| Obj::none(py));
        if Queue::is_native(this) {
            if this.is_shut_down.get() {
                return Err(shut_down(this));
            }
            Queue::put_now(this, &item)?;
            return Call::done(call, Obj::none(py));
        }
        let result = this.as_obj().method(intern!(py, "put_nowait"), &[&item])?;
        Call::done(call, result)
    }

    #[inline]
    fn get(this: &Ref<Queue>, call: &Ref<Call>) -> Result<Turn, Raised> {
        if Queue::asks_empty(this)? {
            if this.is_shut_down.get() && Queue::asks_empty(this)? {
                return Err(shut_down(this));
            }
            let getter = new_waiter(this)?;
            this.getters.push(getter.clone())?;
            return Call::wait_on(call, getter);
        }
        let item = if Queue::is_native(this) {
            Queue::get_now(this)?
        } else {
            let name = intern!(this.py(), "get_nowait");
            this.as_obj().method(name, &[])?
        };
        Call::done(call, item)
    }

    /// Puts an item where there is room for it and nobody to tell; gives it back if not.
    #[inline]
    pub(super) fn puts_at_once(this: &Ref<Queue>, item: Obj) -> Option<Obj> {
        let queue: &Queue = this;
        let plain = this.is_known_native()
            && queue.order.get() != Order::Least
            && !queue.is_shut_down.get()
            && queue.finished.is_none()
            && queue.getters.is_plainly_empty();
        if !plain {
            return Some(item);
        }
        let refused = queue.items.push_below(queue.limit.get(), item);
        if refused.is_none() {
            queue.unfinished.set(queue.unfinished.get() + 1);
        }
        refused
    }

    /// Takes an item where there is one and nobody waits to put another.
    #[inline]
    pub(super) fn gets_at_once(this: &Ref<Queue>) -> Option<Obj> {
        let queue: &Queue = this;
        if !this.is_known_native() || !queue.putters.is_plainly_empty() {
            return None;
        }
        match queue.order.get() {
            Order::First => queue.items.pop_plain(VecDeque::pop_front),
            Order::Last => queue.items.pop_plain(VecDeque::pop_back),
            Order::Least => None,
        }
    }

    fn join(this: &Ref<Queue>, call: &Ref<Call>) -> Result<Turn, Raised> {
        let py = this.py();
        if this.unfinished.get() <= 0 {
            return Call::done(call, Obj::none(py));
        }
        let finished = Queue::finished(this)?;
        call.stage.set(Stage::Elsewhere);
        Ok(Turn::Await(match Ref::<Event>::of_exact(&finished) {
            Some(_) => Call::create(py, Operation::EventWait, &finished)?.into_obj(),
            None => finished.method(intern!(py, "wait"), &[])?,
        }))
    }

    /// What the coroutine awaits has an outcome.
    #[inline]
    pub(super) fn go_on(
        this: &Ref<Queue>,
        call: &Ref<Call>,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        let Some(waiter) = call.waiter.take() else {
            outcome?;
            return Call::done(call, Obj::none(this.py()));
        };
        let puts = call.operation() == Operation::QueuePut;
        match outcome {
            Ok(_) if puts => Queue::put(this, call),
            Ok(_) => Queue::get(this, call),
            Err(raised) => Err(Queue::give_up(this, puts, &waiter, raised)),
        }
    }

    /// It waits no longer. If its turn had come, it is another's now.
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
            if !closed && !is_cancelled(waiter)? {
                Queue::wake_next(this, waiters)?;
            }
            Ok(())
        })();
        match given_up {
            Ok(()) => Raised::raise(error),
            Err(raised) => raised,
        }
    }

    /// `_finished`: the Event behind `join()`.
    pub(super) fn finished(this: &Ref<Queue>) -> Result<Obj, Raised> {
        if let Some(finished) = this.finished.get() {
            return Ok(finished);
        }
        let finished = Event::create(this.py(), this.unfinished.get() <= 0)?;
        this.finished.set(Some(finished.as_obj().clone()));
        Ok(finished.into_obj())
    }

    pub(super) fn set_finished(&self, finished: Option<Obj>) {
        self.finished.set(finished);
    }

    /// Sets or clears the Event, if there is one.
    fn tell_finished(this: &Ref<Queue>, set: bool) -> Result<(), Raised> {
        let Some(finished) = this.finished.get() else {
            return Ok(());
        };
        let py = this.py();
        match (Ref::<Event>::of_exact(&finished), set) {
            (Some(event), true) => Event::set(event),
            (Some(event), false) => {
                event.unset();
                Ok(())
            }
            (None, true) => finished.method(intern!(py, "set"), &[]).map(drop),
            (None, false) => finished.method(intern!(py, "clear"), &[]).map(drop),
        }
    }

    /// `task_done()`.
    #[inline]
    pub(super) fn task_done(this: &Ref<Queue>) -> Result<(), Raised> {
        let unfinished = this.unfinished.get();
        if unfinished <= 0 {
            let text = "task_done() called too many times";
            return Err(Raised::value_error(this.py(), text));
        }
        this.unfinished.set(unfinished - 1);
        if unfinished == 1 {
            return Queue::tell_finished(this, true);
        }
        Ok(())
    }

    /// `shutdown(immediate=False)`.
    pub(super) fn shut_down(this: &Ref<Queue>, args: &Args<'_>) -> Result<(), Raised> {
        let py = this.py();
        let [immediate] = args.bind_as_python("Queue.shutdown", &["immediate"], 0)?;
        this.is_shut_down.set(true);
        if immediate.map_or(Ok(false), |immediate| immediate.truth())? {
            while !Queue::asks_empty(this)? {
                if Queue::is_native(this) {
                    drop(Queue::get_item(this)?);
                } else {
                    this.as_obj().method(intern!(py, "_get"), &[])?;
                }
                if this.unfinished.get() > 0 {
                    this.unfinished.set(this.unfinished.get() - 1);
                }
            }
            if this.unfinished.get() == 0 {
                Queue::tell_finished(this, true)?;
            }
        }
        for waiters in [&this.getters, &this.putters] {
            while let Some(waiter) = waiters.pop_first()? {
                wake(&waiter, Obj::none(py))?;
            }
        }
        Ok(())
    }
}

#[cold]
fn raise(class: &Obj) -> Raised {
    match class.call0() {
        Ok(exception) => Raised::raise_in_context(exception),
        Err(raised) => raised,
    }
}

#[cold]
fn shut_down(this: &Ref<Queue>) -> Raised {
    let py = this.py();
    match &originals(py).queue_shut_down {
        Some(class) => raise(class.get(py)),
        None => Raised::runtime_error(py, "the queue is shut down"),
    }
}

impl Primitive for Queue {
    const REPLACEABLE: &'static [&'static str] = &[
        "_get",
        "_put",
        "_wakeup_next",
        "qsize",
        "empty",
        "full",
        "put_nowait",
        "get_nowait",
        "_get_loop",
    ];
    const STATE: &'static [&'static str] = &[
        "_maxsize",
        "_queue",
        "_getters",
        "_putters",
        "_unfinished_tasks",
        "_finished",
        "_is_shutdown",
    ];

    #[inline]
    fn bound(&self) -> &Bound {
        &self.bound
    }
}

impl Hot for Queue {
    type Parent = NoParent;
    const NAME: &'static CStr = c"asyncio.queues.Queue";
    const DOC: &'static CStr = c"Queue(maxsize=0)\n--\n\n\
        A queue for tasks, as asyncio.Queue: the first item put is the first got.\n\n\
        maxsize: how many items there may be before put() must wait; no limit if not positive.";
    const FREELIST: usize = 64;
    const BASED: bool = false;
    cpython::hot_type!();
    cpython::holds!(bound, maxsize, items, getters, putters, finished);

    fn build(builder: &mut Builder<Self>) {
        build_bound(builder);
        builder.new_value(|_| Ok(Queue::empty())).init(Queue::init);
        super::queue_interface::build_queue(builder);
    }
}
