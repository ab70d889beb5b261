//! Descriptors: readers and writers of the program, native operations that wait, and native
//! transports.
//!
//! An operation waits in the reader's or the writer's place, as asyncio's do, so that whoever
//! comes after it takes the place from it. Alone on its descriptor it is watched for one event:
//! the selector keeps the descriptor afterwards, silent, and the next operation need not register
//! it again nor the last one take it out.

use cpython::context::Bound;
use cpython::{Args, Obj, Raised, Ref, Visit, context};
use engine::{Event, Interest};

use super::EventLoop;
use crate::handles::{Callback, Entry, Handle};

/// What is watched of one descriptor.
#[derive(Default)]
struct Watch {
    /// `add_reader`'s handle, a pipe's transport, or an operation.
    reader: Option<Watcher>,
    /// `add_writer`'s handle, a pipe's transport, or an operation.
    writer: Option<Watcher>,
    /// A native transport, which has the descriptor to itself.
    io: Option<Obj>,
    /// What `add_reader` or `add_writer` was given instead of a number. It stays open meanwhile,
    /// and is found again once the program has closed it.
    file: Option<Obj>,
    /// What the selector reports.
    interest: Interest,
    /// It reports one event only.
    once: bool,
    /// The selector has probably kept the descriptor, though it reports nothing.
    silent: bool,
}

/// Who is told of one half of a descriptor's readiness. Two transports may share a descriptor, one
/// for each half, as may a transport and a handle.
enum Watcher {
    Handle(Ref<Handle>),
    /// A transport or an operation.
    Native(Obj),
}

impl Watcher {
    fn as_obj(&self) -> &Obj {
        match self {
            Watcher::Handle(handle) => handle.as_obj(),
            Watcher::Native(native) => native,
        }
    }

    /// It is told no more.
    fn cancel(self) -> Result<(), Raised> {
        match self {
            Watcher::Handle(handle) => {
                let handle = handle.as_obj();
                let name = pyo3::intern!(handle.py(), "cancel");
                handle.method(name, &[]).map(drop)
            }
            Watcher::Native(_) => Ok(()),
        }
    }
}

impl Watch {
    fn side(&mut self, side: Side) -> &mut Option<Watcher> {
        match side {
            Side::Read => &mut self.reader,
            Side::Write => &mut self.writer,
        }
    }
}

/// The watches by descriptor number.
#[derive(Default)]
pub(super) struct WatchTable(Vec<Option<Box<Watch>>>);

impl WatchTable {
    fn get(&self, fd: i32) -> Option<&Watch> {
        self.0.get(usize::try_from(fd).ok()?)?.as_deref()
    }

    fn get_mut(&mut self, fd: i32) -> Option<&mut Watch> {
        self.0.get_mut(usize::try_from(fd).ok()?)?.as_deref_mut()
    }

    fn entry(&mut self, fd: i32) -> &mut Watch {
        let index = usize::try_from(fd).unwrap_or_default();
        if index >= self.0.len() {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index].get_or_insert_default()
    }

    /// The descriptor that this very object was given for.
    fn find(&self, file: &Obj) -> Option<i32> {
        let is_its = |watch: &Option<Box<Watch>>| {
            let watch = watch.as_deref();
            watch.is_some_and(|watch| watch.file.as_ref().is_some_and(|known| known.is(file)))
        };
        i32::try_from(self.0.iter().position(is_its)?).ok()
    }

    fn remove(&mut self, fd: i32) -> Option<Box<Watch>> {
        self.0.get_mut(usize::try_from(fd).ok()?)?.take()
    }

    pub(super) fn visit(&self, visit: &mut Visit<'_>) {
        for watch in self.0.iter().flatten() {
            for watcher in watch.reader.iter().chain(&watch.writer) {
                visit.object(watcher.as_obj());
            }
            for object in watch.io.iter().chain(&watch.file) {
                visit.object(object);
            }
        }
    }
}

/// Which half of a descriptor's readiness.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Side {
    /// `add_reader`.
    Read,
    /// `add_writer`.
    Write,
}

impl EventLoop {
    /// Watches a descriptor for a native object: its readiness pushes `Entry::read` and
    /// `Entry::write`. With neither the descriptor is forgotten.
    pub(crate) fn watch(
        this: &Ref<EventLoop>,
        fd: i32,
        io: &Obj,
        read: bool,
        write: bool,
    ) -> Result<(), Raised> {
        let mut interest = Interest::NONE;
        if read {
            interest = interest | Interest::READ;
        }
        if write {
            interest = interest | Interest::WRITE;
        }
        if interest.is_empty() {
            let released = this.watches.borrow_mut().remove(fd);
            if released
                .as_ref()
                .is_some_and(|watch| !watch.interest.is_empty())
            {
                EventLoop::tell(this, fd, Interest::READ, Interest::NONE)?;
            }
        } else {
            let (before, once) = this.interest(fd);
            if before != interest || once {
                EventLoop::tell(this, fd, before, interest)?;
            }
            let released = {
                let mut watches = this.watches.borrow_mut();
                let watch = watches.entry(fd);
                (watch.interest, watch.once) = (interest, false);
                (watch.io.replace(io.clone()), watch.file.take())
            };
            drop(released);
        }
        Ok(())
    }

    /// What the selector reports of a descriptor, and whether once only.
    fn interest(&self, fd: i32) -> (Interest, bool) {
        match self.watches.borrow().get(fd) {
            Some(watch) => (watch.interest, watch.once),
            None => (Interest::NONE, false),
        }
    }

    /// Has a native operation wait until the descriptor is ready: `Entry::read` or
    /// `Entry::write`, once or until [`EventLoop::stop_waiting`]. It takes the place of the
    /// program's reader or writer.
    pub(crate) fn wait_for(
        this: &Ref<EventLoop>,
        side: Side,
        fd: i32,
        operation: &Obj,
    ) -> Result<(), Raised> {
        let (before, once) = this.interest(fd);
        let after = before | interest_of(side);
        let arm = before.is_empty();
        if arm {
            EventLoop::arm(this, fd, after)?;
        } else if before != after {
            EventLoop::tell(this, fd, before, after)?;
        }
        let replaced = {
            let mut watches = this.watches.borrow_mut();
            let watch = watches.entry(fd);
            watch.once = arm || (once && before == after);
            (watch.interest, watch.silent) = (after, false);
            watch.side(side).replace(Watcher::Native(operation.clone()))
        };
        replaced.map_or(Ok(()), Watcher::cancel)
    }

    /// Has the selector report one event.
    fn arm(this: &Ref<EventLoop>, fd: i32, interest: Interest) -> Result<(), Raised> {
        let silent = this
            .watches
            .borrow()
            .get(fd)
            .is_some_and(|watch| watch.silent);
        let armed = match &*this.selector.borrow() {
            Some(selector) => selector.arm(fd, u64::from(fd.unsigned_abs()), interest, silent),
            None => Ok(()),
        };
        armed.map_err(|error| Raised::os_error(this.py(), error))
    }

    /// Whether the operation waits for the descriptor: nobody has taken its place.
    pub(crate) fn waits(this: &Ref<EventLoop>, side: Side, fd: i32, operation: &Obj) -> bool {
        let watches = this.watches.borrow();
        let Some(watch) = watches.get(fd) else {
            return false;
        };
        let place = match side {
            Side::Read => &watch.reader,
            Side::Write => &watch.writer,
        };
        place
            .as_ref()
            .is_some_and(|waiting| waiting.as_obj().is(operation))
    }

    /// The operation no longer waits. Does nothing if its place was taken, nor where the
    /// descriptor was closed meanwhile.
    pub(crate) fn stop_waiting(this: &Ref<EventLoop>, side: Side, fd: i32, operation: &Obj) {
        if !EventLoop::waits(this, side, fd, operation) {
            return;
        }
        let (released, before, after) = {
            let mut watches = this.watches.borrow_mut();
            let watch = watches.entry(fd);
            let released = watch.side(side).take();
            let before = watch.interest;
            let after = before - interest_of(side);
            watch.interest = after;
            watch.once &= before == after;
            let file = watch.file.take_if(|_| after.is_empty());
            if after.is_empty() && !watch.silent && watch.io.is_none() {
                drop(watches.remove(fd));
            }
            ((released, file), before, after)
        };
        drop(released);
        if before != after {
            if let Err(raised) = EventLoop::tell(this, fd, before, after) {
                drop(raised.take(this.py()));
            }
        }
    }

    /// The native object that has the descriptor, if any.
    pub(crate) fn watched(this: &Ref<EventLoop>, fd: i32) -> Option<Obj> {
        this.watches.borrow().get(fd)?.io.clone()
    }

    /// Tells the selector. A descriptor that was closed behind our back is no error, nor is one
    /// whose number has come back.
    fn tell(
        this: &Ref<EventLoop>,
        fd: i32,
        before: Interest,
        after: Interest,
    ) -> Result<(), Raised> {
        let selector = this.selector.borrow().clone();
        let Some(selector) = selector else {
            return Ok(());
        };
        let token = u64::from(fd.unsigned_abs());
        let result = if after.is_empty() {
            let _ = selector.unregister(fd);
            Ok(())
        } else if before.is_empty() {
            selector.register(fd, token, after).or_else(|error| {
                if error.kind() == std::io::ErrorKind::AlreadyExists {
                    selector.modify(fd, token, after)
                } else {
                    Err(error)
                }
            })
        } else {
            selector.modify(fd, token, after).or_else(|error| {
                if error.kind() == std::io::ErrorKind::NotFound {
                    selector.register(fd, token, after)
                } else {
                    Err(error)
                }
            })
        };
        result.map_err(|error| Raised::os_error(this.py(), error))
    }

    /// `_add_reader(fd, callback, *args)` and `_add_writer`: returns the new handle; the one
    /// that was there is cancelled.
    pub(crate) fn add_side(
        this: &Ref<EventLoop>,
        side: Side,
        args: &Args<'_>,
    ) -> Result<Obj, Raised> {
        let py = this.py();
        let [file, callback, rest @ ..] = args.positional else {
            return Err(Raised::type_error(
                py,
                "a descriptor and a callback are required",
            ));
        };
        this.check_closed(py)?;
        let fd = EventLoop::descriptor(this, file)?;
        let callback = Callback::new(callback, rest)?;
        let context = Bound::To(context::copy_current(py)?);
        let handle = Ref::new(py, Handle::value(this.as_obj(), callback, context))?;
        Handle::set_repeats(&handle);
        if this.debug() {
            handle.remember_source(py, 0)?;
        }
        let file = (!file.is_int()).then(|| file.clone());
        EventLoop::set_side(this, side, fd, Watcher::Handle(handle.clone()), file)?;
        Ok(handle.into_obj())
    }

    /// Watches one half of a descriptor's readiness for a transport, in the place of who was told
    /// before. The other half may be someone else's.
    pub(crate) fn watch_side(
        this: &Ref<EventLoop>,
        side: Side,
        fd: i32,
        transport: &Obj,
    ) -> Result<(), Raised> {
        this.check_closed(this.py())?;
        EventLoop::set_side(this, side, fd, Watcher::Native(transport.clone()), None)
    }

    fn set_side(
        this: &Ref<EventLoop>,
        side: Side,
        fd: i32,
        watcher: Watcher,
        file: Option<Obj>,
    ) -> Result<(), Raised> {
        let (before, once) = this.interest(fd);
        let after = before | interest_of(side);
        if before != after || once {
            EventLoop::tell(this, fd, before, after)?;
        }
        let (replaced, file) = {
            let mut watches = this.watches.borrow_mut();
            let watch = watches.entry(fd);
            (watch.interest, watch.once) = (after, false);
            let file = file.and_then(|file| watch.file.replace(file));
            (watch.side(side).replace(watcher), file)
        };
        drop(file);
        replaced.map_or(Ok(()), Watcher::cancel)
    }

    /// The number of a descriptor. An object that was closed since it was given has none any
    /// more, and the number that it had is meant, as `selectors` has it.
    fn descriptor(this: &Ref<EventLoop>, file: &Obj) -> Result<i32, Raised> {
        let raised = match descriptor(file) {
            Ok(fd) => return Ok(fd),
            Err(raised) => raised,
        };
        let py = this.py();
        if !raised.matches(&Obj::class_of::<pyo3::exceptions::PyValueError>(py)) {
            return Err(raised);
        }
        let found = this.watches.borrow().find(file);
        match found {
            Some(fd) => {
                drop(raised.take(py));
                Ok(fd)
            }
            None => Err(raised),
        }
    }

    /// `_remove_reader(fd)` and `_remove_writer`: whether there was one.
    pub(crate) fn remove_side(
        this: &Ref<EventLoop>,
        side: Side,
        file: &Obj,
    ) -> Result<bool, Raised> {
        if this.is_closed() {
            return Ok(false);
        }
        let fd = EventLoop::descriptor(this, file)?;
        EventLoop::unwatch_side(this, side, fd)
    }

    /// Watches one half of a descriptor's readiness no more: whether it was.
    pub(crate) fn unwatch_side(this: &Ref<EventLoop>, side: Side, fd: i32) -> Result<bool, Raised> {
        let (removed, file) = {
            let mut watches = this.watches.borrow_mut();
            let Some(watch) = watches.get(fd) else {
                return Ok(false);
            };
            if watch.io.is_some() {
                return Ok(false);
            }
            let watch = watches.entry(fd);
            let removed = watch.side(side).take();
            let before = watch.interest;
            let after = before - interest_of(side);
            watch.interest = after;
            watch.once &= before == after;
            let file = watch.file.take_if(|_| after.is_empty());
            if after.is_empty() {
                drop(watches.remove(fd));
            }
            drop(watches);
            if before != after {
                EventLoop::tell(this, fd, before, after)?;
            }
            (removed, file)
        };
        drop(file);
        match removed {
            Some(watcher) => watcher.cancel().map(|()| true),
            None => Ok(false),
        }
    }

    /// Turns readiness into entries.
    pub(super) fn deliver(this: &Ref<EventLoop>, events: &[Event]) -> Result<(), Raised> {
        for event in events {
            match event.token {
                super::WAKER => {
                    if let Some(waker) = &*this.waker.borrow() {
                        waker.drain();
                    }
                }
                super::SIGNALS => EventLoop::deliver_signals(this)?,
                token => EventLoop::deliver_readiness(this, token as i32, event),
            }
        }
        Ok(())
    }

    #[inline]
    fn deliver_readiness(this: &Ref<EventLoop>, fd: i32, event: &Event) {
        let mut watches = this.watches.borrow_mut();
        let Some(watch) = watches.get_mut(fd) else {
            return;
        };
        let readable = event.readable && watch.interest.contains(Interest::READ);
        let writable = event.writable && watch.interest.contains(Interest::WRITE);
        let mut ready = this.ready.borrow_mut();
        if let Some(io) = &watch.io {
            if readable {
                ready.push(Entry::read(io.clone()));
            }
            if writable {
                ready.push(Entry::write(io.clone()));
            }
            return;
        }
        if watch.once {
            (watch.interest, watch.once, watch.silent) = (Interest::NONE, false, true);
        }
        match &watch.reader {
            Some(Watcher::Handle(handle)) if readable => ready.push(Entry::handle(handle.clone())),
            Some(Watcher::Native(io)) if readable => ready.push(Entry::read(io.clone())),
            _ => {}
        }
        match &watch.writer {
            Some(Watcher::Handle(handle)) if writable => ready.push(Entry::handle(handle.clone())),
            Some(Watcher::Native(io)) if writable => ready.push(Entry::write(io.clone())),
            _ => {}
        }
    }

    /// Hands signal numbers to the program's handlers, as asyncio's self-pipe does.
    fn deliver_signals(this: &Ref<EventLoop>) -> Result<(), Raised> {
        let py = this.py();
        let mut numbers = Vec::new();
        if let Some(signals) = &*this.signals.borrow() {
            signals.read(&mut numbers);
        }
        let data = Obj::bytes(py, &numbers)?;
        this.as_obj()
            .method(pyo3::intern!(py, "_process_self_data"), &[&data])
            .map(drop)
    }
}

fn interest_of(side: Side) -> Interest {
    if side == Side::Read {
        Interest::READ
    } else {
        Interest::WRITE
    }
}

/// The descriptor's number of an int or of an object with `fileno()`, as `selectors` takes them.
pub(crate) fn descriptor(file: &Obj) -> Result<i32, Raised> {
    let py = file.py();
    let number = if file.is_int() {
        file.to_i64()?
    } else {
        let number = file
            .method(pyo3::intern!(py, "fileno"), &[])
            .and_then(|number| Obj::class_of::<pyo3::types::PyInt>(py).call1(&number))
            .and_then(|number| number.to_i64());
        match number {
            Ok(number) => number,
            Err(raised) => {
                let error = raised.take(py);
                let known = error
                    .is_subtype_of(&Obj::class_of::<pyo3::exceptions::PyAttributeError>(py))
                    || error.is_subtype_of(&Obj::class_of::<pyo3::exceptions::PyTypeError>(py))
                    || error.is_subtype_of(&Obj::class_of::<pyo3::exceptions::PyValueError>(py));
                if !known {
                    return Err(Raised::raise(error));
                }
                let text = file.repr()?.to_string()?;
                return Err(Raised::value_error(
                    py,
                    &format!("Invalid file object: {text}"),
                ));
            }
        }
    };
    i32::try_from(number)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(|| Raised::value_error(py, &format!("Invalid file descriptor: {number}")))
}
