//! The second form of sample records: differences to the sample before, and start times.
//!
//! The first sample is written as it is; of the others the series differs from the one before, the time from the
//! first one's, and a byte says whether there is a start time: 0 none, 1 the same as before, 2 another one.

use crate::Error;
use crate::bytes::Reader;
use crate::record::SeriesSample;
use crate::sample::{Sample, Value};

const NO_START: u8 = 0;
const SAME_START: u8 = 1;
const OWN_START: u8 = 2;

pub(crate) fn read_samples(
    reader: &mut Reader<'_>,
    value: impl Fn(&mut Reader<'_>) -> Result<Value, Error>,
) -> Result<Vec<SeriesSample>, Error> {
    let mut all: Vec<SeriesSample> = Vec::new();
    while !reader.is_done() {
        let sample = match (all.first(), all.last()) {
            (Some(first), Some(last)) => {
                let series = last.series.wrapping_add_signed(reader.varint_signed()?);
                let time = first.sample.time.wrapping_add(reader.varint_signed()?);
                let start = match reader.u8()? {
                    NO_START => 0,
                    SAME_START => last.sample.start,
                    OWN_START => first.sample.start.wrapping_add(reader.varint_signed()?),
                    _ => return Err(reader.corrupt("an unknown mark of a start time")),
                };
                SeriesSample { series, sample: Sample { time, start, value: value(reader)? } }
            }
            _ => {
                let (series, time) = (reader.varint_signed()? as u64, reader.varint_signed()?);
                let start = reader.varint_signed()?;
                SeriesSample { series, sample: Sample { time, start, value: value(reader)? } }
            }
        };
        all.push(sample);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use crate::record::{Record, read};
    use codec::varint::write_signed;

    #[test]
    fn differences_and_start_times_are_read() {
        let mut bytes = vec![11];
        let float = |v: f64, out: &mut Vec<u8>| out.extend_from_slice(&v.to_bits().to_be_bytes());
        [5, 1000, 900].iter().for_each(|n| write_signed(*n, &mut bytes));
        float(1.0, &mut bytes);
        for (series, time, mark, start) in [(1, 10, 1, 0), (-2, 20, 2, 50), (1, 30, 0, 0)] {
            write_signed(series, &mut bytes);
            write_signed(time, &mut bytes);
            bytes.push(mark);
            if mark == 2 {
                write_signed(start, &mut bytes);
            }
            float(2.0, &mut bytes);
        }
        let Ok(Record::Samples(all)) = read(&bytes, 0) else { panic!("samples") };
        let have: Vec<(u64, i64, i64)> =
            all.iter().map(|s| (s.series, s.sample.time, s.sample.start)).collect();
        assert_eq!(have, [(5, 1000, 900), (6, 1010, 900), (4, 1020, 950), (5, 1030, 0)]);
    }
}
