//! Requests as senders write them, and as nobody should.

use proptest::prelude::*;

use super::*;

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn sized(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn label(out: &mut Vec<u8>, name: &str, value: &str) {
    let mut one = Vec::new();
    sized(&mut one, 1, name.as_bytes());
    sized(&mut one, 2, value.as_bytes());
    sized(out, 1, &one);
}

fn sample(out: &mut Vec<u8>, time: i64, value: f64) {
    let mut one = vec![0x09];
    one.extend_from_slice(&value.to_le_bytes());
    one.push(0x10);
    varint(&mut one, time as u64);
    sized(out, 2, &one);
}

fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Vec<u8> {
    let mut out = Vec::new();
    labels.iter().for_each(|(n, v)| label(&mut out, n, v));
    samples.iter().for_each(|(t, v)| sample(&mut out, *t, *v));
    out
}

/// Everything of a 1.0 body, as text and numbers.
/// Labels as text, and the samples.
type Read = (String, Vec<(i64, f64)>);

fn read_all_v1(body: &[u8]) -> Result<Vec<Read>, Malformed> {
    let (mut request, mut reader, mut out) = (RequestV1::new(body), SeriesReader::default(), Vec::new());
    while let Some(message) = request.try_next()? {
        reader.read_v1(message)?;
        let labels = reader.labels_v1(message).to_vec();
        let mut pairs = Pairs::new();
        read_pairs(&labels, &mut pairs)?;
        let text = match checked_labels(&mut pairs) {
            Ok(l) => l.to_string(),
            Err(e) => e.to_string(),
        };
        out.push((text, reader.samples.iter().map(|s| (s.time, s.value)).collect()));
    }
    Ok(out)
}

fn read_all_v2(body: &[u8]) -> Result<usize, Malformed> {
    let (mut request, mut reader, mut count) = (RequestV2::default(), SeriesReader::default(), 0);
    request.read(body)?;
    for part in request.series.clone() {
        reader.read_v2(&body[part.start as usize..part.end as usize])?;
        let mut pairs = Pairs::new();
        if request.pairs(body, &reader.label_refs, &mut pairs).is_ok() {
            let _ = checked_labels(&mut pairs);
        }
        count += reader.samples.len();
    }
    Ok(count)
}

fn body_v1() -> Vec<u8> {
    let mut body = Vec::new();
    sized(&mut body, 1, &series(&[("__name__", "up"), ("job", "a")], &[(1000, 1.0), (2000, -2.5)]));
    sized(&mut body, 3, b"\x08\x01\x12\x02up");
    sized(&mut body, 1, &series(&[("job", "b"), ("__name__", "up")], &[(-5, f64::INFINITY)]));
    body
}

fn body_v2() -> Vec<u8> {
    let mut body = Vec::new();
    for s in ["", "__name__", "up", "job", "a", "help", "trace"] {
        sized(&mut body, 4, s.as_bytes());
    }
    let mut one = vec![0x0a, 4, 1, 2, 3, 4];
    sample(&mut one, 1000, 1.5);
    one.extend_from_slice(&[0x22, 4, 0x0a, 2, 6, 4, 0x2a, 4, 0x08, 1, 0x18, 5]);
    sized(&mut body, 5, &one);
    body
}

#[test]
fn series_of_a_request_are_read_and_their_labels_sorted() {
    let want = vec![
        (r#"{__name__="up", job="a"}"#.to_owned(), vec![(1000, 1.0), (2000, -2.5)]),
        (r#"{__name__="up", job="b"}"#.to_owned(), vec![(-5, f64::INFINITY)]),
    ];
    assert_eq!(read_all_v1(&body_v1()), Ok(want));
    assert_eq!(read_all_v1(&[]), Ok(vec![]));
}

#[test]
fn labels_that_lie_apart_and_absent_fields_are_read() {
    let mut one = series(&[("__name__", "m")], &[]);
    sized(&mut one, 2, &[]);
    label(&mut one, "a", "b");
    let mut body = Vec::new();
    sized(&mut body, 1, &one);
    let want = vec![(r#"{__name__="m", a="b"}"#.to_owned(), vec![(0, 0.0)])];
    assert_eq!(read_all_v1(&body), Ok(want));
}

#[test]
fn labels_are_judged_as_prometheus_does() {
    let check = |labels: &[(&[u8], &[u8])], expect: &str| {
        let mut pairs: Pairs = labels.to_vec();
        let got = checked_labels(&mut pairs).map_or_else(|e| e.to_string(), |l| l.to_string());
        assert_eq!(got, expect);
    };
    check(&[(b"job", b"x")], r#"invalid metric name or labels, got {job="x"}"#);
    check(&[(b"__name__", b"")], r#"invalid metric name or labels, got {__name__=""}"#);
    check(
        &[(b"__name__", b"m"), (b"", b"x")],
        r#"invalid metric name or labels, got {""="x", __name__="m"}"#,
    );
    check(
        &[(b"__name__", b"m"), (b"a", b"\xffx\n")],
        r#"invalid metric name or labels, got {__name__="m", a="\xffx\n"}"#,
    );
    check(
        &[(b"b", b"1"), (b"__name__", b"m"), (b"b", b"2")],
        r#"invalid labels for series, labels {__name__="m", b="1", b="2"}, duplicated label b"#,
    );
    check(
        &[(b"b", b"1"), (b"__name__", b"m"), (b"a.b", b"x"), (b"c", b"")],
        r#"{__name__="m", "a.b"="x", b="1"}"#,
    );
}

#[test]
fn a_second_request_reads_symbols_exemplars_and_metadata() {
    let body = body_v2();
    let mut request = RequestV2::default();
    request.read(&body).unwrap();
    let mut reader = SeriesReader::default();
    let part = request.series[0].clone();
    reader.read_v2(&body[part.start as usize..part.end as usize]).unwrap();
    let mut pairs = Pairs::new();
    request.pairs(&body, &reader.label_refs, &mut pairs).unwrap();
    assert_eq!(pairs_text(&pairs), r#"{__name__="up", job="a"}"#);
    assert_eq!((reader.exemplar_refs.as_slice(), reader.exemplars.len()), (&[6, 4][..], 1));
    assert_eq!(reader.metadata_refs, [5, 0]);
    let outside = request.pairs(&body, &[1, 9], &mut pairs).unwrap_err();
    assert_eq!(outside, "labelRefs 1 (name) = 9 (value) outside of symbols table (size 7)");
    assert_eq!(request.pairs(&body, &[1], &mut pairs).unwrap_err(), "invalid labelRefs length 1");
}

#[test]
fn errors_have_the_words_of_gogo() {
    let check = |body: &[u8], expect: &str| {
        assert_eq!(read_all_v1(body).map_err(|e| e.to_string()).unwrap_err(), expect);
    };
    check(&[0x0a], "unexpected EOF");
    check(&[0x0a, 5, 0], "unexpected EOF");
    check(&[0x08, 5], "proto: wrong wireType = 0 for field Timeseries");
    check(&[0x0c], "proto: WriteRequest: wiretype end group for non-group");
    check(&[0x02, 0], "proto: WriteRequest: illegal tag 0 (wire type 2)");
    check(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "proto: integer overflow");
    check(
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        "proto: negative length found during unmarshaling",
    );
    check(&[0x3f], "proto: illegal wireType 7");
}

#[test]
fn truncations_and_flipped_bits_never_panic() {
    for body in [body_v1(), body_v2()] {
        for n in 0..body.len() {
            let _ = (read_all_v1(&body[..n]), read_all_v2(&body[..n]));
        }
        for bit in 0..body.len() * 8 {
            let mut bad = body.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let _ = (read_all_v1(&bad), read_all_v2(&bad));
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_or_an_error(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = (read_all_v1(&body), read_all_v2(&body));
        let _ = crate::remote_histogram::read(&body).map(|h| h.accepted());
    }

    #[test]
    fn what_was_written_is_read(
        all in proptest::collection::vec(
            (proptest::collection::vec(any::<(i64, i32)>(), 0..4), "[a-z]{0,200}"), 0..20),
    ) {
        let mut body = Vec::new();
        let mut want = Vec::new();
        for (samples, value) in &all {
            let samples: Vec<(i64, f64)> = samples.iter().map(|(t, v)| (*t, f64::from(*v))).collect();
            sized(&mut body, 1, &series(&[("__name__", "m"), ("a", value)], &samples));
            let labels = Labels::from_pairs([("__name__", "m"), ("a", value.as_str())]);
            want.push((labels.to_string(), samples));
        }
        prop_assert_eq!(read_all_v1(&body), Ok(want));
    }
}

proptest! {
    #[test]
    fn a_varint_read_at_once_is_what_byte_after_byte_gives(
        value in any::<u64>(),
        bits in 1u32..=64,
        behind in prop::collection::vec(any::<u8>(), 0..12),
    ) {
        let value = value >> (64 - bits);
        let mut bytes = Vec::new();
        varint(&mut bytes, value);
        let length = bytes.len();
        bytes.extend_from_slice(&behind);
        let (mut at_once, mut slowly) = (Cursor::new(&bytes), Cursor::new(&bytes));
        prop_assert_eq!((at_once.varint(), at_once.at), (Ok(value), length));
        prop_assert_eq!((slowly.any_varint(), slowly.at), (Ok(value), length));
    }

    #[test]
    fn any_bytes_are_the_same_varint_either_way(bytes in prop::collection::vec(any::<u8>(), 0..14)) {
        let (mut at_once, mut slowly) = (Cursor::new(&bytes), Cursor::new(&bytes));
        prop_assert_eq!((at_once.varint(), at_once.at), (slowly.any_varint(), slowly.at));
    }

    #[test]
    fn the_usual_sample_is_read_as_any_other(
        time in prop_oneof![0i64..1 << 45, any::<i64>()],
        value in any::<f64>(),
        broken in prop::option::of((0usize..18, any::<u8>())),
    ) {
        let mut message = vec![0x09];
        message.extend_from_slice(&value.to_le_bytes());
        message.push(0x10);
        varint(&mut message, time as u64);
        if let Some((at, byte)) = broken && at < message.len() {
            message[at] = byte;
        }
        // A field of no meaning in front keeps it from being the usual one.
        let other = [&[0x20, 0x00], &message[..]].concat();
        let bits = |s: Result<Sample, Malformed>| s.map(|s| (s.time, s.start, s.value.to_bits()));
        prop_assert_eq!(bits(read_sample(&message)), bits(read_sample(&other)));
    }
}
