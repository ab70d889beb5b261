//! Addresses of IP sockets, and the Python objects that stand for them.
//!
//! Most sockets exchange datagrams with a few peers, and the protocol answers with the address
//! object that it was given. So the last objects are kept: another datagram of the peer gets the
//! same object, and an answer to it needs no parsing.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};

use cpython::{Obj, Python, Raised};
use engine::SocketAddrStorage;

use crate::transports::extra_info::address_object;

/// The number of objects that are kept, a power of two.
const KEPT: usize = 64;

#[derive(Default)]
pub(super) struct Senders {
    /// Made when the first datagram comes.
    kept: RefCell<Option<Box<KeptSenders>>>,
}

struct KeptSenders {
    /// The kept objects, by [`place_of`]. Tuples of texts and numbers can be part of no cycle.
    senders: [Option<(SocketAddr, Obj)>; KEPT],
    /// The probable index in `senders` of an object, by [`hint_of`].
    hints: [u8; KEPT],
}

impl Senders {
    /// The object of an address.
    pub(super) fn object(
        &self,
        py: Python<'_>,
        address: &SocketAddrStorage,
    ) -> Result<Obj, Raised> {
        let Some(ip) = address.ip() else {
            return address_object(py, address);
        };
        let place = place_of(&ip);
        if let Some(kept) = &*self.kept.borrow() {
            if let Some((known, object)) = &kept.senders[place] {
                if *known == ip {
                    return Ok(object.clone());
                }
            }
        }
        let object = address_object(py, address)?;
        let old = {
            let mut kept = self.kept.borrow_mut();
            let kept = kept.get_or_insert_with(|| {
                Box::new(KeptSenders {
                    senders: [const { None }; KEPT],
                    hints: [0; KEPT],
                })
            });
            kept.hints[hint_of(&object)] = place as u8;
            kept.senders[place].replace((ip, object.clone()))
        };
        drop(old);
        Ok(object)
    }

    /// The address of an object, if it was given out by [`Senders::object`] and is kept.
    #[inline]
    pub(super) fn address(&self, object: &Obj) -> Option<SocketAddr> {
        let kept = self.kept.borrow();
        let kept = kept.as_ref()?;
        let place = usize::from(kept.hints[hint_of(object)]);
        match &kept.senders[place] {
            Some((address, known)) if known.is(object) => Some(*address),
            _ => None,
        }
    }

    pub(super) fn clear(&self) {
        let kept = self.kept.take();
        drop(kept);
    }
}

fn place_of(address: &SocketAddr) -> usize {
    let last = match address.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    };
    (usize::from(address.port()) ^ usize::from(last)) % KEPT
}

/// An index from the address in memory of an object; tuples lie at multiples of 16 bytes.
fn hint_of(object: &Obj) -> usize {
    (object.as_ptr() as usize >> 4) % KEPT
}
