//! A window of load: every connection sends a request, reads its echo, and sends the next.

use std::io::{self, Error};
use std::time::{Duration, Instant};

use loadgen::poller::{Interest, Poller};
use loadgen::stream::{Address, Stream};
use rustix::event::Timespec;

/// A server that answers nothing for so long is given up.
const PATIENCE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// When a window stops sending; it ends once the last reply is there.
#[derive(Clone, Copy)]
pub enum End {
    /// So long after its start.
    After(Duration),
    /// With so many requests.
    Requests(usize),
}

/// What a window saw.
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
    stream: Stream,
    /// Bytes of the outstanding request that were sent; less than its size means waiting for room.
    sent: usize,
    /// Bytes of its echo that came back.
    received: usize,
    started: Instant,
}

/// Open connections to one server, idle between windows.
pub struct Load {
    poller: Poller,
    connections: Vec<Connection>,
    message: Vec<u8>,
    /// One byte longer than a message, so that a reply that is too long is noticed.
    buffer: Vec<u8>,
}

impl Load {
    /// Opens `connections` connections for messages of `size` bytes.
    pub fn connect(address: &Address, connections: usize, size: usize) -> io::Result<Load> {
        let poller = Poller::new()?;
        let opened: io::Result<Vec<Connection>> = (0..connections)
            .map(|key| {
                let stream = Stream::connect(address)?;
                poller.add(&stream, key, Interest::Read)?;
                Ok(Connection {
                    stream,
                    sent: size,
                    received: size,
                    started: Instant::now(),
                })
            })
            .collect();
        Ok(Load {
            poller,
            connections: opened?,
            // a prime period, so that a reply whose parts are out of order is noticed
            message: (0..size).map(|index| (index % 251) as u8).collect(),
            buffer: vec![0; size + 1],
        })
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
                if more(end, start, now, requests) {
                    self.request(event.key, now)?;
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
        let sent = connection.stream.write(&self.message)?.unwrap_or(0);
        connection.sent = sent;
        if sent < self.message.len() {
            self.poller
                .modify(&connection.stream, key, Interest::ReadWrite)?;
        }
        Ok(())
    }

    /// Sends more of a request that the socket did not take whole.
    fn send(&mut self, key: usize) -> io::Result<()> {
        let connection = &mut self.connections[key];
        if connection.sent < self.message.len() {
            let rest = &self.message[connection.sent..];
            connection.sent += connection.stream.write(rest)?.unwrap_or(0);
            if connection.sent == self.message.len() {
                self.poller
                    .modify(&connection.stream, key, Interest::Read)?;
            }
        }
        Ok(())
    }

    /// Reads what came; true when the reply is whole and is what was sent.
    fn receive(&mut self, key: usize) -> io::Result<bool> {
        let connection = &mut self.connections[key];
        let missing = self.message.len() - connection.received;
        let Some(read) = connection.stream.read(&mut self.buffer[..missing + 1])? else {
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

/// Whether another request is sent `now`, after so many.
fn more(end: End, start: Instant, now: Instant, requests: usize) -> bool {
    match end {
        End::After(duration) => now - start < duration,
        End::Requests(count) => requests < count,
    }
}
