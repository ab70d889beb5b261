//! `get_extra_info`: addresses and the socket.
//!
//! asyncio fills the dict when the transport is made. Here only the system is asked then, because
//! the peer may be gone later. The Python objects are made when the program asks for them.

use std::cell::Cell;
use std::net::{SocketAddr, SocketAddrV4};

use cpython::build::Builder;
use cpython::{Args, GcFields, Hot, Obj, Python, Raised, Ref, Slot, Visit};
use engine::SocketAddrStorage;
use engine::sys;

use super::descriptor::Descriptor;
use super::imports;

/// Whether this file can turn the address into a Python object.
fn is_known(address: &SocketAddrStorage) -> bool {
    address.ip().is_some() || address.unix_path().is_some()
}

/// The addresses that still have to be put into the dict. Those of IPv4 lie here, others in a box:
/// an address as the system lays it out takes 136 bytes.
#[derive(Default)]
enum Pending {
    #[default]
    Nothing,
    Ipv4(SocketAddrV4, Option<SocketAddrV4>),
    Ip(Box<(SocketAddr, Option<SocketAddr>)>),
    Other(Box<(SocketAddrStorage, Option<SocketAddrStorage>)>),
}

impl Pending {
    fn new(local: SocketAddrStorage, peer: Option<SocketAddrStorage>) -> Pending {
        let ip = peer.as_ref().map(SocketAddrStorage::ip);
        match (local.ip(), ip) {
            (Some(SocketAddr::V4(local)), None) => Pending::Ipv4(local, None),
            (Some(SocketAddr::V4(local)), Some(Some(SocketAddr::V4(peer)))) => {
                Pending::Ipv4(local, Some(peer))
            }
            (Some(local), None) => Pending::Ip(Box::new((local, None))),
            (Some(local), Some(Some(peer))) => Pending::Ip(Box::new((local, Some(peer)))),
            _ => Pending::Other(Box::new((local, peer))),
        }
    }
}

/// The extra information of one transport.
pub(super) struct ExtraInfo {
    /// asyncio's `_extra`. It is complete once `pending` is empty and `lacks_socket` is false.
    dict: Slot,
    pending: Cell<Pending>,
    /// The socket still has to be put into the dict: `sock`, closed or not, if there was one from
    /// the start.
    lacks_socket: Cell<bool>,
    sock: Slot,
}

impl GcFields for ExtraInfo {
    fn visit(&self, visit: &mut Visit<'_>) {
        visit.slot(&self.dict);
        visit.slot(&self.sock);
    }
    fn let_go(&self) {
        self.set_dict(None);
    }
}

impl ExtraInfo {
    /// Asks the system for the socket's address, and for the peer's unless `peer` is it. `dict` is
    /// the caller's, which is completed as asyncio does.
    pub(super) fn new(
        py: Python<'_>,
        fd: i32,
        descriptor: &Descriptor,
        dict: Option<Obj>,
        peer: Option<SocketAddrStorage>,
    ) -> Result<ExtraInfo, Raised> {
        let info = ExtraInfo {
            dict: Slot::new(dict),
            pending: Cell::default(),
            lacks_socket: Cell::new(true),
            sock: Slot::default(),
        };
        let local = sys::local_address(fd).ok().filter(is_known);
        // A socket of a program's own class may have its own answers, and other families need the
        // standard library's code.
        let sock = descriptor.made_socket();
        let plain = match &sock {
            Some(sock) => sock.is_exact(imports(py).socket.get(py)),
            None => true,
        };
        info.sock.set(sock);
        match local {
            Some(local) if plain => {
                let peer = peer.or_else(|| sys::peer_address(fd).ok());
                info.pending.set(Pending::new(local, peer));
            }
            _ => info.ask_socket(py, descriptor, peer)?,
        }
        Ok(info)
    }

    /// Whether the socket speaks IP.
    pub(super) fn is_ip(&self) -> bool {
        let pending = self.pending.take();
        let is_ip = match &pending {
            Pending::Nothing => false,
            Pending::Ipv4(..) | Pending::Ip(_) => true,
            Pending::Other(addresses) => addresses.0.ip().is_some(),
        };
        self.pending.set(pending);
        is_ip
    }

    fn ask_socket(
        &self,
        py: Python<'_>,
        descriptor: &Descriptor,
        peer: Option<SocketAddrStorage>,
    ) -> Result<(), Raised> {
        let sock = descriptor.shown_socket(py)?;
        let ask = |name: &str| {
            let name = pyo3::types::PyString::intern(py, name);
            match sock.method(&name, &[]) {
                Ok(address) => Ok(address),
                Err(raised) => {
                    raised.ignore::<pyo3::exceptions::PyOSError>(py)?;
                    Ok(Obj::none(py))
                }
            }
        };
        let local = ask("getsockname")?;
        self.put_addresses(py, local, || match peer.filter(is_known) {
            Some(peer) => address_object(py, &peer),
            None => ask("getpeername"),
        })?;
        self.put_socket(py, descriptor)
    }

    /// Puts the socket into the dict.
    fn put_socket(&self, py: Python<'_>, descriptor: &Descriptor) -> Result<(), Raised> {
        let sock = match self.sock.get() {
            Some(sock) => sock,
            None => descriptor.shown_socket(py)?,
        };
        let shown = imports(py).transport_socket.get(py).call1(&sock)?;
        self.own_dict(py)?
            .dict_set(Obj::name(pyo3::intern!(py, "socket")), &shown)?;
        self.lacks_socket.set(false);
        self.sock.set(None);
        Ok(())
    }

    /// The dict in its present state, or a new one.
    fn own_dict(&self, py: Python<'_>) -> Result<Obj, Raised> {
        if let Some(dict) = self.dict.get() {
            return Ok(dict);
        }
        let dict = Obj::dict(py)?;
        self.dict.set(Some(dict.clone()));
        Ok(dict)
    }

    /// Puts the addresses into the dict, except the peer's if the dict has it.
    fn put_addresses(
        &self,
        py: Python<'_>,
        local: Obj,
        peer: impl FnOnce() -> Result<Obj, Raised>,
    ) -> Result<(), Raised> {
        let dict = self.own_dict(py)?;
        dict.dict_set(Obj::name(pyo3::intern!(py, "sockname")), &local)?;
        let peername = Obj::name(pyo3::intern!(py, "peername"));
        if dict.dict_get(peername)?.is_none() {
            dict.dict_set(peername, &peer()?)?;
        }
        Ok(())
    }

    /// Puts the pending addresses into the dict.
    fn put_pending(&self, py: Python<'_>) -> Result<(), Raised> {
        let ip = |address: Option<SocketAddr>| match address {
            Some(address) => ip_object(py, &address),
            None => Ok(Obj::none(py)),
        };
        match self.pending.take() {
            Pending::Nothing => Ok(()),
            Pending::Ipv4(local, peer) => {
                let local = ip_object(py, &local.into())?;
                self.put_addresses(py, local, || ip(peer.map(SocketAddr::V4)))
            }
            Pending::Ip(addresses) => {
                let (local, peer) = *addresses;
                self.put_addresses(py, ip_object(py, &local)?, || ip(peer))
            }
            Pending::Other(addresses) => {
                let (local, peer) = *addresses;
                let local = address_object(py, &local)?;
                self.put_addresses(py, local, || match peer {
                    Some(peer) => address_object(py, &peer),
                    None => Ok(Obj::none(py)),
                })
            }
        }
    }

    /// asyncio's `_extra`.
    pub(super) fn dict(&self, py: Python<'_>, descriptor: &Descriptor) -> Result<Obj, Raised> {
        self.put_pending(py)?;
        if self.lacks_socket.get() {
            self.put_socket(py, descriptor)?;
        }
        self.own_dict(py)
    }

    /// The value of one name. The other values are made when the program asks for them.
    fn value(
        &self,
        py: Python<'_>,
        descriptor: &Descriptor,
        name: &Obj,
    ) -> Result<Option<Obj>, Raised> {
        match name.is_str_exact().then(|| name.as_ascii()).flatten() {
            Some("sockname" | "peername") => self.put_pending(py)?,
            Some("socket") if self.lacks_socket.get() => self.put_socket(py, descriptor)?,
            Some(_) => {}
            None => drop(self.dict(py, descriptor)?),
        }
        match self.dict.get() {
            Some(dict) => dict.dict_get(name),
            None => Ok(None),
        }
    }

    pub(super) fn set_dict(&self, dict: Option<Obj>) {
        drop(self.pending.take());
        self.lacks_socket.set(false);
        self.sock.set(None);
        self.dict.set(dict);
    }
}

/// `get_extra_info(name, default=None)`.
pub(super) fn get_extra_info(
    extra: &ExtraInfo,
    descriptor: &Descriptor,
    py: Python<'_>,
    args: &Args<'_>,
) -> Result<Obj, Raised> {
    let [name, default] = bind(args)?;
    let name = name.unwrap_or_else(|| Obj::none(py));
    match extra.value(py, descriptor, &name)? {
        Some(value) => Ok(value),
        None => Ok(default.unwrap_or_else(|| Obj::none(py))),
    }
}

/// Adds `get_extra_info()` and `_extra` of a transport whose dict is complete from the start.
pub(crate) fn build<T, F>(builder: &mut Builder<T>, dict: F)
where
    T: Hot,
    F: Fn(&Ref<T>) -> &Slot + Copy + 'static,
{
    builder
        .method(
            c"get_extra_info",
            c"get_extra_info($self, /, name, default=None)\n--\n\n\
              Get optional transport information.",
            move |this, args: &Args<'_>| -> Result<Obj, Raised> {
                let [name, default] = bind(args)?;
                let none = Obj::none(this.py());
                let found = match dict(this).get() {
                    Some(dict) => dict.dict_get(name.as_ref().unwrap_or(&none))?,
                    None => None,
                };
                Ok(found.or(default).unwrap_or(none))
            },
        )
        .get_set(
            c"_extra",
            c"The dict in which get_extra_info() looks.",
            move |this| dict(this).get(),
            move |this, value| {
                dict(this).set(value.cloned());
                Ok(())
            },
        );
}

fn bind(args: &Args<'_>) -> Result<[Option<Obj>; 2], Raised> {
    args.bind_as_python("BaseTransport.get_extra_info", &["name", "default"], 1)
}

/// An address as Python's socket module shows it.
pub(crate) fn address_object(py: Python<'_>, address: &SocketAddrStorage) -> Result<Obj, Raised> {
    if let Some(ip) = address.ip() {
        return ip_object(py, &ip);
    }
    match address.unix_path() {
        // A name in the abstract namespace is no text.
        Some(name @ [0, ..]) => Obj::bytes(py, name),
        Some(path) => match std::str::from_utf8(path) {
            Ok(path) if path.is_ascii() => Obj::str(py, path),
            _ => imports(py).fsdecode.get(py).call1(&Obj::bytes(py, path)?),
        },
        None => Ok(Obj::none(py)),
    }
}

fn ip_object(py: Python<'_>, address: &SocketAddr) -> Result<Obj, Raised> {
    let host = Obj::str(py, &address.ip().to_string())?;
    let port = Obj::int(py, address.port().into())?;
    match address {
        SocketAddr::V4(_) => Obj::tuple(py, &[host, port]),
        SocketAddr::V6(ip) => {
            let flow = Obj::int(py, ip.flowinfo().into())?;
            let scope = Obj::int(py, ip.scope_id().into())?;
            Obj::tuple(py, &[host, port, flow, scope])
        }
    }
}
