//! Delimited protobuf: no bytes make the reader panic, whatever is wished, and what it gives can be followed.

#![no_main]

use exposition::flat::{FlatCache, FlatReader};
use exposition::protobuf::{Wishes, read};
use exposition::{FlatPage, key};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (mut cache, mut reader, mut page) = (FlatCache::default(), FlatReader::default(), FlatPage::default());
    for (native, always_classic) in [(false, false), (true, false), (true, true)] {
        match read(bytes, Wishes { native, always_classic }, &mut page) {
            Ok(()) => {
                for sample in &page.samples {
                    let _ = key::decode(page.text(&sample.key), sample.kind);
                }
                reader.read(&mut cache, &mut page);
            }
            Err(e) => drop(e.to_string()),
        }
    }
});
