//! `current_task`, `all_tasks` and the functions by which asyncio and libraries register tasks.

use cpython::build::function;
use cpython::{Args, Global, Obj, Python, Raised, Ref};

use super::mirror;
use super::task::Task;
use crate::futures::{self, Future};
use crate::interop::{asyncio, current};

/// Adds a task to the eager tasks that were not suspended yet, on 3.12 and later.
pub(super) fn register_eager(task: &Obj) -> Result<(), Raised> {
    let py = task.py();
    call(
        py,
        asyncio(py).task_functions.register_eager_task.as_ref(),
        &[task],
    )
}

/// Removes a task from them, when it is suspended or has ended.
pub(super) fn unregister_eager(task: &Obj) -> Result<(), Raised> {
    let py = task.py();
    call(
        py,
        asyncio(py).task_functions.unregister_eager_task.as_ref(),
        &[task],
    )
}

/// Calls a function that the running version may lack.
fn call(py: Python<'_>, function: Option<&Global>, args: &[&Obj]) -> Result<(), Raised> {
    match function {
        Some(function) => function.get(py).call(args).map(drop),
        None => Ok(()),
    }
}

/// Notes with the accelerator that `task` waits on a future that is not native, on 3.14 and later.
pub(super) fn add_awaited_by(awaited: &Obj, task: &Obj) -> Result<(), Raised> {
    let py = task.py();
    call(
        py,
        asyncio(py).task_functions.add_awaited_by.as_ref(),
        &[awaited, task],
    )
}

/// Notes that the task no longer waits on it.
#[inline(always)]
pub(super) fn discard_awaited_by(awaited: &Obj, task: &Ref<Task>) -> Result<(), Raised> {
    let py = task.py();
    if let Some(future) = Ref::<Future>::of(awaited) {
        return match futures::mirror(py) {
            Some(mirror) => mirror.discard_awaited_by(future, task.as_obj()),
            None => Ok(()),
        };
    }
    discard_foreign(awaited, task)
}

#[inline(never)]
fn discard_foreign(awaited: &Obj, task: &Ref<Task>) -> Result<(), Raised> {
    let py = task.py();
    let discard = asyncio(py).task_functions.discard_awaited_by.as_ref();
    call(py, discard, &[awaited, task.as_obj()])
}

/// Takes a Future that is done, if it is a Task, from the tasks of the thread. So even a Task that
/// a program has ended through the methods of Future is no longer listed.
pub(crate) fn ended(future: &Obj) {
    if let (Some(task), Some(mirror)) = (Ref::<Task>::of(future), mirror(future.py())) {
        mirror.unlink(task);
    }
}

fn current_task(py: Python<'_>, args: &Args<'_>) -> Result<Option<Obj>, Raised> {
    let [event_loop] = args.bind("current_task", &["loop"], 1, 0)?;
    current::current_task(py, event_loop.as_ref())
}

fn enter_task(py: Python<'_>, args: &Args<'_>) -> Result<(), Raised> {
    let [event_loop, task] = args.bind("_enter_task", &["loop", "task"], 2, 2)?;
    match (event_loop, task) {
        (Some(event_loop), Some(task)) => current::enter(py, &event_loop, &task).map(drop),
        _ => Ok(()),
    }
}

fn leave_task(py: Python<'_>, args: &Args<'_>) -> Result<(), Raised> {
    let [event_loop, task] = args.bind("_leave_task", &["loop", "task"], 2, 2)?;
    match (event_loop, task) {
        (Some(event_loop), Some(task)) => current::leave(py, &event_loop, &task),
        _ => Ok(()),
    }
}

fn swap_current_task(py: Python<'_>, args: &Args<'_>) -> Result<Option<Obj>, Raised> {
    let [event_loop, task] = args.bind("_swap_current_task", &["loop", "task"], 2, 2)?;
    let event_loop = event_loop.unwrap_or_else(|| Obj::none(py));
    current::swap(py, &event_loop, task.and_then(Obj::not_none).as_ref())
}

/// `all_tasks(loop=None)`: calls asyncio's own function, with which native tasks are registered.
fn all_tasks(py: Python<'_>, args: &Args<'_>) -> Result<Obj, Raised> {
    // Before 3.14 that is a Python function.
    let [event_loop] = if cfg!(Py_3_14) {
        args.bind("all_tasks", &["loop"], 1, 0)?
    } else {
        args.bind_function("all_tasks", &["loop"], 0)?
    };
    let event_loop = match event_loop.and_then(Obj::not_none) {
        Some(event_loop) => event_loop,
        None => match current::running_loop(py)? {
            Some(running) => running,
            None => return Err(Raised::runtime_error(py, "no running event loop")),
        },
    };
    asyncio(py).all_tasks.get(py).call1(&event_loop)
}

fn the_task(args: &Args<'_>, function: &str) -> Result<Option<Obj>, Raised> {
    let [task] = args.bind(function, &["task"], 1, 1)?;
    Ok(task)
}

fn register_task(py: Python<'_>, args: &Args<'_>) -> Result<(), Raised> {
    let Some(task) = the_task(args, "_register_task")? else {
        return Ok(());
    };
    match (Ref::<Task>::of(&task), mirror(py)) {
        (Some(native), Some(mirror)) => {
            mirror.link(native);
            Ok(())
        }
        _ => asyncio(py)
            .task_functions
            .register_task
            .get(py)
            .call1(&task)
            .map(drop),
    }
}

fn unregister_task(py: Python<'_>, args: &Args<'_>) -> Result<(), Raised> {
    let Some(task) = the_task(args, "_unregister_task")? else {
        return Ok(());
    };
    match (Ref::<Task>::of(&task), mirror(py)) {
        (Some(native), Some(mirror)) => {
            mirror.unlink(native);
            Ok(())
        }
        _ => asyncio(py)
            .task_functions
            .unregister_task
            .get(py)
            .call1(&task)
            .map(drop),
    }
}

fn register_eager_task(_: Python<'_>, args: &Args<'_>) -> Result<(), Raised> {
    match the_task(args, "_register_eager_task")? {
        Some(task) => register_eager(&task),
        None => Ok(()),
    }
}

fn unregister_eager_task(_: Python<'_>, args: &Args<'_>) -> Result<(), Raised> {
    match the_task(args, "_unregister_eager_task")? {
        Some(task) => unregister_eager(&task),
        None => Ok(()),
    }
}

/// Adds the functions to the module.
pub(crate) fn add_functions(py: Python<'_>, module: &Obj, name: &Obj) -> Result<(), Raised> {
    let set =
        |key: &str, value: &Obj| module.set_attr(&pyo3::types::PyString::intern(py, key), value);
    let doc = c"current_task(loop=None)\n--\n\nThe running task of the loop (of the running one if None), or None.";
    set(
        "current_task",
        &function(py, c"current_task", doc, name, current_task)?,
    )?;
    let doc = c"_enter_task(loop, task)\n--\n\nMake the task the running one of its loop.";
    set(
        "_enter_task",
        &function(py, c"_enter_task", doc, name, enter_task)?,
    )?;
    let doc = c"_leave_task(loop, task)\n--\n\nThe task no longer runs.";
    set(
        "_leave_task",
        &function(py, c"_leave_task", doc, name, leave_task)?,
    )?;
    let doc = c"all_tasks(loop=None)\n--\n\nThe tasks of the loop (of the running one if None) that are not done.";
    set(
        "all_tasks",
        &function(py, c"all_tasks", doc, name, all_tasks)?,
    )?;
    let doc = c"_register_task(task)\n--\n\nMake a task known to all_tasks().";
    set(
        "_register_task",
        &function(py, c"_register_task", doc, name, register_task)?,
    )?;
    let doc = c"_unregister_task(task)\n--\n\nThe opposite of _register_task().";
    set(
        "_unregister_task",
        &function(py, c"_unregister_task", doc, name, unregister_task)?,
    )?;
    if cfg!(Py_3_12) {
        let doc = c"_register_eager_task(task)\n--\n\nMake a task known that runs before it is scheduled.";
        set(
            "_register_eager_task",
            &function(py, c"_register_eager_task", doc, name, register_eager_task)?,
        )?;
        let doc = c"_unregister_eager_task(task)\n--\n\nThe opposite of _register_eager_task().";
        set(
            "_unregister_eager_task",
            &function(
                py,
                c"_unregister_eager_task",
                doc,
                name,
                unregister_eager_task,
            )?,
        )?;
        let doc = c"_swap_current_task(loop, task)\n--\n\nMake another task the running one; returns the one that ran.";
        set(
            "_swap_current_task",
            &function(py, c"_swap_current_task", doc, name, swap_current_task)?,
        )?;
    }
    Ok(())
}
