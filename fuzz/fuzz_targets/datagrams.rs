//! Any datagrams, sent and received one by one or many at once: in order, whole up to the room
//! that there is, each with its sender.
#![no_main]

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use engine::SocketAddrStorage;
use engine::sys::{self, DatagramBuffer, MAX_DATAGRAMS};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Step {
    Send {
        sender: bool,
        datagrams: Vec<Vec<u8>>,
    },
    SendOne {
        sender: bool,
        datagram: Vec<u8>,
    },
    Receive {
        most: u8,
    },
    ReceiveOne {
        room: u8,
    },
}

#[derive(Arbitrary, Debug)]
struct Input {
    room: u8,
    steps: Vec<Step>,
}

fn bound(name: &str) -> (UnixDatagram, SocketAddrStorage) {
    let name = format!("aioxide-fuzz-{}-{name}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    socket.set_nonblocking(true).unwrap();
    let path = [b"\0", name.as_bytes()].concat();
    (socket, SocketAddrStorage::from_unix_path(&path).unwrap())
}

fuzz_target!(|input: Input| {
    let senders = [bound("a"), bound("b")];
    let (receiver, there) = bound("receiver");
    let mut buffer = DatagramBuffer::new(input.room.into());
    let room = usize::from(input.room).max(1);
    let mut waiting: VecDeque<(Vec<u8>, usize)> = VecDeque::new();
    let expect = |waiting: &mut VecDeque<(Vec<u8>, usize)>,
                  bytes: &[u8],
                  from: &SocketAddrStorage,
                  room: usize| {
        let (sent, sender) = waiting.pop_front().expect("nothing was sent");
        assert_eq!(bytes, &sent[..sent.len().min(room)]);
        assert_eq!(from.unix_path(), senders[sender].1.unix_path());
    };
    for step in &input.steps {
        match step {
            Step::Send { sender, datagrams } => {
                let list: Vec<_> = datagrams
                    .iter()
                    .map(|bytes| (&bytes[..], Some(&there)))
                    .collect();
                let number = usize::from(*sender);
                match sys::send_many(senders[number].0.as_raw_fd(), &list) {
                    Ok(count) => {
                        assert!(count <= list.len().min(MAX_DATAGRAMS));
                        assert!(count > 0 || list.is_empty());
                        let sent = datagrams[..count].iter().cloned();
                        waiting.extend(sent.map(|bytes| (bytes, number)));
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
            Step::SendOne { sender, datagram } => {
                let number = usize::from(*sender);
                match sys::send_to(senders[number].0.as_raw_fd(), datagram, &there) {
                    Ok(count) => {
                        assert_eq!(count, datagram.len());
                        waiting.push_back((datagram.clone(), number));
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
            Step::Receive { most } => {
                let most = usize::from(*most).max(1);
                match buffer.receive(receiver.as_raw_fd(), most) {
                    Ok(count) => {
                        assert!((1..=most.min(MAX_DATAGRAMS)).contains(&count));
                        for index in 0..count {
                            let (bytes, from) = buffer.get(index).unwrap();
                            expect(&mut waiting, bytes, from, room);
                        }
                        assert!(buffer.get(count).is_none());
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        assert!(waiting.is_empty() && buffer.get(0).is_none());
                    }
                }
            }
            Step::ReceiveOne { room } => {
                let mut memory = vec![0; (*room).into()];
                match sys::recv_from(receiver.as_raw_fd(), &mut memory) {
                    Ok((count, from)) => {
                        expect(&mut waiting, &memory[..count], &from, memory.len());
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        assert!(waiting.is_empty());
                    }
                }
            }
        }
    }
});
