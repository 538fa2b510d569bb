//! Groups and side buffers as bytes, for checkpoints: what a head holds, as it lies.
//!
//! ```text
//! group  | source u64 | part u32 | seal at u32 | last time i64 | slots u32 | { series u32 } | { base value u64 }
//!        | slot times u32 | { time i64 } | open words u32 | { word u64 } | windows u32 | { window } |
//! window | first time i64 | last time i64 | rows u16 | slots u16 | is wide u8 | offsets at u32 | length u32 | bytes |
//! side   | series u32 | floats u32 | has starts u8 | { time i64 } | { value u64 } | { start i64 }
//!        | histograms u32 | { time i64 | start i64 | histogram } |
//! exemplar | series u32 | time i64 | value u64 | length u32 | packed labels |
//! ```
//!
//! A series is its number in the file's tables, `u32::MAX` for none.

use std::sync::Arc;

use codec::Error as Malformed;
use codec::varint::{self, Reader};
use model::histogram::{CounterResetHint, FloatHistogram, Span};
use model::{Labels, SeriesId, Timestamp};

use crate::shard::exemplars::Exemplar;
use crate::shard::head::group::{GROUP_SLOTS_MAX, Group, SEALED_ROWS_MAX};
use crate::shard::head::row::RowLog;
use crate::shard::head::side::SideBuffer;
use crate::shard::head::window::{SLACK_BYTES, Window};
use crate::shard::record::SourceId;
use crate::shard::select::HistogramPoint;

/// The number of no series.
pub(in crate::shard) const NO_SERIES: u32 = u32::MAX;

fn put_u32(v: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(v as u32).to_le_bytes());
}

fn put_u64s(vs: impl Iterator<Item = u64>, out: &mut Vec<u8>) {
    vs.for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
}

fn u32_of(r: &mut Reader<'_>) -> Result<u32, Malformed> {
    let b = r.take(4)?;
    Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn u16_of(r: &mut Reader<'_>) -> Result<u16, Malformed> {
    let b = r.take(2)?;
    Ok(u16::from_le_bytes([b[0], b[1]]))
}

fn i64_of(r: &mut Reader<'_>) -> Result<i64, Malformed> {
    Ok(r.u64_le()? as i64)
}

fn u64s_of<'a>(r: &mut Reader<'a>, count: usize) -> Result<impl Iterator<Item = u64> + use<'a>, Malformed> {
    let bytes = r.take(count.checked_mul(8).ok_or(Malformed::Corrupt("count"))?)?;
    Ok(bytes.chunks_exact(8).map(|b| u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])))
}

pub(in crate::shard) fn encode_group(
    key: (SourceId, u32),
    group: &Group,
    mut number: impl FnMut(SeriesId) -> u32,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(&key.0.0.to_le_bytes());
    put_u32(key.1 as usize, out);
    put_u32(group.seal_at as usize, out);
    out.extend_from_slice(&group.last_time().to_le_bytes());
    put_u32(group.slot_count(), out);
    for series in &group.series {
        put_u32(series.map_or(NO_SERIES, &mut number) as usize, out);
    }
    put_u64s(group.bases().map(f64::to_bits), out);
    put_u32(group.slot_times().len(), out);
    put_u64s(group.slot_times().iter().map(|t| *t as u64), out);
    put_u32(group.open.word_count(), out);
    put_u64s(group.open.words(), out);
    put_u32(group.sealed.len(), out);
    for window in &group.sealed {
        encode_window(window, out);
    }
}

pub(in crate::shard) fn encode_window(w: &Window, out: &mut Vec<u8>) {
    out.extend_from_slice(&w.first_time.to_le_bytes());
    out.extend_from_slice(&w.last_time.to_le_bytes());
    out.extend_from_slice(&w.row_count.to_le_bytes());
    out.extend_from_slice(&w.slot_count.to_le_bytes());
    out.push(u8::from(w.is_wide));
    put_u32(w.offsets_at as usize, out);
    let bytes = &w.bytes[..w.bytes.len() - SLACK_BYTES];
    put_u32(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Reads a group back. `series` knows the file's numbers.
pub(in crate::shard) fn decode_group(
    r: &mut Reader<'_>,
    series: impl Fn(u32) -> Option<SeriesId>,
) -> Result<((SourceId, u32), Group), Malformed> {
    let key = (SourceId(r.u64_le()?), u32_of(r)?);
    let seal_at = u32_of(r)?;
    let last_time = i64_of(r)?;
    let slot_count = u32_of(r)?;
    if slot_count > GROUP_SLOTS_MAX {
        return Err(Malformed::Corrupt("slots of a group"));
    }
    let slots = (0..slot_count).map(|_| Ok(series(u32_of(r)?))).collect::<Result<Vec<_>, Malformed>>()?;
    let base: Vec<f64> = u64s_of(r, slot_count as usize)?.map(f64::from_bits).collect();
    let time_count = u32_of(r)?;
    if time_count > slot_count {
        return Err(Malformed::Corrupt("times of a group's slots"));
    }
    let slot_times = u64s_of(r, time_count as usize)?.map(|t| t as i64).collect();
    let word_count = u32_of(r)? as usize;
    let words: Vec<u64> = u64s_of(r, word_count)?.collect();
    let open = RowLog::from_words(words, slot_count as usize).ok_or(Malformed::Corrupt("open rows"))?;
    let sealed =
        (0..u32_of(r)?).map(|_| decode_window(r, SEALED_ROWS_MAX)).collect::<Result<Vec<_>, Malformed>>()?;
    let in_order = sealed.is_sorted_by(|a, b| a.last_time < b.first_time);
    let first_open = open.iter().next().map_or(Timestamp::MAX, |row| row.time);
    if !in_order || sealed.last().is_some_and(|w| w.last_time >= first_open) {
        return Err(Malformed::Corrupt("order of a group's rows"));
    }
    if open.row_count() as usize > SEALED_ROWS_MAX {
        return Err(Malformed::Corrupt("number of open rows"));
    }
    Ok((key, Group::restored(slots, base, open, sealed, last_time, slot_times, seal_at)))
}

/// Reads a window of at most `rows_max` rows back, its structure checked so that no reader leaves its bytes.
pub(in crate::shard) fn decode_window(r: &mut Reader<'_>, rows_max: usize) -> Result<Window, Malformed> {
    let (first_time, last_time) = (i64_of(r)?, i64_of(r)?);
    let (row_count, slot_count) = (u16_of(r)?, u16_of(r)?);
    let is_wide = r.u8()? != 0;
    let offsets_at = u32_of(r)?;
    let length = u32_of(r)? as usize;
    let bytes = r.take(length)?;
    let mut owned = Vec::with_capacity(length + SLACK_BYTES);
    owned.extend_from_slice(bytes);
    owned.resize(length + SLACK_BYTES, 0);
    let bytes = owned.into_boxed_slice();
    let presence_at = offsets_at;
    let mut w =
        Window { first_time, last_time, row_count, slot_count, is_wide, presence_at, offsets_at, bytes };
    if w.row_count() == 0 || w.row_count() > rows_max || u32::from(slot_count) > GROUP_SLOTS_MAX {
        return Err(Malformed::Corrupt("size of a window"));
    }
    w.check()?;
    Ok(w)
}

pub(in crate::shard) fn encode_side(series: u32, side: &SideBuffer, out: &mut Vec<u8>) {
    put_u32(series as usize, out);
    put_u32(side.times.len(), out);
    out.push(u8::from(!side.starts.is_empty()));
    put_u64s(side.times.iter().map(|t| *t as u64), out);
    put_u64s(side.values.iter().map(|v| v.to_bits()), out);
    put_u64s(side.starts.iter().map(|t| *t as u64), out);
    put_u32(side.histograms.len(), out);
    for h in &side.histograms {
        put_u64s([h.time as u64, h.start as u64].into_iter(), out);
        encode_histogram(&h.histogram, out);
    }
}

pub(in crate::shard) fn decode_side(r: &mut Reader<'_>) -> Result<(u32, SideBuffer), Malformed> {
    let series = u32_of(r)?;
    let float_count = u32_of(r)? as usize;
    let has_starts = r.u8()? != 0;
    let times: Vec<Timestamp> = u64s_of(r, float_count)?.map(|t| t as i64).collect();
    let values = u64s_of(r, float_count)?.map(f64::from_bits).collect();
    let starts = u64s_of(r, if has_starts { float_count } else { 0 })?.map(|t| t as i64).collect();
    if !times.is_sorted() {
        return Err(Malformed::Corrupt("times of a side buffer"));
    }
    let mut histograms = Vec::new();
    for _ in 0..u32_of(r)? {
        let (time, start) = (i64_of(r)?, i64_of(r)?);
        histograms.push(HistogramPoint { time, start, histogram: Arc::new(decode_histogram(r)?) });
    }
    Ok((series, SideBuffer { times, values, starts, histograms }))
}

pub(in crate::shard) fn encode_exemplar(series: u32, exemplar: &Exemplar, out: &mut Vec<u8>) {
    put_u32(series as usize, out);
    put_u64s([exemplar.time as u64, exemplar.value.to_bits()].into_iter(), out);
    put_u32(exemplar.labels.bytes().len(), out);
    out.extend_from_slice(exemplar.labels.bytes());
}

pub(in crate::shard) fn decode_exemplar(r: &mut Reader<'_>) -> Result<(u32, Exemplar), Malformed> {
    let (series, time, value) = (u32_of(r)?, i64_of(r)?, f64::from_bits(r.u64_le()?));
    let length = u32_of(r)? as usize;
    let labels = Labels::from_bytes(r.take(length)?).ok_or(Malformed::Corrupt("labels"))?;
    Ok((series, Exemplar { labels, time, value }))
}

pub(in crate::shard) fn encode_histogram(h: &FloatHistogram, out: &mut Vec<u8>) {
    out.push(h.counter_reset_hint as u8);
    varint::write_signed(i64::from(h.schema), out);
    put_u64s([h.zero_threshold, h.zero_count, h.count, h.sum].iter().map(|v| v.to_bits()), out);
    for (spans, buckets) in
        [(&h.positive_spans, &h.positive_buckets), (&h.negative_spans, &h.negative_buckets)]
    {
        varint::write(spans.len() as u64, out);
        for s in spans {
            varint::write_signed(i64::from(s.offset), out);
            varint::write(u64::from(s.length), out);
        }
        varint::write(buckets.len() as u64, out);
        put_u64s(buckets.iter().map(|v| v.to_bits()), out);
    }
    varint::write(h.custom_values.len() as u64, out);
    put_u64s(h.custom_values.iter().map(|v| v.to_bits()), out);
}

pub(in crate::shard) fn decode_histogram(r: &mut Reader<'_>) -> Result<FloatHistogram, Malformed> {
    let counter_reset_hint = match r.u8()? {
        0 => CounterResetHint::Unknown,
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        3 => CounterResetHint::Gauge,
        _ => return Err(Malformed::Corrupt("counter reset hint")),
    };
    let narrow = |_| Malformed::Corrupt("a number of a histogram");
    let schema = i32::try_from(r.varint_signed()?).map_err(narrow)?;
    let mut float = || r.u64_le().map(f64::from_bits);
    let (zero_threshold, zero_count, count, sum) = (float()?, float()?, float()?, float()?);
    let mut side = || -> Result<(Vec<Span>, Vec<f64>), Malformed> {
        let mut spans = Vec::new();
        for _ in 0..r.varint()? {
            let offset = i32::try_from(r.varint_signed()?).map_err(narrow)?;
            spans.push(Span { offset, length: u32::try_from(r.varint()?).map_err(narrow)? });
        }
        let bucket_count = r.varint_usize()?;
        Ok((spans, u64s_of(r, bucket_count)?.map(f64::from_bits).collect()))
    };
    let (positive_spans, positive_buckets) = side()?;
    let (negative_spans, negative_buckets) = side()?;
    let custom_count = r.varint_usize()?;
    let custom_values = u64s_of(r, custom_count)?.map(f64::from_bits).collect();
    Ok(FloatHistogram {
        counter_reset_hint,
        schema,
        zero_threshold,
        zero_count,
        count,
        sum,
        positive_spans,
        positive_buckets,
        negative_spans,
        negative_buckets,
        custom_values,
    })
}
