//! Where the running version keeps the running loop and the running task.
//!
//! 3.14 and later keep both in the thread state, in fields whose offsets the accelerator's debug
//! section gives; 3.12 and 3.13 keep the tasks in a dict of the accelerator, 3.11 in one of
//! `asyncio.tasks`. We write to the same place, so that asyncio's own functions, C Tasks and
//! debuggers see native tasks, whoever asks.

use cpython::foreign::{Filled, ThreadField};
use cpython::{Global, Obj, Python, Raised};
use pyo3::sync::PyOnceLock;

use super::imports::asyncio;

enum Place {
    /// Fields of the thread state.
    Thread {
        task: ThreadField,
        running: ThreadField,
    },
    /// A dict, loop to task.
    Dict(Global),
    /// Neither was found: through the accelerator's functions.
    Functions,
}

static PLACE: PyOnceLock<Place> = PyOnceLock::new();

/// Finds the place; called when the module starts.
pub(crate) fn load(py: Python<'_>, offsets: Option<super::mirror::Offsets>) -> Result<(), Raised> {
    let accelerator = asyncio(py).accelerator.get(py);
    let place = match offsets.and_then(|offsets| thread_fields(py, &offsets)) {
        Some((task, running)) => Place::Thread { task, running },
        None => match accelerator.attr_opt(pyo3::intern!(py, "_current_tasks"))? {
            Some(dict) => Place::Dict(Global::new(dict)),
            None => Place::Functions,
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
        // Inside another task (aioxide imported by a coroutine) the probe cannot be entered.
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

/// The loop that runs in this thread.
#[inline]
pub(crate) fn running_loop(py: Python<'_>) -> Result<Option<Obj>, Raised> {
    // A forked child's thread state still names the parent's loop; asyncio's own function
    // looks at the process id on the versions that keep it elsewhere.
    if let Some(Place::Thread { running, .. }) = PLACE.get(py) {
        return Ok(running.get(py).and_then(Obj::not_none));
    }
    Ok(asyncio(py).get_running_loop.get(py).call0()?.not_none())
}

/// How the task became the running one.
pub(crate) struct Entered(Option<Filled>);

/// Makes the task the running one of its loop. Raises RuntimeError if another one runs.
#[inline]
pub(crate) fn enter(py: Python<'_>, event_loop: &Obj, task: &Obj) -> Result<Entered, Raised> {
    if let Some(Place::Thread {
        task: field,
        running,
    }) = PLACE.get(py)
    {
        if let Some(filled) = field.fill(*running, event_loop, task) {
            return Ok(Entered(Some(filled)));
        }
    }
    enter_elsewhere(py, event_loop, task).map(|()| Entered(None))
}

impl Entered {
    /// The task no longer runs. Raises RuntimeError if it did not.
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
        Some(Place::Thread {
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
        Some(Place::Dict(dict)) => {
            let dict = dict.get(py);
            if let Some(other) = dict.dict_get(event_loop)? {
                return Err(cannot_enter(py, event_loop, task, &other));
            }
            dict.dict_set(event_loop, task)
        }
        _ => {
            let books = &asyncio(py).books;
            books.enter_task.get(py).call(&[event_loop, task]).map(drop)
        }
    }
}

/// The task no longer runs. Raises RuntimeError if it did not.
#[inline(never)]
pub(crate) fn leave(py: Python<'_>, event_loop: &Obj, task: &Obj) -> Result<(), Raised> {
    match PLACE.get(py) {
        Some(Place::Thread { task: field, .. }) if field.holds(task) => {
            drop(field.replace(py, None));
            Ok(())
        }
        Some(Place::Dict(dict)) => {
            let dict = dict.get(py);
            match dict.dict_get(event_loop)? {
                Some(running) if running.is(task) => dict.dict_del(event_loop),
                other => Err(cannot_leave(py, task, other)),
            }
        }
        _ => {
            let books = &asyncio(py).books;
            books.leave_task.get(py).call(&[event_loop, task]).map(drop)
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
        Some(Place::Thread {
            task: field,
            running,
        }) if running.holds(event_loop) => Ok(field.replace(py, task.cloned())),
        Some(Place::Dict(dict)) => {
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
            match &asyncio(py).books.swap_current_task {
                Some(swap) => {
                    let swap = swap.get(py);
                    Ok(swap.call(&[event_loop, task.unwrap_or(&none)])?.not_none())
                }
                None => Ok(None),
            }
        }
    }
}

/// The running task of a loop (`None`: of the running one, which must exist).
pub(crate) fn current_task(
    py: Python<'_>,
    event_loop: Option<&Obj>,
) -> Result<Option<Obj>, Raised> {
    let given = match event_loop {
        Some(event_loop) if !event_loop.is_none() => event_loop.clone(),
        _ => match running_loop(py)? {
            Some(running) => running,
            None => return Err(Raised::runtime_error(py, "no running event loop")),
        },
    };
    match PLACE.get(py) {
        Some(Place::Thread { task, running }) if running.holds(&given) => Ok(task.get(py)),
        Some(Place::Dict(dict)) => dict.get(py).dict_get(&given),
        _ => Ok(asyncio(py)
            .books
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
