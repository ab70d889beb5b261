//! Makes type objects of hot types.

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use pyo3::{Python, ffi};

use crate::args::Args;
use crate::attributes::{leave_no_room, managed_dict, type_flags};
use crate::error::Raised;
use crate::functions::{keep, method_def};
use crate::hot::{Hot, NoParent, Payload, Ref, TYPE_WORD, UNKNOWN, offset_after, plain_offset};
use crate::lifecycle::{clear, dealloc, finalize, traverse};
use crate::members;
use crate::obj::Obj;
use crate::refcount::keep_for_ever;
use crate::slot::Slot;
use crate::trampolines::{
    Object, am_send, class_arg, dict_getter, dict_setter, getter, init, iternext, itself,
    many_args, new_child, new_plain, no_args, no_new, one_arg, setattro, setter, unary,
};

pub use crate::answer::Answer;
pub use crate::attributes::leave_no_room_for_attributes;
pub use crate::functions::{MethodDef, bound_method, bound_method0, function};
pub use crate::trampolines::Next;

/// Collects methods, properties and slots of a hot type.
pub struct Builder<T: Hot> {
    methods: Vec<ffi::PyMethodDef>,
    getsets: Vec<ffi::PyGetSetDef>,
    slots: Vec<ffi::PyType_Slot>,
    has_new: bool,
    has_dict: bool,
    has_weak_references: bool,
    /// The getter and the setter of an instance's `__dict__`.
    dict_access: (ffi::getter, ffi::setter),
    /// Names that the slots give the type and that Python code must not see.
    hidden: Vec<&'static CStr>,
    phantom: PhantomData<T>,
}

impl<T: Hot> Builder<T> {
    fn slot(&mut self, slot: c_int, pointer: *mut c_void) -> &mut Self {
        self.slots.push(ffi::PyType_Slot {
            slot,
            pfunc: pointer,
        });
        self
    }

    /// A method without arguments.
    pub fn method0<F, R>(&mut self, name: &'static CStr, doc: &'static CStr, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        let pointer = ffi::PyMethodDefPointer {
            PyCFunction: no_args::<T, F, R>,
        };
        self.methods
            .push(method_def(name, pointer, ffi::METH_NOARGS, doc));
        self
    }

    /// As [`Builder::method0`], for a method that any thread may call without waiting for the
    /// object's [domain](crate::domain). It reads only fields of the value that are atomic.
    pub fn method0_anywhere<F, R>(
        &mut self,
        name: &'static CStr,
        doc: &'static CStr,
        _: F,
    ) -> &mut Self
    where
        F: Fn(&Ref<T>) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        #[cfg(Py_GIL_DISABLED)]
        let function = crate::trampolines::no_args_anywhere::<T, F, R>;
        #[cfg(not(Py_GIL_DISABLED))]
        let function = no_args::<T, F, R>;
        let pointer = ffi::PyMethodDefPointer {
            PyCFunction: function,
        };
        self.methods
            .push(method_def(name, pointer, ffi::METH_NOARGS, doc));
        self
    }

    /// A method with one positional argument.
    pub fn method1<F, R>(&mut self, name: &'static CStr, doc: &'static CStr, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>, &Obj) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        let pointer = ffi::PyMethodDefPointer {
            PyCFunction: one_arg::<T, F, R>,
        };
        self.methods
            .push(method_def(name, pointer, ffi::METH_O, doc));
        self
    }

    /// A method with any arguments.
    pub fn method<F, R>(&mut self, name: &'static CStr, doc: &'static CStr, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>, &Args<'_>) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        let pointer = ffi::PyMethodDefPointer {
            PyCFunctionFastWithKeywords: many_args::<T, F, R>,
        };
        let flags = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
        self.methods.push(method_def(name, pointer, flags, doc));
        self
    }

    /// A class method with one argument.
    pub fn class_method<F, R>(&mut self, name: &'static CStr, doc: &'static CStr, _: F) -> &mut Self
    where
        F: Fn(&Obj, &Obj) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        let pointer = ffi::PyMethodDefPointer {
            PyCFunction: class_arg::<F, R>,
        };
        self.methods.push(method_def(
            name,
            pointer,
            ffi::METH_O | ffi::METH_CLASS,
            doc,
        ));
        self
    }

    /// A property that can only be read.
    pub fn get<F, R>(&mut self, name: &'static CStr, doc: &'static CStr, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        self.getsets.push(ffi::PyGetSetDef {
            name: name.as_ptr(),
            get: Some(getter::<T, F, R>),
            set: None,
            doc: doc.as_ptr(),
            closure: std::ptr::null_mut(),
        });
        self
    }

    /// A property that can be read, set and deleted. Deleting passes `None` to the setter.
    pub fn get_set<F, R, G>(
        &mut self,
        name: &'static CStr,
        doc: &'static CStr,
        _: F,
        _: G,
    ) -> &mut Self
    where
        F: Fn(&Ref<T>) -> R + Copy + 'static,
        R: Answer + 'static,
        G: Fn(&Ref<T>, Option<&Obj>) -> Result<(), Raised> + Copy + 'static,
    {
        self.getsets.push(ffi::PyGetSetDef {
            name: name.as_ptr(),
            get: Some(getter::<T, F, R>),
            set: Some(setter::<T, G>),
            doc: doc.as_ptr(),
            closure: std::ptr::null_mut(),
        });
        self
    }

    /// A property backed by a field. The field is empty while the property is None.
    pub fn attribute<F>(&mut self, name: &'static CStr, doc: &'static CStr, field: F) -> &mut Self
    where
        F: Fn(&T) -> &Slot + Copy + 'static,
    {
        let set = move |this: &Ref<T>, value: Option<&Obj>| {
            field(this).set(value.cloned().and_then(Obj::not_none));
            Ok(())
        };
        self.get_set(name, doc, move |this| field(this).get(), set)
    }

    /// A property backed by a flag. Any object with a truth value can be assigned.
    pub fn flag<F>(&mut self, name: &'static CStr, doc: &'static CStr, field: F) -> &mut Self
    where
        F: Fn(&T) -> &Cell<bool> + Copy + 'static,
    {
        let set = move |this: &Ref<T>, value: Option<&Obj>| {
            let flag = value.map_or(Ok(false), Obj::truth)?;
            field(this).set(flag);
            Ok(())
        };
        self.get_set(name, doc, move |this| field(this).get(), set)
    }

    /// `__init__`.
    pub fn init<F>(&mut self, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>, &Args<'_>) -> Result<(), Raised> + Copy + 'static,
    {
        self.slot(ffi::Py_tp_init, init::<T, F> as *mut c_void)
    }

    /// `__repr__`.
    pub fn repr<F, R>(&mut self, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        self.slot(ffi::Py_tp_repr, unary::<T, F, R> as *mut c_void)
    }

    /// `__iter__`.
    pub fn iter<F, R>(&mut self, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        self.slot(ffi::Py_tp_iter, unary::<T, F, R> as *mut c_void)
    }

    /// `__aiter__`.
    pub fn async_iter<F, R>(&mut self, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        self.slot(ffi::Py_am_aiter, unary::<T, F, R> as *mut c_void)
    }

    /// `__await__`.
    pub fn awaits<F, R>(&mut self, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        self.slot(ffi::Py_am_await, unary::<T, F, R> as *mut c_void)
    }

    /// Lets `await object` iterate over the object itself, by its [`Builder::step`]. A caller of
    /// `__await__()` gets what the function makes. Python code does not see that the object can be
    /// iterated: only the interpreter's `await` does.
    pub fn awaits_itself<F, R>(&mut self, doc: &'static CStr, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        let pointer = ffi::PyMethodDefPointer {
            PyCFunction: no_args::<T, F, R>,
        };
        let flags = ffi::METH_NOARGS | ffi::METH_COEXIST;
        self.methods
            .push(method_def(c"__await__", pointer, flags, doc));
        self.hidden.push(c"__next__");
        self.slot(ffi::Py_am_await, itself as *mut c_void)
    }

    /// One step, for both of CPython's ways to drive an iterator: `__next__` (3.14's `await`)
    /// and `am_send` (3.15's).
    pub fn step<F>(&mut self, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>, &Obj) -> Result<Next, Raised> + Copy + 'static,
    {
        self.slot(ffi::Py_tp_iternext, iternext::<T, F> as *mut c_void);
        self.slot(ffi::Py_am_send, am_send::<T, F> as *mut c_void)
    }

    /// Lets instances have attributes of their own, in a dict that is made for the first one. A
    /// type that is the parent of others must not use it.
    pub fn instance_dict(&mut self) -> &mut Self {
        self.has_dict = true;
        self
    }

    /// As [`Builder::instance_dict`], and calls the first function before anyone gets an instance's
    /// `__dict__`, the second before an instance gets another dict.
    pub fn watched_dict<F, G>(&mut self, _: F, _: G) -> &mut Self
    where
        F: Fn(&Ref<T>) -> Result<(), Raised> + Copy + 'static,
        G: Fn(&Ref<T>) -> Result<(), Raised> + Copy + 'static,
    {
        self.dict_access = (dict_getter::<T, F>, dict_setter::<T, G>);
        T::info().watches_dict.store(true, Ordering::Relaxed);
        self.instance_dict()
    }

    /// Lets instances be referred to weakly. A type that is the parent of others must not use it.
    pub fn weak_references(&mut self) -> &mut Self {
        self.has_weak_references = true;
        self
    }

    /// `__str__`.
    pub fn string<F, R>(&mut self, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>) -> R + Copy + 'static,
        R: Answer + 'static,
    {
        self.slot(ffi::Py_tp_str, unary::<T, F, R> as *mut c_void)
    }

    /// Tells CPython where instances keep their dict and their weak references: in the words from
    /// `end` on. Returns the end of those words.
    fn add_members(&mut self, end: usize) -> usize {
        let mut members = Vec::new();
        let mut end = end;
        for (name, wanted) in [
            (c"__dictoffset__", self.has_dict),
            (c"__weaklistoffset__", self.has_weak_references),
        ] {
            if wanted {
                members.push(ffi::PyMemberDef {
                    name: name.as_ptr(),
                    type_code: ffi::Py_T_PYSSIZET,
                    offset: end as ffi::Py_ssize_t,
                    flags: ffi::Py_READONLY,
                    doc: std::ptr::null(),
                });
                end += size_of::<Object>();
            }
        }
        if !members.is_empty() {
            members.push(ffi::PyMemberDef::default());
            self.slot(ffi::Py_tp_members, keep(members).cast());
        }
        if self.has_dict {
            self.add_dict();
        }
        end
    }

    fn add_dict(&mut self) {
        self.getsets.push(ffi::PyGetSetDef {
            name: c"__dict__".as_ptr(),
            get: Some(self.dict_access.0),
            set: Some(self.dict_access.1),
            doc: std::ptr::null(),
            closure: std::ptr::null_mut(),
        });
    }

    /// Calls the function with the name of each attribute before it is set or deleted on an
    /// instance.
    pub fn on_set_attribute<F>(&mut self, _: F) -> &mut Self
    where
        F: Fn(&Ref<T>, &Obj) + Copy + 'static,
    {
        self.slot(ffi::Py_tp_setattro, setattro::<T, F> as *mut c_void)
    }
}

impl<T: Hot<Parent = NoParent>> Builder<T> {
    /// `__new__`: makes the value of an object that `__init__` will fill.
    pub fn new_value<F>(&mut self, _: F) -> &mut Self
    where
        F: Fn(Python<'_>) -> Result<T, Raised> + Copy + 'static,
    {
        self.has_new = true;
        self.slot(ffi::Py_tp_new, new_plain::<T, F> as *mut c_void)
    }
}

impl<T: Hot> Builder<T>
where
    T::Parent: Hot<Parent = NoParent>,
{
    /// `__new__`: makes the values of an object that `__init__` will fill.
    pub fn new_values<F>(&mut self, _: F) -> &mut Self
    where
        F: Fn(Python<'_>) -> Result<(T::Parent, T), Raised> + Copy + 'static,
    {
        self.has_new = true;
        self.slot(ffi::Py_tp_new, new_child::<T, F> as *mut c_void)
    }
}

/// The size of a type's objects, in bytes.
pub fn basic_size(class: &Obj) -> usize {
    // SAFETY: checked to be a type.
    unsafe {
        if ffi::PyType_Check(class.as_ptr()) == 0 {
            return 0;
        }
        (*class.as_ptr().cast::<ffi::PyTypeObject>()).tp_basicsize as usize
    }
}

/// Builds the type object of a hot type.
///
/// `base` is the foreign base type. `room` is the least size of header and foreign part together:
/// by it a parent and its child agree on where the parent's value lies, although their foreign
/// bases differ in size (see also [`Hot::MOVES_IN_CHILD`]). If it is 0, a value with
/// [`Hot::MEMBERS`] lies over the slots of its base, where these fit. A parent is built before its
/// child.
///
/// # Errors
/// RuntimeError if parent and child do not agree, and whatever CPython raises for a type that it
/// refuses.
pub fn build<T: Hot>(py: Python<'_>, base: Option<&Obj>, room: usize) -> Result<Obj, Raised> {
    let info = T::info();
    if !info.class().is_null() {
        return Ok(Ref::<T>::class(py));
    }
    let base_size = base
        .map_or(size_of::<ffi::PyObject>(), basic_size)
        .max(room)
        .next_multiple_of(align_of::<usize>());
    let over = if room == 0 && T::Parent::is_over_slots() {
        base.and_then(members::place::<T>)
    } else {
        None
    };
    info.place_over_slots
        .store(over.unwrap_or(0), Ordering::Relaxed);
    if !T::BASED && offset_after::<T>(base_size) != plain_offset::<T>() {
        let text = "the type has a base although it declares none";
        return Err(Raised::runtime_error(py, text));
    }
    let mut builder = Builder::<T> {
        methods: Vec::new(),
        getsets: Vec::new(),
        slots: Vec::new(),
        has_new: false,
        hidden: Vec::new(),
        has_dict: false,
        has_weak_references: false,
        dict_access: (ffi::PyObject_GenericGetDict, ffi::PyObject_GenericSetDict),
        phantom: PhantomData,
    };
    T::build(&mut builder);
    // SAFETY: all tables end with a zeroed entry and are kept for ever, as CPython keeps
    // pointers into them; the functions have the signatures that their slots demand; the size
    // has room for the foreign part and all values.
    unsafe {
        builder.slot(ffi::Py_tp_doc, T::DOC.as_ptr() as *mut c_void);
        builder.slot(ffi::Py_tp_traverse, traverse::<T> as *mut c_void);
        builder.slot(ffi::Py_tp_clear, clear::<T> as *mut c_void);
        builder.slot(ffi::Py_tp_dealloc, dealloc::<T> as *mut c_void);
        if T::FINALIZES {
            builder.slot(ffi::Py_tp_finalize, finalize::<T> as *mut c_void);
        }
        if !builder.has_new {
            builder.slot(ffi::Py_tp_new, no_new as *mut c_void);
        }
        builder.methods.push(std::mem::zeroed());
        let methods = keep(std::mem::take(&mut builder.methods));
        builder.slot(ffi::Py_tp_methods, methods.cast());
        let value_end = T::end(base_size).next_multiple_of(align_of::<usize>());
        let size = builder.add_members(value_end);
        builder.getsets.push(std::mem::zeroed());
        let getsets = keep(std::mem::take(&mut builder.getsets));
        builder.slot(ffi::Py_tp_getset, getsets.cast());
        builder.slots.push(std::mem::zeroed());

        let mut flags = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_HAVE_GC;
        if T::SUBCLASSABLE {
            flags |= ffi::Py_TPFLAGS_BASETYPE;
        }
        let mut spec = ffi::PyType_Spec {
            name: T::NAME.as_ptr(),
            basicsize: size as c_int,
            itemsize: 0,
            flags: flags as _,
            slots: builder.slots.as_mut_ptr(),
        };
        let bases = match base {
            Some(base) => Some(Obj::tuple(py, std::slice::from_ref(base))?),
            None => None,
        };
        let class = Obj::from_owned(ffi::PyType_FromSpecWithBases(
            &mut spec,
            bases.as_ref().map_or(std::ptr::null_mut(), Obj::as_ptr),
        ))?;
        let pointer = class.as_ptr().cast::<ffi::PyTypeObject>();
        leave_no_room(pointer);
        if !T::Parent::have_child(&class, base, base_size) {
            let text = "parent and child differ in layout, or the parent is not built";
            return Err(Raised::runtime_error(py, text));
        }
        for name in &builder.hidden {
            // The name goes out of the dict alone: deleting the attribute would empty the slot.
            if ffi::PyDict_DelItemString((*pointer).tp_dict, name.as_ptr()) < 0 {
                return Err(Raised::by_cpython());
            }
        }
        if let Some(base) = base {
            let base = native_base(py, base)?.cast::<ffi::PyTypeObject>();
            if let Some(traverse) = (*base).tp_traverse {
                info.base_traverse
                    .store(traverse as *mut c_void, Ordering::Relaxed);
                let visits = type_flags(base) & ffi::Py_TPFLAGS_HEAPTYPE != 0;
                info.base_visits_type
                    .store(usize::from(visits), Ordering::Relaxed);
            }
            if let Some(clear) = (*base).tp_clear {
                info.base_clear
                    .store(clear as *mut c_void, Ordering::Relaxed);
            }
        }
        #[cfg(Py_GIL_DISABLED)]
        {
            static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
            info.number
                .store(NUMBER.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        }
        #[cfg(Py_GIL_DISABLED)]
        if let (Some(base), false) = (base, T::MEMBERS.is_empty()) {
            let _ = info.bare_slots.set(members::bare_slots(base)?);
        }
        info.weakrefs_offset
            .store((*pointer).tp_weaklistoffset as isize, Ordering::Relaxed);
        info.base_size.store(base_size, Ordering::Relaxed);
        info.parent_offset
            .store(T::Parent::place(base_size), Ordering::Relaxed);
        let managed = managed_dict(pointer);
        let of_base = match managed {
            0 => (*pointer).tp_dictoffset.max(0) as isize,
            managed => managed,
        };
        if builder.has_dict {
            info.dict_offset.store(value_end, Ordering::Relaxed);
        }
        let attributes = match (builder.has_dict, of_base) {
            (true, _) => value_end as isize,
            (false, UNKNOWN) => TYPE_WORD,
            (false, place) => place,
        };
        info.managed_dict.store(managed, Ordering::Relaxed);
        info.attributes.store(attributes, Ordering::Relaxed);
        info.offset
            .store(offset_after::<T>(base_size), Ordering::Relaxed);
        keep_for_ever(&class);
        // The type lives as long as the process: its address is in `info`.
        let class_kept = class.clone().into_ptr();
        info.class.store(class_kept.cast(), Ordering::Relaxed);
        Ok(class)
    }
}

/// The nearest base that no Python code has made: its slots look after the foreign part.
///
/// The slots of a class made in Python start at the object's own type and look for the first base
/// with other slots. That would be ours, and the two would call each other without end. What such a
/// class adds (`__slots__`) stays empty in hot types.
fn native_base(py: Python<'_>, base: &Obj) -> Result<Object, Raised> {
    let probe = Obj::class_of::<pyo3::types::PyType>(py).call(&[
        &Obj::str(py, "probe")?,
        &Obj::tuple(py, &[])?,
        &Obj::dict(py)?,
    ])?;
    // SAFETY: both are types; a type's bases live as long as it does, and `object` ends them.
    unsafe {
        let made_in_python = (*probe.as_ptr().cast::<ffi::PyTypeObject>()).tp_traverse;
        let mut base = base.as_ptr().cast::<ffi::PyTypeObject>();
        while (*base).tp_traverse.map(|slot| slot as usize)
            == made_in_python.map(|slot| slot as usize)
            && !(*base).tp_base.is_null()
        {
            base = (*base).tp_base;
        }
        Ok(base.cast())
    }
}

/// Puts a hot parent between a hot child and the child's foreign base in the method resolution
/// order. Then `issubclass(Child, Parent)` holds, though both have foreign bases whose layouts
/// CPython cannot combine. This is sound: [`build`] sees to it that the child holds the parent's
/// value at the parent's offset, so the parent's methods work on it.
///
/// Raises RuntimeError if one of them is not built.
pub fn adopt<T: Hot>(py: Python<'_>) -> Result<(), Raised>
where
    T::Parent: Hot,
{
    let (child, parent) = (T::info(), <T::Parent as Hot>::info());
    if child.class().is_null() || parent.class().is_null() {
        return Err(Raised::runtime_error(py, "the types are not built"));
    }
    // SAFETY: both types are built and nobody else uses them yet. A type owns its tuples of
    // bases and of the resolution order: the old ones are released, the new ones given away.
    unsafe {
        let (child, parent) = (child.class(), parent.class());
        let foreign = Obj::from_borrowed((*child).tp_base.cast());
        let parent_order = Obj::from_borrowed((*parent).tp_mro);
        let child_order = Obj::from_borrowed((*child).tp_mro);
        let mut order = vec![
            Obj::from_borrowed(child.cast()),
            Obj::from_borrowed(parent.cast()),
        ];
        for index in 1..child_order.tuple_len() {
            order.extend(child_order.tuple_item(index));
        }
        debug_assert!(parent_order.tuple_len() < order.len());
        let bases = Obj::tuple(py, &[Obj::from_borrowed(parent.cast()), foreign])?;
        let order = Obj::tuple(py, &order)?;
        let old = std::mem::replace(&mut (*child).tp_mro, order.into_ptr());
        ffi::Py_XDECREF(old);
        let old = std::mem::replace(&mut (*child).tp_bases, bases.into_ptr());
        ffi::Py_XDECREF(old);
        ffi::PyType_Modified(child);
    }
    Ok(())
}
