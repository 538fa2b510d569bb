//! Columns by series number that do not move as they grow.
//!
//! A vector that doubles copies what it holds into memory that was never touched: at four million series that was
//! half a second for the label table alone, in which the shard did nothing else. So a column that has become long
//! reserves addresses for more than a shard ever holds. Addresses cost nothing until they are written to.

/// From this length on a column reserves far: what is copied then is under a megabyte.
const LONG: usize = 1 << 15;

/// Series that it reserves for: more than fit the memory of a shard (at 400 bytes each, 13 GB).
const SERIES: usize = 1 << 25;

/// Makes room for `more` entries, of which a series has `each`. Where the system refuses the addresses, the vector
/// doubles as ever.
#[inline]
pub(super) fn make_room<T>(column: &mut Vec<T>, more: usize, each: usize) {
    if column.capacity() - column.len() < more {
        grow(column, each);
    }
}

#[cold]
fn grow<T>(column: &mut Vec<T>, each: usize) {
    let far = SERIES * each;
    if (LONG..far).contains(&column.len()) {
        let _ = column.try_reserve_exact(far - column.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(length: usize, each: usize, expect: usize) {
        let mut column = vec![7u32; length];
        column.shrink_to_fit();
        make_room(&mut column, 1, each);
        assert_eq!((column.capacity(), column.iter().all(|c| *c == 7)), (expect, true), "{length} {each}");
    }

    #[test]
    fn a_long_column_reserves_once() {
        check(10, 1, 10);
        check(LONG, 1, SERIES);
        check(LONG + 1, 4, 4 * SERIES);
    }

    #[test]
    fn a_column_with_room_stays() {
        let mut column = Vec::<u32>::with_capacity(LONG + 1);
        column.resize(LONG, 0);
        make_room(&mut column, 1, 1);
        assert_eq!(column.capacity(), LONG + 1);
    }
}
