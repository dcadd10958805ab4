//! A read is cut into frames, and every message in them is checked and located.

use std::hint::black_box;

use crate::Scenario;
use crate::chunk::{MESSAGES, Reader, frames};

const FRAMES: u32 = 4;

pub(crate) struct Decode {
    received: Vec<u8>,
    reader: Reader,
}

impl Decode {
    pub(crate) fn new() -> Self {
        Self { received: frames(FRAMES), reader: Reader::default() }
    }
}

impl Scenario for Decode {
    fn messages(&self) -> u64 {
        u64::from(FRAMES) * MESSAGES as u64
    }

    fn turn(&mut self) -> u64 {
        black_box(self.reader.read(black_box(&self.received)));
        black_box(&self.reader.parts).len() as u64
    }
}
