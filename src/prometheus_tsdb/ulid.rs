//! Names of blocks: 48 bits of milliseconds, 80 of chance, as 26 letters.

use std::fmt;

const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ulid(pub u128);

impl Ulid {
    pub fn new(now_ms: i64, chance: [u64; 2]) -> Ulid {
        let time = (now_ms as u128 & 0xffff_ffff_ffff) << 80;
        Ulid(time | u128::from(chance[0] & 0xffff) << 64 | u128::from(chance[1]))
    }

    /// As a directory's name says it; `None` where it is no such name.
    pub fn parse(text: &str) -> Option<Ulid> {
        if text.len() != 26 || text.as_bytes()[0] > b'7' {
            return None;
        }
        let digit = |b: u8| LETTERS.iter().position(|l| *l == b.to_ascii_uppercase());
        text.bytes().try_fold(0u128, |value, b| Some(value << 5 | digit(b)? as u128)).map(Ulid)
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |i: u32| char::from(LETTERS[(self.0 >> (5 * (25 - i)) & 31) as usize]);
        let text: String = (0..26).map(letter).collect();
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_carry_the_time() {
        let text = "01M82B6S24R7QSAM7524QMW1JQ";
        assert_eq!(Ulid::parse(text).map(|u| u.to_string()).as_deref(), Some(text));
        assert_eq!(Ulid::new(1_469_918_176_385, [0, 0]).to_string(), "01ARYZ6S410000000000000000");
        for bad in
            ["", "01M82B6S24R7QSAM7524QMW1J", "81M82B6S24R7QSAM7524QMW1JQ", "U1M82B6S24R7QSAM7524QMW1JQ"]
        {
            assert_eq!(Ulid::parse(bad), None, "{bad}");
        }
    }
}
