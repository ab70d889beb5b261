//! Where the running version keeps the running loop and the running task.
//!
//! 3.14 and later keep both in the thread state, in fields whose offsets the accelerator's debug
//! section gives. 3.12 and 3.13 keep the tasks in a dict of the accelerator, 3.11 in one of
//! `asyncio.tasks`. Native code writes to the same place, so that asyncio's own functions, C Tasks
//! and debuggers see native tasks.

use cpython::foreign::{Filled, ThreadField};
use cpython::watch::SeenVersion;
use cpython::{Global, Obj, Python, Raised};
use pyo3::sync::PyOnceLock;

use super::imports::asyncio;
use super::replaced::replacement;

enum CurrentPlace {
    /// Fields of the thread state.
    Thread {
        task: ThreadField,
        running: ThreadField,
    },
    /// A dict, loop to task.
    Dict(Global),
    /// Neither was found: the accelerator's functions are called.
    Functions,
}

static PLACE: PyOnceLock<CurrentPlace> = PyOnceLock::new();

/// Finds the place; called when the module starts.
pub(crate) fn load(py: Python<'_>, offsets: Option<super::mirror::Offsets>) -> Result<(), Raised> {
    load_functions(py)?;
    let accelerator = asyncio(py).accelerator.get(py);
    let place = match offsets.and_then(|offsets| thread_fields(py, &offsets)) {
        Some((task, running)) => CurrentPlace::Thread { task, running },
        None => match accelerator.attr_opt(pyo3::intern!(py, "_current_tasks"))? {
            Some(dict) => CurrentPlace::Dict(Global::new(dict)),
            None => CurrentPlace::Functions,
        },
    };
    let _ = PLACE.set(py, place);
    Ok(())
}

/// Verifies the fields with objects of our own: a loop and a task that the accelerator enters.
fn thread_fields(
    py: Python<'_>,
    offsets: &super::mirror::Offsets,
) -> Option<(ThreadField, ThreadField)> {
    let imports = asyncio(py);
    let accelerator = imports.accelerator.get(py);
    let previous = imports.get_running_loop.get(py).call0().ok()?;
    let probe_loop = Obj::list(py).ok()?;
    let probe_task = Obj::list(py).ok()?;
    let found = (|| {
        imports.set_running_loop.get(py).call1(&probe_loop).ok()?;
        let enter = accelerator.attr(pyo3::intern!(py, "_enter_task")).ok()?;
        let leave = accelerator.attr(pyo3::intern!(py, "_leave_task")).ok()?;
        // Inside another task (a coroutine has imported aioxide) the probe cannot be entered.
        if let Err(raised) = enter.call(&[&probe_loop, &probe_task]) {
            drop(raised.take(py));
            return None;
        }
        let size = offsets.thread_size;
        let task = ThreadField::verified(py, offsets.running_task, size, &probe_task);
        let running = ThreadField::verified(py, offsets.running_loop, size, &probe_loop);
        if let Err(raised) = leave.call(&[&probe_loop, &probe_task]) {
            drop(raised.take(py));
            return None;
        }
        Some((task?, running?))
    })();
    if let Err(raised) = imports.set_running_loop.get(py).call1(&previous) {
        drop(raised.take(py));
    }
    found
}

/// asyncio's own functions that return the running loop: `_get_running_loop`, and
/// `get_running_loop`, which raises where no loop runs.
static OWN_FUNCTIONS: PyOnceLock<[Option<Global>; 2]> = PyOnceLock::new();

/// The version of the namespace in which both functions were asyncio's own.
static SEEN: SeenVersion = SeenVersion::new();

/// The function that the program has put in the place of one of them, as trio-asyncio does.
#[inline(never)]
fn replaced_function(py: Python<'_>) -> Result<Option<Obj>, Raised> {
    let names = [
        pyo3::intern!(py, "_get_running_loop"),
        pyo3::intern!(py, "get_running_loop"),
    ];
    let Some(own) = OWN_FUNCTIONS.get(py) else {
        return Ok(None);
    };
    let known: Vec<(&Obj, [&Obj; 1])> = std::iter::zip(names, own)
        .filter_map(|(name, own)| Some((Obj::name(name), [own.as_ref()?.get(py)])))
        .collect();
    let known: Vec<(&Obj, &[&Obj])> = known.iter().map(|(name, own)| (*name, &own[..])).collect();
    replacement(&asyncio(py).events_namespace, &SEEN, &known)
}

fn load_functions(py: Python<'_>) -> Result<(), Raised> {
    let accelerator = asyncio(py).accelerator.get(py);
    let find = |name: &str| accelerator.attr_opt(&pyo3::types::PyString::intern(py, name));
    let own = [
        find("_get_running_loop")?.map(Global::new),
        find("get_running_loop")?.map(Global::new),
    ];
    let _ = OWN_FUNCTIONS.set(py, own);
    Ok(())
}

/// The loop that runs in this thread.
#[inline]
pub(crate) fn running_loop(py: Python<'_>) -> Result<Option<Obj>, Raised> {
    match known_loop(py) {
        Some(running) => Ok(Some(running)),
        None => ask_for_loop(py),
    }
}

/// The loop that runs in this thread, if it is known without calling asyncio.
#[inline(always)]
pub(crate) fn known_loop(py: Python<'_>) -> Option<Obj> {
    // A forked child's thread state still names the parent's loop. On the versions that keep the
    // loop elsewhere, asyncio's own function compares the process id.
    match PLACE.get(py) {
        Some(CurrentPlace::Thread { running, .. }) if SEEN.is_current(py) => {
            running.get(py).and_then(Obj::not_none)
        }
        _ => None,
    }
}

/// As [`running_loop`], where the program may have replaced asyncio's functions.
#[cold]
fn ask_for_loop(py: Python<'_>) -> Result<Option<Obj>, Raised> {
    if let Some(function) = replaced_function(py)? {
        return Ok(function.call0()?.not_none());
    }
    if let Some(CurrentPlace::Thread { running, .. }) = PLACE.get(py) {
        return Ok(running.get(py).and_then(Obj::not_none));
    }
    Ok(asyncio(py).get_running_loop.get(py).call0()?.not_none())
}

/// A task that was made the running one, and the field that was filled for it.
pub(crate) struct EnteredTask(Option<Filled>);

/// Makes the task the running one of its loop. Raises RuntimeError if another one runs.
#[inline]
pub(crate) fn enter(py: Python<'_>, event_loop: &Obj, task: &Obj) -> Result<EnteredTask, Raised> {
    if let Some(CurrentPlace::Thread {
        task: field,
        running,
    }) = PLACE.get(py)
    {
        if let Some(filled) = field.fill(*running, event_loop, task) {
            return Ok(EnteredTask(Some(filled)));
        }
    }
    enter_elsewhere(py, event_loop, task).map(|()| EnteredTask(None))
}

impl EnteredTask {
    /// Ends the task's turn as the running one. Raises RuntimeError if it did not run.
    #[inline]
    pub(crate) fn leave(self, event_loop: &Obj, task: &Obj) -> Result<(), Raised> {
        match self.0 {
            Some(filled) if filled.empty(task) => Ok(()),
            _ => leave(task.py(), event_loop, task),
        }
    }
}

#[inline(never)]
fn enter_elsewhere(py: Python<'_>, event_loop: &Obj, task: &Obj) -> Result<(), Raised> {
    match PLACE.get(py) {
        Some(CurrentPlace::Thread {
            task: field,
            running,
        }) if running.holds(event_loop) => match field.replace(py, Some(task.clone())) {
            None => Ok(()),
            Some(other) => {
                let raised = cannot_enter(py, event_loop, task, &other);
                drop(field.replace(py, Some(other)));
                Err(raised)
            }
        },
        Some(CurrentPlace::Dict(dict)) => {
            let dict = dict.get(py);
            if let Some(other) = dict.dict_get(event_loop)? {
                return Err(cannot_enter(py, event_loop, task, &other));
            }
            dict.dict_set(event_loop, task)
        }
        _ => {
            let task_functions = &asyncio(py).task_functions;
            task_functions
                .enter_task
                .get(py)
                .call(&[event_loop, task])
                .map(drop)
        }
    }
}

/// Ends the task's turn by asyncio's function. Raises RuntimeError if the task did not run.
#[inline(never)]
pub(crate) fn leave(py: Python<'_>, event_loop: &Obj, task: &Obj) -> Result<(), Raised> {
    match PLACE.get(py) {
        Some(CurrentPlace::Thread { task: field, .. }) if field.holds(task) => {
            drop(field.replace(py, None));
            Ok(())
        }
        Some(CurrentPlace::Dict(dict)) => {
            let dict = dict.get(py);
            match dict.dict_get(event_loop)? {
                Some(running) if running.is(task) => dict.dict_del(event_loop),
                other => Err(cannot_leave(py, task, other)),
            }
        }
        _ => {
            let task_functions = &asyncio(py).task_functions;
            task_functions
                .leave_task
                .get(py)
                .call(&[event_loop, task])
                .map(drop)
        }
    }
}

/// Makes another task (or none) the running one; returns the one that ran.
pub(crate) fn swap(
    py: Python<'_>,
    event_loop: &Obj,
    task: Option<&Obj>,
) -> Result<Option<Obj>, Raised> {
    match PLACE.get(py) {
        Some(CurrentPlace::Thread {
            task: field,
            running,
        }) if running.holds(event_loop) => Ok(field.replace(py, task.cloned())),
        Some(CurrentPlace::Dict(dict)) => {
            let dict = dict.get(py);
            let previous = dict.dict_get(event_loop)?;
            match task {
                Some(task) => dict.dict_set(event_loop, task)?,
                None if previous.is_some() => dict.dict_del(event_loop)?,
                None => {}
            }
            Ok(previous)
        }
        _ => {
            let none = Obj::none(py);
            match &asyncio(py).task_functions.swap_current_task {
                Some(swap) => {
                    let swap = swap.get(py);
                    Ok(swap.call(&[event_loop, task.unwrap_or(&none)])?.not_none())
                }
                None => Ok(None),
            }
        }
    }
}

/// The running task of a loop. `None` stands for the running loop, which must exist.
pub(crate) fn current_task(
    py: Python<'_>,
    event_loop: Option<&Obj>,
) -> Result<Option<Obj>, Raised> {
    let given = match event_loop {
        Some(event_loop) if !event_loop.is_none() => event_loop.clone(),
        _ => {
            if let (Some(CurrentPlace::Thread { task, running }), true) =
                (PLACE.get(py), SEEN.is_current(py))
            {
                if let Some(task) = task.get_guarded(py, *running) {
                    return Ok(Some(task));
                }
            }
            match running_loop(py)? {
                Some(running) => running,
                None => return Err(Raised::runtime_error(py, "no running event loop")),
            }
        }
    };
    match PLACE.get(py) {
        Some(CurrentPlace::Thread { task, running }) if running.holds(&given) => Ok(task.get(py)),
        Some(CurrentPlace::Dict(dict)) => dict.get(py).dict_get(&given),
        _ => Ok(asyncio(py)
            .task_functions
            .current_task
            .get(py)
            .call1(&given)?
            .not_none()),
    }
}

#[cold]
fn cannot_enter(py: Python<'_>, _event_loop: &Obj, task: &Obj, other: &Obj) -> Raised {
    let text = (|| -> Result<String, Raised> {
        Ok(format!(
            "Cannot enter into task {} while another task {} is being executed.",
            task.repr()?.as_str()?,
            other.repr()?.as_str()?
        ))
    })();
    match text {
        Ok(text) => Raised::runtime_error(py, &text),
        Err(raised) => raised,
    }
}

#[cold]
fn cannot_leave(py: Python<'_>, task: &Obj, other: Option<Obj>) -> Raised {
    let text = (|| -> Result<String, Raised> {
        Ok(format!(
            "Leaving task {} does not match the current task {}.",
            task.repr()?.as_str()?,
            other.unwrap_or_else(|| Obj::none(py)).repr()?.as_str()?
        ))
    })();
    match text {
        Ok(text) => Raised::runtime_error(py, &text),
        Err(raised) => raised,
    }
}
