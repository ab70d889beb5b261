//! The coroutine of one `acquire()`, `wait()`, `get()` or the like.
//!
//! One type serves all classes: it knows its operation, the object it works on, and the Future that
//! it waits on. This file knows no operation: each class declares its own, as types that implement
//! [`Op`]. A call that need not wait runs to its end in the first step, and its coroutine object is
//! soon used again.

use std::cell::Cell;
use std::marker::PhantomData;

use cpython::build::Next;
use cpython::{Hot, Obj, Python, Raised, Ref, Slot, Spare};

use super::binding::bound_elsewhere;
use super::in_dict;
use super::primitive::Primitive;
use crate::coroutines::class::coroutine_class;
use crate::coroutines::coroutine::{Coroutine, CoroutineState, Turn};

/// An operation of a class: what one of its coroutine functions does.
pub(super) trait Op: 'static {
    /// The class of the object that the operation works on.
    type Target: Primitive;
    /// The name of asyncio's function.
    const NAME: &'static str;
    /// Its qualified name.
    const QUALIFIED_NAME: &'static str;
    /// Whether the operation is an `__aexit__`: asyncio's function takes three arguments and uses
    /// none.
    const IS_EXIT: bool = false;
    /// Whether the operation may leave something in the fields of a call that has run to its end.
    const LEAVES_FIELDS: bool = true;
    /// Does the operation at once, if that needs only the fields of the object and the call, and
    /// returns its result. If it returns None, nothing has changed, and the operation has to begin.
    const SHORTCUT: Option<Shortcut<Self::Target>> = None;

    /// Runs to the first await.
    fn begin(target: &Ref<Self::Target>, call: &Ref<SyncCall>) -> Result<Turn, Raised>;

    /// Runs on from the outcome of the last await, to the next or to the end. By default an
    /// operation has at most one await, and returns None.
    fn resume(
        _target: &Ref<Self::Target>,
        call: &Ref<SyncCall>,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        outcome?;
        SyncCall::done(call, Obj::none(call.py()))
    }
}

/// A function that does an operation at once, if it can.
pub(super) type Shortcut<T> = fn(&Ref<T>, &SyncCall) -> Option<Obj>;

/// An [`Op`] for a call, whatever its class.
struct AnyOp {
    names: (&'static str, &'static str),
    leaves_fields: bool,
    shortcut: Option<AnyShortcut>,
    begin: fn(&Ref<SyncCall>) -> Result<Turn, Raised>,
    resume: AnyResume,
}

type AnyShortcut = fn(&Ref<SyncCall>) -> Option<Next>;
type AnyResume = fn(&Ref<SyncCall>, Result<Obj, Raised>) -> Result<Turn, Raised>;

struct Erased<O>(PhantomData<O>);

impl<O: Op> Erased<O> {
    const OP: &'static AnyOp = &AnyOp {
        names: (O::NAME, O::QUALIFIED_NAME),
        leaves_fields: O::LEAVES_FIELDS,
        shortcut: match O::SHORTCUT {
            Some(_) => Some(shortcut::<O>),
            None => None,
        },
        begin: begin::<O>,
        resume: resume::<O>,
    };
}

/// The await at which a call is that has several of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SyncStage {
    /// The call waits for what the operation is there for.
    Waiting,
    /// The call waits for a native lock.
    Locking,
    /// The call awaits what a lock's `acquire()` has returned.
    Acquiring,
    /// The call awaits what a replaced method has returned.
    Elsewhere,
    /// The call waits until a Barrier is ready for another round.
    Blocked,
    /// The call awaits asyncio's own coroutine, which does the whole operation.
    Asyncio,
}

/// The value of the coroutine object.
pub(super) struct SyncCall {
    op: Cell<&'static AnyOp>,
    pub(super) stage: Cell<SyncStage>,
    /// The lock or queue. Empty while a step runs.
    target: Slot,
    /// The Future that the call waits on.
    pub(super) waiter: Slot,
    /// The item for a queue, the predicate of a condition, or the number of a task at a barrier.
    pub(super) item: Slot,
    /// The exception to raise as soon as the lock is acquired again.
    pub(super) error: Slot,
    /// The last cancellation that came while the call waited for the lock.
    pub(super) cancelled: Slot,
    state: CoroutineState,
}

/// The call that has ended last, to be used again.
static ENDED: Spare<SyncCall> = Spare::new();

impl SyncCall {
    /// A call that does the operation `O` on the object.
    #[inline(always)]
    pub(super) fn create<O: Op>(target: &Ref<O::Target>) -> Result<Ref<SyncCall>, Raised> {
        SyncCall::create_any(target.py(), Erased::<O>::OP, target.as_obj())
    }

    #[inline(always)]
    fn create_any(
        py: Python<'_>,
        op: &'static AnyOp,
        target: &Obj,
    ) -> Result<Ref<SyncCall>, Raised> {
        let Some(call) = ENDED.take(py) else {
            return SyncCall::create_new(py, op, target);
        };
        call.op.set(op);
        call.stage.set(SyncStage::Waiting);
        call.target.set(Some(target.clone()));
        call.state.renew();
        Ok(call)
    }

    #[inline(never)]
    fn create_new(
        py: Python<'_>,
        op: &'static AnyOp,
        target: &Obj,
    ) -> Result<Ref<SyncCall>, Raised> {
        Ref::make(py, || SyncCall {
            op: Cell::new(op),
            stage: Cell::new(SyncStage::Waiting),
            target: Slot::new(Some(target.clone())),
            waiter: Slot::default(),
            item: Slot::default(),
            error: Slot::default(),
            cancelled: Slot::default(),
            state: CoroutineState::default(),
        })
    }

    /// Lets the call return a value. The coroutine object may be used again.
    #[inline]
    pub(super) fn done(this: &Ref<SyncCall>, value: Obj) -> Result<Turn, Raised> {
        ENDED.keep(this);
        Ok(Turn::Return(value))
    }

    /// As `done`, or raises the exception.
    pub(super) fn done_or_raise(
        this: &Ref<SyncCall>,
        outcome: Result<Obj, Obj>,
    ) -> Result<Turn, Raised> {
        match outcome {
            Ok(value) => SyncCall::done(this, value),
            Err(error) => Err(Raised::raise(error)),
        }
    }

    /// Lets asyncio's own coroutine do the operation.
    #[cold]
    pub(super) fn on_asyncio<O: Op>(
        this: &Ref<SyncCall>,
        target: &Ref<O::Target>,
    ) -> Result<Turn, Raised> {
        let none = Obj::none(this.py());
        let exiting = [&none, &none, &none];
        let item = this.item.take();
        let arguments: &[&Obj] = match &item {
            Some(item) => &[item],
            None if O::IS_EXIT => &exiting,
            None => &[],
        };
        let coroutine = in_dict::call(target, O::NAME, arguments)?;
        this.stage.set(SyncStage::Asyncio);
        Ok(Turn::Await(coroutine))
    }

    /// Lets the call wait on a Future of the lock's or queue's.
    #[inline]
    pub(super) fn wait_on(this: &Ref<SyncCall>, waiter: Obj) -> Result<Turn, Raised> {
        this.waiter.set(Some(waiter.clone()));
        Ok(Turn::Await(waiter))
    }
}

/// Runs a step on the target, with what is given, which the call keeps only if it waits afterwards.
/// Where the target is another loop's, `elsewhere` gets both instead.
#[inline(always)]
fn on_target<O: Op, G>(
    this: &Ref<SyncCall>,
    given: G,
    step: impl FnOnce(&Ref<O::Target>, G) -> Result<Turn, Raised>,
    elsewhere: impl FnOnce(&Ref<O::Target>, G) -> Result<Turn, Raised>,
) -> Result<Turn, Raised> {
    let Some(target) = this.target.take() else {
        return Ok(Turn::Return(Obj::none(this.py())));
    };
    let turn = match Ref::<O::Target>::of_any(&target) {
        Some(target) if target.brought().is_some() => step(target, given),
        Some(target) => elsewhere(target, given),
        None => Ok(Turn::Return(Obj::none(this.py()))),
    };
    if let Ok(Turn::Await(_)) = &turn {
        this.target.set(Some(target));
    }
    turn
}

fn shortcut<O: Op>(this: &Ref<SyncCall>) -> Option<Next> {
    let call: &SyncCall = this;
    let attempt = O::SHORTCUT?;
    let target = call.target.take()?;
    let Some(value) = Ref::<O::Target>::bring(&target).and_then(|target| attempt(target, call))
    else {
        call.target.set(Some(target));
        return None;
    };
    call.state.finish();
    ENDED.keep(this);
    Some(Next::Return(value))
}

fn begin<O: Op>(this: &Ref<SyncCall>) -> Result<Turn, Raised> {
    on_target::<O, _>(
        this,
        (),
        |target, ()| match in_dict::stays(target)? {
            true => SyncCall::on_asyncio::<O>(this, target),
            false => O::begin(target, this),
        },
        |target, ()| SyncCall::on_asyncio::<O>(this, target),
    )
}

fn resume<O: Op>(this: &Ref<SyncCall>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised> {
    on_target::<O, _>(
        this,
        outcome,
        |target, outcome| {
            let was_in_dict = in_dict::to_fields(target);
            let turn = O::resume(target, this, outcome);
            match was_in_dict {
                true => in_dict::to_dict(target, turn),
                false => turn,
            }
        },
        // Whoever closes the coroutine ends it, wherever that is.
        |target, outcome| {
            Err(outcome
                .err()
                .unwrap_or_else(|| bound_elsewhere(target.as_obj())))
        },
    )
}

impl Coroutine for SyncCall {
    fn names(&self) -> (&'static str, &'static str) {
        self.op.get().names
    }

    #[inline(always)]
    fn shortcut(this: &Ref<SyncCall>) -> Option<Next> {
        let call: &SyncCall = this;
        if !call.state.is_new() {
            return None;
        }
        (call.op.get().shortcut?)(this)
    }

    #[inline]
    fn begin(this: &Ref<SyncCall>) -> Result<Turn, Raised> {
        (this.op.get().begin)(this)
    }

    #[inline]
    fn resume(this: &Ref<SyncCall>, outcome: Result<Obj, Raised>) -> Result<Turn, Raised> {
        if this.stage.get() == SyncStage::Asyncio {
            return SyncCall::done(this, outcome?);
        }
        (this.op.get().resume)(this, outcome)
    }

    #[inline]
    fn end(this: &Ref<SyncCall>) {
        // A call that has run to its end holds nothing but its arguments.
        if this.target.take().is_some() || this.op.get().leaves_fields {
            this.clear();
        }
    }
}

coroutine_class! {
    SyncCall: c"aioxide._aioxide.sync_coroutine", c"The coroutine object that methods of locks and queues return.";
    const FREELIST: usize = 1024;
    const MOVES: bool = true;
    holds target, waiter, item, error, cancelled;
}
