//! What the load generator and the floor share: sockets of either family, and epoll.
//!
//! Level-triggered epoll in one thread, one read per readiness, as the loops do it, so that the
//! floor shows what the system calls alone cost.

pub mod poller;
pub mod stream;
pub mod wire;
