//! `Handle`: a callback with its arguments and its context, as `asyncio.Handle`.
//!
//! A subclass of asyncio's, whose texts and comparisons it inherits: those read `_callback`,
//! `_args` and so on, which are properties here. The base's own slots stay empty.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::context::{Bound, Pool};
use cpython::{Args, Global, Hot, NoParent, Obj, Python, Raised, Ref, Slot, Visit, context};
use pyo3::sync::PyOnceLock;

use super::entry::Runners;
use crate::interop::asyncio;
use crate::interop::imports::ends_program;

/// A callback and its arguments. One argument is kept without a tuple around it.
#[derive(Clone)]
pub(crate) struct Callback {
    function: Obj,
    args: Option<Obj>,
    single: bool,
}

impl Callback {
    /// With positional arguments.
    #[inline]
    pub(crate) fn new(function: &Obj, args: &[Obj]) -> Result<Callback, Raised> {
        let (args, single) = match args {
            [] => (None, false),
            [one] => (Some(one.clone()), true),
            many => (Some(Obj::tuple(function.py(), many)?), false),
        };
        Ok(Callback {
            function: function.clone(),
            args,
            single,
        })
    }

    /// With one argument.
    #[inline]
    pub(crate) fn with_argument(function: Obj, argument: Obj) -> Callback {
        Callback {
            function,
            args: Some(argument),
            single: true,
        }
    }

    fn args_tuple(&self, py: Python<'_>) -> Result<Obj, Raised> {
        match &self.args {
            None => Ok(asyncio(py).empty_tuple.get(py).clone()),
            Some(one) if self.single => Obj::tuple(py, std::slice::from_ref(one)),
            Some(tuple) => Ok(tuple.clone()),
        }
    }

    /// Calls it in the context.
    #[inline]
    fn run(&self, context: &Obj) -> Result<(), Raised> {
        context::enter(context)?;
        let result = self.call();
        context::exit(context)?;
        result.map(drop)
    }

    #[inline]
    fn call(&self) -> Result<Obj, Raised> {
        match &self.args {
            None => self.function.call0(),
            Some(one) if self.single => self.function.call1(one),
            Some(tuple) => self.function.call_tuple(tuple),
        }
    }
}

/// What a handle that has run leaves behind.
pub(super) enum Left {
    /// Nothing that others could use.
    Nothing,
    /// It is bound to the context as before.
    Bound,
    /// Its context.
    Context(Obj),
}

/// The value of a Handle.
pub(crate) struct Handle {
    function: Slot,
    args: Slot,
    single: Cell<bool>,
    cancelled: Cell<bool>,
    /// Whether it runs each time its descriptor is ready.
    repeats: Cell<bool>,
    /// Whether it runs in a copy of the context, made when it runs or somebody asks.
    copies: Cell<bool>,
    context: Slot,
    event_loop: Slot,
    source_traceback: Slot,
    repr: Slot,
}

static REPORT: PyOnceLock<Global> = PyOnceLock::new();

impl Handle {
    /// An empty value, which `fill` makes whole.
    pub(crate) fn empty() -> Handle {
        Handle {
            function: Slot::default(),
            args: Slot::default(),
            single: Cell::new(false),
            cancelled: Cell::new(false),
            repeats: Cell::new(false),
            copies: Cell::new(false),
            context: Slot::default(),
            event_loop: Slot::default(),
            source_traceback: Slot::default(),
            repr: Slot::default(),
        }
    }

    /// The value of a new handle.
    #[inline]
    pub(crate) fn value(event_loop: &Obj, callback: Callback, context: Bound) -> Handle {
        let (context, copies) = match context {
            Bound::To(context) => (context, false),
            Bound::ToCopyOf(context) => (context, true),
        };
        Handle {
            function: Slot::new(Some(callback.function)),
            args: Slot::new(callback.args),
            single: Cell::new(callback.single),
            cancelled: Cell::new(false),
            repeats: Cell::new(false),
            copies: Cell::new(copies),
            context: Slot::new(Some(context)),
            event_loop: Slot::new(Some(event_loop.clone())),
            source_traceback: Slot::default(),
            repr: Slot::default(),
        }
    }

    /// Gives a spare handle of the same loop another callback.
    #[inline]
    pub(crate) fn refill(&self, callback: Callback) {
        self.function.set(Some(callback.function));
        self.args.set(callback.args);
        self.single.set(callback.single);
    }

    /// Whether it keeps nothing of its former life.
    #[inline]
    pub(super) fn is_blank(&self) -> bool {
        self.function.is_none()
            && self.args.is_none()
            && self.source_traceback.is_none()
            && self.repr.is_none()
            && !self.cancelled.get()
    }

    /// Has the processor fetch the context ahead of its use, if it has one of its own.
    #[inline]
    pub(super) fn prefetch_context(&self) {
        if !self.copies.get() {
            self.context.prefetch(1);
        }
    }

    /// Whether it runs in a copy of the pool's own context.
    #[inline]
    pub(super) fn is_anchored(&self, contexts: &Pool) -> bool {
        self.copies.get() && contexts.is_anchored(&self.context)
    }

    /// It has run: lets go of the context that it was bound to.
    #[inline]
    pub(super) fn forget_context(&self) {
        if self.copies.get() {
            self.context.set(None);
        }
    }

    /// Sets its context.
    #[inline]
    pub(super) fn set_context(&self, context: Bound) {
        let (context, copies) = match context {
            Bound::To(context) => (context, false),
            Bound::ToCopyOf(context) => (context, true),
        };
        self.copies.set(copies);
        self.context.set(Some(context));
    }

    /// Its context, from now on its own; nothing once it runs.
    fn own_context(&self) -> Result<Option<Obj>, Raised> {
        let Some(context) = self.context.get() else {
            return Ok(None);
        };
        if !self.copies.get() {
            return Ok(Some(context));
        }
        if self.function.is_none() && !self.cancelled.get() {
            return Ok(None);
        }
        let own = context::copy(&context)?;
        self.set_context(Bound::To(own.clone()));
        Ok(Some(own))
    }

    /// It is about to go: its context may serve another one of the loop.
    #[inline]
    pub(super) fn give_back_context(&self) {
        if self.context.is_some() && !self.copies.get() {
            if let (Some(runners), Some(event_loop)) = (Runners::get(), self.event_loop.get()) {
                (runners.reclaim)(&event_loop, &self.context);
            }
        }
    }

    /// The loop that it belongs to.
    pub(crate) fn event_loop(this: &Ref<Handle>) -> Option<Obj> {
        this.event_loop.get()
    }

    /// Whether it was cancelled.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    /// Remembers where the program scheduled it, in debug mode.
    ///
    /// `depth` counts the Python frames between the program and us (none for native callers).
    pub(crate) fn remember_source(&self, py: Python<'_>, depth: i64) -> Result<(), Raised> {
        let imports = asyncio(py);
        let frame = imports.getframe.get(py).call1(&Obj::int(py, depth)?)?;
        let stack = imports.extract_handle_stack.get(py).call1(&frame)?;
        self.source_traceback.set(Some(stack));
        Ok(())
    }

    fn callback(&self) -> Option<Callback> {
        let function = self.function.get()?;
        Some(Callback {
            function,
            args: self.args.get(),
            single: self.single.get(),
        })
    }

    /// As `Handle.cancel()`.
    #[inline]
    pub(crate) fn cancel(this: &Ref<Handle>) -> Result<(), Raised> {
        let value: &Handle = this;
        if value.cancelled.replace(true) {
            return Ok(());
        }
        if value.in_debug_mode()? {
            // Keeps what a later report of a slow callback shows.
            let text = this.as_obj().repr()?;
            value.repr.set(Some(text));
        }
        value.function.set(None);
        value.args.set(None);
        Ok(())
    }

    /// Cancels it, if the loop takes note of that; else it stays as it was.
    #[inline]
    pub(super) fn cancel_and(&self, note: impl FnOnce() -> bool) -> bool {
        self.cancelled.set(true);
        let noted = note();
        if noted {
            self.function.set(None);
            self.args.set(None);
        } else {
            self.cancelled.set(false);
        }
        noted
    }

    #[inline]
    fn in_debug_mode(&self) -> Result<bool, Raised> {
        let Some(event_loop) = self.event_loop.get() else {
            return Ok(false);
        };
        match Runners::get().and_then(|runners| (runners.debug)(&event_loop)) {
            Some(debug) => Ok(debug),
            None => foreign_debug_mode(&event_loop),
        }
    }

    /// Runs the callback in its context. An exception goes to the loop's exception handler,
    /// but for those that end the program.
    ///
    /// A handle that runs once lets go of what it held: so no cycle through it outlives the
    /// call, though the garbage collector does not know it.
    #[inline]
    pub(super) fn run(this: &Ref<Handle>, contexts: &Pool) -> Result<Left, Raised> {
        let value: &Handle = this;
        if value.cancelled.get() {
            return Ok(Left::Nothing);
        }
        if value.repeats.get() {
            return Handle::run_kept(this).map(|()| Left::Nothing);
        }
        let Some(function) = value.function.take() else {
            return Ok(Left::Nothing);
        };
        let callback = Callback {
            function,
            args: value.args.take(),
            single: value.single.get(),
        };
        if value.copies.get() && contexts.is_anchored(&value.context) {
            if let Some(entered) = contexts.enter_stage() {
                let result = callback.call();
                return match (entered.exit(this.py()), result) {
                    (Ok(()), Ok(_)) => {
                        contexts.leave_stage();
                        Ok(Left::Bound)
                    }
                    (Err(raised), _) | (Ok(()), Err(raised)) => {
                        Handle::fail(this, callback, contexts.take_stage(), raised)
                    }
                };
            }
        }
        Handle::run_in_own_context(this, callback, contexts)
    }

    #[inline(never)]
    fn run_in_own_context(
        this: &Ref<Handle>,
        callback: Callback,
        contexts: &Pool,
    ) -> Result<Left, Raised> {
        let Some(mut context) = this.context.take() else {
            return Ok(Left::Nothing);
        };
        if this.copies.get() {
            context = match contexts.copy_of(&context) {
                Ok(copy) => copy,
                Err(raised) => {
                    this.context.set(Some(context));
                    return Handle::fail(this, callback, None, raised);
                }
            };
        }
        match callback.run(&context) {
            Ok(()) => Ok(Left::Context(context)),
            Err(raised) => Handle::fail(this, callback, Some(context), raised),
        }
    }

    /// The callback has raised, in this context if it was entered.
    #[cold]
    fn fail(
        this: &Ref<Handle>,
        callback: Callback,
        context: Option<Obj>,
        raised: Raised,
    ) -> Result<Left, Raised> {
        this.restore(callback, context);
        this.track();
        Handle::report(this, raised).map(|()| Left::Nothing)
    }

    /// As `run`, for a handle that keeps its callback: a descriptor's, or any in debug mode.
    pub(crate) fn run_kept(this: &Ref<Handle>) -> Result<(), Raised> {
        let (Some(callback), Some(context)) = (this.callback(), this.own_context()?) else {
            return Ok(());
        };
        // The loop no longer shows to the collector what it goes on holding.
        this.track();
        callback
            .run(&context)
            .or_else(|raised| Handle::report(this, raised))
    }

    /// Marks a handle that runs each time its descriptor is ready.
    pub(crate) fn set_repeats(this: &Ref<Handle>) {
        this.repeats.set(true);
        this.track();
    }

    /// Puts back what `run` took, for the report of an exception.
    fn restore(&self, callback: Callback, context: Option<Obj>) {
        if !self.cancelled.get() {
            self.single.set(callback.single);
            self.args.set(callback.args);
            self.function.set(Some(callback.function));
        }
        if let Some(context) = context {
            self.set_context(Bound::To(context));
        }
    }

    #[cold]
    fn report(this: &Ref<Handle>, raised: Raised) -> Result<(), Raised> {
        let py = this.py();
        let exception = raised.take(py);
        if ends_program(py, &exception) {
            return Err(Raised::raise(exception));
        }
        Handle::report_failure(this, &exception)
    }

    /// Tells the loop's exception handler that the callback has raised.
    pub(crate) fn report_failure(this: &Ref<Handle>, exception: &Obj) -> Result<(), Raised> {
        let py = this.py();
        let report = match REPORT.get(py) {
            Some(report) => report,
            None => {
                let reports = Obj::import(py, c"aioxide._reports")?;
                let function = reports.attr(pyo3::intern!(py, "callback_failed"))?;
                REPORT.get_or_init(py, || Global::new(function))
            }
        };
        report.get(py).call(&[this.as_obj(), exception]).map(drop)
    }

    fn init(this: &Ref<Handle>, args: &Args<'_>) -> Result<(), Raised> {
        let names = &["callback", "args", "loop", "context"];
        let [callback, args, event_loop, context] = args.bind("Handle", names, 4, 3)?;
        Handle::fill(this, callback, args, event_loop, context)
    }

    /// What `__init__` does, of a Handle and of a TimerHandle.
    pub(crate) fn fill(
        this: &Ref<Handle>,
        callback: Option<Obj>,
        args: Option<Obj>,
        event_loop: Option<Obj>,
        context: Option<Obj>,
    ) -> Result<(), Raised> {
        let py = this.py();
        let context = match context.and_then(Obj::not_none) {
            Some(context) => context,
            None => context::copy_current(py)?,
        };
        this.function.set(callback);
        this.single.set(false);
        this.args.set(match args {
            Some(args) => Some(Obj::class_of::<pyo3::types::PyTuple>(py).call1(&args)?),
            None => None,
        });
        this.set_context(Bound::To(context));
        this.event_loop.set(event_loop);
        this.cancelled.set(false);
        this.repr.set(None);
        this.source_traceback.set(None);
        if this.in_debug_mode()? {
            this.remember_source(py, 0)?;
        }
        Ok(())
    }
}

/// Whether a loop that is not native is in debug mode.
#[cold]
fn foreign_debug_mode(event_loop: &Obj) -> Result<bool, Raised> {
    let name = pyo3::intern!(event_loop.py(), "get_debug");
    event_loop.method(name, &[])?.truth()
}

impl Hot for Handle {
    type Parent = NoParent;
    const NAME: &'static std::ffi::CStr = c"aioxide.Handle";
    const DOC: &'static std::ffi::CStr = c"Object returned by callback registration methods.";
    const FREELIST: usize = 2048;
    const TRACKED: bool = false;
    const FINALIZES: bool = false;
    cpython::hot_type!();

    fn build(builder: &mut Builder<Self>) {
        if cfg!(Py_3_12) {
            builder.method0(
                c"get_context",
                c"get_context($self, /)\n--\n\nThe context in which the callback runs.",
                |this| this.own_context(),
            );
        }
        builder
            .new_value(|_| Ok(Handle::empty()))
            .init(Handle::init)
            .method0(
                c"cancel",
                c"cancel($self, /)\n--\n\nDo not run the callback.",
                Handle::cancel,
            )
            .method0(
                c"cancelled",
                c"cancelled($self, /)\n--\n\nWhether the callback was cancelled.",
                |this| this.is_cancelled(),
            )
            .method0(
                c"_run",
                c"Run the callback as the loop does.",
                Handle::run_kept,
            )
            .get_set(
                c"_callback",
                c"The callback, None once cancelled.",
                |this| this.function.get(),
                |this, value| {
                    this.function.set(value.cloned());
                    Ok(())
                },
            )
            .get_set(
                c"_args",
                c"The callback's arguments, None once cancelled.",
                |this| match this.callback() {
                    Some(callback) => callback.args_tuple(this.py()).map(Some),
                    None => Ok(None),
                },
                |this, value| {
                    this.single.set(false);
                    this.args.set(value.cloned().and_then(Obj::not_none));
                    Ok(())
                },
            )
            .get_set(
                c"_cancelled",
                c"Whether it was cancelled.",
                |this| this.is_cancelled(),
                |this, value| {
                    this.cancelled.set(value.is_some_and(Obj::is_true_object));
                    Ok(())
                },
            )
            .get_set(
                c"_context",
                c"The context in which the callback runs.",
                |this| this.own_context(),
                |this, value| {
                    this.copies.set(false);
                    this.context.set(value.cloned());
                    Ok(())
                },
            )
            .get_set(
                c"_loop",
                c"The loop.",
                |this| this.event_loop.get(),
                |this, value| {
                    this.event_loop.set(value.cloned());
                    Ok(())
                },
            )
            .attribute(
                c"_repr",
                c"The text kept by cancel() in debug mode.",
                |this| &this.repr,
            )
            .attribute(
                c"_source_traceback",
                c"Where it was scheduled, in debug mode.",
                |this| &this.source_traceback,
            );
    }

    fn leave(this: &Ref<Self>) {
        this.give_back_context();
    }

    fn traverse(&self, visit: &mut Visit<'_>) {
        for slot in [
            &self.function,
            &self.args,
            &self.context,
            &self.event_loop,
            &self.source_traceback,
            &self.repr,
        ] {
            visit.slot(slot);
        }
    }

    fn clear(&self) {
        self.function.set(None);
        self.args.set(None);
        self.context.set(None);
        self.event_loop.set(None);
        self.source_traceback.set(None);
    }
}

/// Builds the types. `asyncio.Handle` and `asyncio.TimerHandle` are their bases.
pub(crate) fn build(py: Python<'_>) -> Result<(), Raised> {
    let imports = asyncio(py);
    let (handle, timer) = (imports.handle.get(py), imports.timer_handle.get(py));
    // The timer's base is the larger one: both keep the handle's value behind it.
    let room = cpython::build::basic_size(timer);
    let thread_safe = events_attribute(py, "_ThreadSafeHandle")?;
    cpython::build::build::<Handle>(py, Some(handle), room)?;
    cpython::build::build::<super::TimerHandle>(py, Some(timer), room)?;
    cpython::build::adopt::<super::TimerHandle>(py)?;
    let base = thread_safe.as_ref().unwrap_or(handle);
    cpython::build::build::<super::ThreadSafeHandle>(py, Some(base), room)?;
    cpython::build::adopt::<super::ThreadSafeHandle>(py)?;
    cpython::build::build::<super::Alarm>(py, None, 0)?;
    Ok(())
}

fn events_attribute(py: Python<'_>, name: &str) -> Result<Option<Obj>, Raised> {
    asyncio(py)
        .events
        .get(py)
        .attr_opt(&pyo3::types::PyString::intern(py, name))
}
