//! A native histogram as a message of remote write: how it travels to its shard and lies in the log.

use model::histogram::{CounterResetHint, Span};

use crate::remote_histogram::Counts;

/// Writes the message of `counts` behind what `out` holds.
pub fn push(out: &mut Vec<u8>, counts: &Counts) {
    match counts {
        Counts::Integer(h) => {
            push_whole(out, 1, h.count);
            push_shape(out, h.sum, h.schema, h.zero_threshold);
            push_whole(out, 6, h.zero_count);
            push_spans(out, 8, &h.negative_spans);
            push_deltas(out, 9, &h.negative_deltas);
            push_spans(out, 11, &h.positive_spans);
            push_deltas(out, 12, &h.positive_deltas);
            push_hint(out, h.counter_reset_hint);
            push_doubles(out, 16, &h.custom_values);
        }
        Counts::Float(h) => {
            push_double(out, 2, h.count);
            push_shape(out, h.sum, h.schema, h.zero_threshold);
            push_double(out, 7, h.zero_count);
            push_spans(out, 8, &h.negative_spans);
            push_doubles(out, 10, &h.negative_buckets);
            push_spans(out, 11, &h.positive_spans);
            push_doubles(out, 13, &h.positive_buckets);
            push_hint(out, h.counter_reset_hint);
            push_doubles(out, 16, &h.custom_values);
        }
    }
}

fn push_shape(out: &mut Vec<u8>, sum: f64, schema: i32, zero_threshold: f64) {
    push_double(out, 3, sum);
    push_whole(out, 4, zigzag(i64::from(schema)));
    push_double(out, 5, zero_threshold);
}

fn push_hint(out: &mut Vec<u8>, hint: CounterResetHint) {
    if hint != CounterResetHint::Unknown {
        push_whole(out, 14, hint as u64);
    }
}

fn push_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

fn push_key(out: &mut Vec<u8>, field: u32, wire: u32) {
    push_varint(out, u64::from(field << 3 | wire));
}

fn push_whole(out: &mut Vec<u8>, field: u32, v: u64) {
    push_key(out, field, 0);
    push_varint(out, v);
}

fn push_double(out: &mut Vec<u8>, field: u32, v: f64) {
    push_key(out, field, 1);
    out.extend_from_slice(&v.to_le_bytes());
}

fn push_sized(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    push_key(out, field, 2);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn push_spans(out: &mut Vec<u8>, field: u32, spans: &[Span]) {
    for span in spans {
        let mut inner = Vec::with_capacity(12);
        push_whole(&mut inner, 1, zigzag(i64::from(span.offset)));
        push_whole(&mut inner, 2, u64::from(span.length));
        push_sized(out, field, &inner);
    }
}

fn push_deltas(out: &mut Vec<u8>, field: u32, deltas: &[i64]) {
    let mut inner = Vec::with_capacity(deltas.len() * 2);
    deltas.iter().for_each(|d| push_varint(&mut inner, zigzag(*d)));
    push_sized(out, field, &inner);
}

fn push_doubles(out: &mut Vec<u8>, field: u32, values: &[f64]) {
    let inner: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    push_sized(out, field, &inner);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote_histogram::read;
    use model::histogram::{FloatHistogram, Histogram};

    #[test]
    fn what_is_written_is_read_again() {
        let spans = vec![Span { offset: -3, length: 2 }, Span { offset: 5, length: 1 }];
        let whole = Histogram {
            counter_reset_hint: CounterResetHint::Gauge,
            schema: -2,
            zero_threshold: 0.001,
            zero_count: 3,
            count: 300,
            sum: -2.5,
            positive_spans: spans.clone(),
            positive_deltas: vec![100, -50, 97],
            negative_spans: spans.clone(),
            negative_deltas: vec![1, 0, -1],
            custom_values: vec![],
        };
        let float = FloatHistogram { custom_values: vec![0.5, 1.0], schema: -53, ..whole.to_float() };
        for counts in [Counts::Integer(whole), Counts::Float(float)] {
            let mut message = Vec::new();
            push(&mut message, &counts);
            let again = read(&message).unwrap();
            assert_eq!(format!("{:?}", again.counts), format!("{counts:?}"));
        }
    }
}
