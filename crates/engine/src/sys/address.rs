//! Socket addresses as the system lays them out, of any family.

use std::fmt;
use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::RawFd;

use super::retry;

/// An address of any family, with the size the system gave it.
#[derive(Clone, Copy)]
pub struct SocketAddrStorage {
    /// The first `size` bytes are what the system wrote; the rest is zero.
    storage: libc::sockaddr_storage,
    /// Never more than the size of `storage`.
    size: libc::socklen_t,
}

/// The families whose addresses are known here, as the system numbers them.
pub mod family {
    /// IPv4.
    pub const INET: i32 = libc::AF_INET;
    /// IPv6.
    pub const INET6: i32 = libc::AF_INET6;
    /// Unix sockets.
    pub const UNIX: i32 = libc::AF_UNIX;
}

/// The address `fd` is bound to: Python's `getsockname()`.
///
/// # Errors
/// What `getsockname(2)` gives.
pub fn local_address(fd: RawFd) -> io::Result<SocketAddrStorage> {
    SocketAddrStorage::filled_by(|address, size| {
        // SAFETY: the caller gives an address buffer of ours and its size, both valid for
        // writing.
        retry(|| unsafe { libc::getsockname(fd, address, size) })
    })
    .map(|(_, address)| address)
}

/// The address `fd` is connected to: Python's `getpeername()`.
///
/// # Errors
/// What `getpeername(2)` gives; `NotConnected` when it is not.
pub fn peer_address(fd: RawFd) -> io::Result<SocketAddrStorage> {
    SocketAddrStorage::filled_by(|address, size| {
        // SAFETY: the caller gives an address buffer of ours and its size, both valid for
        // writing.
        retry(|| unsafe { libc::getpeername(fd, address, size) })
    })
    .map(|(_, address)| address)
}

impl SocketAddrStorage {
    /// The address of a Unix socket: a path, a name in Linux's abstract namespace (which starts
    /// with a zero byte), or nothing.
    ///
    /// # Errors
    /// `InvalidInput` when the path does not fit (about a hundred bytes) or has a zero byte
    /// elsewhere than at the start.
    pub fn from_unix_path(path: &[u8]) -> io::Result<SocketAddrStorage> {
        let is_abstract = path.first() == Some(&0);
        if !is_abstract && path.contains(&0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a path may not contain a zero byte",
            ));
        }
        let mut address = SocketAddrStorage::zeroed();
        // SAFETY: the storage is large enough and aligned for every family, all zeroes is valid
        // for each, and we hold it exclusively.
        let unix = unsafe { &mut *(&raw mut address.storage).cast::<libc::sockaddr_un>() };
        // A path ends with a zero byte that must fit as well; an abstract name has none.
        let needed = path.len() + usize::from(!is_abstract && !path.is_empty());
        if needed > unix.sun_path.len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "AF_UNIX path too long",
            ));
        }
        unix.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (place, byte) in unix.sun_path.iter_mut().zip(path) {
            *place = *byte as libc::c_char;
        }
        address.size = (offset_of!(libc::sockaddr_un, sun_path) + needed) as libc::socklen_t;
        Ok(address)
    }

    /// The family, as `AF_INET`, `AF_INET6`, `AF_UNIX` and the rest.
    pub fn family(&self) -> libc::c_int {
        libc::c_int::from(self.storage.ss_family)
    }

    /// Address and port, for the two IP families. Flow information is in the host's byte order,
    /// as Python shows it.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self.family() {
            libc::AF_INET if self.holds::<libc::sockaddr_in>() => {
                // SAFETY: the family says that this is what the storage holds; it is large
                // enough and aligned for it.
                let address = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                let port = u16::from_be(address.sin_port);
                Some(SocketAddr::V4(SocketAddrV4::new(ip, port)))
            }
            libc::AF_INET6 if self.holds::<libc::sockaddr_in6>() => {
                // SAFETY: as above.
                let address = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_in6>() };
                Some(SocketAddr::V6(SocketAddrV6::new(
                    Ipv6Addr::from(address.sin6_addr.s6_addr),
                    u16::from_be(address.sin6_port),
                    u32::from_be(address.sin6_flowinfo),
                    address.sin6_scope_id,
                )))
            }
            _ => None,
        }
    }

    /// The path of a Unix socket, without the zero byte at its end; empty when it has none; an
    /// abstract name with its zero byte at the start.
    pub fn unix_path(&self) -> Option<&[u8]> {
        if self.family() != libc::AF_UNIX {
            return None;
        }
        let offset = offset_of!(libc::sockaddr_un, sun_path);
        let size = (self.size as usize).saturating_sub(offset);
        // SAFETY: the bytes from the path to `size`, which never exceeds the storage, are
        // initialized and borrowed from `self`.
        let path = unsafe {
            let start = (&raw const self.storage).cast::<u8>().add(offset);
            std::slice::from_raw_parts(start, size)
        };
        match path.first() {
            // Linux alone counts names that start with zero; elsewhere that is no name.
            Some(0) if cfg!(any(target_os = "linux", target_os = "android")) => Some(path),
            _ => path.split(|byte| *byte == 0).next(),
        }
    }

    pub(super) fn as_raw(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        ((&raw const self.storage).cast(), self.size)
    }

    /// Lets a system call write an address; it gets a pointer to the memory and one to its size,
    /// which it sets to what it has written. Gives what the call returned as well.
    pub(super) fn filled_by<R>(
        call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> io::Result<R>,
    ) -> io::Result<(R, SocketAddrStorage)> {
        let mut address = SocketAddrStorage::zeroed();
        let room = size_of_val(&address.storage) as libc::socklen_t;
        address.size = room;
        let returned = call((&raw mut address.storage).cast(), &raw mut address.size)?;
        // The system says how much it would have written.
        address.size = address.size.min(room);
        Ok((returned, address))
    }

    /// An address of no family, which a system call is going to fill.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) const fn empty() -> SocketAddrStorage {
        SocketAddrStorage::zeroed()
    }

    /// The memory for a system call to fill, and how large it is.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn as_raw_mut(&mut self) -> (*mut libc::sockaddr, libc::socklen_t) {
        let room = size_of_val(&self.storage) as libc::socklen_t;
        ((&raw mut self.storage).cast(), room)
    }

    /// Sets the length of the address to `size`, which the system has returned. That may exceed the
    /// storage if the address was cut off.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn set_size(&mut self, size: libc::socklen_t) {
        self.size = size.min(size_of_val(&self.storage) as libc::socklen_t);
    }

    fn holds<T>(&self) -> bool {
        self.size as usize >= size_of::<T>()
    }

    const fn zeroed() -> SocketAddrStorage {
        SocketAddrStorage {
            // SAFETY: it is made of integers, for which zero is a value.
            storage: unsafe { MaybeUninit::zeroed().assume_init() },
            size: 0,
        }
    }
}

impl From<SocketAddr> for SocketAddrStorage {
    fn from(from: SocketAddr) -> SocketAddrStorage {
        let mut address = SocketAddrStorage::zeroed();
        match from {
            SocketAddr::V4(from) => {
                // SAFETY: the storage is large enough and aligned for every family, all zeroes
                // is valid for each, and we hold it exclusively.
                let to = unsafe { &mut *(&raw mut address.storage).cast::<libc::sockaddr_in>() };
                to.sin_family = libc::AF_INET as libc::sa_family_t;
                to.sin_port = from.port().to_be();
                to.sin_addr.s_addr = u32::from(*from.ip()).to_be();
                address.size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(from) => {
                // SAFETY: as above.
                let to = unsafe { &mut *(&raw mut address.storage).cast::<libc::sockaddr_in6>() };
                to.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                to.sin6_port = from.port().to_be();
                to.sin6_flowinfo = from.flowinfo().to_be();
                to.sin6_addr.s6_addr = from.ip().octets();
                to.sin6_scope_id = from.scope_id();
                address.size = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        address
    }
}

impl fmt::Debug for SocketAddrStorage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.ip() {
            return address.fmt(formatter);
        }
        match self.unix_path() {
            Some(path) => write!(formatter, "unix:{}", path.escape_ascii()),
            None => write!(formatter, "family {}", self.family()),
        }
    }
}
