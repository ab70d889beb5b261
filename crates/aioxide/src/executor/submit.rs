//! `run_in_executor`: which calls are native, and how they reach a thread.
//!
//! A call is native if it goes to the default executor or another of its class, the executor takes
//! calls, the loop is not in debug mode and none of its methods is replaced, and nothing has
//! replaced `ThreadPoolExecutor.submit`. All other calls go to asyncio's own method of the running
//! version, and through it to the executor's `submit()`.

use cpython::{Args, Global, Obj, Python, Raised, Ref};
use pyo3::sync::PyOnceLock;

use super::job::Job;
use super::jobs::{JobQueue, executor_module};
use crate::event_loop::EventLoop;
use crate::futures::{Future, makes_native_futures};

/// The objects of asyncio and `concurrent.futures` that the executor uses.
struct ExecutorImports {
    /// `BaseEventLoop.run_in_executor`.
    run_in_executor: Global,
    stop_iteration: Global,
    /// Exceptions of `concurrent.futures` that asyncio turns into its own.
    converted: [Global; 2],
}

static IMPORTS: PyOnceLock<ExecutorImports> = PyOnceLock::new();

/// Imports the objects. Called when the module starts.
pub(super) fn load(py: Python<'_>) -> Result<(), Raised> {
    let base = Obj::import(py, c"asyncio.base_events")?.attr(pyo3::intern!(py, "BaseEventLoop"))?;
    let futures = Obj::import(py, c"concurrent.futures")?;
    let imports = ExecutorImports {
        run_in_executor: Global::new(base.attr(pyo3::intern!(py, "run_in_executor"))?),
        stop_iteration: Global::new(Obj::class_of::<pyo3::exceptions::PyStopIteration>(py)),
        converted: [
            Global::new(futures.attr(pyo3::intern!(py, "CancelledError"))?),
            Global::new(futures.attr(pyo3::intern!(py, "InvalidStateError"))?),
        ],
    };
    let _ = IMPORTS.set(py, imports);
    Ok(())
}

/// Whether asyncio passes the exception of a call to a Future as it is.
pub(super) fn is_ordinary(py: Python<'_>, exception: &Obj) -> bool {
    IMPORTS.get(py).is_some_and(|imports| {
        !exception.is_subtype_of(imports.stop_iteration.get(py))
            && !imports
                .converted
                .iter()
                .any(|class| exception.is_exact(class.get(py)))
    })
}

/// `loop.run_in_executor(executor, func, *args)`.
pub(crate) fn run_in_executor(this: &Ref<EventLoop>, args: &Args<'_>) -> Result<Obj, Raised> {
    let py = this.py();
    if let Some([executor, function, rest @ ..]) = args.only_positional() {
        if executor.is_none() && makes_native_futures(this) {
            let args = || Obj::tuple(py, rest);
            if let Some(future) = submit(this, function, args, None, None)? {
                return Ok(future.into_obj());
            }
        }
    }
    let executor = args.positional.first().or_else(|| args.named("executor"));
    if executor.is_some_and(Obj::is_none) {
        make_default_executor(this)?;
    }
    let (rest, keywords) = args.to_tuple_and_dict(py)?;
    let mut all = vec![this.as_obj().clone()];
    all.extend((0..rest.tuple_len()).filter_map(|index| rest.tuple_item(index)));
    match IMPORTS.get(py) {
        Some(imports) => imports
            .run_in_executor
            .get(py)
            .call_with_dict(&Obj::tuple(py, &all)?, keywords.as_ref()),
        None => Err(Raised::runtime_error(py, "aioxide is not imported")),
    }
}

/// Puts a call into the queue of the default executor, if that is a native one and takes calls.
pub(super) fn submit(
    event_loop: &Ref<EventLoop>,
    function: &Obj,
    args: impl FnOnce() -> Result<Obj, Raised>,
    kwargs: Option<Obj>,
    context: Option<Obj>,
) -> Result<Option<Ref<Future>>, Raised> {
    let py = event_loop.py();
    if event_loop.executor_shutdown_called.get() {
        return Ok(None);
    }
    make_default_executor(event_loop)?;
    let queue = event_loop.default_jobs.get();
    let Some(queue) = queue.as_ref().and_then(Ref::<JobQueue>::of_exact_any) else {
        return Ok(None);
    };
    if queue.within(JobQueue::refuses)? {
        return Ok(None);
    }
    if queue.within(|queue| queue.lacks_thread(1)) {
        if let Some(executor) = event_loop.default_executor.get() {
            executor.method(pyo3::intern!(py, "_begin_thread"), &[])?;
        }
    }
    let future = Future::create(event_loop)?;
    let job = Job::value(&future, function, args()?, kwargs, context);
    queue.within(|queue| {
        JobQueue::put(queue, Ref::new(py, job)?.into_obj());
        Ok(Some(future))
    })
}

/// Makes the default executor, if there is none and one may be made.
fn make_default_executor(this: &Ref<EventLoop>) -> Result<(), Raised> {
    let py = this.py();
    let may_be_one = !this.is_closed() && !this.executor_shutdown_called.get();
    if may_be_one && this.default_executor.is_none() {
        let made = executor_module(py)?.method(pyo3::intern!(py, "make_default"), &[])?;
        set_default_executor(this, Some(&made))?;
    }
    Ok(())
}

/// Called when the loop's `_default_executor` is set.
pub(crate) fn set_default_executor(
    this: &Ref<EventLoop>,
    executor: Option<&Obj>,
) -> Result<(), Raised> {
    let executor = executor.cloned().and_then(Obj::not_none);
    let jobs = match &executor {
        Some(executor) => executor
            .attr_opt(pyo3::intern!(this.py(), "_work_queue"))?
            .filter(|queue| Ref::<JobQueue>::of_exact_any(queue).is_some()),
        None => None,
    };
    this.default_jobs.set(jobs);
    this.default_executor.set(executor);
    Ok(())
}
