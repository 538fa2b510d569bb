//! Columns that have broken encoders before, from a seed.

/// A small generator with a seed; the same on every machine.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Doubles at the corners of the format.
const CORNERS: [u64; 16] = [
    0x7ff0_0000_0000_0002, // stale
    0x7ff8_0000_0000_0001, // NaN from text
    0x7ff8_0000_0000_0000, // quiet NaN
    0xfff8_dead_beef_0001, // negative NaN with a payload
    0x7ff0_0000_0000_0001, // signaling NaN
    0x7fff_ffff_ffff_ffff, // NaN, all ones
    0xffff_ffff_ffff_ffff, // the same, negative
    0x7ff0_0000_0000_0000, // +Inf
    0xfff0_0000_0000_0000, // -Inf
    0x8000_0000_0000_0000, // -0.0
    0x0000_0000_0000_0000, // 0.0
    0x0000_0000_0000_0001, // least subnormal
    0x800f_ffff_ffff_ffff, // greatest negative subnormal
    0x7fef_ffff_ffff_ffff, // greatest double
    0x4340_0000_0000_0000, // 2^53
    0xc340_0000_0000_0001, // -(2^53 + 2)
];

/// A column of `count` doubles of one kind or several, one behind the other, as long as chance wants.
pub(crate) fn column(seed: u64, count: usize) -> Vec<f64> {
    let chance = &mut Chance::new(seed ^ 0x5bd1_e995);
    if !chance.one_in(4) {
        return one_kind(seed, count);
    }
    let mut values = Vec::new();
    while values.len() < count {
        let length_max = 1 << chance.below(10);
        let length = 1 + chance.below(length_max) as usize;
        let length = length.min(count - values.len());
        if chance.one_in(2) {
            // A run of one value, that may be any.
            let value = one_kind(chance.next(), 1)[0];
            values.extend(std::iter::repeat_n(value, length));
        } else {
            values.extend(one_kind(chance.next(), length));
        }
    }
    values
}

/// A column of `count` integers, extremes and what doubles are as bits among them.
pub(crate) fn integers(seed: u64, count: usize) -> Vec<i64> {
    let chance = &mut Chance::new(seed ^ 0x1234_5678);
    let extremes = [0, 3, 50][chance.below(3) as usize];
    let mut values: Vec<i64> = match chance.below(3) {
        0 => column(seed, count).into_iter().map(|v| v.to_bits() as i64).collect(),
        // What is too large becomes an extreme, too.
        1 => column(seed, count).into_iter().map(|v| v as i64).collect(),
        _ => (0..count).map(|_| (chance.next() as i64) >> chance.below(64)).collect(),
    };
    for value in &mut values {
        if extremes > 0 && chance.one_in(extremes) {
            *value = [i64::MIN, i64::MAX, -1, 0, i64::MIN + 1][chance.below(5) as usize];
        }
    }
    values
}

/// A column of `count` doubles of a kind that the seed picks, with corners strewn in.
fn one_kind(seed: u64, count: usize) -> Vec<f64> {
    let chance = &mut Chance::new(seed);
    let kind = chance.below(12);
    let power = 10f64.powi(chance.below(20) as i32);
    let scale = 1u64 << chance.below(54);
    let mut counter = chance.below(scale) as i64;
    let mut sum = 0.0f64;
    let mut values: Vec<f64> = (0..count)
        .map(|idx| match kind {
            0 => f64::from_bits(chance.next()),
            1 => chance.below(scale) as f64,
            2 => chance.below(scale) as f64 / power,
            3 => -(chance.below(scale) as f64) / power,
            4 | 5 => {
                counter += chance.below(1000) as i64;
                if chance.one_in(97) {
                    counter = 0;
                }
                counter as f64 / if kind == 4 { 1.0 } else { 100.0 }
            }
            6 => {
                sum += chance.below(1000) as f64 / 1000.0;
                sum
            }
            7 => idx as f64 * scale as f64,
            8 => {
                if chance.one_in(20) {
                    counter += 1;
                }
                counter as f64
            }
            9 => (idx * idx) as f64 * 4096.0,
            10 => f64::from_bits(CORNERS[chance.below(16) as usize]),
            _ => f64::from_bits(chance.below(1 << 52)),
        })
        .collect();
    let rarity = [0, 2, 10, 100][chance.below(4) as usize];
    if rarity > 0 {
        for value in &mut values {
            if chance.one_in(rarity) {
                *value = f64::from_bits(CORNERS[chance.below(16) as usize]);
            }
        }
    }
    values
}

/// A length that decoders treat differently from its neighbors.
pub(crate) fn length(seed: u64) -> usize {
    let chance = &mut Chance::new(!seed);
    match chance.below(8) {
        0 => chance.below(20) as usize,
        1 => 64,
        2 => 120,
        3 => 480,
        4 => 512 + chance.below(20) as usize,
        5 => 1020 + chance.below(600) as usize,
        _ => chance.below(600) as usize,
    }
}
