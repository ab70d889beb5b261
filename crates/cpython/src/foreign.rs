//! Fields of another extension's objects and of the thread state.
//!
//! Some state of CPython has no function to reach it quickly: which task runs is a field of the
//! thread state, a task's coroutine a field of the accelerator's struct. Debuggers find such
//! fields by a table of offsets that CPython keeps in a section of the library's file; so do
//! we. Nothing here trusts the table blindly: an offset is used only after a probe object has
//! shown the expected value there.

use std::marker::PhantomData;

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
    // A 64-bit little-endian ELF file; on any other the fields stay unknown.
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

/// Where something lies in the foreign part of the objects of a hot type: within it, as was checked
/// when it was made.
struct Place<T: Hot> {
    offset: usize,
    phantom: PhantomData<fn(&T)>,
}

impl<T: Hot> Clone for Place<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Hot> Copy for Place<T> {}

impl<T: Hot> Place<T> {
    /// The place, if so many bytes there lie in the foreign part of the type's objects.
    fn new(offset: usize, size: usize) -> Option<Place<T>> {
        let end = T::info()
            .base_size
            .load(std::sync::atomic::Ordering::Relaxed);
        let within = offset >= size_of::<ffi::PyObject>()
            && offset % size == 0
            && offset.checked_add(size)? <= end;
        within.then_some(Place {
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

/// The bytes of a sample object, for as long as it is not changed.
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
pub struct Field<T: Hot>(Place<T>);

impl<T: Hot> Field<T> {
    /// The field at an offset, if the sample object holds the expected reference there.
    pub fn verified(sample: &Obj, offset: u64, expected: &Obj) -> Option<Self> {
        Self::holding(sample, offset, expected.as_ptr() as usize)
    }

    /// The field at an offset, if the sample object holds nothing there.
    pub fn verified_empty(sample: &Obj, offset: u64) -> Option<Self> {
        Self::holding(sample, offset, 0)
    }

    fn holding(sample: &Obj, offset: u64, expected: usize) -> Option<Self> {
        let offset = usize::try_from(offset).ok()?;
        let place = Place::<T>::new(offset, size_of::<usize>())?;
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

    /// Replaces the reference in an object's foreign part; `tp_clear` of the foreign base
    /// releases the last one.
    #[inline]
    pub fn set(&self, object: &Ref<T>, value: Option<Obj>) {
        drop(self.replace(object, value));
    }

    /// Puts a reference into the field of a new object, where there is nothing: what there was would
    /// never be released.
    #[inline(always)]
    pub fn begin(&self, object: &Ref<T>, value: Obj) {
        debug_assert!(self.is_empty(object));
        // SAFETY: as in `replace`.
        unsafe { *self.0.of::<*mut ffi::PyObject>(object) = value.into_ptr() };
    }

    /// As [`Field::set`], and returns what was there.
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

    /// Releases the reference in an object's foreign part if a slot holds the same.
    #[inline]
    pub fn empty_if_same(&self, object: &Ref<T>, slot: &Slot) -> bool {
        let same = slot.inspect(|held| self.holds(object, held)) == Some(true);
        if same {
            self.set(object, None);
        }
        same
    }

    /// Whether an object's foreign part holds nothing there.
    #[inline]
    pub fn is_empty(&self, object: &Ref<T>) -> bool {
        // SAFETY: only compares addresses.
        unsafe { (*self.0.of::<*mut ffi::PyObject>(object)).is_null() }
    }
}

/// A number of one byte or of four in the foreign part of a hot type's objects.
pub struct Number<T: Hot> {
    place: Place<T>,
    wide: bool,
}

impl<T: Hot> Number<T> {
    /// The one-byte number at an offset, if the sample object holds the expected one there.
    pub fn byte(sample: &Obj, offset: u64, expected: u8) -> Option<Self> {
        let offset = usize::try_from(offset).ok()?;
        let place = Place::<T>::new(offset, 1)?;
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
        let place = Place::<T>::new(first + index * 4, 4)?;
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

    /// Zeroes the number, in an object that is about to go, and what else lies in its word: other
    /// numbers, for references have words of their own. As a word, since it is looked at as one
    /// right away, for which the processor would wait after a smaller store.
    #[inline]
    pub fn empty(&self, object: &Ref<T>) {
        let word = Place::<T> {
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

/// A whole number in the C struct of another extension's objects, to be read.
#[derive(Clone, Copy, Debug)]
pub struct Int {
    offset: usize,
    wide: bool,
}

impl Int {
    /// The number of four bytes at an offset behind the object's header, if the sample object
    /// holds the expected one there.
    pub fn narrow(sample: &Obj, offset: usize, expected: i64) -> Option<Int> {
        let offset = size_of::<ffi::PyObject>() + offset;
        let wide = false;
        let int = Int { offset, wide };
        (offset % 4 == 0 && int.read(sample) == Some(expected)).then_some(int)
    }

    /// The same, of eight bytes.
    pub fn wide(sample: &Obj, offset: usize, expected: i64) -> Option<Int> {
        let offset = size_of::<ffi::PyObject>() + offset;
        let int = Int { offset, wide: true };
        (offset % 8 == 0 && int.read(sample) == Some(expected)).then_some(int)
    }

    /// The number in an object of the sample's class. In objects of another class it has no
    /// meaning; nothing if they are too small.
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
    /// The offset comes from CPython's own table ([`section_words`]) and the table says how large
    /// the state is; it must lie within.
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

/// A field of the current thread's state that was filled; of no other thread, as it cannot be sent.
pub struct Filled(*mut *mut ffi::PyObject);

impl Filled {
    /// Empties the field if it still holds the reference; says whether it did.
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
pub struct ThreadList<T: Hot> {
    head: usize,
    node: Place<T>,
}

#[repr(C)]
struct Node {
    next: *mut Node,
    previous: *mut Node,
}

impl<T: Hot> ThreadList<T> {
    /// The list with its head and node at the offsets, if the sample object is its only or last
    /// member. `size` is that of the thread state.
    pub fn verified(sample: &Obj, head: u64, size: u64, node: u64) -> Option<Self> {
        let node = usize::try_from(node).ok()?;
        if head % 8 != 0 || head.checked_add(16)? > size || size > 1 << 20 {
            return None;
        }
        let (next, previous) = (node, node.checked_add(size_of::<usize>())?);
        Place::<T>::new(previous, size_of::<usize>())?;
        let list = ThreadList {
            head: usize::try_from(head).ok()?,
            node: Place::new(next, size_of::<usize>())?,
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

    /// Appends the object to the current thread's list, unless it is in one. The list does not
    /// keep it alive: [`ThreadList::unlink`] must come before it goes.
    #[inline]
    pub fn link(&self, object: &Ref<T>) {
        // SAFETY: nodes of a linked list are alive (see above); this is CPython's own layout.
        unsafe {
            let node = self.node.of::<Node>(object);
            if !(*node).next.is_null() {
                return;
            }
            let head = self.head_of_thread();
            (*node).previous = (*head).previous;
            (*node).next = head;
            (*(*head).previous).next = node;
            (*head).previous = node;
        }
    }

    /// Takes the object out of the list it is in, if any.
    #[inline]
    pub fn unlink(&self, object: &Ref<T>) {
        // SAFETY: as in `link`.
        unsafe {
            let node = self.node.of::<Node>(object);
            if (*node).next.is_null() {
                return;
            }
            (*(*node).previous).next = (*node).next;
            (*(*node).next).previous = (*node).previous;
            (*node).next = std::ptr::null_mut();
            (*node).previous = std::ptr::null_mut();
        }
    }
}
