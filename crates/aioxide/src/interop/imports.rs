//! Python objects that native code refers to.

use cpython::watch::Watched;
use cpython::{Global, Obj, Python, Raised};
use pyo3::sync::PyOnceLock;

use super::habits::Habits;

/// asyncio's objects, as they were when aioxide was imported.
pub(crate) struct Imports {
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
    pub(crate) ensure_future: Global,
    /// The namespaces of `asyncio.tasks` and `asyncio.futures`, where programs put other classes.
    pub(crate) tasks_namespace: Watched,
    pub(crate) futures_namespace: Watched,
    pub(crate) events: Global,
    /// The accelerator's module, to look at while importing: its functions may be replaced later.
    pub(crate) accelerator: Global,
    pub(crate) books: Books,
    pub(crate) c_future: Global,
    pub(crate) c_task: Global,
    pub(crate) handle: Global,
    pub(crate) timer_handle: Global,
    pub(crate) set_running_loop: Global,
    pub(crate) get_running_loop: Global,
    pub(crate) get_asyncgen_hooks: Global,
    pub(crate) set_asyncgen_hooks: Global,
    pub(crate) get_ident: Global,
    pub(crate) generic_alias: Global,
    pub(crate) getframe: Global,
    /// The tuple `("context",)`, names of a call's keyword arguments.
    pub(crate) context_name: Global,
    pub(crate) habits: Habits,
    /// The tuple `("msg",)`.
    pub(crate) msg_name: Global,
    pub(crate) empty_tuple: Global,
}

/// The accelerator's functions that keep account of tasks. Those that the running version lacks
/// are none.
pub(crate) struct Books {
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

static IMPORTS: PyOnceLock<Imports> = PyOnceLock::new();

/// The imported objects. They are there once the module is.
#[inline]
pub(crate) fn asyncio(py: Python<'_>) -> &'static Imports {
    match IMPORTS.get(py) {
        Some(imports) => imports,
        None => missing(),
    }
}

#[cold]
fn missing() -> &'static Imports {
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
    let habits = Habits::of(&accelerator)?;
    let books = Books {
        enter_task: get(&accelerator, "_enter_task")?,
        leave_task: get(&accelerator, "_leave_task")?,
        register_task: get(&accelerator, "_register_task")?,
        unregister_task: get(&accelerator, "_unregister_task")?,
        swap_current_task: optional("_swap_current_task")?,
        // 3.11 has it in Python only.
        current_task: get(&tasks, "current_task")?,
        register_eager_task: optional("_register_eager_task")?,
        unregister_eager_task: optional("_unregister_eager_task")?,
        add_awaited_by: optional("future_add_to_awaited_by")?,
        discard_awaited_by: optional("future_discard_from_awaited_by")?,
    };
    let imports = Imports {
        books,
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
        ensure_future: get(&tasks, "ensure_future")?,
        tasks_namespace: Watched::new(tasks.attr(pyo3::intern!(py, "__dict__"))?),
        futures_namespace: Watched::new(
            Obj::import(py, c"asyncio.futures")?.attr(pyo3::intern!(py, "__dict__"))?,
        ),
        iscoroutine: get(&coroutines, "iscoroutine")?,
        set_running_loop: get(&accelerator, "_set_running_loop")?,
        get_running_loop: get(&accelerator, "_get_running_loop")?,
        c_future: get(&accelerator, "Future")?,
        c_task: get(&accelerator, "Task")?,
        handle: get(&events, "Handle")?,
        timer_handle: get(&events, "TimerHandle")?,
        get_asyncgen_hooks: get(&sys, "get_asyncgen_hooks")?,
        set_asyncgen_hooks: get(&sys, "set_asyncgen_hooks")?,
        getframe: get(&sys, "_getframe")?,
        get_ident: get(&Obj::import(py, c"threading")?, "get_ident")?,
        generic_alias: get(&Obj::import(py, c"types")?, "GenericAlias")?,
        events: Global::new(events),
        accelerator: Global::new(accelerator),
        context_name: names("context")?,
        habits,
        msg_name: names("msg")?,
        empty_tuple: Global::new(Obj::tuple(py, &[])?),
    };
    let _ = IMPORTS.set(py, imports);
    Ok(())
}

/// Looks names up while importing.
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

/// `function(future, None, error)` of the exceptions that end the program, not the task.
pub(crate) fn ends_program(py: Python<'_>, exception: &Obj) -> bool {
    let imports = asyncio(py);
    exception.is_subtype_of(imports.keyboard_interrupt.get(py))
        || exception.is_subtype_of(imports.system_exit.get(py))
}
