//! Python objects that native code refers to.

use cpython::watch::WatchedDict;
use cpython::{Global, Obj, Python, Raised};
use pyo3::sync::PyOnceLock;

use super::accelerator::AcceleratorBehaviour;

/// asyncio's objects, as they were when aioxide was imported.
pub(crate) struct AsyncioImports {
    pub(crate) cancelled_error: Global,
    pub(crate) invalid_state_error: Global,
    pub(crate) keyboard_interrupt: Global,
    pub(crate) system_exit: Global,
    /// `traceback.extract_stack`, for futures' source tracebacks.
    pub(crate) extract_stack: Global,
    /// `format_helpers.extract_stack`, for handles' source tracebacks.
    pub(crate) extract_handle_stack: Global,
    pub(crate) future_repr: Global,
    pub(crate) task_repr: Global,
    pub(crate) task_get_stack: Global,
    pub(crate) task_print_stack: Global,
    pub(crate) iscoroutine: Global,
    pub(crate) all_tasks: Global,
    pub(crate) sleep: Global,
    /// `futures._set_result_unless_cancelled`, which ends a sleep.
    pub(crate) set_result_unless_cancelled: Global,
    pub(crate) wait_for: Global,
    pub(crate) ensure_future: Global,
    /// The namespaces of `asyncio.tasks` and `asyncio.futures`, where programs replace classes.
    pub(crate) tasks_namespace: WatchedDict,
    pub(crate) futures_namespace: WatchedDict,
    pub(crate) events: Global,
    /// The namespace of `asyncio.events`, where programs replace the functions that return the
    /// loop.
    pub(crate) events_namespace: WatchedDict,
    /// The accelerator's module, read only while importing: its functions may be replaced later.
    pub(crate) accelerator: Global,
    pub(crate) task_functions: TaskFunctions,
    pub(crate) c_future: Global,
    pub(crate) c_task: Global,
    pub(crate) handle: Global,
    pub(crate) timer_handle: Global,
    /// asyncio's own loop.
    pub(crate) selector_loop: Global,
    pub(crate) set_running_loop: Global,
    pub(crate) get_running_loop: Global,
    pub(crate) get_asyncgen_hooks: Global,
    pub(crate) set_asyncgen_hooks: Global,
    pub(crate) get_ident: Global,
    pub(crate) generic_alias: Global,
    pub(crate) getframe: Global,
    /// The tuple `("context",)`: the names of a call's keyword arguments.
    pub(crate) context_name: Global,
    pub(crate) behaviour: AcceleratorBehaviour,
    /// The tuple `("msg",)`.
    pub(crate) msg_name: Global,
    pub(crate) empty_tuple: Global,
}

/// The accelerator's functions that keep track of tasks. A function that the running version lacks
/// is `None`.
pub(crate) struct TaskFunctions {
    pub(crate) enter_task: Global,
    pub(crate) leave_task: Global,
    pub(crate) register_task: Global,
    pub(crate) unregister_task: Global,
    pub(crate) swap_current_task: Option<Global>,
    pub(crate) current_task: Global,
    pub(crate) register_eager_task: Option<Global>,
    pub(crate) unregister_eager_task: Option<Global>,
    pub(crate) add_awaited_by: Option<Global>,
    pub(crate) discard_awaited_by: Option<Global>,
}

static IMPORTS: PyOnceLock<AsyncioImports> = PyOnceLock::new();

/// The imported objects. They exist once the module is imported.
#[inline]
pub(crate) fn asyncio(py: Python<'_>) -> &'static AsyncioImports {
    match IMPORTS.get(py) {
        Some(imports) => imports,
        None => missing(),
    }
}

#[cold]
fn missing() -> &'static AsyncioImports {
    // Native objects exist only after `load`, which the module's start-up runs first.
    unreachable!("asyncio's objects are imported before any native object is made")
}

/// Imports everything; called when the module starts. Raises what importing asyncio raises.
pub(crate) fn load(py: Python<'_>) -> Result<(), Raised> {
    let module = Module { py };
    let exceptions = Obj::import(py, c"asyncio.exceptions")?;
    let builtins = Obj::import(py, c"builtins")?;
    let events = Obj::import(py, c"asyncio.events")?;
    let base_tasks = Obj::import(py, c"asyncio.base_tasks")?;
    let base_futures = Obj::import(py, c"asyncio.base_futures")?;
    let coroutines = Obj::import(py, c"asyncio.coroutines")?;
    let accelerator = Obj::import(py, c"_asyncio")?;
    let sys = Obj::import(py, c"sys")?;
    let get = |object: &Obj, name: &str| module.get(object, name);
    let names = |name: &str| -> Result<Global, Raised> {
        Ok(Global::new(Obj::tuple(py, &[module.intern(name)?])?))
    };
    let optional = |name: &str| -> Result<Option<Global>, Raised> {
        let name = pyo3::types::PyString::intern(py, name);
        Ok(accelerator.attr_opt(&name)?.map(Global::new))
    };
    let tasks = Obj::import(py, c"asyncio.tasks")?;
    let futures = Obj::import(py, c"asyncio.futures")?;
    let behaviour = AcceleratorBehaviour::of(&accelerator)?;
    let task_functions = TaskFunctions {
        enter_task: get(&accelerator, "_enter_task")?,
        leave_task: get(&accelerator, "_leave_task")?,
        register_task: get(&accelerator, "_register_task")?,
        unregister_task: get(&accelerator, "_unregister_task")?,
        swap_current_task: optional("_swap_current_task")?,
        // 3.11 has it only in Python.
        current_task: get(&tasks, "current_task")?,
        register_eager_task: optional("_register_eager_task")?,
        unregister_eager_task: optional("_unregister_eager_task")?,
        add_awaited_by: optional("future_add_to_awaited_by")?,
        discard_awaited_by: optional("future_discard_from_awaited_by")?,
    };
    let imports = AsyncioImports {
        task_functions,
        cancelled_error: get(&exceptions, "CancelledError")?,
        invalid_state_error: get(&exceptions, "InvalidStateError")?,
        keyboard_interrupt: get(&builtins, "KeyboardInterrupt")?,
        system_exit: get(&builtins, "SystemExit")?,
        extract_stack: get(&Obj::import(py, c"traceback")?, "extract_stack")?,
        extract_handle_stack: get(
            &Obj::import(py, c"asyncio.format_helpers")?,
            "extract_stack",
        )?,
        future_repr: get(&base_futures, "_future_repr")?,
        task_repr: get(&base_tasks, "_task_repr")?,
        task_get_stack: get(&base_tasks, "_task_get_stack")?,
        task_print_stack: get(&base_tasks, "_task_print_stack")?,
        all_tasks: get(&tasks, "all_tasks")?,
        sleep: get(&tasks, "sleep")?,
        set_result_unless_cancelled: get(&futures, "_set_result_unless_cancelled")?,
        wait_for: get(&tasks, "wait_for")?,
        ensure_future: get(&tasks, "ensure_future")?,
        events_namespace: WatchedDict::new(events.attr(pyo3::intern!(py, "__dict__"))?),
        tasks_namespace: WatchedDict::new(tasks.attr(pyo3::intern!(py, "__dict__"))?),
        futures_namespace: WatchedDict::new(futures.attr(pyo3::intern!(py, "__dict__"))?),
        iscoroutine: get(&coroutines, "iscoroutine")?,
        set_running_loop: get(&accelerator, "_set_running_loop")?,
        get_running_loop: get(&accelerator, "_get_running_loop")?,
        c_future: get(&accelerator, "Future")?,
        c_task: get(&accelerator, "Task")?,
        handle: get(&events, "Handle")?,
        selector_loop: get(
            &Obj::import(py, c"asyncio.unix_events")?,
            "_UnixSelectorEventLoop",
        )?,
        timer_handle: get(&events, "TimerHandle")?,
        get_asyncgen_hooks: get(&sys, "get_asyncgen_hooks")?,
        set_asyncgen_hooks: get(&sys, "set_asyncgen_hooks")?,
        getframe: get(&sys, "_getframe")?,
        get_ident: get(&Obj::import(py, c"threading")?, "get_ident")?,
        generic_alias: get(&Obj::import(py, c"types")?, "GenericAlias")?,
        events: Global::new(events),
        accelerator: Global::new(accelerator),
        context_name: names("context")?,
        behaviour,
        msg_name: names("msg")?,
        empty_tuple: Global::new(Obj::tuple(py, &[])?),
    };
    let _ = IMPORTS.set(py, imports);
    Ok(())
}

/// A module whose names are looked up while importing.
struct Module<'py> {
    py: Python<'py>,
}

impl Module<'_> {
    fn intern(&self, name: &str) -> Result<Obj, Raised> {
        Ok(Obj::from_bound(pyo3::types::PyString::intern(
            self.py, name,
        )))
    }

    fn get(&self, object: &Obj, name: &str) -> Result<Global, Raised> {
        let name = pyo3::types::PyString::intern(self.py, name);
        Ok(Global::new(object.attr(&name)?))
    }
}
