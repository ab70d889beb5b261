//! The fields of the accelerator's Task that other code reads directly.
//!
//! `asyncio.all_tasks()`, call graphs and `python -m asyncio ps` of 3.14 and later look into the C
//! struct: at the loop, the coroutine, the name, the state, the future that a task awaits, and a
//! list of the thread's tasks. Native objects contain that struct (their types derive from the
//! accelerator's), so they fill these fields as the accelerator would. Each offset is verified with
//! a probe. Where one fails, and on earlier versions, tasks are registered through the
//! accelerator's own functions instead.

use cpython::error::preserving;
use cpython::foreign::{Field, Listed, Number, ThreadList, section_words};
use cpython::{Hot, Obj, Python, Raised, Ref, Slot};

use super::imports::asyncio;

/// Offsets from the section `AsyncioDebug`, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Offsets {
    task_size: u64,
    task_name: u64,
    awaited_by: u64,
    is_task: u64,
    awaited_by_is_set: u64,
    task_coro: u64,
    task_node: u64,
    pub(crate) interpreter_size: u64,
    pub(crate) thread_size: u64,
    pub(crate) running_loop: u64,
    pub(crate) running_task: u64,
    tasks_head: u64,
}

/// Reads the offsets from the file that holds the accelerator: its library, or the program that it
/// is built into.
pub(crate) fn offsets(py: Python<'_>) -> Option<Offsets> {
    let accelerator = asyncio(py).accelerator.get(py);
    let file = accelerator.attr_opt(pyo3::intern!(py, "__file__")).ok()?;
    let path = match file {
        Some(file) => std::path::PathBuf::from(file.to_string().ok()?),
        None => std::path::PathBuf::from("/proc/self/exe"),
    };
    let words = section_words(&path, "AsyncioDebug")?;
    match *words.as_slice() {
        [
            task_size,
            task_name,
            awaited_by,
            is_task,
            awaited_by_is_set,
            task_coro,
            task_node,
            interpreter_size,
            _interpreter_head,
            thread_size,
            running_loop,
            running_task,
            tasks_head,
        ] => Some(Offsets {
            task_size,
            task_name,
            awaited_by,
            is_task,
            awaited_by_is_set,
            task_coro,
            task_node,
            interpreter_size,
            thread_size,
            running_loop,
            running_task,
            tasks_head,
        }),
        _ => None,
    }
}

/// Verified fields of the accelerator's Future, in the objects of F. The accelerator's Task has
/// them at the same places.
pub(crate) struct FutureFields<F: Hot> {
    event_loop: Field<F>,
    state: Number<F>,
    is_task: Number<F>,
    awaited_by: Field<F>,
    awaited_by_is_set: Number<F>,
}

/// Verified fields that the accelerator's Task has besides, in the objects of T.
pub(crate) struct TaskFields<T: Listed> {
    name: Field<T>,
    coro: Field<T>,
    tasks: ThreadList<T>,
}

/// Looks for the fields in objects of our Future and Task, once the types are built. Returns
/// nothing where one field cannot be verified.
pub(crate) fn verified<F: Hot, T: Listed<Parent = F>>(
    py: Python<'_>,
    offsets: &Offsets,
) -> Option<(FutureFields<F>, TaskFields<T>)> {
    match probe(py, offsets) {
        Ok(fields) => fields,
        Err(raised) => {
            drop(raised.take(py));
            None
        }
    }
}

/// Makes a task of the accelerator from known parts, and looks for these in it.
#[allow(clippy::type_complexity)]
fn probe<F: Hot, T: Listed<Parent = F>>(
    py: Python<'_>,
    offsets: &Offsets,
) -> Result<Option<(FutureFields<F>, TaskFields<T>)>, Raised> {
    let imports = asyncio(py);
    if cpython::build::basic_size(imports.c_task.get(py)) as u64 != offsets.task_size {
        return Ok(None);
    }
    let globals = Obj::dict(py)?;
    let code = "async def coroutine(): pass\n\
        class Loop:\n    \
            def get_debug(self): return False\n    \
            def call_soon(self, *args, context=None): pass\n    \
            def call_exception_handler(self, context): pass\n    \
            def is_running(self): return False\n\
        loop, coro, name = Loop(), coroutine(), 'probe of ' + 'aioxide'\n";
    let builtins = Obj::import(py, c"builtins")?;
    builtins.method(pyo3::intern!(py, "exec"), &[&Obj::str(py, code)?, &globals])?;
    let part = |name: &str| -> Result<Obj, Raised> {
        globals
            .dict_get(&Obj::str(py, name)?)?
            .ok_or_else(|| Raised::runtime_error(py, "the probe of the accelerator's task failed"))
    };
    let (event_loop, coro, name) = (part("loop")?, part("coro")?, part("name")?);
    let names = Obj::tuple(py, &[Obj::str(py, "loop")?, Obj::str(py, "name")?])?;
    let task = imports
        .c_task
        .get(py)
        .call_named(&[&coro, &event_loop, &name], Some(&names))?;
    // This comes before the state changes: a task that is done is in no list.
    let tasks = ThreadList::verified(
        &task,
        offsets.tasks_head,
        offsets.thread_size,
        offsets.task_node,
    );
    task.set_attr(
        pyo3::intern!(py, "_log_destroy_pending"),
        &Obj::bool(py, false),
    )?;
    let state = Number::changed(&task, 1, || {
        // Without a waiter, the accelerator's Future.cancel() only changes the state.
        let cancel = imports
            .c_future
            .get(py)
            .method(pyo3::intern!(py, "cancel"), &[&task]);
        if let Err(raised) = cancel {
            drop(raised.take(py));
        }
    });
    let found = state.and_then(|state| {
        let future = FutureFields {
            event_loop: Field::find(&task, &event_loop)?,
            state,
            is_task: Number::byte(&task, offsets.is_task, 1)?,
            awaited_by: Field::verified_empty(&task, offsets.awaited_by)?,
            awaited_by_is_set: Number::byte(&task, offsets.awaited_by_is_set, 0)?,
        };
        let task = TaskFields {
            name: Field::verified(&task, offsets.task_name, &name)?,
            coro: Field::verified(&task, offsets.task_coro, &coro)?,
            tasks: tasks?,
        };
        Some((future, task))
    });
    coro.method(pyo3::intern!(py, "close"), &[])?;
    Ok(found)
}

impl<F: Hot> FutureFields<F> {
    /// Fills the fields of a new task's Future part, which are empty.
    #[inline(always)]
    pub(crate) fn begin_new_task(&self, future: &Ref<F>, event_loop: &Obj) {
        self.event_loop.begin(future, event_loop.clone());
        self.is_task.set(future, 1);
    }

    /// Fills the fields of a new task's Future part.
    #[inline]
    pub(crate) fn begin_task(&self, future: &Ref<F>, event_loop: &Obj) {
        self.event_loop.set(future, Some(event_loop.clone()));
        self.is_task.set(future, 1);
    }

    /// Empties the fields that were filled, in an object that is about to go.
    #[inline]
    pub(crate) fn empty(&self, future: &Ref<F>) {
        self.event_loop.set(future, None);
        self.awaited_by.set(future, None);
        self.state.empty(future);
        self.is_task.empty(future);
        self.awaited_by_is_set.empty(future);
    }

    /// Sets the state: 0 pending, 1 cancelled, 2 finished.
    #[inline]
    pub(crate) fn set_state(&self, future: &Ref<F>, state: u32) {
        self.state.set(future, state);
    }

    /// Notes that `task` waits on `future`.
    #[inline(always)]
    pub(crate) fn add_awaited_by(&self, future: &Ref<F>, task: &Obj) -> Result<(), Raised> {
        if self.awaited_by.is_empty(future) {
            self.awaited_by.set(future, Some(task.clone()));
            return Ok(());
        }
        self.add_another(future, task)
    }

    #[cold]
    fn add_another(&self, future: &Ref<F>, task: &Obj) -> Result<(), Raised> {
        match self.awaited_by.get(future) {
            Some(set) if self.awaited_by_is_set.get(future) != 0 => set.add(task),
            one => {
                let set = Obj::set(future.py())?;
                for member in one.iter().chain([task]) {
                    set.add(member)?;
                }
                self.awaited_by.set(future, Some(set));
                self.awaited_by_is_set.set(future, 1);
                Ok(())
            }
        }
    }

    /// Notes that `task` no longer waits on `future`.
    #[inline(always)]
    pub(crate) fn discard_awaited_by(&self, future: &Ref<F>, task: &Obj) -> Result<(), Raised> {
        if self.awaited_by.holds(future, task) {
            self.awaited_by.set(future, None);
            return Ok(());
        }
        self.discard_one_of_many(future, task)
    }

    /// If the task in the slot is the only one that waits on `future`, notes that it no longer
    /// does. Returns whether it was.
    #[inline]
    pub(crate) fn discard_only_awaited_by(&self, future: &Ref<F>, task: &Slot) -> bool {
        self.awaited_by.empty_if_same(future, task)
    }

    #[cold]
    fn discard_one_of_many(&self, future: &Ref<F>, task: &Obj) -> Result<(), Raised> {
        match self.awaited_by.get(future) {
            Some(set) if self.awaited_by_is_set.get(future) != 0 => set
                .method(pyo3::intern!(future.py(), "discard"), &[task])
                .map(drop),
            _ => Ok(()),
        }
    }

    /// The tasks that wait on the future, as `_asyncio_awaited_by` shows them.
    pub(crate) fn awaited_by(&self, future: &Ref<F>) -> Result<Option<Obj>, Raised> {
        let py = future.py();
        let Some(held) = self.awaited_by.get(future) else {
            return Ok(None);
        };
        let members = if self.awaited_by_is_set.get(future) != 0 {
            held
        } else {
            Obj::tuple(py, &[held])?
        };
        let frozenset = Obj::class_of::<pyo3::types::PyFrozenSet>(py);
        frozenset.call1(&members).map(Some)
    }
}

impl<T: Listed> TaskFields<T> {
    /// Fills the fields of a new task.
    #[inline]
    pub(crate) fn set_coro(&self, task: &Ref<T>, coro: Option<Obj>) {
        self.coro.set(task, coro);
    }

    /// A task's name: a text, or the number that the accelerator keeps until the name is asked for.
    #[inline]
    pub(crate) fn name(&self, task: &Ref<T>) -> Option<Obj> {
        self.name.get(task)
    }

    /// Sets the name of a new task, whose field is empty.
    #[inline(always)]
    pub(crate) fn begin_name(&self, task: &Ref<T>, name: Obj) {
        self.name.begin(task, name);
    }

    /// Sets the coroutine of a new task, whose field is empty.
    #[inline(always)]
    pub(crate) fn begin_coro(&self, task: &Ref<T>, coro: &Obj) {
        self.coro.begin(task, coro.clone());
    }

    /// Sets the name.
    #[inline]
    pub(crate) fn set_name(&self, task: &Ref<T>, name: Obj) {
        self.name.set(task, Some(name));
    }

    /// Takes the name out of a task that is about to go.
    #[inline]
    pub(crate) fn take_name(&self, task: &Ref<T>) -> Option<Obj> {
        self.name.replace(task, None)
    }

    /// Puts the task into the thread's list.
    #[inline]
    pub(crate) fn link(&self, task: &Ref<T>) {
        self.tasks.link(task);
    }

    /// Takes the task out of the list of its thread.
    #[inline]
    pub(crate) fn unlink(&self, task: &Ref<T>) {
        if !self.tasks.unlink(task) {
            unlink_elsewhere(task.as_obj());
        }
    }

    /// Empties the fields that were filled, in an object that is about to go.
    #[inline]
    pub(crate) fn empty(&self, task: &Ref<T>) {
        self.name.set(task, None);
        self.coro.set(task, None);
    }
}

/// Takes a task out of the list of another thread. The task may be about to go: the accelerator's
/// function makes no reference to it.
#[cold]
fn unlink_elsewhere(task: &Obj) {
    let py = task.py();
    preserving(py, || {
        let unregister = asyncio(py).task_functions.unregister_task.get(py);
        if let Err(raised) = unregister.call1(task) {
            raised.report_unraisable(None);
        }
    });
}
