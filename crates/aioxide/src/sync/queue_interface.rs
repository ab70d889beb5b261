//! The Python side of a Queue: methods, properties, texts.

use cpython::build::Builder;
use cpython::{Obj, Raised, Ref};
use pyo3::intern;

use super::originals;
use super::queue::Queue;
use super::waiters::wake;
use crate::futures::generic_alias;

/// `_format()`: what repr() and str() say of it.
fn format(this: &Ref<Queue>) -> Result<String, Raised> {
    let py = this.py();
    let maxsize = this.maxsize().unwrap_or_else(|| Obj::none(py));
    let mut text = format!("maxsize={}", maxsize.repr()?.as_str()?);
    if !this.items.is_empty()? {
        let items = Queue::show_items(this)?;
        let list = Obj::class_of::<pyo3::types::PyList>(py).call1(&items)?;
        text.push_str(&format!(" _queue={}", list.repr()?.as_str()?));
    }
    for (name, waiters) in [("_getters", &this.getters), ("_putters", &this.putters)] {
        if !waiters.is_empty()? {
            text.push_str(&format!(" {name}[{}]", waiters.len()?));
        }
    }
    if this.unfinished.get() != 0 {
        text.push_str(&format!(" tasks={}", this.unfinished.get()));
    }
    if this.is_shut_down.get() {
        text.push_str(" shutdown");
    }
    Ok(text)
}

/// The class's name, and what `_format()` says.
fn texts(this: &Ref<Queue>) -> Result<(String, String), Raised> {
    let py = this.py();
    let name = this
        .as_obj()
        .class()
        .attr(intern!(py, "__name__"))?
        .to_string()?;
    let format = this.as_obj().method(intern!(py, "_format"), &[])?;
    Ok((name, format.to_string()?))
}

fn repr(this: &Ref<Queue>) -> Result<String, Raised> {
    let (name, format) = texts(this)?;
    Ok(format!("<{name} at {:p} {format}>", this.as_obj().as_ptr()))
}

fn string(this: &Ref<Queue>) -> Result<String, Raised> {
    let (name, format) = texts(this)?;
    Ok(format!("<{name} {format}>"))
}

/// `_wakeup_next(waiters)`.
fn wake_next(this: &Ref<Queue>, waiters: &Obj) -> Result<(), Raised> {
    let py = this.py();
    while waiters.truth()? {
        let waiter = waiters.method(intern!(py, "popleft"), &[])?;
        if wake(&waiter, Obj::none(py))? {
            break;
        }
    }
    Ok(())
}

/// Adds everything but the coroutine functions.
pub(super) fn build_queue(builder: &mut Builder<Queue>) {
    if cfg!(Py_3_13) {
        builder
            .method(
                c"shutdown",
                c"shutdown($self, /, immediate=False)\n--\n\n\
                  Take no more items; get() raises QueueShutDown when there are none left.\n\n\
                  immediate: drop those that are left.",
                Queue::shut_down,
            )
            .flag(c"_is_shutdown", c"Whether it is shut down.", |this| {
                &this.is_shut_down
            });
    }
    builder
        .repr(repr)
        .string(string)
        .class_method(c"__class_getitem__", c"See PEP 585", generic_alias)
        .method0(
            c"_format",
            c"_format($self, /)\n--\n\nWhat repr() says.",
            format,
        )
        .method1(
            c"_init",
            c"_init($self, maxsize, /)\n--\n\nMake the container of the items.",
            |this, _| Queue::init_items(this),
        )
        .method1(
            c"_put",
            c"_put($self, item, /)\n--\n\nPut an item into the container.",
            Queue::put_item,
        )
        .method0(
            c"_get",
            c"_get($self, /)\n--\n\nTake the next item from the container.",
            Queue::get_item,
        )
        .method1(
            c"_wakeup_next",
            c"_wakeup_next($self, waiters, /)\n--\n\nLet the first of the waiters go on.",
            wake_next,
        )
        .method0(
            c"qsize",
            c"qsize($self, /)\n--\n\nHow many items are in it.",
            Queue::size,
        )
        .method0(
            c"empty",
            c"empty($self, /)\n--\n\nWhether no item is in it.",
            Queue::is_empty,
        )
        .method0(
            c"full",
            c"full($self, /)\n--\n\nWhether put() would have to wait.",
            Queue::is_full,
        )
        .method(
            c"put_nowait",
            c"put_nowait($self, /, item)\n--\n\nPut an item; raises QueueFull if there is no room.",
            |this, args| Queue::put_nowait(this, args.one("Queue.put_nowait", "item")?),
        )
        .method0(
            c"get_nowait",
            c"get_nowait($self, /)\n--\n\nTake the next item; raises QueueEmpty if there is none.",
            Queue::get_nowait,
        )
        .method0(
            c"task_done",
            c"task_done($self, /)\n--\n\n\
              An item is dealt with; raises ValueError if there was none left.",
            Queue::task_done,
        )
        .get(c"maxsize", c"How many items there may be.", |this| {
            this.maxsize()
        })
        .get_set(
            c"_maxsize",
            c"How many items there may be.",
            |this| this.maxsize(),
            |this, value| this.set_maxsize(value.cloned()),
        )
        .get_set(
            c"_queue",
            c"The container of the items.",
            Queue::show_items,
            |this, value| {
                this.items.put_in_place(value.cloned());
                Ok(())
            },
        )
        .get_set(
            c"_getters",
            c"The Futures of those who wait for an item.",
            |this| {
                this.getters
                    .show(this.py(), originals(this.py()).deque.get(this.py()))
            },
            |this, value| {
                this.getters.put_in_place(value.cloned());
                Ok(())
            },
        )
        .get_set(
            c"_putters",
            c"The Futures of those who wait for room.",
            |this| {
                this.putters
                    .show(this.py(), originals(this.py()).deque.get(this.py()))
            },
            |this, value| {
                this.putters.put_in_place(value.cloned());
                Ok(())
            },
        )
        .get_set(
            c"_unfinished_tasks",
            c"How many items are not dealt with.",
            |this| this.unfinished.get(),
            |this, value| {
                this.unfinished.set(value.map_or(Ok(0), Obj::to_i64)?);
                Ok(())
            },
        )
        .get_set(
            c"_finished",
            c"The Event behind join().",
            Queue::finished,
            |this, value| {
                this.set_finished(value.cloned());
                Ok(())
            },
        );
}
