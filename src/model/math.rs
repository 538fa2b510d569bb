//! Logarithms and exponentials with one result on every machine.
//!
//! A platform's mathematical library is free in the last bit, and buckets' bounds, quantiles and recorded values
//! must not depend on where they were computed. These are the classic reductions (logarithms and `exp2` after
//! fdlibm, `exp` after SLEEF, powers by squaring) in the order of operations that Go has on its most common
//! machines, so that results are Prometheus's to the bit.

use std::f64::consts::{FRAC_1_SQRT_2, LN_2, LOG2_E, LOG10_E};

/// Upper part of ln 2, with zeros at the end so that small multiples are exact, and what it lacks.
const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);

/// `x * 2^exp`, rounded once.
pub fn ldexp(x: f64, exp: i64) -> f64 {
    let power = |e: i64| f64::from_bits(((e + 1023) as u64) << 52);
    let mut exp = exp.clamp(-2200, 2200);
    let mut x = x;
    while exp > 1023 {
        x *= power(1023);
        exp -= 1023;
    }
    // Steps of 2^-969 keep 53 bits above the subnormal range, so that only the last step rounds.
    while exp < -1022 {
        x *= power(-1022 + 53);
        exp += 1022 - 53;
    }
    x * power(exp)
}

/// `x` as a fraction in [0.5, 1) and a power of two; zeros and what is not finite as they are.
pub fn frexp(x: f64) -> (f64, i64) {
    if x == 0.0 || !x.is_finite() {
        return (x, 0);
    }
    let (x, lift) = if x.is_subnormal() { (x * ldexp(1.0, 52), -52) } else { (x, 0) };
    let bits = x.to_bits();
    let exp = ((bits >> 52) & 0x7ff) as i64 - 1022;
    (f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52), exp + lift)
}

/// Natural logarithm.
pub fn ln(x: f64) -> f64 {
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x < 0.0 {
        return f64::NAN;
    }
    if !x.is_finite() {
        return x;
    }
    let (mut frac, exp) = frexp(x);
    let mut k = exp as f64;
    if frac <= FRAC_1_SQRT_2 {
        k -= 1.0;
        frac *= 2.0;
    }
    let f = frac - 1.0;
    let s = f / (2.0 + f);
    let s2 = s * s;
    let s4 = s2 * s2;
    let odd = f64::from_bits(0x3fe5_5555_5555_5593)
        + s4 * (f64::from_bits(0x3fd2_4924_9422_9359)
            + s4 * (f64::from_bits(0x3fc7_4664_96cb_03de) + s4 * f64::from_bits(0x3fc2_f112_df3e_5244)));
    let even = f64::from_bits(0x3fd9_9999_9997_fa04)
        + s4 * (f64::from_bits(0x3fcc_71c5_1d8e_78af) + s4 * f64::from_bits(0x3fc3_9a09_d078_c69f));
    let r = s2 * odd + s4 * even;
    let half_square = 0.5 * f * f;
    k * LN2_HIGH - ((half_square - (s * (half_square + r) + k * LN2_LOW)) - f)
}

/// Natural logarithm of `1 + x`, for small `x` too.
pub fn ln_1p(x: f64) -> f64 {
    // The corners are IEEE 754's.
    if !x.is_finite() || x <= -1.0 || x == 0.0 {
        return x.ln_1p();
    }
    let a = x.abs();
    if a < f64::EPSILON / 4.0 {
        return x;
    }
    if a < 1.0 / (1u64 << 29) as f64 {
        return x - x * x * 0.5;
    }
    let is_near = a < SQRT_2_LESS_1 && x > SQRT_HALF_LESS_1;
    let (f, k, lost) = if is_near { (x, 0.0, 0.0) } else { split(x) };
    let half_square = 0.5 * f * f;
    if f == 0.0 {
        return k * LN2_HIGH + (lost + k * LN2_LOW);
    }
    if !is_near && f < 0.0 && f > -2.0 * f64::EPSILON {
        let r = half_square * (1.0 - 0.666_666_666_666_666_7 * f);
        return k * LN2_HIGH - ((r - (k * LN2_LOW + lost)) - f);
    }
    let s = f / (2.0 + f);
    let z = s * s;
    let series = [
        0x3fc2_f112_df3e_5244,
        0x3fc3_9a09_d078_c69f,
        0x3fc7_4664_96cb_03de,
        0x3fcc_71c5_1d8e_78af,
        0x3fd2_4924_9422_9359,
        0x3fd9_9999_9997_fa04,
        0x3fe5_5555_5555_5593,
    ];
    let r = z * series.into_iter().map(f64::from_bits).reduce(|sum, c| c + z * sum).unwrap_or(0.0);
    if is_near {
        return f - (half_square - s * (half_square + r));
    }
    k * LN2_HIGH - ((half_square - (s * (half_square + r) + (k * LN2_LOW + lost))) - f)
}

const SQRT_2_LESS_1: f64 = 4.142_135_623_730_950_5e-1;
const SQRT_HALF_LESS_1: f64 = -0.292_893_218_813_452_5;

/// `1 + x` as `(1 + f) * 2^k`, with `1 + f` around one, and what the sum's rounding took, in units of the sum.
fn split(x: f64) -> (f64, f64, f64) {
    let is_huge = x.abs() >= (1u64 << 53) as f64;
    let sum = if is_huge { x } else { 1.0 + x };
    let mut k = (sum.to_bits() >> 52) as i64 - 1023;
    let lost = match (is_huge, k > 0) {
        (true, _) => 0.0,
        (false, true) => (1.0 - (sum - x)) / sum,
        (false, false) => (x - (sum - 1.0)) / sum,
    };
    let fraction = sum.to_bits() & ((1 << 52) - 1);
    let exponent = if fraction < 0x0006_a09e_667f_3bcd { 0x3ff } else { 0x3fe };
    k += 0x3ff - exponent as i64;
    (f64::from_bits(fraction | exponent << 52) - 1.0, k as f64, lost)
}

/// Logarithm of base 2, exact for powers of two.
pub fn log2(x: f64) -> f64 {
    let (frac, exp) = frexp(x);
    if frac == 0.5 { (exp - 1) as f64 } else { ln(frac) * LOG2_E + exp as f64 }
}

/// Logarithm of base 10.
pub fn log10(x: f64) -> f64 {
    ln(x) * LOG10_E
}

/// `2^x`, exact for whole `x`.
pub fn exp2(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x > 1.023_999_999_999_999_9e3 {
        return f64::INFINITY;
    }
    if x < -1074.0 {
        return 0.0;
    }
    // To the nearest whole number, halves away from zero.
    let k = if x > 0.0 { (x + 0.5).trunc() } else { (x - 0.5).trunc() };
    let t = x - k;
    let (high, low) = (t * LN2_HIGH, -t * LN2_LOW);
    let r = high - low;
    let t = r * r;
    let p = f64::from_bits(0x3f11_566a_af25_de2c)
        + t * (f64::from_bits(0xbebb_bd41_c5d2_6bf1) + t * f64::from_bits(0x3e66_3769_72be_a4d0));
    let p = f64::from_bits(0x3fc5_5555_5555_5555) + t * (f64::from_bits(0xbf66_c16c_16be_bd93) + t * p);
    let c = r - t * p;
    let y = 1.0 - ((low - (r * c) / (2.0 - c)) - high);
    ldexp(y, k as i64)
}

/// `e^x`.
pub fn exp(x: f64) -> f64 {
    if x.is_nan() || x > 7.097_827_128_933_84e2 {
        return x + f64::INFINITY;
    }
    if x < -746.0 {
        return 0.0;
    }
    let k = (x * LOG2_E).round_ties_even();
    let ln2_upper = f64::from_bits(0x3fe6_2e42_fefa_3000);
    let ln2_lower = 0.282_352_905_630_315_77e-12;
    // A sixteenth of what is left of x, by Taylor's series; then squared four times.
    let r = (-k).mul_add(ln2_lower, (-k).mul_add(ln2_upper, x)) * 0.0625;
    let coefficients = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0];
    let mut y = coefficients.iter().fold(1.0 / 40320.0, |sum: f64, c| sum.mul_add(r, *c)) * r;
    for _ in 0..3 {
        y *= 2.0 + y;
    }
    ldexp((2.0 + y).mul_add(y, 1.0), k as i64)
}

/// `x^y`.
pub fn pow(x: f64, y: f64) -> f64 {
    // The cases that arithmetic does not settle are those of IEEE 754, which every library has alike.
    if y == 0.0 || x == 1.0 || x == 0.0 || !x.is_finite() || !y.is_finite() {
        return x.powf(y);
    }
    if y == 1.0 {
        return x;
    }
    if y == 0.5 {
        return x.sqrt();
    }
    if y == -0.5 {
        return 1.0 / x.sqrt();
    }
    let (mut whole, mut part) = (y.abs().trunc(), y.abs().fract());
    if part != 0.0 && x < 0.0 {
        return f64::NAN;
    }
    if whole >= 9_223_372_036_854_775_808.0 {
        return x.powf(y);
    }
    let (mut product, mut product_exp) = (1.0, 0i64);
    if part != 0.0 {
        if part > 0.5 {
            part -= 1.0;
            whole += 1.0;
        }
        product = exp(part * ln(x));
    }
    let (mut square, mut square_exp) = frexp(x);
    let mut left = whole as u64;
    while left != 0 {
        if !(-4096..=4096).contains(&square_exp) {
            // Far beyond what a float holds, whatever is still to come.
            product_exp += square_exp;
            break;
        }
        if left & 1 == 1 {
            product *= square;
            product_exp += square_exp;
        }
        square *= square;
        square_exp <<= 1;
        if square < 0.5 {
            square += square;
            square_exp -= 1;
        }
        left >>= 1;
    }
    if y < 0.0 { ldexp(1.0 / product, -product_exp) } else { ldexp(product, product_exp) }
}

/// From here on the square of a float is all there is to `x * x + 1`.
const LARGE: f64 = (1u64 << 28) as f64;

/// Inverse hyperbolic sine.
pub fn asinh(x: f64) -> f64 {
    let a = x.abs();
    let positive = if a > LARGE {
        ln(a) + LN_2
    } else if a > 2.0 {
        ln(2.0 * a + 1.0 / ((a * a + 1.0).sqrt() + a))
    } else if a < 1.0 / LARGE {
        a
    } else {
        ln_1p(a + a * a / (1.0 + (1.0 + a * a).sqrt()))
    };
    positive.copysign(x)
}

/// Inverse hyperbolic cosine.
pub fn acosh(x: f64) -> f64 {
    if x < 1.0 {
        return f64::NAN;
    }
    if x >= LARGE {
        return ln(x) + LN_2;
    }
    if x > 2.0 {
        return ln(2.0 * x - 1.0 / (x + (x * x - 1.0).sqrt()));
    }
    let t = x - 1.0;
    ln_1p(t + (2.0 * t + t * t).sqrt())
}

/// Inverse hyperbolic tangent.
pub fn atanh(x: f64) -> f64 {
    let a = x.abs();
    let positive = if a > 1.0 {
        f64::NAN
    } else if a < 1.0 / LARGE {
        a
    } else if a < 0.5 {
        let twice = a + a;
        0.5 * ln_1p(twice + twice * a / (1.0 - a))
    } else {
        0.5 * ln_1p((a + a) / (1.0 - a))
    };
    positive.copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(got: f64, expect: f64) {
        assert!(
            got.to_bits() == expect.to_bits() || (got.is_nan() && expect.is_nan()),
            "{got}, not {expect}"
        );
    }

    #[test]
    fn edges_are_exact() {
        check(ln(0.0), f64::NEG_INFINITY);
        check(ln(-1.0), f64::NAN);
        check(ln(1.0), 0.0);
        check(log2(f64::from_bits(1)), -1074.0);
        check(log2(8.0), 3.0);
        check(log2(f64::INFINITY), f64::INFINITY);
        check(exp2(10.0), 1024.0);
        check(exp2(-1074.0), f64::from_bits(1));
        check(exp2(1024.0), f64::INFINITY);
        check(exp2(f64::NEG_INFINITY), 0.0);
        check(exp(0.0), 1.0);
        check(exp(710.0), f64::INFINITY);
        check(exp(-1e300), 0.0);
        check(exp(f64::NAN), f64::NAN);
        check(acosh(1.0), 0.0);
        check(acosh(0.5), f64::NAN);
        check(asinh(-0.0), -0.0);
        check(atanh(-1.0), f64::NEG_INFINITY);
        check(atanh(1.5), f64::NAN);
        assert!((acosh(f64::MAX) - 710.475_860_073_943_9).abs() < 1e-12);
        check(pow(2.0, 10.0), 1024.0);
        check(pow(-2.0, 3.0), -8.0);
        check(pow(-2.0, 0.5), f64::NAN);
        check(pow(-1.0, f64::INFINITY), 1.0);
        check(pow(0.0, -1.0), f64::INFINITY);
        check(pow(-1.0, 1e300), 1.0);
        check(pow(10.0, 400.0), f64::INFINITY);
        check(pow(10.0, -400.0), 0.0);
    }

    /// Bits that Go gives where libraries differ.
    #[test]
    fn last_bits_are_those_of_go() {
        check(exp2(log2(1.5) * 0.5 + 0.125), f64::from_bits(LAST_BITS[0]));
        check(ln(1.1), f64::from_bits(LAST_BITS[1]));
        check(log10(0.3), f64::from_bits(LAST_BITS[2]));
        check(exp(-3.3), f64::from_bits(LAST_BITS[3]));
        check(pow(1.1, 7.7), f64::from_bits(LAST_BITS[4]));
    }

    const LAST_BITS: [u64; 5] = [
        0x3ff5_5e97_8e0f_eb23,
        0x3fb8_663f_793c_46cc,
        0xbfe0_bb6c_34d8_1502,
        0x3fa2_e259_bb85_be85,
        0x4000_aa52_6ce4_cc96,
    ];

    proptest! {
        #[test]
        fn results_are_close_to_the_platforms(bits in any::<u64>(), y in -50.0..50.0f64) {
            let x = f64::from_bits(bits);
            let close = |got: f64, expect: f64| {
                (got - expect).abs() <= 1e-13 * expect.abs() || got == expect || (got.is_nan() && expect.is_nan())
            };
            prop_assert!(close(ln(x), x.ln()) && close(log2(x), x.log2()) && close(log10(x), x.log10()), "{}", x);
            prop_assert!(close(ln_1p(x), x.ln_1p()) && close(ln_1p(y / 50.0), (y / 50.0).ln_1p()), "{} {}", x, y);
            prop_assert!(close(exp(y), y.exp()) && close(exp2(y), y.exp2()), "{}", y);
            prop_assert!(close(pow(y.abs(), y), y.abs().powf(y)), "{}", y);
            let (frac, exp) = frexp(x);
            prop_assert!(close(ldexp(frac, exp), x));
        }
    }
}
