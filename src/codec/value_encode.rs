//! Finds the integers in a column of doubles and writes the value chunk.

use crate::arch::{EXPONENT_MAX, POWERS_OF_TEN};
use crate::column_encode::{self, Tier};
use crate::value::{Domain, EXCEPTIONS, REPEAT, SPECIAL_RAW, SPECIALS, ordered};
use crate::varint;

/// Largest magnitude at which every integer is a double.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;
/// Values looked at before the whole column is: enough to know decimals from doubles.
const PROBE: usize = 16;
/// A decimal chunk may have one misfit in so many values; with more, another domain is tried.
const MISFIT_SHARE: usize = 8;
/// A sum of decimals is expected this many ulps from the decimal it meant.
const ULPS_MAX: u64 = 32;
/// Exponents from here on hold about as many bits as the double itself.
const EXPONENT_DOUBTFUL: usize = 13;

/// Writes value chunks; keeps its scratch memory from call to call.
#[derive(Debug, Default)]
pub struct Encoder {
    column: column_encode::Encoder,
    integers: Vec<i64>,
    ulps: Vec<i64>,
    exceptions: Vec<(usize, u64)>,
    trial: Vec<u8>,
    second: Vec<u8>,
}

impl Encoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the chunk of `values`.
    pub fn encode(&mut self, values: &[f64], tier: Tier, out: &mut Vec<u8>) {
        let Some(&first) = values.first() else {
            out.extend_from_slice(&[Domain::Const8 as u8, 0, 0, 0, 0, 0, 0, 0, 0]);
            return;
        };
        if values.iter().all(|v| v.to_bits() == first.to_bits()) {
            return self.encode_constant(first, out);
        }
        let exponent = probe_exponent(values);
        if let Some(exponent) = exponent
            && self.try_decimal(values, exponent, tier, out)
        {
            return;
        }
        self.encode_doubles(values, tier, out);
    }

    fn encode_constant(&mut self, value: f64, out: &mut Vec<u8>) {
        if let Some(exponent) = exponent_of(value, 0) {
            let integer = integer_of(value, exponent).unwrap_or(0);
            if varint::encoded_bytes(varint::zigzag(integer)) < 7 {
                out.push(head(Domain::Decimal, exponent, false));
                self.column.encode(&[integer], Tier::Fast, out);
                return;
            }
        }
        out.push(head(Domain::Const8, 0, false));
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }

    /// Encodes as decimals if few enough values are misfits.
    fn try_decimal(&mut self, values: &[f64], exponent: usize, tier: Tier, out: &mut Vec<u8>) -> bool {
        let Some(exponent) = self.fill_decimals(values, exponent) else { return false };
        let misfits = self.exceptions.iter().any(|(_, bits)| !is_special(f64::from_bits(*bits)));
        let doubtful = misfits || exponent >= EXPONENT_DOUBTFUL && tier > Tier::Fast;
        if !doubtful {
            self.write_decimals(exponent, tier, out);
            return true;
        }
        let mut trial = std::mem::take(&mut self.trial);
        trial.clear();
        self.write_decimals(exponent, tier, &mut trial);
        let start = out.len();
        self.encode_doubles(values, tier, out);
        if trial.len() <= out.len() - start {
            out.truncate(start);
            out.extend_from_slice(&trial);
        }
        self.trial = trial;
        true
    }

    fn write_decimals(&mut self, exponent: usize, tier: Tier, out: &mut Vec<u8>) {
        out.push(head(Domain::Decimal, exponent, !self.exceptions.is_empty()));
        self.write_exceptions(out);
        self.column.encode(&self.integers, tier, out);
    }

    /// Fills `integers` and `exceptions`; raises the exponent where a value needs it. `None` when
    /// the column is not one of decimals.
    fn fill_decimals(&mut self, values: &[f64], mut exponent: usize) -> Option<usize> {
        let misfits_max = values.len() / MISFIT_SHARE + 1;
        // Raising multiplies the integers already found: begin again, at most once an exponent.
        'again: loop {
            self.integers.clear();
            self.exceptions.clear();
            let mut misfits = 0;
            let mut last = None;
            for (idx, &value) in values.iter().enumerate() {
                if let Some(integer) = integer_of(value, exponent) {
                    last = Some(integer);
                    self.integers.push(integer);
                    continue;
                }
                if !is_special(value) {
                    if let Some(higher) = exponent_of(value, exponent + 1)
                        && higher < EXPONENT_DOUBTFUL
                    {
                        exponent = higher;
                        continue 'again;
                    }
                    misfits += 1;
                    if misfits > misfits_max {
                        return None;
                    }
                }
                self.exceptions.push((idx, value.to_bits()));
                self.integers.push(last.unwrap_or(i64::MIN));
            }
            self.fill_leading(last);
            return Some(exponent);
        }
    }

    /// Exceptions ahead of the first integer take its value, so that the column sees no jump.
    fn fill_leading(&mut self, last: Option<i64>) {
        let first = self.integers.iter().copied().find(|i| *i != i64::MIN);
        let filler = first.or(last).unwrap_or(0);
        for integer in self.integers.iter_mut().take_while(|i| **i == i64::MIN) {
            *integer = filler;
        }
    }

    /// Decimal and ulps, or the order of doubles, whichever is smaller.
    fn encode_doubles(&mut self, values: &[f64], tier: Tier, out: &mut Vec<u8>) {
        let start = out.len();
        self.write_ordered(values, tier, out);
        if tier == Tier::Fast && out.len() - start <= values.len() {
            return;
        }
        let Some(exponent) = probe_sum(values) else { return };
        let mut second = std::mem::take(&mut self.second);
        second.clear();
        if self.write_sums(values, exponent, tier, &mut second) && second.len() < out.len() - start {
            out.truncate(start);
            out.extend_from_slice(&second);
        }
        self.second = second;
    }

    fn write_ordered(&mut self, values: &[f64], tier: Tier, out: &mut Vec<u8>) {
        self.integers.clear();
        self.exceptions.clear();
        let mut last = None;
        for (idx, &value) in values.iter().enumerate() {
            if is_special(value) {
                self.exceptions.push((idx, value.to_bits()));
                self.integers.push(last.unwrap_or(i64::MIN));
            } else {
                last = Some(ordered(value));
                self.integers.push(ordered(value));
            }
        }
        self.fill_leading(last);
        out.push(head(Domain::Ordered, 0, !self.exceptions.is_empty()));
        self.write_exceptions(out);
        self.column.encode(&self.integers, tier, out);
    }

    fn write_sums(&mut self, values: &[f64], exponent: usize, tier: Tier, out: &mut Vec<u8>) -> bool {
        self.integers.clear();
        self.ulps.clear();
        self.exceptions.clear();
        let misfits_max = values.len() / MISFIT_SHARE + 1;
        let mut last = None;
        for (idx, &value) in values.iter().enumerate() {
            match near_decimal(value, exponent) {
                Some((integer, ulps)) => {
                    last = Some(integer);
                    self.integers.push(integer);
                    self.ulps.push(ulps);
                }
                None => {
                    self.exceptions.push((idx, value.to_bits()));
                    self.integers.push(last.unwrap_or(i64::MIN));
                    self.ulps.push(0);
                }
            }
        }
        let misfits = self.exceptions.iter().filter(|(_, bits)| !is_special(f64::from_bits(*bits))).count();
        if misfits > misfits_max {
            return false;
        }
        self.fill_leading(last);
        out.push(head(Domain::DecimalUlp, exponent, !self.exceptions.is_empty()));
        self.write_exceptions(out);
        self.column.encode(&self.integers, tier, out);
        self.column.encode(&self.ulps, tier, out);
        true
    }

    fn write_exceptions(&self, out: &mut Vec<u8>) {
        if self.exceptions.is_empty() {
            return;
        }
        varint::write(self.exceptions.len() as u64, out);
        let mut floor = 0;
        let mut rest = &self.exceptions[..];
        while let Some(&(position, bits)) = rest.first() {
            // A run: the same bits at one position after another.
            let run = rest.iter().zip(position..).take_while(|(e, at)| **e == (*at, bits)).count();
            let gap = ((position - floor) as u64) << 3;
            let code = SPECIALS.iter().position(|special| *special == bits);
            varint::write(gap | code.map_or(SPECIAL_RAW, |code| code as u64), out);
            if code.is_none() {
                out.extend_from_slice(&bits.to_le_bytes());
            }
            if run > 1 {
                varint::write(((run - 1) as u64) << 3 | REPEAT, out);
            }
            floor = position + run;
            rest = &rest[run..];
        }
    }
}

fn head(domain: Domain, exponent: usize, exceptions: bool) -> u8 {
    domain as u8 | if exceptions { EXCEPTIONS } else { 0 } | (exponent as u8) << 3
}

/// Values that no integer stands for.
#[inline]
fn is_special(value: f64) -> bool {
    !value.is_finite() || value.to_bits() == (-0.0f64).to_bits()
}

/// n with n / 10^exponent = value to the bit.
#[inline]
fn integer_of(value: f64, exponent: usize) -> Option<i64> {
    let scaled = value * POWERS_OF_TEN[exponent];
    if scaled.is_nan() || scaled.abs() > INTEGER_MAX {
        return None;
    }
    let integer = round(scaled);
    ((integer as f64 / POWERS_OF_TEN[exponent]).to_bits() == value.to_bits()).then_some(integer)
}

/// The integer nearest to `scaled`, |scaled| <= 2^53. Ties may go either way: the caller checks.
#[inline]
fn round(scaled: f64) -> i64 {
    (scaled + 0.5f64.copysign(scaled)) as i64
}

/// The least exponent from `from` on with which `value` is a decimal.
fn exponent_of(value: f64, from: usize) -> Option<usize> {
    (from..=usize::from(EXPONENT_MAX)).find(|&e| integer_of(value, e).is_some())
}

/// The exponent that most of a few values need; `None` when they are no decimals.
fn probe_exponent(values: &[f64]) -> Option<usize> {
    let stride = values.len().div_ceil(PROBE);
    let mut exponent = 0;
    let (mut decimals, mut misfits) = (0, 0);
    for &value in values.iter().step_by(stride).filter(|v| !is_special(**v)) {
        if integer_of(value, exponent).is_some() {
            decimals += 1;
            continue;
        }
        match exponent_of(value, exponent + 1) {
            Some(higher) if higher < EXPONENT_DOUBTFUL => {
                exponent = higher;
                decimals += 1;
            }
            _ => misfits += 1,
        }
        if misfits > decimals + 4 {
            return None;
        }
    }
    (misfits <= decimals / 4).then_some(exponent)
}

/// The decimal near `value` and the way from it in ulps, if it is short.
#[inline]
fn near_decimal(value: f64, exponent: usize) -> Option<(i64, i64)> {
    let scaled = value * POWERS_OF_TEN[exponent];
    if scaled.is_nan() || scaled.abs() > INTEGER_MAX {
        return None;
    }
    let integer = round(scaled);
    let near = integer as f64 / POWERS_OF_TEN[exponent];
    let ulps = ordered(value).wrapping_sub(ordered(near));
    (ulps.unsigned_abs() <= ULPS_MAX).then_some((integer, ulps))
}

/// The exponent of the decimals whose sums the values may be.
fn probe_sum(values: &[f64]) -> Option<usize> {
    let stride = values.len().div_ceil(PROBE);
    let mut exponent = 0;
    let (mut near, mut misfits) = (0, 0);
    for &value in values.iter().step_by(stride).filter(|v| !is_special(**v)) {
        match (exponent..EXPONENT_DOUBTFUL).find(|&e| near_decimal(value, e).is_some()) {
            Some(higher) => {
                exponent = higher;
                near += 1;
            }
            None => misfits += 1,
        }
    }
    (misfits <= near / 4 && near > 0).then_some(exponent)
}
