//! What is printed is read again as the same: canonical text and pretty text are fixed points.

#![no_main]

use libfuzzer_sys::fuzz_target;
use promql::Options;

fuzz_target!(|bytes: &[u8]| {
    let Ok(tree) = promql::parse(bytes, Options::ALL) else { return };
    let text = tree.to_string();
    let again = match promql::parse(&text, Options::ALL) {
        Ok(again) => again,
        Err(e) => panic!("{text:?}, printed, is refused: {e}"),
    };
    assert_eq!(again.to_string(), text);
    let pretty = tree.pretty();
    match promql::parse(&pretty, Options::ALL) {
        Ok(again) => assert_eq!((again.to_string(), again.pretty()), (text, pretty)),
        Err(e) => panic!("{pretty:?}, printed, is refused: {e}"),
    }
});
