//! Where CPython keeps what switching contexts needs: fields of the thread state and of contexts.
//!
//! CPython has functions for entering and leaving a context, but every step of a task and every
//! callback would pay for both calls. For comparing two contexts it has none. So the module looks
//! for the fields at its start, with contexts of its own: it enters one, sets a variable and leaves
//! it, and each field must show exactly what CPython does there. A field that is not found without
//! doubt is not used. Then CPython's functions are called, and contexts are not compared.

use std::ffi::{c_int, c_void};
#[cfg(Py_GIL_DISABLED)]
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicUsize};
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::{Python, ffi};

use super::{copy_current, enter, exit};
use crate::error::Raised;
use crate::obj::Obj;
use crate::refcount::{decrement, increment};

const WORD: usize = size_of::<usize>();

/// Offsets of fields, in bytes.
pub(super) struct ContextFields {
    /// Of a thread state: the current context.
    pub(super) current: usize,
    /// Of a context: its variables.
    pub(super) variables: usize,
}

/// How a context is entered and left.
pub(super) struct Switch {
    /// Of a thread state: the current context.
    current: usize,
    /// Of a thread state: counts the changes of the current context.
    version: usize,
    /// Of a context: the context from which it was entered. The field owns a reference to it
    /// meanwhile.
    previous: usize,
    /// Of a context: whether it is entered, an int.
    entered: usize,
    /// The interpreter's mask of context watchers. Where the interpreter has none, it is a byte of
    /// our own with the value 0.
    watchers: *const u8,
}

// SAFETY: the pointer is to a byte of the interpreter, which only one may import us and which
// outlives the module; it is read where the thread is attached.
unsafe impl Send for Switch {}
// SAFETY: as above.
unsafe impl Sync for Switch {}

/// Set once, to fields that are never freed, so that a step pays for a plain load only.
static FIELDS: AtomicPtr<ContextFields> = AtomicPtr::new(std::ptr::null_mut());
static SWITCH: AtomicPtr<Switch> = AtomicPtr::new(std::ptr::null_mut());

/// The fields, if they are known.
#[inline]
pub(super) fn fields() -> Option<&'static ContextFields> {
    // SAFETY: null, or set by `verify` to what lives for ever.
    unsafe { FIELDS.load(Ordering::Acquire).as_ref() }
}

/// How to enter and leave contexts, if the fields are known.
#[inline]
pub(super) fn switch() -> Option<&'static Switch> {
    // SAFETY: as above.
    unsafe { SWITCH.load(Ordering::Acquire).as_ref() }
}

/// The current context of the thread, if it has one and the fields are known.
pub(super) fn current(_py: Python<'_>) -> Option<Obj> {
    let fields = fields()?;
    // SAFETY: attached; the field was verified; it holds null or a context that is alive.
    unsafe {
        let place = field::<*mut ffi::PyObject>(ffi::PyThreadState_Get(), fields.current);
        (!(*place).is_null()).then(|| Obj::from_pointer(&*place).clone())
    }
}

impl Switch {
    /// Enters a context as `PyContext_Enter` does, and returns the thread's state. Returns nothing
    /// where the caller has to call that function instead.
    ///
    /// # Safety
    /// The thread is attached, and the object is a context.
    #[inline(always)]
    pub(super) unsafe fn enter(
        &self,
        context: *mut ffi::PyObject,
    ) -> Option<*mut ffi::PyThreadState> {
        // SAFETY: the fields were verified; references move as in CPython: the thread's to the
        // context's field, a new one to the thread.
        unsafe {
            let entered = field::<c_int>(context, self.entered);
            #[cfg(not(Py_GIL_DISABLED))]
            if *entered != 0 || self.is_watched() {
                return None;
            }
            // Two threads may want to enter one context at the same time; one of them gets it.
            #[cfg(Py_GIL_DISABLED)]
            if self.is_watched()
                || AtomicI32::from_ptr(entered)
                    .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
                    .is_err()
            {
                return None;
            }
            let state = ffi::PyThreadState_Get();
            let current = field::<*mut ffi::PyObject>(state, self.current);
            *field(context, self.previous) = *current;
            increment(context);
            *current = context;
            #[cfg(not(Py_GIL_DISABLED))]
            {
                *entered = 1;
            }
            let version = field::<u64>(state, self.version);
            *version = (*version).wrapping_add(1);
            Some(state)
        }
    }

    /// Leaves a context as `PyContext_Exit` does. Returns false where the caller has to call that
    /// function instead.
    ///
    /// # Safety
    /// The state is that of the thread, which is attached. An object that is not the current
    /// context need not be alive.
    #[inline(always)]
    pub(super) unsafe fn exit(
        &self,
        state: *mut ffi::PyThreadState,
        context: *mut ffi::PyObject,
    ) -> bool {
        // SAFETY: the thread's current context is a context, and alive by the thread's reference,
        // which is given up last. The rest is as for `enter`, the other way round.
        unsafe {
            let current = field::<*mut ffi::PyObject>(state, self.current);
            if *current != context || self.is_watched() {
                return false;
            }
            let previous = field::<*mut ffi::PyObject>(context, self.previous);
            *current = std::ptr::replace(previous, std::ptr::null_mut());
            let entered = field::<c_int>(context, self.entered);
            #[cfg(Py_GIL_DISABLED)]
            AtomicI32::from_ptr(entered).store(0, Ordering::Release);
            #[cfg(not(Py_GIL_DISABLED))]
            {
                *entered = 0;
            }
            let version = field::<u64>(state, self.version);
            *version = (*version).wrapping_add(1);
            decrement(context);
        }
        true
    }

    /// Whether a watcher must be told of each switch.
    ///
    /// # Safety
    /// The thread is attached.
    #[inline]
    unsafe fn is_watched(&self) -> bool {
        // SAFETY: the byte belongs to the interpreter, which outlives the module.
        #[cfg(Py_GIL_DISABLED)]
        return unsafe { AtomicU8::from_ptr(self.watchers.cast_mut()) }.load(Ordering::Relaxed)
            != 0;
        // SAFETY: as above.
        #[cfg(not(Py_GIL_DISABLED))]
        return unsafe { *self.watchers != 0 };
    }
}

/// A field of a struct.
///
/// # Safety
/// The struct is alive and has such a field there.
#[inline]
unsafe fn field<T>(of: *mut impl Sized, offset: usize) -> *mut T {
    // SAFETY: by the contract.
    unsafe { of.cast::<u8>().add(offset).cast() }
}

/// A word of an object, which another thread may replace meanwhile.
///
/// # Safety
/// The object is alive and the offset lies within it.
#[inline]
pub(super) unsafe fn word(object: *mut ffi::PyObject, offset: usize) -> usize {
    // SAFETY: by the contract.
    unsafe {
        #[cfg(Py_GIL_DISABLED)]
        return AtomicUsize::from_ptr(field(object, offset)).load(Ordering::Relaxed);
        #[cfg(not(Py_GIL_DISABLED))]
        return *field(object, offset);
    }
}

/// Looks for the fields. The sizes of a thread state and of an interpreter are in bytes and come
/// from CPython's own table.
pub fn verify(py: Python<'_>, thread_size: usize, interpreter_size: usize) {
    const LARGEST: usize = 1 << 24;
    if thread_size > LARGEST || interpreter_size > LARGEST {
        return;
    }
    match probe(py, thread_size, interpreter_size) {
        Ok(None) => {}
        Ok(Some((fields, switch))) => {
            FIELDS.store(Box::leak(Box::new(fields)), Ordering::Release);
            if let Some(switch) = switch {
                SWITCH.store(Box::leak(Box::new(switch)), Ordering::Release);
            }
        }
        Err(raised) => drop(raised.take(py)),
    }
}

fn probe(
    py: Python<'_>,
    thread_size: usize,
    interpreter_size: usize,
) -> Result<Option<(ContextFields, Option<Switch>)>, Raised> {
    let (first, second) = (copy_current(py)?, copy_current(py)?);
    let size = crate::build::basic_size(&first.class());
    let module = Obj::import(py, c"contextvars")?;
    let name = Obj::str(py, "aioxide")?;
    let variable = module.method(pyo3::intern!(py, "ContextVar"), &[&name])?;

    let thread_before = thread_words(py, thread_size);
    let context_before = object_words(&first, size);
    enter(&first)?;
    let thread_inside = thread_words(py, thread_size);
    let context_inside = object_words(&first, size);
    let second_words = object_words(&second, size);
    let set = variable.method(pyo3::intern!(py, "set"), &[&name]);
    let context_changed = object_words(&first, size);
    exit(&first)?;
    let thread_after = thread_words(py, thread_size);
    let context_after = object_words(&first, size);
    set?;

    let address = first.as_ptr() as usize;
    let header = size_of::<ffi::PyObject>() / WORD;
    let words = header..size / WORD;
    let current = only((0..thread_inside.len()).filter(|at| thread_inside[*at] == address));
    // Both copies shared the variables, which were not empty, until one copy got another variable.
    let variables = only(words.clone().filter(|at| {
        context_inside[*at] != 0
            && context_inside[*at] == second_words[*at]
            && context_changed[*at] != second_words[*at]
    }));
    let (Some(current), Some(variables)) = (current, variables) else {
        return Ok(None);
    };
    let version = only((0..thread_inside.len()).filter(|at| {
        let counts = |before: usize, after: usize| before.checked_add(1) == Some(after);
        // In between, the probe sets a variable, which leaves the count as it is.
        counts(thread_before[*at], thread_inside[*at])
            && counts(thread_inside[*at], thread_after[*at])
    }));
    let previous = only(words.clone().filter(|at| {
        context_before[*at] == 0
            && context_inside[*at] == thread_before[current]
            && context_after[*at] == 0
    }));
    // Behind an int may lie padding that nothing has written since the memory was last used.
    let entered = only(words.clone().filter(|at| {
        int_of(context_before[*at]) == 0 && context_inside[*at] == with_int(context_before[*at], 1)
    }));
    let changes = words
        .filter(|at| context_before[*at] != context_inside[*at])
        .count();
    let is_left = thread_after[current] == thread_before[current]
        && entered.is_some_and(|at| context_after[at] == context_before[at]);
    let switch = match (version, previous, entered, watchers(py, interpreter_size)) {
        (Some(version), Some(previous), Some(entered), Some(watchers))
            if changes == 2 && is_left && thread_before[current] != 0 =>
        {
            Some(Switch {
                current: current * WORD,
                version: version * WORD,
                previous: previous * WORD,
                entered: entered * WORD,
                watchers,
            })
        }
        _ => None,
    };
    let fields = ContextFields {
        current: current * WORD,
        variables: variables * WORD,
    };
    Ok(Some((fields, switch)))
}

/// The int at the beginning of a word.
fn int_of(word: usize) -> c_int {
    let mut bytes = [0; size_of::<c_int>()];
    bytes.copy_from_slice(&word.to_ne_bytes()[..size_of::<c_int>()]);
    c_int::from_ne_bytes(bytes)
}

/// The word with another int at its beginning.
fn with_int(word: usize, int: c_int) -> usize {
    let mut bytes = word.to_ne_bytes();
    bytes[..size_of::<c_int>()].copy_from_slice(&int.to_ne_bytes());
    usize::from_ne_bytes(bytes)
}

/// The one item, if there is exactly one.
fn only(mut items: impl Iterator<Item = usize>) -> Option<usize> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

/// Before 3.14 nobody can watch contexts, so a byte stands for the mask.
#[cfg(not(Py_3_14))]
fn watchers(_py: Python<'_>, _size: usize) -> Option<*const u8> {
    static NOBODY: u8 = 0;
    Some(&NOBODY)
}

/// The interpreter's mask of context watchers, found by adding a watcher and removing it again.
#[cfg(Py_3_14)]
fn watchers(py: Python<'_>, size: usize) -> Option<*const u8> {
    type Watcher = extern "C" fn(c_int, *mut ffi::PyObject) -> c_int;
    // SAFETY: the declarations are those of CPython's header (`cpython/context.h`).
    unsafe extern "C" {
        fn PyContext_AddWatcher(callback: Watcher) -> c_int;
        fn PyContext_ClearWatcher(watcher: c_int) -> c_int;
    }
    extern "C" fn ignore(_event: c_int, _object: *mut ffi::PyObject) -> c_int {
        0
    }
    // SAFETY: the token proves that we are attached; the size is that of an interpreter.
    unsafe {
        let interpreter = ffi::PyInterpreterState_Get();
        let before = words_of(interpreter.cast(), size);
        let watcher = PyContext_AddWatcher(ignore);
        if watcher < 0 {
            drop(Raised::by_cpython().take(py));
            return None;
        }
        let inside = words_of(interpreter.cast(), size);
        let cleared = PyContext_ClearWatcher(watcher);
        let after = words_of(interpreter.cast(), size);
        if cleared < 0 {
            drop(Raised::by_cpython().take(py));
            return None;
        }
        let address = ignore as Watcher as usize;
        let place = only((0..inside.len()).filter(|at| inside[*at] == address))?;
        // The mask lies behind the callbacks, of which there are eight at most.
        let bit = 1_usize << watcher;
        let (word, shift) = only(
            (place..inside.len().min(place + 9))
                .flat_map(|at| (0..WORD).map(move |byte| at * WORD + byte))
                .filter(|at| {
                    let (at, shift) = (at / WORD, at % WORD * 8);
                    inside[at] ^ before[at] == bit << shift && after[at] == before[at]
                }),
        )
        .map(|at| (at / WORD, at % WORD))?;
        Some(interpreter.cast::<u8>().add(word * WORD + shift))
    }
}

/// The words of the current thread's state.
fn thread_words(_py: Python<'_>, size: usize) -> Vec<usize> {
    // SAFETY: the token proves that the thread is attached and so has a state, of this size.
    unsafe { words_of(ffi::PyThreadState_Get().cast(), size) }
}

/// The words of an object.
fn object_words(object: &Obj, size: usize) -> Vec<usize> {
    // SAFETY: the object is alive and has this size.
    unsafe { words_of(object.as_ptr().cast(), size) }
}

/// The words of a struct of this size.
///
/// # Safety
/// It is alive.
unsafe fn words_of(of: *const c_void, size: usize) -> Vec<usize> {
    let first = of.cast::<usize>();
    (0..size / WORD)
        // SAFETY: by the contract. Other threads may change some of it meanwhile.
        .map(|index| unsafe { first.add(index).read_volatile() })
        .collect()
}
