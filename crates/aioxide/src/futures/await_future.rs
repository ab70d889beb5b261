//! The iterator of `await future`.

use cpython::build::{Builder, Next};
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot};

use super::flags::Flag;
use super::future::Future;

/// An iterator that yields the Future once and then returns its result.
pub(crate) struct FutureIter {
    future: Slot<Ref<Future>>,
}

/// One step of awaiting: yields the Future itself the first time, then returns its result.
///
/// An await keeps no state of its own, so `await future` iterates over the Future. Only code that
/// asks for an iterator gets an object. `value` is the Future's.
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
    /// An iterator over a Future.
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

    /// `send(value)`: one step, for code that drives the iterator by hand.
    fn send(this: &Ref<FutureIter>, value: &Obj) -> Result<Obj, Raised> {
        match FutureIter::step(this, value)? {
            Next::Yield(object) => Ok(object),
            Next::Return(value) => Err(cpython::coro::raise_stop_iteration(&value)),
        }
    }

    fn throw(this: &Ref<FutureIter>, args: &Args<'_>) -> Result<Obj, Raised> {
        let thrown = Thrown::of(this.py(), args)?;
        this.future.set(None);
        Err(thrown.raised_by_future())
    }
}

/// The arguments of `throw(type, value=None, traceback=None)`.
pub(crate) struct Thrown {
    class: Obj,
    value: Option<Obj>,
    traceback: Option<Obj>,
}

impl Thrown {
    /// Reads the arguments. Fails if their number is wrong, or where warnings are errors.
    pub(crate) fn of(py: Python<'_>, args: &Args<'_>) -> Result<Thrown, Raised> {
        let names = &["type", "value", "traceback"];
        let [class, value, traceback] = args.bind("throw", names, 3, 1)?;
        if cfg!(Py_3_12) && (value.is_some() || traceback.is_some()) {
            let text = c"the (type, exc, tb) signature of throw() is deprecated, use the \
                single-arg signature instead.";
            let category = Obj::class_of::<pyo3::exceptions::PyDeprecationWarning>(py);
            cpython::error::warn(&category, text, 1)?;
        }
        Ok(Thrown {
            class: class.unwrap_or_else(|| Obj::none(py)),
            value,
            traceback,
        })
    }

    /// The arguments as they were given.
    pub(crate) fn arguments(&self) -> Vec<Obj> {
        let others = [&self.value, &self.traceback];
        let given = others.into_iter().map_while(|other| other.clone());
        std::iter::once(self.class.clone()).chain(given).collect()
    }

    /// Whether a GeneratorExit was thrown.
    pub(crate) fn is_exit(&self) -> bool {
        is_exit(&self.class)
    }

    /// The exception that a Future's iterator raises, or the one that says what is wrong with the
    /// arguments.
    pub(crate) fn raised_by_future(&self) -> Raised {
        let refusal = |_: &Obj| {
            Ok(String::from(
                "exceptions must be classes deriving BaseException or instances of such a class",
            ))
        };
        match self.exception(refusal) {
            Ok(exception) => Raised::raise(exception),
            Err(raised) => raised,
        }
    }

    /// The exception to raise in a coroutine.
    pub(crate) fn for_coroutine(&self) -> Result<Obj, Raised> {
        self.exception(|given| {
            let name = cpython::coro::type_name(given)?;
            Ok(format!(
                "exceptions must be classes or instances deriving from BaseException, not {name}"
            ))
        })
    }

    fn exception(
        &self,
        refusal: impl FnOnce(&Obj) -> Result<String, Raised>,
    ) -> Result<Obj, Raised> {
        let py = self.class.py();
        let value = self.value.clone().and_then(Obj::not_none);
        let traceback = self.traceback.clone().and_then(Obj::not_none);
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
        let class = &self.class;
        let exception = if class.is_exception() {
            if value.is_some() {
                let text = "instance exception may not have a separate value";
                return Err(Raised::type_error(py, text));
            }
            class.clone()
        } else if class.is_exception_class() {
            match value {
                Some(value) if value.is_instance(class)? => value,
                Some(value) if value.tuple_len() > 0 => class.call_tuple(&value)?,
                Some(value) => class.call1(&value)?,
                None => class.call0()?,
            }
        } else {
            return Err(Raised::type_error(py, &refusal(class)?));
        };
        if let Some(traceback) = traceback {
            cpython::error::set_traceback(&exception, &traceback);
        }
        Ok(exception)
    }
}

/// Whether the object is a GeneratorExit, or its class.
pub(crate) fn is_exit(given: &Obj) -> bool {
    let exit = Obj::class_of::<pyo3::exceptions::PyGeneratorExit>(given.py());
    cpython::error::given_matches(given, &exit)
}

impl Hot for FutureIter {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"_asyncio.FutureIter";
    const DOC: &'static std::ffi::CStr = c"The iterator of an awaited future.";
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

    cpython::holds!(future);
}
