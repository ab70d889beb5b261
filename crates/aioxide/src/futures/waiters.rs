//! The first waiter of a Future and the box of its rare fields, in one word.

use cpython::tagged::Tagged;
use cpython::tagged_slot::TaggedSlot;
use cpython::{Obj, Visit};

use super::rare::RareFields;

/// A waiter of a Future.
#[derive(Clone)]
pub(crate) enum Waiter {
    /// A Python callable that gets the Future, and its context.
    Function(Obj, Obj),
    /// A native Task that awaits it.
    Task(Obj),
    /// A native object that watches the Future, and is called in its turn.
    Watcher(Obj),
}

// What the word holds is told by its tag, or by its being a box.

/// A native Task.
const TASK: u8 = 0;
/// A watcher.
const WATCHER: u8 = 1;
/// A tuple of a function and its context.
const FUNCTION: u8 = 2;

/// The first waiter, or none; or the box, which is made when a rare field is first needed, and in
/// which the first waiter then is. Few Futures have more waiters.
#[derive(Default)]
pub(crate) struct Waiters(TaggedSlot<RareFields>);

impl Waiters {
    /// The rare fields, if they have been needed.
    #[inline]
    pub(crate) fn rare(&self) -> Option<&RareFields> {
        self.0.boxed()
    }

    /// The rare fields, in a box that is made if there is none. It stays as long as the Future.
    #[cold]
    pub(crate) fn make_rare(&self) -> &RareFields {
        self.0.boxed_or_make(|first| RareFields {
            first: std::cell::Cell::new(first.map(waiter_of)),
            ..RareFields::default()
        })
    }

    /// Takes the exception that the next step of a Task throws.
    #[inline]
    pub(crate) fn take_error(&self) -> Option<Obj> {
        self.rare().and_then(|fields| fields.error.take())
    }

    /// Whether there is neither a waiter nor a rare field.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is no waiter yet.
    #[inline]
    pub(super) fn is_free(&self) -> bool {
        self.is_empty() || self.rare().is_some_and(|rare| !peek(rare, |_| true))
    }

    /// Takes the first waiter out.
    #[inline]
    pub(super) fn take(&self) -> Option<Waiter> {
        match self.rare() {
            Some(rare) => rare.first.take(),
            None => self.0.take().map(waiter_of),
        }
    }

    /// Takes the first waiter out if it is a native Task and there are no rare fields.
    #[inline]
    pub(super) fn take_task(&self) -> Option<Obj> {
        self.0.take_tagged(TASK)
    }

    /// Takes the first waiter out if it is a watcher.
    #[inline]
    pub(super) fn take_watcher(&self) -> Option<Obj> {
        if let Some(watcher) = self.0.take_tagged(WATCHER) {
            return Some(watcher);
        }
        let rare = self.rare()?;
        match rare.first.take() {
            Some(Waiter::Watcher(watcher)) => Some(watcher),
            other => {
                rare.first.set(other);
                None
            }
        }
    }

    /// Makes a native Task the first.
    #[inline]
    pub(super) fn set_task(&self, task: Obj) {
        if let Err(task) = self.0.put(Tagged::new(task, TASK)) {
            self.set_in_box(Waiter::Task(task.into_obj()));
        }
    }

    /// Makes a waiter the first.
    #[inline]
    pub(super) fn set(&self, waiter: Waiter) {
        let word = match waiter {
            Waiter::Task(task) => Tagged::new(task, TASK),
            Waiter::Watcher(watcher) => Tagged::new(watcher, WATCHER),
            Waiter::Function(function, context) => {
                let py = function.py();
                match Obj::tuple(py, &[function.clone(), context.clone()]) {
                    Ok(pair) => Tagged::new(pair, FUNCTION),
                    Err(raised) => {
                        // There is no memory for a tuple.
                        drop(raised.take(py));
                        return self.set_in_box(Waiter::Function(function, context));
                    }
                }
            }
        };
        if let Err(word) = self.0.put(word) {
            self.set_in_box(waiter_of(word));
        }
    }

    #[cold]
    fn set_in_box(&self, waiter: Waiter) {
        let old = self.make_rare().first.replace(Some(waiter));
        drop(old);
    }

    /// A copy of the first waiter.
    pub(super) fn get(&self) -> Option<Waiter> {
        if let Some(rare) = self.rare() {
            return copy_first(rare);
        }
        let tag = self.0.tag()?;
        self.0.get().map(|held| waiter_of(Tagged::new(held, tag)))
    }

    /// Whether the first waiter is a watcher.
    #[inline]
    pub(super) fn is_watcher(&self) -> bool {
        match self.0.tag() {
            Some(tag) => tag == WATCHER,
            None => self
                .rare()
                .is_some_and(|rare| peek(rare, |first| matches!(first, Waiter::Watcher(_)))),
        }
    }

    /// Whether the first waiter is this very watcher.
    pub(super) fn watches(&self, watcher: &Obj) -> bool {
        match self.0.tag() {
            Some(tag) => tag == WATCHER && self.0.holds(watcher),
            None => self
                .rare()
                .is_some_and(|rare| peek(rare, |first| first.is_watcher(watcher))),
        }
    }

    /// The address of the type of the first waiter, where there are no rare fields; otherwise 0.
    #[inline]
    pub(super) fn class_address(&self) -> usize {
        self.0.class_address()
    }

    pub(super) fn visit(&self, visit: &mut Visit<'_>) {
        self.0.visit(visit);
        if let Some(rare) = self.rare() {
            rare.visit(visit);
        }
    }
}

/// What a word of the field stands for.
#[inline]
fn waiter_of(word: Tagged) -> Waiter {
    let tag = word.tag();
    let held = word.into_obj();
    match tag {
        WATCHER => Waiter::Watcher(held),
        FUNCTION => match (held.tuple_item(0), held.tuple_item(1)) {
            (Some(function), Some(context)) => Waiter::Function(function, context),
            _ => Waiter::Task(held),
        },
        _ => Waiter::Task(held),
    }
}

/// What a function says of the first waiter in the box; false if there is none. The function must
/// not run Python code.
fn peek(rare: &RareFields, look: impl FnOnce(&Waiter) -> bool) -> bool {
    let first = rare.first.take();
    let found = first.as_ref().is_some_and(look);
    rare.first.set(first);
    found
}

fn copy_first(rare: &RareFields) -> Option<Waiter> {
    let first = rare.first.take();
    let copy = first.clone();
    rare.first.set(first);
    copy
}

impl Waiter {
    pub(super) fn visit(&self, visit: &mut Visit<'_>) {
        match self {
            Waiter::Function(function, context) => {
                visit.object(function);
                visit.object(context);
            }
            Waiter::Task(target) | Waiter::Watcher(target) => visit.object(target),
        }
    }

    /// Whether this is the very watcher.
    pub(super) fn is_watcher(&self, watcher: &Obj) -> bool {
        matches!(self, Waiter::Watcher(own) if own.is(watcher))
    }
}
