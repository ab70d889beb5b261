//! Addresses as Python's socket module takes them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use cpython::Obj;
use engine::SocketAddrStorage;
use engine::sys::family;

/// The address for a socket of the family, if it is plain: numbers for a host, a port, a path.
/// Nothing is raised for other addresses, such as names and mistakes: they are left to Python's own
/// methods.
pub(crate) fn plain_address(family: i32, address: &Obj) -> Option<SocketAddrStorage> {
    match family {
        family::INET if address.tuple_len() == 2 => {
            let ip: Ipv4Addr = host(address)?;
            Some(SocketAddr::V4(SocketAddrV4::new(ip, port(address)?)).into())
        }
        family::INET6 if (2..=4).contains(&address.tuple_len()) => {
            let ip: Ipv6Addr = host(address)?;
            let flow = number(address, 2).filter(|flow| *flow <= 0xf_ffff)?;
            let address = SocketAddrV6::new(ip, port(address)?, flow, number(address, 3)?);
            Some(SocketAddr::V6(address).into())
        }
        family::UNIX => {
            let path = if address.is_str_exact() {
                address.as_ascii()?.as_bytes()
            } else {
                address.as_bytes()?
            };
            if path.is_empty() {
                return None;
            }
            SocketAddrStorage::from_unix_path(path).ok()
        }
        _ => None,
    }
}

/// The first item of a tuple, a text that says a number.
fn host<T: std::str::FromStr>(address: &Obj) -> Option<T> {
    address.tuple_item(0)?.as_ascii()?.parse().ok()
}

fn port(address: &Obj) -> Option<u16> {
    u16::try_from(address.tuple_item(1)?.small_int()?).ok()
}

/// A number of a tuple, 0 if the tuple is shorter.
fn number(address: &Obj, index: usize) -> Option<u32> {
    match address.tuple_item(index) {
        Some(number) => u32::try_from(number.small_int()?).ok(),
        None => Some(0),
    }
}
