//! Descriptors: readers and writers of the program, native operations that wait, and native
//! transports.
//!
//! An operation waits in the reader's or the writer's place, as asyncio's do, so a reader, writer
//! or operation that comes later takes the place from it. An operation alone on its descriptor is
//! watched for one event. Afterwards the selector keeps the descriptor, silent, so the next
//! operation need not register it again and the last one need not take it out.

use cpython::context::BoundContext;
use cpython::{Args, Obj, Raised, Ref, Visit, context};
use engine::{Interest, Readiness};

use super::EventLoop;
use crate::handles::{Callback, Entry, Handle};
use crate::interop::EndsProgram;

/// The watch of one descriptor.
#[derive(Default)]
struct FdWatch {
    /// `add_reader`'s handle, a pipe's transport, or an operation.
    reader: Option<FdWatcher>,
    /// `add_writer`'s handle, a pipe's transport, or an operation.
    writer: Option<FdWatcher>,
    /// A native transport, which has the descriptor to itself.
    io: Option<Obj>,
    /// The object that `add_reader` or `add_writer` was given instead of a number. The reference
    /// keeps it open, and by it the watch is found again once the program has closed it.
    file: Option<Obj>,
    /// What the selector reports.
    interest: Interest,
    /// Whether the selector reports one event only.
    once: bool,
    /// Whether the selector has probably kept the descriptor, though it reports nothing.
    silent: bool,
}

/// The object that one half of a descriptor's readiness is reported to. Two transports may share a
/// descriptor, one for each half, as may a transport and a handle.
enum FdWatcher {
    Handle(Ref<Handle>),
    /// A transport or an operation.
    Native(Obj),
}

impl FdWatcher {
    fn as_obj(&self) -> &Obj {
        match self {
            FdWatcher::Handle(handle) => handle.as_obj(),
            FdWatcher::Native(native) => native,
        }
    }

    /// Cancels the watcher, if it is a handle.
    fn cancel(self) -> Result<(), Raised> {
        match self {
            FdWatcher::Handle(handle) => {
                let handle = handle.as_obj();
                let name = pyo3::intern!(handle.py(), "cancel");
                handle.method(name, &[]).map(drop)
            }
            FdWatcher::Native(_) => Ok(()),
        }
    }
}

impl FdWatch {
    fn side(&mut self, side: Side) -> &mut Option<FdWatcher> {
        match side {
            Side::Read => &mut self.reader,
            Side::Write => &mut self.writer,
        }
    }
}

/// A descriptor, the object that it was given as if that was no number, and the watcher of each
/// half.
pub(super) struct ShownFdWatch {
    pub(super) fd: i32,
    pub(super) file: Option<Obj>,
    pub(super) reader: Option<Obj>,
    pub(super) writer: Option<Obj>,
}

/// The watches by descriptor number.
#[derive(Default)]
pub(super) struct FdWatchTable(Vec<Option<Box<FdWatch>>>);

impl FdWatchTable {
    fn get(&self, fd: i32) -> Option<&FdWatch> {
        self.0.get(usize::try_from(fd).ok()?)?.as_deref()
    }

    fn get_mut(&mut self, fd: i32) -> Option<&mut FdWatch> {
        self.0.get_mut(usize::try_from(fd).ok()?)?.as_deref_mut()
    }

    fn entry(&mut self, fd: i32) -> &mut FdWatch {
        let index = usize::try_from(fd).unwrap_or_default();
        if index >= self.0.len() {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index].get_or_insert_default()
    }

    /// The descriptor that this very object was given for.
    fn find(&self, file: &Obj) -> Option<i32> {
        let is_its = |watch: &Option<Box<FdWatch>>| {
            let watch = watch.as_deref();
            watch.is_some_and(|watch| watch.file.as_ref().is_some_and(|known| known.is(file)))
        };
        i32::try_from(self.0.iter().position(is_its)?).ok()
    }

    fn remove(&mut self, fd: i32) -> Option<Box<FdWatch>> {
        self.0.get_mut(usize::try_from(fd).ok()?)?.take()
    }

    /// All watches that the selector reports, for a program that looks at them.
    pub(super) fn shown(&self) -> Vec<ShownFdWatch> {
        let shown = |(fd, watch): (usize, &FdWatch)| {
            let watcher = |side: Interest, own: &Option<FdWatcher>| {
                let own = own.as_ref().map(|own| own.as_obj().clone());
                let watcher = own.or_else(|| watch.io.clone());
                watcher.filter(|_| watch.interest.contains(side))
            };
            ShownFdWatch {
                fd: fd as i32,
                file: watch.file.clone(),
                reader: watcher(Interest::READ, &watch.reader),
                writer: watcher(Interest::WRITE, &watch.writer),
            }
        };
        let watches = self.0.iter().enumerate();
        watches
            .filter_map(|(fd, watch)| Some((fd, watch.as_deref()?)))
            .filter(|(_, watch)| !watch.interest.is_empty())
            .map(shown)
            .collect()
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

/// One half of a descriptor's readiness.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Side {
    /// `add_reader`.
    Read,
    /// `add_writer`.
    Write,
}

impl EventLoop {
    /// Watches a descriptor for a native object: its readiness pushes `Entry::read` and
    /// `Entry::write`. With interest in neither, the descriptor is no longer watched.
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
                EventLoop::update_selector(this, fd, Interest::READ, Interest::NONE)?;
            }
        } else {
            let (before, once) = this.interest(fd);
            // The previous owner of the number may have closed the descriptor without unregistering
            // it.
            let is_known = EventLoop::watched(this, fd).is_some_and(|known| known.is(io));
            if before != interest || once || !is_known {
                EventLoop::update_selector(this, fd, before, interest)?;
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

    /// What the selector reports about a descriptor, and whether once only.
    fn interest(&self, fd: i32) -> (Interest, bool) {
        match self.watches.borrow().get(fd) {
            Some(watch) => (watch.interest, watch.once),
            None => (Interest::NONE, false),
        }
    }

    /// Lets a native operation wait until the descriptor is ready, which pushes `Entry::read` or
    /// `Entry::write`, once or until [`EventLoop::stop_waiting`]. The operation takes the place of
    /// the program's reader or writer.
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
            EventLoop::update_selector(this, fd, before, after)?;
        }
        let replaced = {
            let mut watches = this.watches.borrow_mut();
            let watch = watches.entry(fd);
            watch.once = arm || (once && before == after);
            (watch.interest, watch.silent) = (after, false);
            watch
                .side(side)
                .replace(FdWatcher::Native(operation.clone()))
        };
        replaced.map_or(Ok(()), FdWatcher::cancel)
    }

    /// Makes the selector report one event.
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

    /// Whether the operation still waits for the descriptor: nothing has taken its place.
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

    /// Ends the operation's wait. Does nothing if its place was taken, or if the descriptor was
    /// closed meanwhile.
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
            if let Err(raised) = EventLoop::update_selector(this, fd, before, after) {
                drop(raised.take(this.py()));
            }
        }
    }

    /// The native object that has the descriptor, if any.
    pub(crate) fn watched(this: &Ref<EventLoop>, fd: i32) -> Option<Obj> {
        this.watches.borrow().get(fd)?.io.clone()
    }

    /// Changes the selector's interest in the descriptor. Ignores descriptors that the program has
    /// closed, and numbers that were reused since.
    fn update_selector(
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

    /// `_add_reader(fd, callback, *args)` and `_add_writer`. Returns the new handle, and cancels
    /// the previous one.
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
        let context = BoundContext::To(context::copy_current(py)?);
        let handle = Ref::new(py, Handle::value(this.as_obj(), callback, context))?;
        Handle::set_repeats(&handle);
        if this.debug() {
            handle.remember_source(py, 0)?;
        }
        let file = (!file.is_int()).then(|| file.clone());
        EventLoop::set_side(this, side, fd, FdWatcher::Handle(handle.clone()), file)?;
        Ok(handle.into_obj())
    }

    /// Watches one half of a descriptor's readiness for a transport, which takes the place of the
    /// previous watcher. The other half may have another watcher.
    pub(crate) fn watch_side(
        this: &Ref<EventLoop>,
        side: Side,
        fd: i32,
        transport: &Obj,
    ) -> Result<(), Raised> {
        this.check_closed(this.py())?;
        EventLoop::set_side(this, side, fd, FdWatcher::Native(transport.clone()), None)
    }

    fn set_side(
        this: &Ref<EventLoop>,
        side: Side,
        fd: i32,
        watcher: FdWatcher,
        file: Option<Obj>,
    ) -> Result<(), Raised> {
        let (before, once) = this.interest(fd);
        let after = before | interest_of(side);
        if before != after || once {
            EventLoop::update_selector(this, fd, before, after)?;
        }
        let (replaced, file) = {
            let mut watches = this.watches.borrow_mut();
            let watch = watches.entry(fd);
            (watch.interest, watch.once) = (after, false);
            let file = file.and_then(|file| watch.file.replace(file));
            (watch.side(side).replace(watcher), file)
        };
        drop(file);
        replaced.map_or(Ok(()), FdWatcher::cancel)
    }

    /// The number of a descriptor. An object that was closed since it was given has no number any
    /// more; then this is the number that it had, as in `selectors`.
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

    /// `_remove_reader(fd)` and `_remove_writer`. Returns whether there was one.
    pub(crate) fn remove_side(
        this: &Ref<EventLoop>,
        side: Side,
        file: &Obj,
    ) -> Result<bool, Raised> {
        if this.is_closed() {
            return Ok(false);
        }
        match EventLoop::descriptor(this, file) {
            Ok(fd) => EventLoop::unwatch_side(this, side, fd),
            Err(raised) => {
                raised.ignore::<pyo3::exceptions::PyOverflowError>(this.py())?;
                Ok(false)
            }
        }
    }

    /// Stops watching one half of a descriptor's readiness. Returns whether it was watched.
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
                EventLoop::update_selector(this, fd, before, after)?;
            }
            (removed, file)
        };
        drop(file);
        match removed {
            Some(watcher) => watcher.cancel().map(|()| true),
            None => Ok(false),
        }
    }

    /// Turns readiness into entries. It calls no Python, so no exception can end it early.
    #[inline(always)]
    pub(super) fn deliver(this: &Ref<EventLoop>, events: &[Readiness]) {
        for event in events {
            match event.token {
                super::WAKER => {
                    if let Some(waker) = &*this.waker.borrow() {
                        waker.drain(&mut this.signalled.borrow_mut());
                    }
                }
                token => EventLoop::deliver_readiness(this, token as i32, event),
            }
        }
    }

    #[inline]
    fn deliver_readiness(this: &Ref<EventLoop>, fd: i32, event: &Readiness) {
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
            Some(FdWatcher::Handle(handle)) if readable => {
                ready.push(Entry::handle(handle.clone()))
            }
            Some(FdWatcher::Native(io)) if readable => ready.push(Entry::read(io.clone())),
            _ => {}
        }
        match &watch.writer {
            Some(FdWatcher::Handle(handle)) if writable => {
                ready.push(Entry::handle(handle.clone()))
            }
            Some(FdWatcher::Native(io)) if writable => ready.push(Entry::write(io.clone())),
            _ => {}
        }
    }

    /// Hands the signal numbers that have come to the program's handlers, as asyncio's self-pipe
    /// does.
    #[inline]
    pub(super) fn deliver_signals(this: &Ref<EventLoop>) -> Result<(), EndsProgram> {
        let mut is_second_try = false;
        while let Some(number) = EventLoop::next_signal(this) {
            is_second_try = !EventLoop::deliver_signal(this, number, is_second_try)?;
        }
        Ok(())
    }

    fn next_signal(this: &Ref<EventLoop>) -> Option<u8> {
        let mut numbers = this.signalled.borrow_mut();
        (!numbers.is_empty()).then(|| numbers.remove(0))
    }

    /// Hands one signal number on. Returns whether it is dealt with: a function that
    /// `signal.signal` has set may raise before the number was looked at, and then the number comes
    /// first again.
    #[cold]
    fn deliver_signal(
        this: &Ref<EventLoop>,
        number: u8,
        is_second_try: bool,
    ) -> Result<bool, EndsProgram> {
        let py = this.py();
        let ready = this.ready.borrow().len();
        let outcome = (|| {
            let data = Obj::bytes(py, &[number])?;
            let name = pyo3::intern!(py, "_process_self_data");
            this.as_obj().method(name, &[&data])
        })();
        let Err(raised) = outcome else {
            return Ok(true);
        };
        let is_done = is_second_try || this.ready.borrow().len() > ready;
        if !is_done {
            this.signalled.borrow_mut().insert(0, number);
        }
        let method = || this.as_obj().attr(pyo3::intern!(py, "_process_self_data"));
        Handle::report_call(this.as_obj(), method, &[], None, raised)?;
        Ok(is_done)
    }
}

fn interest_of(side: Side) -> Interest {
    if side == Side::Read {
        Interest::READ
    } else {
        Interest::WRITE
    }
}

/// The descriptor number of an int or of an object with `fileno()`, as `selectors` takes them.
/// Raises OverflowError for a number that the system cannot have.
pub(crate) fn descriptor(file: &Obj) -> Result<i32, Raised> {
    let py = file.py();
    if file.is_int() {
        return checked(file);
    }
    let number = file
        .method(pyo3::intern!(py, "fileno"), &[])
        .and_then(|number| Obj::class_of::<pyo3::types::PyInt>(py).call1(&number));
    match number {
        Ok(number) => checked(&number),
        Err(raised) => Err(no_descriptor(file, raised)?),
    }
}

/// The exception about an object that has no descriptor number.
#[cold]
fn no_descriptor(file: &Obj, raised: Raised) -> Result<Raised, Raised> {
    let py = file.py();
    let error = raised.take(py);
    let known = error.is_subtype_of(&Obj::class_of::<pyo3::exceptions::PyAttributeError>(py))
        || error.is_subtype_of(&Obj::class_of::<pyo3::exceptions::PyTypeError>(py))
        || error.is_subtype_of(&Obj::class_of::<pyo3::exceptions::PyValueError>(py));
    if !known {
        return Err(Raised::raise(error));
    }
    let text = format!("Invalid file object: {}", file.repr()?.to_string()?);
    Ok(Raised::value_error(py, &text))
}

#[inline]
fn checked(number: &Obj) -> Result<i32, Raised> {
    match number.to_i64() {
        Ok(small) => match i32::try_from(small) {
            Ok(fd) if fd >= 0 => Ok(fd),
            _ => Err(out_of_range(number, small < 0)),
        },
        Err(raised) => {
            drop(raised.take(number.py()));
            let is_negative = number.repr()?.as_str()?.starts_with('-');
            Err(out_of_range(number, is_negative))
        }
    }
}

#[cold]
fn out_of_range(number: &Obj, is_negative: bool) -> Raised {
    let py = number.py();
    if !is_negative {
        let text = "Python int too large to convert to C int";
        return Raised::new::<pyo3::exceptions::PyOverflowError>(py, text);
    }
    let text = number.repr().and_then(|text| text.to_string());
    match text {
        Ok(text) => Raised::value_error(py, &format!("Invalid file descriptor: {text}")),
        Err(raised) => raised,
    }
}
