//! A bare echo server over epoll: the cost of the system calls without any loop around them.
//!
//! `floor --tcp HOST:PORT | --unix PATH | --udp HOST:PORT` prints its port and serves until it is
//! killed.

use std::io::{self, Write};
use std::net::UdpSocket;
use std::process::ExitCode;

use loadgen::poller::{Interest, Poller};
use loadgen::stream::{Address, Listener, Stream};

/// As many bytes as asyncio's selector loop reads at once.
const READ: usize = 256 * 1024;
const LISTENER: usize = usize::MAX;

/// A connection, and the bytes that its socket has not taken yet.
struct Connection {
    stream: Stream,
    unsent: Vec<u8>,
}

impl Connection {
    /// Echoes the bytes that have come. Returns false when the connection has ended.
    fn echo(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let Some(read) = self.stream.read(buffer)? else {
            return Ok(true);
        };
        if read == 0 {
            return Ok(false);
        }
        let mut sent = 0;
        if self.unsent.is_empty() {
            sent = self.stream.write(&buffer[..read])?.unwrap_or(0);
        }
        self.unsent.extend_from_slice(&buffer[sent..read]);
        Ok(true)
    }

    /// Sends the bytes that were left.
    fn flush(&mut self) -> io::Result<()> {
        if let Some(sent) = self.stream.write(&self.unsent)? {
            self.unsent.drain(..sent);
        }
        Ok(())
    }
}

/// Open connections by the key they have in the poller; the keys of ended ones are used again.
#[derive(Default)]
struct Connections {
    slots: Vec<Option<Connection>>,
    free: Vec<usize>,
}

impl Connections {
    fn insert(&mut self, stream: Stream, poller: &Poller) -> io::Result<()> {
        let key = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        poller.add(&stream, key, Interest::Read)?;
        let unsent = Vec::new();
        self.slots[key] = Some(Connection { stream, unsent });
        Ok(())
    }

    fn remove(&mut self, key: usize) {
        self.slots[key] = None;
        self.free.push(key);
    }
}

fn serve(address: &Address) -> io::Result<()> {
    let listener = Listener::bind(address)?;
    let mut poller = Poller::new()?;
    poller.add(&listener, LISTENER, Interest::Read)?;
    println!("{}", listener.port()?);
    io::stdout().flush()?;

    let mut connections = Connections::default();
    let mut buffer = vec![0; READ];
    let mut ready = Vec::new();
    loop {
        ready.clear();
        ready.extend_from_slice(poller.wait(None)?);
        for event in &ready {
            if event.key == LISTENER {
                while let Some(stream) = listener.accept()? {
                    connections.insert(stream, &poller)?;
                }
                continue;
            }
            let Some(connection) = &mut connections.slots[event.key] else {
                continue;
            };
            let waited = !connection.unsent.is_empty();
            let mut alive = true;
            if event.writable {
                alive = connection.flush().is_ok();
            }
            if alive && event.readable {
                alive = connection.echo(&mut buffer).unwrap_or(false);
            }
            let waits = !connection.unsent.is_empty();
            if !alive {
                connections.remove(event.key);
            } else if waits != waited {
                let interest = if waits {
                    Interest::ReadWrite
                } else {
                    Interest::Read
                };
                poller.modify(&connection.stream, event.key, interest)?;
            }
        }
    }
}

/// Echoes datagrams, one for each readiness.
fn serve_datagrams(name: &str) -> io::Result<()> {
    let socket = UdpSocket::bind(name)?;
    socket.set_nonblocking(true)?;
    let mut poller = Poller::new()?;
    poller.add(&socket, 0, Interest::Read)?;
    println!("{}", socket.local_addr()?.port());
    io::stdout().flush()?;
    let mut buffer = vec![0; READ];
    loop {
        poller.wait(None)?;
        if let Ok((read, from)) = socket.recv_from(&mut buffer) {
            // An absent peer, or one without room, is no reason to end.
            let _ = socket.send_to(&buffer[..read], from);
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let address = match (arguments.next().as_deref(), arguments.next()) {
        (Some("--tcp"), Some(name)) => Address::Tcp(name),
        (Some("--unix"), Some(path)) => Address::Unix(path),
        (Some("--udp"), Some(name)) => Address::Udp(name),
        _ => {
            eprintln!("usage: floor --tcp HOST:PORT | --unix PATH | --udp HOST:PORT");
            return ExitCode::from(2);
        }
    };
    let served = match &address {
        Address::Udp(name) => serve_datagrams(name),
        address => serve(address),
    };
    if let Err(error) = served {
        eprintln!("floor: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
