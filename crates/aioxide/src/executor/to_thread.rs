//! `to_thread(func, /, *args, **kwargs)`.

use cpython::build::Builder;
use cpython::callable::callable;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot, Visit, context};

use super::jobs::cold;
use super::submit::submit;
use crate::coroutines::coroutine::{Coroutine, Course, Turn, build_coroutine, finalize};
use crate::coroutines::describe;
use crate::event_loop::EventLoop;
use crate::interop::current::running_loop;

/// The value of the coroutine object that `to_thread()` returns.
pub(crate) struct ToThread {
    function: Slot,
    args: Slot,
    kwargs: Slot,
    course: Course,
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
            course: Course::default(),
        };
        Ref::new(py, value)
    }
}

impl Coroutine for ToThread {
    fn course(&self) -> &Course {
        &self.course
    }

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
            .filter(|native| EventLoop::is_fast(native) && !native.is_executor_overridden());
        if let Some(native) = native {
            let call = (|| Ok(args.clone()), kwargs.clone(), Some(context.clone()));
            if let Some(future) = submit(native, &function, call.0, call.1, call.2)? {
                return Ok(Turn::Await(future.into_obj()));
            }
        }
        let kwargs = kwargs.unwrap_or(none);
        let call = [&running, &context, &function, &args, &kwargs];
        cold(py)?
            .method(pyo3::intern!(py, "run_in_loop"), &call)
            .map(Turn::Await)
    }

    fn resume(_: &Ref<ToThread>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised> {
        outcome.map(Turn::Return)
    }

    fn end(this: &Ref<ToThread>) {
        this.function.set(None);
        this.args.set(None);
        this.kwargs.set(None);
    }
}

impl Hot for ToThread {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide._aioxide.to_thread_coroutine";
    const DOC: &'static std::ffi::CStr = c"The coroutine object that to_thread() returns.";
    const FREELIST: usize = 256;
    const SUBCLASSABLE: bool = false;
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        build_coroutine(builder);
    }

    fn traverse(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.function);
        visit.slot(&self.args);
        visit.slot(&self.kwargs);
        self.course.traverse(visit);
    }

    fn clear(&self) {
        self.function.set(None);
        self.args.set(None);
        self.kwargs.set(None);
        self.course.clear();
    }

    fn needs_finalizer(&self, _parent: &NoParent) -> bool {
        self.course.needs_finalizer()
    }

    fn finalize(this: &Ref<Self>) {
        finalize(this);
    }
}

/// Adds the function to the module: a coroutine function to all who ask.
pub(crate) fn add_functions(py: Python<'_>, module: &Obj) -> Result<(), Raised> {
    let doc = "Run func(*args, **kwargs) in a thread of the default executor and return its \
               result.\n\nIt runs in a copy of the current context.";
    let theirs = Obj::import(py, c"asyncio.threads")?.attr(pyo3::intern!(py, "to_thread"))?;
    let function = callable(py, "to_thread", doc, ToThread::python_to_thread)?;
    describe(py, &function, &theirs)?;
    module.set_attr(pyo3::intern!(py, "to_thread"), &function)
}
