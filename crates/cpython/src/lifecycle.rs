//! How the garbage collector sees the objects of hot types, and how the objects are freed.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use pyo3::{Python, ffi};

#[cfg(Py_GIL_DISABLED)]
use crate::domain;
use crate::domain::Section;
use crate::error::preserving;
use crate::hot::{Hot, Payload, Ref, TypeInfo, UNKNOWN, value_of};
use crate::obj::{Obj, new_reference};
use crate::panics::{reported, reported_later};
use crate::release;
#[cfg(Py_GIL_DISABLED)]
use crate::sanitizer;
use crate::slot::{Reference, Slot};

/// Shows references to the garbage collector.
pub struct Visit<'a> {
    visit: ffi::visitproc,
    arg: *mut c_void,
    outcome: c_int,
    phantom: PhantomData<&'a ()>,
}

impl Visit<'_> {
    /// Shows one reference.
    #[inline]
    pub fn object(&mut self, object: &Obj) {
        if self.outcome == 0 {
            // SAFETY: the object is alive; visit and arg are the collector's own.
            self.outcome = unsafe { (self.visit)(object.as_ptr(), self.arg) };
        }
    }

    /// Shows the references of an object that the collector does not know ([`Hot::TRACKED`]) and to
    /// which only this one refers.
    pub fn inside<T: Hot>(&mut self, object: &Ref<T>) {
        // SAFETY: the object is alive; objects of hot types are made for the collector.
        if unsafe { ffi::PyObject_GC_IsTracked(object.as_obj().as_ptr()) } == 0
            && object.as_obj().refcount() == 1
        {
            // SAFETY: the object is of the type.
            unsafe { T::visit(object.as_obj().as_ptr(), self) };
        }
    }

    /// Shows a field.
    #[inline]
    pub fn slot<P: Reference>(&mut self, slot: &Slot<P>) {
        slot.peek(|object| self.object(object));
    }
}

/// A field with references that may be part of a cycle; see [`holds!`](crate::holds).
pub trait GcFields {
    /// Shows them to the garbage collector.
    fn visit(&self, visit: &mut Visit<'_>);
    /// Releases them.
    fn let_go(&self);
}

impl<P: Reference> GcFields for Slot<P> {
    #[inline]
    fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(self);
    }
    #[inline]
    fn let_go(&self) {
        self.set(None);
    }
}

impl<C: Default> GcFields for RefCell<C>
where
    for<'a> &'a C: IntoIterator<Item = &'a Obj>,
{
    fn visit(&self, visit: &mut Visit<'_>) {
        if let Ok(objects) = self.try_borrow() {
            for object in &*objects {
                visit.object(object);
            }
        }
    }
    fn let_go(&self) {
        let objects = self.take();
        drop(objects);
    }
}

impl<H: GcFields, const COUNT: usize> GcFields for [H; COUNT] {
    fn visit(&self, visit: &mut Visit<'_>) {
        self.iter().for_each(|held| held.visit(visit));
    }
    fn let_go(&self) {
        self.iter().for_each(GcFields::let_go);
    }
}

/// Names the fields that are [`GcFields`], in the order in which they are
/// released: of a hot type inside the `impl Hot`, as its `traverse` and `clear`; of a part of one,
/// which is `GcFields` by that, beside it, after its name (`holds!(Part: field, other)`).
#[macro_export]
macro_rules! holds {
    ($part:ident: $($field:ident),*) => {
        impl $crate::lifecycle::GcFields for $part {
            fn visit(&self, visit: &mut $crate::Visit<'_>) {
                $($crate::lifecycle::GcFields::visit(&self.$field, visit);)*
            }
            fn let_go(&self) {
                $($crate::lifecycle::GcFields::let_go(&self.$field);)*
            }
        }
    };
    ($($field:ident),*) => {
        fn traverse(&self, visit: &mut $crate::Visit<'_>) {
            $($crate::lifecycle::GcFields::visit(&self.$field, visit);)*
        }

        #[inline]
        fn clear(&self) {
            $($crate::lifecycle::GcFields::let_go(&self.$field);)*
        }
    };
}

/// `tp_traverse`.
pub(crate) unsafe extern "C" fn traverse<T: Hot>(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    #[cfg(Py_GIL_DISABLED)]
    let _alone = domain::Alone::with_everything();
    let info = T::info();
    // SAFETY: CPython calls this on objects of the type; a foreign base's slot on its own part.
    unsafe {
        let base = info.base_traverse.load(Ordering::Relaxed);
        if !base.is_null() {
            let base: ffi::traverseproc = std::mem::transmute(base);
            let outcome = base(object, visit, arg);
            if outcome != 0 {
                return outcome;
            }
        }
        if info.base_visits_type.load(Ordering::Relaxed) == 0 {
            let outcome = visit(ffi::Py_TYPE(object).cast(), arg);
            if outcome != 0 {
                return outcome;
            }
        }
        let mut visitor = Visit {
            visit,
            arg,
            outcome: 0,
            phantom: PhantomData,
        };
        // The collector asks several times: one that panics each time has shown the same each time,
        // and what it has not shown stays alive.
        reported_later::<T>(|| T::visit(object, &mut visitor));
        #[cfg(Py_GIL_DISABLED)]
        for slot in bare_slots(info, object) {
            if !(*slot).is_null() {
                visitor.object(Obj::from_pointer(&*slot));
            }
        }
        if let Some(dict) = dict_of(info, object).filter(|dict| !(**dict).is_null()) {
            visitor.object(Obj::from_pointer(&*dict));
        }
        visitor.outcome
    }
}

/// Where an object keeps the dict of its own attributes.
///
/// # Safety
/// The object is of the type that the information is about.
unsafe fn dict_of(info: &TypeInfo, object: *mut ffi::PyObject) -> Option<*mut *mut ffi::PyObject> {
    let offset = info.dict_offset.load(Ordering::Relaxed);
    // SAFETY: the builder has made room for it at the end of the objects.
    (offset != 0).then(|| unsafe { object.cast::<u8>().add(offset).cast() })
}

/// The words of the foreign base's slots that are not part of a value.
///
/// # Safety
/// As for [`dict_of`].
#[cfg(Py_GIL_DISABLED)]
unsafe fn bare_slots(
    info: &TypeInfo,
    object: *mut ffi::PyObject,
) -> impl Iterator<Item = *mut *mut ffi::PyObject> {
    let offsets = info.bare_slots.get().map_or(&[][..], |offsets| offsets);
    // SAFETY: the offsets lie within the foreign part.
    offsets
        .iter()
        .map(move |offset| unsafe { object.cast::<u8>().add(*offset).cast() })
}

/// Releases what a program has put into these slots.
///
/// # Safety
/// As for [`dict_of`], and nobody else uses the object.
#[cfg(Py_GIL_DISABLED)]
unsafe fn drop_bare_slots(info: &TypeInfo, object: *mut ffi::PyObject) {
    // SAFETY: null or a reference that the object owns.
    unsafe {
        for slot in bare_slots(info, object) {
            drop(Obj::from_owned_opt(std::mem::replace(
                &mut *slot,
                std::ptr::null_mut(),
            )));
        }
    }
}

/// Releases the dict of an object's own attributes.
///
/// # Safety
/// As for [`dict_of`].
unsafe fn drop_dict(info: &TypeInfo, object: *mut ffi::PyObject) {
    // SAFETY: null or a reference that the object owns.
    unsafe {
        if let Some(place) = dict_of(info, object) {
            drop(Obj::from_owned_opt(std::mem::replace(
                &mut *place,
                std::ptr::null_mut(),
            )));
        }
    }
}

/// The words of an object that belong to its foreign base.
///
/// # Safety
/// As for [`dict_of`]; nobody writes to the object meanwhile.
#[inline]
unsafe fn foreign_part<'a>(info: &TypeInfo, object: *mut ffi::PyObject) -> &'a [usize] {
    let header = size_of::<ffi::PyObject>();
    let size = info.base_size.load(Ordering::Relaxed) - header;
    // SAFETY: the part lies between the header and the values, which are aligned as words are.
    unsafe {
        let first = object.cast::<u8>().add(header).cast::<usize>();
        std::slice::from_raw_parts(first, size / size_of::<usize>())
    }
}

/// Whether the foreign base has nothing to release in an object of exactly the type.
///
/// # Safety
/// As for [`foreign_part`].
#[inline]
unsafe fn foreign_part_is_empty(info: &TypeInfo, object: *mut ffi::PyObject) -> bool {
    let dict = info.managed_dict.load(Ordering::Relaxed);
    // SAFETY: where the dict's place is known, it is a word that belongs to the object. There are
    // no attributes behind objects of exactly a hot type.
    unsafe {
        dict != UNKNOWN
            && (dict == 0 || *object.cast::<u8>().offset(dict).cast::<usize>() == 0)
            && all_zero(foreign_part(info, object))
    }
}

/// Whether all words are 0. They are read one by one: some have just been written, and the
/// processor would stall at a load that takes two of them.
#[inline(always)]
fn all_zero(words: &[usize]) -> bool {
    let fours = words.chunks_exact(4);
    let others = fours.remainder();
    let mut all = 0;
    for four in fours {
        for word in four {
            // SAFETY: a reference to a word.
            all |= unsafe { std::ptr::read_volatile(word) };
        }
    }
    others.iter().fold(all, |all, word| all | word) == 0
}

/// `tp_clear`.
pub(crate) unsafe extern "C" fn clear<T: Hot>(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: CPython calls this on objects of the type; a foreign base's slot on its own part.
    unsafe {
        #[cfg(Py_GIL_DISABLED)]
        let _alone = domain::Alone::with(object);
        let py = Python::assume_attached();
        let itself = || Obj::from_borrowed(object);
        reported(py, itself, || T::clear_value(object));
        drop_dict(T::info(), object);
        #[cfg(Py_GIL_DISABLED)]
        drop_bare_slots(T::info(), object);
        let base = T::info().base_clear.load(Ordering::Relaxed);
        if base.is_null() {
            return 0;
        }
        let base: ffi::inquiry = std::mem::transmute(base);
        base(object)
    }
}

/// `tp_finalize`.
pub(crate) unsafe extern "C" fn finalize<T: Hot>(object: *mut ffi::PyObject) {
    // SAFETY: CPython holds a reference during the call; the thread is attached.
    unsafe {
        let py = Python::assume_attached();
        let this = Ref::<T>::of_unchecked(Obj::from_pointer(&object)).clone();
        let mut section = Section::new();
        section.enter(&this);
        preserving(py, || {
            reported(py, || this.as_obj().clone(), || T::finalize(&this));
        });
    }
}

/// `tp_dealloc`.
pub(crate) unsafe extern "C" fn dealloc<T: Hot>(object: *mut ffi::PyObject) {
    // SAFETY: the last reference is gone, and nothing has been done yet to an object of exactly the
    // type; CPython's own `tp_dealloc` calls this for those of a subclass.
    unsafe {
        let exact = ffi::Py_TYPE(object) == T::info().class();
        if release::begin(object, exact) {
            destroy::<T>(object, exact);
            release::end();
        }
    }
}

/// What [`dealloc`] does. An object that panics while it is whole lives on, and nobody has it; the
/// memory of one that panics later is not used again.
///
/// # Safety
/// As for CPython's `tp_dealloc`; `exact` says whether the object is of exactly the type.
#[inline(always)]
unsafe fn destroy<T: Hot>(object: *mut ffi::PyObject, exact: bool) {
    let info = T::info();
    // SAFETY: the last reference is gone; the order is that of CPython's own types: finaliser
    // while the object is whole, then out of the collector's sight, weak references, contents,
    // memory, and at last the reference to the type that every object of a heap type holds.
    unsafe {
        #[cfg(Py_GIL_DISABLED)]
        let _alone = domain::Alone::with(object);
        #[cfg(Py_GIL_DISABLED)]
        sanitizer::acquired(object);
        let py = Python::assume_attached();
        let class = ffi::Py_TYPE(object);
        let Some(end) = reported(py, || Ref::<T>::class(py), || leave::<T>(object, exact)) else {
            return new_reference(object);
        };
        let renewable = match end {
            End::ComesBack => return,
            End::Goes { renewable } => renewable,
        };
        let weakrefs = info.weakrefs_offset.load(Ordering::Relaxed);
        if weakrefs != 0
            && !(*object
                .cast::<u8>()
                .offset(weakrefs)
                .cast::<*mut ffi::PyObject>())
            .is_null()
        {
            ffi::PyObject_ClearWeakRefs(object);
        }
        let emptied = reported(
            py,
            || Ref::<T>::class(py),
            || renewable & empty::<T>(object, exact),
        );
        let Some(renewable) = emptied else { return };
        #[cfg(not(Py_GIL_DISABLED))]
        {
            let freelist = info.freelist.get();
            if renewable && (*freelist).len() < T::FREELIST_IN_BURSTS {
                // The freed object keeps its reference to the type.
                (*freelist).push(object);
                return;
            }
        }
        #[cfg(Py_GIL_DISABLED)]
        {
            if renewable && domain::keep_freed::<T>(object) {
                return;
            }
            domain::leave_behind::<T>(object);
            sanitizer::released(object);
        }
        let free = (*class).tp_free.unwrap_or(ffi::PyObject_GC_Del);
        free(object.cast());
        ffi::Py_DECREF(class.cast());
    }
}

/// What becomes of an object when its last reference is gone.
enum End {
    /// Its finaliser has given it a reference.
    ComesBack,
    /// It goes; it may be used again if `renewable`.
    Goes { renewable: bool },
}

/// Calls the finaliser, and takes the object out of the collector's sight and its type's lists.
///
/// # Safety
/// As for [`destroy`], which calls this first.
#[inline(always)]
unsafe fn leave<T: Hot>(object: *mut ffi::PyObject, exact: bool) -> End {
    // SAFETY: the object is whole.
    unsafe {
        if T::FINALIZES
            && exact
            && (*value_of::<T>(object)).needs_finalizer(T::Parent::peek(object))
        {
            if !T::TRACKED {
                // CPython expects it of an object with a finaliser, which may give it to others.
                Ref::<T>::of_unchecked(Obj::from_pointer(&object)).track();
            }
            if ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
                return End::ComesBack;
            }
        }
        let this = Obj::from_pointer(&object);
        let renewable = exact
            && T::FREELIST > 0
            && (!T::FINALIZES || !T::was_finalized(Ref::of_unchecked(this)));
        ffi::PyObject_GC_UnTrack(object.cast());
        T::leave(Ref::of_unchecked(this));
        End::Goes { renewable }
    }
}

/// Releases all that the object holds; false if there is something that no new one may have.
///
/// # Safety
/// As for [`destroy`], which calls this after [`leave`].
#[inline(always)]
unsafe fn empty<T: Hot>(object: *mut ffi::PyObject, exact: bool) -> bool {
    let info = T::info();
    // SAFETY: nobody uses the values any more.
    unsafe {
        <T as Payload>::drop_value(object);
        drop_dict(info, object);
        #[cfg(Py_GIL_DISABLED)]
        drop_bare_slots(info, object);
        let base = info.base_clear.load(Ordering::Relaxed);
        if base.is_null() {
            return true;
        }
        T::empty_foreign_part(Ref::of_unchecked(Obj::from_pointer(&object)));
        if exact && foreign_part_is_empty(info, object) {
            return true;
        }
        let base: ffi::inquiry = std::mem::transmute(base);
        base(object);
        let part = foreign_part(info, object);
        std::ptr::write_bytes(part.as_ptr().cast_mut(), 0, part.len());
        true
    }
}
