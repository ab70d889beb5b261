//! Methods for `loop._ready`, `loop._scheduled` and `loop._selector`.

use cpython::build::Builder;
use cpython::{Args, Obj, Raised, Ref};

use crate::event_loop::EventLoop;

fn insert_ready(this: &Ref<EventLoop>, args: &Args<'_>) -> Result<bool, Raised> {
    let [after, handle] = args.bind("_insert_ready", &["after", "handle"], 2, 2)?;
    let after = after.as_ref().and_then(Obj::small_int).unwrap_or_default();
    let after = usize::try_from(after).unwrap_or_default();
    Ok(handle.is_some_and(|handle| EventLoop::insert_ready(this, after, &handle)))
}

/// `_poll(timeout)`: the descriptors that became ready, each with its events.
fn poll(this: &Ref<EventLoop>, timeout: &Obj) -> Result<Obj, Raised> {
    let py = this.py();
    let timeout = match timeout.is_none() {
        true => None,
        false => Some(engine::nanos_from_seconds(timeout.to_f64()?.max(0.0))),
    };
    let events = EventLoop::poll(this, timeout)?;
    let list = Obj::list(py)?;
    for event in events {
        let mask = i64::from(event.readable) | i64::from(event.writable) << 1;
        let pair = [Obj::int(py, event.token as i64)?, Obj::int(py, mask)?];
        list.append(&Obj::tuple(py, &pair)?)?;
    }
    Ok(list)
}

pub(super) fn build(builder: &mut Builder<EventLoop>) {
    builder
        .method0(c"_list_ready", c"What is ready.", EventLoop::list_ready)
        .method0(
            c"_list_scheduled",
            c"The waiting timers.",
            EventLoop::list_scheduled,
        )
        .method(
            c"_insert_ready",
            c"Put a handle into the queue.",
            insert_ready,
        )
        .method1(
            c"_insert_scheduled",
            c"Put a timer handle into the heap.",
            EventLoop::insert_scheduled,
        )
        .method1(
            c"_remove_ready",
            c"Take an entry out of the queue.",
            |this, after| {
                let after = after.small_int().unwrap_or(-1);
                EventLoop::remove_ready(this, usize::try_from(after).unwrap_or(usize::MAX));
            },
        )
        .method1(
            c"_remove_scheduled",
            c"Take a timer out of the heap.",
            EventLoop::remove_scheduled,
        )
        .method1(
            c"_run_waiting",
            c"Run an entry or an alarm at once.",
            |this, object| EventLoop::run_waiting(this, object).map_err(Raised::from),
        )
        .method1(
            c"_run_step",
            c"Take a step of a task that has no entry.",
            |this, task| EventLoop::run_step(this, task).map_err(Raised::from),
        )
        .method0(
            c"_list_watches",
            c"The watched descriptors.",
            EventLoop::list_watches,
        )
        .method1(
            c"_poll",
            c"Wait until a descriptor is ready; return the ready ones.",
            poll,
        )
        .method1(
            c"_set_select",
            c"Wait by this function from now on, or by the loop's own if it is None.",
            |this, select| EventLoop::set_select(this, select.clone().not_none()),
        )
        .method1(
            c"_cancel_alarm",
            c"Cancel an alarm.",
            EventLoop::cancel_alarm,
        );
}
