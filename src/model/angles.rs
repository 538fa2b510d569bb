//! Circular and hyperbolic functions with one result on every machine.
//!
//! As in [`crate::math`]: the classic rational approximations (Cephes, fdlibm) in the order of operations that Go has,
//! so that results are Prometheus's to the bit.

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};

use crate::math::exp;

/// pi/4 in three parts, the first two with zeros at the end so that small multiples are exact.
const PI4: [u64; 3] = [0x3fe9_21fb_4000_0000, 0x3e64_442d_0000_0000, 0x3ce8_4698_98cc_5170];

const SIN: [u64; 6] = [
    0x3de5_d8fd_1fd1_9ccd,
    0xbe5a_e5e5_a929_1f5d,
    0x3ec7_1de3_567d_48a1,
    0xbf2a_01a0_19bf_df03,
    0x3f81_1111_1110_f7d0,
    0xbfc5_5555_5555_5548,
];

const COS: [u64; 6] = [
    0xbda8_fa49_a086_1a9b,
    0x3e21_ee9d_7b4e_3f05,
    0xbe92_7e4f_7eac_4bc6,
    0x3efa_01a0_19c8_44f5,
    0xbf56_c16c_16c1_4f91,
    0x3fa5_5555_5555_554b,
];

/// From here on three parts of pi/4 leave too few digits; the platform reduces better.
const REDUCIBLE_MAX: f64 = (1u64 << 29) as f64;

/// `(..(c0 * x + c1) * x ..) * x + cn`.
fn polynomial(coefficients: &[u64], x: f64) -> f64 {
    coefficients.iter().map(|c| f64::from_bits(*c)).reduce(|sum, c| sum * x + c).unwrap_or(0.0)
}

/// A positive angle as an octant (even, 0 to 6 after reflection on odd ones) and what is left, in [-pi/4, pi/4].
fn reduced(x: f64) -> (u64, f64) {
    let mut octant = (x * (4.0 / PI)) as u64;
    octant += octant & 1;
    let y = octant as f64;
    let [a, b, c] = PI4.map(f64::from_bits);
    (octant & 7, ((x - y * a) - y * b) - y * c)
}

fn sin_near_zero(z: f64) -> f64 {
    let zz = z * z;
    z + z * zz * polynomial(&SIN, zz)
}

fn cos_near_zero(z: f64) -> f64 {
    let zz = z * z;
    1.0 - 0.5 * zz + zz * zz * polynomial(&COS, zz)
}

pub fn sin(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() || x.abs() >= REDUCIBLE_MAX {
        return x.sin();
    }
    let (octant, z) = reduced(x.abs());
    let y = if octant & 2 == 2 { cos_near_zero(z) } else { sin_near_zero(z) };
    if (x < 0.0) != (octant > 3) { -y } else { y }
}

pub fn cos(x: f64) -> f64 {
    if !x.is_finite() || x.abs() >= REDUCIBLE_MAX {
        return x.cos();
    }
    let (octant, z) = reduced(x.abs());
    let y = if octant & 2 == 2 { sin_near_zero(z) } else { cos_near_zero(z) };
    if octant == 2 || octant == 4 { -y } else { y }
}

pub fn tan(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() || x.abs() >= REDUCIBLE_MAX {
        return x.tan();
    }
    let (octant, z) = reduced(x.abs());
    let zz = z * z;
    let mut y = z;
    if zz > 1e-14 {
        let p = [0xc0c9_92d8_d24f_3f38, 0x4131_99ec_a5fc_9ddd, 0xc171_1fea_d329_9176];
        let q = [
            0x3ff0_0000_0000_0000,
            0x40ca_b8a5_eeb3_6572,
            0xc134_27bc_582a_bc96,
            0x4177_d98f_c2ea_d8ef,
            0xc189_afe0_3cbe_5a31,
        ];
        y = z + z * (zz * polynomial(&p, zz) / polynomial(&q, zz));
    }
    if octant & 2 == 2 {
        y = -1.0 / y;
    }
    if x < 0.0 { -y } else { y }
}

/// Arc tangent in [0, 0.66].
fn atan_near_zero(x: f64) -> f64 {
    let z = x * x;
    let p = (((-8.750_608_600_031_904e-1 * z + -1.615_753_718_733_365e1) * z + -7.500_855_792_314_705e1) * z
        + -1.228_866_684_490_136_1e2)
        * z
        + -6.485_021_904_942_025e1;
    let q = ((((z + 2.485_846_490_142_306_3e1) * z + 1.650_270_098_316_988_5e2) * z
        + 4.328_810_604_912_902_7e2)
        * z
        + 4.853_903_996_359_137e2)
        * z
        + 1.945_506_571_482_614e2;
    x * (z * p / q) + x
}

/// Arc tangent of what is positive.
fn atan_positive(x: f64) -> f64 {
    const MORE_BITS: f64 = 6.123_233_995_736_766e-17;
    const TAN_3_PI_8: f64 = 2.414_213_562_373_095;
    if x <= 0.66 {
        atan_near_zero(x)
    } else if x > TAN_3_PI_8 {
        FRAC_PI_2 - atan_near_zero(1.0 / x) + MORE_BITS
    } else {
        FRAC_PI_4 + atan_near_zero((x - 1.0) / (x + 1.0)) + 0.5 * MORE_BITS
    }
}

pub fn atan(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() {
        return x;
    }
    if x > 0.0 { atan_positive(x) } else { -atan_positive(-x) }
}

/// The angle of the point (`x`, `y`).
pub fn atan2(y: f64, x: f64) -> f64 {
    // What arithmetic does not settle is in IEEE 754, which every library has alike.
    if y == 0.0 || x == 0.0 || !x.is_finite() || !y.is_finite() {
        return y.atan2(x);
    }
    let q = atan(y / x);
    match (x < 0.0, q <= 0.0) {
        (false, _) => q,
        (true, true) => q + PI,
        (true, false) => q - PI,
    }
}

pub fn asin(x: f64) -> f64 {
    if x == 0.0 {
        return x;
    }
    let a = x.abs();
    if a > 1.0 || a.is_nan() {
        return f64::NAN;
    }
    let other = (1.0 - a * a).sqrt();
    let y = if a > 0.7 { FRAC_PI_2 - atan_positive(other / a) } else { atan_positive(a / other) };
    if x < 0.0 { -y } else { y }
}

pub fn acos(x: f64) -> f64 {
    FRAC_PI_2 - asin(x)
}

pub fn sinh(x: f64) -> f64 {
    // Not `abs`: a negative zero stays one.
    let a = if x < 0.0 { -x } else { x };
    let y = if a > 21.0 {
        exp(a) * 0.5
    } else if a > 0.5 {
        let e = exp(a);
        (e - 1.0 / e) * 0.5
    } else {
        let s = a * a;
        let p = (((-0.263_056_321_339_749_7e2 * s + -0.289_421_135_598_956_4e4) * s
            + -0.899_127_202_203_950_9e5)
            * s
            + -0.630_767_364_049_771_7e6)
            * a;
        p / (((s + -0.173_678_953_558_233_7e3) * s + 0.152_151_737_879_001_9e5) * s
            + -0.630_767_364_049_771_7e6)
    };
    if x < 0.0 { -y } else { y }
}

pub fn cosh(x: f64) -> f64 {
    let a = x.abs();
    if a > 21.0 {
        return exp(a) * 0.5;
    }
    let e = exp(a);
    (e + 1.0 / e) * 0.5
}

pub fn tanh(x: f64) -> f64 {
    // From half of this on the result is one.
    const EXP_MAX: f64 = 8.802_969_193_111_305e1;
    let a = x.abs();
    if a > 0.5 * EXP_MAX {
        return 1.0_f64.copysign(x);
    }
    if a >= 0.625 {
        let s = exp(2.0 * a);
        return (1.0 - 2.0 / (s + 1.0)).copysign(x);
    }
    if x == 0.0 {
        return x;
    }
    let s = x * x;
    let p = (-9.643_991_794_250_523e-1 * s + -9.928_772_310_019_185e1) * s + -1.614_687_684_417_084_5e3;
    let q = ((s + 1.128_116_784_916_329_3e2) * s + 2.235_488_390_601_004_5e3) * s + 4.844_063_053_251_255e3;
    x + x * s * p / q
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn angles_meet_their_corners() {
        let check = |got: f64, expect: f64| assert_eq!(got.to_bits(), expect.to_bits(), "{got} {expect}");
        check(sin(-0.0), -0.0);
        assert!(sin(f64::INFINITY).is_nan() && cos(f64::NAN).is_nan() && tan(f64::NEG_INFINITY).is_nan());
        check(cos(0.0), 1.0);
        check(tan(-0.0), -0.0);
        check(atan(-0.0), -0.0);
        check(atan(f64::INFINITY), FRAC_PI_2);
        check(atan2(0.0, -1.0), PI);
        check(atan2(-1.0, -1.0), -0.75 * PI);
        check(asin(1.0), FRAC_PI_2);
        check(acos(1.0), 0.0);
        assert!(asin(1.5).is_nan() && acos(f64::NAN).is_nan());
        check(sinh(-0.0), -0.0);
        check(cosh(0.0), 1.0);
        check(tanh(50.0), 1.0);
        check(tanh(f64::NEG_INFINITY), -1.0);
    }

    proptest! {
        #[test]
        fn results_are_close_to_the_platforms(x in -1e6..1e6f64, y in -30.0..30.0f64, z in -1.0..1.0f64) {
            let close = |got: f64, expect: f64| (got - expect).abs() <= 1e-13 * expect.abs() + 1e-15;
            prop_assert!(close(sin(x), x.sin()) && close(cos(x), x.cos()), "{}", x);
            prop_assert!((tan(y) - y.tan()).abs() <= 1e-12 * (1.0 + y.tan().powi(2)), "{}", y);
            prop_assert!(close(atan(y), y.atan()) && close(atan2(x, y), x.atan2(y)), "{}", y);
            prop_assert!(close(sinh(y), y.sinh()) && close(cosh(y), y.cosh()) && close(tanh(y), y.tanh()), "{}", y);
            prop_assert!(close(asin(z), z.asin()) && close(acos(z), z.acos()), "{}", z);
        }
    }
}
