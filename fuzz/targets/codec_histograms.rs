//! No bytes make a decoder of histograms or of Prometheus's chunks panic; what it makes of them is written and read
//! again the same.

#![no_main]

use codec::Tier;
use codec::histogram::{self, AnyHistograms, HistogramEncoder};
use codec::prom_histogram::{self, Form};
use codec::{xor, xor2};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(histograms) = histogram::decode(bytes) {
        let mut out = Vec::new();
        let mut encoder = HistogramEncoder::new();
        let written = match &histograms {
            AnyHistograms::Int(h) => encoder.encode_int(h, Tier::Full, &mut out),
            AnyHistograms::Float(h) => encoder.encode_float(h, Tier::Full, &mut out),
        };
        if written.is_ok() {
            let again = histogram::decode(&out).expect("what was encoded decodes");
            // Their text, for a NaN is not equal to itself.
            assert_eq!(format!("{again:?}"), format!("{histograms:?}"));
        }
    }
    for form in [Form::Plain, Form::Starts] {
        if let Ok(histograms) = prom_histogram::decode_int(bytes, form) {
            let mut out = Vec::new();
            if prom_histogram::encode_int(&histograms, form, &mut out).is_ok() {
                prom_histogram::decode_int(&out, form).expect("what was encoded decodes");
            }
        }
        if let Ok(histograms) = prom_histogram::decode_float(bytes, form) {
            let mut out = Vec::new();
            if prom_histogram::encode_float(&histograms, form, &mut out).is_ok() {
                prom_histogram::decode_float(&out, form).expect("what was encoded decodes");
            }
        }
    }
    let (mut times, mut values, mut starts) = (Vec::new(), Vec::new(), Vec::new());
    let _ = xor::decode(bytes, &mut times, &mut values);
    let _ = xor2::decode(bytes, &mut times, &mut values, &mut starts);
});
