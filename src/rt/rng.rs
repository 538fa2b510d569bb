//! Chance from a seed: a small generator (xoshiro256++, seeded by splitmix64). Not for secrets.

use std::hash::{BuildHasher, Hasher};

#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The same seed gives the same stream, on every machine.
    pub fn seeded(seed: u64) -> Rng {
        let mut mix = seed;
        Rng { state: std::array::from_fn(|_| splitmix(&mut mix)) }
    }

    /// A seed nobody chose: the standard library keys its hashers from the system's entropy.
    pub fn from_entropy() -> Rng {
        Rng::seeded(std::hash::RandomState::new().build_hasher().finish())
    }

    /// A stream of its own for `purpose`, so that one user's draws do not move another's.
    pub fn fork(&self, purpose: u64) -> Rng {
        let mut mix = self.state[0] ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Rng { state: std::array::from_fn(|_| splitmix(&mut mix)) }
    }

    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in `0..bound`; 0 when the bound is 0. The bias of the multiply is below 2^-32 for 32-bit bounds.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_names_its_stream() {
        let draw = |seed| {
            let mut rng = Rng::seeded(seed);
            [rng.next_u64(), rng.next_u64(), rng.next_u64()]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn draws_stay_below_their_bound() {
        let mut rng = Rng::seeded(1);
        assert!((0..1000).all(|_| rng.below(3) < 3 && (0.0..1.0).contains(&rng.unit())));
        assert_eq!(rng.below(0), 0);
    }
}
