//! `aioxide._aioxide`: asyncio's objects, native.
//!
//! Rooms, each built only on those before it:
//!
//! | room | what it holds |
//! |---|---|
//! | [`interop`] | what is taken from the running interpreter's asyncio |
//! | [`handles`] | what waits to run: handles and entries |
//! | [`event_loop`] | queue, timers, descriptors; one iteration |
//! | [`futures`] | Future |
//! | [`coroutines`] | native coroutine objects: sleep |
//! | [`tasks`] | Task |
//! | [`sync`] | locks, queues |
//! | [`waiting`] | gather, wait, timeouts, task groups |
//! | [`transports`] | TCP and Unix streams, datagrams, pipes |
//! | [`tls`] | TLS above these transports, or any other |
//! | [`operations`] | accepting connections, `sock_*` |
//! | [`streams`] | readers and writers |
//! | [`subprocess`] | child processes |
//! | [`executor`] | the default executor, `to_thread` |
//! | [`loop_api`] | the loop's Python side |
#![forbid(unsafe_code)]

mod interop;

mod handles;

mod event_loop;

mod futures;

mod coroutines;

mod tasks;

mod sync;

mod waiting;

mod transports;

mod tls;

mod operations;

mod streams;

mod subprocess;

mod executor;

mod loop_api;

use cpython::{Hot, Obj, Python, Raised, Ref};
use pyo3::prelude::*;

/// The module. Only one interpreter of a process can import it. The GIL guards its state, or, in a
/// free-threaded build, the domains of its objects.
#[pymodule(gil_used = false)]
fn _aioxide(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    start(py, Obj::from_bound_ref(module)).map_err(|raised| raised.into_py_err(py))
}

fn start(py: Python<'_>, module: &Obj) -> Result<(), Raised> {
    cpython::interpreter::claim(py)?;
    cpython::domain::start(py)?;
    interop::imports::load(py)?;
    let offsets = interop::mirror::offsets(py);
    interop::current::load(py, offsets)?;
    if let Some(offsets) = &offsets {
        let (thread, interpreter) = (offsets.thread_size, offsets.interpreter_size);
        cpython::context::verify(py, thread as usize, interpreter as usize);
    }

    handles::handle::build(py)?;
    loop_api::build(py)?;
    futures::build(py)?;
    coroutines::build(py)?;
    tasks::build(py)?;
    let fields = offsets.and_then(|offsets| interop::mirror::verified(py, &offsets));
    if let Some((of_future, of_task)) = fields {
        futures::keep_mirror(py, of_future);
        tasks::keep_mirror(py, of_task);
    }
    sync::build(py)?;
    let mut registry = handles::Registry::default();
    waiting::build(py, &mut registry)?;
    transports::build(py, &mut registry)?;
    tls::build(py, &mut registry)?;
    operations::build(py, &mut registry)?;
    streams::build(py, &mut registry)?;
    subprocess::build(py, &mut registry)?;
    executor::build(py, &mut registry)?;

    registry.complete(handles::served::Kinds {
        notify: futures::notify,
        alarm: futures::alarm,
        ended: tasks::ended,
        timer_cancelled: event_loop::EventLoop::note_timer_cancelled,
        reclaim: event_loop::EventLoop::reclaim_context,
        debug: event_loop::EventLoop::debug_of,
    });
    event_loop::watch_clock(py)?;

    let name = module.attr(pyo3::intern!(py, "__name__"))?;
    add::<handles::Handle>(py, module, "Handle")?;
    add::<handles::TimerHandle>(py, module, "TimerHandle")?;
    add::<event_loop::EventLoop>(py, module, "EventLoop")?;
    add::<futures::Future>(py, module, "Future")?;
    add::<tasks::Task>(py, module, "Task")?;
    add::<transports::StreamTransport>(py, module, "StreamTransport")?;
    add::<transports::DatagramTransport>(py, module, "DatagramTransport")?;
    add::<transports::pipes::ReadPipeTransport>(py, module, "ReadPipeTransport")?;
    add::<transports::pipes::WritePipeTransport>(py, module, "WritePipeTransport")?;
    add::<streams::StreamReader>(py, module, "StreamReader")?;
    add::<streams::StreamWriter>(py, module, "StreamWriter")?;
    add::<streams::StreamReaderProtocol>(py, module, "StreamReaderProtocol")?;
    add::<subprocess::SubprocessTransport>(py, module, "SubprocessTransport")?;
    add::<tls::SslProtocol>(py, module, "SSLProtocol")?;
    add::<tls::SslTransport>(py, module, "_SSLProtocolTransport")?;
    add::<executor::JobQueue>(py, module, "_JobQueue")?;
    coroutines::add_functions(py, module)?;
    executor::add_functions(py, module)?;
    tasks::add_functions(py, module, &name)?;
    sync::add_classes(py, module)?;
    streams::add_functions(py, module, &name)?;
    waiting::add_functions(py, module, &name)?;
    loop_api::add_functions(py, module, &name)?;
    let version = Obj::str(py, env!("CARGO_PKG_VERSION"))?;
    module.set_attr(pyo3::intern!(py, "__version__"), &version)
}

fn add<T: Hot>(py: Python<'_>, module: &Obj, name: &str) -> Result<(), Raised> {
    module.set_attr(
        &pyo3::types::PyString::intern(py, name),
        &Ref::<T>::class(py),
    )
}
