//! Chooses and writes the transform of an integer column.
//!
//! Each transform leaves residuals; a residual column is a window [low, low + 2^width) after a
//! common shift, and what lies outside is patched. The costs of all candidates are computed in bits
//! before one byte is written.

use crate::bitpack;
use crate::column::{PATCHED, Transform, WIDTH_64};
use crate::varint::{self, encoded_bytes, zigzag};

/// How hard the encoder looks. Every tier writes the same format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// No patches, no second differences: for the seal in the path of an append.
    Fast,
    /// All transforms; patches only for the best of them.
    Mid,
    /// All transforms with patches: for blocks.
    Full,
}

/// Patches cut off one end of the residuals at most: a quarter of the values, and never more than
/// this, so that sorting the ends stays small beside packing the rest.
const CUT_MAX: usize = 64;

/// Writes integer columns; keeps its scratch memory from call to call.
#[derive(Debug, Default)]
pub struct Encoder {
    deltas: Vec<i64>,
    residuals: Vec<i64>,
    ends: Vec<i64>,
    packed: Vec<u64>,
    patches: Vec<(usize, i64)>,
    bitmap: Vec<u8>,
}

/// A transform with its parameters, and what it will cost.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    transform: Transform,
    window: Window,
    slope: i64,
    bits: usize,
}

/// The residuals that are packed: low, low + 2^shift, .. of `width` bits.
#[derive(Clone, Copy, Debug)]
struct Window {
    low: i64,
    high: i64,
    shift: u32,
    patch_count: usize,
    bits: usize,
}

impl Window {
    fn width(&self) -> u32 {
        bitpack::width_of(self.high.wrapping_sub(self.low) as u64 >> self.shift)
    }
}

/// Least, greatest, and the bits in which any differs from the first.
#[derive(Clone, Copy, Debug)]
struct Spread {
    low: i64,
    high: i64,
    shift: u32,
}

impl Spread {
    fn of(values: &[i64]) -> Self {
        let Some(&first) = values.first() else { return Self { low: 0, high: 0, shift: 0 } };
        let (mut low, mut high, mut differing) = (first, first, 0u64);
        for &value in values {
            low = low.min(value);
            high = high.max(value);
            // The lowest set bit of a difference is that of the exclusive or.
            differing |= (value ^ first) as u64;
        }
        let shift = if differing == 0 { 0 } else { differing.trailing_zeros() };
        Self { low, high, shift }
    }

    fn window(self, count: usize) -> Window {
        let Self { low, high, shift } = self;
        let mut window = Window { low, high, shift, patch_count: 0, bits: 0 };
        window.bits = count * window.width() as usize;
        window
    }
}

impl Encoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the column of `values`.
    pub fn encode(&mut self, values: &[i64], tier: Tier, out: &mut Vec<u8>) {
        let spread = Spread::of(values);
        if spread.low == spread.high {
            out.push(Transform::Const as u8);
            varint::write_signed(spread.low, out);
            return;
        }
        let best = self.choose(values, spread, tier);
        self.fill_residuals(values, best.transform, best.slope);
        self.write(values, best, out);
    }

    fn choose(&mut self, values: &[i64], spread: Spread, tier: Tier) -> Candidate {
        let count = values.len();
        self.deltas.clear();
        self.deltas.extend(values.windows(2).map(|w| w[1].wrapping_sub(w[0])));
        let delta_spread = Spread::of(&self.deltas);
        let slope = mean_slope(values, delta_spread);
        let mut best =
            Candidate { transform: Transform::For, window: spread.window(count), slope: 0, bits: 0 };
        best.bits = best.window.bits + 8 * encoded_bytes(zigzag(best.window.low));
        self.consider(values, Transform::Delta, slope, tier, &mut best);
        // A column of one slope costs two varints; nothing below can beat it.
        if delta_spread.low == delta_spread.high {
            self.consider(values, Transform::Lin, slope, tier, &mut best);
            return best;
        }
        self.consider(values, Transform::Sparse, slope, tier, &mut best);
        if tier > Tier::Fast {
            self.consider(values, Transform::Lin, slope, tier, &mut best);
            self.consider(values, Transform::Delta2, slope, tier, &mut best);
            if tier == Tier::Full {
                self.consider(values, Transform::For, slope, tier, &mut best);
            } else {
                let transform = best.transform;
                self.consider(values, transform, slope, Tier::Full, &mut best);
            }
        }
        best
    }

    fn consider(
        &mut self,
        values: &[i64],
        transform: Transform,
        slope: i64,
        tier: Tier,
        best: &mut Candidate,
    ) {
        self.fill_residuals(values, transform, slope);
        let mut window = Spread::of(&self.residuals).window(self.residuals.len());
        if tier == Tier::Full {
            self.patch(&mut window);
        }
        let mut bits = window.bits + 8 * encoded_bytes(zigzag(window.low));
        bits += match transform {
            Transform::Const | Transform::For => 0,
            Transform::Delta | Transform::Delta2 => 8 * encoded_bytes(zigzag(values[0])),
            Transform::Lin => 8 * encoded_bytes(zigzag(slope)),
            Transform::Sparse => 8 * (encoded_bytes(zigzag(values[0])) + values.len().div_ceil(8) + 1),
        };
        if bits < best.bits {
            *best = Candidate { transform, window, slope, bits };
        }
    }

    fn fill_residuals(&mut self, values: &[i64], transform: Transform, slope: i64) {
        let residuals = &mut self.residuals;
        residuals.clear();
        match transform {
            Transform::Const => {}
            Transform::For => residuals.extend_from_slice(values),
            Transform::Delta => residuals.extend_from_slice(&self.deltas),
            Transform::Sparse => residuals.extend(self.deltas.iter().filter(|d| **d != 0)),
            Transform::Delta2 => residuals.extend(self.deltas.windows(2).map(|w| w[1].wrapping_sub(w[0]))),
            Transform::Lin => {
                let mut line = 0i64;
                residuals.extend(values.iter().map(|value| {
                    let residual = value.wrapping_sub(line);
                    line = line.wrapping_add(slope);
                    residual
                }));
            }
        }
    }

    /// Narrows the window while the bits saved on all residuals exceed those of the patches.
    ///
    /// From both ends at once, always the end with the wider gap: a base at the minimum alone would
    /// be dragged down by one counter reset.
    fn patch(&mut self, window: &mut Window) {
        let count = self.residuals.len();
        let cut_max = (count / 4).min(CUT_MAX);
        if cut_max == 0 || window.width() < 2 {
            return;
        }
        self.ends.clear();
        self.ends.extend_from_slice(&self.residuals);
        let ends = &mut self.ends[..];
        // Sort only the ends: the middle is never cut.
        if count > 2 * cut_max + 2 {
            ends.select_nth_unstable(cut_max);
            ends[..cut_max].sort_unstable();
            ends[cut_max..].select_nth_unstable(count - 2 * cut_max - 1);
            ends[count - cut_max - 1..].sort_unstable();
        } else {
            ends.sort_unstable();
        }
        let (mut first, mut last) = (0, count - 1);
        let mut patch_bits = 8;
        while first + (count - 1 - last) < cut_max && first < last {
            let gap_low = ends[first + 1].wrapping_sub(ends[first]) as u64;
            let gap_high = ends[last].wrapping_sub(ends[last - 1]) as u64;
            let cut = if gap_low >= gap_high {
                first += 1;
                ends[first - 1].wrapping_sub(ends[first])
            } else {
                last -= 1;
                ends[last + 1].wrapping_sub(ends[first])
            };
            patch_bits += 8 * (1 + encoded_bytes(zigzag(cut >> window.shift)));
            let mut narrower = Window { low: ends[first], high: ends[last], ..*window };
            narrower.patch_count = first + (count - 1 - last);
            narrower.bits = count * narrower.width() as usize + patch_bits;
            if narrower.bits < window.bits {
                *window = narrower;
            }
        }
    }

    fn write(&mut self, values: &[i64], best: Candidate, out: &mut Vec<u8>) {
        let Candidate { transform, window, slope, .. } = best;
        let width = window.width();
        self.split(window);
        let mut head = transform as u16 | (window.shift as u16) << 10;
        head |= if width == 64 { WIDTH_64 } else { width as u16 } << 4;
        if !self.patches.is_empty() {
            head |= PATCHED;
        }
        out.extend_from_slice(&head.to_le_bytes());
        match transform {
            Transform::Const | Transform::For => varint::write_signed(window.low, out),
            Transform::Lin => {
                varint::write_signed(window.low, out);
                varint::write_signed(slope, out);
            }
            Transform::Delta | Transform::Delta2 | Transform::Sparse => {
                varint::write_signed(values[0], out);
                varint::write_signed(window.low, out);
            }
        }
        if transform == Transform::Delta2 {
            varint::write_signed(self.deltas[0], out);
        }
        if transform == Transform::Sparse {
            varint::write(self.residuals.len() as u64, out);
        }
        self.write_patches(out);
        if transform == Transform::Sparse {
            self.write_bitmap(out);
        }
        bitpack::pack(&self.packed, width, out);
    }

    /// Parts the residuals into packed ones (zero where patched) and patches.
    fn split(&mut self, window: Window) {
        self.packed.clear();
        self.patches.clear();
        if window.patch_count == 0 {
            let low = window.low;
            let shift = window.shift;
            self.packed.extend(self.residuals.iter().map(|r| r.wrapping_sub(low) as u64 >> shift));
            return;
        }
        for (idx, &residual) in self.residuals.iter().enumerate() {
            let offset = residual.wrapping_sub(window.low);
            if (window.low..=window.high).contains(&residual) {
                self.packed.push(offset as u64 >> window.shift);
            } else {
                self.packed.push(0);
                self.patches.push((idx, offset >> window.shift));
            }
        }
    }

    fn write_patches(&self, out: &mut Vec<u8>) {
        if self.patches.is_empty() {
            return;
        }
        varint::write(self.patches.len() as u64, out);
        let mut floor = 0;
        for &(position, residual) in &self.patches {
            varint::write((position - floor) as u64, out);
            varint::write_signed(residual, out);
            floor = position + 1;
        }
    }

    fn write_bitmap(&mut self, out: &mut Vec<u8>) {
        self.bitmap.clear();
        self.bitmap.extend(self.deltas.chunks(8).map(|eight| {
            eight.iter().enumerate().fold(0, |byte, (bit, &delta)| byte | u8::from(delta != 0) << bit)
        }));
        out.extend_from_slice(&self.bitmap);
    }
}

/// The slope of a line through the column: from end to end, unless all deltas agree.
fn mean_slope(values: &[i64], deltas: Spread) -> i64 {
    if deltas.low == deltas.high {
        return deltas.low;
    }
    let (Some(&first), Some(&last)) = (values.first(), values.last()) else { return 0 };
    let steps = values.len() as i128 - 1;
    let rise = i128::from(last) - i128::from(first);
    // The mean lies between the least and the greatest delta, hence in range (rounded half away).
    i64::try_from((2 * rise + rise.signum() * steps) / (2 * steps)).unwrap_or(0)
}
