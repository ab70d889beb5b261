//! The queue of calls, and the threads that wait for one.
//!
//! A subclass of `ThreadPoolExecutor` owns the queue and uses it as its `queue.SimpleQueue`: it
//! puts its own work items and, at its end, None. A thread that finds no call is parked, and the
//! last one parked is woken first. At most one woken thread is on its way to the queue. It wakes
//! the next if more calls are there than the one it takes, so that a thousand short calls do not
//! wake every thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;

use cpython::build::Builder;
use cpython::thread_exit::stop_at_exit;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot};
use engine::{Clock, ThreadTurn, Waker};

use super::job::Job;
use crate::interop::python_side;

/// The clock of the threads. It shows real time, even if the loops that call them have manual
/// clocks.
const CLOCK: Clock = Clock::monotonic();

/// A thread that waits for work.
struct ParkedThread {
    thread: Thread,
    woken: AtomicBool,
}

impl ParkedThread {
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
    /// Jobs, work items of `ThreadPoolExecutor`, and None, at which a thread checks whether it has
    /// to end.
    items: RefCell<VecDeque<Obj>>,
    parked: RefCell<Vec<Arc<ParkedThread>>>,
    /// The number of threads that were woken and have not come to the queue yet.
    coming: Cell<usize>,
    /// The number of threads.
    threads: Cell<usize>,
    /// The largest number of threads that may be started.
    most: Cell<usize>,
    /// Whether None was ever put: the executor may refuse further calls.
    ending: Cell<bool>,
    /// The executor's class; `submit` is its method as the standard library has it.
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

    /// Whether no more calls are taken as jobs.
    pub(super) fn refuses(this: &Ref<JobQueue>) -> Result<bool, Raised> {
        Ok(this.ending.get() || JobQueue::is_submit_replaced(this)?)
    }

    /// Whether the program has replaced `ThreadPoolExecutor.submit()`. Then every call goes through
    /// its replacement.
    fn is_submit_replaced(this: &Ref<JobQueue>) -> Result<bool, Raised> {
        let Some(class) = this.class.get() else {
            return Ok(true);
        };
        let submit = class.attr(pyo3::intern!(this.py(), "submit"))?;
        Ok(!this.submit.holds(&submit))
    }

    /// Whether `coming_calls` more calls would have to wait although another thread may be started.
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

    /// Wakes a thread if there is work and no woken thread is on its way.
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

    /// `get_nowait()`, by which `ThreadPoolExecutor.shutdown()` empties the queue.
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

    /// Runs calls in a thread of the executor, until the thread has to end.
    ///
    /// `executor` is a weak reference to the executor.
    fn work(this: &Ref<JobQueue>, executor: &Obj) -> Result<(), Raised> {
        // The thread may be in a call when the program, which waits for it at its end, is
        // interrupted.
        stop_at_exit();
        let py = this.py();
        let parked = Arc::new(ParkedThread {
            thread: std::thread::current(),
            woken: AtomicBool::new(false),
        });
        let mut turn = ThreadTurn::begin(CLOCK.now());
        // The waker of a loop that the last call has to wake. It is used as late as possible, so
        // that the loop does not wake only to wait for the GIL.
        let mut waker_of_loop: Option<Arc<Waker>> = None;
        loop {
            let Some(item) = this.take() else {
                parked.woken.store(false, Ordering::Relaxed);
                this.parked.borrow_mut().push(parked.clone());
                let waker_of_loop = waker_of_loop.take();
                cpython::domain::before_wait(py);
                py.detach(|| {
                    if let Some(waker) = waker_of_loop {
                        waker.notify();
                    }
                    parked.wait();
                });
                this.coming.set(this.coming.get().saturating_sub(1));
                turn = ThreadTurn::begin(CLOCK.now());
                continue;
            };
            // The next call may take long, so the loop is woken before it.
            if let Some(waker) = waker_of_loop.take() {
                waker.notify();
            }
            this.wake_one();
            if turn.is_over(|| CLOCK.now()) {
                // Other threads may take the GIL now.
                cpython::domain::before_wait(py);
                py.detach(|| {});
                turn = ThreadTurn::begin(CLOCK.now());
            }
            if let Some(job) = Ref::<Job>::of_exact(&item) {
                waker_of_loop = Job::run(job, this);
            } else if item.is_none() {
                if JobQueue::has_to_end(this, executor)? {
                    JobQueue::put(this, Obj::none(py));
                    return Ok(());
                }
            } else {
                let run_item = pyo3::intern!(py, "run_item");
                this.outside(|| executor_module(py)?.method(run_item, &[&item]))?;
            }
        }
    }

    /// Whether the thread has to end; asked after it has taken None.
    fn has_to_end(this: &Ref<JobQueue>, executor: &Obj) -> Result<bool, Raised> {
        let py = this.py();
        let name = pyo3::intern!(py, "is_ending");
        executor_module(py)?.method(name, &[executor])?.truth()
    }

    /// Forgets the threads, in a forked child: they are the parent's.
    fn forget_threads(this: &Ref<JobQueue>) {
        drop(this.parked.take());
        this.coming.set(0);
        this.threads.set(0);
    }
}

/// The Python module of the package with the rarer parts of executors.
pub(super) fn executor_module(py: Python<'_>) -> Result<&'static Obj, Raised> {
    python_side(py).map(|side| side.executor.get(py))
}

impl Hot for JobQueue {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide._aioxide._JobQueue";
    const DOC: &'static std::ffi::CStr = c"The calls that wait for a thread of an executor.";
    const SUBCLASSABLE: bool = false;
    const OWN_DOMAIN: bool = true;
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

    cpython::holds!(items, class, submit);
}
