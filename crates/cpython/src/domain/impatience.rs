//! Threads that wait for a domain whose owner computes.
//!
//! The owner of a domain gives it up between two entries, and whenever it detaches. A callback that
//! computes for long does neither. With the GIL, another thread would get its turn after five
//! milliseconds. Here a thread of its own looks after those that wait: it stops the world for a
//! moment, which suspends the owner's critical sections. A waiting thread is given the domain then,
//! because CPython's mutexes are fair to those that have waited for a millisecond.

use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use pyo3::{Python, ffi};

/// How long a thread waits before the world is stopped for it: the interval of the GIL.
const PATIENCE: Duration = Duration::from_millis(5);

/// A function of CPython's that stops or starts all other threads of an interpreter.
type WorldFunction = unsafe extern "C" fn(*mut ffi::PyInterpreterState);

/// The threads that wait for a domain.
pub(super) struct Waiting {
    /// Their number.
    threads: AtomicUsize,
    /// The number of those that have got the domain. It wraps around.
    served: AtomicUsize,
    /// `served`, when the thread that looks after them looked last.
    seen: AtomicUsize,
}

impl Waiting {
    pub(super) const fn new() -> Waiting {
        Waiting {
            threads: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            seen: AtomicUsize::new(usize::MAX),
        }
    }

    /// Runs the body, which waits for the domain.
    pub(super) fn while_waiting(&self, body: impl FnOnce()) {
        self.threads.fetch_add(1, Ordering::SeqCst);
        LOOKOUT.look();
        body();
        self.served.fetch_add(1, Ordering::Relaxed);
        self.threads.fetch_sub(1, Ordering::Relaxed);
    }

    /// Forgets the threads, in a forked child.
    pub(super) fn forget(&self) {
        self.threads.store(0, Ordering::Relaxed);
    }

    /// Whether threads wait, and none has got the domain since the last look.
    fn is_stuck(&self, some_wait: &mut bool) -> bool {
        let served = self.served.load(Ordering::Relaxed);
        let before = self.seen.swap(served, Ordering::Relaxed);
        if self.threads.load(Ordering::SeqCst) == 0 {
            self.seen.store(usize::MAX, Ordering::Relaxed);
            return false;
        }
        *some_wait = true;
        before == served
    }
}

/// The thread that looks after those that wait. There is no lock: a forked child could find it held.
struct Lookout {
    state: AtomicU8,
    /// Its handle, once it has begun to run. It is never freed.
    thread: AtomicPtr<Thread>,
}

/// There is no such thread.
const ABSENT: u8 = 0;
/// It sleeps until it is called.
const ASLEEP: u8 = 1;
const LOOKING: u8 = 2;

static LOOKOUT: Lookout = Lookout {
    state: AtomicU8::new(ABSENT),
    thread: AtomicPtr::new(std::ptr::null_mut()),
};

impl Lookout {
    /// Takes the state from one to another, if it is the first.
    fn turn(&self, from: u8, to: u8) -> bool {
        let (order, otherwise) = (Ordering::AcqRel, Ordering::Acquire);
        self.state
            .compare_exchange(from, to, order, otherwise)
            .is_ok()
    }

    /// Has the thread look, if it does not; it is made by the first call.
    fn look(&'static self) {
        match self.state.load(Ordering::SeqCst) {
            ASLEEP if self.turn(ASLEEP, LOOKING) => {
                // SAFETY: it sleeps, so it has stored its handle, which is never freed.
                unsafe { (*self.thread.load(Ordering::Acquire)).unpark() }
            }
            ABSENT if self.turn(ABSENT, LOOKING) => {
                let begun = world().and_then(|world| {
                    let thread = std::thread::Builder::new().name("aioxide-domains".into());
                    thread.spawn(move || self.run(world)).ok()
                });
                if begun.is_none() {
                    // Without it a thread waits until the callback ends.
                    self.state.store(ABSENT, Ordering::Release);
                }
            }
            _ => {}
        }
    }

    fn run(&self, world: (WorldFunction, WorldFunction)) {
        let own = Box::into_raw(Box::new(std::thread::current()));
        self.thread.store(own, Ordering::Release);
        loop {
            std::thread::sleep(PATIENCE);
            let (mut some_wait, mut some_stuck) = (false, false);
            super::each_domain(|domain| some_stuck |= domain.waiting.is_stuck(&mut some_wait));
            if some_stuck {
                let stopped = Python::try_attach(|_| {
                    // SAFETY: the thread is attached, and starts the world again at once.
                    unsafe {
                        let interpreter = ffi::PyInterpreterState_Get();
                        (world.0)(interpreter);
                        (world.1)(interpreter);
                    }
                });
                if stopped.is_none() {
                    // The interpreter ends.
                    self.state.store(ABSENT, Ordering::Release);
                    return;
                }
            } else if !some_wait {
                self.sleep();
            }
        }
    }

    /// Sleeps until somebody waits.
    fn sleep(&self) {
        self.state.store(ASLEEP, Ordering::SeqCst);
        // A thread that has begun to wait just before has found it looking.
        let mut some_wait = false;
        super::each_domain(|domain| {
            domain.waiting.is_stuck(&mut some_wait);
        });
        if some_wait && self.turn(ASLEEP, LOOKING) {
            return;
        }
        while self.state.load(Ordering::Acquire) == ASLEEP {
            std::thread::park();
        }
    }
}

/// CPython's functions that stop the world and start it again, where they are exported.
fn world() -> Option<(WorldFunction, WorldFunction)> {
    let find = |name: &std::ffi::CStr| {
        // SAFETY: looks a symbol up in the process.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        // SAFETY: both functions have this signature in the versions that have them.
        (!found.is_null()).then(|| unsafe { std::mem::transmute::<*mut _, WorldFunction>(found) })
    };
    Some((
        find(c"_PyEval_StopTheWorld")?,
        find(c"_PyEval_StartTheWorld")?,
    ))
}

/// Forgets the thread, in a forked child.
pub(super) fn forget_thread() {
    LOOKOUT.state.store(ABSENT, Ordering::Release);
}
