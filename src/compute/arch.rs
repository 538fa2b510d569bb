//! Loops over columns, compiled once for any machine and again for wider vectors; which runs is asked of the
//! processor (the answer is cached by `std`).
//!
//! Each loop is written once, in [`scalar`], without branches; the wider twins are the same code under another
//! `target_feature`. Vectorizing reorders nothing here (every lane is a step of its own), so all twins give the
//! same bits.
#![allow(unsafe_code, reason = "a function compiled for a feature may be called only where the feature is")]

mod scalar;
#[cfg(test)]
mod tests;

macro_rules! kernels {
    ($($(#[doc = $doc:literal])* $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)?;)*) => {
        #[cfg(target_arch = "x86_64")]
        mod avx2 {
            $(
                #[target_feature(enable = "avx2")]
                pub(super) fn $name($($arg: $ty),*) $(-> $ret)? {
                    super::scalar::$name($($arg),*)
                }
            )*
        }

        #[cfg(target_arch = "x86_64")]
        mod avx512 {
            $(
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
                pub(super) fn $name($($arg: $ty),*) $(-> $ret)? {
                    super::scalar::$name($($arg),*)
                }
            )*
        }

        $(
            $(#[doc = $doc])*
            pub fn $name($($arg: $ty),*) $(-> $ret)? {
                #[cfg(target_arch = "x86_64")]
                {
                    if has_avx512() {
                        // SAFETY: the processor has every feature that the twin is compiled for.
                        return unsafe { avx512::$name($($arg),*) };
                    }
                    if std::is_x86_feature_detected!("avx2") {
                        // SAFETY: the processor has the feature that the twin is compiled for.
                        return unsafe { avx2::$name($($arg),*) };
                    }
                }
                scalar::$name($($arg),*)
            }
        )*
    };
}

kernels! {
    /// Adds a row to sums with compensation; absent values leave their step as it is.
    kahan_add(row: &[f64], sum: &mut [f64], c: &mut [f64], count: &mut [u32]);
    /// Whether adding a row would make any sum infinite.
    any_overflow(row: &[f64], sum: &[f64]) -> bool;
    /// Makes gains of counters into what they are extrapolated to the edges of their windows, and divides by `window`.
    extrapolate(first: &[f64], gain: &mut [f64], sampled: &[f64], to_start: &[f64], to_end: &[f64], window: f64);
    /// Whether the zero of some counter may be nearer than the start of its window: not where `sampled * first` is
    /// above `far * gain`. Gains too small to compare products of are near.
    any_near_zero(first: &[f64], gain: &[f64], sampled: &[f64], far: &[f64]) -> bool;
    /// Counts present values.
    count_present(row: &[f64], count: &mut [u32]);
    /// Keeps the lesser of each step; absent values lose to all, NaN to numbers.
    min_into(row: &[f64], best: &mut [f64]);
    /// Keeps the greater of each step; absent values lose to all, NaN to numbers.
    max_into(row: &[f64], best: &mut [f64]);
    /// Bit `i` of the mask is set where `values[i + 1] < values[i]`; 64 neighbors a word.
    drops(values: &[f64], mask: &mut [u64]);
    /// Whether all values are whole, and their absolute values add up to less than 2^53.
    all_exact(values: &[f64]) -> bool;
    /// Whether any value is a staleness marker.
    any_stale(values: &[f64]) -> bool;
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    std::is_x86_feature_detected!("avx512f")
        && std::is_x86_feature_detected!("avx512vl")
        && std::is_x86_feature_detected!("avx512dq")
        && std::is_x86_feature_detected!("avx512bw")
}
