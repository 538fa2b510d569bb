//! No bytes make the parser panic, hang or overflow: whatever it is given, it answers with a tree or an error, and
//! whatever is said about either can be said.

#![no_main]

use libfuzzer_sys::fuzz_target;
use promql::Options;

fuzz_target!(|bytes: &[u8]| {
    for options in [Options::ALL, Options::default()] {
        match promql::parse(bytes, options) {
            Ok(tree) => {
                let _ = (tree.to_string(), tree.pretty(), tree.to_json(), tree.value_type());
                // Where a part stands, text stands: messages point there.
                tree.walk(&mut |e| {
                    let span = e.span();
                    assert!(span.start <= span.end && span.end as usize <= bytes.len(), "{span:?}");
                });
            }
            Err(e) => drop(e.to_string()),
        }
    }
    let _ = promql::parse_metric_selector(bytes, Options::ALL);
    let _ = promql::parse_metric(bytes);
});
