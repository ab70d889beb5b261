//! Barrier: it fills, drains, and fills again; a reset or an abort breaks into that.

use std::cell::Cell;
use std::ffi::CStr;

use cpython::build::Builder;
use cpython::{Args, Hot, NoParent, Obj, Raised, Ref, Slot};
use pyo3::intern;

use super::bound::{Bound, Primitive, build_bound, describe_state};
use super::call::{Acquired, Call, Operation, Stage};
use super::condition::Condition;
use super::lock::Lock;
use super::originals;
use crate::coroutines::coroutine::Turn;

/// The states, in the order of asyncio's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Filling,
    Draining,
    Resetting,
    Broken,
}

const STATES: [State; 4] = [
    State::Filling,
    State::Draining,
    State::Resetting,
    State::Broken,
];

/// The value of a Barrier.
pub(super) struct Barrier {
    bound: Bound,
    condition: Slot<Ref<Condition>>,
    parties: Slot,
    state: Cell<State>,
    /// How many are in it.
    count: Cell<i64>,
}

impl Barrier {
    fn empty() -> Barrier {
        Barrier {
            bound: Bound::default(),
            condition: Slot::default(),
            parties: Slot::default(),
            state: Cell::new(State::Filling),
            count: Cell::new(0),
        }
    }

    fn init(this: &Ref<Barrier>, args: &Args<'_>) -> Result<(), Raised> {
        let py = this.py();
        let [parties] = args.bind_as_python("Barrier.__init__", &["parties"], 1)?;
        let parties = parties.unwrap_or_else(|| Obj::none(py));
        let operator = Obj::import(py, c"operator")?;
        let one = Obj::int(py, 1)?;
        if operator
            .method(intern!(py, "lt"), &[&parties, &one])?
            .truth()?
        {
            return Err(Raised::value_error(py, &originals(py).too_few_parties));
        }
        this.condition.set(Some(Condition::create(py)?));
        this.parties.set(Some(parties));
        this.state.set(State::Filling);
        this.count.set(0);
        Ok(())
    }

    fn condition(this: &Ref<Barrier>) -> Result<Ref<Condition>, Raised> {
        this.condition.get().ok_or_else(|| {
            let class = Obj::class_of::<pyo3::exceptions::PyAttributeError>(this.py());
            Raised::with_class(&class, "'Barrier' object has no attribute '_cond'")
        })
    }

    /// Begins a coroutine.
    pub(super) fn start(this: &Ref<Barrier>, call: &Ref<Call>) -> Result<Turn, Raised> {
        let py = this.py();
        match call.operation() {
            Operation::BarrierExit => return Call::done(call, Obj::none(py)),
            Operation::BarrierEnter if !Barrier::is_native(this) => {
                call.stage.set(Stage::Elsewhere);
                let name = intern!(py, "wait");
                return Ok(Turn::Await(this.as_obj().method(name, &[])?));
            }
            _ => {}
        }
        call.stage.set(Stage::Locking);
        let condition = Barrier::condition(this)?;
        match Condition::native_lock(&condition) {
            Some(lock) => match Lock::begin(&lock)? {
                None => Barrier::enter(this, call),
                Some(waiter) => Call::wait_on(call, waiter),
            },
            None => Ok(Turn::Await(Condition::acquire_lock(&condition)?)),
        }
    }

    /// What the coroutine awaits has an outcome.
    pub(super) fn go_on(
        this: &Ref<Barrier>,
        call: &Ref<Call>,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        match call.stage.get() {
            Stage::Elsewhere => Call::done(call, outcome?),
            Stage::Locking | Stage::Acquiring => {
                let condition = Barrier::condition(this)?;
                match (Condition::native_lock(&condition), call.waiter.take()) {
                    (Some(lock), Some(waiter)) => Lock::finish(&lock, &waiter, outcome)?,
                    _ => drop(outcome?),
                }
                Barrier::enter(this, call)
            }
            Stage::Blocked => match outcome {
                Ok(_) => Barrier::block(this, call),
                Err(raised) => Barrier::leave(this, call, Err(raised)),
            },
            Stage::Waiting => match outcome {
                Ok(_) => Barrier::fill(this, call),
                Err(raised) => Barrier::finish(this, call, Err(raised)),
            },
        }
    }

    /// The lock is acquired.
    fn enter(this: &Ref<Barrier>, call: &Ref<Call>) -> Result<Turn, Raised> {
        let state = match call.operation() {
            Operation::BarrierReset if this.count.get() > 0 => State::Resetting,
            Operation::BarrierReset => State::Filling,
            Operation::BarrierAbort => State::Broken,
            _ => return Barrier::block(this, call),
        };
        this.state.set(state);
        let told = Barrier::condition(this).and_then(|condition| Condition::notify_all(&condition));
        Barrier::leave(this, call, told.map(|()| Obj::none(this.py())))
    }

    fn wait(this: &Ref<Barrier>, call: &Ref<Call>, stage: Stage) -> Result<Turn, Raised> {
        let condition = Barrier::condition(this)?;
        call.stage.set(stage);
        let wait = Call::create(this.py(), Operation::ConditionWait, condition.as_obj())?;
        Ok(Turn::Await(wait.into_obj()))
    }

    /// Waits until the last round is over.
    fn block(this: &Ref<Barrier>, call: &Ref<Call>) -> Result<Turn, Raised> {
        match this.state.get() {
            State::Draining | State::Resetting => Barrier::wait(this, call, Stage::Blocked),
            State::Broken => {
                let raised = broken(this, "Barrier aborted");
                Barrier::leave(this, call, Err(raised))
            }
            State::Filling => {
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
                this.state.set(State::Draining);
                let told = Barrier::condition(this)
                    .and_then(|condition| Condition::notify_all(&condition));
                Barrier::finish(this, call, told)
            }
        }
    }

    /// Waits until all are there.
    fn fill(this: &Ref<Barrier>, call: &Ref<Call>) -> Result<Turn, Raised> {
        match this.state.get() {
            State::Filling => Barrier::wait(this, call, Stage::Waiting),
            State::Draining => Barrier::finish(this, call, Ok(())),
            State::Broken | State::Resetting => {
                let raised = broken(this, "Abort or reset of barrier");
                Barrier::finish(this, call, Err(raised))
            }
        }
    }

    /// One is out of it: the last lets the next round begin.
    fn finish(
        this: &Ref<Barrier>,
        call: &Ref<Call>,
        outcome: Result<(), Raised>,
    ) -> Result<Turn, Raised> {
        let outcome = outcome.map_err(|raised| raised.take(this.py()));
        this.count.set(this.count.get() - 1);
        if this.count.get() == 0 {
            if matches!(this.state.get(), State::Resetting | State::Draining) {
                this.state.set(State::Filling);
            }
            Condition::notify_all(&Barrier::condition(this)?)?;
        }
        let number = call.item.take().unwrap_or_else(|| Obj::none(this.py()));
        let outcome = outcome.map(|()| number).map_err(Raised::raise);
        Barrier::leave(this, call, outcome)
    }

    /// Releases the lock.
    fn leave(
        this: &Ref<Barrier>,
        call: &Ref<Call>,
        outcome: Result<Obj, Raised>,
    ) -> Result<Turn, Raised> {
        let outcome = outcome.map_err(|raised| raised.take(this.py()));
        let condition = Barrier::condition(this)?;
        condition
            .as_obj()
            .method(intern!(this.py(), "release"), &[])?;
        Call::done_or_raise(call, outcome)
    }

    fn is_broken(&self) -> bool {
        self.state.get() == State::Broken
    }

    fn waiting(&self) -> i64 {
        match self.state.get() {
            State::Filling => self.count.get(),
            _ => 0,
        }
    }

    fn repr(this: &Ref<Barrier>) -> Result<String, Raised> {
        let py = this.py();
        let state = match this.state.get() {
            State::Filling => "filling",
            State::Draining => "draining",
            State::Resetting => "resetting",
            State::Broken => return describe_state(this, "broken"),
        };
        let parties = this.parties.get().unwrap_or_else(|| Obj::none(py));
        let parties = parties.str_of()?;
        let text = format!("{state}, waiters:{}/{}", this.waiting(), parties.as_str()?);
        describe_state(this, &text)
    }

    fn show_state(this: &Ref<Barrier>) -> Obj {
        let py = this.py();
        originals(py).barrier_states[this.state.get() as usize]
            .get(py)
            .clone()
    }

    fn set_state(this: &Ref<Barrier>, value: Option<&Obj>) -> Result<(), Raised> {
        let py = this.py();
        let states = &originals(py).barrier_states;
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

fn broken(this: &Ref<Barrier>, text: &str) -> Raised {
    Raised::with_class(originals(this.py()).broken_barrier.get(this.py()), text)
}

impl Primitive for Barrier {
    const REPLACEABLE: &'static [&'static str] = &["wait"];
    const STATE: &'static [&'static str] = &["_cond", "_parties", "_state", "_count"];

    fn bound(&self) -> &Bound {
        &self.bound
    }
}

impl Hot for Barrier {
    type Parent = NoParent;
    const NAME: &'static CStr = c"asyncio.locks.Barrier";
    const DOC: &'static CStr = c"Barrier(parties)\n--\n\n\
        A place where so many tasks wait for each other, as asyncio.Barrier.\n\n\
        parties: how many; at least 1.";
    cpython::hot_type!();
    cpython::holds!(bound, condition, parties);

    fn build(builder: &mut Builder<Self>) {
        build_bound(builder);
        builder
            .new_value(|_| Ok(Barrier::empty()))
            .init(Barrier::init)
            .repr(Barrier::repr)
            .get(c"parties", c"How many it is for.", |this| {
                this.parties.get()
            })
            .get(c"n_waiting", c"How many wait.", |this| this.waiting())
            .get(c"broken", c"Whether it is broken.", |this| this.is_broken())
            .get_set(
                c"_cond",
                c"What those in it wait on.",
                Barrier::condition,
                |this, value| {
                    let condition = value.and_then(Ref::<Condition>::of).cloned();
                    if condition.is_none() {
                        let text = "_cond must be a Condition";
                        return Err(Raised::type_error(this.py(), text));
                    }
                    this.condition.set(condition);
                    Ok(())
                },
            )
            .get_set(
                c"_parties",
                c"How many it is for.",
                |this| this.parties.get(),
                |this, value| {
                    this.parties.set(value.cloned());
                    Ok(())
                },
            )
            .get_set(
                c"_state",
                c"A member of asyncio.locks._BarrierState.",
                Barrier::show_state,
                Barrier::set_state,
            )
            .get_set(
                c"_count",
                c"How many are in it.",
                |this| this.count.get(),
                |this, value| {
                    this.count.set(value.map_or(Ok(0), Obj::to_i64)?);
                    Ok(())
                },
            );
    }
}
