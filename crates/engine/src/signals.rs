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
