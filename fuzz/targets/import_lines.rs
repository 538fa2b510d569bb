//! Lines of bulk imports, InfluxDB's and VictoriaMetrics': no bytes make a reader panic.

#![no_main]

use exposition::{influx, json_lines};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for line in bytes.split(|b| *b == b'\n') {
        match influx::read(line) {
            Ok(Some(point)) => drop(format!("{point:?}")),
            Ok(None) => {}
            Err(e) => drop(e.to_string()),
        }
        match json_lines::read(&mut line.to_vec()) {
            Ok(series) => assert_eq!(series.values.len(), series.times.len()),
            Err(e) => drop(e.to_string()),
        }
    }
});
