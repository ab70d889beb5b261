//! How signal numbers reach the loop.
//!
//! A pair of connected sockets: the interpreter's own signal handler writes the number of each
//! signal into one end, the loop reads the other. Installing a handler of our own instead would
//! take signals away from programs that use `signal.signal`.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

/// The two ends, both non-blocking and close-on-exec. asyncio's `_ssock` and `_csock`.
#[derive(Debug)]
pub struct SignalPipe {
    reader: UnixStream,
    writer: UnixStream,
}

impl SignalPipe {
    /// An empty pipe.
    ///
    /// # Errors
    /// The system's, when it is out of descriptors.
    pub fn new() -> io::Result<SignalPipe> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(SignalPipe { reader, writer })
    }

    /// The descriptor for `signal.set_wakeup_fd`.
    pub fn write_fd(&self) -> RawFd {
        self.writer.as_raw_fd()
    }

    /// The descriptor to register for reading.
    pub fn read_fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// Takes all numbers that have come, one byte each, to the end of `numbers`.
    pub fn read(&self, numbers: &mut Vec<u8>) {
        let mut buffer = [0; 256];
        // It ends when nothing is left; no other error can come of two sockets we own.
        loop {
            match (&self.reader).read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => numbers.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::sys;

    #[test]
    fn numbers_arrive_in_order() {
        let pipe = SignalPipe::new().unwrap();
        let mut numbers = Vec::new();
        pipe.read(&mut numbers);
        assert!(numbers.is_empty());
        sys::write(pipe.write_fd(), &[2, 15]).unwrap();
        sys::send(pipe.write_fd(), &[10]).unwrap();
        pipe.read(&mut numbers);
        assert_eq!(numbers, [2, 15, 10]);
        pipe.read(&mut numbers);
        assert_eq!(numbers.len(), 3);
    }

    #[test]
    fn both_ends_do_not_block() {
        let pipe = SignalPipe::new().unwrap();
        assert!(sys::is_nonblocking(pipe.read_fd()).unwrap());
        assert!(sys::is_nonblocking(pipe.write_fd()).unwrap());
    }

    #[test]
    fn full_pipe_refuses_and_is_read_whole() {
        let pipe = SignalPipe::new().unwrap();
        let mut sent = 0;
        let error = loop {
            match sys::write(pipe.write_fd(), &[7; 1000]) {
                Ok(count) => sent += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let mut numbers = Vec::new();
        pipe.read(&mut numbers);
        assert_eq!(numbers, vec![7; sent]);
    }
}
