//! A double-ended queue that Python code may see.
//!
//! asyncio keeps waiters and items in a `collections.deque` that programs look at and sometimes
//! change. Here the queue is one of our own until a program asks for it. From then on it is the
//! very object that the program has got.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::ControlFlow;

use cpython::{GcFields, Obj, Python, Raised, Visit};

enum Form {
    /// No queue: the attribute is None, or missing.
    Absent,
    Native(VecDeque<Obj>),
    /// The object that a program has got, or has set.
    Shown(Obj),
}

/// The queue.
pub(super) struct Deque {
    form: RefCell<Form>,
    /// Whether the queue is known to be empty. If false, it may be empty all the same.
    idle: Cell<bool>,
}

impl Deque {
    /// A queue that is made when something is appended.
    pub(super) fn absent() -> Deque {
        Deque::of(Form::Absent)
    }

    /// An empty queue.
    pub(super) fn empty() -> Deque {
        Deque::of(Form::Native(VecDeque::new()))
    }

    fn of(form: Form) -> Deque {
        Deque {
            form: RefCell::new(form),
            idle: Cell::new(true),
        }
    }

    /// Takes another form. The previous content is released last.
    fn become_form(&self, form: Form) {
        self.idle.set(!matches!(form, Form::Shown(_)));
        drop(self.form.replace(form));
    }

    /// Becomes an empty queue.
    pub(super) fn reset(&self) {
        self.become_form(Form::Native(VecDeque::new()));
    }

    /// Becomes the object that a program sets, or absent if that is None.
    pub(super) fn put_in_place(&self, value: Option<Obj>) {
        self.become_form(match value {
            Some(value) => Form::Shown(value),
            None => Form::Absent,
        });
    }

    /// Becomes the object that a dict has had. A plain deque or list to which only the dict and the
    /// caller refer becomes a queue of our own again.
    pub(super) fn take(&self, value: Obj, class: &Obj) -> Result<(), Raised> {
        let py = value.py();
        self.become_form(Form::Absent);
        let plain = value.refcount() <= 2 && value.is_exact(class);
        let limited = match value.attr_opt(pyo3::intern!(py, "maxlen"))? {
            Some(limit) => !limit.is_none(),
            None => false,
        };
        if !plain || limited {
            self.put_in_place(value.not_none());
            return Ok(());
        }
        let mut items = VecDeque::new();
        let iterator = value.iter()?;
        while let Some(item) = iterator.next()? {
            items.push_back(item);
        }
        let idle = items.is_empty();
        self.become_form(Form::Native(items));
        self.idle.set(idle);
        Ok(())
    }

    /// Whether there is no queue.
    pub(super) fn is_absent(&self) -> bool {
        matches!(&*self.form.borrow(), Form::Absent)
    }

    /// The object that Python code has got.
    #[inline]
    fn shown(&self) -> Option<Obj> {
        match &*self.form.borrow() {
            Form::Shown(shown) => Some(shown.clone()),
            _ => None,
        }
    }

    /// The object for Python code, made by `collections.deque` or another class. Returns None if
    /// the queue is absent.
    pub(super) fn show(&self, py: Python<'_>, class: &Obj) -> Result<Option<Obj>, Raised> {
        if let Some(shown) = self.shown() {
            return Ok(Some(shown));
        }
        let list = Obj::list(py)?;
        match &*self.form.borrow() {
            Form::Native(items) => {
                for item in items {
                    list.append(item)?;
                }
            }
            _ => return Ok(None),
        }
        let made = class.call1(&list)?;
        self.become_form(Form::Shown(made.clone()));
        Ok(Some(made))
    }

    /// Whether the queue is certainly empty, without asking Python.
    #[inline]
    pub(super) fn is_plainly_empty(&self) -> bool {
        self.idle.get()
    }

    /// Whether the queue is empty.
    #[inline]
    pub(super) fn is_empty(&self) -> Result<bool, Raised> {
        let shown = match &*self.form.borrow() {
            Form::Absent => return Ok(true),
            Form::Native(items) => return Ok(items.is_empty()),
            Form::Shown(shown) => shown.clone(),
        };
        Ok(!shown.truth()?)
    }

    /// The number of items.
    #[inline]
    pub(super) fn len(&self) -> Result<usize, Raised> {
        let shown = match &*self.form.borrow() {
            Form::Absent => return Ok(0),
            Form::Native(items) => return Ok(items.len()),
            Form::Shown(shown) => shown.clone(),
        };
        shown.length()
    }

    /// Appends an item.
    #[inline]
    pub(super) fn push(&self, item: Obj) -> Result<(), Raised> {
        self.idle.set(false);
        let shown = {
            let mut form = self.form.borrow_mut();
            match &mut *form {
                Form::Native(items) => {
                    items.push_back(item);
                    return Ok(());
                }
                Form::Absent => {
                    *form = Form::Native(VecDeque::from([item]));
                    return Ok(());
                }
                Form::Shown(shown) => shown.clone(),
            }
        };
        let name = pyo3::intern!(shown.py(), "append");
        shown.method(name, &[&item]).map(drop)
    }

    /// Appends without asking Python, if there are fewer items than `limit`; else returns the item.
    #[inline]
    pub(super) fn push_below(&self, limit: usize, item: Obj) -> Option<Obj> {
        match &mut *self.form.borrow_mut() {
            Form::Native(items) if items.len() < limit => {
                items.push_back(item);
                self.idle.set(false);
                None
            }
            _ => Some(item),
        }
    }

    /// The first item, without asking Python. Returns None if the queue is empty or shown.
    #[inline]
    pub(super) fn first_plain(&self) -> Option<Obj> {
        match &*self.form.borrow() {
            Form::Native(items) => items.front().cloned(),
            _ => None,
        }
    }

    /// Takes an item without asking Python. Returns None if the queue is empty or shown.
    #[inline]
    pub(super) fn pop_plain(
        &self,
        pop: impl FnOnce(&mut VecDeque<Obj>) -> Option<Obj>,
    ) -> Option<Obj> {
        match &mut *self.form.borrow_mut() {
            Form::Native(items) => {
                let item = pop(items);
                self.idle.set(items.is_empty());
                item
            }
            _ => None,
        }
    }

    /// Takes the first item. Returns None if the queue is empty.
    #[inline]
    pub(super) fn pop_first(&self) -> Result<Option<Obj>, Raised> {
        let shown = match &mut *self.form.borrow_mut() {
            Form::Absent => return Ok(None),
            Form::Native(items) => {
                let item = items.pop_front();
                self.idle.set(items.is_empty());
                return Ok(item);
            }
            Form::Shown(shown) => shown.clone(),
        };
        if !shown.truth()? {
            return Ok(None);
        }
        let name = pyo3::intern!(shown.py(), "popleft");
        shown.method(name, &[]).map(Some)
    }

    /// Takes the last item. Returns None if the queue is empty.
    pub(super) fn pop_last(&self) -> Result<Option<Obj>, Raised> {
        let shown = match &mut *self.form.borrow_mut() {
            Form::Absent => return Ok(None),
            Form::Native(items) => {
                let item = items.pop_back();
                self.idle.set(items.is_empty());
                return Ok(item);
            }
            Form::Shown(shown) => shown.clone(),
        };
        if !shown.truth()? {
            return Ok(None);
        }
        let name = pyo3::intern!(shown.py(), "pop");
        shown.method(name, &[]).map(Some)
    }

    /// Removes the item, which a program may have removed already.
    #[inline]
    pub(super) fn remove(&self, item: &Obj) -> Result<(), Raised> {
        let shown = {
            match &mut *self.form.borrow_mut() {
                Form::Absent => return Ok(()),
                Form::Native(items) => {
                    let removed = if items.front().is_some_and(|first| first.is(item)) {
                        items.pop_front()
                    } else {
                        let place = items.iter().position(|other| other.is(item));
                        place.and_then(|place| items.remove(place))
                    };
                    self.idle.set(items.is_empty());
                    // The caller has the item as well, so this releases nothing.
                    drop(removed);
                    return Ok(());
                }
                Form::Shown(shown) => shown.clone(),
            }
        };
        let py = shown.py();
        match shown.method(pyo3::intern!(py, "remove"), &[item]) {
            Ok(_) => Ok(()),
            Err(raised) => raised.ignore::<pyo3::exceptions::PyValueError>(py),
        }
    }

    /// Calls the function with each item in turn, until it breaks.
    #[inline]
    pub(super) fn each(
        &self,
        mut function: impl FnMut(&Obj) -> Result<ControlFlow<()>, Raised>,
    ) -> Result<(), Raised> {
        let mut index = 0;
        let shown = loop {
            let item = match &*self.form.borrow() {
                Form::Absent => return Ok(()),
                Form::Native(items) => match items.get(index) {
                    Some(item) => item.clone(),
                    None => return Ok(()),
                },
                Form::Shown(shown) => break shown.clone(),
            };
            if function(&item)?.is_break() {
                return Ok(());
            }
            index += 1;
        };
        let items = shown.iter()?;
        while let Some(item) = items.next()? {
            if function(&item)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Becomes absent.
    pub(super) fn clear(&self) {
        self.become_form(Form::Absent);
    }
}

impl GcFields for Deque {
    fn visit(&self, visit: &mut Visit<'_>) {
        let Ok(form) = self.form.try_borrow() else {
            return;
        };
        match &*form {
            Form::Absent => {}
            Form::Native(items) => items.iter().for_each(|item| visit.object(item)),
            Form::Shown(shown) => visit.object(shown),
        }
    }
    fn let_go(&self) {
        self.clear();
    }
}
