//! The Python side of a Queue: the class, its methods, properties and texts.

use std::ffi::CStr;

use cpython::build::Builder;
use cpython::{Hot, NoParent, Obj, Raised, Ref};
use pyo3::intern;

use super::binding::build_shared;
use super::in_dict;
use super::queue::Queue;
use super::waiters::show_waiters;
use crate::futures::generic_alias;
use crate::tasks::any_future::AnyFuture;

/// `_format()`: the state of the queue in repr() and str().
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

/// The name of the class, and the text of `_format()`.
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
        if AnyFuture::of_waiter(&waiter).set_unless_done(Ok(Obj::none(py)))? {
            break;
        }
    }
    Ok(())
}

impl Hot for Queue {
    type Parent = NoParent;
    const NAME: &'static CStr = c"asyncio.queues.Queue";
    const DOC: &'static CStr = c"Queue(maxsize=0)\n--\n\n\
        A queue for tasks, as asyncio.Queue: the first item put is the first got.\n\n\
        maxsize: how many items there may be before put() must wait; no limit if not positive.";
    const FREELIST: usize = 64;
    const BASED: bool = false;
    const MOVES: bool = true;
    cpython::hot_type!();

    fn may_move(this: &Ref<Queue>) -> bool {
        let idle = this.getters.is_plainly_empty() && this.putters.is_plainly_empty();
        idle && !in_dict::is_there(this)
    }
    cpython::holds!(shared, maxsize, items, getters, putters, finished);

    fn build(builder: &mut Builder<Self>) {
        build_shared(builder);
        builder.new_value(|_| Ok(Queue::empty())).init(Queue::init);
        build_methods(builder);
        build_attributes(builder);
    }
}

/// Adds all methods but the coroutine functions.
fn build_methods(builder: &mut Builder<Queue>) {
    if cfg!(Py_3_13) {
        builder.method(
            c"shutdown",
            c"shutdown($self, /, immediate=False)\n--\n\n\
              Take no more items; get() raises QueueShutDown when there are none left.\n\n\
              immediate: drop those that are left.",
            Queue::shut_down,
        );
    }
    builder
        .repr(repr)
        .string(string)
        .class_method(c"__class_getitem__", c"See PEP 585", generic_alias)
        .method0(
            c"_format",
            c"_format($self, /)\n--\n\nThe state of the queue, as repr() shows it.",
            in_dict::method!("_format", format),
        )
        .method1(
            c"_init",
            c"_init($self, maxsize, /)\n--\n\nMake the container of the items.",
            in_dict::method_with!("_init", |this: &Ref<Queue>, _: &Obj| Queue::init_items(
                this
            )),
        )
        .method1(
            c"_put",
            c"_put($self, item, /)\n--\n\nPut an item into the container.",
            in_dict::method_with!("_put", Queue::put_item),
        )
        .method0(
            c"_get",
            c"_get($self, /)\n--\n\nTake the next item from the container.",
            in_dict::method!("_get", Queue::get_item),
        )
        .method1(
            c"_wakeup_next",
            c"_wakeup_next($self, waiters, /)\n--\n\nWake the first of the waiters that is not done.",
            wake_next,
        )
        .method0(
            c"qsize",
            c"qsize($self, /)\n--\n\nThe number of items.",
            in_dict::method!("qsize", Queue::size),
        )
        .method0(
            c"empty",
            c"empty($self, /)\n--\n\nWhether the queue is empty.",
            in_dict::method!("empty", Queue::is_empty),
        )
        .method0(
            c"full",
            c"full($self, /)\n--\n\nWhether put() would have to wait.",
            in_dict::method!("full", Queue::is_full),
        )
        .method(
            c"put_nowait",
            c"put_nowait($self, /, item)\n--\n\nPut an item; raises QueueFull if there is no room.",
            |this, args| {
                let item = args.one("Queue.put_nowait", "item")?;
                if in_dict::stays(this)? {
                    return in_dict::call(this, "put_nowait", &[item]).map(drop);
                }
                Queue::put_nowait(this, item)
            },
        )
        .method0(
            c"get_nowait",
            c"get_nowait($self, /)\n--\n\nTake the next item; raises QueueEmpty if there is none.",
            in_dict::method!("get_nowait", Queue::get_nowait),
        )
        .method0(
            c"task_done",
            c"task_done($self, /)\n--\n\n\
              Note that an item is dealt with; raises ValueError if none was left.",
            in_dict::method!("task_done", Queue::task_done),
        )
        .get(
            c"maxsize",
            c"The maximum number of items; 0 or less for no limit.",
            in_dict::method!("maxsize", |this: &Ref<Queue>| this.maxsize()),
        );
}

/// Adds the attributes that asyncio's class has.
fn build_attributes(builder: &mut Builder<Queue>) {
    if cfg!(Py_3_13) {
        in_dict::attribute!(
            builder,
            "_is_shutdown",
            c"Whether the queue is shut down.",
            |this: &Ref<Queue>| this.is_shut_down.get(),
            |this: &Ref<Queue>, value: Option<&Obj>| {
                this.is_shut_down.set(value.map_or(Ok(false), Obj::truth)?);
                Ok(())
            },
        );
    }
    in_dict::attribute!(
        builder,
        "_maxsize",
        c"The maximum number of items; 0 or less for no limit.",
        |this: &Ref<Queue>| this.maxsize(),
        |this: &Ref<Queue>, value: Option<&Obj>| this.set_maxsize(value.cloned()),
    );
    in_dict::attribute!(
        builder,
        "_queue",
        c"The container of the items.",
        Queue::show_items,
        |this: &Ref<Queue>, value: Option<&Obj>| {
            this.items.put_in_place(value.cloned());
            Ok(())
        },
    );
    in_dict::attribute!(
        builder,
        "_getters",
        c"The Futures of the calls that wait for an item.",
        |this: &Ref<Queue>| show_waiters(this, &this.getters),
        |this: &Ref<Queue>, value: Option<&Obj>| {
            this.getters.put_in_place(value.cloned());
            Ok(())
        },
    );
    in_dict::attribute!(
        builder,
        "_putters",
        c"The Futures of the calls that wait for room.",
        |this: &Ref<Queue>| show_waiters(this, &this.putters),
        |this: &Ref<Queue>, value: Option<&Obj>| {
            this.putters.put_in_place(value.cloned());
            Ok(())
        },
    );
    in_dict::attribute!(
        builder,
        "_unfinished_tasks",
        c"The number of items for which task_done() was not called yet.",
        |this: &Ref<Queue>| this.unfinished.get(),
        |this: &Ref<Queue>, value: Option<&Obj>| {
            this.unfinished.set(value.map_or(Ok(0), Obj::to_i64)?);
            Ok(())
        },
    );
    in_dict::attribute!(
        builder,
        "_finished",
        c"The Event behind join().",
        Queue::finished,
        |this: &Ref<Queue>, value: Option<&Obj>| {
            this.set_finished(value.cloned());
            Ok(())
        },
    );
}
