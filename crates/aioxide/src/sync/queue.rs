//! Queue, and the order in which each of the three classes returns its items.

use std::cell::Cell;
use std::collections::VecDeque;

use cpython::{Args, Global, Obj, Python, Raised, Ref, Slot};
use pyo3::intern;
use pyo3::sync::PyOnceLock;

use super::deque::Deque;
use super::event::Event;
use super::imports::{SyncImports, imports};
use super::in_dict;
use super::number::CountNumber;
use super::primitive::{Attributes, Primitive, PrimitiveFields, has_own_methods};
use super::waiters::take_waiters;
use crate::tasks::any_future::AnyFuture;

static ORDERED_QUEUES: PyOnceLock<[Global; 2]> = PyOnceLock::new();

/// The classes PriorityQueue and LifoQueue, which are Queues with another order.
pub(super) fn ordered_queues(py: Python<'_>) -> [&'static Obj; 2] {
    match ORDERED_QUEUES.get(py) {
        Some([priority, lifo]) => [priority.get(py), lifo.get(py)],
        None => unreachable!("the classes are built before any native object is made"),
    }
}

/// Keeps those classes.
pub(super) fn keep_ordered_queues(py: Python<'_>, priority: Obj, lifo: Obj) {
    let _ = ORDERED_QUEUES.set(py, [Global::new(priority), Global::new(lifo)]);
}

/// The order of a queue: which item is the next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    First,
    Last,
    Least,
}

impl Order {
    /// The order of an object, by its class.
    fn of(this: &Ref<Queue>) -> Order {
        let [priority, lifo] = ordered_queues(this.py());
        if this.as_obj().is_subtype_of(priority) {
            Order::Least
        } else if this.as_obj().is_subtype_of(lifo) {
            Order::Last
        } else {
            Order::First
        }
    }

    /// The class of the items' container.
    fn container(self, imports: &SyncImports, py: Python<'_>) -> Obj {
        match self {
            Order::First => imports.deque.get(py).clone(),
            Order::Last | Order::Least => Obj::class_of::<pyo3::types::PyList>(py),
        }
    }
}

/// The limit of a queue whose `maxsize` is no number. Such a `maxsize` is compared whenever it
/// matters.
const UNKNOWN: usize = 0;

/// The value of a Queue.
pub(super) struct Queue {
    pub(super) shared: PrimitiveFields,
    order: Cell<Order>,
    pub(super) maxsize: Slot,
    /// The number of items with which the queue is full: `usize::MAX` if there is no limit.
    limit: Cell<usize>,
    pub(super) items: Deque,
    pub(super) getters: Deque,
    pub(super) putters: Deque,
    pub(super) unfinished: Cell<i64>,
    /// The Event behind `join()`, made when it is first needed.
    pub(super) finished: Slot,
    pub(super) is_shut_down: Cell<bool>,
}

impl Queue {
    /// An empty queue whose `__init__` has not run.
    pub(super) fn empty() -> Queue {
        Queue {
            shared: PrimitiveFields::uninitialized(),
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

    pub(super) fn init(this: &Ref<Queue>, args: &Args<'_>) -> Result<(), Raised> {
        let py = this.py();
        let [maxsize] = args.bind_as_python("Queue.__init__", &["maxsize"], 0)?;
        let maxsize = match maxsize {
            Some(maxsize) => maxsize,
            None => Obj::int(py, 0)?,
        };
        if in_dict::initializes(this)? {
            return in_dict::call(this, "__init__", &[&maxsize]).map(drop);
        }
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
        this.order.set(Order::of(this));
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

    /// Sets the maximum number of items.
    pub(super) fn set_maxsize(&self, maxsize: Option<Obj>) -> Result<(), Raised> {
        self.limit.set(match &maxsize {
            Some(maxsize) if maxsize.is_int() || maxsize.is_float_exact() => {
                CountNumber::of(maxsize)?.limit()
            }
            _ => UNKNOWN,
        });
        self.maxsize.set(maxsize);
        Ok(())
    }

    /// `_queue`: the container of the items, for the program.
    pub(super) fn show_items(this: &Ref<Queue>) -> Result<Obj, Raised> {
        let py = this.py();
        let class = this.order.get().container(imports(py), py);
        let items = this.items.show(py, &class)?;
        items.ok_or_else(|| in_dict::missing(this, "_queue"))
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
        let maxsize = this.maxsize.get().unwrap_or_else(|| Obj::none(py));
        if maxsize.is_at_most(&Obj::int(py, 0)?)? {
            return Ok(false);
        }
        let size = this.as_obj().method(intern!(py, "qsize"), &[])?;
        size.is_at_least(&maxsize)
    }

    /// `self.empty()`.
    #[inline]
    pub(super) fn asks_empty(this: &Ref<Queue>) -> Result<bool, Raised> {
        if Queue::is_native(this) {
            return Queue::is_empty(this);
        }
        let name = intern!(this.py(), "empty");
        this.as_obj().method(name, &[])?.truth()
    }

    /// `self.full()`.
    #[inline]
    pub(super) fn asks_full(this: &Ref<Queue>) -> Result<bool, Raised> {
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
            let push = imports(this.py()).heap_push.get(this.py());
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
                let pop = imports(this.py()).heap_pop.get(this.py());
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

    /// Wakes the first waiter that is not done.
    #[inline]
    pub(super) fn wake_next(this: &Ref<Queue>, waiters: &Deque) -> Result<(), Raised> {
        if Queue::is_native(this) && waiters.is_plainly_empty() {
            return Ok(());
        }
        Queue::wake_one(this, waiters)
    }

    fn wake_one(this: &Ref<Queue>, waiters: &Deque) -> Result<(), Raised> {
        if Queue::is_native(this) || has_own_methods(this, &["_wakeup_next"]) {
            while let Some(waiter) = waiters.pop_first()? {
                if AnyFuture::of_waiter(&waiter).set_unless_done(Ok(Obj::none(this.py())))? {
                    break;
                }
            }
            return Ok(());
        }
        let py = this.py();
        match waiters.show(py, imports(py).deque.get(py))? {
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
            return Err(shut_down_error(this));
        }
        if Queue::asks_full(this)? {
            return Err(raise(imports(py).queue_full.get(py)));
        }
        Queue::put_now(this, item)
    }

    /// Puts an item into a queue that has room.
    #[inline]
    pub(super) fn put_now(this: &Ref<Queue>, item: &Obj) -> Result<(), Raised> {
        if Queue::is_native(this) {
            Queue::put_item(this, item)?;
        } else {
            let name = intern!(this.py(), "_put");
            this.as_obj().method(name, &[item])?;
        }
        this.unfinished.set(this.unfinished.get() + 1);
        if this.finished.is_some() {
            Queue::set_finished_event(this, false)?;
        }
        Queue::wake_next(this, &this.getters)
    }

    /// `get_nowait()`.
    #[inline]
    pub(super) fn get_nowait(this: &Ref<Queue>) -> Result<Obj, Raised> {
        let py = this.py();
        if Queue::asks_empty(this)? {
            if this.is_shut_down.get() {
                return Err(shut_down_error(this));
            }
            return Err(raise(imports(py).queue_empty.get(py)));
        }
        Queue::get_now(this)
    }

    /// Takes an item from a queue that has one.
    #[inline]
    pub(super) fn get_now(this: &Ref<Queue>) -> Result<Obj, Raised> {
        let item = if Queue::is_native(this) {
            Queue::get_item(this)?
        } else {
            let name = intern!(this.py(), "_get");
            this.as_obj().method(name, &[])?
        };
        Queue::wake_next(this, &this.putters)?;
        Ok(item)
    }

    /// Puts an item, if there is room and no getter or `join()` to wake; else returns the item.
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

    /// Takes an item, if there is one and no putter to wake.
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
    fn set_finished_event(this: &Ref<Queue>, set: bool) -> Result<(), Raised> {
        let Some(finished) = this.finished.get() else {
            return Ok(());
        };
        let py = this.py();
        match (brought_event(&finished), set) {
            (Some(event), true) => Event::set(event),
            (Some(event), false) => Event::unset(event),
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
            return Queue::set_finished_event(this, true);
        }
        Ok(())
    }

    /// `shutdown(immediate=False)`.
    pub(super) fn shut_down(this: &Ref<Queue>, args: &Args<'_>) -> Result<(), Raised> {
        let py = this.py();
        let [immediate] = args.bind_as_python("Queue.shutdown", &["immediate"], 0)?;
        if in_dict::stays(this)? {
            let immediate = immediate.unwrap_or_else(|| Obj::bool(py, false));
            return in_dict::call(this, "shutdown", &[&immediate]).map(drop);
        }
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
                Queue::set_finished_event(this, true)?;
            }
        }
        for waiters in [&this.getters, &this.putters] {
            while let Some(waiter) = waiters.pop_first()? {
                AnyFuture::of_waiter(&waiter).set_unless_done(Ok(Obj::none(py)))?;
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
pub(super) fn shut_down_error(this: &Ref<Queue>) -> Raised {
    let py = this.py();
    match &imports(py).queue_shut_down {
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
    const ATTRIBUTES: &'static [&'static str] = &[
        "_maxsize",
        "_getters",
        "_putters",
        "_unfinished_tasks",
        "_finished",
        "_is_shutdown",
        "_queue",
    ];

    #[inline]
    fn shared(&self) -> &PrimitiveFields {
        &self.shared
    }

    fn asyncio_class<'a>(this: &'a Ref<Queue>, name: &str) -> &'a Obj {
        let classes = &imports(this.py()).classes;
        let class = match Order::of(this) {
            Order::Least if ORDERED.contains(&name) => &classes.priority_queue,
            Order::Last if ORDERED.contains(&name) => &classes.lifo_queue,
            _ => &classes.queue,
        };
        class.get(this.py())
    }

    fn give(this: &Ref<Queue>) -> Result<Attributes, Raised> {
        let py = this.py();
        let mut attributes = Vec::new();
        if let Some(maxsize) = this.maxsize.get() {
            attributes.push(("_maxsize", maxsize));
        }
        for (name, waiters) in [("_getters", &this.getters), ("_putters", &this.putters)] {
            if let Some(waiters) = waiters.show(py, imports(py).deque.get(py))? {
                attributes.push((name, waiters));
            }
        }
        let unfinished = Obj::int(py, this.unfinished.get())?;
        attributes.push(("_unfinished_tasks", unfinished));
        attributes.push(("_finished", Queue::finished(this)?));
        if !this.items.is_absent() {
            attributes.push(("_queue", Queue::show_items(this)?));
        }
        if imports(py).queue_shut_down.is_some() {
            attributes.push(("_is_shutdown", Obj::bool(py, this.is_shut_down.get())));
        }
        Ok(attributes)
    }

    fn take(this: &Ref<Queue>, dict: &Obj) -> Result<bool, Raised> {
        let py = this.py();
        let shut_down = match imports(py).queue_shut_down {
            Some(_) => in_dict::find_bool(dict, "_is_shutdown")?,
            None => Some(false),
        };
        let (Some(maxsize), Some(getters), Some(putters), Some(unfinished), Some(shut_down)) = (
            in_dict::find(dict, "_maxsize")?,
            in_dict::find(dict, "_getters")?,
            in_dict::find(dict, "_putters")?,
            in_dict::find_count(dict, "_unfinished_tasks")?,
            shut_down,
        ) else {
            return Ok(false);
        };
        let Some(finished) = in_dict::find(dict, "_finished")? else {
            return Ok(false);
        };
        let order = Order::of(this);
        let items = in_dict::find(dict, "_queue")?;
        if !CountNumber::is_kept(&maxsize) || items.is_none() && has_own_methods(this, ORDERED) {
            return Ok(false);
        }
        this.order.set(order);
        this.set_maxsize(Some(maxsize))?;
        take_waiters(this, &this.getters, getters)?;
        take_waiters(this, &this.putters, putters)?;
        this.unfinished.set(unfinished);
        this.finished.set(Some(finished));
        this.is_shut_down.set(shut_down);
        match items {
            Some(items) if order != Order::Least => {
                this.items.take(items, &order.container(imports(py), py))?;
            }
            items => this.items.put_in_place(items),
        }
        Ok(true)
    }
}

/// The methods that differ between the three classes.
const ORDERED: &[&str] = &["_init", "_put", "_get"];

/// The queue's Event, if it is a native one of this domain.
#[inline]
fn brought_event(finished: &Obj) -> Option<&Ref<Event>> {
    Ref::<Event>::of_exact_any(finished)?.brought()
}
