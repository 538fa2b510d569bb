//! Names of series inside the house: by labels everywhere, by a dense number in the shard that owns them.

/// Hash of a series' labels: decides its shard and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesHash(pub u64);

/// A series in its shard: dense from 0, reused only after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub u32);

/// A shard of this process: dense from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl SeriesHash {
    /// The shard that owns the series among `shard_count`: the high bits, so that tables may use the low ones.
    pub fn shard(self, shard_count: u16) -> ShardId {
        ShardId(((u128::from(self.0) * u128::from(shard_count)) >> 64) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hash_has_a_shard() {
        for n in [1u16, 2, 3, 64, 1000] {
            assert_eq!(SeriesHash(0).shard(n), ShardId(0));
            assert_eq!(SeriesHash(u64::MAX).shard(n), ShardId(n - 1));
        }
    }
}
