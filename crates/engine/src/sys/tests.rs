//! Tests of the operations, on real sockets of this machine.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::selector::{Backend, Interest, Selector};

fn pair() -> (UnixStream, UnixStream) {
    let (ours, peer) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    peer.set_nonblocking(true).unwrap();
    (ours, peer)
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: the pointer is to two ints of ours.
    check(unsafe { libc::pipe(ends.as_mut_ptr()) }).unwrap();
    for end in ends {
        set_nonblocking(end, true).unwrap();
    }
    // SAFETY: the call has just made these descriptors and nobody else knows of them.
    ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) }).into()
}

fn is_close_on_exec(fd: RawFd) -> bool {
    // SAFETY: only numbers are passed.
    check(unsafe { libc::fcntl(fd, libc::F_GETFD) }).unwrap() & libc::FD_CLOEXEC != 0
}

/// A listening socket that does not block, and its address.
fn listener(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A new TCP socket that does not block and is not connected.
fn socket() -> OwnedFd {
    // SAFETY: only numbers are passed.
    let fd = check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) }).unwrap();
    set_nonblocking(fd, true).unwrap();
    // SAFETY: the call has just made this descriptor and nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn wait_for(fd: RawFd, interest: Interest) {
    let selector = Selector::new().unwrap();
    selector.register(fd, 0, interest).unwrap();
    let mut events = Vec::new();
    while events.is_empty() {
        selector.wait(None, &mut events).unwrap();
    }
}

#[test]
fn send_and_recv() {
    let (ours, peer) = pair();
    let mut buffer = [0; 8];
    let error = recv(ours.as_raw_fd(), &mut buffer).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(send(peer.as_raw_fd(), b"hello").unwrap(), 5);
    assert_eq!(recv(ours.as_raw_fd(), &mut buffer[..2]).unwrap(), 2);
    assert_eq!(recv(ours.as_raw_fd(), &mut buffer[2..]).unwrap(), 3);
    assert_eq!(&buffer, b"hello\0\0\0");
    drop(peer);
    assert_eq!(recv(ours.as_raw_fd(), &mut buffer).unwrap(), 0);
}

#[test]
fn recv_fills_uninitialized_memory() {
    let (ours, peer) = pair();
    send(peer.as_raw_fd(), b"abc").unwrap();
    let mut buffer = [MaybeUninit::uninit(); 16];
    let received = recv_uninit(ours.as_raw_fd(), &mut buffer).unwrap();
    assert_eq!(received, b"abc");
}

#[test]
fn send_vectored_keeps_order_and_stops_at_the_limit() {
    let (ours, peer) = pair();
    let slices = [b"ab".as_slice(), b"", b"cde"].map(IoSlice::new);
    assert_eq!(send_vectored(ours.as_raw_fd(), &slices).unwrap(), 5);
    let mut buffer = [0; 8];
    assert_eq!(recv(peer.as_raw_fd(), &mut buffer).unwrap(), 5);
    assert_eq!(&buffer[..5], b"abcde");

    let many = vec![IoSlice::new(b"x"); crate::buffer::IOV_MAX];
    assert_eq!(send_vectored(ours.as_raw_fd(), &many).unwrap(), many.len());
    let too_many = vec![IoSlice::new(b"x"); crate::buffer::IOV_MAX + 1];
    let error = send_vectored(ours.as_raw_fd(), &too_many).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
}

#[test]
fn full_socket_takes_a_part_and_then_nothing() {
    let (ours, _peer) = pair();
    let bytes = vec![1; 8 << 20];
    let taken = send(ours.as_raw_fd(), &bytes).unwrap();
    assert!(taken > 0 && taken < bytes.len());
    let error = loop {
        if let Err(error) = send(ours.as_raw_fd(), &bytes) {
            break error;
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

/// Whether a SIGPIPE waits for this thread, which must have blocked it.
fn is_sigpipe_pending() -> bool {
    // SAFETY: the set is ours, and filled by the first call.
    unsafe {
        let mut pending: libc::sigset_t = std::mem::zeroed();
        check(libc::sigpending(&mut pending)).unwrap();
        libc::sigismember(&pending, libc::SIGPIPE) == 1
    }
}

#[test]
fn lost_peer_is_an_error_and_no_signal() {
    // The harness ignores SIGPIPE, as Python does, and sockets must not depend on that. A
    // blocked signal is kept even so; the mask is that of this test's own thread.
    // SAFETY: the set is ours, and filled by the first calls.
    unsafe {
        let mut blocked: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut blocked);
        libc::sigaddset(&mut blocked, libc::SIGPIPE);
        let result = libc::pthread_sigmask(libc::SIG_BLOCK, &blocked, std::ptr::null_mut());
        assert_eq!(result, 0);
    }
    let (ours, peer) = pair();
    drop(peer);
    let plain = send(ours.as_raw_fd(), b"x");
    let vectored = send_vectored(ours.as_raw_fd(), &[IoSlice::new(b"x")]);
    assert_eq!(plain.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(vectored.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert!(!is_sigpipe_pending());
    let written = write(ours.as_raw_fd(), b"x");
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert!(is_sigpipe_pending(), "a plain write does raise it");
}

#[test]
fn pipes_are_read_and_written() {
    let (reader, writer) = pipe();
    let mut buffer = [0; 4];
    let error = read(reader.as_raw_fd(), &mut buffer).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(write(writer.as_raw_fd(), b"abc").unwrap(), 3);
    assert_eq!(read(reader.as_raw_fd(), &mut buffer).unwrap(), 3);
    close(writer).unwrap();
    assert_eq!(read(reader.as_raw_fd(), &mut buffer).unwrap(), 0);
}

#[test]
fn closing_says_how_it_went() {
    let (reader, _writer) = pipe();
    close(reader).unwrap();
    // SAFETY: nobody owns this number, which lies above every limit of this process.
    let wrong = unsafe { OwnedFd::from_raw_fd(RawFd::MAX) };
    assert_eq!(close(wrong).unwrap_err().raw_os_error(), Some(libc::EBADF));
}

#[test]
fn shutdown_ends_one_direction() {
    let (ours, peer) = pair();
    shutdown(ours.as_raw_fd(), Shutdown::Write).unwrap();
    assert_eq!(recv(peer.as_raw_fd(), &mut [0; 4]).unwrap(), 0);
    assert!(send(ours.as_raw_fd(), b"x").is_err());
    assert_eq!(send(peer.as_raw_fd(), b"back").unwrap(), 4);
    assert_eq!(recv(ours.as_raw_fd(), &mut [0; 4]).unwrap(), 4);
    shutdown(ours.as_raw_fd(), Shutdown::Both).unwrap();
    let fresh = socket();
    let error = shutdown(fresh.as_raw_fd(), Shutdown::Read).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
}

#[test]
fn accepted_connections_do_not_block_and_close_on_exec() {
    let (listener, address) = listener("127.0.0.1:0");
    let error = accept(listener.as_raw_fd()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    let client = TcpStream::connect(address).unwrap();
    wait_for(listener.as_raw_fd(), Interest::READ);
    let (connection, peer) = accept(listener.as_raw_fd()).unwrap();
    assert!(is_nonblocking(connection.as_raw_fd()).unwrap());
    assert!(is_close_on_exec(connection.as_raw_fd()));
    assert_eq!(peer.ip(), Some(client.local_addr().unwrap()));
    assert_eq!(peer.unix_path(), None);
    let local = local_address(connection.as_raw_fd()).unwrap();
    assert_eq!(local.ip(), Some(address));
    let peer = peer_address(connection.as_raw_fd()).unwrap();
    assert_eq!(peer.ip(), Some(client.local_addr().unwrap()));
}

#[test]
fn connection_in_progress_succeeds() {
    let (listener, address) = listener("127.0.0.1:0");
    let client = socket();
    match connect(client.as_raw_fd(), &address.into()) {
        Ok(()) => {}
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS)),
    }
    wait_for(client.as_raw_fd(), Interest::WRITE);
    assert!(so_error(client.as_raw_fd()).unwrap().is_none());
    assert_eq!(
        peer_address(client.as_raw_fd()).unwrap().ip(),
        Some(address)
    );
    assert!(accept(listener.as_raw_fd()).is_ok());
}

#[test]
fn refused_connection_is_the_error_of_the_socket() {
    let (listener, address) = listener("127.0.0.1:0");
    drop(listener);
    let client = socket();
    let error = match connect(client.as_raw_fd(), &address.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
            wait_for(client.as_raw_fd(), Interest::WRITE);
            so_error(client.as_raw_fd()).unwrap().unwrap()
        }
        result => result.unwrap_err(),
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(so_error(client.as_raw_fd()).unwrap().is_none(), "taken off");
}

#[test]
fn nodelay_is_for_tcp() {
    let (_listener, address) = listener("127.0.0.1:0");
    let client = TcpStream::connect(address).unwrap();
    set_nodelay(client.as_raw_fd(), true).unwrap();
    assert!(client.nodelay().unwrap());
    set_nodelay(client.as_raw_fd(), false).unwrap();
    assert!(!client.nodelay().unwrap());
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(set_nodelay(datagrams.as_raw_fd(), true).is_err());
}

#[test]
fn blocking_is_switched_on_and_off() {
    let (ours, _peer) = UnixStream::pair().unwrap();
    let fd = ours.as_raw_fd();
    assert!(!is_nonblocking(fd).unwrap());
    set_nonblocking(fd, true).unwrap();
    assert!(is_nonblocking(fd).unwrap());
    set_nonblocking(fd, false).unwrap();
    assert!(!is_nonblocking(fd).unwrap());
    assert!(is_nonblocking(-1).is_err());
}

#[test]
fn ip_addresses_survive() {
    for text in ["127.0.0.1:80", "0.0.0.0:0", "[::1]:65535", "[fe80::1]:9"] {
        let address: SocketAddr = text.parse().unwrap();
        let storage = SocketAddrStorage::from(address);
        assert_eq!(storage.ip(), Some(address));
        assert_eq!(format!("{storage:?}"), text);
    }
    let scoped = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 5, 0x12345, 3);
    let storage = SocketAddrStorage::from(SocketAddr::V6(scoped));
    assert_eq!(storage.ip(), Some(SocketAddr::V6(scoped)));
    assert_eq!(storage.family(), libc::AF_INET6);
}

#[test]
fn unix_addresses_survive() {
    for path in [b"/run/service".as_slice(), b"\0abstract\0name", b""] {
        let address = SocketAddrStorage::from_unix_path(path).unwrap();
        assert_eq!(address.family(), libc::AF_UNIX);
        assert_eq!(address.unix_path(), Some(path));
        assert_eq!(address.ip(), None);
    }
    let address = SocketAddrStorage::from_unix_path(b"/a\xff").unwrap();
    assert_eq!(format!("{address:?}"), "unix:/a\\xff");
    for wrong in [b"a\0b".as_slice(), &[b'x'; 200]] {
        let error = SocketAddrStorage::from_unix_path(wrong).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn unix_connections_are_accepted() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    let name = format!("aioxide-engine-{}", std::process::id());
    let listener =
        UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let full = [b"\0", name.as_bytes()].concat();
    let address = local_address(listener.as_raw_fd()).unwrap();
    assert_eq!(address.unix_path(), Some(full.as_slice()));
    // SAFETY: only numbers are passed.
    let client = check(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) }).unwrap();
    // SAFETY: the call has just made this descriptor and nobody else knows of it.
    let client = unsafe { OwnedFd::from_raw_fd(client) };
    connect(client.as_raw_fd(), &address).unwrap();
    let (connection, peer) = accept(listener.as_raw_fd()).unwrap();
    assert_eq!(
        peer.unix_path(),
        Some(b"".as_slice()),
        "the client has no name"
    );
    assert_eq!(send(connection.as_raw_fd(), b"hi").unwrap(), 2);
    assert_eq!(recv(client.as_raw_fd(), &mut [0; 4]).unwrap(), 2);
}

#[test]
fn notifier_of_two_ends_keeps_the_contract() {
    let notifier = Notifier::with_pair().unwrap();
    assert!(is_nonblocking(notifier.fd()).unwrap());
    assert!(is_close_on_exec(notifier.fd()));
    let is_readable = || {
        let selector = Selector::new().unwrap();
        selector.register(notifier.fd(), 0, Interest::READ).unwrap();
        let mut events = Vec::new();
        selector.wait(Some(0), &mut events).unwrap();
        !events.is_empty()
    };
    assert!(!is_readable());
    // More than fits: the last ones are dropped and do not block.
    let full = (0..1_000_000).find_map(|_| notifier.notify().err());
    assert!(full.is_none_or(|error| error.kind() == io::ErrorKind::WouldBlock));
    assert!(is_readable());
    notifier.clear(&mut Vec::new());
    assert!(!is_readable());
    notifier.clear(&mut Vec::new());
}

#[test]
fn wakers_and_selectors_close_on_exec() {
    let notifier = Notifier::new().unwrap();
    assert!(is_nonblocking(notifier.fd()).unwrap());
    assert!(is_close_on_exec(notifier.fd()));
}

/// The writing end of a pipe without a reader has an error, which counts as both.
#[test]
fn broken_pipe_is_readable_and_writable() {
    for backend in [Backend::Epoll, Backend::Poll] {
        let selector = Selector::with_backend(backend).unwrap();
        let (reader, writer) = pipe();
        selector
            .register(writer.as_raw_fd(), 3, Interest::WRITE)
            .unwrap();
        let mut events = Vec::new();
        selector.wait(Some(0), &mut events).unwrap();
        assert!(!events[0].readable && events[0].writable);
        drop(reader);
        selector.wait(Some(0), &mut events).unwrap();
        assert!(events[0].readable && events[0].writable);
    }
}

/// A number far above those other tests of this process use, so that nobody takes it over.
#[test]
fn closed_descriptor_is_forgotten() {
    for backend in [Backend::Epoll, Backend::Poll] {
        let selector = Selector::with_backend(backend).unwrap();
        let (_reader, writer) = pipe();
        // SAFETY: only numbers are passed.
        let high = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 900) };
        // SAFETY: the call has just made this descriptor and nobody else knows of it.
        let high = unsafe { OwnedFd::from_raw_fd(check(high).unwrap()) };
        drop(writer);
        let number = high.as_raw_fd();
        selector.register(number, 3, Interest::WRITE).unwrap();
        drop(high);
        let mut events = Vec::new();
        for _ in 0..2 {
            selector.wait(Some(0), &mut events).unwrap();
            assert_eq!(events, []);
        }
        assert!(selector.unregister(number).is_err());
    }
}

extern "C" fn ignore_signal(_number: libc::c_int) {}

/// A signal ends the wait, without error and without events.
#[test]
fn signal_ends_the_wait() {
    // SAFETY: the handler does nothing, which is allowed at any time; no other test uses this
    // signal.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore_signal as *const () as libc::sighandler_t;
        check(libc::sigaction(
            libc::SIGUSR2,
            &action,
            std::ptr::null_mut(),
        ))
        .unwrap();
    }
    let (ours, _peer) = pair();
    for backend in [Backend::Epoll, Backend::Poll] {
        for timeout in [None, Some(3_600_000_000_000)] {
            let selector = Selector::with_backend(backend).unwrap();
            selector
                .register(ours.as_raw_fd(), 0, Interest::READ)
                .unwrap();
            let ended = AtomicBool::new(false);
            // SAFETY: asks for the thread's own handle.
            let waiting = unsafe { libc::pthread_self() };
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !ended.load(Ordering::Acquire) {
                        // SAFETY: the waiting thread lives until this scope ends.
                        unsafe { libc::pthread_kill(waiting, libc::SIGUSR2) };
                        std::thread::yield_now();
                    }
                });
                let mut events = Vec::new();
                let result = selector.wait(timeout, &mut events);
                ended.store(true, Ordering::Release);
                result.unwrap();
                assert_eq!(events, []);
            });
        }
    }
}

#[test]
fn pieces_leave_in_one_write() {
    let (reader, writer) = pipe();
    let slices = [b"ab".as_slice(), b"", b"cde"].map(IoSlice::new);
    assert_eq!(write_vectored(writer.as_raw_fd(), &slices).unwrap(), 5);
    let mut buffer = [0; 8];
    assert_eq!(read(reader.as_raw_fd(), &mut buffer).unwrap(), 5);
    assert_eq!(&buffer[..5], b"abcde");
    drop(reader);
    let error = write_vectored(writer.as_raw_fd(), &slices).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn kinds_of_files() {
    let (reader, _writer) = pipe();
    let (sock, _peer) = pair();
    let null = std::fs::File::open("/dev/null").unwrap();
    let folder = std::fs::File::open("/").unwrap();
    let kinds = [
        (reader.as_raw_fd(), FileKind::Pipe),
        (sock.as_raw_fd(), FileKind::Socket),
        (null.as_raw_fd(), FileKind::CharacterDevice),
        (folder.as_raw_fd(), FileKind::Other),
    ];
    for (fd, kind) in kinds {
        assert_eq!(file_kind(fd).unwrap(), kind);
    }
    assert!(file_kind(-1).is_err());
}

#[test]
fn pipes_are_read_into_uninitialized_memory() {
    let (reader, writer) = pipe();
    assert_eq!(readable_bytes(reader.as_raw_fd()).unwrap(), 0);
    write(writer.as_raw_fd(), b"abc").unwrap();
    assert_eq!(readable_bytes(reader.as_raw_fd()).unwrap(), 3);
    let mut buffer = [MaybeUninit::uninit(); 16];
    assert_eq!(
        read_uninit(reader.as_raw_fd(), &mut buffer).unwrap(),
        b"abc"
    );
    let error = read_uninit(reader.as_raw_fd(), &mut buffer).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    drop(writer);
    assert_eq!(read_uninit(reader.as_raw_fd(), &mut buffer).unwrap(), b"");
    assert!(readable_bytes(-1).is_err());
}
