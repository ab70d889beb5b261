//! Barrier: it fills, drains, and fills again; a reset or an abort interrupts that.

use std::cell::Cell;
use std::ffi::CStr;

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Python, Raised, Ref, Slot};
use pyo3::intern;

use super::acquired::Acquired;
use super::binding::{bound_elsewhere, build_shared, describe_state};
use super::call::{Op, SyncCall, SyncStage};
use super::condition::Condition;
use super::condition_calls::ConditionWait;
use super::imports::imports;
use super::in_dict;
use super::lock::Lock;
use super::methods::{ClassPair, wrong_object};
use super::primitive::{Attributes, Primitive, PrimitiveFields, has_own_methods};
use crate::coroutines::coroutine::Turn;

/// The states, in asyncio's order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BarrierState {
    Filling,
    Draining,
    Resetting,
    Broken,
}

const STATES: [BarrierState; 4] = [
    BarrierState::Filling,
    BarrierState::Draining,
    BarrierState::Resetting,
    BarrierState::Broken,
];

/// The parts of `wait()`.
const PARTS: &[&str] = &["_block", "_release", "_wait", "_exit"];

/// The value of a Barrier.
pub(super) struct Barrier {
    shared: PrimitiveFields,
    condition: Slot<Ref<Condition>>,
    parties: Slot,
    state: Cell<BarrierState>,
    /// The number of tasks in the barrier.
    count: Cell<i64>,
}

impl Barrier {
    fn empty() -> Barrier {
        Barrier {
            shared: PrimitiveFields::uninitialized(),
            condition: Slot::default(),
            parties: Slot::default(),
            state: Cell::new(BarrierState::Filling),
            count: Cell::new(0),
        }
    }

    fn init(this: &Ref<Barrier>, args: &Args<'_>) -> Result<(), Raised> {
        let py = this.py();
        let [parties] = args.bind_as_python("Barrier.__init__", &["parties"], 1)?;
        let parties = parties.unwrap_or_else(|| Obj::none(py));
        if parties.is_less(&Obj::int(py, 1)?)? {
            return Err(Raised::value_error(py, &imports(py).too_few_parties));
        }
        if in_dict::initializes(this)? {
            return in_dict::call(this, "__init__", &[&parties]).map(drop);
        }
        this.condition.set(Some(Condition::create(py)?));
        this.parties.set(Some(parties));
        this.state.set(BarrierState::Filling);
        this.count.set(0);
        Ok(())
    }

    fn condition(this: &Ref<Barrier>) -> Result<Ref<Condition>, Raised> {
        let condition = this.condition.get();
        let condition = condition.ok_or_else(|| in_dict::missing(this, "_cond"))?;
        match condition.brought() {
            Some(_) => Ok(condition),
            None => Err(bound_elsewhere(condition.as_obj())),
        }
    }

    /// Begins a coroutine that acquires the lock and goes on with `then`.
    fn lock(this: &Ref<Barrier>, call: &Ref<SyncCall>, then: Then) -> Result<Turn, Raised> {
        let py = this.py();
        call.stage.set(SyncStage::Locking);
        let condition = Barrier::condition(this)?;
        if in_dict::stays(&condition)? {
            let acquire = intern!(py, "acquire");
            return Ok(Turn::Await(condition.as_obj().method(acquire, &[])?));
        }
        match Condition::native_lock(&condition) {
            Some(lock) => match Lock::begin(&lock)? {
                None => then(this, call),
                Some(waiter) => SyncCall::wait_on(call, waiter),
            },
            None => Ok(Turn::Await(Condition::acquire_lock(&condition)?)),
        }
    }

    /// Goes on from the outcome of what the coroutine awaits.
    fn go_on(
        this: &Ref<Barrier>,
        call: &Ref<SyncCall>,
        outcome: Result<Obj, Raised>,
        then: Then,
    ) -> Result<Turn, Raised> {
        match call.stage.get() {
            SyncStage::Elsewhere | SyncStage::Asyncio => SyncCall::done(call, outcome?),
            SyncStage::Locking | SyncStage::Acquiring => {
                let condition = Barrier::condition(this)?;
                Condition::finish_locking(&condition, call.waiter.take(), outcome)?;
                then(this, call)
            }
            SyncStage::Blocked => match outcome {
                Ok(_) => Barrier::block(this, call),
                Err(raised) => Barrier::leave(this, call, Err(raised)),
            },
            SyncStage::Waiting => match outcome {
                Ok(_) => Barrier::fill(this, call),
                Err(raised) => Barrier::finish(this, call, Err(raised)),
            },
        }
    }

    /// `reset()`, once the lock is acquired.
    fn reset(this: &Ref<Barrier>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
        Barrier::change(
            this,
            call,
            match this.count.get() > 0 {
                true => BarrierState::Resetting,
                false => BarrierState::Filling,
            },
        )
    }

    /// `abort()`, once the lock is acquired.
    fn abort(this: &Ref<Barrier>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
        Barrier::change(this, call, BarrierState::Broken)
    }

    /// Changes the state and wakes all waiters.
    fn change(
        this: &Ref<Barrier>,
        call: &Ref<SyncCall>,
        state: BarrierState,
    ) -> Result<Turn, Raised> {
        this.state.set(state);
        let notified =
            Barrier::condition(this).and_then(|condition| Condition::notify_all(&condition));
        Barrier::leave(this, call, notified.map(|()| Obj::none(this.py())))
    }

    fn wait(this: &Ref<Barrier>, call: &Ref<SyncCall>, stage: SyncStage) -> Result<Turn, Raised> {
        let condition = Barrier::condition(this)?;
        call.stage.set(stage);
        let wait = SyncCall::create::<ConditionWait>(&condition)?;
        Ok(Turn::Await(wait.into_obj()))
    }

    /// Waits until the last round is over.
    fn block(this: &Ref<Barrier>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
        match this.state.get() {
            BarrierState::Draining | BarrierState::Resetting => {
                Barrier::wait(this, call, SyncStage::Blocked)
            }
            BarrierState::Broken => {
                let raised = broken(this, "Barrier aborted");
                Barrier::leave(this, call, Err(raised))
            }
            BarrierState::Filling => {
                let index = this.count.get();
                this.count.set(index + 1);
                let number = Obj::int(this.py(), index)?;
                call.item.set(Some(number));
                let next = Obj::int(this.py(), index + 1)?;
                let is_last = match this.parties.get() {
                    Some(parties) => next.equals(&parties)?,
                    None => false,
                };
                if !is_last {
                    return Barrier::fill(this, call);
                }
                this.state.set(BarrierState::Draining);
                let notified = Barrier::condition(this)
                    .and_then(|condition| Condition::notify_all(&condition));
                Barrier::finish(this, call, notified)
            }
        }
    }

    /// Waits until all tasks are there.
    fn fill(this: &Ref<Barrier>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
        match this.state.get() {
            BarrierState::Filling => Barrier::wait(this, call, SyncStage::Waiting),
            BarrierState::Draining => Barrier::finish(this, call, Ok(())),
            BarrierState::Broken | BarrierState::Resetting => {
                let raised = broken(this, "Abort or reset of barrier");
                Barrier::finish(this, call, Err(raised))
            }
        }
    }

    /// Ends a task's `wait()`. The last task to leave lets the next round begin.
    fn finish(
        this: &Ref<Barrier>,
        call: &Ref<SyncCall>,
        outcome: Result<(), Raised>,
    ) -> Result<Turn, Raised> {
        let outcome = outcome.map_err(|raised| raised.take(this.py()));
        this.count.set(this.count.get() - 1);
        if this.count.get() == 0 {
            if matches!(
                this.state.get(),
                BarrierState::Resetting | BarrierState::Draining
            ) {
                this.state.set(BarrierState::Filling);
            }
            Condition::notify_all(&Barrier::condition(this)?)?;
        }
        let number = call.item.take().unwrap_or_else(|| Obj::none(this.py()));
        let outcome = outcome.map(|()| number).map_err(Raised::raise);
        Barrier::leave(this, call, outcome)
    }

    /// Releases the lock, and ends with the outcome.
    fn leave(
        this: &Ref<Barrier>,
        call: &Ref<SyncCall>,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        let outcome = outcome.map_err(|raised| raised.take(this.py()));
        let condition = Barrier::condition(this)?;
        condition
            .as_obj()
            .method(intern!(this.py(), "release"), &[])?;
        SyncCall::done_or_raise(call, outcome)
    }

    fn is_broken(&self) -> bool {
        self.state.get() == BarrierState::Broken
    }

    fn waiting(&self) -> i64 {
        match self.state.get() {
            BarrierState::Filling => self.count.get(),
            _ => 0,
        }
    }

    fn repr(this: &Ref<Barrier>) -> Result<String, Raised> {
        let py = this.py();
        let state = match this.state.get() {
            BarrierState::Filling => "filling",
            BarrierState::Draining => "draining",
            BarrierState::Resetting => "resetting",
            BarrierState::Broken => return describe_state(this, "broken"),
        };
        let parties = this.parties.get().unwrap_or_else(|| Obj::none(py));
        let parties = parties.str_of()?;
        let text = format!("{state}, waiters:{}/{}", this.waiting(), parties.as_str()?);
        describe_state(this, &text)
    }

    fn show_state(this: &Ref<Barrier>) -> Obj {
        let py = this.py();
        imports(py).barrier_states[this.state.get() as usize]
            .get(py)
            .clone()
    }

    fn set_state(this: &Ref<Barrier>, value: Option<&Obj>) -> Result<(), Raised> {
        let py = this.py();
        let states = &imports(py).barrier_states;
        let found = value.and_then(|value| states.iter().position(|state| state.get(py).is(value)));
        match found {
            Some(index) => {
                this.state.set(STATES[index]);
                Ok(())
            }
            None => Err(Raised::type_error(py, "_state must be a _BarrierState")),
        }
    }
}

/// What a coroutine does once it has acquired the lock.
type Then = fn(&Ref<Barrier>, &Ref<SyncCall>) -> Result<Turn, Raised>;

/// `wait()`.
struct BarrierWait;

impl Op for BarrierWait {
    type Target = Barrier;
    const NAME: &'static str = "wait";
    const QUALIFIED_NAME: &'static str = "Barrier.wait";

    fn begin(this: &Ref<Barrier>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
        // asyncio's function calls the methods that a program has replaced.
        if !has_own_methods(this, PARTS) {
            return SyncCall::on_asyncio::<BarrierWait>(call, this);
        }
        Barrier::lock(this, call, Barrier::block)
    }

    fn resume(
        this: &Ref<Barrier>,
        call: &Ref<SyncCall>,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        Barrier::go_on(this, call, outcome, Barrier::block)
    }
}

/// `__aenter__()`: what `wait()` does.
struct BarrierEnter;

impl Op for BarrierEnter {
    type Target = Barrier;
    const NAME: &'static str = "__aenter__";
    const QUALIFIED_NAME: &'static str = "Barrier.__aenter__";

    fn begin(this: &Ref<Barrier>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
        if !Barrier::is_native(this) {
            call.stage.set(SyncStage::Elsewhere);
            let name = intern!(this.py(), "wait");
            return Ok(Turn::Await(this.as_obj().method(name, &[])?));
        }
        Barrier::lock(this, call, Barrier::block)
    }

    fn resume(
        this: &Ref<Barrier>,
        call: &Ref<SyncCall>,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        Barrier::go_on(this, call, outcome, Barrier::block)
    }
}

/// `__aexit__()`, which does nothing.
struct BarrierExit;

impl Op for BarrierExit {
    type Target = Barrier;
    const NAME: &'static str = "__aexit__";
    const QUALIFIED_NAME: &'static str = "Barrier.__aexit__";
    const IS_EXIT: bool = true;

    fn begin(this: &Ref<Barrier>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
        SyncCall::done(call, Obj::none(this.py()))
    }
}

/// `reset()`.
struct BarrierReset;

impl Op for BarrierReset {
    type Target = Barrier;
    const NAME: &'static str = "reset";
    const QUALIFIED_NAME: &'static str = "Barrier.reset";

    fn begin(this: &Ref<Barrier>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
        Barrier::lock(this, call, Barrier::reset)
    }

    fn resume(
        this: &Ref<Barrier>,
        call: &Ref<SyncCall>,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        Barrier::go_on(this, call, outcome, Barrier::reset)
    }
}

/// `abort()`.
struct BarrierAbort;

impl Op for BarrierAbort {
    type Target = Barrier;
    const NAME: &'static str = "abort";
    const QUALIFIED_NAME: &'static str = "Barrier.abort";

    fn begin(this: &Ref<Barrier>, call: &Ref<SyncCall>) -> Result<Turn, Raised> {
        Barrier::lock(this, call, Barrier::abort)
    }

    fn resume(
        this: &Ref<Barrier>,
        call: &Ref<SyncCall>,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        Barrier::go_on(this, call, outcome, Barrier::abort)
    }
}

fn broken(this: &Ref<Barrier>, text: &str) -> Raised {
    Raised::with_class(imports(this.py()).broken_barrier.get(this.py()), text)
}

impl Primitive for Barrier {
    const REPLACEABLE: &'static [&'static str] = &["wait", "_block", "_release", "_wait", "_exit"];
    const ATTRIBUTES: &'static [&'static str] = &["_cond", "_parties", "_state", "_count"];

    fn shared(&self) -> &PrimitiveFields {
        &self.shared
    }

    fn asyncio_class<'a>(this: &'a Ref<Barrier>, _: &str) -> &'a Obj {
        imports(this.py()).classes.barrier.get(this.py())
    }

    fn give(this: &Ref<Barrier>) -> Result<Attributes, Raised> {
        let mut attributes = Vec::new();
        if let Some(condition) = this.condition.get() {
            attributes.push(("_cond", condition.into_obj()));
        }
        if let Some(parties) = this.parties.get() {
            attributes.push(("_parties", parties));
        }
        attributes.push(("_state", Barrier::show_state(this)));
        attributes.push(("_count", Obj::int(this.py(), this.count.get())?));
        Ok(attributes)
    }

    fn take(this: &Ref<Barrier>, dict: &Obj) -> Result<bool, Raised> {
        let (Some(condition), Some(parties), Some(state), Some(count)) = (
            in_dict::find(dict, "_cond")?,
            in_dict::find(dict, "_parties")?,
            in_dict::find(dict, "_state")?,
            in_dict::find_count(dict, "_count")?,
        ) else {
            return Ok(false);
        };
        let Some(condition) = Ref::<Condition>::bring(&condition) else {
            return Ok(false);
        };
        let py = this.py();
        let states = &imports(py).barrier_states;
        let Some(index) = states.iter().position(|known| known.get(py).is(&state)) else {
            return Ok(false);
        };
        this.condition.set(Some(condition.clone()));
        this.parties.set(Some(parties));
        this.state.set(STATES[index]);
        this.count.set(count);
        Ok(true)
    }
}

impl Hot for Barrier {
    type Parent = NoParent;
    const NAME: &'static CStr = c"asyncio.locks.Barrier";
    const DOC: &'static CStr = c"Barrier(parties)\n--\n\n\
        A place where a number of tasks wait for each other, as asyncio.Barrier.\n\n\
        parties: how many; at least 1.";
    const MOVES: bool = true;
    cpython::hot_type!();

    fn may_move(this: &Ref<Barrier>) -> bool {
        if in_dict::is_there(this) {
            return false;
        }
        let condition = this.condition.get();
        condition.is_none_or(|condition| condition.is_here() && Condition::may_move(&condition))
    }
    cpython::holds!(shared, condition, parties);

    fn build(builder: &mut Builder<Self>) {
        build_shared(builder);
        builder
            .new_value(|_| Ok(Barrier::empty()))
            .init(Barrier::init)
            .repr(in_dict::method!("__repr__", Barrier::repr))
            .get(
                c"parties",
                c"The number of tasks that the barrier waits for.",
                in_dict::method!("parties", |this: &Ref<Barrier>| this.parties.get()),
            )
            .get(
                c"n_waiting",
                c"The number of tasks that wait.",
                in_dict::method!("n_waiting", |this: &Ref<Barrier>| this.waiting()),
            )
            .get(
                c"broken",
                c"Whether the barrier is broken.",
                in_dict::method!("broken", |this: &Ref<Barrier>| this.is_broken()),
            );
        in_dict::attribute!(
            builder,
            "_cond",
            c"The Condition that the tasks wait on.",
            Barrier::condition,
            |this: &Ref<Barrier>, value: Option<&Obj>| {
                let condition = value.and_then(Ref::<Condition>::of_any).cloned();
                if condition.is_none() {
                    let text = "_cond must be a Condition";
                    return Err(Raised::type_error(this.py(), text));
                }
                this.condition.set(condition);
                Ok(())
            },
        );
        in_dict::attribute!(
            builder,
            "_parties",
            c"The number of tasks that the barrier waits for.",
            |this: &Ref<Barrier>| this.parties.get(),
            |this: &Ref<Barrier>, value: Option<&Obj>| {
                this.parties.set(value.cloned());
                Ok(())
            },
        );
        in_dict::attribute!(
            builder,
            "_state",
            c"A member of asyncio.locks._BarrierState.",
            Barrier::show_state,
            Barrier::set_state,
        );
        in_dict::attribute!(
            builder,
            "_count",
            c"The number of tasks in the barrier.",
            |this: &Ref<Barrier>| this.count.get(),
            |this: &Ref<Barrier>, value: Option<&Obj>| {
                this.count.set(value.map_or(Ok(0), Obj::to_i64)?);
                Ok(())
            },
        );
    }
}

fn exit(py: Python<'_>, args: &Args<'_>) -> Result<Ref<SyncCall>, Raised> {
    const FUNCTION: &str = BarrierExit::QUALIFIED_NAME;
    args.no_keywords(FUNCTION)?;
    let given = args.positional.first();
    match given.and_then(Ref::<Barrier>::of_any) {
        Some(this) => SyncCall::create::<BarrierExit>(this),
        None => Err(wrong_object::<Barrier>(py, given, FUNCTION)),
    }
}

/// Builds the class; `locks` is the module `asyncio.locks`.
pub(super) fn build(py: Python<'_>, locks: &Obj) -> Result<(), Raised> {
    let class = ClassPair::<Barrier>::build(py, locks)?;
    class.add_plain::<BarrierWait>(
        "Wait until all tasks are there; returns a number, another one for each, from 0 on.",
    )?;
    class.add_plain::<BarrierEnter>("wait().")?;
    class.add(BarrierExit::NAME, "Nothing more.", exit)?;
    class
        .add_plain::<BarrierReset>("Empty the barrier: tasks that wait get BrokenBarrierError.")?;
    class.add_plain::<BarrierAbort>(
        "Break the barrier: tasks that wait or come get BrokenBarrierError.",
    )?;
    // Native code calls none of these, unless a program has replaced one.
    for part in PARTS {
        class.take_over(part)?;
    }
    Ok(())
}
