//! No bytes make the readers of a Prometheus block's other files panic: chunks, chunks of the head, tombstones, meta.

#![no_main]

use codec::crc32c::checksum;
use libfuzzer_sys::fuzz_target;
use prometheus_tsdb::chunk::{self, Chunk, Encoding};
use prometheus_tsdb::meta::Meta;
use prometheus_tsdb::tombstones::Tombstones;
use prometheus_tsdb::{head_chunks, sample};

fn decode(chunk: &Chunk<'_>) {
    let _ = (chunk.sample_count(), chunk.bucket_count());
    let mut samples = Vec::new();
    let _ = chunk.decode(&mut samples);
    sample::merge(&mut samples);
}

fuzz_target!(|bytes: &[u8]| {
    let _ = chunk::check_segment(bytes);
    let _ = chunk::frame_bytes(bytes, 8);
    if let Ok(chunk) = chunk::read_frame(bytes, 8) {
        decode(&chunk);
    }
    let Some((&first, data)) = bytes.split_first() else { return };
    if let Some(encoding) = Encoding::of(first) {
        let mut frame = Vec::new();
        chunk::push_frame(encoding, data, &mut frame);
        decode(&chunk::read_frame(&frame, 8).expect("what was written is read"));
    }
    // The same with a head chunk's frame around it.
    let mut file = vec![0x01, 0x30, 0xBC, 0x91, 1, 0, 0, 0];
    file.extend_from_slice(bytes);
    let sum = checksum(bytes);
    file.extend_from_slice(&sum.to_be_bytes());
    for file in [bytes, &file] {
        if let Ok(chunks) = head_chunks::read(file) {
            chunks.flatten().for_each(|one| decode(&one.chunk));
        }
    }
    let mut file = vec![0x01, 0x30, 0xBA, 0x30, 1];
    file.extend_from_slice(bytes);
    file.extend_from_slice(&sum.to_be_bytes());
    let _ = Tombstones::read(&file);
    let _ = Meta::read(bytes);
});
