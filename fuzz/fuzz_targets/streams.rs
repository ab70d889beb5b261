//! Any mix of writes and reads over a real socket or pipe: what comes out is what went in.
#![no_main]

use std::fs::File;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use engine::buffer::IOV_MAX;
use engine::{WriteBuffer, sys};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Step {
    Write { bytes: Vec<u8>, repeated: u8 },
    Send { slices: u16 },
    Read { size: u16, uninitialized: bool },
}

#[derive(Arbitrary, Debug)]
struct Input {
    pipe: bool,
    steps: Vec<Step>,
}

struct Channel {
    pipe: bool,
    near: OwnedFd,
    far: OwnedFd,
    waiting: WriteBuffer<Vec<u8>>,
    /// Everything written, and how much of it has come out.
    written: Vec<u8>,
    read: usize,
    /// Bytes that the system has taken.
    sent: usize,
}

impl Channel {
    fn new(pipe: bool) -> Channel {
        let (near, far): (OwnedFd, OwnedFd) = if pipe {
            let (reader, writer) = io::pipe().unwrap();
            (writer.into(), reader.into())
        } else {
            let (near, far) = UnixStream::pair().unwrap();
            (near.into(), far.into())
        };
        sys::set_nonblocking(near.as_raw_fd(), true).unwrap();
        sys::set_nonblocking(far.as_raw_fd(), true).unwrap();
        Channel {
            pipe,
            near,
            far,
            waiting: WriteBuffer::new(),
            written: Vec::new(),
            read: 0,
            sent: 0,
        }
    }

    fn send(&mut self, slices: usize) {
        let fd = self.near.as_raw_fd();
        let result = match self.waiting.first() {
            None => return,
            Some(first) if slices == 1 && self.pipe => sys::write(fd, first),
            Some(first) if slices == 1 => sys::send(fd, first),
            Some(_) => {
                let slices = self.waiting.slices(slices);
                if self.pipe {
                    sys::write_vectored(fd, &slices)
                } else {
                    sys::send_vectored(fd, &slices)
                }
            }
        };
        match result {
            Ok(count) => {
                self.sent += count;
                self.waiting.consume(count, &mut drop);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert_eq!(self.waiting.len(), self.written.len() - self.sent);
    }

    fn read(&mut self, size: usize, uninitialized: bool) {
        let fd = self.far.as_raw_fd();
        let mut room = vec![MaybeUninit::new(0xaa); size];
        let mut plain = vec![0xaa; size];
        let result = match (self.pipe, uninitialized) {
            (true, true) => sys::read_uninit(fd, &mut room).map(<[u8]>::to_vec),
            (true, false) => sys::read(fd, &mut plain).map(|count| plain[..count].to_vec()),
            (false, _) => sys::recv(fd, &mut plain).map(|count| plain[..count].to_vec()),
        };
        match result {
            Ok(bytes) => {
                assert!(bytes.len() <= size);
                let end = self.read + bytes.len();
                assert_eq!(bytes, self.written[self.read..end]);
                self.read = end;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                assert_eq!(self.read, self.sent, "bytes are there");
            }
        }
        if let Ok(there) = sys::readable_bytes(fd) {
            assert!(!self.pipe || there == self.sent - self.read);
        }
    }
}

fuzz_target!(|input: Input| {
    let mut channel = Channel::new(input.pipe);
    for step in input.steps {
        match step {
            Step::Write { bytes, repeated } => {
                let chunk = bytes.repeat(usize::from(repeated) * 8 + 1);
                channel.written.extend_from_slice(&chunk);
                channel.waiting.push(chunk);
            }
            Step::Send { slices } => channel.send(usize::from(slices).clamp(1, IOV_MAX)),
            Step::Read {
                size,
                uninitialized,
            } => channel.read(usize::from(size).max(1), uninitialized),
        }
    }
    // The rest comes through, and then the end.
    while channel.read < channel.written.len() {
        channel.send(IOV_MAX);
        channel.read(65536, true);
    }
    let Channel { near, far, .. } = channel;
    drop(near);
    let mut end = [0; 1];
    let result = if input.pipe {
        sys::read(far.as_raw_fd(), &mut end)
    } else {
        sys::recv(far.as_raw_fd(), &mut end)
    };
    assert_eq!(result.unwrap(), 0);
    drop(File::from(far));
});
