//! Pages of text and of OpenMetrics: no bytes make a reader panic, and a page read as the successor of another (by
//! what the two have in common) comes to the same series and values as read alone. The input is three pages, parted
//! by a byte that no text has.

#![no_main]

use std::collections::BTreeMap;

use exposition::{FlatPage, Lines, PageCache, PageReader, Syntax, flat::FlatCache, flat::FlatReader, gather, key, nhcb};
use libfuzzer_sys::fuzz_target;

/// What a cache holds: each series once with its value's bits and its time.
fn held(cache: &PageCache) -> BTreeMap<Vec<u8>, (u64, Option<i64>)> {
    let mut values: BTreeMap<u32, (u64, Option<i64>)> = BTreeMap::new();
    values.extend(cache.row().map(|(slot, v)| (slot, (v.to_bits(), None))));
    values.extend(cache.stamped().map(|s| (s.slot, (s.value.to_bits(), Some(s.timestamp)))));
    let mut out = BTreeMap::new();
    for line in cache.series() {
        let _ = key::decode(line.key, line.kind).map_err(|e| e.to_string());
        let value = *values.get(&line.slot).expect("a series has a value");
        assert_eq!(out.insert(line.key.to_vec(), value), None, "a key has one slot");
    }
    out
}

fn walk(syntax: Syntax, page: &[u8]) {
    let mut lines = Lines::new(syntax, page);
    // Each event takes at least a byte.
    for _ in 0..=page.len() {
        match lines.next_event() {
            Ok(Some(exposition::Event::Sample(s))) => {
                let _ = key::decode(s.key, s.kind);
                let _ = s.exemplar.map(|x| key::exemplar_labels(x.labels).is_ok());
            }
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(e) => return drop(e.to_string()),
        }
    }
    panic!("the reader does not come to an end");
}

fn flat(syntax: Syntax, pages: &[&[u8]]) {
    let (mut cache, mut reader, mut page) = (FlatCache::default(), FlatReader::default(), FlatPage::default());
    for bytes in pages {
        if gather::read(syntax, bytes, &mut page).is_ok() {
            gather::take_created(&mut page);
            nhcb::convert(&mut page, bytes.len() % 2 == 0);
            reader.read(&mut cache, &mut page);
            let slots: Vec<u32> = cache.row().map(|(slot, _)| slot).collect();
            assert!(slots.iter().all(|s| *s < cache.slot_count()));
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let pages: Vec<&[u8]> = bytes.splitn(3, |b| *b == 0xff).collect();
    for syntax in [Syntax::Text, Syntax::OpenMetrics] {
        let (mut followed, mut reader) = (PageCache::of(syntax), PageReader::new());
        for page in &pages {
            walk(syntax, page);
            let mut alone = PageCache::of(syntax);
            let told = PageReader::new().read(&mut alone, &mut page.to_vec()).map(drop);
            let before = held(&followed);
            match reader.read(&mut followed, &mut page.to_vec()) {
                Ok(_) => {
                    assert!(told.is_ok(), "alone it is refused: {told:?}");
                    assert_eq!(held(&followed), held(&alone));
                }
                Err(e) => {
                    assert_eq!(Err(e), told);
                    assert_eq!(held(&followed), before, "a refused page changes nothing");
                }
            }
        }
        flat(syntax, &pages);
    }
});
