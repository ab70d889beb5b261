//! Datagrams: one at a time, and several by one call where the system can.

use std::io;
use std::os::fd::RawFd;

use super::send::FLAGS;
use super::{SocketAddrStorage, retry_bytes};

/// The maximum number of datagrams that one call moves.
pub const MAX_DATAGRAMS: usize = 16;

/// Receives one datagram into `buffer`, and returns its length and the sender's address. Bytes that
/// do not fit are lost. The address has no family if the sender has no address.
///
/// # Errors
/// What `recvfrom(2)` gives; `WouldBlock` when nothing is there.
pub fn recv_from(fd: RawFd, buffer: &mut [u8]) -> io::Result<(usize, SocketAddrStorage)> {
    SocketAddrStorage::filled_by(|address, size| {
        // SAFETY: the pointer and the length are those of a slice that is ours to write; the
        // caller gives an address buffer of ours and its size, both valid for writing.
        retry_bytes(|| unsafe {
            libc::recvfrom(
                fd,
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
                address,
                size,
            )
        })
    })
}

/// Sends one datagram to an address.
///
/// # Errors
/// What `sendto(2)` gives; `WouldBlock` when the socket takes nothing now.
pub fn send_to(fd: RawFd, bytes: &[u8], to: &SocketAddrStorage) -> io::Result<usize> {
    let (address, size) = to.as_raw();
    // SAFETY: the pointers and the lengths are those of a slice and of an address that outlive
    // the call.
    retry_bytes(|| unsafe {
        libc::sendto(fd, bytes.as_ptr().cast(), bytes.len(), FLAGS, address, size)
    })
}

/// Room for several datagrams, which are received by one call.
#[derive(Debug)]
pub struct DatagramBuffer {
    /// One piece of `room` bytes for each datagram. The system gives memory only to those that
    /// are written to.
    memory: Box<[u8]>,
    room: usize,
    /// The length and the sender of each datagram.
    received: Vec<(usize, SocketAddrStorage)>,
}

impl DatagramBuffer {
    /// Room for [`MAX_DATAGRAMS`] of at most `room` bytes each; what does not fit is lost.
    pub fn new(room: usize) -> DatagramBuffer {
        DatagramBuffer {
            memory: vec![0; room.max(1) * MAX_DATAGRAMS].into(),
            room: room.max(1),
            received: Vec::with_capacity(MAX_DATAGRAMS),
        }
    }

    /// Receives at most `most` datagrams, and returns how many came. Those of the last call are
    /// forgotten.
    ///
    /// # Errors
    /// As [`recv_from`], if it comes before the first datagram.
    pub fn receive(&mut self, fd: RawFd, most: usize) -> io::Result<usize> {
        self.received.clear();
        if most > 1 && self.receive_many(fd, most.min(MAX_DATAGRAMS))? {
            return Ok(self.received.len());
        }
        let received = recv_from(fd, &mut self.memory[..self.room])?;
        self.received.push(received);
        Ok(1)
    }

    /// The bytes of a datagram and where it came from.
    pub fn get(&self, index: usize) -> Option<(&[u8], &SocketAddrStorage)> {
        let (size, from) = self.received.get(index)?;
        let start = index * self.room;
        Some((&self.memory[start..start + size], from))
    }

    /// Receives several datagrams by one call. Returns false where the system has no such call.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn receive_many(&mut self, fd: RawFd, most: usize) -> io::Result<bool> {
        let mut addresses = [const { SocketAddrStorage::empty() }; MAX_DATAGRAMS];
        let mut pieces = [libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        }; MAX_DATAGRAMS];
        // SAFETY: all zeroes is a valid `mmsghdr`: no address, no memory, no control data.
        let mut messages: [libc::mmsghdr; MAX_DATAGRAMS] = unsafe { std::mem::zeroed() };
        for (index, memory) in self.memory.chunks_exact_mut(self.room).enumerate() {
            pieces[index].iov_base = memory.as_mut_ptr().cast();
            pieces[index].iov_len = memory.len();
        }
        for ((message, piece), address) in messages.iter_mut().zip(&mut pieces).zip(&mut addresses)
        {
            let (address, size) = address.as_raw_mut();
            message.msg_hdr.msg_name = address.cast();
            message.msg_hdr.msg_namelen = size;
            message.msg_hdr.msg_iov = piece;
            message.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: each of the first `most` messages (of which there are enough) points to memory
        // and to an address buffer of ours, valid for writing and outliving the call; no timeout
        // is given.
        let count = super::retry(|| unsafe {
            libc::recvmmsg(
                fd,
                messages.as_mut_ptr(),
                most as libc::c_uint,
                0,
                std::ptr::null_mut(),
            )
        });
        let count = match count {
            Ok(count) => count as usize,
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => return Ok(false),
            Err(error) => return Err(error),
        };
        for (message, mut address) in messages.iter().zip(addresses).take(count) {
            address.set_size(message.msg_hdr.msg_namelen);
            self.received
                .push(((message.msg_len as usize).min(self.room), address));
        }
        Ok(true)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn receive_many(&mut self, _: RawFd, _: usize) -> io::Result<bool> {
        Ok(false)
    }
}

/// A datagram to be sent: its bytes, and where to, unless the socket is connected.
pub type OutgoingDatagram<'a> = (&'a [u8], Option<&'a SocketAddrStorage>);

/// Sends datagrams in order, at most [`MAX_DATAGRAMS`], and returns how many the socket has
/// taken: at least one. Where the system cannot send several by one call, it is one.
///
/// # Errors
/// As [`send_to`], if it comes before the first datagram is sent.
pub fn send_many(fd: RawFd, datagrams: &[OutgoingDatagram<'_>]) -> io::Result<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if datagrams.len() > 1 {
        match send_many_at_once(fd, datagrams) {
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {}
            result => return result,
        }
    }
    match datagrams.first() {
        None => Ok(0),
        Some((bytes, None)) => super::send(fd, bytes).map(|_| 1),
        Some((bytes, Some(to))) => send_to(fd, bytes, to).map(|_| 1),
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn send_many_at_once(fd: RawFd, datagrams: &[OutgoingDatagram<'_>]) -> io::Result<usize> {
    let count = datagrams.len().min(MAX_DATAGRAMS);
    let mut pieces = [libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    }; MAX_DATAGRAMS];
    // SAFETY: all zeroes is a valid `mmsghdr`: no address, no memory, no control data.
    let mut messages: [libc::mmsghdr; MAX_DATAGRAMS] = unsafe { std::mem::zeroed() };
    for ((message, piece), (bytes, to)) in messages.iter_mut().zip(&mut pieces).zip(datagrams) {
        piece.iov_base = bytes.as_ptr().cast_mut().cast();
        piece.iov_len = bytes.len();
        message.msg_hdr.msg_iov = piece;
        message.msg_hdr.msg_iovlen = 1;
        if let Some(to) = to {
            let (address, size) = to.as_raw();
            message.msg_hdr.msg_name = address.cast_mut().cast();
            message.msg_hdr.msg_namelen = size;
        }
    }
    // SAFETY: each of the first `count` messages points to bytes and perhaps to an address, which
    // are borrowed for longer than the call; the system writes to none of them.
    super::retry(|| unsafe {
        libc::sendmmsg(fd, messages.as_mut_ptr(), count as libc::c_uint, FLAGS)
    })
    .map(|sent| sent as usize)
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixDatagram;

    fn socket() -> (UdpSocket, SocketAddrStorage) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap().into();
        (socket, address)
    }

    #[test]
    fn one_datagram_and_its_sender() {
        let ((one, first), (two, second)) = (socket(), socket());
        let mut buffer = [0; 4];
        let nothing = recv_from(two.as_raw_fd(), &mut buffer).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        for bytes in [&b"abc"[..], b"", b"too long"] {
            let sent = send_to(one.as_raw_fd(), bytes, &second).unwrap();
            assert_eq!(sent, bytes.len());
            let (count, from) = recv_from(two.as_raw_fd(), &mut buffer).unwrap();
            assert_eq!(&buffer[..count], &bytes[..bytes.len().min(4)]);
            assert_eq!(from.ip(), first.ip());
        }
    }

    #[test]
    fn many_are_bounded_and_in_order() {
        let ((one, first), (two, second)) = (socket(), socket());
        let bytes: Vec<Vec<u8>> = (0..40u8).map(|size| vec![size; size.into()]).collect();
        let datagrams: Vec<OutgoingDatagram<'_>> = bytes
            .iter()
            .map(|bytes| (&bytes[..], Some(&second)))
            .collect();
        let mut sent = 0;
        while sent < datagrams.len() {
            let count = send_many(one.as_raw_fd(), &datagrams[sent..]).unwrap();
            assert!((1..=MAX_DATAGRAMS).contains(&count));
            sent += count;
        }
        let mut buffer = DatagramBuffer::new(32);
        let mut received = Vec::new();
        for most in [1, 5, 100].into_iter().cycle() {
            match buffer.receive(two.as_raw_fd(), most) {
                Ok(count) => {
                    assert!(count <= most.min(MAX_DATAGRAMS));
                    for index in 0..count {
                        let (bytes, from) = buffer.get(index).unwrap();
                        assert_eq!(from.ip(), first.ip());
                        received.push(bytes.to_vec());
                    }
                    assert!(buffer.get(count).is_none());
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        assert!(buffer.get(0).is_none());
        let shortened: Vec<Vec<u8>> = bytes
            .iter()
            .map(|bytes| bytes[..bytes.len().min(32)].to_vec())
            .collect();
        assert_eq!(received, shortened);
    }

    #[test]
    fn errors_come_with_the_datagram_that_has_them() {
        let ((one, _), (_two, second)) = (socket(), socket());
        let (fine, large) = ([1; 10], vec![2; 70_000]);
        let datagrams = [
            (&fine[..], Some(&second)),
            (&fine, Some(&second)),
            (&large, Some(&second)),
            (&fine, Some(&second)),
        ];
        assert_eq!(send_many(one.as_raw_fd(), &datagrams).unwrap(), 2);
        let error = send_many(one.as_raw_fd(), &datagrams[2..]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(send_many(one.as_raw_fd(), &[]).unwrap(), 0);
    }

    #[test]
    fn senders_without_a_name_have_no_address() {
        let (one, two) = UnixDatagram::pair().unwrap();
        two.set_nonblocking(true).unwrap();
        for most in [1, 4] {
            let datagrams = [(&b"a"[..], None), (&b"bc"[..], None)];
            assert_eq!(send_many(one.as_raw_fd(), &datagrams).unwrap(), 2);
            let mut buffer = DatagramBuffer::new(100);
            let mut bytes = Vec::new();
            while let Ok(count) = buffer.receive(two.as_raw_fd(), most) {
                for index in 0..count {
                    let (data, from) = buffer.get(index).unwrap();
                    assert_eq!((from.ip(), from.unix_path()), (None, None));
                    bytes.extend_from_slice(data);
                }
            }
            assert_eq!(bytes, b"abc");
        }
    }

    #[test]
    fn a_full_socket_takes_a_part() {
        let (one, _two) = UnixDatagram::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        let chunk = [0; 1000];
        let datagrams = [(&chunk[..], None); MAX_DATAGRAMS];
        let mut last = MAX_DATAGRAMS;
        let error = loop {
            match send_many(one.as_raw_fd(), &datagrams) {
                Ok(count) => last = count,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(last <= MAX_DATAGRAMS);
    }
}
