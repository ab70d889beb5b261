//! Fields of another extension's objects and of the thread state.
//!
//! Some state of CPython has no function that reaches it quickly: the running task is a field of
//! the thread state, a task's coroutine a field of the accelerator's struct. Debuggers find such
//! fields by a table of offsets that CPython keeps in a section of the library's file, and so does
//! this module. It does not trust the table: it uses an offset only after a probe object has shown
//! the expected value there.

#[cfg(Py_GIL_DISABLED)]
use std::cell::Cell;
use std::marker::PhantomData;
#[cfg(Py_GIL_DISABLED)]
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::{Python, ffi};

use crate::hot::{Hot, Ref};
use crate::obj::Obj;
use crate::slot::Slot;

/// Reads the 64-bit words of a named section of an ELF file; nothing if there is none.
pub fn section_words(file: &std::path::Path, section: &str) -> Option<Vec<u64>> {
    let data = std::fs::read(file).ok()?;
    let word = |at: usize| -> Option<u64> {
        Some(u64::from_le_bytes(data.get(at..at + 8)?.try_into().ok()?))
    };
    let half = |at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?))
    };
    let short = |at: usize| -> Option<usize> {
        Some(u16::from_le_bytes(data.get(at..at + 2)?.try_into().ok()?).into())
    };
    // Only a 64-bit little-endian ELF file is read; on other systems the fields stay unknown.
    if data.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let table = usize::try_from(word(0x28)?).ok()?;
    let (entry_size, entries, names_index) = (short(0x3a)?, short(0x3c)?, short(0x3e)?);
    let header = |index: usize| table + index * entry_size;
    let names = usize::try_from(word(header(names_index) + 0x18)?).ok()?;
    for index in 0..entries {
        let at = names + half(header(index))? as usize;
        let name = data.get(at..)?.split(|byte| *byte == 0).next()?;
        if name.strip_prefix(b".").unwrap_or(name) == section.as_bytes() {
            let offset = usize::try_from(word(header(index) + 0x18)?).ok()?;
            let size = usize::try_from(word(header(index) + 0x20)?).ok()?;
            return (0..size / 8)
                .map(|number| word(offset + number * 8))
                .collect();
        }
    }
    None
}

/// The place of a value in the foreign part of the objects of a hot type. It was checked to lie
/// within that part.
struct FieldPlace<T: Hot> {
    offset: usize,
    phantom: PhantomData<fn(&T)>,
}

impl<T: Hot> Clone for FieldPlace<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Hot> Copy for FieldPlace<T> {}

impl<T: Hot> FieldPlace<T> {
    /// The place, if `size` bytes at `offset` lie in the foreign part of the type's objects. A part
    /// over which the value lies has none.
    fn new(offset: usize, size: usize) -> Option<FieldPlace<T>> {
        if !T::MEMBERS.is_empty() {
            return None;
        }
        let end = T::info()
            .base_size
            .load(std::sync::atomic::Ordering::Relaxed);
        let within = offset >= size_of::<ffi::PyObject>()
            && offset % size == 0
            && offset.checked_add(size)? <= end;
        within.then_some(FieldPlace {
            offset,
            phantom: PhantomData,
        })
    }

    #[inline]
    fn of<V>(self, object: &Ref<T>) -> *mut V {
        // SAFETY: the place lies within the object.
        unsafe {
            object
                .as_obj()
                .as_ptr()
                .cast::<u8>()
                .add(self.offset)
                .cast()
        }
    }
}

/// The bytes of a sample object, valid as long as it does not change.
fn bytes(sample: &Obj) -> &[u8] {
    let size = crate::build::basic_size(&sample.class());
    // SAFETY: the sample is alive, and of this size.
    unsafe { std::slice::from_raw_parts(sample.as_ptr().cast(), size) }
}

fn word_at(sample: &Obj, offset: usize) -> Option<usize> {
    let bytes = bytes(sample).get(offset..offset.checked_add(size_of::<usize>())?)?;
    Some(usize::from_ne_bytes(bytes.try_into().ok()?))
}

/// A field that holds a reference in the foreign part of a hot type's objects.
pub struct Field<T: Hot>(FieldPlace<T>);

impl<T: Hot> Field<T> {
    /// The field at an offset, if the sample object holds the expected reference there.
    pub fn verified(sample: &Obj, offset: u64, expected: &Obj) -> Option<Self> {
        Self::holding(sample, offset, expected.as_ptr() as usize)
    }

    /// The field at an offset, if the sample object's is empty.
    pub fn verified_empty(sample: &Obj, offset: u64) -> Option<Self> {
        Self::holding(sample, offset, 0)
    }

    fn holding(sample: &Obj, offset: u64, expected: usize) -> Option<Self> {
        let offset = usize::try_from(offset).ok()?;
        let place = FieldPlace::<T>::new(offset, size_of::<usize>())?;
        (word_at(sample, offset)? == expected).then_some(Field(place))
    }

    /// Finds the only field of the sample that holds the reference.
    pub fn find(sample: &Obj, expected: &Obj) -> Option<Self> {
        let first = size_of::<ffi::PyObject>();
        let mut found = (first..bytes(sample).len())
            .step_by(size_of::<usize>())
            .filter_map(|offset| Self::verified(sample, offset as u64, expected));
        let field = found.next()?;
        found.next().is_none().then_some(field)
    }

    /// Replaces the reference in an object's foreign part. At the end, `tp_clear` of the foreign
    /// base releases the one that is there.
    #[inline]
    pub fn set(&self, object: &Ref<T>, value: Option<Obj>) {
        drop(self.replace(object, value));
    }

    /// Puts a reference into the field of a new object. The field must be empty: a reference in it
    /// would never be released.
    #[inline(always)]
    pub fn begin(&self, object: &Ref<T>, value: Obj) {
        debug_assert!(self.is_empty(object));
        // SAFETY: as in `replace`.
        unsafe { *self.0.of::<*mut ffi::PyObject>(object) = value.into_ptr() };
    }

    /// As [`Field::set`], and returns the old reference.
    #[inline]
    pub fn replace(&self, object: &Ref<T>, value: Option<Obj>) -> Option<Obj> {
        let new = value.map_or(std::ptr::null_mut(), Obj::into_ptr);
        // SAFETY: the field lies in the foreign part, which is zeroed or holds what was put
        // there by this function or by the foreign extension, both with counted references.
        unsafe {
            let place = self.0.of::<*mut ffi::PyObject>(object);
            Obj::from_owned_opt(std::mem::replace(&mut *place, new))
        }
    }

    /// The reference in an object's foreign part.
    #[inline]
    pub fn get(&self, object: &Ref<T>) -> Option<Obj> {
        // SAFETY: as in `replace`.
        unsafe {
            let held = *self.0.of::<*mut ffi::PyObject>(object);
            (!held.is_null()).then(|| Obj::from_borrowed(held))
        }
    }

    /// Whether an object's foreign part holds the reference.
    #[inline]
    pub fn holds(&self, object: &Ref<T>, expected: &Obj) -> bool {
        // SAFETY: only compares addresses.
        unsafe { *self.0.of::<*mut ffi::PyObject>(object) == expected.as_ptr() }
    }

    /// Releases the reference in an object's foreign part if a slot holds the same one.
    #[inline]
    pub fn empty_if_same(&self, object: &Ref<T>, slot: &Slot) -> bool {
        let same = slot.inspect(|held| self.holds(object, held)) == Some(true);
        if same {
            self.set(object, None);
        }
        same
    }

    /// Whether the field of an object's foreign part is empty.
    #[inline]
    pub fn is_empty(&self, object: &Ref<T>) -> bool {
        // SAFETY: only compares addresses.
        unsafe { (*self.0.of::<*mut ffi::PyObject>(object)).is_null() }
    }
}

/// A number of one or four bytes in the foreign part of a hot type's objects.
pub struct Number<T: Hot> {
    place: FieldPlace<T>,
    wide: bool,
}

impl<T: Hot> Number<T> {
    /// The one-byte number at an offset, if the sample object holds the expected one there.
    pub fn byte(sample: &Obj, offset: u64, expected: u8) -> Option<Self> {
        let offset = usize::try_from(offset).ok()?;
        let place = FieldPlace::<T>::new(offset, 1)?;
        (*bytes(sample).get(offset)? == expected).then_some(Number { place, wide: false })
    }

    /// Finds the only four-byte number of the sample that a change turns from 0 to `after`.
    pub fn changed(sample: &Obj, after: u32, change: impl FnOnce()) -> Option<Self> {
        let first = size_of::<ffi::PyObject>();
        let read = || -> Vec<u32> {
            bytes(sample)[first..]
                .chunks_exact(4)
                .map(|bytes| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
                .collect()
        };
        let before = read();
        change();
        let now = read();
        let mut found =
            (0..before.len()).filter(|index| before[*index] == 0 && now[*index] == after);
        let index = found.next()?;
        let place = FieldPlace::<T>::new(first + index * 4, 4)?;
        found
            .next()
            .is_none()
            .then_some(Number { place, wide: true })
    }

    /// Sets the number in an object's foreign part.
    #[inline]
    pub fn set(&self, object: &Ref<T>, value: u32) {
        // SAFETY: the number lies in the foreign part.
        unsafe {
            if self.wide {
                *self.place.of::<u32>(object) = value;
            } else {
                *self.place.of::<u8>(object) = value as u8;
            }
        }
    }

    /// Zeroes the number in an object that is about to go, and the other numbers in the same word
    /// (references have words of their own). It writes a whole word: the next step reads the word,
    /// and the processor would stall after a smaller store.
    #[inline]
    pub fn empty(&self, object: &Ref<T>) {
        let word = FieldPlace::<T> {
            offset: self.place.offset & !(size_of::<usize>() - 1),
            phantom: PhantomData,
        };
        // SAFETY: the foreign part begins and ends with whole words, so that the word around the
        // number lies in it.
        unsafe { *word.of::<usize>(object) = 0 };
    }

    /// The number in an object's foreign part.
    #[inline]
    pub fn get(&self, object: &Ref<T>) -> u32 {
        // SAFETY: the number lies in the foreign part.
        unsafe {
            if self.wide {
                *self.place.of::<u32>(object)
            } else {
                u32::from(*self.place.of::<u8>(object))
            }
        }
    }
}

/// A whole number in the C struct of another extension's objects. It is only read.
#[derive(Clone, Copy, Debug)]
pub struct IntField {
    offset: usize,
    wide: bool,
}

impl IntField {
    /// The number of four bytes at an offset behind the object's header, if the sample object
    /// holds the expected one there.
    pub fn narrow(sample: &Obj, offset: usize, expected: i64) -> Option<IntField> {
        let offset = size_of::<ffi::PyObject>() + offset;
        let wide = false;
        let int = IntField { offset, wide };
        (offset % 4 == 0 && int.read(sample) == Some(expected)).then_some(int)
    }

    /// As [`IntField::narrow`], for a number of eight bytes.
    pub fn wide(sample: &Obj, offset: usize, expected: i64) -> Option<IntField> {
        let offset = size_of::<ffi::PyObject>() + offset;
        let int = IntField { offset, wide: true };
        (offset % 8 == 0 && int.read(sample) == Some(expected)).then_some(int)
    }

    /// The number in an object of the sample's class; in an object of another class it has no
    /// meaning. Returns nothing if the object is too small.
    #[inline]
    pub fn read(self, object: &Obj) -> Option<i64> {
        // SAFETY: an object is at least as large as its class says, and all of it is initialized;
        // the offset is aligned and was compared with the size.
        unsafe {
            let size = (*ffi::Py_TYPE(object.as_ptr())).tp_basicsize as usize;
            if self.offset + if self.wide { 8 } else { 4 } > size {
                return None;
            }
            let place = object.as_ptr().cast::<u8>().add(self.offset);
            Some(if self.wide {
                *place.cast::<i64>()
            } else {
                i64::from(*place.cast::<i32>())
            })
        }
    }
}

/// A field of the thread state that holds a counted reference.
#[derive(Clone, Copy, Debug)]
pub struct ThreadField {
    offset: usize,
}

impl ThreadField {
    /// The field at an offset of the current thread's state, if the expected reference is there.
    ///
    /// The offset and the size of the state come from CPython's own table ([`section_words`]). The
    /// field must lie within the state.
    pub fn verified(
        _py: Python<'_>,
        offset: u64,
        size: u64,
        expected: &Obj,
    ) -> Option<ThreadField> {
        if offset % 8 != 0 || offset.checked_add(8)? > size || size > 1 << 20 {
            return None;
        }
        let offset = usize::try_from(offset).ok()?;
        // SAFETY: the offset lies within the thread state of the current thread.
        let found = unsafe { *ffi::PyThreadState_Get().cast::<u8>().add(offset).cast() };
        (expected.as_ptr() == found).then_some(ThreadField { offset })
    }

    /// Puts a reference into the field if it is empty and `guard` holds the guarded object.
    #[inline]
    pub fn fill(self, guard: ThreadField, guarded: &Obj, value: &Obj) -> Option<Filled> {
        // SAFETY: attached (an Obj is at hand wherever a field changes); offsets were verified;
        // the field owns its reference.
        unsafe {
            let state = ffi::PyThreadState_Get().cast::<u8>();
            if *state.add(guard.offset).cast::<*mut ffi::PyObject>() != guarded.as_ptr() {
                return None;
            }
            let place = state.add(self.offset).cast::<*mut ffi::PyObject>();
            if !(*place).is_null() {
                return None;
            }
            *place = value.clone().into_ptr();
            Some(Filled(place))
        }
    }

    #[inline]
    fn place(self) -> *mut *mut ffi::PyObject {
        // SAFETY: attached (callers have a token or an Obj); the offset was verified.
        unsafe {
            ffi::PyThreadState_Get()
                .cast::<u8>()
                .add(self.offset)
                .cast()
        }
    }

    /// The current thread's reference.
    #[inline]
    pub fn get(self, _py: Python<'_>) -> Option<Obj> {
        // SAFETY: null or a counted reference, as verified.
        unsafe {
            let held = *self.place();
            (!held.is_null()).then(|| Obj::from_borrowed(held))
        }
    }

    /// The current thread's reference, if there is one and the field `guard` holds an object that
    /// is not None.
    #[inline]
    pub fn get_guarded(self, py: Python<'_>, guard: ThreadField) -> Option<Obj> {
        // SAFETY: attached, by the token; both fields are null or a counted reference, as verified.
        unsafe {
            let state = ffi::PyThreadState_Get().cast::<u8>();
            let guarding = *state.add(guard.offset).cast::<*mut ffi::PyObject>();
            let held = *state.add(self.offset).cast::<*mut ffi::PyObject>();
            let is_given = !guarding.is_null() && !Obj::from_pointer(&guarding).is_none();
            let _ = py;
            (is_given && !held.is_null()).then(|| Obj::from_borrowed(held))
        }
    }

    /// Whether the current thread's reference is this object.
    #[inline]
    pub fn holds(self, object: &Obj) -> bool {
        // SAFETY: only compares addresses.
        unsafe { *self.place() == object.as_ptr() }
    }

    /// Replaces the current thread's reference and returns the old one.
    #[inline]
    pub fn replace(self, _py: Python<'_>, value: Option<Obj>) -> Option<Obj> {
        let new = value.map_or(std::ptr::null_mut(), Obj::into_ptr);
        // SAFETY: the field owns its reference: the old one comes to us, the new one goes there.
        unsafe { Obj::from_owned_opt(std::mem::replace(&mut *self.place(), new)) }
    }
}

/// A field of the current thread's state that was filled. It cannot be sent, so it belongs to no
/// other thread.
pub struct Filled(*mut *mut ffi::PyObject);

impl Filled {
    /// Empties the field if it still holds the reference. Returns whether it did.
    #[inline]
    pub fn empty(&self, value: &Obj) -> bool {
        // SAFETY: the thread's state lives as long as the thread runs code; the field owns its
        // reference, which goes last.
        unsafe {
            if *self.0 != value.as_ptr() {
                return false;
            }
            *self.0 = std::ptr::null_mut();
            drop(Obj::from_owned(value.as_ptr()));
            true
        }
    }
}

/// CPython's intrusive list of a thread's objects (`struct llist_node`: next, previous), whose
/// head is in the thread state and whose nodes are in the foreign part of objects.
pub struct ThreadList<T: Listed> {
    head: usize,
    node: FieldPlace<T>,
}

#[repr(C)]
struct Node {
    next: *mut Node,
    previous: *mut Node,
}

/// A hot type whose objects can be in a [`ThreadList`].
pub trait Listed: Hot {
    /// The part of the value that says in whose list the object is. Only asked without the GIL.
    fn list_owner(&self) -> &ListOwner;
}

/// In whose list an object is. Without the GIL only that thread may change the list. Thread states
/// have numbers that are never used again.
#[derive(Default)]
pub struct ListOwner(#[cfg(Py_GIL_DISABLED)] Cell<i64>);

#[cfg(Py_GIL_DISABLED)]
impl ListOwner {
    /// The number of the thread's state.
    fn own_number() -> i64 {
        // SAFETY: the thread is attached, as an object is at hand.
        unsafe { ffi::PyThreadState_GetID(ffi::PyThreadState_Get()) }
    }
}

impl<T: Listed> ThreadList<T> {
    /// The list with its head and node at the offsets, if the sample object is its only or last
    /// member. `size` is the size of the thread state, in bytes.
    pub fn verified(sample: &Obj, head: u64, size: u64, node: u64) -> Option<Self> {
        let node = usize::try_from(node).ok()?;
        if head % 8 != 0 || head.checked_add(16)? > size || size > 1 << 20 {
            return None;
        }
        let (next, previous) = (node, node.checked_add(size_of::<usize>())?);
        FieldPlace::<T>::new(previous, size_of::<usize>())?;
        let list = ThreadList {
            head: usize::try_from(head).ok()?,
            node: FieldPlace::new(next, size_of::<usize>())?,
        };
        let head = list.head_of_thread();
        let address = sample.as_ptr() as usize + node;
        // SAFETY: the head lies within the thread state; only addresses are compared.
        let last = unsafe { (*head).previous as usize };
        (word_at(sample, next)? == head as usize && last == address).then_some(list)
    }

    fn head_of_thread(&self) -> *mut Node {
        // SAFETY: attached; the offset lies within the thread state.
        unsafe { ffi::PyThreadState_Get().cast::<u8>().add(self.head).cast() }
    }

    /// Appends the object to the current thread's list, unless it is in one. The list does not keep
    /// it alive: [`ThreadList::unlink`] must be called before the object goes.
    #[inline]
    pub fn link(&self, object: &Ref<T>) {
        // SAFETY: nodes of a linked list are alive (see above); this is CPython's own layout. Who
        // reads the list of another thread stops that thread, which never happens in here.
        unsafe {
            let node = self.node.of::<Node>(object);
            if is_linked(node) {
                return;
            }
            #[cfg(Py_GIL_DISABLED)]
            object.list_owner().0.set(ListOwner::own_number());
            // Other threads take references to what they find in the list. In free-threaded builds
            // an object of this thread refuses that until it is told.
            #[cfg(Py_GIL_DISABLED)]
            ffi::PyUnstable_EnableTryIncRef(object.as_obj().as_ptr());
            let head = self.head_of_thread();
            (*node).previous = (*head).previous;
            (*node).next = head;
            (*(*head).previous).next = node;
            (*head).previous = node;
        }
    }

    /// Takes the object out of the list it is in, if any. False if that is the list of another
    /// thread: then it stays there, and CPython's own function must take it out, which stops all
    /// threads.
    #[inline]
    pub fn unlink(&self, object: &Ref<T>) -> bool {
        // SAFETY: as in `link`.
        unsafe {
            let node = self.node.of::<Node>(object);
            if !is_linked(node) {
                return true;
            }
            #[cfg(Py_GIL_DISABLED)]
            if object.list_owner().0.take() != ListOwner::own_number() {
                return false;
            }
            (*(*node).previous).next = (*node).next;
            (*(*node).next).previous = (*node).previous;
            (*node).next = std::ptr::null_mut();
            (*node).previous = std::ptr::null_mut();
        }
        true
    }
}

/// Whether a node is in a list. Another thread may change its neighbours meanwhile.
///
/// # Safety
/// The node is one of a live object.
#[inline(always)]
unsafe fn is_linked(node: *mut Node) -> bool {
    // SAFETY: by the contract.
    unsafe {
        #[cfg(Py_GIL_DISABLED)]
        let next = AtomicPtr::from_ptr(&raw mut (*node).next).load(Ordering::Relaxed);
        #[cfg(not(Py_GIL_DISABLED))]
        let next = (*node).next;
        !next.is_null()
    }
}
