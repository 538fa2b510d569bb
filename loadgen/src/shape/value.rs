//! How the value of a line follows the version: a function of (seed, line, version), so any value of any moment can
//! be told without replaying.

use super::mix;

/// All arithmetic is in whole units of `1 / scale`.
#[derive(Clone, Copy, Debug)]
pub struct Value {
    pub base: u64,
    /// Counters grow by `step` at each change; gauges wander within it.
    pub step: u64,
    pub counter: bool,
    /// Chance, in 65536ths, that a version brings a new value.
    pub chance: u64,
    pub scale: f64,
}

impl Value {
    pub fn constant(v: u64) -> Self {
        Value { base: v, step: 0, counter: false, chance: 0, scale: 1.0 }
    }

    /// A counter that grows by `per_second` on average, and not at every version; versions are `step_seconds` apart.
    pub fn counter(base: u64, per_second: f64, chance: f64, scale: f64, step_seconds: f64) -> Self {
        let step = (per_second * scale * step_seconds / chance).round().max(1.0) as u64;
        Value { base, step, counter: true, chance: (chance * 65536.0) as u64, scale }
    }

    pub fn gauge(base: u64, spread: u64, chance: f64, scale: f64) -> Self {
        Value { base, step: spread, counter: false, chance: (chance * 65536.0) as u64, scale }
    }

    /// What the line `id` shows at a version, in units.
    pub fn units(&self, seed: u64, id: u64, version: u64) -> u64 {
        let offset = mix(seed, id, 0x0ff5) & 0xffff;
        let changes = (version * self.chance + offset) >> 16;
        let noise = mix(seed, id, changes);
        if self.step == 0 {
            self.base
        } else if self.counter {
            // The noise stays below the step, so a counter never falls.
            self.base + changes * self.step + noise % (self.step / 4 + 1)
        } else {
            self.base + noise % self.step
        }
    }

    /// The same for a line that came to be at version `born`: its counters begin at zero then.
    pub fn at(&self, seed: u64, id: u64, version: u64, born: u64) -> f64 {
        let units = self.units(seed, id, version);
        let before = if self.counter && born > 0 { self.units(seed, id, born) } else { 0 };
        (units - before.min(units)) as f64 / self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_a_late_line_begin_at_zero_and_never_fall() {
        let v = Value::counter(1_000_000, 3.0, 0.6, 100.0, 15.0);
        let values: Vec<f64> = (50..300).map(|version| v.at(1, 7, version, 50)).collect();
        assert_eq!(values[0], 0.0);
        assert!(values.is_sorted() && values[249] > 1000.0, "{values:?}");
        assert!(v.at(1, 7, 50, 0) > 10_000.0);
    }
}
