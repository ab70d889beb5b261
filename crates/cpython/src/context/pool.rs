//! [`Pool`]: contexts that are used again.

use std::cell::{Cell, RefCell};

use pyo3::{Python, ffi};

use super::fields::{fields, word};
use super::{EnteredContext, copy, copy_current, is_context, switch_to};
use crate::error::Raised;
use crate::lifecycle::Visit;
use crate::obj::Obj;
use crate::slot::Slot;

/// The number of copies that a pool keeps at most.
const KEPT: usize = 4096;

/// The context in which a callback is to run later.
pub enum BoundContext {
    /// This one.
    To(Obj),
    /// A copy of this context, which nobody enters or changes until then.
    ToCopyOf(Obj),
}

/// Copies of one context that nobody uses any more and nobody has changed: as good as new.
///
/// Copying a context and freeing the copy is a sixth of the cost of a `call_soon`. A copy that
/// comes back is kept only if it still has the variables of the pool's own context and nobody else
/// refers to it. So no value lives longer than it would without the pool.
#[derive(Default)]
pub struct Pool {
    /// Keeps the variables that all copies share.
    anchor: Slot,
    /// The address of those variables; 0 without an anchor.
    variables: Cell<usize>,
    /// The copy in which callbacks run, one after another.
    stage: Slot,
    copies: RefCell<Vec<Obj>>,
}

impl Pool {
    /// Keeps copies of the current context from now on.
    pub fn begin(&self, py: Python<'_>) -> Result<(), Raised> {
        self.end();
        if let Some(fields) = fields() {
            let anchor = copy_current(py)?;
            // SAFETY: it is a context; the field was verified.
            self.variables
                .set(unsafe { word(anchor.as_ptr(), fields.variables) });
            self.anchor.set(Some(anchor));
        }
        Ok(())
    }

    /// Lets all copies go.
    pub fn end(&self) {
        self.variables.set(0);
        self.anchor.set(None);
        self.stage.set(None);
        let copies = self.copies.take();
        drop(copies);
    }

    /// Whether a fresh context of the pool is as good as a copy of the current one.
    #[inline]
    pub fn is_current(&self, _py: Python<'_>) -> bool {
        let Some(fields) = fields().filter(|_| self.variables.get() != 0) else {
            return false;
        };
        // SAFETY: attached; the field was verified; it holds null or the current context, alive.
        unsafe {
            let state = ffi::PyThreadState_Get().cast::<u8>();
            let current = *state.add(fields.current).cast::<*mut ffi::PyObject>();
            !current.is_null() && word(current, fields.variables) == self.variables.get()
        }
    }

    /// Whether nobody uses the context any more, nobody has changed it and nobody will. A garbage
    /// collector at work refuses this: it clears the contexts that it has found, even if something
    /// refers to them by then.
    #[inline]
    pub fn is_fresh(&self, context: &Obj) -> bool {
        context.is_unique() && self.has_variables_of(context) && !context.is_being_collected()
    }

    /// A copy of the current context, as `contextvars.copy_context()`.
    #[inline]
    pub fn copy_current(&self, py: Python<'_>) -> Result<Obj, Raised> {
        if self.is_current(py) {
            if let Some(copy) = self.copies.borrow_mut().pop() {
                return Ok(copy);
            }
        }
        copy_current(py)
    }

    /// What to store now in order to run in a copy of the current context later. Many entries wait
    /// in equal contexts and need a copy only while they run.
    #[inline]
    pub fn bind_current(&self, py: Python<'_>) -> Result<BoundContext, Raised> {
        if self.is_current(py) {
            if let Some(anchor) = self.anchor() {
                return Ok(BoundContext::ToCopyOf(anchor));
            }
        }
        copy_current(py).map(BoundContext::To)
    }

    /// What to store for a copy of the pool's own context.
    #[inline]
    pub fn anchor(&self) -> Option<Obj> {
        self.anchor.get()
    }

    /// A copy of a context, which is the pool's own in most cases.
    pub fn copy_of(&self, context: &Obj) -> Result<Obj, Raised> {
        if self.has_variables_of(context) {
            if let Some(copy) = self.copies.borrow_mut().pop() {
                return Ok(copy);
            }
        }
        copy(context)
    }

    /// Whether the field holds the pool's own context.
    #[inline]
    pub fn is_anchored(&self, field: &Slot) -> bool {
        self.anchor.holds_same(field)
    }

    /// Enters a copy of the pool's own context, the same copy for one callback after another.
    /// Returns nothing if that cannot be done. After leaving it, the caller calls
    /// [`Pool::leave_stage`].
    #[inline(always)]
    pub fn enter_stage(&self) -> Option<EnteredContext> {
        match switch_to(&self.stage) {
            None => self.enter_new_stage(),
            entered => entered,
        }
    }

    #[inline(never)]
    fn enter_new_stage(&self) -> Option<EnteredContext> {
        let anchor = self.anchor.get().filter(|_| self.stage.is_none())?;
        match copy(&anchor) {
            Ok(copy) => self.stage.set(Some(copy)),
            // The caller's own attempt to make a copy will raise the error.
            Err(raised) => drop(raised.take(anchor.py())),
        }
        switch_to(&self.stage)
    }

    /// Takes the stage back after it was left, and keeps it for the next callback if it is as good
    /// as new.
    #[inline(always)]
    pub fn leave_stage(&self) {
        let is_fresh = |context: &Obj| {
            context.is_unique()
                && fields().is_some_and(|fields| {
                    // SAFETY: the field holds nothing but contexts, the place was verified.
                    unsafe { word(context.as_ptr(), fields.variables) == self.variables.get() }
                })
        };
        if self.stage.inspect(is_fresh) != Some(true) {
            drop(self.take_stage());
        }
    }

    /// Takes the context that was entered last as the stage.
    #[inline(never)]
    pub fn take_stage(&self) -> Option<Obj> {
        self.stage.take()
    }

    /// Whether the object is a context with the variables of the pool's own.
    #[inline]
    fn has_variables_of(&self, context: &Obj) -> bool {
        let Some(fields) = fields().filter(|_| self.variables.get() != 0) else {
            return false;
        };
        // SAFETY: the object is checked to be a context before the verified field is read.
        is_context(context)
            && unsafe { word(context.as_ptr(), fields.variables) } == self.variables.get()
    }

    /// Takes the context out of a field, if it is as good as new. Runs no foreign code.
    #[inline]
    pub fn reclaim(&self, field: &Slot) {
        if field.inspect(|context| self.is_fresh(context)) == Some(true) {
            let mut copies = self.copies.borrow_mut();
            if copies.len() < KEPT {
                if let Some(context) = field.take() {
                    copies.push(context);
                }
            }
        }
    }

    /// Takes back a context that has been left.
    #[inline]
    pub fn give_back(&self, context: Obj) {
        if self.is_fresh(&context) {
            let mut copies = self.copies.borrow_mut();
            if copies.len() < KEPT {
                copies.push(context);
                return;
            }
        }
        // No field is borrowed any more: dropping the context runs foreign code.
        drop(context);
    }

    /// Shows the garbage collector the contexts that the pool holds.
    pub fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.anchor);
        visit.slot(&self.stage);
        if let Ok(copies) = self.copies.try_borrow() {
            copies.iter().for_each(|copy| visit.object(copy));
        }
    }
}
