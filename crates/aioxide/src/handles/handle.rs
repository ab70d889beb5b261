//! `Handle`: a callback with its arguments and its context, as `asyncio.Handle`.
//!
//! The type derives from asyncio's, whose texts and comparisons it inherits. Those read
//! `_callback`, `_args` and so on, which are properties here. The value lies over the slots of
//! asyncio's class, so that a handle is no larger than asyncio's.

use cpython::build::Builder;
use cpython::context::{BoundContext, Pool};
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot, context};

use super::served;
use crate::interop::{EndsProgram, asyncio};

/// The number of freed handles of a kind whose memory is kept at most, until the loop is idle. Half
/// of the time of a burst of a hundred thousand calls goes into fresh pages of memory.
pub(super) const KEPT_IN_BURSTS: usize = 1 << 18;

/// A callback and its arguments.
#[derive(Clone)]
pub(crate) struct Callback {
    function: Obj,
    args: Option<Obj>,
    /// Whether `args` is one argument without a tuple around it, if it is anything.
    single: bool,
}

impl Callback {
    /// A callback with positional arguments.
    #[inline]
    pub(crate) fn new(function: &Obj, args: &[Obj]) -> Result<Callback, Raised> {
        let (args, single) = match args {
            [] => (None, true),
            [one] => (Some(one.clone()), true),
            many => (Some(Obj::tuple(function.py(), many)?), false),
        };
        Ok(Callback {
            function: function.clone_to_wait(),
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

    /// Drops the callback after its run.
    #[inline(always)]
    fn release(self) {
        drop(self.args);
        self.function.drop_after_wait();
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
            Some(tuple) if tuple.is_tuple_exact() => self.function.call_tuple(tuple),
            Some(others) => self.function.call_tuple(&tuple_of(others)?),
        }
    }
}

/// `tuple(items)`.
fn tuple_of(items: &Obj) -> Result<Obj, Raised> {
    Obj::class_of::<pyo3::types::PyTuple>(items.py()).call1(items)
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

/// The value of a Handle. Its fields are the slots of `asyncio.Handle`, in their order.
///
/// What asyncio puts into a slot has the same meaning here. Three slots, which it always fills, say
/// more when they are empty:
///
/// | empty | means |
/// |---|---|
/// | `repr` | the arguments, if any, are one argument without a tuple around it |
/// | `source_traceback` | the handle runs in a copy of the context, which is made when it runs or a program asks for it |
/// | `cancelled` | it is not cancelled, and lets go of what it holds when it runs |
#[repr(C)]
#[derive(Default)]
pub(crate) struct Handle {
    args: Slot,
    function: Slot,
    cancelled: Slot,
    context: Slot,
    event_loop: Slot,
    repr: Slot,
    source_traceback: Slot,
}

impl Handle {
    /// The value of a new handle.
    #[inline]
    pub(crate) fn value(event_loop: &Obj, callback: Callback, context: BoundContext) -> Handle {
        let py = event_loop.py();
        let (context, copies) = match context {
            BoundContext::To(context) => (context, false),
            BoundContext::ToCopyOf(context) => (context, true),
        };
        Handle {
            args: Slot::new(callback.args),
            function: Slot::new(Some(callback.function)),
            cancelled: Slot::default(),
            context: Slot::new(Some(context)),
            event_loop: Slot::new(Some(event_loop.clone())),
            repr: Slot::new((!callback.single).then(|| Obj::none(py))),
            source_traceback: Slot::new((!copies).then(|| Obj::none(py))),
        }
    }

    /// Gives a spare handle of the same loop another callback.
    #[inline]
    pub(crate) fn refill(&self, callback: Callback) {
        self.set_single(callback.single, callback.function.py());
        self.function.set(Some(callback.function));
        self.args.set(callback.args);
    }

    /// Whether the handle keeps nothing of its former use.
    #[inline]
    pub(super) fn is_blank(&self) -> bool {
        self.function.is_none()
            && self.args.is_none()
            && self.source_traceback.is_none_or_empty()
            && self.repr.is_none_or_empty()
            && self.cancelled.is_none()
    }

    /// Whether the arguments are one argument without a tuple around it.
    #[inline]
    fn is_single(&self) -> bool {
        self.repr.is_none()
    }

    /// Notes whether the arguments are one argument without a tuple around it.
    #[inline]
    fn set_single(&self, single: bool, py: Python<'_>) {
        if single {
            self.repr.set(None);
        } else if self.repr.is_none() {
            self.repr.set(Some(Obj::none(py)));
        }
    }

    /// Sets the text that is kept of the handle. It has a tuple of arguments from now on.
    fn set_repr(&self, py: Python<'_>, text: Option<Obj>) -> Result<(), Raised> {
        if let Some(one) = self.args.get().filter(|_| self.is_single()) {
            self.args.set(Some(Obj::tuple(py, &[one])?));
        }
        self.repr.set(Some(text.unwrap_or_else(|| Obj::none(py))));
        Ok(())
    }

    /// Whether the handle runs in a copy of its context.
    #[inline]
    fn copies(&self) -> bool {
        self.source_traceback.is_none()
    }

    /// Sets the stack where the handle was scheduled. It has a context of its own from now on.
    fn set_source(&self, py: Python<'_>, stack: Option<Obj>) -> Result<(), Raised> {
        if self.copies() && self.own_context()?.is_none() {
            self.context.set(None);
        }
        let stack = stack.unwrap_or_else(|| Obj::none(py));
        self.source_traceback.set(Some(stack));
        Ok(())
    }

    /// Has the processor fetch the context ahead of its use, if the handle has one of its own.
    #[inline]
    pub(super) fn prefetch_context(&self) {
        if !self.copies() {
            self.context.prefetch(1);
        }
    }

    /// Whether the handle runs in a copy of the pool's own context.
    #[inline]
    pub(super) fn is_anchored(&self, contexts: &Pool) -> bool {
        self.copies() && contexts.is_anchored(&self.context)
    }

    /// Releases the context to which the handle was bound, after its run.
    #[inline]
    pub(super) fn forget_context(&self) {
        if self.copies() {
            self.context.set(None);
        }
    }

    /// Sets the handle's context.
    #[inline]
    pub(super) fn set_context(&self, context: BoundContext) {
        let context = match context {
            BoundContext::To(context) => {
                self.set_owns_context(context.py());
                context
            }
            BoundContext::ToCopyOf(context) => {
                self.source_traceback.set(None);
                context
            }
        };
        self.context.set(Some(context));
    }

    /// Notes that the context is the handle's own.
    #[inline]
    fn set_owns_context(&self, py: Python<'_>) {
        if self.copies() {
            self.source_traceback.set(Some(Obj::none(py)));
        }
    }

    /// The handle's context, which is its own from now on. Returns nothing once the handle runs.
    fn own_context(&self) -> Result<Option<Obj>, Raised> {
        let Some(context) = self.context.get() else {
            return Ok(None);
        };
        if !self.copies() {
            return Ok(Some(context));
        }
        if self.function.is_none() && !self.is_cancelled() {
            return Ok(None);
        }
        let own = context::copy(&context)?;
        self.set_context(BoundContext::To(own.clone()));
        Ok(Some(own))
    }

    /// Gives the handle's context to the loop's spares, because the handle is about to go.
    #[inline(always)]
    pub(super) fn give_back_context(&self) {
        if !self.copies() && self.context.is_some() {
            self.give_back_own_context();
        }
    }

    #[inline(never)]
    fn give_back_own_context(&self) {
        if let (Some(kinds), Some(event_loop)) = (served::kinds(), self.event_loop.get()) {
            (kinds.reclaim)(&event_loop, &self.context);
        }
    }

    /// The loop of the handle.
    pub(crate) fn event_loop(this: &Ref<Handle>) -> Option<Obj> {
        this.event_loop.get()
    }

    /// Whether the handle was cancelled.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.is_true_object()
    }

    /// Keeps the place where the program scheduled the handle, in debug mode.
    ///
    /// `depth` is the number of Python frames between the program and native code (none for native
    /// callers).
    pub(crate) fn remember_source(&self, py: Python<'_>, depth: i64) -> Result<(), Raised> {
        let imports = asyncio(py);
        let frame = imports.getframe.get(py).call1(&Obj::int(py, depth)?)?;
        let stack = imports.extract_handle_stack.get(py).call1(&frame)?;
        self.set_source(py, Some(stack))
    }

    fn callback(&self) -> Option<Callback> {
        let function = self.function.get()?;
        Some(Callback {
            function,
            args: self.args.get(),
            single: self.is_single(),
        })
    }

    /// As `Handle.cancel()`.
    #[inline]
    pub(crate) fn cancel(this: &Ref<Handle>) -> Result<(), Raised> {
        let value: &Handle = this;
        if value.is_cancelled() {
            return Ok(());
        }
        value.cancelled.set(Some(Obj::bool(this.py(), true)));
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
    pub(super) fn cancel_and(&self, py: Python<'_>, note: impl FnOnce() -> bool) -> bool {
        let before = self.cancelled.replace(Some(Obj::bool(py, true)));
        let noted = note();
        if noted {
            self.function.set(None);
            self.args.set(None);
        } else {
            self.cancelled.set(before);
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
        if value.cancelled.is_some() {
            return Handle::run_repeatedly(this).map(|()| LeftContext::Nothing);
        }
        let Some(function) = value.function.take() else {
            return Ok(LeftContext::Nothing);
        };
        let callback = Callback {
            function,
            args: value.args.take(),
            single: value.is_single(),
        };
        if value.copies() && contexts.is_anchored(&value.context) {
            if let Some(entered) = contexts.enter_stage() {
                let result = callback.call();
                return match (entered.exit(this.py()), result) {
                    (Ok(()), Ok(_)) => {
                        contexts.leave_stage();
                        callback.release();
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

    /// As [`Handle::run`], for a handle that is cancelled or repeats.
    #[inline(never)]
    fn run_repeatedly(this: &Ref<Handle>) -> Result<(), EndsProgram> {
        if this.is_cancelled() {
            return Ok(());
        }
        Handle::run_kept(this)
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
        if this.copies() {
            context = match contexts.copy_of(&context) {
                Ok(copy) => copy,
                Err(raised) => {
                    this.context.set(Some(context));
                    return Handle::fail(this, callback, None, raised);
                }
            };
        }
        match callback.run(&context) {
            Ok(()) => {
                callback.release();
                Ok(LeftContext::Context(context))
            }
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
        this.cancelled.set(Some(Obj::bool(this.py(), false)));
        this.track();
    }

    /// Puts back the fields that `run` took, for the report of an exception.
    fn restore(&self, callback: Callback, context: Option<Obj>) {
        if !self.is_cancelled() {
            self.set_single(callback.single, callback.function.py());
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
        let args = args.map(|args| tuple_of(&args)).transpose()?;
        this.function.set(callback);
        this.args.set(args);
        this.repr.set(Some(Obj::none(py)));
        this.source_traceback.set(Some(Obj::none(py)));
        this.context.set(Some(context));
        this.event_loop.set(event_loop);
        this.cancelled.set(None);
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
    const FREELIST_IN_BURSTS: usize = KEPT_IN_BURSTS;
    /// Where the value lies behind the slots of the base, a program can make a cycle through these.
    const TRACKED: bool = cfg!(Py_GIL_DISABLED);
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
            .new_value(|_| Ok(Handle::default()))
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
                    this.set_single(false, this.py());
                    this.args.set(value.cloned().and_then(Obj::not_none));
                    Ok(())
                },
            )
            .get_set(
                c"_cancelled",
                c"Whether the handle was cancelled.",
                |this| this.is_cancelled(),
                |this, value| {
                    let cancelled = value.is_some_and(Obj::is_true_object);
                    if cancelled != this.is_cancelled() {
                        this.cancelled.set(Some(Obj::bool(this.py(), cancelled)));
                    }
                    Ok(())
                },
            )
            .get_set(
                c"_context",
                c"The context in which the callback runs.",
                |this| this.own_context(),
                |this, value| {
                    this.set_owns_context(this.py());
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
            .get_set(
                c"_repr",
                c"The text kept by cancel() in debug mode.",
                |this| this.repr.get(),
                |this, value| this.set_repr(this.py(), value.cloned()),
            )
            .get_set(
                c"_source_traceback",
                c"The stack where the handle was scheduled, in debug mode.",
                |this| this.source_traceback.get(),
                |this, value| this.set_source(this.py(), value.cloned()),
            );
    }

    fn leave(this: &Ref<Self>) {
        this.give_back_context();
    }

    cpython::members! {
        c"_args": args,
        c"_callback": function,
        c"_cancelled": cancelled,
        c"_context": context,
        c"_loop": event_loop,
        c"_repr": repr,
        c"_source_traceback": source_traceback,
    }

    cpython::holds!(function, args, context, event_loop, source_traceback, repr);
}

/// Builds the types. `asyncio.Handle` and `asyncio.TimerHandle` are their bases.
pub(crate) fn build(py: Python<'_>) -> Result<(), Raised> {
    let imports = asyncio(py);
    let (handle, timer) = (imports.handle.get(py), imports.timer_handle.get(py));
    let thread_safe = events_attribute(py, "_ThreadSafeHandle")?;
    let shared = thread_safe.as_ref().unwrap_or(handle);
    let bases = [handle, timer, shared];
    let room = if cpython::members::fit::<Handle>(&bases) {
        0
    } else {
        // Behind the largest base, all find the handle's value at the same place.
        let sizes = bases.map(cpython::build::basic_size);
        sizes.into_iter().max().unwrap_or(0)
    };
    cpython::build::build::<Handle>(py, Some(handle), room)?;
    let timer = cpython::build::build::<super::TimerHandle>(py, Some(timer), room)?;
    name_words(&timer, &["_seconds", "_sequence"])?;
    cpython::build::adopt::<super::TimerHandle>(py)?;
    let shared = cpython::build::build::<super::ThreadSafeHandle>(py, Some(shared), room)?;
    name_words(&shared, &["_running", "_end", "_end_lent"])?;
    cpython::build::adopt::<super::ThreadSafeHandle>(py)?;
    cpython::build::build::<super::Alarm>(py, None, 0)?;
    Ok(())
}

/// Gives names to the words that a type adds to its base's. `copy.copy()` takes no object that has
/// more words than its classes' `__slots__` name. It passes over names that are no attributes.
fn name_words(class: &Obj, names: &[&str]) -> Result<(), Raised> {
    let py = class.py();
    let names: Result<Vec<_>, _> = names.iter().map(|name| Obj::str(py, name)).collect();
    class.set_attr(pyo3::intern!(py, "__slots__"), &Obj::tuple(py, &names?)?)
}

fn events_attribute(py: Python<'_>, name: &str) -> Result<Option<Obj>, Raised> {
    asyncio(py)
        .events
        .get(py)
        .attr_opt(&pyo3::types::PyString::intern(py, name))
}
