//! Native histograms on their way from a page to the row's side: what the job's limits make of them.

use std::ops::Range;
use std::sync::LazyLock;

use exposition::histogram_message;
use exposition::remote_histogram::{Counts, HistogramSample};
use model::STALE_NAN;
use model::histogram::{FloatHistogram, Histogram, HistogramError, SCHEMA_MAX, SCHEMA_MIN};

use crate::config::ScrapeConfig;
use crate::scrape::Error;

/// The growth of a bucket of the finest schema that is kept.
const FACTOR_MIN: f64 = 1.00271;

/// A histogram of the page, ready for the log.
pub struct Message {
    pub slot: u32,
    pub timestamp: Option<i64>,
    pub bytes: Range<usize>,
    /// The histogram that its counter began with, where that is to be written.
    pub zero: Option<Range<usize>>,
}

/// The histogram that ends a series of histograms.
pub fn stale_message() -> &'static [u8] {
    static STALE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut out = Vec::new();
        let stale = Histogram { sum: STALE_NAN, ..Histogram::default() };
        histogram_message::push(&mut out, &Counts::Integer(stale));
        out
    });
    &STALE
}

/// Writes a histogram as the job wants it; a coarser one where it has more buckets than are allowed.
pub fn write(config: &ScrapeConfig, counts: &Counts, out: &mut Vec<u8>) -> Result<Range<usize>, Error> {
    let sample = HistogramSample { time: 0, counts: counts.clone() };
    sample.accepted().map_err(|e| Error::Page(e.to_string()))?;
    let limited = limited(config, counts)?;
    let from = out.len();
    histogram_message::push(out, limited.as_ref().unwrap_or(counts));
    Ok(from..out.len())
}

/// Writes the histogram without observations that `counts` grew from.
pub fn write_zero(counts: &Counts, out: &mut Vec<u8>) -> Range<usize> {
    let zero = match counts {
        Counts::Integer(h) => Counts::Integer(Histogram {
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            custom_values: h.custom_values.clone(),
            ..Histogram::default()
        }),
        Counts::Float(h) => Counts::Float(FloatHistogram {
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            custom_values: h.custom_values.clone(),
            ..FloatHistogram::default()
        }),
    };
    let from = out.len();
    histogram_message::push(out, &zero);
    from..out.len()
}

/// `None` where nothing had to be done.
fn limited(config: &ScrapeConfig, counts: &Counts) -> Result<Option<Counts>, Error> {
    let mut out: Option<Counts> = None;
    let is_exponential = |c: &Counts| !uses_custom_buckets(c);
    let schema_max = schema_for(config.native_histograms.min_bucket_factor);
    if is_exponential(counts) && schema(counts) > schema_max {
        out = Some(reduced(counts, schema_max)?);
    }
    let limit = config.limits.native_histogram_buckets;
    if limit == 0 {
        return Ok(out);
    }
    loop {
        let now = out.as_ref().unwrap_or(counts);
        if bucket_count(now) <= limit {
            return Ok(out);
        }
        if !is_exponential(now) || schema(now) <= SCHEMA_MIN {
            return Err(Error::BucketLimit);
        }
        out = Some(reduced(now, schema(now) - 1)?);
    }
}

/// The finest schema whose buckets grow by `factor` at least.
fn schema_for(factor: f64) -> i32 {
    let factor = if factor <= 1.0 { FACTOR_MIN } else { factor };
    let schema = (-model::math::log2(model::math::log2(factor))).floor();
    (schema as i32).clamp(SCHEMA_MIN, SCHEMA_MAX)
}

fn schema(counts: &Counts) -> i32 {
    match counts {
        Counts::Integer(h) => h.schema,
        Counts::Float(h) => h.schema,
    }
}

fn uses_custom_buckets(counts: &Counts) -> bool {
    match counts {
        Counts::Integer(h) => h.uses_custom_buckets(),
        Counts::Float(h) => h.uses_custom_buckets(),
    }
}

fn bucket_count(counts: &Counts) -> u64 {
    let count = match counts {
        Counts::Integer(h) => h.positive_deltas.len() + h.negative_deltas.len(),
        Counts::Float(h) => h.positive_buckets.len() + h.negative_buckets.len(),
    };
    count as u64
}

fn reduced(counts: &Counts, schema: i32) -> Result<Counts, Error> {
    let failed = |e: HistogramError| Error::Page(e.to_string());
    Ok(match counts.clone() {
        Counts::Integer(mut h) => {
            h.reduce_resolution(schema).map_err(failed)?;
            Counts::Integer(h)
        }
        Counts::Float(mut h) => {
            h.reduce_resolution(schema).map_err(failed)?;
            Counts::Float(h)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::target::tests::config;
    use exposition::remote_histogram;
    use model::histogram::Span;

    fn histogram(schema: i32, buckets: u32) -> Counts {
        Counts::Integer(Histogram {
            schema,
            count: u64::from(buckets),
            positive_spans: vec![Span { offset: 0, length: buckets }],
            positive_deltas: std::iter::once(1).chain(std::iter::repeat_n(0, buckets as usize - 1)).collect(),
            custom_values: if schema == -53 { vec![1.0; buckets as usize - 1] } else { vec![] },
            ..Histogram::default()
        })
    }

    #[test]
    fn factors_are_the_schemas_that_grow_by_them() {
        for (factor, want) in
            [(0.0, 8), (1.0, 8), (1.00271, 8), (1.003, 7), (1.1, 2), (2.0, 0), (4.0, -1), (1e30, -4)]
        {
            assert_eq!(schema_for(factor), want, "{factor}");
        }
    }

    #[test]
    fn too_many_buckets_are_merged_or_refused() {
        let mut c = config();
        let mut check = |limit, factor, counts: Counts, want: Result<(i32, u64), Error>| {
            c.limits.native_histogram_buckets = limit;
            c.native_histograms.min_bucket_factor = factor;
            let mut out = Vec::new();
            let have = write(&c, &counts, &mut out).map(|range| {
                let read = remote_histogram::read(&out[range]).unwrap().counts;
                (schema(&read), bucket_count(&read))
            });
            assert_eq!(have, want);
        };
        check(0, 0.0, histogram(3, 64), Ok((3, 64)));
        check(0, 2.0, histogram(3, 64), Ok((0, 9)));
        check(20, 0.0, histogram(3, 64), Ok((1, 17)));
        check(1, 0.0, histogram(3, 64), Err(Error::BucketLimit));
    }

    #[test]
    fn the_stale_histogram_is_one_that_is_taken() {
        let read = remote_histogram::read(stale_message()).unwrap();
        assert!(read.accepted().unwrap().is_stale());
    }
}
