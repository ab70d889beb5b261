//! Any address: what goes into `SocketAddrStorage` comes out again, from the system too.
#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net;

use engine::SocketAddrStorage;
use engine::sys::{self, family};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

/// Bytes that a path may have on Linux, a zero at the end among them.
const ROOM: usize = 108;

#[derive(Arbitrary, Debug)]
enum Input {
    V4 {
        ip: [u8; 4],
        port: u16,
    },
    V6 {
        ip: [u8; 16],
        port: u16,
        flow: u32,
        scope: u32,
    },
    Path(Vec<u8>),
    /// A name that is really bound and connected to.
    Bound(Vec<u8>),
}

fn ip(address: SocketAddr) {
    let storage = SocketAddrStorage::from(address);
    assert_eq!(storage.ip(), Some(address));
    assert_eq!(storage.unix_path(), None);
    assert_eq!(format!("{storage:?}"), format!("{address:?}"));
    let expected = if address.is_ipv4() {
        family::INET
    } else {
        family::INET6
    };
    assert_eq!(storage.family(), expected);
}

fn path(path: &[u8]) {
    let is_abstract = path.first() == Some(&0);
    let fits = path.len() <= ROOM - usize::from(!is_abstract);
    let valid = fits && (is_abstract || !path.contains(&0));
    match SocketAddrStorage::from_unix_path(path) {
        Ok(storage) => {
            assert!(valid);
            assert_eq!(storage.unix_path(), Some(path));
            assert_eq!((storage.ip(), storage.family()), (None, family::UNIX));
            assert!(format!("{storage:?}").starts_with("unix:"));
        }
        Err(_) => assert!(!valid),
    }
}

/// The system's own addresses of a socket with this name say the same, on each way there is.
fn bound(name: &[u8]) {
    let Ok(address) = net::SocketAddr::from_abstract_name(name) else {
        assert!(name.len() > ROOM - 1);
        return;
    };
    let Ok(socket) = net::UnixDatagram::bind_addr(&address) else {
        return; // somebody else has it
    };
    let expected = [b"\0", name].concat();
    let ours = SocketAddrStorage::from_unix_path(&expected).unwrap();
    let local = sys::local_address(socket.as_raw_fd()).unwrap();
    assert_eq!(local.unix_path(), Some(&expected[..]));
    assert_eq!(local.unix_path(), ours.unix_path());
    let other = net::UnixDatagram::unbound().unwrap();
    assert!(sys::peer_address(other.as_raw_fd()).is_err());
    assert_eq!(
        sys::local_address(other.as_raw_fd()).unwrap().unix_path(),
        Some(&b""[..])
    );
    assert_eq!(sys::send_to(other.as_raw_fd(), b"x", &ours).unwrap(), 1);
    sys::connect(other.as_raw_fd(), &ours).unwrap();
    let peer = sys::peer_address(other.as_raw_fd()).unwrap();
    assert_eq!(peer.unix_path(), Some(&expected[..]));
    // From itself, to see the sender's name.
    assert_eq!(sys::send_to(socket.as_raw_fd(), b"xy", &local).unwrap(), 2);
    let mut buffer = [0; 4];
    let (count, from) = sys::recv_from(socket.as_raw_fd(), &mut buffer).unwrap();
    assert_eq!((count, from.ip(), from.unix_path()), (1, None, None));
    let (count, from) = sys::recv_from(socket.as_raw_fd(), &mut buffer).unwrap();
    assert_eq!((count, from.unix_path()), (2, Some(&expected[..])));
}

fuzz_target!(|input: Input| {
    match input {
        Input::V4 { ip: bytes, port } => {
            ip(SocketAddrV4::new(Ipv4Addr::from(bytes), port).into());
        }
        Input::V6 {
            ip: bytes,
            port,
            flow,
            scope,
        } => ip(SocketAddrV6::new(Ipv6Addr::from(bytes), port, flow, scope).into()),
        Input::Path(bytes) => path(&bytes),
        Input::Bound(name) => bound(&name),
    }
});
