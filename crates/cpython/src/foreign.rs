//! Fields of another extension's objects and of the thread state.
//!
//! Some state of CPython has no function to reach it quickly: which task runs is a field of the
//! thread state, a task's coroutine a field of the accelerator's struct. Debuggers find such
//! fields by a table of offsets that CPython keeps in a section of the library's file; so do
//! we. Nothing here trusts the table blindly: an offset is used only after a probe object has
//! shown the expected value there.

use pyo3::{Python, ffi};

use crate::hot::{Hot, Ref};
use crate::obj::Obj;

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

/// A field that holds a reference in the foreign part of objects.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    offset: usize,
}

impl Field {
    /// The field at an offset, if the sample object holds the expected reference there.
    pub fn verified(sample: &Obj, offset: u64, expected: &Obj) -> Option<Field> {
        let offset = usize::try_from(offset).ok()?;
        if offset % 8 != 0 || offset + 8 > crate::build::basic_size(&sample.class()) {
            return None;
        }
        // SAFETY: the offset is aligned and lies within the sample.
        let found = unsafe {
            *sample
                .as_ptr()
                .cast::<u8>()
                .add(offset)
                .cast::<*mut ffi::PyObject>()
        };
        (found == expected.as_ptr()).then_some(Field { offset })
    }

    /// The field at an offset, if the sample object holds nothing there.
    pub fn verified_empty(sample: &Obj, offset: u64) -> Option<Field> {
        let offset = usize::try_from(offset).ok()?;
        if offset % 8 != 0 || offset + 8 > crate::build::basic_size(&sample.class()) {
            return None;
        }
        // SAFETY: the offset is aligned and lies within the sample.
        let found = unsafe {
            *sample
                .as_ptr()
                .cast::<u8>()
                .add(offset)
                .cast::<*mut ffi::PyObject>()
        };
        found.is_null().then_some(Field { offset })
    }

    /// Finds the only field of the sample that holds the reference.
    pub fn find(sample: &Obj, expected: &Obj) -> Option<Field> {
        let first = size_of::<ffi::PyObject>();
        let mut found = (first..crate::build::basic_size(&sample.class()))
            .step_by(8)
            .filter_map(|offset| Field::verified(sample, offset as u64, expected));
        let field = found.next()?;
        found.next().is_none().then_some(field)
    }

    /// Whether the field lies in the foreign part of a hot type.
    pub fn fits<T: Hot>(self) -> bool {
        let size = T::info()
            .base_size
            .load(std::sync::atomic::Ordering::Relaxed);
        self.offset >= size_of::<ffi::PyObject>() && self.offset + 8 <= size
    }

    /// Replaces the reference in an object's foreign part; `tp_clear` of the foreign base
    /// releases the last one. Does nothing where the field does not fit.
    #[inline]
    pub fn set<T: Hot>(self, object: &Ref<T>, value: Option<Obj>) {
        drop(self.replace(object, value));
    }

    /// As [`Field::set`], and returns what was there.
    #[inline]
    pub fn replace<T: Hot>(self, object: &Ref<T>, value: Option<Obj>) -> Option<Obj> {
        if !self.fits::<T>() {
            return None;
        }
        let new = value.map_or(std::ptr::null_mut(), Obj::into_ptr);
        // SAFETY: the field lies in the foreign part, which is zeroed or holds what was put
        // there by this function or by the foreign extension, both with counted references.
        unsafe {
            let place = self.place(object);
            let old = std::mem::replace(&mut *place, new);
            Obj::from_owned_opt(old)
        }
    }

    /// The reference in an object's foreign part.
    #[inline]
    pub fn get<T: Hot>(self, object: &Ref<T>) -> Option<Obj> {
        if !self.fits::<T>() {
            return None;
        }
        // SAFETY: as in `replace`.
        unsafe {
            let held = *self.place(object);
            (!held.is_null()).then(|| Obj::from_borrowed(held))
        }
    }

    fn place<T: Hot>(self, object: &Ref<T>) -> *mut *mut ffi::PyObject {
        // SAFETY: callers have checked that the field fits.
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

/// A number of one byte or of four in the foreign part of objects.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    offset: usize,
    wide: bool,
}

impl Number {
    /// The one-byte number at an offset, if the sample object holds the expected one there.
    pub fn byte(sample: &Obj, offset: u64, expected: u8) -> Option<Number> {
        let offset = usize::try_from(offset).ok()?;
        if offset >= crate::build::basic_size(&sample.class()) {
            return None;
        }
        // SAFETY: the offset lies within the sample.
        let found = unsafe { *sample.as_ptr().cast::<u8>().add(offset) };
        (found == expected).then_some(Number {
            offset,
            wide: false,
        })
    }

    /// Finds the only four-byte number of the sample that a change turns from 0 to `after`.
    pub fn changed(sample: &Obj, after: u32, change: impl FnOnce()) -> Option<Number> {
        let first = size_of::<ffi::PyObject>();
        let size = crate::build::basic_size(&sample.class());
        let read = || -> Vec<u32> {
            (first..size - size % 4)
                .step_by(4)
                // SAFETY: the offsets lie within the sample.
                .map(|offset| unsafe { *sample.as_ptr().cast::<u8>().add(offset).cast::<u32>() })
                .collect()
        };
        let before = read();
        change();
        let now = read();
        let mut found =
            (0..before.len()).filter(|index| before[*index] == 0 && now[*index] == after);
        let index = found.next()?;
        found.next().is_none().then_some(Number {
            offset: first + index * 4,
            wide: true,
        })
    }

    /// Sets the number in an object's foreign part.
    #[inline]
    pub fn set<T: Hot>(self, object: &Ref<T>, value: u32) {
        let size = T::info()
            .base_size
            .load(std::sync::atomic::Ordering::Relaxed);
        if self.offset + if self.wide { 4 } else { 1 } > size {
            return;
        }
        // SAFETY: the number lies in the foreign part.
        unsafe {
            let place = object.as_obj().as_ptr().cast::<u8>().add(self.offset);
            if self.wide {
                *place.cast::<u32>() = value;
            } else {
                *place = value as u8;
            }
        }
    }

    /// The number in an object's foreign part.
    #[inline]
    pub fn get<T: Hot>(self, object: &Ref<T>) -> u32 {
        let size = T::info()
            .base_size
            .load(std::sync::atomic::Ordering::Relaxed);
        if self.offset + if self.wide { 4 } else { 1 } > size {
            return 0;
        }
        // SAFETY: the number lies in the foreign part.
        unsafe {
            let place = object.as_obj().as_ptr().cast::<u8>().add(self.offset);
            if self.wide {
                *place.cast::<u32>()
            } else {
                u32::from(*place)
            }
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

    /// If `guard` holds the guarded object and this field is as empty (`None`) or full (the
    /// object) as expected, replaces its reference; says whether it did.
    #[inline]
    pub fn exchange(
        self,
        guard: Option<(ThreadField, &Obj)>,
        expected: Option<&Obj>,
        value: Option<&Obj>,
    ) -> bool {
        // SAFETY: attached (an Obj is at hand wherever a field changes); offsets were verified;
        // the field owns its reference.
        unsafe {
            let state = ffi::PyThreadState_Get().cast::<u8>();
            if let Some((field, object)) = guard {
                if *state.add(field.offset).cast::<*mut ffi::PyObject>() != object.as_ptr() {
                    return false;
                }
            }
            let place = state.add(self.offset).cast::<*mut ffi::PyObject>();
            let old = *place;
            if old != expected.map_or(std::ptr::null_mut(), Obj::as_ptr) {
                return false;
            }
            *place = value.map_or(std::ptr::null_mut(), |value| value.clone().into_ptr());
            drop(Obj::from_owned_opt(old));
            true
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

/// CPython's intrusive list of a thread's objects (`struct llist_node`: next, previous), whose
/// head is in the thread state and whose nodes are in the foreign part of objects.
#[derive(Clone, Copy, Debug)]
pub struct ThreadList {
    head: usize,
    node: usize,
}

#[repr(C)]
struct Node {
    next: *mut Node,
    previous: *mut Node,
}

impl ThreadList {
    /// The list with its head and node at the offsets, if the sample object is its only or last
    /// member.
    pub fn verified(sample: &Obj, head: u64, size: u64, node: u64) -> Option<ThreadList> {
        let node = usize::try_from(node).ok()?;
        if head % 8 != 0 || head.checked_add(16)? > size || size > 1 << 20 || node % 8 != 0 {
            return None;
        }
        if node + 16 > crate::build::basic_size(&sample.class()) {
            return None;
        }
        let list = ThreadList {
            head: usize::try_from(head).ok()?,
            node,
        };
        // SAFETY: both lie within their objects; only addresses are compared.
        unsafe {
            let head = list.head_of_thread();
            let node = sample.as_ptr().cast::<u8>().add(node).cast::<Node>();
            ((*node).next == head && (*head).previous == node).then_some(list)
        }
    }

    /// Whether the node lies in the foreign part of a hot type.
    pub fn fits<T: Hot>(self) -> bool {
        let size = T::info()
            .base_size
            .load(std::sync::atomic::Ordering::Relaxed);
        self.node + 16 <= size
    }

    fn head_of_thread(self) -> *mut Node {
        // SAFETY: attached; the offset lies within the thread state.
        unsafe { ffi::PyThreadState_Get().cast::<u8>().add(self.head).cast() }
    }

    fn node_of<T: Hot>(self, object: &Ref<T>) -> *mut Node {
        // SAFETY: `fits` holds for the types that this is used with.
        unsafe { object.as_obj().as_ptr().cast::<u8>().add(self.node).cast() }
    }

    /// Appends the object to the current thread's list, unless it is in one. The list does not
    /// keep it alive: [`ThreadList::unlink`] must come before it goes.
    #[inline]
    pub fn link<T: Hot>(self, object: &Ref<T>) {
        if !self.fits::<T>() {
            return;
        }
        // SAFETY: nodes of a linked list are alive (see above); this is CPython's own layout.
        unsafe {
            let node = self.node_of(object);
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
    pub fn unlink<T: Hot>(self, object: &Ref<T>) {
        if !self.fits::<T>() {
            return;
        }
        // SAFETY: as in `link`.
        unsafe {
            let node = self.node_of(object);
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
