//! Families made by a small encoder, and what hostile bytes come to.

use proptest::prelude::*;

use super::*;
use crate::flat::{FlatCache, FlatReader};
use crate::key;

fn varint_bytes(mut v: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
    out
}

fn whole(field: u64, v: u64) -> Vec<u8> {
    [varint_bytes(field << 3), varint_bytes(v)].concat()
}

fn signed(field: u64, v: i64) -> Vec<u8> {
    whole(field, ((v << 1) ^ (v >> 63)) as u64)
}

fn float(field: u64, v: f64) -> Vec<u8> {
    [varint_bytes(field << 3 | 1), v.to_le_bytes().to_vec()].concat()
}

fn sized(field: u64, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [varint_bytes(field << 3 | 2), varint_bytes(bytes.len() as u64), bytes.to_vec()].concat()
}

fn label(name: &str, value: &str) -> Vec<u8> {
    sized(1, [sized(1, name), sized(2, value)].concat())
}

fn family(name: &str, kind: u64, metrics: &[Vec<u8>]) -> Vec<u8> {
    let metrics: Vec<u8> = metrics.iter().flat_map(|m| sized(4, m)).collect();
    let body = [sized(1, name), sized(2, "its help"), metrics, whole(3, kind)].concat();
    [varint_bytes(body.len() as u64), body].concat()
}

fn time(field: u64, seconds: u64, nanos: u64) -> Vec<u8> {
    sized(field, [whole(1, seconds), whole(2, nanos)].concat())
}

fn exemplar(field: u64, trace: &str, value: f64, seconds: Option<u64>) -> Vec<u8> {
    let time = seconds.map(|s| time(3, s, 500_000_000)).unwrap_or_default();
    sized(field, [label("trace", trace), float(2, value), time].concat())
}

fn bucket(bound: f64, count: u64, exemplar: Vec<u8>) -> Vec<u8> {
    sized(3, [whole(1, count), float(2, bound), exemplar].concat())
}

fn span(field: u64, offset: i64, length: u64) -> Vec<u8> {
    sized(field, [signed(1, offset), whole(2, length)].concat())
}

fn both_histogram() -> Vec<u8> {
    let native = [
        signed(5, 3),
        float(6, 0.001),
        whole(7, 2),
        span(12, 0, 2),
        sized(13, [varint_bytes(2), varint_bytes(4)].concat()),
    ]
    .concat();
    let classic =
        [bucket(1.0, 3, exemplar(3, "b", 0.5, Some(7))), bucket(5.0, 4, exemplar(3, "c", 4.0, None))]
            .concat();
    sized(7, [whole(1, 6), float(2, 10.5), classic, native, time(15, 3, 0)].concat())
}

fn told(page: &FlatPage) -> Vec<String> {
    let mut out = Vec::new();
    for (i, s) in page.samples.iter().enumerate() {
        let labels = key::decode(page.text(&s.key), s.kind).unwrap();
        let labels: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let value = match s.value {
            FlatValue::Float(v) => v.to_string(),
            FlatValue::Histogram(h) => match &page.histograms[h as usize] {
                Counts::Integer(h) => {
                    format!("h{}/{} {:?} {:?}", h.count, h.sum, h.positive_deltas, h.counter_reset_hint)
                }
                Counts::Float(h) => format!("f{}/{} {:?}", h.count, h.sum, h.positive_buckets),
            },
        };
        let mut line = format!("{} {value}", labels.join(","));
        line.extend(s.timestamp.map(|t| format!(" @{t}")));
        line.extend((s.start != 0).then(|| format!(" since {}", s.start)));
        for x in page.exemplars.iter().filter(|x| x.sample as usize == i) {
            let labels = key::exemplar_labels(page.text(&x.labels)).unwrap();
            line.push_str(&format!(" # {}={} {} {:?}", labels[0].0, labels[0].1, x.value, x.timestamp));
        }
        out.push(line);
    }
    out
}

fn check(body: &[u8], native: bool, always_classic: bool, want: &[&str]) {
    let mut page = FlatPage::default();
    read(body, Wishes { native, always_classic }, &mut page).unwrap();
    assert_eq!(told(&page), want);
}

fn refused(body: &[u8], want: &str) {
    let mut page = FlatPage::default();
    let wishes = Wishes { native: true, always_classic: true };
    assert_eq!(read(body, wishes, &mut page).map_err(|e| e.to_string()), Err(want.to_owned()));
}

#[test]
fn simple_families_are_read() {
    let counter =
        [label("a", "b"), sized(3, [float(1, 5.0), exemplar(2, "x", 1.0, Some(9)), time(3, 2, 0)].concat())];
    let body = [
        family("c_total", 0, &[counter.concat()]),
        family("empty", 1, &[]),
        family("g", 1, &[[sized(2, float(1, -1.5)), whole(6, 1234)].concat(), label("l", "").to_vec()]),
        family("u", 3, &[sized(5, float(1, f64::NAN))]),
    ]
    .concat();
    check(
        &body,
        false,
        false,
        &[
            "__name__=c_total,a=b 5 since 2000 # trace=x 1 Some(9500)",
            "__name__=g -1.5 @1234",
            "__name__=g,l= 0",
            "__name__=u NaN",
        ],
    );
    let quantile = sized(3, [float(1, 0.5), float(2, 7.0)].concat());
    let summary = sized(4, [whole(1, 3), float(2, 8.0), quantile, time(4, 1, 0)].concat());
    check(
        &family("s", 2, &[summary]),
        false,
        false,
        &[
            "__name__=s_count 3 since 1000",
            "__name__=s_sum 8 since 1000",
            "__name__=s,quantile=0.5 7 since 1000",
        ],
    );
}

#[test]
fn histograms_are_what_is_wished() {
    let classic = [
        "__name__=h_count 6 since 3000",
        "__name__=h_sum 10.5 since 3000",
        "__name__=h_bucket,le=1.0 3 since 3000 # trace=b 0.5 Some(7500)",
        "__name__=h_bucket,le=5.0 4 since 3000 # trace=c 4 None",
        "__name__=h_bucket,le=+Inf 6 since 3000",
    ];
    let native = "__name__=h h6/10.5 [1, 2] Unknown since 3000 # trace=b 0.5 Some(7500)";
    let body = family("h", 4, &[both_histogram()]);
    check(&body, false, false, &classic);
    check(&body, false, true, &classic);
    check(&body, true, false, &[native]);
    check(&body, true, true, &[&[native][..], &classic].concat());
    let gauge = family("h", 5, &[both_histogram()]);
    check(&gauge, true, false, &[&native.replace("Unknown", "Gauge")]);
    let float_only = sized(7, [float(4, 2.5), float(2, 1.0), span(12, 0, 1), float(14, 2.5)].concat());
    check(&family("f", 4, std::slice::from_ref(&float_only)), true, true, &["__name__=f f2.5/1 [2.5]"]);
    check(
        &family("f", 4, &[float_only]),
        false,
        true,
        &["__name__=f_count 2.5", "__name__=f_sum 1", "__name__=f_bucket,le=+Inf 2.5"],
    );
}

#[test]
fn what_cannot_be_says_why() {
    refused(&family("", 0, &[sized(3, [])]), "invalid metric name: ");
    refused(&family("a", 9, &[sized(3, [])]), "unknown metric type for metric \"a\": 9");
    refused(&family("a", 0, &[label("", "x")]), "invalid label name: ");
    let spans = sized(7, [whole(1, 1), span(12, 0, 2), sized(13, [2])].concat());
    refused(
        &family("a", 4, &[spans]),
        "histogram \"a\": positive side: spans need 2 buckets, have 1 buckets: \
         histogram spans specify different number of buckets than provided",
    );
    let body = family("a", 0, &[sized(3, [])]);
    let text = format!(
        "protobufparse: insufficient length of buffer, expected at least {} bytes, got {} bytes",
        body.len(),
        body.len() - 1
    );
    refused(&body[..body.len() - 1], &text);
}

pub(crate) fn whole_page() -> Vec<u8> {
    [
        family(
            "c_total",
            0,
            &[[label("a", "b"), sized(3, [float(1, 5.0), exemplar(2, "x", 1.0, Some(9))].concat())].concat()],
        ),
        family("h", 4, &[both_histogram()]),
        family("s", 2, &[sized(4, [whole(1, 3), float(2, 8.0)].concat())]),
    ]
    .concat()
}

/// Reads a body in pieces as long as `sizes` say, then the rest.
fn read_in_pieces(body: &[u8], sizes: &[usize], family_max: usize, page: &mut FlatPage) -> Result<(), Error> {
    let mut pieces =
        pieces::Pieces::with_family_max(Wishes { native: true, always_classic: true }, family_max);
    let (mut buffer, mut at) = (Vec::new(), 0);
    let mut sizes = sizes.iter().copied();
    loop {
        let n = sizes.next().unwrap_or(body.len()).min(body.len() - at);
        buffer.extend_from_slice(&body[at..at + n]);
        at += n;
        let is_last = at == body.len();
        loop {
            let max = page.samples.len() + 2;
            let progress = pieces.read(&buffer, is_last, max, page)?;
            buffer.drain(..progress.used);
            if progress.is_hungry {
                break;
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

const BEHIND: &str = "a family of more than 8 bytes says its name or type behind its metrics";

/// However a body is cut, it says what it says whole.
fn check_pieces(body: &[u8], sizes: &[usize]) {
    let (mut whole, mut small, mut large) = (FlatPage::default(), FlatPage::default(), FlatPage::default());
    let want = read(body, Wishes { native: true, always_classic: true }, &mut whole);
    assert_eq!(read_in_pieces(body, sizes, usize::MAX, &mut small), want);
    // What was read before an error is the same, too.
    let shown =
        |p: &FlatPage| format!("{:?} {:?} {:?} {:?}", p.samples, p.exemplars, p.families, p.histograms);
    assert_eq!(shown(&small), shown(&whole));
    // Of families that are not waited for all is the same but what they say too late.
    let got = read_in_pieces(body, sizes, 8, &mut large);
    if got.as_ref().is_err_and(|e| e.to_string() == BEHIND) {
        return;
    }
    assert_eq!(got, want);
    if want.is_ok() {
        assert_eq!(shown(&large), shown(&whole));
    }
}

#[test]
fn a_large_family_is_read_by_what_it_says_first() {
    let metric = sized(4, sized(5, float(1, 1.0)));
    let check = |parts: &[&[u8]], want: Result<&[&str], &str>| {
        let inner = parts.concat();
        let body = [varint_bytes(inner.len() as u64), inner].concat();
        for size in 1..=body.len() {
            let mut page = FlatPage::default();
            let got = read_in_pieces(&body, &vec![size; body.len()], 8, &mut page);
            let got = got.map(|()| told(&page)).map_err(|e| e.to_string());
            assert_eq!(got, want.map(|w| w.iter().map(|s| (*s).to_owned()).collect()).map_err(str::to_owned));
        }
    };
    let (a, b, untyped, gauge) = (sized(1, "a"), sized(1, "b"), whole(3, 3), whole(3, 1));
    check(&[&a, &untyped, &metric, &metric], Ok(&["__name__=a 1", "__name__=a 1"]));
    // Who does not begin with the name is waited for.
    check(&[&metric, &untyped, &a], Ok(&["__name__=a 1"]));
    check(&[&a, &untyped, &metric, &b], Err(BEHIND));
    check(&[&a, &untyped, &metric, &gauge], Err(BEHIND));
    check(&[&a, &metric, &untyped], Err(BEHIND));
    check(&[&a, &whole(3, 9), &metric], Err("unknown metric type for metric \"a\": 9"));
    check(&[&sized(1, [0xff]), &metric], Err("invalid metric name: \u{fffd}"));
    check(&[&a, &untyped, &metric, &sized(2, [0xff])], Err("invalid help for metric \"a\": \u{fffd}"));
    check(&[&a, &untyped, &sized(4, label("", "x")), &[0x22, 0x70]], Err("unexpected EOF"));
    let mut page = FlatPage::default();
    let unit = [&a[..], &untyped, &metric, &sized(5, "s"), &sized(2, "h")].concat();
    let body = [varint_bytes(unit.len() as u64), unit].concat();
    read_in_pieces(&body, &[3, 3, 3], 8, &mut page).unwrap();
    assert_eq!((page.families[0].unit.as_str(), page.families[0].help.as_str()), ("s", "h"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_bytes_are_the_same_in_pieces(
        body in proptest::collection::vec(any::<u8>(), 0..300),
        sizes in proptest::collection::vec(1usize..40, 0..30),
    ) {
        check_pieces(&body, &sizes);
    }

    #[test]
    fn a_page_is_the_same_in_pieces(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        keeps in any::<bool>(),
        sizes in proptest::collection::vec(1usize..60, 0..60),
    ) {
        let mut body = whole_page();
        for (at, byte) in edits {
            let n = body.len();
            body[at.index(n)] = byte;
        }
        if !keeps {
            body.truncate(cut.index(body.len()));
        }
        check_pieces(&body, &sizes);
    }

    #[test]
    fn any_bytes_are_a_page_or_an_error(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut page = FlatPage::default();
        let _ = read(&body, Wishes { native: true, always_classic: true }, &mut page);
    }

    #[test]
    fn a_damaged_page_is_a_page_or_an_error(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        keeps in any::<bool>(),
    ) {
        let mut body = whole_page();
        for (at, byte) in edits {
            let n = body.len();
            body[at.index(n)] = byte;
        }
        if !keeps {
            body.truncate(cut.index(body.len()));
        }
        let mut page = FlatPage::default();
        if read(&body, Wishes { native: true, always_classic: true }, &mut page).is_ok() {
            crate::nhcb::convert(&mut page, true);
            crate::gather::take_created(&mut page);
            let (mut cache, mut reader) = (FlatCache::default(), FlatReader::default());
            reader.read(&mut cache, &mut page);
            for line in cache.series() {
                let _ = key::decode(line.key, line.kind);
            }
        }
    }
}
