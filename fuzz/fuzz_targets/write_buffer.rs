//! Any sequence of writes, partial sends and limits: the write buffer is a queue of bytes, and
//! flow control pauses above the high-water mark and resumes at the low one.
#![no_main]

use std::collections::VecDeque;

use engine::buffer::IOV_MAX;
use engine::{FlowControl, WriteBuffer};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Step {
    Write(Vec<u8>),
    /// A large chunk that costs no input.
    WriteLarge {
        size: u16,
        byte: u8,
    },
    /// Many small chunks, more than one system call takes.
    WriteMany {
        count: u16,
    },
    /// A write of which the socket took the first bytes at once.
    WriteFrom {
        bytes: Vec<u8>,
        sent: u8,
    },
    Send {
        slices: u16,
        takes: u32,
    },
    SendFirst {
        takes: u16,
    },
    Limits {
        high: Option<u16>,
        low: Option<u16>,
    },
    Clear,
}

#[derive(Default)]
struct Model {
    bytes: VecDeque<u8>,
    chunks: usize,
    paused: bool,
}

struct Pair {
    buffer: WriteBuffer<Vec<u8>>,
    flow: FlowControl,
    model: Model,
}

impl Pair {
    fn write(&mut self, chunk: Vec<u8>, sent: usize) {
        let sent = if self.buffer.is_empty() { sent } else { 0 };
        let left = chunk.get(sent..).unwrap_or_default().to_vec();
        let back = self.buffer.push_from(chunk, sent);
        assert_eq!(back.is_some(), left.is_empty());
        self.model.chunks += usize::from(!left.is_empty());
        self.model.bytes.extend(left);
        self.grown();
    }

    fn grown(&mut self) {
        let size = self.buffer.len();
        let told = self.flow.on_grow(size);
        assert_eq!(told, !self.model.paused && size > self.flow.high());
        self.model.paused |= told;
    }

    fn sent(&mut self, count: usize) {
        let finished = &mut 0;
        self.buffer.consume(count, &mut |_| *finished += 1);
        self.model.bytes.drain(..count);
        self.model.chunks -= *finished;
        let size = self.buffer.len();
        let told = self.flow.on_shrink(size);
        assert_eq!(told, self.model.paused && size <= self.flow.low());
        self.model.paused &= !told;
    }

    fn check(&self) {
        assert_eq!(self.buffer.len(), self.model.bytes.len());
        assert_eq!(self.buffer.is_empty(), self.model.bytes.is_empty());
        assert_eq!(self.buffer.chunks(), self.model.chunks);
        assert_eq!(self.buffer.chunks() == 0, self.buffer.is_empty());
        assert_eq!(self.buffer.iter().count(), self.model.chunks);
        assert_eq!(self.flow.is_paused(), self.model.paused);
        assert!(self.flow.low() <= self.flow.high());
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let mut pair = Pair {
        buffer: WriteBuffer::new(),
        flow: FlowControl::new(),
        model: Model::default(),
    };
    for step in steps {
        match step {
            Step::Write(bytes) => pair.write(bytes, 0),
            Step::WriteLarge { size, byte } => pair.write(vec![byte; size.into()], 0),
            Step::WriteMany { count } => {
                for index in 0..count % 3000 {
                    pair.write(vec![index as u8], 0);
                }
            }
            Step::WriteFrom { bytes, sent } => pair.write(bytes, sent.into()),
            Step::Send { slices, takes } => {
                let max = usize::from(slices);
                let (offered, count) = {
                    let slices = pair.buffer.slices(max);
                    assert_eq!(slices.len(), pair.model.chunks.min(max).min(IOV_MAX));
                    assert!(slices.iter().all(|slice| !slice.is_empty()));
                    let offered: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
                    let count = offered.len().min(takes as usize);
                    (offered, count)
                };
                assert!(pair.model.bytes.iter().take(offered.len()).eq(&offered));
                pair.sent(count);
            }
            Step::SendFirst { takes } => {
                let Some(first) = pair.buffer.first() else {
                    assert!(pair.model.bytes.is_empty());
                    continue;
                };
                assert!(!first.is_empty());
                assert!(pair.model.bytes.iter().take(first.len()).eq(first));
                let count = first.len().min(takes.into());
                pair.sent(count);
            }
            Step::Limits { high, low } => {
                let (high, low) = (high.map(i64::from), low.map(i64::from));
                let before = (pair.flow.high(), pair.flow.low());
                match pair.flow.set_limits(high, low) {
                    Ok(()) => {
                        assert!(high.is_none_or(|high| high == pair.flow.high() as i64));
                        assert!(low.is_none_or(|low| low == pair.flow.low() as i64));
                        pair.grown();
                    }
                    Err(error) => {
                        assert!(error.low > error.high);
                        assert_eq!((pair.flow.high(), pair.flow.low()), before);
                    }
                }
            }
            Step::Clear => {
                let handed_out = pair.buffer.clear().count();
                assert_eq!(handed_out, pair.model.chunks);
                (pair.model.bytes, pair.model.chunks) = (VecDeque::new(), 0);
                let told = pair.flow.on_shrink(0);
                assert_eq!(told, pair.model.paused);
                pair.model.paused = false;
            }
        }
        pair.check();
    }
});
