//! Hot types: Python objects whose data is a Rust value, with every slot filled by hand.
//!
//! An object of a hot type lies in memory as
//!
//! ```text
//! | object header | part of a foreign base type, zeroed | parent's value | own value |
//! ```
//!
//! A foreign base (`_asyncio.Future`, a Python class with `__slots__`) gives `isinstance`; its
//! part stays zeroed but for fields written through [`crate::foreign`], and its own `tp_traverse`
//! and `tp_clear` look after it. A value with [`Hot::MEMBERS`] lies over the slots of such a class
//! instead, and looks after them itself. The offsets are found when the type is built, for a
//! foreign base's size is known only then.

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::atomic::Ordering;

use pyo3::{Python, ffi};

use crate::attributes::leave_no_room;
use crate::build::Builder;
use crate::domain;
use crate::error::Raised;
use crate::lifecycle::Visit;
use crate::members::{self, Member};
use crate::obj::{Obj, new_reference};
#[cfg(Py_GIL_DISABLED)]
use crate::sanitizer;

pub use crate::type_info::TypeInfo;
pub(crate) use crate::type_info::{TYPE_WORD, UNKNOWN};

/// The value inside the objects of a hot type, and what CPython needs to know about the type.
///
/// Methods take `&self` although they change the value: any call into Python may come back to the
/// same object, so the fields are [`Slot`](crate::Slot)s and `Cell`s.
pub trait Hot: Sized + 'static {
    /// The value that lies before this one: another hot type, or [`NoParent`].
    type Parent: Payload;

    /// The full name, `module.Class`.
    const NAME: &'static std::ffi::CStr;
    /// The docstring.
    const DOC: &'static std::ffi::CStr;
    /// The number of freed objects of exactly this type that are kept at most, to be used again.
    const FREELIST: usize = 0;
    /// The number that are kept until [`trim`](crate::freelist::trim) is called. A burst of objects
    /// then leaves the memory for the next one.
    const FREELIST_IN_BURSTS: usize = Self::FREELIST;
    /// Whether new objects are shown to the garbage collector at once. Where they are not, the
    /// object that holds one must traverse it as a part of itself ([`Visit::inside`]), and must
    /// call [`Ref::track`] on one that others may hold in a cycle.
    const TRACKED: bool = true;
    /// Whether Python code may subclass the type.
    const SUBCLASSABLE: bool = true;
    /// Whether objects of the type's child hold the value at another place, because the child's
    /// foreign base is larger. Every access to a value then looks at the object's type first.
    const MOVES_IN_CHILD: bool = false;

    /// Whether a foreign base or a parent lies between an object's header and the value. Otherwise
    /// the value lies at a place that the compiler knows.
    const BASED: bool = true;

    /// The fields that lie over slots of the foreign base, if these are where the fields are, with
    /// their names; see [`crate::members!`]. They are [`Slot`](crate::Slot)s, and a program
    /// may put any object into them through the base.
    const MEMBERS: &'static [Member] = &[];

    /// Whether [`Hot::finalize`] can have something to do.
    const FINALIZES: bool = true;

    /// Whether each object has a [domain] of its own.
    const OWN_DOMAIN: bool = false;

    /// Whether objects can change their domain ([`Hot::may_move`]).
    const MOVES: bool = false;

    /// Where the type's address and offsets are kept; see [`hot_type!`](crate::hot_type).
    fn info() -> &'static TypeInfo;

    /// Adds methods, properties and slots.
    fn build(builder: &mut Builder<Self>);

    /// Shows every reference to the garbage collector.
    fn traverse(&self, visit: &mut Visit<'_>);

    /// Releases what can be part of a cycle.
    fn clear(&self);

    /// Whether the object has nothing to do with the loop that it comes from, so that it may go over
    /// to the domain of another one. Asked within its domain, of types with [`Hot::MOVES`].
    fn may_move(_this: &Ref<Self>) -> bool {
        false
    }

    /// Whether [`Hot::finalize`] has something to do for this object. Called before each
    /// deallocation.
    fn needs_finalizer(&self, _parent: &Self::Parent) -> bool {
        false
    }

    /// Takes an object that is about to go, and is still whole, out of the lists that it may be in.
    /// Must not run foreign code, which could find the object by a weak reference.
    fn leave(_this: &Ref<Self>) {}

    /// Releases what the type itself has put into the foreign part of an object that is about to
    /// go, and zeroes those fields. The object's values are gone already.
    fn empty_foreign_part(_this: &Ref<Self>) {}

    /// `tp_finalize`: called when the object is about to go and is still whole. An exception that
    /// is set is kept around the call.
    fn finalize(_this: &Ref<Self>) {}

    /// Whether [`Hot::finalize`] has run. CPython marks such an object for good. A type that keeps
    /// a mark of its own answers without a call.
    #[inline]
    fn was_finalized(this: &Ref<Self>) -> bool {
        // SAFETY: the object is whole; objects of hot types are made for the collector.
        unsafe { ffi::PyObject_GC_IsFinalized(this.0.as_ptr()) != 0 }
    }
}

/// The [`Hot::Parent`] of a hot type that derives from no other.
pub struct NoParent;

/// A value at an offset of an object: that of a hot type, or nothing.
pub trait Payload: Sized + 'static {
    /// The number of values up to this one.
    #[doc(hidden)]
    const DEPTH: usize;
    /// The place of the first value in an object: that of the parent, if there is one.
    ///
    /// # Safety
    /// The object is one of this type.
    #[doc(hidden)]
    unsafe fn first_value(object: *mut ffi::PyObject) -> *mut u8;
    /// The offset at which the value and the foreign base end, given the end of the foreign base.
    #[doc(hidden)]
    fn end(base_size: usize) -> usize;
    /// Whether the value lies over slots of the foreign base, or there is none.
    #[doc(hidden)]
    fn is_over_slots() -> bool;
    /// Drops the value.
    ///
    /// # Safety
    /// The object is one of this type, and nothing uses the value afterwards.
    #[doc(hidden)]
    unsafe fn drop_value(object: *mut ffi::PyObject);
    /// Writes the value of a new object.
    ///
    /// # Safety
    /// The object is a new one of this type.
    #[doc(hidden)]
    unsafe fn write_value(object: *mut ffi::PyObject, value: Self);
    /// The value inside an object.
    ///
    /// # Safety
    /// The object is one of this type, and lives as long as the reference.
    #[doc(hidden)]
    unsafe fn peek<'a>(object: *mut ffi::PyObject) -> &'a Self;
    /// Shows the value's references to the garbage collector.
    ///
    /// # Safety
    /// The object is one of this type, and whole.
    #[doc(hidden)]
    unsafe fn visit(object: *mut ffi::PyObject, visit: &mut Visit<'_>);
    /// Releases what can be part of a cycle.
    ///
    /// # Safety
    /// The object is one of this type, and whole.
    #[doc(hidden)]
    unsafe fn clear_value(object: *mut ffi::PyObject);
    /// The offset at which the value begins, given the end of the foreign base.
    #[doc(hidden)]
    fn place(base_size: usize) -> usize;
    /// Notes a child, with its foreign base and the offset at which that ends. Returns false if the
    /// value would lie where no code looks for it.
    #[doc(hidden)]
    fn have_child(class: &Obj, base: Option<&Obj>, base_size: usize) -> bool;
}

impl Payload for NoParent {
    const DEPTH: usize = 0;
    // SAFETY: there is no value; nobody asks for its place.
    unsafe fn first_value(object: *mut ffi::PyObject) -> *mut u8 {
        object.cast()
    }
    fn end(base_size: usize) -> usize {
        base_size + domain::ROOM
    }
    fn is_over_slots() -> bool {
        true
    }
    // SAFETY: there is no value; the pointer is not looked at.
    unsafe fn drop_value(_: *mut ffi::PyObject) {}
    // SAFETY: there is no value; the pointer is not looked at.
    unsafe fn write_value(_: *mut ffi::PyObject, _: Self) {}
    // SAFETY: there is no value; the pointer is not looked at.
    unsafe fn peek<'a>(_: *mut ffi::PyObject) -> &'a Self {
        &NoParent
    }
    // SAFETY: there is no value; the pointer is not looked at.
    unsafe fn visit(_: *mut ffi::PyObject, _: &mut Visit<'_>) {}
    // SAFETY: there is no value; the pointer is not looked at.
    unsafe fn clear_value(_: *mut ffi::PyObject) {}
    fn place(base_size: usize) -> usize {
        base_size
    }
    fn have_child(_: &Obj, _: Option<&Obj>, _: usize) -> bool {
        true
    }
}

impl<T: Hot> Payload for T {
    const DEPTH: usize = T::Parent::DEPTH + 1;
    #[inline(always)]
    unsafe fn first_value(object: *mut ffi::PyObject) -> *mut u8 {
        const { assert!(T::DEPTH <= 2, "a parent has no parent") };
        // SAFETY: by the contract; all objects of a type with a parent hold the parent's value where
        // the type's own do.
        unsafe {
            if T::DEPTH == 1 {
                value_of::<T>(object).cast()
            } else {
                let offset = T::info().parent_offset.load(Ordering::Relaxed);
                object.cast::<u8>().add(offset)
            }
        }
    }
    fn end(base_size: usize) -> usize {
        (offset_after::<T>(base_size) + size_of::<T>()).max(base_size)
    }
    fn is_over_slots() -> bool {
        T::info().place_over_slots.load(Ordering::Relaxed) != 0
    }
    unsafe fn drop_value(object: *mut ffi::PyObject) {
        // SAFETY: by the contract; the value lies at the type's offset.
        unsafe {
            std::ptr::drop_in_place(value_of::<T>(object));
            T::Parent::drop_value(object);
        }
    }
    unsafe fn write_value(object: *mut ffi::PyObject, value: Self) {
        // SAFETY: by the contract; the value lies at the type's offset.
        unsafe { std::ptr::write(value_of::<T>(object), value) }
    }
    unsafe fn peek<'a>(object: *mut ffi::PyObject) -> &'a Self {
        // SAFETY: by the contract; the value lies at the type's offset.
        unsafe { &*value_of::<T>(object) }
    }
    unsafe fn visit(object: *mut ffi::PyObject, visit: &mut Visit<'_>) {
        // SAFETY: by the contract; the value lies at the type's offset.
        unsafe {
            (*value_of::<T>(object)).traverse(visit);
            T::Parent::visit(object, visit);
        }
    }
    unsafe fn clear_value(object: *mut ffi::PyObject) {
        // SAFETY: by the contract; the value lies at the type's offset.
        unsafe {
            (*value_of::<T>(object)).clear();
            T::Parent::clear_value(object);
        }
    }
    fn place(base_size: usize) -> usize {
        offset_after::<T>(base_size)
    }
    fn have_child(class: &Obj, base: Option<&Obj>, base_size: usize) -> bool {
        let info = T::info();
        if T::is_over_slots() {
            let place = base.and_then(members::place::<T>);
            return place == Some(info.offset.load(Ordering::Relaxed));
        }
        let class = class.as_ptr().cast();
        let same = info.base_size.load(Ordering::Relaxed) == base_size;
        let first = info.child.load(Ordering::Relaxed).is_null();
        if info.class().is_null() || !(same || T::MOVES_IN_CHILD && first) {
            return false;
        }
        if !same {
            let offset = offset_after::<T>(base_size);
            info.offset_in_child.store(offset, Ordering::Relaxed);
            info.child.store(class, Ordering::Relaxed);
        }
        info.remember_subclass(class);
        true
    }
}

/// The offset at which a hot type's own value begins.
pub(crate) fn offset_after<T: Hot>(base_size: usize) -> usize {
    let over = T::info().place_over_slots.load(Ordering::Relaxed);
    if over != 0 {
        return over;
    }
    T::Parent::end(base_size).next_multiple_of(align_of::<T>().max(8))
}

/// The offset of the value in objects of a type that is not [`Hot::BASED`].
pub(crate) const fn plain_offset<T>() -> usize {
    let align = if align_of::<T>() > 8 {
        align_of::<T>()
    } else {
        8
    };
    (size_of::<ffi::PyObject>() + domain::ROOM).next_multiple_of(align)
}

/// Gives a hot type its [`TypeInfo`]. It is used inside the `impl Hot`.
#[macro_export]
macro_rules! hot_type {
    () => {
        fn info() -> &'static $crate::hot::TypeInfo {
            static INFO: $crate::hot::TypeInfo = $crate::hot::TypeInfo::new();
            &INFO
        }
    };
}

/// The value inside an object.
///
/// # Safety
/// The object is of the hot type or of a subclass.
#[inline]
pub(crate) unsafe fn value_of<T: Hot>(object: *mut ffi::PyObject) -> *mut T {
    let info = T::info();
    // SAFETY: the offset lies within the objects of the type; `build` has seen to it that it is
    // the plain one where that is promised.
    unsafe {
        let offset = if !T::BASED {
            plain_offset::<T>()
        } else if T::MOVES_IN_CHILD && ffi::Py_TYPE(object) != info.class() {
            offset_elsewhere(info, ffi::Py_TYPE(object))
        } else {
            info.offset.load(Ordering::Relaxed)
        };
        object.cast::<u8>().add(offset).cast()
    }
}

/// The offset at which objects of a subclass hold the value of a type that moves in its child.
///
/// # Safety
/// The class is a subclass of the type.
#[inline]
unsafe fn offset_elsewhere(info: &TypeInfo, class: *mut ffi::PyTypeObject) -> usize {
    let child = info.child.load(Ordering::Relaxed);
    // SAFETY: the child, once there, is kept for ever.
    let derives = || unsafe { ffi::PyType_IsSubtype(class, child) != 0 };
    let moved = class == child || !child.is_null() && derives();
    if moved {
        info.offset_in_child.load(Ordering::Relaxed)
    } else {
        info.offset.load(Ordering::Relaxed)
    }
}

/// An owned reference to an object of a hot type; dereferences to its value.
#[repr(transparent)]
pub struct Ref<T: Hot>(Obj, PhantomData<*const T>);

impl<T: Hot> Clone for Ref<T> {
    #[inline]
    fn clone(&self) -> Self {
        Ref(self.0.clone(), PhantomData)
    }
}

impl<T: Hot> Deref for Ref<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        #[cfg(all(Py_GIL_DISABLED, debug_assertions))]
        domain::assert_here(self);
        #[cfg(Py_GIL_DISABLED)]
        domain::note_use(self);
        // SAFETY: a Ref is only made of objects of the type, and keeps its object alive.
        unsafe { &*value_of::<T>(self.0.as_ptr()) }
    }
}

impl<T: Hot> Ref<T> {
    /// The type object.
    #[inline]
    pub fn class(_py: Python<'_>) -> Obj {
        let class = T::info().class();
        assert!(!class.is_null(), "the type is not built");
        // SAFETY: the token proves that we are attached; a type once built is kept for ever.
        unsafe { Obj::from_borrowed(class.cast()) }
    }

    /// The address of the type, for comparisons; 0 until it is built.
    #[inline]
    pub fn class_address() -> usize {
        T::info().class() as usize
    }

    /// Whether the object is of exactly this type.
    #[inline]
    pub fn is_exact(object: &Obj) -> bool {
        object.class_address() == T::info().class() as usize
    }

    /// Whether the object is of this type or of a subclass.
    #[inline]
    pub fn is(object: &Obj) -> bool {
        Self::is_exact(object)
            || object.class_address() == T::info().subclass.load(Ordering::Relaxed) as usize
            || Self::is_of_subclass(object)
    }

    /// The object as one of this type, if it is of exactly this type or of the subclass that was
    /// remembered, of any [domain].
    #[inline]
    pub(crate) fn of_known_any(object: &Obj) -> Option<&Ref<T>> {
        let subclass = T::info().subclass.load(Ordering::Relaxed);
        let known = Self::is_exact(object) || object.class_address() == subclass as usize;
        // SAFETY: the type was checked; Ref is transparent over Obj.
        known.then(|| unsafe { Self::of_unchecked(object) })
    }

    #[inline(never)]
    fn is_of_subclass(object: &Obj) -> bool {
        let is_of = |class: *mut ffi::PyTypeObject| {
            if class.is_null() {
                return false;
            }
            // SAFETY: the object is alive and its type with it; ours, once built, and the one that
            // is left out are kept for ever.
            unsafe { ffi::PyType_IsSubtype(ffi::Py_TYPE(object.as_ptr()), class) != 0 }
        };
        is_of(T::info().class()) && !is_of(T::info().left_out.load(Ordering::Relaxed))
    }

    /// Lets objects of a subclass, and of classes derived from it, count as objects of another
    /// type. Methods of this type still get them. The class is kept for ever. Raises TypeError if
    /// the object is no class.
    pub fn leave_out(class: &Obj) -> Result<(), Raised> {
        // SAFETY: attached, as an object is at hand; only reads the types.
        let is_subclass = unsafe {
            ffi::PyType_Check(class.as_ptr()) != 0
                && ffi::PyType_IsSubtype(class.as_ptr().cast(), T::info().class()) != 0
        };
        if !is_subclass {
            return Err(Raised::type_error(class.py(), "not a subclass"));
        }
        let kept = class.clone().into_ptr();
        T::info().left_out.store(kept.cast(), Ordering::Relaxed);
        Ok(())
    }

    /// Remembers the object's class as the subclass of most objects, for ever. Only the first call
    /// has an effect.
    pub fn remember_class(object: &Ref<T>) {
        if Self::is(&object.0) {
            // SAFETY: only reads the type.
            T::info().remember_subclass(unsafe { ffi::Py_TYPE(object.0.as_ptr()) });
        }
    }

    /// The object as one of this type, if it is one and of this [domain].
    #[inline]
    pub fn of(object: &Obj) -> Option<&Ref<T>> {
        Self::of_any(object).filter(|this| this.is_here())
    }

    /// The object as one of this type, if it is one, of any [domain]. Its value must
    /// only be used [within](Ref::within) that.
    #[inline]
    pub fn of_any(object: &Obj) -> Option<&Ref<T>> {
        // SAFETY: the type was checked; Ref is transparent over Obj.
        Self::is(object).then(|| unsafe { Self::of_unchecked(object) })
    }

    /// Takes the reference as one to an object of exactly this type, if it is one, of any
    /// [domain].
    #[inline]
    pub fn into_exact_any(object: Obj) -> Result<Ref<T>, Obj> {
        if Self::is_exact(&object) {
            Ok(Ref(object, PhantomData))
        } else {
            Err(object)
        }
    }

    /// Whether the object is of exactly this type, only the holder of this reference can reach it,
    /// and nobody has left anything on it: no weak reference, no attribute.
    #[inline]
    pub fn is_unshared(&self) -> bool {
        let info = T::info();
        let object = self.0.as_ptr();
        let is_empty = |offset: isize| {
            // SAFETY: the places of weak references and of a dict are words of the object.
            offset == 0 || unsafe { *object.cast::<u8>().offset(offset).cast::<usize>() == 0 }
        };
        #[cfg(Py_GIL_DISABLED)]
        if info
            .bare_slots
            .get()
            .is_some_and(|slots| !slots.iter().all(|slot| is_empty(*slot as isize)))
        {
            return false;
        }
        self.0.is_unique()
            && Self::is_exact(&self.0)
            && is_empty(info.weakrefs_offset.load(Ordering::Relaxed))
            && !self.has_attributes()
    }

    /// Whether the object may have attributes of its own: a program has set one, or has asked for
    /// its `__dict__`.
    #[inline(always)]
    pub fn has_attributes(&self) -> bool {
        let place = T::info().attributes.load(Ordering::Relaxed);
        // SAFETY: the place is a word of the object.
        place != 0 && unsafe { *self.0.as_ptr().cast::<u8>().offset(place).cast::<usize>() != 0 }
    }

    /// The object as one of exactly this type, if it is one and has no attributes of its own. Then
    /// its methods are those of the type and need not be called by name.
    #[inline(always)]
    pub fn of_bare(object: &Obj) -> Option<&Ref<T>> {
        Self::of_exact(object).filter(|this| !this.has_attributes())
    }

    /// The object as one of exactly this type, if it is one and of this [domain].
    #[inline]
    pub fn of_exact(object: &Obj) -> Option<&Ref<T>> {
        Self::of_exact_any(object).filter(|this| this.is_here())
    }

    /// The object as one of exactly this type, if it is one, of any [domain]. Its
    /// value must only be used [within](Ref::within) that.
    #[inline]
    pub fn of_exact_any(object: &Obj) -> Option<&Ref<T>> {
        // SAFETY: the type was checked; Ref is transparent over Obj.
        Self::is_exact(object).then(|| unsafe { Self::of_unchecked(object) })
    }

    /// As [`Ref::of`] without the check.
    ///
    /// # Safety
    /// The object is of the type.
    #[inline]
    pub(crate) unsafe fn of_unchecked(object: &Obj) -> &Ref<T> {
        // SAFETY: Ref is transparent over Obj.
        unsafe { &*std::ptr::from_ref(object).cast::<Ref<T>>() }
    }

    /// The reference as one to any object.
    #[inline]
    pub fn as_obj(&self) -> &Obj {
        &self.0
    }

    /// The reference as one to any object.
    #[inline]
    pub fn into_obj(self) -> Obj {
        self.0
    }

    /// The token that a reference stands for.
    #[inline]
    pub fn py(&self) -> Python<'_> {
        self.0.py()
    }

    /// Shows the object to the garbage collector, if that has not been done.
    pub fn track(&self) {
        let object = self.0.as_ptr();
        // SAFETY: the object is whole; objects of hot types are made for the collector.
        unsafe {
            if ffi::PyObject_GC_IsTracked(object) == 0 {
                ffi::PyObject_GC_Track(object.cast());
            }
        }
    }
}

impl<T: Hot> Ref<T>
where
    T::Parent: Hot,
{
    /// The parent's value. This costs less than [`Ref::parent`] if the parent's value moves in its
    /// child.
    #[inline]
    pub fn parent_value(&self) -> &T::Parent {
        #[cfg(all(Py_GIL_DISABLED, debug_assertions))]
        domain::assert_here(self);
        #[cfg(Py_GIL_DISABLED)]
        domain::note_use(self);
        let offset = T::info().parent_offset.load(Ordering::Relaxed);
        // SAFETY: the object is of T or of a subclass, and all of these hold the parent's value
        // where T does.
        unsafe { &*self.0.as_ptr().cast::<u8>().add(offset).cast() }
    }

    /// The same object as one of the parent type.
    #[inline]
    pub fn parent(&self) -> &Ref<T::Parent> {
        // SAFETY: every object of T holds a value of the parent at the parent's offset: both
        // are written when it is made, and `build` refuses a child that would have it elsewhere.
        unsafe { Ref::of_unchecked(&self.0) }
    }
}

impl<T: Hot<Parent = NoParent>> Ref<T> {
    /// Makes an object of exactly this type.
    #[inline]
    pub fn new(py: Python<'_>, value: T) -> Result<Ref<T>, Raised> {
        Ref::make(py, || value)
    }

    /// As [`Ref::new`], for a value that is made in its place. A value that is made first is copied
    /// there, and the processor stalls when it reads in large pieces what was just written in small
    /// ones. The function must not run foreign code.
    #[inline(always)]
    pub fn make(py: Python<'_>, value: impl FnOnce() -> T) -> Result<Ref<T>, Raised> {
        // SAFETY: the object is new; the value is written, at its place in objects of exactly
        // this type, before anybody sees it.
        unsafe {
            let object = allocate::<T>(py)?;
            let offset = if T::BASED {
                T::info().offset.load(Ordering::Relaxed)
            } else {
                plain_offset::<T>()
            };
            object.cast::<u8>().add(offset).cast::<T>().write(value());
            finish::<T>(object)
        }
    }
}

impl<T: Hot> Ref<T>
where
    T::Parent: Hot<Parent = NoParent>,
{
    /// Makes an object of exactly this type, with its parent's value. Both are made in their
    /// places, as by [`Ref::make`].
    #[inline(always)]
    pub fn with_parent(
        py: Python<'_>,
        parent: impl FnOnce() -> T::Parent,
        value: impl FnOnce() -> T,
    ) -> Result<Ref<T>, Raised> {
        let info = T::info();
        // SAFETY: the object is new; both values are written, at their places in objects of
        // exactly this type, before anybody sees it.
        unsafe {
            let object = allocate::<T>(py)?;
            let start = object.cast::<u8>();
            let offset = info.parent_offset.load(Ordering::Relaxed);
            start.add(offset).cast::<T::Parent>().write(parent());
            let offset = info.offset.load(Ordering::Relaxed);
            start.add(offset).cast::<T>().write(value());
            finish::<T>(object)
        }
    }
}

/// Memory for an object of exactly the type, its header filled, its foreign part zeroed, not yet
/// seen by the garbage collector.
///
/// # Safety
/// The caller writes all values before any other code sees the object.
#[inline]
unsafe fn allocate<T: Hot>(py: Python<'_>) -> Result<*mut ffi::PyObject, Raised> {
    let info = T::info();
    let class = info.class();
    // SAFETY: the GIL is held (token). An object in the freelist has the size of the type and
    // nothing in it but its type: it is made anew as CPython makes those of its own freelists.
    unsafe {
        #[cfg(not(Py_GIL_DISABLED))]
        let freed = (*info.freelist.get()).pop();
        #[cfg(Py_GIL_DISABLED)]
        let freed = domain::take_freed::<T>();
        if let Some(object) = freed {
            new_reference(object);
            return Ok(object);
        }
        if class.is_null() {
            return Err(Raised::runtime_error(py, "the type is not built"));
        }
        let object = ffi::PyType_GenericAlloc(class, 0);
        if object.is_null() {
            return Err(Raised::by_cpython());
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        #[cfg(Py_GIL_DISABLED)]
        {
            sanitizer::acquired(object);
            domain::settle::<T>(object);
        }
        Ok(object)
    }
}

/// Shows a filled object to the garbage collector.
///
/// # Safety
/// The object comes from [`allocate`], its values are written, and the caller gives its reference
/// away.
#[inline]
unsafe fn finish<T: Hot>(object: *mut ffi::PyObject) -> Result<Ref<T>, Raised> {
    // SAFETY: the object is whole and not tracked.
    unsafe {
        if T::TRACKED {
            ffi::PyObject_GC_Track(object.cast());
        }
        Ok(Ref(Obj::from_owned(object)?, PhantomData))
    }
}

/// Memory for an object of the type or of a subclass, for `tp_new`. Where the garbage collector
/// does not know it yet, [`Ref::track`] must follow once the values are written.
///
/// # Safety
/// The class is a hot type or a subclass of one, and the caller writes all values before any Python
/// code runs.
pub(crate) unsafe fn allocate_subclass<T: Hot>(
    py: Python<'_>,
    class: *mut ffi::PyTypeObject,
) -> Result<*mut ffi::PyObject, Raised> {
    // SAFETY: the class is a ready type, T's own or a subclass; every ready type has tp_alloc.
    // The caller writes the value before anything else can run.
    unsafe {
        if class == T::info().class() {
            return allocate::<T>(py);
        }
        if T::info().managed_dict.load(Ordering::Relaxed) != 0 {
            // CPython takes a class and its base with such a dict to be alike in this. Every object
            // of the class is made here, so there is none before the first.
            leave_no_room(class);
        }
        let allocate = (*class).tp_alloc.unwrap_or(ffi::PyType_GenericAlloc);
        let object = allocate(class, 0);
        if object.is_null() {
            return Err(Raised::by_cpython());
        }
        #[cfg(Py_GIL_DISABLED)]
        {
            sanitizer::acquired(object);
            domain::settle::<T>(object);
        }
        Ok(object)
    }
}
