//! `to_thread(func, /, *args, **kwargs)`.

use cpython::callable::callable;
use cpython::{Args, Obj, Python, Raised, Ref, Slot, context};

use super::jobs::executor_module;
use super::submit::submit;
use crate::coroutines::class::coroutine_class;
use crate::coroutines::coroutine::{Coroutine, CoroutineState, Turn};
use crate::coroutines::describe;
use crate::event_loop::EventLoop;
use crate::futures::makes_native_futures;
use crate::interop::current::running_loop;

/// The value of the coroutine object that `to_thread()` returns.
pub(crate) struct ToThread {
    function: Slot,
    args: Slot,
    kwargs: Slot,
    state: CoroutineState,
}

impl ToThread {
    fn python_to_thread(py: Python<'_>, args: &Args<'_>) -> Result<Ref<ToThread>, Raised> {
        let Some((function, rest)) = args.positional.split_first() else {
            let text = "to_thread() missing 1 required positional argument: 'func'";
            return Err(Raised::type_error(py, text));
        };
        let kwargs = if args.has_keywords() {
            args.to_tuple_and_dict(py)?.1
        } else {
            None
        };
        let value = ToThread {
            function: Slot::new(Some(function.clone())),
            args: Slot::new(Some(Obj::tuple(py, rest)?)),
            kwargs: Slot::new(kwargs),
            state: CoroutineState::default(),
        };
        Ref::new(py, value)
    }
}

impl Coroutine for ToThread {
    fn names(&self) -> (&'static str, &'static str) {
        ("to_thread", "to_thread")
    }

    fn begin(this: &Ref<ToThread>) -> Result<Turn, Raised> {
        let py = this.py();
        let Some(running) = running_loop(py)? else {
            return Err(Raised::runtime_error(py, "no running event loop"));
        };
        let none = Obj::none(py);
        let function = this.function.take().unwrap_or_else(|| none.clone());
        let args = this.args.take().map_or_else(|| Obj::tuple(py, &[]), Ok)?;
        let kwargs = this.kwargs.take();
        let context = context::copy_current(py)?;
        let native = Ref::<EventLoop>::of(&running)
            .filter(|native| makes_native_futures(native) && !native.is_executor_replaced());
        if let Some(native) = native {
            let call = (|| Ok(args.clone()), kwargs.clone(), Some(context.clone()));
            if let Some(future) = submit(native, &function, call.0, call.1, call.2)? {
                return Ok(Turn::Await(future.into_obj()));
            }
        }
        let kwargs = kwargs.unwrap_or(none);
        let call = [&running, &context, &function, &args, &kwargs];
        executor_module(py)?
            .method(pyo3::intern!(py, "run_in_loop"), &call)
            .map(Turn::Await)
    }

    fn resume(_: &Ref<ToThread>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised> {
        outcome.map(Turn::Return)
    }
}

coroutine_class! {
    ToThread: c"aioxide._aioxide.to_thread_coroutine", c"The coroutine object that to_thread() returns.";
    const FREELIST: usize = 256;
    const MOVES: bool = true;
    holds function, args, kwargs;
}

/// Adds the function to the module. `inspect` sees a coroutine function.
pub(crate) fn add_functions(py: Python<'_>, module: &Obj) -> Result<(), Raised> {
    let doc = "Run func(*args, **kwargs) in a thread of the default executor and return its \
               result.\n\nIt runs in a copy of the current context.";
    let theirs = Obj::import(py, c"asyncio.threads")?.attr(pyo3::intern!(py, "to_thread"))?;
    let function = callable(py, "to_thread", doc, ToThread::python_to_thread)?;
    describe(py, &function, &theirs)?;
    module.set_attr(pyo3::intern!(py, "to_thread"), &function)
}
