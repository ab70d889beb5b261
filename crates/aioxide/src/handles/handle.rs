//! `Handle`: a callback with its arguments and its context, as `asyncio.Handle`.
//!
//! The type derives from asyncio's, whose texts and comparisons it inherits. Those read
//! `_callback`, `_args` and so on, which are properties here. The base's own slots stay empty.

use std::cell::Cell;

use cpython::build::Builder;
use cpython::context::{BoundContext, Pool};
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot, context};

use super::served;
use crate::interop::{EndsProgram, asyncio};

/// A callback and its arguments. One argument is kept without a tuple around it.
#[derive(Clone)]
pub(crate) struct Callback {
    function: Obj,
    args: Option<Obj>,
    single: bool,
}

impl Callback {
    /// A callback with positional arguments.
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

    /// A callback with one argument.
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

    /// Calls the callback in the context.
    #[inline]
    fn run(&self, context: &Obj) -> Result<(), Raised> {
        context::run(context, || self.call()).map(drop)
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

/// The context that a handle leaves behind after its run.
pub(super) enum LeftContext {
    /// None that other handles could use.
    Nothing,
    /// The context to which the handle is bound still.
    Bound,
    /// The handle's own context.
    Context(Obj),
}

/// The value of a Handle.
pub(crate) struct Handle {
    function: Slot,
    args: Slot,
    single: Cell<bool>,
    cancelled: Cell<bool>,
    /// Whether the handle runs each time its descriptor is ready.
    repeats: Cell<bool>,
    /// Whether the handle runs in a copy of the context. The copy is made when the handle runs or a
    /// program asks for it.
    copies: Cell<bool>,
    context: Slot,
    event_loop: Slot,
    source_traceback: Slot,
    repr: Slot,
}

impl Handle {
    /// An empty value, which `fill` completes.
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
    pub(crate) fn value(event_loop: &Obj, callback: Callback, context: BoundContext) -> Handle {
        let (context, copies) = match context {
            BoundContext::To(context) => (context, false),
            BoundContext::ToCopyOf(context) => (context, true),
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

    /// Whether the handle keeps nothing of its former use.
    #[inline]
    pub(super) fn is_blank(&self) -> bool {
        self.function.is_none()
            && self.args.is_none()
            && self.source_traceback.is_none()
            && self.repr.is_none()
            && !self.cancelled.get()
    }

    /// Has the processor fetch the context ahead of its use, if the handle has one of its own.
    #[inline]
    pub(super) fn prefetch_context(&self) {
        if !self.copies.get() {
            self.context.prefetch(1);
        }
    }

    /// Whether the handle runs in a copy of the pool's own context.
    #[inline]
    pub(super) fn is_anchored(&self, contexts: &Pool) -> bool {
        self.copies.get() && contexts.is_anchored(&self.context)
    }

    /// Releases the context to which the handle was bound, after its run.
    #[inline]
    pub(super) fn forget_context(&self) {
        if self.copies.get() {
            self.context.set(None);
        }
    }

    /// Sets the handle's context.
    #[inline]
    pub(super) fn set_context(&self, context: BoundContext) {
        let (context, copies) = match context {
            BoundContext::To(context) => (context, false),
            BoundContext::ToCopyOf(context) => (context, true),
        };
        self.copies.set(copies);
        self.context.set(Some(context));
    }

    /// The handle's context, which is its own from now on. Returns nothing once the handle runs.
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
        self.set_context(BoundContext::To(own.clone()));
        Ok(Some(own))
    }

    /// Gives the handle's context to the loop's spares, because the handle is about to go.
    #[inline]
    pub(super) fn give_back_context(&self) {
        if self.context.is_some() && !self.copies.get() {
            if let (Some(kinds), Some(event_loop)) = (served::kinds(), self.event_loop.get()) {
                (kinds.reclaim)(&event_loop, &self.context);
            }
        }
    }

    /// The loop of the handle.
    pub(crate) fn event_loop(this: &Ref<Handle>) -> Option<Obj> {
        this.event_loop.get()
    }

    /// Whether the handle was cancelled.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    /// Keeps the place where the program scheduled the handle, in debug mode.
    ///
    /// `depth` is the number of Python frames between the program and native code (none for native
    /// callers).
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
            // Keeps the text that a later report of a slow callback shows.
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
        match served::kinds().and_then(|kinds| (kinds.debug)(&event_loop)) {
            Some(debug) => Ok(debug),
            None => foreign_debug_mode(&event_loop),
        }
    }

    /// Runs the callback in its context. An exception goes to the loop's exception handler, unless
    /// it ends the program.
    ///
    /// A handle that runs once releases what it held. So no cycle through it outlives the call,
    /// though the garbage collector does not know the handle.
    #[inline]
    pub(super) fn run(this: &Ref<Handle>, contexts: &Pool) -> Result<LeftContext, EndsProgram> {
        let value: &Handle = this;
        if value.cancelled.get() {
            return Ok(LeftContext::Nothing);
        }
        if value.repeats.get() {
            return Handle::run_kept(this).map(|()| LeftContext::Nothing);
        }
        let Some(function) = value.function.take() else {
            return Ok(LeftContext::Nothing);
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
                        Ok(LeftContext::Bound)
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
    ) -> Result<LeftContext, EndsProgram> {
        let Some(mut context) = this.context.take() else {
            return Ok(LeftContext::Nothing);
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
            Ok(()) => Ok(LeftContext::Context(context)),
            Err(raised) => Handle::fail(this, callback, Some(context), raised),
        }
    }

    /// Reports the exception of the callback, in this context if it was entered.
    #[cold]
    fn fail(
        this: &Ref<Handle>,
        callback: Callback,
        context: Option<Obj>,
        raised: Raised,
    ) -> Result<LeftContext, EndsProgram> {
        this.restore(callback, context);
        this.track();
        Handle::report(this, raised).map(|()| LeftContext::Nothing)
    }

    /// As [`Handle::run`], for a handle that keeps its callback: a descriptor's, or any in debug
    /// mode.
    pub(crate) fn run_kept(this: &Ref<Handle>) -> Result<(), EndsProgram> {
        let Some(callback) = this.callback() else {
            return Ok(());
        };
        // The loop no longer shows to the collector what the handle still holds.
        this.track();
        let outcome = match this.own_context() {
            Ok(Some(context)) => callback.run(&context),
            Ok(None) => Ok(()),
            Err(raised) => Err(raised),
        };
        outcome.or_else(|raised| Handle::report(this, raised))
    }

    /// Marks a handle that runs each time its descriptor is ready.
    pub(crate) fn set_repeats(this: &Ref<Handle>) {
        this.repeats.set(true);
        this.track();
    }

    /// Puts back the fields that `run` took, for the report of an exception.
    fn restore(&self, callback: Callback, context: Option<Obj>) {
        if !self.cancelled.get() {
            self.single.set(callback.single);
            self.args.set(callback.args);
            self.function.set(Some(callback.function));
        }
        if let Some(context) = context {
            self.set_context(BoundContext::To(context));
        }
    }

    fn init(this: &Ref<Handle>, args: &Args<'_>) -> Result<(), Raised> {
        let names = &["callback", "args", "loop", "context"];
        let [callback, args, event_loop, context] = args.bind("Handle", names, 4, 3)?;
        Handle::fill(this, callback, args, event_loop, context)
    }

    /// The work of `__init__`, for a Handle and for a TimerHandle.
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
        this.set_context(BoundContext::To(context));
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
            .method0(c"_run", c"Run the callback as the loop does.", |this| {
                Handle::run_kept(this).map_err(Raised::from)
            })
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
                c"Whether the handle was cancelled.",
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
                c"The stack where the handle was scheduled, in debug mode.",
                |this| &this.source_traceback,
            );
    }

    fn leave(this: &Ref<Self>) {
        this.give_back_context();
    }

    cpython::holds!(function, args, context, event_loop, source_traceback, repr);
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
