//! What `await future` iterates over.

use cpython::build::{Builder, Next};
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot, Visit};

use super::flags::Flag;
use super::future::Future;

/// An iterator that gives the Future once, then its result.
pub(crate) struct FutureIter {
    future: Slot<Ref<Future>>,
}

/// One step of awaiting: the Future itself the first time, then its result.
///
/// An await keeps no state of its own, so `await future` iterates over the Future; only those
/// who ask for an iterator get an object. `value` is the Future's.
#[inline(always)]
pub(crate) fn step(future: &Ref<Future>, value: &Future) -> Result<Next, Raised> {
    if !value.is_pending() {
        return Future::result_of(future, value).map(Next::Return);
    }
    if value.flags.is(Flag::Blocking) {
        return Err(cannot_wait(future));
    }
    value.ensure_alive(future.py())?;
    value.set_blocking_on();
    Ok(Next::Yield(future.as_obj().clone()))
}

#[cold]
fn cannot_wait(future: &Ref<Future>) -> Raised {
    if let Err(raised) = future.ensure_alive(future.py()) {
        return raised;
    }
    Raised::runtime_error(future.py(), "await wasn't used with future")
}

impl FutureIter {
    /// Of a Future.
    #[inline]
    pub(crate) fn create(future: &Ref<Future>) -> Result<Ref<FutureIter>, Raised> {
        Ref::make(future.py(), || FutureIter {
            future: Slot::new(Some(future.clone())),
        })
    }

    #[inline]
    fn step(this: &Ref<FutureIter>, _value: &Obj) -> Result<Next, Raised> {
        let py = this.py();
        let Some(future) = this.future.get() else {
            return Ok(Next::Return(Obj::none(py)));
        };
        if !future.is_pending() {
            this.future.set(None);
        }
        step(&future, &future)
    }

    /// `send(value)`: a step for those who drive the iterator by hand.
    fn send(this: &Ref<FutureIter>, value: &Obj) -> Result<Obj, Raised> {
        match FutureIter::step(this, value)? {
            Next::Yield(object) => Ok(object),
            Next::Return(value) => Err(cpython::coro::raise_stop_iteration(&value)),
        }
    }

    fn throw(this: &Ref<FutureIter>, args: &Args<'_>) -> Result<Obj, Raised> {
        let names = &["type", "value", "traceback"];
        let [class, value, traceback] = args.bind("throw", names, 3, 1)?;
        this.future.set(None);
        Err(thrown(this.py(), class, value, traceback))
    }
}

/// The exception that `throw(type, value, traceback)` raises.
pub(crate) fn thrown(
    py: Python<'_>,
    class: Option<Obj>,
    value: Option<Obj>,
    traceback: Option<Obj>,
) -> Raised {
    let raised = (|| -> Result<Obj, Raised> {
        if cfg!(Py_3_12) && (value.is_some() || traceback.is_some()) {
            let text = c"the (type, exc, tb) signature of throw() is deprecated, use the \
                single-arg signature instead.";
            let category = Obj::class_of::<pyo3::exceptions::PyDeprecationWarning>(py);
            cpython::error::warn(&category, text, 1)?;
        }
        let class = class.unwrap_or_else(|| Obj::none(py));
        let value = value.and_then(Obj::not_none);
        let traceback = traceback.and_then(Obj::not_none);
        if let Some(traceback) = &traceback {
            let is_traceback =
                traceback.is_subtype_of(&Obj::class_of::<pyo3::types::PyTraceback>(py));
            if !is_traceback {
                return Err(Raised::type_error(
                    py,
                    "throw() third argument must be a traceback",
                ));
            }
        }
        let exception = if class.is_exception() {
            if value.is_some() {
                let text = "instance exception may not have a separate value";
                return Err(Raised::type_error(py, text));
            }
            class
        } else if class.is_exception_class() {
            match value {
                Some(value) if value.is_instance(&class)? => value,
                Some(value) if value.tuple_len() > 0 => class.call_tuple(&value)?,
                Some(value) => class.call1(&value)?,
                None => class.call0()?,
            }
        } else {
            let text =
                "exceptions must be classes deriving BaseException or instances of such a class";
            return Err(Raised::type_error(py, text));
        };
        if let Some(traceback) = traceback {
            cpython::error::set_traceback(&exception, &traceback);
        }
        Ok(exception)
    })();
    match raised {
        Ok(exception) => Raised::raise(exception),
        Err(raised) => raised,
    }
}

impl Hot for FutureIter {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"_asyncio.FutureIter";
    const DOC: &'static std::ffi::CStr = c"What await iterates over.";
    const FREELIST: usize = 2048;
    const SUBCLASSABLE: bool = false;
    const FINALIZES: bool = false;
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        builder
            .iter(|this| this.clone())
            .step(FutureIter::step)
            .method1(c"send", c"send($self, value, /)\n--\n\nA step of the await.", FutureIter::send)
            .method(
                c"throw",
                c"throw($self, type, value=None, traceback=None, /)\n--\n\nEnd the await by an exception.",
                FutureIter::throw,
            )
            .method0(c"close", c"close($self, /)\n--\n\nEnd the await.", |this| {
                this.future.set(None);
            });
    }

    fn traverse(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.future);
    }

    fn clear(&self) {
        self.future.set(None);
    }
}
