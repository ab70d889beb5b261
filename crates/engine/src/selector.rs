//! Which descriptors are ready.
//!
//! A front over epoll, or over `poll` where there is no epoll. Both keep one contract, tested by
//! the same tests:
//! - Level-triggered: a descriptor is reported at every wait while it is ready.
//! - One registration per descriptor, with a token of the caller's choice that comes back with
//!   every event.
//! - Errors and hang-ups count as readable and as writable, as in Python's `selectors`, whatever
//!   was asked for. The caller masks events by the registered interest, and the next read or write
//!   fails with the error.
//! - A wait ends early only for readiness or a signal. It reports at most [`MAX_EVENTS`]
//!   descriptors, and the next wait reports the others.
//! - Closed descriptors disappear. Still, unregister before closing: a descriptor that lives on
//!   as a duplicate keeps being reported by epoll and can no longer be unregistered.
//!
//! The selector is close-on-exec. After a fork, parent and child share one epoll: the child must
//! drop its selector without unregistering anything and make a new one.
//!
//! It offers no edge-triggering, which would make one unread byte a lost wake-up. It refuses an
//! interest in nothing, which would still report hang-ups for ever.

use std::io;
use std::ops::{BitOr, Sub};
use std::os::fd::RawFd;

use crate::clock::Nanos;
#[cfg(any(target_os = "linux", target_os = "android"))]
use crate::sys::epoll::Epoll;
use crate::sys::poll::Poll;

/// The maximum number of descriptors that one wait reports.
pub const MAX_EVENTS: usize = 256;

/// What to wait for on a descriptor: [`READ`](Interest::READ), [`WRITE`](Interest::WRITE), or both.
/// `|` puts interests together, `-` takes them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Interest(u8);

impl Interest {
    /// Interest in nothing, which cannot be registered.
    pub const NONE: Interest = Interest(0);
    /// Interest in reading: `add_reader`.
    pub const READ: Interest = Interest(1);
    /// Interest in writing: `add_writer`.
    pub const WRITE: Interest = Interest(2);

    /// Whether this includes all of `other`.
    #[inline]
    pub const fn contains(self, other: Interest) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it is an interest in nothing.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Interest {
    type Output = Interest;

    #[inline]
    fn bitor(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }
}

impl Sub for Interest {
    type Output = Interest;

    #[inline]
    fn sub(self, other: Interest) -> Interest {
        Interest(self.0 & !other.0)
    }
}

/// One descriptor that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// The token that the descriptor was registered with.
    pub token: u64,
    /// Whether the descriptor can be read, or has an error or hang-up to report.
    pub readable: bool,
    /// Whether the descriptor can be written, or has an error or hang-up to report.
    pub writable: bool,
}

/// A system call to wait by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Linux's epoll.
    Epoll,
    /// `poll`, which every system has and which slows down with many descriptors.
    Poll,
}

/// The descriptors that a loop watches. Threads can share it: one may register while another waits.
/// It then notifies the loop's [`Waker`](crate::Waker), since `poll` sees the change only at its
/// next wait.
#[derive(Debug)]
pub struct Selector {
    system: System,
}

#[derive(Debug)]
enum System {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Epoll(Epoll),
    Poll(Poll),
}

/// Runs the same expression on either back end.
macro_rules! on {
    ($selector:expr, $system:ident => $call:expr) => {
        match &$selector.system {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            System::Epoll($system) => $call,
            System::Poll($system) => $call,
        }
    };
}

impl Selector {
    /// A selector with the best back end that this system has and does not refuse.
    ///
    /// # Errors
    /// The system's, when it is out of descriptors or memory.
    pub fn new() -> io::Result<Selector> {
        match Selector::with_backend(Backend::Epoll) {
            // A sandbox may refuse epoll with any error. A shortage is an error of its own, since
            // it passes.
            Err(error) if !is_shortage(&error) => Selector::with_backend(Backend::Poll),
            result => result,
        }
    }

    /// A selector with the back end asked for.
    ///
    /// # Errors
    /// `Unsupported` when this system does not have it; otherwise as [`new`](Selector::new).
    pub fn with_backend(backend: Backend) -> io::Result<Selector> {
        let system = match backend {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Backend::Epoll => System::Epoll(Epoll::new()?),
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            Backend::Epoll => return Err(io::ErrorKind::Unsupported.into()),
            Backend::Poll => System::Poll(Poll::new()),
        };
        Ok(Selector { system })
    }

    /// The back end in use.
    pub fn backend(&self) -> Backend {
        match &self.system {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            System::Epoll(_) => Backend::Epoll,
            System::Poll(_) => Backend::Poll,
        }
    }

    /// Starts to watch `fd`. Events on it carry `token`.
    ///
    /// # Errors
    /// `EEXIST` when it is registered already, `EBADF` when it is closed, `EPERM` when it is a
    /// file or directory, `InvalidInput` when the interest is empty; the system's others.
    pub fn register(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        check_interest(interest)?;
        on!(self, system => system.register(fd, token, interest))
    }

    /// Changes token and interest of a registered descriptor.
    ///
    /// # Errors
    /// `ENOENT` when it is not registered; otherwise as [`register`](Selector::register).
    pub fn modify(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        check_interest(interest)?;
        on!(self, system => system.modify(fd, token, interest))
    }

    /// Watches `fd` until the next event on it, which carries `token`. Then the descriptor stays
    /// registered, but silent, until it is armed or modified again. So a caller that waits for one
    /// event after another need not register and unregister each time. `registered` says whether
    /// the descriptor is probably registered, which decides what is tried first; a wrong guess
    /// costs one system call.
    ///
    /// # Errors
    /// As [`register`](Selector::register), but for `EEXIST`.
    pub fn arm(
        &self,
        fd: RawFd,
        token: u64,
        interest: Interest,
        registered: bool,
    ) -> io::Result<()> {
        check_interest(interest)?;
        on!(self, system => system.arm(fd, token, interest, registered))
    }

    /// Stops to watch `fd`.
    ///
    /// # Errors
    /// `ENOENT` when it is not registered; the system's others.
    pub fn unregister(&self, fd: RawFd) -> io::Result<()> {
        on!(self, system => system.unregister(fd))
    }

    /// Waits until a descriptor is ready or `timeout` nanoseconds have passed, without end for
    /// `None`, not at all for 0. `events` holds what is ready afterwards and nothing else: at
    /// most [`MAX_EVENTS`]. A signal ends the wait without events.
    ///
    /// # Errors
    /// The system's, which no correct use brings about.
    pub fn wait(&self, timeout: Option<Nanos>, events: &mut Vec<Readiness>) -> io::Result<()> {
        events.clear();
        match on!(self, system => system.wait(timeout, events)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }
}

/// Whether the system is out of descriptors or memory.
fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)
    )
}

fn check_interest(interest: Interest) -> io::Result<()> {
    if interest.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "interest in nothing",
        ));
    }
    Ok(())
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::testing::config;
    use crate::waker::Waker;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::io::{Read, Write};
    use std::net::Shutdown;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    /// Selectors with both back ends, and with an epoll that does not know nanoseconds.
    fn selectors() -> Vec<Selector> {
        let mut selectors = vec![
            Selector::new().unwrap(),
            Selector::with_backend(Backend::Poll).unwrap(),
        ];
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            let epoll = Epoll::new().unwrap();
            epoll.forbid_nanoseconds();
            selectors.push(Selector {
                system: System::Epoll(epoll),
            });
        }
        selectors
    }

    fn pair() -> (UnixStream, UnixStream) {
        let (ours, peer) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        peer.set_nonblocking(true).unwrap();
        (ours, peer)
    }

    /// The descriptors that are ready now, by token.
    fn ready(selector: &Selector) -> Vec<Readiness> {
        let mut events = Vec::new();
        selector.wait(Some(0), &mut events).unwrap();
        events.sort_by_key(|event| event.token);
        events
    }

    fn event(token: u64, readable: bool, writable: bool) -> Readiness {
        Readiness {
            token,
            readable,
            writable,
        }
    }

    fn code(result: io::Result<()>) -> Option<i32> {
        result.unwrap_err().raw_os_error()
    }

    #[test]
    fn interests_are_sets() {
        let both = Interest::READ | Interest::WRITE;
        assert!(both.contains(Interest::READ) && both.contains(Interest::WRITE));
        assert!(!Interest::READ.contains(both));
        assert_eq!(both - Interest::READ, Interest::WRITE);
        assert!((both - both).is_empty());
        assert_eq!(Interest::default(), Interest::NONE);
    }

    #[test]
    fn backends_are_what_was_asked_for() {
        for backend in [Backend::Epoll, Backend::Poll] {
            match Selector::with_backend(backend) {
                Ok(selector) => assert_eq!(selector.backend(), backend),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported),
            }
        }
    }

    #[test]
    fn reports_reading_while_there_is_something_to_read() {
        for selector in selectors() {
            let (mut ours, mut peer) = pair();
            selector
                .register(ours.as_raw_fd(), 7, Interest::READ)
                .unwrap();
            assert_eq!(ready(&selector), []);
            peer.write_all(b"ab").unwrap();
            let mut byte = [0];
            for _ in 0..2 {
                assert_eq!(ready(&selector), [event(7, true, false)]);
                assert_eq!(ready(&selector), [event(7, true, false)]);
                ours.read_exact(&mut byte).unwrap();
            }
            assert_eq!(ready(&selector), []);
        }
    }

    #[test]
    fn armed_descriptors_report_once() {
        for selector in selectors() {
            let (ours, mut peer) = pair();
            let fd = ours.as_raw_fd();
            for registered in [false, true, false] {
                selector.arm(fd, 7, Interest::READ, registered).unwrap();
                assert_eq!(ready(&selector), []);
                peer.write_all(b"a").unwrap();
                assert_eq!(ready(&selector), [event(7, true, false)]);
                assert_eq!(ready(&selector), []);
                // There is still something to read: armed again, the descriptor is reported again.
                selector.arm(fd, 8, Interest::READ, registered).unwrap();
                assert_eq!(ready(&selector), [event(8, true, false)]);
                (&ours).read_exact(&mut [0]).unwrap();
            }
            // A silent descriptor does not even report that the peer is gone.
            drop(peer);
            assert_eq!(ready(&selector), []);
            selector.modify(fd, 9, Interest::READ).unwrap();
            for _ in 0..2 {
                assert_eq!(ready(&selector), [event(9, true, true)]);
            }
            selector.unregister(fd).unwrap();
            assert_eq!(code(selector.unregister(fd)), Some(libc::ENOENT));
            assert_eq!(code(selector.arm(fd, 1, Interest::NONE, false)), None);
        }
    }

    #[test]
    fn reports_writing_while_there_is_room() {
        for selector in selectors() {
            let (mut ours, mut peer) = pair();
            selector
                .register(ours.as_raw_fd(), 1, Interest::WRITE)
                .unwrap();
            assert_eq!(ready(&selector), [event(1, false, true)]);
            let chunk = [0; 4096];
            while ours.write(&chunk).is_ok() {}
            assert_eq!(ready(&selector), []);
            let mut sink = [0; 4096];
            while peer.read(&mut sink).is_ok() {}
            assert_eq!(ready(&selector), [event(1, false, true)]);
        }
    }

    #[test]
    fn events_of_an_earlier_wait_are_cleared() {
        for selector in selectors() {
            let mut events = vec![event(1, true, true)];
            selector.wait(Some(0), &mut events).unwrap();
            assert_eq!(events, []);
        }
    }

    #[test]
    fn modify_changes_interest_and_token() {
        for selector in selectors() {
            let (ours, mut peer) = pair();
            let fd = ours.as_raw_fd();
            peer.write_all(b"a").unwrap();
            selector.register(fd, 1, Interest::READ).unwrap();
            assert_eq!(ready(&selector), [event(1, true, false)]);
            selector.modify(fd, 2, Interest::WRITE).unwrap();
            assert_eq!(ready(&selector), [event(2, false, true)]);
            selector
                .modify(fd, u64::MAX, Interest::READ | Interest::WRITE)
                .unwrap();
            assert_eq!(ready(&selector), [event(u64::MAX, true, true)]);
            selector.unregister(fd).unwrap();
            assert_eq!(ready(&selector), []);
            selector.register(fd, 3, Interest::READ).unwrap();
            assert_eq!(ready(&selector), [event(3, true, false)]);
        }
    }

    #[test]
    fn lost_peer_counts_as_readable_and_writable() {
        for interest in [Interest::READ, Interest::WRITE] {
            for selector in selectors() {
                let (ours, peer) = pair();
                selector.register(ours.as_raw_fd(), 4, interest).unwrap();
                drop(peer);
                assert_eq!(ready(&selector), [event(4, true, true)]);
            }
        }
    }

    #[test]
    fn half_closed_peer_is_the_end_of_reading_alone() {
        for selector in selectors() {
            let (mut ours, mut peer) = pair();
            selector
                .register(ours.as_raw_fd(), 5, Interest::READ)
                .unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            assert_eq!(ready(&selector), [event(5, true, false)]);
            assert_eq!(ours.read(&mut [0; 8]).unwrap(), 0);
            ours.write_all(b"still").unwrap();
            assert_eq!(peer.read(&mut [0; 8]).unwrap(), 5);
        }
    }

    #[test]
    fn refuses_what_cannot_be_watched() {
        for selector in selectors() {
            let (ours, _peer) = pair();
            let fd = ours.as_raw_fd();
            assert_eq!(
                code(selector.modify(fd, 0, Interest::READ)),
                Some(libc::ENOENT)
            );
            assert_eq!(code(selector.unregister(fd)), Some(libc::ENOENT));
            selector.register(fd, 0, Interest::READ).unwrap();
            assert_eq!(
                code(selector.register(fd, 0, Interest::READ)),
                Some(libc::EEXIST)
            );
            for result in [
                selector.register(fd, 0, Interest::NONE),
                selector.modify(fd, 0, Interest::NONE),
            ] {
                assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
            }
            assert_eq!(
                code(selector.register(-1, 0, Interest::READ)),
                Some(libc::EBADF)
            );
            let directory = std::fs::File::open("/").unwrap();
            assert_eq!(
                code(selector.register(directory.as_raw_fd(), 0, Interest::READ)),
                Some(libc::EPERM)
            );
        }
    }

    #[test]
    fn wait_never_ends_early() {
        let clock = Clock::monotonic();
        for selector in selectors() {
            let (ours, _peer) = pair();
            selector
                .register(ours.as_raw_fd(), 0, Interest::READ)
                .unwrap();
            let mut events = Vec::new();
            for timeout in [1, 999, 50_000, 300_000, 999_999, 1_000_001, 2_500_000] {
                for _ in 0..5 {
                    let before = clock.now();
                    selector.wait(Some(timeout), &mut events).unwrap();
                    let passed = clock.now() - before;
                    assert!(passed >= timeout, "{passed} of {timeout} ns");
                    assert_eq!(events, []);
                }
            }
        }
    }

    #[test]
    fn readiness_ends_the_longest_wait() {
        for timeout in [Some(Nanos::MAX), Some(3_600_000_000_000), None] {
            for selector in selectors() {
                let waker = Waker::new().unwrap();
                selector.register(waker.fd(), 9, Interest::READ).unwrap();
                let mut events = Vec::new();
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        std::thread::yield_now();
                        waker.notify();
                    });
                    selector.wait(timeout, &mut events).unwrap();
                });
                assert_eq!(events, [event(9, true, false)]);
            }
        }
    }

    #[test]
    fn another_thread_may_register_while_one_waits() {
        for selector in selectors() {
            let waker = Waker::new().unwrap();
            selector.register(waker.fd(), 0, Interest::READ).unwrap();
            let (ours, _peer) = pair();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    selector
                        .register(ours.as_raw_fd(), 1, Interest::WRITE)
                        .unwrap();
                    waker.notify();
                });
                let mut events = Vec::new();
                while !events.contains(&event(1, false, true)) {
                    selector.wait(None, &mut events).unwrap();
                }
            });
        }
    }

    #[test]
    fn more_than_one_wait_can_report_get_their_turn() {
        for selector in selectors() {
            let (ours, _peer) = pair();
            let count = MAX_EVENTS + 44;
            let copies: Vec<_> = (0..count).map(|_| ours.try_clone().unwrap()).collect();
            for (token, copy) in copies.iter().enumerate() {
                selector
                    .register(copy.as_raw_fd(), token as u64, Interest::WRITE)
                    .unwrap();
            }
            let mut seen = HashSet::new();
            for _ in 0..3 {
                let events = ready(&selector);
                assert_eq!(events.len(), MAX_EVENTS);
                seen.extend(events.iter().map(|event| event.token));
            }
            assert_eq!(seen.len(), count);
            // Epoll keeps reporting copies that were not unregistered.
            for copy in &copies {
                selector.unregister(copy.as_raw_fd()).unwrap();
            }
            assert_eq!(ready(&selector), []);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Register(usize, bool, bool),
        Modify(usize, bool, bool),
        Unregister(usize),
        PeerWrites(usize),
        WeRead(usize),
        WeFill(usize),
        PeerDrains(usize),
        PeerStopsWriting(usize),
        PeerLeaves(usize),
    }

    const PAIRS: usize = 4;

    fn step() -> impl Strategy<Value = Step> {
        let of = || 0..PAIRS;
        prop_oneof![
            3 => (of(), any::<bool>(), any::<bool>()).prop_map(|(a, b, c)| Step::Register(a, b, c)),
            3 => (of(), any::<bool>(), any::<bool>()).prop_map(|(a, b, c)| Step::Modify(a, b, c)),
            1 => of().prop_map(Step::Unregister),
            3 => of().prop_map(Step::PeerWrites),
            2 => of().prop_map(Step::WeRead),
            2 => of().prop_map(Step::WeFill),
            2 => of().prop_map(Step::PeerDrains),
            1 => of().prop_map(Step::PeerStopsWriting),
            1 => of().prop_map(Step::PeerLeaves),
        ]
    }

    fn interest(read: bool, write: bool) -> Interest {
        let mut interest = Interest::NONE;
        if read {
            interest = interest | Interest::READ;
        }
        if write {
            interest = interest | Interest::WRITE;
        }
        interest
    }

    proptest! {
        #![proptest_config(config(150))]

        /// Both back ends watch the same sockets and report the same, errors included.
        #[test]
        fn backends_agree(steps in prop::collection::vec(step(), 1..50)) {
            let selectors = selectors();
            let mut sockets: Vec<_> =
                (0..PAIRS).map(|_| pair()).map(|(ours, peer)| (ours, Some(peer))).collect();
            for (index, step) in steps.into_iter().enumerate() {
                let on_all = |change: &dyn Fn(&Selector) -> io::Result<()>| {
                    let results: Vec<_> = selectors
                        .iter()
                        .map(|selector| change(selector).map_err(|error| error.to_string()))
                        .collect();
                    assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
                };
                let token = index as u64;
                let mut room = [0; 4096];
                match step {
                    Step::Register(which, read, write) => on_all(&|selector| {
                        selector.register(sockets[which].0.as_raw_fd(), token, interest(read, write))
                    }),
                    Step::Modify(which, read, write) => on_all(&|selector| {
                        selector.modify(sockets[which].0.as_raw_fd(), token, interest(read, write))
                    }),
                    Step::Unregister(which) => {
                        on_all(&|selector| selector.unregister(sockets[which].0.as_raw_fd()));
                    }
                    Step::PeerWrites(which) => {
                        let _ = sockets[which].1.as_mut().map(|peer| peer.write(b"abc"));
                    }
                    Step::WeRead(which) => {
                        let _ = sockets[which].0.read(&mut room);
                    }
                    Step::WeFill(which) => while sockets[which].0.write(&room).is_ok() {},
                    Step::PeerDrains(which) => {
                        if let Some(peer) = &mut sockets[which].1 {
                            while peer.read(&mut room).is_ok_and(|count| count > 0) {}
                        }
                    }
                    Step::PeerStopsWriting(which) => {
                        let peer = sockets[which].1.as_ref();
                        let _ = peer.map(|peer| peer.shutdown(Shutdown::Write));
                    }
                    Step::PeerLeaves(which) => sockets[which].1 = None,
                }
                let expected = ready(&selectors[0]);
                for selector in &selectors[1..] {
                    prop_assert_eq!(&ready(selector), &expected);
                }
            }
        }
    }
}
