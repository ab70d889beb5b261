//! The table of what each room does for its own types.
//!
//! An entry of the ready queue, a Future and a transport hold objects of rooms further right, which
//! they know as objects only. Each room registers its types here when the module starts, with the
//! functions for their objects. The type of an object finds its row, so a call goes from the loop
//! to the room and passes no other one.
//!
//! | trait | objects | who calls it |
//! |---|---|---|
//! | [`Served`] | transports, operations, outcomes | an entry of the ready queue |
//! | [`Watcher`] | objects that watch Futures, or have alarms | a Future, an alarm |
//! | [`TakesBytes`] | protocols of ours | a transport |
//!
//! The address of a type says where its row lies. An object of a program's class that derives from a
//! type of ours is served as one of that type. An object of a type that no room has registered is an
//! error: debug builds panic, others report a RuntimeError.

use std::sync::OnceLock;

use cpython::{Hot, Obj, Raised, Ref, Slot};

use crate::interop::EndsProgram;

/// A callable and its arguments, which stand for a watcher in a timer of another loop.
pub(crate) type DueCall = (Obj, Vec<Obj>);

/// What an entry of the ready queue does for an object. The object's own room catches and reports
/// exceptions; only one that ends the program leaves these functions.
pub(crate) trait Served: Hot {
    /// Called when a descriptor of the object can be read.
    fn on_readable(this: &Ref<Self>) -> Result<(), EndsProgram> {
        unserved(this.as_obj())
    }

    /// Called when a descriptor of the object can be written.
    fn on_writable(this: &Ref<Self>) -> Result<(), EndsProgram> {
        unserved(this.as_obj())
    }

    /// Called when the turn has come of what the object has put off.
    fn on_turn(this: &Ref<Self>) -> Result<(), EndsProgram> {
        unserved(this.as_obj())
    }

    /// Sends as much of the held writes as the socket takes, and returns whether nothing is left.
    /// Calls no Python.
    fn send_held(this: &Ref<Self>) -> bool {
        debug_assert!(false, "{:?} holds nothing", Self::NAME);
        let _ = this;
        true
    }

    /// Does with the rest of the held writes what an ordinary write does.
    fn settle_held(this: &Ref<Self>) -> Result<(), EndsProgram> {
        unserved(this.as_obj())
    }

    /// Notes that writes were held for too long.
    fn note_overdue(_this: &Ref<Self>) {}
}

/// An object that watches Futures, or has alarms.
pub(crate) trait Watcher: Hot {
    /// Whether the type has its own [`Watcher::count`] and [`Watcher::expect_done`]. Only one type
    /// may.
    const COUNTS: bool = false;

    /// The callable that stands for the watcher among the callbacks of other futures.
    fn callable(this: &Ref<Self>, future: &Obj) -> Result<Obj, Raised>;

    /// Called when a future that it watches is done.
    fn on_done(this: &Ref<Self>, future: &Obj) -> Result<(), Raised>;

    /// Called at once when a native Future is done of which this is the only waiter. Returns whether
    /// the watcher has counted it; if not, [`Watcher::on_done`] will be called.
    fn count(_this: &Ref<Self>, _future: &Obj) -> bool {
        false
    }

    /// Notes that [`Watcher::on_done`] will be called for one more Future.
    fn expect_done(_this: &Ref<Self>) {}

    /// Called when the time of its alarm has come.
    fn due(this: &Ref<Self>) -> Result<(), Raised> {
        Err(Raised::type_error(this.py(), "it has no timer"))
    }

    /// The callable that stands for the watcher in a timer of another loop, with its arguments.
    fn due_call(this: &Ref<Self>) -> Result<DueCall, Raised> {
        Err(Raised::type_error(this.py(), "it has no timer"))
    }
}

/// A protocol that takes bytes from where a transport has read them, past `data_received` and
/// `buffer_updated`.
pub(crate) trait TakesBytes: Hot {
    /// Whether the protocol is a BufferedProtocol.
    const BUFFERED: bool;

    /// Whether the object, which becomes a transport's protocol, may take bytes.
    fn takes(this: &Ref<Self>) -> bool;

    /// Whether the protocol takes bytes now. If not, the transport calls its methods.
    fn is_open(this: &Ref<Self>) -> bool;

    /// Takes bytes. Runs no Python code of the program, which [`TakesBytes::proceed`] does.
    fn take(this: &Ref<Self>, bytes: &[u8]) -> Result<Taken, Raised>;

    /// Goes on with what [`TakesBytes::take`] has taken.
    fn proceed(this: &Ref<Self>, taken: Taken) -> Result<(), Raised>;
}

/// What a taker has done with bytes.
pub(crate) enum Taken {
    /// It refuses them: the transport calls `data_received`.
    Refused,
    /// It has dropped them.
    Dropped,
    /// It has stored them for later.
    Stored,
    /// The bytes are in this object, if there is one; the second field says whether they are the
    /// last ones.
    In(Option<Obj>, bool),
    /// It could not read them, and raises this in [`TakesBytes::proceed`].
    Failed(Raised),
}

/// A type, and the functions for its objects.
struct Row<D> {
    /// The address of the type.
    class: usize,
    /// Whether an object is of the type or of one that derives from it.
    is: fn(&Obj) -> bool,
    does: D,
}

impl<D> Row<D> {
    fn of<T: Hot>(does: D) -> Row<D> {
        let class = Ref::<T>::class_address();
        debug_assert!(class != 0, "{:?} is not built yet", T::NAME);
        Row {
            class,
            is: Ref::<T>::is,
            does,
        }
    }
}

type Runner = fn(&Obj) -> Result<(), EndsProgram>;

/// The functions of a [`Served`].
pub(super) struct Serving {
    read: Runner,
    write: Runner,
    turn: Runner,
    send: fn(&Obj) -> bool,
    settle: Runner,
    note_overdue: fn(&Obj),
}

/// The functions of a [`Watcher`].
pub(crate) struct Watching {
    pub(crate) on_done: fn(&Obj, &Obj) -> Result<(), Raised>,
    pub(crate) callable: fn(&Obj, &Obj) -> Result<Obj, Raised>,
    pub(crate) due: fn(&Obj) -> Result<(), Raised>,
    pub(crate) due_call: fn(&Obj) -> Result<DueCall, Raised>,
}

/// The type of watchers that count, and its function. Every Future that ends asks for it, so one
/// comparison finds it.
pub(crate) struct Counting {
    class: usize,
    pub(crate) count: fn(&Obj, &Obj) -> bool,
    pub(crate) expect_done: fn(&Obj),
}

/// The functions of a [`TakesBytes`].
pub(crate) struct Taking {
    buffered: bool,
    takes: fn(&Obj) -> bool,
    pub(crate) is_open: fn(&Obj) -> bool,
    pub(crate) take: fn(&Obj, &[u8]) -> Result<Taken, Raised>,
    pub(crate) proceed: fn(&Obj, Taken) -> Result<(), Raised>,
}

/// The functions for objects that entries, handles and Futures know by their kind. There is one
/// room for each kind.
pub(crate) struct Kinds {
    /// Notifies the next watcher of a Future that is done.
    pub(crate) notify: Runner,
    /// Called when the time of an alarm's target has come.
    pub(crate) alarm: Runner,
    /// Called when a Future is done that is not of exactly our type. It may be a Task.
    pub(crate) ended: fn(&Obj),
    /// Notes that a timer of the loop was cancelled, and whether that was scheduled. Returns false,
    /// and does nothing, if the loop is not native or in debug mode.
    pub(crate) timer_cancelled: fn(&Obj, bool) -> bool,
    /// Takes a context that a handle of the loop leaves behind, if it can be used again.
    pub(crate) reclaim: fn(&Obj, &Slot),
    /// Whether the loop is in debug mode, if it is a native one.
    pub(crate) debug: fn(&Obj) -> Option<bool>,
}

/// Collects the types that the rooms register, while the module starts.
#[derive(Default)]
pub(crate) struct Registry {
    served: Vec<Row<Serving>>,
    watchers: Vec<Row<Watching>>,
    counting: Option<Counting>,
    takers: Vec<Row<Taking>>,
}

struct ServedTable {
    served: Rows<Serving>,
    watchers: Rows<Watching>,
    counting: Counting,
    takers: Rows<Taking>,
    kinds: Kinds,
}

/// The rows of one trait.
struct Rows<D: 'static> {
    all: &'static [Row<D>],
    /// At the place that a type's address gives: that address, and the functions for the type.
    places: Box<[(usize, Option<&'static D>)]>,
    /// The number of bits of a hash that do not count for the place.
    shift: u32,
}

/// A table has at most two to the power of this places. If two types share a place even then, one of
/// them is found by comparing all rows, as a program's subclass is.
const MOST_BITS: u32 = 12;

impl<D> Rows<D> {
    /// Doubles the number of places until no two types share one.
    fn new(rows: Vec<Row<D>>) -> Rows<D> {
        let all: &'static [Row<D>] = rows.leak();
        let mut bits = 4;
        loop {
            let shift = usize::BITS - bits;
            let mut places = vec![(0, None); 1 << bits];
            let mut alone = true;
            for row in all {
                let place = &mut places[place(row.class, shift)];
                alone &= place.0 == 0;
                *place = (row.class, Some(&row.does));
            }
            if alone || bits == MOST_BITS {
                let places = places.into();
                return Rows { all, places, shift };
            }
            bits += 1;
        }
    }

    /// The row of the object's type.
    #[inline]
    fn find(&self, object: &Obj) -> Option<&'static D> {
        let class = object.class_address();
        match self.places.get(place(class, self.shift)) {
            Some((found, does)) if *found == class => *does,
            _ => self.find_by_base(object),
        }
    }

    /// The row of the type from which the object's derives.
    #[inline(never)]
    fn find_by_base(&self, object: &Obj) -> Option<&'static D> {
        let row = self.all.iter().find(|row| (row.is)(object));
        row.map(|row| &row.does)
    }
}

/// The place of a type: the upper bits of its address times the golden ratio, which spreads
/// addresses that lie near each other.
#[inline(always)]
fn place(class: usize, shift: u32) -> usize {
    class.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as usize) >> shift
}

static TABLE: OnceLock<ServedTable> = OnceLock::new();

impl Registry {
    /// Registers a type whose objects are in the ready queue, or hold writes.
    pub(crate) fn serve<T: Served>(&mut self) {
        self.served.push(Row::of::<T>(Serving {
            read: |object| with::<T, _>(object, T::on_readable, unserved),
            write: |object| with::<T, _>(object, T::on_writable, unserved),
            turn: |object| with::<T, _>(object, T::on_turn, unserved),
            send: |object| with::<T, _>(object, T::send_held, |_| true),
            settle: |object| with::<T, _>(object, T::settle_held, unserved),
            note_overdue: |object| with::<T, _>(object, T::note_overdue, |_| ()),
        }));
    }

    /// Registers a type whose objects watch Futures, or have alarms.
    pub(crate) fn serve_watcher<T: Watcher>(&mut self) {
        if T::COUNTS {
            debug_assert!(self.counting.is_none(), "one type of watchers counts");
            self.counting = Some(Counting {
                class: Ref::<T>::class_address(),
                count: |object, future| {
                    with::<T, _>(object, |this| T::count(this, future), |_| false)
                },
                expect_done: |object| with::<T, _>(object, T::expect_done, |_| ()),
            });
        }
        self.watchers.push(Row::of::<T>(Watching {
            on_done: |object, future| {
                with::<T, _>(object, |this| T::on_done(this, future), not_a_watcher)
            },
            callable: |object, future| {
                with::<T, _>(object, |this| T::callable(this, future), not_a_watcher)
            },
            due: |object| with::<T, _>(object, T::due, not_a_watcher),
            due_call: |object| with::<T, _>(object, T::due_call, not_a_watcher),
        }));
    }

    /// Registers a type of protocols that take bytes where they lie.
    pub(crate) fn serve_taker<T: TakesBytes>(&mut self) {
        self.takers.push(Row::of::<T>(Taking {
            buffered: T::BUFFERED,
            // One of another domain gets its bytes by its methods.
            takes: |object| Ref::<T>::of(object).is_some_and(T::takes),
            is_open: |object| with::<T, _>(object, T::is_open, |_| false),
            take: |object, bytes| {
                let refused = |_: &Obj| Ok(Taken::Refused);
                with::<T, _>(object, |this| T::take(this, bytes), refused)
            },
            proceed: |object, taken| {
                with::<T, _>(object, |this| T::proceed(this, taken), |_| Ok(()))
            },
        }));
    }

    /// Publishes the table, when all types are registered.
    pub(crate) fn complete(self, kinds: Kinds) {
        let _ = TABLE.set(ServedTable {
            served: Rows::new(self.served),
            watchers: Rows::new(self.watchers),
            counting: self.counting.unwrap_or(Counting {
                // No type has this address.
                class: usize::MAX,
                count: |_, _| false,
                expect_done: |_| (),
            }),
            takers: Rows::new(self.takers),
            kinds,
        });
    }
}

/// Calls a function of the object's type.
#[inline(always)]
fn with<T: Hot, R>(
    object: &Obj,
    call: impl FnOnce(&Ref<T>) -> R,
    otherwise: impl FnOnce(&Obj) -> R,
) -> R {
    match Ref::<T>::of_any(object) {
        Some(this) => this.within(call),
        // The object's row was found by its type, so this is never reached.
        None => otherwise(object),
    }
}

#[inline]
fn serving(object: &Obj) -> Option<&'static Serving> {
    TABLE.get()?.served.find(object)
}

/// The functions for the watcher.
#[inline]
pub(crate) fn watching(watcher: &Obj) -> Option<&'static Watching> {
    TABLE.get()?.watchers.find(watcher)
}

/// The function for watchers of the type at this address, if they count.
#[inline]
pub(crate) fn counting(class: usize) -> Option<&'static Counting> {
    let counting = &TABLE.get()?.counting;
    (counting.class == class).then_some(counting)
}

/// The watcher of a future as a callable, for loops and futures that want one. Raises TypeError
/// if it watches nothing.
pub(crate) fn callable_of(watcher: &Obj, future: &Obj) -> Result<Obj, Raised> {
    match watching(watcher) {
        Some(row) => (row.callable)(watcher, future),
        None => not_a_watcher(watcher),
    }
}

/// The watcher as a callable for a timer, with its arguments. Raises TypeError if it watches
/// nothing.
pub(crate) fn due_call_of(watcher: &Obj) -> Result<DueCall, Raised> {
    match watching(watcher) {
        Some(row) => (row.due_call)(watcher),
        None => not_a_watcher(watcher),
    }
}

/// The functions for a protocol that takes bytes where they lie, and that is a BufferedProtocol if
/// `buffered` says so, and none if not.
pub(crate) fn taking(protocol: &Obj, buffered: bool) -> Option<&'static Taking> {
    let row = TABLE.get()?.takers.find(protocol);
    row.filter(|row| row.buffered == buffered && (row.takes)(protocol))
}

/// The functions for Futures, alarms, tasks and loops. None before the module has started.
#[inline]
pub(crate) fn kinds() -> Option<&'static Kinds> {
    TABLE.get().map(|table| &table.kinds)
}

/// Notifies the next watcher of a Future that is done.
#[inline]
pub(super) fn notify(future: &Obj) -> Result<(), EndsProgram> {
    kinds().map_or_else(|| unserved(future), |kinds| (kinds.notify)(future))
}

/// Calls an alarm's target, whose time has come.
#[inline]
pub(crate) fn ring(target: &Obj) -> Result<(), EndsProgram> {
    kinds().map_or_else(|| unserved(target), |kinds| (kinds.alarm)(target))
}

/// Calls the object, a descriptor of which can be read.
#[inline]
pub(super) fn read(object: &Obj) -> Result<(), EndsProgram> {
    serving(object).map_or_else(|| unserved(object), |row| (row.read)(object))
}

/// Calls the object, a descriptor of which can be written.
#[inline]
pub(super) fn write(object: &Obj) -> Result<(), EndsProgram> {
    serving(object).map_or_else(|| unserved(object), |row| (row.write)(object))
}

/// Calls the object, the turn of which has come.
#[inline]
pub(super) fn turn(object: &Obj) -> Result<(), EndsProgram> {
    serving(object).map_or_else(|| unserved(object), |row| (row.turn)(object))
}

/// Sends as much of the object's held writes as the socket takes. Returns whether nothing is left.
#[inline]
pub(crate) fn send_held(object: &Obj) -> bool {
    serving(object).is_none_or(|row| (row.send)(object))
}

/// Does with the rest of the object's held writes what an ordinary write does.
pub(crate) fn settle_held(object: &Obj) -> Result<(), EndsProgram> {
    serving(object).map_or_else(|| unserved(object), |row| (row.settle)(object))
}

/// Notes that the object's writes were held for too long.
pub(crate) fn note_overdue(object: &Obj) {
    if let Some(row) = serving(object) {
        (row.note_overdue)(object);
    }
}

/// Reports that no room has registered this function for objects of the type.
#[cold]
pub(crate) fn unserved(object: &Obj) -> Result<(), EndsProgram> {
    let text = match object.class().repr().and_then(|text| text.to_string()) {
        Ok(name) => format!("no room serves this of {name}"),
        Err(raised) => return EndsProgram::after_report(object, Err(raised)),
    };
    debug_assert!(false, "{text}");
    let raised = Raised::runtime_error(object.py(), &text);
    EndsProgram::after_report(object, Err(raised))
}

#[cold]
fn not_a_watcher<R>(object: &Obj) -> Result<R, Raised> {
    Err(Raised::type_error(object.py(), "not a watcher"))
}
