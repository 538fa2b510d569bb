//! A value at a time, and the two NaNs that mean something.

use crate::time::Timestamp;

/// "This series ended here": the NaN that Prometheus writes for a vanished series.
pub const STALE_NAN: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// The NaN that a parsed `NaN` becomes.
pub const NORMAL_NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// One float sample.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub timestamp: Timestamp,
    pub value: f64,
}

/// Whether `value` is the staleness marker (by its bits; it is not equal to itself).
#[inline]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN.to_bits()
}
