//! The queue of calls, and the threads that wait for one.
//!
//! `ThreadPoolExecutor`, whose subclass owns it, takes it for its `queue.SimpleQueue`: it puts its
//! own work items and, at its end, None. A thread that finds nothing to do is parked, the last one
//! first to be woken. One thread at a time is on its way to the queue: it wakes the next if there
//! is more than it takes, so that a thousand short calls do not rouse every thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use cpython::build::Builder;
use cpython::thread_exit::stop_at_exit;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot, Visit};
use engine::Waker;

use super::job::Job;

/// How long a thread keeps the GIL from call to call, as the interpreter's switch interval.
const TURN: Duration = Duration::from_millis(5);
/// Calls between two looks at the clock.
const CALLS_BETWEEN_LOOKS: u32 = 16;

/// A thread that waits for work.
struct Parked {
    thread: Thread,
    woken: AtomicBool,
}

impl Parked {
    fn wait(&self) {
        while !self.woken.load(Ordering::Acquire) {
            std::thread::park();
        }
    }

    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// The value of a queue.
pub(crate) struct JobQueue {
    /// Jobs, work items of `ThreadPoolExecutor`, and None: look whether to end.
    items: RefCell<VecDeque<Obj>>,
    parked: RefCell<Vec<Arc<Parked>>>,
    /// Threads that were woken and have not come to the queue yet.
    coming: Cell<usize>,
    /// Threads there are.
    threads: Cell<usize>,
    /// The most threads there may be.
    most: Cell<usize>,
    /// Whether None was ever put: the executor may refuse what comes now.
    ending: Cell<bool>,
    /// The executor's class, and its `submit` as the standard library has it.
    class: Slot,
    submit: Slot,
}

impl JobQueue {
    fn empty() -> JobQueue {
        JobQueue {
            items: RefCell::new(VecDeque::new()),
            parked: RefCell::new(Vec::new()),
            coming: Cell::new(0),
            threads: Cell::new(0),
            most: Cell::new(0),
            ending: Cell::new(false),
            class: Slot::default(),
            submit: Slot::default(),
        }
    }

    /// `_JobQueue(most, class, submit)`.
    fn init(this: &Ref<JobQueue>, args: &Args<'_>) -> Result<(), Raised> {
        let [most, class, submit] = args.bind("_JobQueue", &["most", "class", "submit"], 3, 3)?;
        let most = most.map_or(Ok(0), |most| most.to_i64())?;
        this.most.set(usize::try_from(most).unwrap_or(0));
        this.class.set(class);
        this.submit.set(submit.and_then(Obj::not_none));
        Ok(())
    }

    /// Whether calls may come here past `ThreadPoolExecutor.submit()`: it would take them, and
    /// nobody has put another in its place.
    pub(super) fn is_open(this: &Ref<JobQueue>) -> Result<bool, Raised> {
        let (false, Some(class)) = (this.ending.get(), this.class.get()) else {
            return Ok(false);
        };
        let submit = class.attr(pyo3::intern!(this.py(), "submit"))?;
        Ok(this.submit.holds(&submit))
    }

    /// Whether one more call would have to wait though there may be another thread.
    pub(super) fn lacks_thread(&self, coming_calls: usize) -> bool {
        let calls = self.items.borrow().len() + coming_calls;
        let waiting = self.parked.borrow().len() + self.coming.get();
        calls > waiting && self.threads.get() < self.most.get()
    }

    /// Puts a call, a work item or None.
    pub(super) fn put(this: &Ref<JobQueue>, item: Obj) {
        if item.is_none() {
            this.ending.set(true);
        }
        this.items.borrow_mut().push_back(item);
        this.wake_one();
    }

    /// Wakes a thread if there is work and none is on its way.
    fn wake_one(&self) {
        if self.coming.get() > 0 || self.items.borrow().is_empty() {
            return;
        }
        if let Some(parked) = self.parked.borrow_mut().pop() {
            self.coming.set(self.coming.get() + 1);
            parked.wake();
        }
    }

    fn take(&self) -> Option<Obj> {
        self.items.borrow_mut().pop_front()
    }

    /// `get_nowait()`: how `ThreadPoolExecutor.shutdown()` empties it.
    fn get_nowait(this: &Ref<JobQueue>) -> Result<Obj, Raised> {
        match this.take() {
            Some(item) => Ok(item),
            None => {
                let class =
                    Obj::import(this.py(), c"queue")?.attr(pyo3::intern!(this.py(), "Empty"))?;
                Err(Raised::raise_in_context(class.call0()?))
            }
        }
    }

    /// What a thread of the executor does: runs calls until it is told to end.
    ///
    /// `executor` is a weak reference to the executor.
    fn work(this: &Ref<JobQueue>, executor: &Obj) -> Result<(), Raised> {
        // It may be in a call when the program is interrupted while it waits for it at its end.
        stop_at_exit();
        let py = this.py();
        let parked = Arc::new(Parked {
            thread: std::thread::current(),
            woken: AtomicBool::new(false),
        });
        let mut turn = Turn::new();
        // A loop that must look at what the last call has left there; told as late as possible,
        // so that it does not wake only to wait for the GIL.
        let mut untold: Option<Arc<Waker>> = None;
        loop {
            let Some(item) = this.take() else {
                parked.woken.store(false, Ordering::Relaxed);
                this.parked.borrow_mut().push(parked.clone());
                let untold = untold.take();
                py.detach(|| {
                    if let Some(waker) = untold {
                        waker.notify();
                    }
                    parked.wait();
                });
                this.coming.set(this.coming.get().saturating_sub(1));
                turn = Turn::new();
                continue;
            };
            // It may take as long as it likes.
            if let Some(waker) = untold.take() {
                waker.notify();
            }
            this.wake_one();
            turn.next(py);
            if let Some(job) = Ref::<Job>::of_exact(&item) {
                untold = Job::run(job);
            } else if item.is_none() {
                if JobQueue::ends(this, executor)? {
                    JobQueue::put(this, Obj::none(py));
                    return Ok(());
                }
            } else {
                cold(py)?.method(pyo3::intern!(py, "run_item"), &[&item])?;
            }
        }
    }

    /// A thread was told to look whether it is to end.
    fn ends(this: &Ref<JobQueue>, executor: &Obj) -> Result<bool, Raised> {
        let py = this.py();
        let name = pyo3::intern!(py, "is_ending");
        cold(py)?.method(name, &[executor])?.truth()
    }

    /// In a forked child: the threads are the parent's.
    fn forget_threads(this: &Ref<JobQueue>) {
        drop(this.parked.take());
        this.coming.set(0);
        this.threads.set(0);
    }
}

/// The cold part, in Python.
pub(super) fn cold(py: Python<'_>) -> Result<Obj, Raised> {
    Obj::import(py, c"aioxide._executor")
}

/// How long a thread has had the GIL: the code between the calls is native and would not see that
/// others want it.
struct Turn {
    began: Instant,
    calls: u32,
}

impl Turn {
    fn new() -> Turn {
        Turn {
            began: Instant::now(),
            calls: 0,
        }
    }

    /// Before a call: lets others have the GIL if it has been long enough.
    #[inline]
    fn next(&mut self, py: Python<'_>) {
        self.calls += 1;
        if self.calls % CALLS_BETWEEN_LOOKS == 0 && self.began.elapsed() > TURN {
            py.detach(|| {});
            *self = Turn::new();
        }
    }
}

impl Hot for JobQueue {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide._aioxide._JobQueue";
    const DOC: &'static std::ffi::CStr = c"The calls that wait for a thread of an executor.";
    const SUBCLASSABLE: bool = false;
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        builder
            .new_value(|_| Ok(JobQueue::empty()))
            .init(JobQueue::init)
            .method1(
                c"put",
                c"put($self, item, /)\n--\n\nAppend a work item; None: look whether to end.",
                |this, item| {
                    JobQueue::put(this, item.clone());
                },
            )
            .method0(
                c"get_nowait",
                c"get_nowait($self, /)\n--\n\nTake the first item; raises queue.Empty.",
                JobQueue::get_nowait,
            )
            .method0(
                c"empty",
                c"empty($self, /)\n--\n\nWhether nothing waits.",
                |this| this.items.borrow().is_empty(),
            )
            .method0(c"qsize", c"qsize($self, /)\n--\n\nHow many wait.", |this| {
                this.items.borrow().len()
            })
            .method1(
                c"work",
                c"work($self, executor, /)\n--\n\nRun what comes until the executor ends.",
                JobQueue::work,
            )
            .method0(
                c"lacks_thread",
                c"lacks_thread($self, /)\n--\n\nWhether what waits needs one more thread.",
                |this| this.lacks_thread(0),
            )
            .method0(
                c"forget_threads",
                c"forget_threads($self, /)\n--\n\nThere are no threads.",
                JobQueue::forget_threads,
            )
            .get_set(
                c"threads",
                c"How many threads there are.",
                |this| this.threads.get(),
                |this, value| {
                    let count = value.map_or(Ok(0), |value| value.to_i64())?;
                    this.threads.set(usize::try_from(count).unwrap_or(0));
                    Ok(())
                },
            );
    }

    fn traverse(&self, visit: &mut Visit<'_>) {
        if let Ok(items) = self.items.try_borrow() {
            items.iter().for_each(|item| visit.object(item));
        }
        visit.slot(&self.class);
        visit.slot(&self.submit);
    }

    fn clear(&self) {
        let items = self.items.take();
        drop(items);
        self.class.set(None);
        self.submit.set(None);
    }
}
