//! The wire layer against amq-protocol, against golden frames, and against any bytes at any split.

mod client;
mod server;
mod tables;
mod vectors;

use leveret::wire::{FrameKind, Output};
use std::io::IoSlice;

/// All bytes of `output`, taken a few at a time as a slow peer would.
fn drain(mut output: Output) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !output.is_empty() {
        let mut slices = [IoSlice::new(&[]); 3];
        let count = output.slices(&mut slices);
        let before = bytes.len();
        for slice in &slices[..count] {
            bytes.extend_from_slice(slice);
        }
        bytes.truncate(before + 10_000.min(bytes.len() - before));
        output.advance(bytes.len() - before);
    }
    bytes
}

fn frame(kind: FrameKind, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).expect("a payload is below 4 GiB");
    let head = [&[kind as u8][..], &channel.to_be_bytes(), &size.to_be_bytes()].concat();
    [&head, payload, &[0xce]].concat()
}

fn header(body_len: usize, values: &[u8]) -> Vec<u8> {
    [&[0, 60, 0, 0][..], &(body_len as u64).to_be_bytes(), values].concat()
}
