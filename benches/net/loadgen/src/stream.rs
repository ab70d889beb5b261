//! TCP and Unix stream sockets, and UDP ones, behind one type.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};

/// Where an echo server is.
#[derive(Clone)]
pub enum Address {
    /// `HOST:PORT`
    Tcp(String),
    /// A socket's path.
    Unix(String),
    /// `HOST:PORT`
    Udp(String),
}

/// A connected, non-blocking socket; TCP_NODELAY is set, as asyncio sets it.
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
    /// Over UDP: one datagram for each write and read.
    Udp(UdpSocket),
}

impl Stream {
    /// Connects to a server. It blocks meanwhile.
    pub fn connect(address: &Address) -> io::Result<Stream> {
        match address {
            Address::Tcp(name) => Stream::from_tcp(TcpStream::connect(name)?),
            Address::Unix(path) => Stream::from_unix(UnixStream::connect(path)?),
            Address::Udp(name) => {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.connect(name)?;
                socket.set_nonblocking(true)?;
                Ok(Stream::Udp(socket))
            }
        }
    }

    fn from_tcp(stream: TcpStream) -> io::Result<Stream> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Stream::Tcp(stream))
    }

    fn from_unix(stream: UnixStream) -> io::Result<Stream> {
        stream.set_nonblocking(true)?;
        Ok(Stream::Unix(stream))
    }

    /// Reads the bytes that have come: `None` if there are none, 0 at the end of the stream.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        some(match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Udp(socket) => socket.recv(buffer),
        })
    }

    /// Writes as much as the socket takes: `None` if it takes nothing now.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        some(match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Udp(socket) => socket.send(bytes),
        })
    }

    /// Writes as much of several pieces as the socket takes: `None` if it takes nothing now.
    pub fn write_vectored(&mut self, pieces: &[io::IoSlice<'_>]) -> io::Result<Option<usize>> {
        some(match self {
            Stream::Tcp(stream) => stream.write_vectored(pieces),
            Stream::Unix(stream) => stream.write_vectored(pieces),
            // A datagram is one piece: TLS records never go into several.
            Stream::Udp(socket) => socket.send(pieces.first().map_or(&[], |piece| piece)),
        })
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Udp(socket) => socket.as_fd(),
        }
    }
}

/// A listening, non-blocking socket.
pub enum Listener {
    /// Over TCP.
    Tcp(TcpListener),
    /// Over a Unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// Listens on an address; port 0 takes a free port.
    pub fn bind(address: &Address) -> io::Result<Listener> {
        match address {
            Address::Tcp(name) => {
                let listener = TcpListener::bind(name)?;
                listener.set_nonblocking(true)?;
                Ok(Listener::Tcp(listener))
            }
            Address::Unix(path) => {
                let listener = UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                Ok(Listener::Unix(listener))
            }
            Address::Udp(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The port of a TCP listener, 0 for a Unix one.
    pub fn port(&self) -> io::Result<u16> {
        match self {
            Listener::Tcp(listener) => Ok(listener.local_addr()?.port()),
            Listener::Unix(_) => Ok(0),
        }
    }

    /// Accepts a connection: `None` when none waits.
    pub fn accept(&self) -> io::Result<Option<Stream>> {
        let accepted = match self {
            Listener::Tcp(listener) => listener
                .accept()
                .map(|(stream, _)| Stream::from_tcp(stream)),
            Listener::Unix(listener) => listener
                .accept()
                .map(|(stream, _)| Stream::from_unix(stream)),
        };
        some(accepted)?.transpose()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener) => listener.as_fd(),
        }
    }
}

/// "Would block" is not an error here, and an interrupted call is tried again by the caller's loop.
fn some<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
