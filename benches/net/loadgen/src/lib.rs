//! The parts that the load generator and the floor share: sockets of either family, and epoll.
//!
//! Level-triggered epoll in one thread, with one read per readiness, as in the loops, so that the
//! floor shows the cost of the system calls alone.

pub mod poller;
pub mod stream;
pub mod wire;
