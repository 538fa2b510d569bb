//! `tsdb analyze --extended`: how full a block's chunks are.

use std::io::Write;

use model::Matcher;
use prometheus_tsdb::index::Series;

use crate::exchange::Error;
use crate::exchange::block::Block;

/// Steps of a diagram: tens of this ...
const STEP_MIN: usize = 10;
/// ... up to the first that is larger.
const STEP_LIMIT: usize = 10_000;

#[derive(Default)]
struct Sizes {
    chunk_count: usize,
    float_samples: Vec<usize>,
    float_bytes: Vec<usize>,
    histogram_samples: Vec<usize>,
    histogram_bytes: Vec<usize>,
    histogram_buckets: Vec<usize>,
}

pub(in crate::exchange) fn print(
    block: &Block,
    matchers: &[Matcher],
    out: &mut dyn Write,
) -> Result<(), Error> {
    let sizes = read(block, matchers)?;
    writeln!(out, "\nCompaction analysis:\n")?;
    for (title, values) in [
        ("samples per float chunk", sizes.float_samples),
        ("bytes per float chunk", sizes.float_bytes),
        ("samples per histogram chunk", sizes.histogram_samples),
        ("bytes per histogram chunk", sizes.histogram_bytes),
        ("buckets per histogram chunk", sizes.histogram_buckets),
    ] {
        out.write_all(diagram(title, values, sizes.chunk_count).as_bytes())?;
    }
    Ok(())
}

fn read(block: &Block, matchers: &[Matcher]) -> Result<Sizes, Error> {
    let (mut sizes, mut series, mut scratch) = (Sizes::default(), Series::default(), Vec::new());
    for reference in block.index.all_series().map_err(block.index_error())? {
        block.index.read_series(reference, &mut series).map_err(block.index_error())?;
        if !matchers.iter().all(|m| m.matches(series.labels.value_or_empty(&m.name))) {
            continue;
        }
        for meta in &series.chunks {
            block.with_chunk(meta.reference, &mut scratch, |chunk| {
                let (samples, bytes) = (chunk.sample_count()?, chunk.data.len());
                if chunk.encoding.is_float() {
                    sizes.float_samples.push(samples);
                    sizes.float_bytes.push(bytes);
                } else {
                    sizes.histogram_samples.push(samples);
                    sizes.histogram_bytes.push(bytes);
                    sizes.histogram_buckets.push(chunk.bucket_count()?);
                }
                sizes.chunk_count += 1;
                Ok(())
            })?;
        }
    }
    Ok(sizes)
}

/// Counts by tens or more, with a bar of hashes for the percentage of all chunks.
fn diagram(title: &str, mut values: Vec<usize>, chunk_count: usize) -> String {
    values.sort_unstable();
    let (Some(&min), Some(&max)) = (values.first(), values.last()) else {
        return format!("{title}: N/A\n\n");
    };
    let mut step = STEP_MIN;
    while step < (max - min) / 10 && step <= STEP_LIMIT {
        step *= 10;
    }
    let (start, end) = (min - min % step, max - max % step + step);
    let mut buckets = vec![0usize; (end - start) / step + 1];
    values.iter().for_each(|v| buckets[(v - start) / step] += 1);
    let mean = values.iter().sum::<usize>() / values.len();
    let digits = |n: usize| n.to_string().len();
    let most = buckets.iter().copied().max().unwrap_or(0);
    let (left, right, width) = (digits(end), digits(end + step), digits(most));
    let mut out = format!("{title} (min/avg/max): {min}/{mean}/{max}\n");
    for (i, count) in buckets.iter().enumerate() {
        let (from, to) = (i * step + start + 1, (i + 1) * step + start);
        let bar = "#".repeat(100 * count / chunk_count.max(1));
        out.push_str(&format!("[{from:left$}, {to:right$}]: {count:width$} {bar}\n"));
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagram_has_a_bucket_more_than_it_needs() {
        let bar = "#".repeat(100);
        let want = format!("x (min/avg/max): 1/1/1\n[ 1, 10]: 1 {bar}\n[11, 20]: 0 \n\n");
        assert_eq!(diagram("x", vec![1], 1), want);
        assert_eq!(diagram("x", Vec::new(), 1), "x: N/A\n\n");
    }
}
