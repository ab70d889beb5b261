//! A window of load: every connection sends a request, reads its echo, and sends the next.

use std::io::{self, Error};
use std::time::{Duration, Instant};

use loadgen::poller::{Interest, Poller};
use loadgen::wire::{Target, Wire};
use rustix::event::Timespec;

/// A server that answers nothing for this time is given up.
const PATIENCE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// The end of a window's sending. The window itself ends when the last reply is there.
#[derive(Clone, Copy)]
pub enum End {
    /// After this time from its start.
    After(Duration),
    /// After this number of requests.
    Requests(usize),
}

/// The results of a window.
pub struct Window {
    /// From the first request to the last reply.
    pub took: Duration,
    /// One per request, in nanoseconds, in ascending order.
    pub latencies: Vec<u64>,
}

impl Window {
    /// The latency that `share` of the requests did not exceed, in microseconds.
    pub fn percentile(&self, share: f64) -> f64 {
        let rank = (share * self.latencies.len() as f64).ceil() as usize;
        self.latencies
            .get(rank.saturating_sub(1))
            .map_or(0.0, |&nanoseconds| nanoseconds as f64 / 1000.0)
    }
}

struct Connection {
    wire: Wire,
    /// Bytes of the outstanding request that were sent.
    sent: usize,
    /// The rest of the request waits for room.
    blocked: bool,
    /// Bytes of its echo that came back.
    received: usize,
    started: Instant,
}

/// Open connections to one server, idle between windows.
pub struct Load<'a> {
    target: &'a Target,
    /// Every request has a connection of its own.
    reconnect: bool,
    poller: Poller,
    connections: Vec<Connection>,
    message: Vec<u8>,
    /// One byte longer than a message, so that a reply that is too long is noticed.
    buffer: Vec<u8>,
}

impl<'a> Load<'a> {
    /// Opens `connections` connections for messages of `size` bytes.
    pub fn connect(target: &'a Target, connections: usize, size: usize) -> io::Result<Load<'a>> {
        let poller = Poller::new()?;
        let opened: io::Result<Vec<Connection>> = (0..connections)
            .map(|key| {
                let wire = Wire::connect(target)?;
                poller.add(&wire, key, Interest::Read)?;
                Ok(Connection {
                    wire,
                    sent: size,
                    blocked: false,
                    received: size,
                    started: Instant::now(),
                })
            })
            .collect();
        Ok(Load {
            target,
            reconnect: false,
            poller,
            connections: opened?,
            message: message(size),
            buffer: vec![0; size + 1],
        })
    }

    /// From now on every request has a connection of its own.
    pub fn reconnect(&mut self) {
        self.reconnect = true;
    }

    /// Sends requests on every connection until `end`, and returns when every reply has come.
    pub fn window(&mut self, end: End) -> io::Result<Window> {
        let start = Instant::now();
        let mut latencies = Vec::with_capacity(1 << 20);
        let mut outstanding = 0;
        for key in 0..self.connections.len() {
            if more(end, start, start, key) {
                self.request(key, start)?;
                outstanding += 1;
            }
        }
        let mut requests = outstanding;
        let mut ready = Vec::new();
        while outstanding > 0 {
            ready.clear();
            ready.extend_from_slice(self.poller.wait(Some(&PATIENCE))?);
            if ready.is_empty() {
                return Err(Error::other(format!("no answer to {outstanding} requests")));
            }
            for event in &ready {
                if event.writable {
                    self.send(event.key)?;
                }
                if !event.readable || !self.receive(event.key)? {
                    continue;
                }
                let now = Instant::now();
                latencies.push((now - self.connections[event.key].started).as_nanos() as u64);
                if self.reconnect {
                    self.replace(event.key)?;
                }
                if more(end, start, now, requests) {
                    self.request(event.key, Instant::now())?;
                    requests += 1;
                } else {
                    outstanding -= 1;
                }
            }
        }
        let took = start.elapsed();
        latencies.sort_unstable();
        Ok(Window { took, latencies })
    }

    fn request(&mut self, key: usize, now: Instant) -> io::Result<()> {
        let connection = &mut self.connections[key];
        connection.sent = 0;
        connection.received = 0;
        connection.started = now;
        self.send(key)
    }

    /// Sends more of a request; what the socket does not take waits for room.
    fn send(&mut self, key: usize) -> io::Result<()> {
        let connection = &mut self.connections[key];
        let blocked = !connection.wire.send(&self.message, &mut connection.sent)?;
        if blocked != connection.blocked {
            connection.blocked = blocked;
            let interest = if blocked {
                Interest::ReadWrite
            } else {
                Interest::Read
            };
            self.poller.modify(&connection.wire, key, interest)?;
        }
        Ok(())
    }

    /// Closes a connection and opens another in its place.
    fn replace(&mut self, key: usize) -> io::Result<()> {
        let wire = Wire::connect(self.target)?;
        self.poller.add(&wire, key, Interest::Read)?;
        let connection = &mut self.connections[key];
        connection.blocked = false;
        std::mem::replace(&mut connection.wire, wire).close()
    }

    /// Reads what came; true when the reply is whole and is what was sent.
    fn receive(&mut self, key: usize) -> io::Result<bool> {
        let connection = &mut self.connections[key];
        let missing = self.message.len() - connection.received;
        let Some(read) = connection.wire.receive(&mut self.buffer[..missing + 1])? else {
            return Ok(false);
        };
        if read == 0 {
            return Err(Error::other("the server closed a connection"));
        }
        let expected = self.message[connection.received..].get(..read);
        if expected != Some(&self.buffer[..read]) {
            return Err(Error::other("a reply differs from its request"));
        }
        connection.received += read;
        Ok(connection.received == self.message.len())
    }
}

/// One line: its only newline is at its end. It has a prime period, so that a reply whose parts are
/// out of order is noticed.
fn message(size: usize) -> Vec<u8> {
    const NEWLINE: u8 = b'\n';
    let byte = |index: usize| match (index % 251) as u8 {
        NEWLINE => 251,
        byte => byte,
    };
    (1..size).map(byte).chain([NEWLINE]).collect()
}

/// Whether another request is sent `now`, after `requests` of them.
fn more(end: End, start: Instant, now: Instant, requests: usize) -> bool {
    match end {
        End::After(duration) => now - start < duration,
        End::Requests(count) => requests < count,
    }
}
