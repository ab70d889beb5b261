//! `contextvars` contexts.

use std::cell::RefCell;
use std::sync::OnceLock;

use pyo3::{Python, ffi};

use crate::error::Raised;
use crate::lifecycle::Visit;
use crate::obj::{Obj, done};
use crate::slot::Slot;

/// A copy of the current context, as `contextvars.copy_context()`.
#[inline]
pub fn copy_current(_py: Python<'_>) -> Result<Obj, Raised> {
    // SAFETY: the token proves that we are attached; returns a new reference or null.
    unsafe { Obj::from_owned(ffi::PyContext_CopyCurrent()) }
}

/// Whether the object is a context.
#[inline]
pub fn is_context(object: &Obj) -> bool {
    // SAFETY: the object is alive; only its type is compared.
    unsafe { ffi::PyContext_CheckExact(object.as_ptr()) != 0 }
}

/// Enters the context. Raises RuntimeError if it is entered already, TypeError if it is none.
#[inline]
pub fn enter(context: &Obj) -> Result<(), Raised> {
    if !is_context(context) {
        return Err(not_a_context(context));
    }
    // SAFETY: the object is alive, and was checked to be a context.
    done(unsafe { ffi::PyContext_Enter(context.as_ptr()) })
}

/// Leaves the context, which must be the current one. An exception that is set stays set.
#[inline]
pub fn exit(context: &Obj) -> Result<(), Raised> {
    // SAFETY: the object is alive; CPython checks that it is a context, and the current one.
    done(unsafe { ffi::PyContext_Exit(context.as_ptr()) })
}

#[cold]
fn not_a_context(object: &Obj) -> Raised {
    let class = object.class();
    let name = class
        .attr(pyo3::intern!(object.py(), "__name__"))
        .and_then(|name| name.to_string())
        .unwrap_or_default();
    Raised::type_error(object.py(), &format!("a context was expected, got {name}"))
}

/// Where the thread state keeps the current context, and a context its variables.
struct Fields {
    current: usize,
    variables: usize,
}

static FIELDS: OnceLock<Option<Fields>> = OnceLock::new();

/// Looks for the two fields by which a [`Pool`] compares contexts, with contexts of our own: one
/// is entered and gets a variable. `thread_size` is the size of a thread state in bytes, from
/// CPython's own table. Where either is not found without doubt, pools only make new copies.
pub fn verify(py: Python<'_>, thread_size: usize) {
    let found = probe(py, thread_size);
    let fields = match found {
        Ok(fields) => fields,
        Err(raised) => {
            drop(raised.take(py));
            None
        }
    };
    let _ = FIELDS.set(fields);
}

fn probe(py: Python<'_>, thread_size: usize) -> Result<Option<Fields>, Raised> {
    if thread_size > 1 << 20 {
        return Ok(None);
    }
    let (first, second) = (copy_current(py)?, copy_current(py)?);
    let size = crate::build::basic_size(&first.class());
    let module = Obj::import(py, c"contextvars")?;
    let name = Obj::str(py, "aioxide")?;
    let variable = module.method(pyo3::intern!(py, "ContextVar"), &[&name])?;
    enter(&first)?;
    let current = thread_words(py, thread_size)
        .into_iter()
        .enumerate()
        .filter(|(_, word)| *word == first.as_ptr() as usize)
        .map(|(index, _)| index * size_of::<usize>())
        .collect::<Vec<_>>();
    let shared = same_words(&first, &second, size);
    let set = variable.method(pyo3::intern!(py, "set"), &[&name]);
    let changed = same_words(&first, &second, size);
    exit(&first)?;
    set?;
    // The one word that both copies had in common, not empty, until one got a variable.
    let variables: Vec<usize> = shared
        .into_iter()
        .filter(|offset| *offset >= size_of::<ffi::PyObject>() && !changed.contains(offset))
        .collect();
    Ok(match (current.as_slice(), variables.as_slice()) {
        ([current], [variables]) => Some(Fields {
            current: *current,
            variables: *variables,
        }),
        _ => None,
    })
}

/// The words of the current thread's state.
fn thread_words(_py: Python<'_>, size: usize) -> Vec<usize> {
    // SAFETY: the token proves that the thread is attached and so has a state, of this size.
    unsafe {
        let state = ffi::PyThreadState_Get().cast::<usize>();
        (0..size / size_of::<usize>())
            .map(|index| *state.add(index))
            .collect()
    }
}

/// Offsets of the words that are equal in both objects and not zero.
fn same_words(first: &Obj, second: &Obj, size: usize) -> Vec<usize> {
    (0..size - size % size_of::<usize>())
        .step_by(size_of::<usize>())
        .filter(|offset| {
            // SAFETY: both objects are alive and have this size.
            let (a, b) = unsafe {
                (
                    word(first.as_ptr(), *offset),
                    word(second.as_ptr(), *offset),
                )
            };
            a == b && a != 0
        })
        .collect()
}

/// A word of an object.
///
/// # Safety
/// The object is alive and the offset lies within it.
#[inline]
unsafe fn word(object: *mut ffi::PyObject, offset: usize) -> usize {
    // SAFETY: by the contract.
    unsafe { *object.cast::<u8>().add(offset).cast::<usize>() }
}

/// The most copies that a pool keeps.
const KEPT: usize = 4096;

/// Copies of one context that nobody uses any more and nobody has changed: as good as new.
///
/// Copying a context and freeing the copy is a sixth of what a `call_soon` costs. A copy that
/// comes back is kept only if it still has the variables of the pool's own context and nobody
/// else refers to it; so no value lives longer than without the pool.
#[derive(Default)]
pub struct Pool {
    /// Keeps the variables that all copies share.
    anchor: Slot,
    copies: RefCell<Vec<Obj>>,
}

impl Pool {
    /// Keeps copies of the current context from now on.
    pub fn begin(&self, py: Python<'_>) -> Result<(), Raised> {
        self.end();
        if matches!(FIELDS.get(), Some(Some(_))) {
            self.anchor.set(Some(copy_current(py)?));
        }
        Ok(())
    }

    /// Lets all copies go.
    pub fn end(&self) {
        self.anchor.set(None);
        let copies = self.copies.take();
        drop(copies);
    }

    /// Whether a fresh context of the pool is as good as a copy of the current one.
    #[inline]
    pub fn is_current(&self, _py: Python<'_>) -> bool {
        let (Some(Some(fields)), Some(anchor)) = (FIELDS.get(), self.anchor_variables()) else {
            return false;
        };
        // SAFETY: attached; the field was verified; it holds null or the current context, alive.
        unsafe {
            let state = ffi::PyThreadState_Get().cast::<u8>();
            let current = *state.add(fields.current).cast::<*mut ffi::PyObject>();
            !current.is_null() && word(current, fields.variables) == anchor
        }
    }

    /// Whether nobody uses the context any more and nobody has changed it.
    #[inline]
    pub fn is_fresh(&self, context: &Obj) -> bool {
        let (Some(Some(fields)), Some(anchor)) = (FIELDS.get(), self.anchor_variables()) else {
            return false;
        };
        // SAFETY: the object is checked to be a context before the verified field is read.
        context.refcount() == 1
            && is_context(context)
            && unsafe { word(context.as_ptr(), fields.variables) } == anchor
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

    /// Takes a field's context, if it is as good as new; runs no foreign code.
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
        // Nothing is borrowed any more: dropping it runs foreign code.
        drop(context);
    }

    #[inline]
    fn anchor_variables(&self) -> Option<usize> {
        let Some(Some(fields)) = FIELDS.get() else {
            return None;
        };
        // SAFETY: the anchor is a context; the field was verified.
        self.anchor
            .inspect(|anchor| unsafe { word(anchor.as_ptr(), fields.variables) })
    }

    /// Shows the garbage collector what it holds.
    pub fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.anchor);
        if let Ok(copies) = self.copies.try_borrow() {
            copies.iter().for_each(|copy| visit.object(copy));
        }
    }
}
