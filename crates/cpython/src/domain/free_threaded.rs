//! Domains in free-threaded builds.

use std::cell::Cell;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pyo3::{Python, ffi};

use crate::error::Raised;
use crate::hot::{Hot, Payload, Ref};
use crate::obj::Obj;
use crate::sanitizer;
use crate::thread_pointer::thread_pointer;

use super::impatience::{self, Waiting};
use super::kept::Kept;
use super::stock::Stock;

/// CPython's `PyCriticalSection`, a public struct of opaque fields. `mutex` is null while it waits
/// for its mutex, and where the section above it has the same mutex already.
#[repr(C)]
struct CriticalSection {
    previous: usize,
    mutex: *const AtomicU8,
}

unsafe extern "C" {
    /// Locks the mutex and makes the section the thread's topmost one.
    fn PyCriticalSection_BeginMutex(section: *mut CriticalSection, mutex: *const AtomicU8);
    /// Unlocks it, and takes back the section below, which may have been suspended.
    fn PyCriticalSection_End(section: *mut CriticalSection);
}

/// The bit of CPython's mutex that says that it is locked.
const LOCKED: u8 = 1;

/// The bit that says that threads wait for it.
const HAS_WAITING: u8 = 2;

/// The lock of the values of some objects. It is never freed: the objects that outlive the loop
/// whose domain it was may share it with another loop, which costs time only.
#[repr(C, align(128))]
pub(crate) struct Domain {
    /// CPython's mutex; the field is the first, so that its address is the domain's.
    mutex: AtomicU8,
    apart: [u8; 63],
    /// The thread that owns the domain ([`own`]); 0 if none does.
    owner: AtomicUsize,
    /// The address of the owner's section.
    section: AtomicUsize,
    /// The field of the owner's thread state that refers to its topmost section.
    topmost: AtomicPtr<usize>,
    pub(super) waiting: Waiting,
    pub(super) kept: Kept,
    pub(super) stock: Stock,
    /// The domain that was made before, in [`ALL`].
    next: AtomicPtr<Domain>,
    /// Another one that nobody has, in [`UNUSED`].
    unused: AtomicPtr<Domain>,
}

impl Domain {
    const fn new() -> Domain {
        Domain {
            mutex: AtomicU8::new(0),
            apart: [0; 63],
            owner: AtomicUsize::new(0),
            section: AtomicUsize::new(0),
            topmost: AtomicPtr::new(std::ptr::null_mut()),
            waiting: Waiting::new(),
            kept: Kept::new(),
            stock: Stock::new(),
            next: AtomicPtr::new(std::ptr::null_mut()),
            unused: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// Whether the thread owns the domain and is in it now. While it is in another critical section
    /// above, the domain may have been lost.
    #[inline(always)]
    pub(super) fn is_owned_here(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == thread_pointer() && {
            let topmost = self.topmost.load(Ordering::Relaxed);
            // SAFETY: the field is one of this thread's own state, which lives as long as the
            // thread is in a function of ours.
            unsafe { *topmost == self.section.load(Ordering::Relaxed) }
        }
    }

    /// Whether the thread is in the domain.
    #[inline(always)]
    fn is_here(&self) -> bool {
        self.is_owned_here() || std::ptr::eq(topmost_mutex(), &self.mutex)
    }
}

/// The domains that nobody has any more, each of which refers to the next by [`Domain::unused`]. They
/// are taken all at once, so that nobody waits for a thread that a forked child does not have.
static UNUSED: AtomicPtr<Domain> = AtomicPtr::new(std::ptr::null_mut());

/// The domain that was made last.
static ALL: AtomicPtr<Domain> = AtomicPtr::new(std::ptr::null_mut());

thread_local! {
    /// The domain that the thread owns, by the innermost [`own`].
    static HOME: Cell<Option<&'static Domain>> = const { Cell::new(None) };
    /// The domain that the thread has entered last. It may have lost it to code that CPython calls
    /// in a critical section of its own.
    pub(super) static ENTERED: Cell<Option<&'static Domain>> = const { Cell::new(None) };
}

/// A domain for a new object.
fn fresh() -> &'static Domain {
    let first = UNUSED.swap(std::ptr::null_mut(), Ordering::AcqRel);
    // SAFETY: domains are never freed.
    let Some(domain) = (unsafe { first.as_ref() }) else {
        let domain: &'static Domain = Box::leak(Box::new(Domain::new()));
        push(&ALL, domain, |domain| &domain.next);
        return domain;
    };
    let mut next = domain.unused.load(Ordering::Relaxed);
    // SAFETY: as above; the list is this thread's alone.
    while let Some(other) = unsafe { next.as_ref() } {
        next = other.unused.load(Ordering::Relaxed);
        push(&UNUSED, other, |domain| &domain.unused);
    }
    domain
}

/// Puts a domain before the others of a list.
fn push(
    list: &AtomicPtr<Domain>,
    domain: &'static Domain,
    link: fn(&Domain) -> &AtomicPtr<Domain>,
) {
    let mut first = list.load(Ordering::Relaxed);
    loop {
        link(domain).store(first, Ordering::Relaxed);
        let own = std::ptr::from_ref(domain).cast_mut();
        let (order, otherwise) = (Ordering::Release, Ordering::Relaxed);
        match list.compare_exchange_weak(first, own, order, otherwise) {
            Ok(_) => return,
            Err(other) => first = other,
        }
    }
}

/// The domain of what a thread makes while no loop runs in it.
struct Limbo(&'static Domain);

impl Drop for Limbo {
    fn drop(&mut self) {
        push(&UNUSED, self.0, |domain| &domain.unused);
    }
}

/// The limbo of this thread. At the thread's very end, when it is gone, a domain of its own serves.
#[cold]
fn limbo() -> &'static Domain {
    thread_local!(static OWN: Limbo = Limbo(fresh()));
    OWN.try_with(|limbo| limbo.0).unwrap_or_else(|_| fresh())
}

/// Gives the domains of other threads free, in a forked child, where these threads do not exist. A
/// thread that was given a domain just before may have had no section yet that the fork would have
/// suspended.
unsafe extern "C" fn after_fork() {
    let own = own_mutexes();
    let free = |domain: &Domain| {
        if domain.owner.load(Ordering::Relaxed) != thread_pointer() {
            domain.owner.store(0, Ordering::Relaxed);
        }
        let is_own = own.clone().any(|mutex| std::ptr::eq(mutex, &domain.mutex));
        domain.mutex.store(u8::from(is_own), Ordering::Relaxed);
        domain.waiting.forget();
    };
    each_domain(free);
    impatience::forget_thread();
}

/// Calls the function with each domain.
pub(super) fn each_domain(mut call: impl FnMut(&Domain)) {
    let mut next = ALL.load(Ordering::Acquire);
    // SAFETY: domains are never freed.
    while let Some(domain) = unsafe { next.as_ref() } {
        call(domain);
        next = domain.next.load(Ordering::Relaxed);
    }
}

/// The mutexes of this thread's sections. A detached thread holds none.
fn own_mutexes() -> impl Iterator<Item = *const AtomicU8> + Clone {
    // SAFETY: the state, if there is one, is this thread's; its sections lie in frames of this
    // thread, each of which refers to the one below. A suspended section holds no mutex.
    unsafe {
        let state = ffi::PyThreadState_GetUnchecked().cast::<u8>();
        let topmost = if state.is_null() {
            0
        } else {
            *state.add(TOPMOST.load(Ordering::Relaxed)).cast::<usize>()
        };
        let sections = std::iter::successors(Some(topmost), |section| {
            ((section & !TAGS) as *const CriticalSection)
                .as_ref()
                .map(|section| section.previous)
        });
        sections
            .take_while(|section| section & !TAGS != 0)
            .filter(|section| section & SUSPENDED == 0)
            .map(|section| (*((section & !TAGS) as *const CriticalSection)).mutex)
    }
}

/// The offset of the field of a thread state that refers to its topmost critical section; 0 until
/// [`probe`] has found it.
static TOPMOST: AtomicUsize = AtomicUsize::new(0);

/// The tags of a reference to a critical section.
const TAGS: usize = 3;

/// The tag of a section that is suspended, and of all below it.
const SUSPENDED: usize = 1;

/// The field of this thread's state that refers to its topmost section.
#[inline(always)]
fn topmost_field() -> *mut usize {
    // SAFETY: the thread is attached; the offset was found in a thread state.
    unsafe {
        let state = ffi::PyThreadState_GetUnchecked().cast::<u8>();
        state.add(TOPMOST.load(Ordering::Relaxed)).cast()
    }
}

/// The mutex of this thread's topmost section; null if there is none.
#[inline(always)]
fn topmost_mutex() -> *const AtomicU8 {
    // SAFETY: the field refers to a section in a frame of this thread, or to none.
    unsafe {
        let section = (*topmost_field() & !TAGS) as *const CriticalSection;
        if section.is_null() {
            std::ptr::null()
        } else {
            (*section).mutex
        }
    }
}

/// Finds where the thread state keeps its critical sections; called at import. Raises RuntimeError
/// if this CPython keeps them elsewhere.
pub(crate) fn probe(py: Python<'_>) -> Result<(), Raised> {
    /// The words of a thread state that are searched. It has more.
    const WORDS: usize = 64;
    let mutex = AtomicU8::new(0);
    let mut section = CriticalSection {
        previous: 0,
        mutex: std::ptr::null(),
    };
    // SAFETY: the thread is attached; a section that begins here ends here. A thread state has more
    // words than are read, and only this thread writes to those that are compared.
    unsafe {
        let state = ffi::PyThreadState_Get().cast::<usize>();
        let read =
            || -> Vec<usize> { (0..WORDS).map(|at| state.add(at).read_volatile()).collect() };
        let before = read();
        PyCriticalSection_BeginMutex(&mut section, &mutex);
        let during = read();
        PyCriticalSection_End(&mut section);
        let after = read();
        let address = &raw const section as usize;
        let mut found = (0..WORDS).filter(|at| {
            during[*at] == address && before[*at] == after[*at] && before[*at] != address
        });
        match (found.next(), found.next()) {
            (Some(at), None) => {
                TOPMOST.store(at * size_of::<usize>(), Ordering::Relaxed);
                match libc::pthread_atfork(None, None, Some(after_fork)) {
                    0 => Ok(()),
                    code => Err(Raised::os_error(
                        py,
                        std::io::Error::from_raw_os_error(code),
                    )),
                }
            }
            _ => {
                let text = "this free-threaded Python keeps its critical sections elsewhere";
                Err(Raised::runtime_error(py, text))
            }
        }
    }
}

/// The room that an object's domain takes before its value.
pub(crate) const ROOM: usize = size_of::<usize>();

/// The word of an object that refers to its domain.
///
/// # Safety
/// The object is of the type, and lives as long as the reference is used.
#[inline(always)]
unsafe fn word<'a, T: Hot>(object: *mut ffi::PyObject) -> &'a AtomicPtr<Domain> {
    // SAFETY: by the contract; the word lies before the first value ([`ROOM`]).
    unsafe { &*T::first_value(object).sub(ROOM).cast() }
}

/// The domain of an object.
#[inline(always)]
pub(super) fn domain_of<T: Hot>(object: &Obj) -> &'static Domain {
    // SAFETY: a reference to an object of the type; its word was written when it was made, by a
    // domain, which is never freed.
    unsafe { &*word::<T>(object.as_ptr()).load(Ordering::Acquire) }
}

/// Whether the thread may use the object's value.
#[inline(always)]
pub(crate) fn is_here<T: Hot>(this: &Ref<T>) -> bool {
    domain_of::<T>(this.as_obj()).is_here()
}

/// The domain that the thread is in. It must be in one.
#[inline(always)]
pub(super) fn current() -> &'static Domain {
    // SAFETY: the topmost section is a stay in a domain, whose first field is the mutex.
    unsafe { &*topmost_mutex().cast::<Domain>() }
}

/// Gives a new object the domain that the thread is in, or one of its own ([`Hot::OWN_DOMAIN`]).
///
/// # Safety
/// The object is new, of the type, and seen by nobody. The thread is in a domain.
#[inline(always)]
pub(crate) unsafe fn settle<T: Hot>(object: *mut ffi::PyObject) {
    let domain = if T::OWN_DOMAIN {
        std::ptr::from_ref(fresh()).cast_mut()
    } else {
        std::ptr::from_ref(current()).cast_mut()
    };
    // SAFETY: by the contract.
    unsafe { word::<T>(object).store(domain, Ordering::Release) }
}

/// Takes back the own domain of an object that goes.
///
/// # Safety
/// The object is of the type and still has its word.
#[inline(always)]
pub(crate) unsafe fn leave_behind<T: Hot>(object: *mut ffi::PyObject) {
    if T::OWN_DOMAIN {
        // SAFETY: by the contract; a domain is never freed.
        let domain = unsafe { &*word::<T>(object).load(Ordering::Relaxed) };
        push(&UNUSED, domain, |domain| &domain.unused);
    }
}

/// A stay in a domain, in a frame of the thread. It must not be moved once it has begun.
pub(crate) struct Section {
    section: CriticalSection,
    begun: bool,
    /// What the thread had entered before.
    before: Option<&'static Domain>,
}

impl Section {
    #[inline(always)]
    pub(crate) fn new() -> Section {
        Section {
            section: CriticalSection {
                previous: 0,
                mutex: std::ptr::null(),
            },
            begun: false,
            before: None,
        }
    }

    /// Enters the object's domain, if the thread is not in it.
    #[inline(always)]
    pub(crate) fn enter<T: Hot>(&mut self, this: &Ref<T>) {
        if !domain_of::<T>(this.as_obj()).is_owned_here() {
            self.enter_slowly(this);
        }
    }

    #[inline(never)]
    fn enter_slowly<T: Hot>(&mut self, this: &Ref<T>) {
        loop {
            let domain = domain_of::<T>(this.as_obj());
            if domain.is_owned_here() {
                return;
            }
            self.begin(domain);
            if std::ptr::eq(domain, domain_of::<T>(this.as_obj())) {
                let home = HOME.get().filter(|home| !std::ptr::eq(*home, domain));
                match home {
                    Some(home) if T::MOVES && T::may_move(this) => {
                        let home = std::ptr::from_ref(home).cast_mut();
                        // SAFETY: the reference keeps the object alive.
                        let word = unsafe { word::<T>(this.as_obj().as_ptr()) };
                        word.store(home, Ordering::Release);
                    }
                    _ => return,
                }
            }
            // It belongs to another domain by now.
            self.end();
        }
    }

    /// Enters the domain that the thread has entered last, or its limbo.
    #[inline(always)]
    pub(crate) fn enter_last(&mut self) {
        let last = ENTERED.get().unwrap_or_else(limbo);
        if !last.is_owned_here() {
            self.begin(last);
        }
    }

    #[inline(never)]
    fn begin(&mut self, domain: &'static Domain) {
        // SAFETY: the thread is attached, as all that enters domains has a reference or a token; the
        // section stays where it is until it ends, in this frame's caller.
        let mut begin =
            || unsafe { PyCriticalSection_BeginMutex(&mut self.section, &domain.mutex) };
        if domain.mutex.load(Ordering::Relaxed) & LOCKED == 0 {
            begin();
        } else {
            domain.waiting.while_waiting(begin);
        }
        self.begun = true;
        sanitizer::acquired(domain);
        self.before = ENTERED.replace(Some(domain));
    }

    #[inline(never)]
    fn end(&mut self) {
        self.begun = false;
        publish();
        ENTERED.set(self.before);
        // SAFETY: it has begun and not ended; sections above it have ended.
        unsafe { PyCriticalSection_End(&mut self.section) }
    }
}

impl Drop for Section {
    #[inline(always)]
    fn drop(&mut self) {
        if self.begun {
            self.end();
        }
    }
}

/// The domain is the thread's until this goes.
pub(crate) struct Owned {
    domain: &'static Domain,
    owner: usize,
    section: usize,
    topmost: *mut usize,
    home: Option<&'static Domain>,
    entered: Option<&'static Domain>,
}

/// Makes the thread the owner of the object's domain, in which it is.
pub(crate) fn own<T: Hot>(this: &Ref<T>) -> Owned {
    let domain = domain_of::<T>(this.as_obj());
    let topmost = topmost_field();
    Owned {
        domain,
        // SAFETY: the field of the thread's own state. The section in it is that of the domain.
        section: domain.section.swap(unsafe { *topmost }, Ordering::Relaxed),
        topmost: domain.topmost.swap(topmost, Ordering::Relaxed),
        owner: domain.owner.swap(thread_pointer(), Ordering::Relaxed),
        home: HOME.replace(Some(domain)),
        entered: ENTERED.replace(Some(domain)),
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if self.owner == 0 {
            self.domain.kept.give_back();
            self.domain.stock.give_back();
        }
        // Only a thread that owns the domain can have been its owner before: the loop that runs
        // refuses to run in another.
        self.domain.owner.store(self.owner, Ordering::Relaxed);
        self.domain.section.store(self.section, Ordering::Relaxed);
        self.domain.topmost.store(self.topmost, Ordering::Relaxed);
        HOME.set(self.home);
        ENTERED.set(self.entered);
    }
}

/// The domain was left until this goes.
pub(crate) struct Outside {
    left: Option<(*mut CriticalSection, &'static Domain)>,
    entered: Option<&'static Domain>,
}

/// Leaves the object's domain, if the topmost section is a stay in it. An owned domain is not left:
/// what its owner calls finds it owned.
pub(crate) fn leave<T: Hot>(this: &Ref<T>) -> Outside {
    let domain = domain_of::<T>(this.as_obj());
    let entered = ENTERED.get();
    if domain.is_owned_here() || !domain.is_here() {
        return Outside {
            left: None,
            entered,
        };
    }
    ENTERED.set(None);
    // SAFETY: the field refers to the section of that stay, which lies in a frame below this one.
    unsafe {
        let section = (*topmost_field() & !TAGS) as *mut CriticalSection;
        sanitizer::released(domain);
        PyCriticalSection_End(section);
        Outside {
            left: Some((section, domain)),
            entered,
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        ENTERED.set(self.entered);
        if let Some((section, domain)) = self.left {
            // SAFETY: the section has ended, and its frame, which ends it again, is still there. All
            // sections that began since have ended.
            unsafe { PyCriticalSection_BeginMutex(section, &domain.mutex) }
            sanitizer::acquired(domain);
        }
    }
}

/// Lets the threads in that wait for the object's domain.
#[inline(always)]
pub(crate) fn give_way<T: Hot>(this: &Ref<T>) {
    let domain = domain_of::<T>(this.as_obj());
    if domain.mutex.load(Ordering::Relaxed) & HAS_WAITING != 0 {
        hand_over(this.py(), domain);
    }
}

/// Detaches, which unlocks the domain and wakes a thread that waits for it, and goes on when that
/// has been in, or after a little time: the thread may need longer to wake up, and asks again then.
#[cold]
#[inline(never)]
fn hand_over(py: Python<'_>, domain: &'static Domain) {
    const LONGEST: Duration = Duration::from_micros(100);
    py.detach(|| {
        let started = Instant::now();
        while domain.mutex.load(Ordering::Relaxed) == 0 && started.elapsed() < LONGEST {
            std::thread::yield_now();
        }
    });
}

/// Gives the object into the domain of another one.
pub(crate) fn follow<T: Hot, O: Hot>(this: &Ref<T>, other: &Ref<O>) {
    let domain = std::ptr::from_ref(domain_of::<O>(other.as_obj())).cast_mut();
    // SAFETY: the reference keeps the object alive.
    unsafe { word::<T>(this.as_obj().as_ptr()) }.store(domain, Ordering::Release);
}

/// Tells ThreadSanitizer that another thread may be in the domain from now on, because CPython is
/// called.
#[inline(always)]
pub(crate) fn publish() {
    #[cfg(aioxide_tsan)]
    if let Some(domain) = ENTERED.get() {
        sanitizer::released(domain);
    }
}

/// Tells ThreadSanitizer that the thread is in the object's domain, maybe anew.
#[inline(always)]
pub(crate) fn note_use<T: Hot>(_this: &Ref<T>) {
    #[cfg(aioxide_tsan)]
    if is_here(_this) {
        let domain = domain_of::<T>(_this.as_obj());
        sanitizer::released(domain);
        sanitizer::acquired(domain);
    }
}

/// Stops where a value is used outside of its domain.
#[cfg(debug_assertions)]
#[inline]
pub(crate) fn assert_here<T: Hot>(this: &Ref<T>) {
    if !is_here(this) {
        let alone = ALONE.get();
        if alone != EVERYTHING && alone != this.as_obj().as_ptr() as usize {
            panic!("{:?} is used outside of its domain", T::NAME);
        }
    }
}

/// Stands for all objects in [`ALONE`].
#[cfg(debug_assertions)]
const EVERYTHING: usize = usize::MAX;

#[cfg(debug_assertions)]
thread_local! {
    /// The address of the object that the thread frees or clears, which nobody else can reach. While
    /// the collector looks at objects no other thread runs: then all are.
    static ALONE: Cell<usize> = const { Cell::new(0) };
}

/// While it lives, the thread uses values outside of their domains, because nobody else does.
pub(crate) struct Alone {
    #[cfg(debug_assertions)]
    before: usize,
}

impl Alone {
    /// With the value of an object that goes.
    #[inline(always)]
    pub(crate) fn with(_object: *mut ffi::PyObject) -> Alone {
        Alone {
            #[cfg(debug_assertions)]
            before: ALONE.replace(_object as usize),
        }
    }

    /// With all values, while no other thread runs.
    #[inline(always)]
    pub(crate) fn with_everything() -> Alone {
        Alone {
            #[cfg(debug_assertions)]
            before: ALONE.replace(EVERYTHING),
        }
    }
}

#[cfg(debug_assertions)]
impl Drop for Alone {
    fn drop(&mut self) {
        ALONE.set(self.before);
    }
}
