//! Set algebra on ascending slices of `u32` without repetition: what postings are made of.
//!
//! Results are appended to `out`, which the caller clears and reuses.

/// From this ratio of lengths on, the longer side is galloped through instead of merged.
const GALLOP_RATIO: usize = 16;

/// Appends what is in both.
pub fn intersect(a: &[u32], b: &[u32], out: &mut Vec<u32>) {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if long.len() / GALLOP_RATIO >= short.len() {
        return intersect_gallop(short, long, out);
    }
    let start = out.len();
    out.resize(start + short.len(), 0);
    let room = &mut out[start..];
    let (mut i, mut j, mut found) = (0, 0, 0);
    // PERF: no branch depends on the values: both sides advance by comparison, and every candidate
    // is written, kept or overwritten.
    while i < short.len() && j < long.len() {
        let (x, y) = (short[i], long[j]);
        room[found] = x;
        found += usize::from(x == y);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    out.truncate(start + found);
}

fn intersect_gallop(short: &[u32], mut long: &[u32], out: &mut Vec<u32>) {
    for &x in short {
        long = &long[lower_bound(long, x)..];
        match long.first() {
            Some(&y) if y == x => out.push(x),
            Some(_) => {}
            None => return,
        }
    }
}

/// Appends what is in `a` and not in `b`.
pub fn subtract(a: &[u32], b: &[u32], out: &mut Vec<u32>) {
    if b.len() / GALLOP_RATIO >= a.len() {
        let mut rest = b;
        for &x in a {
            rest = &rest[lower_bound(rest, x)..];
            if rest.first() != Some(&x) {
                out.push(x);
            }
        }
        return;
    }
    let mut rest = a;
    for &y in b {
        let keep = lower_bound(rest, y);
        out.extend_from_slice(&rest[..keep]);
        rest = &rest[keep..];
        rest = rest.strip_prefix(&[y]).unwrap_or(rest);
        if rest.is_empty() {
            return;
        }
    }
    out.extend_from_slice(rest);
}

/// Appends what is in either.
pub fn union(a: &[u32], b: &[u32], out: &mut Vec<u32>) {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if long.len() / GALLOP_RATIO >= short.len() {
        return union_gallop(short, long, out);
    }
    out.reserve(a.len() + b.len());
    let (mut i, mut j) = (0, 0);
    while i < short.len() && j < long.len() {
        let (x, y) = (short[i], long[j]);
        out.push(x.min(y));
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    out.extend_from_slice(&short[i..]);
    out.extend_from_slice(&long[j..]);
}

fn union_gallop(short: &[u32], mut long: &[u32], out: &mut Vec<u32>) {
    out.reserve(short.len() + long.len());
    for &x in short {
        let before = lower_bound(long, x);
        out.extend_from_slice(&long[..before]);
        out.push(x);
        long = &long[before..];
        long = long.strip_prefix(&[x]).unwrap_or(long);
    }
    out.extend_from_slice(long);
}

/// Appends the union of many sets. `spare` is scratch memory.
///
/// Sets are joined in pairs, the pairs in pairs: each number is copied once for each doubling.
pub fn union_all(sets: &[&[u32]], spare: &mut Vec<Vec<u32>>, out: &mut Vec<u32>) {
    match sets {
        [] => {}
        [one] => out.extend_from_slice(one),
        [a, b] => union(a, b, out),
        _ => {
            let (left, right) = sets.split_at(sets.len() / 2);
            let (mut a, mut b) = (spare.pop().unwrap_or_default(), spare.pop().unwrap_or_default());
            a.clear();
            b.clear();
            union_all(left, spare, &mut a);
            union_all(right, spare, &mut b);
            union(&a, &b, out);
            spare.extend([a, b]);
        }
    }
}

/// Whether `value` is in the set.
pub fn contains(set: &[u32], value: u32) -> bool {
    set.binary_search(&value).is_ok()
}

/// Index of the first element that is not less than `value`: doubling steps from the front, then a
/// binary search in the last step. Costs by the distance, not by the length.
pub fn lower_bound(set: &[u32], value: u32) -> usize {
    let mut step = 1;
    while step <= set.len() && set[step - 1] < value {
        step *= 2;
    }
    let first = step / 2;
    first + set[first..(step - 1).clamp(first, set.len())].partition_point(|x| *x < value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn check(a: &[u32], b: &[u32]) {
        let (in_a, in_b): (BTreeSet<_>, BTreeSet<_>) =
            (a.iter().copied().collect(), b.iter().copied().collect());
        let run = |operation: fn(&[u32], &[u32], &mut Vec<u32>)| {
            let mut out = vec![u32::MAX];
            operation(a, b, &mut out);
            assert_eq!(out[0], u32::MAX, "what was there stays");
            out[1..].to_vec()
        };
        assert_eq!(run(intersect), in_a.intersection(&in_b).copied().collect::<Vec<_>>(), "{a:?} & {b:?}");
        assert_eq!(run(union), in_a.union(&in_b).copied().collect::<Vec<_>>(), "{a:?} | {b:?}");
        assert_eq!(run(subtract), in_a.difference(&in_b).copied().collect::<Vec<_>>(), "{a:?} - {b:?}");
    }

    #[test]
    fn edges_of_sets() {
        check(&[], &[]);
        check(&[], &[1, 2]);
        check(&[1, 2], &[]);
        check(&[0, u32::MAX], &[u32::MAX]);
        check(&[5], &(0..1000).collect::<Vec<_>>());
        check(&(0..1000).step_by(3).collect::<Vec<_>>(), &[0, 7, 999, 1000]);
    }

    #[test]
    fn the_bound_is_found_at_every_distance() {
        let set: Vec<u32> = (0..100).map(|x| x * 2).collect();
        for value in 0..210 {
            assert_eq!(lower_bound(&set, value), set.partition_point(|x| *x < value));
        }
        assert_eq!(lower_bound(&[], 1), 0);
    }

    proptest! {
        #[test]
        fn algebra_agrees_with_trees(
            a in proptest::collection::btree_set(0u32..400, 0..200),
            b in proptest::collection::btree_set(0u32..400, 0..200),
            few in proptest::collection::btree_set(0u32..400, 0..6),
        ) {
            let (a, b, few): (Vec<_>, Vec<_>, Vec<_>) =
                (a.into_iter().collect(), b.into_iter().collect(), few.into_iter().collect());
            check(&a, &b);
            check(&a, &few);
            check(&few, &b);
        }

        #[test]
        fn many_unions_are_one(
            sets in proptest::collection::vec(proptest::collection::btree_set(0u32..300, 0..50), 0..9),
        ) {
            let slices: Vec<Vec<u32>> = sets.iter().map(|s| s.iter().copied().collect()).collect();
            let slices: Vec<&[u32]> = slices.iter().map(Vec::as_slice).collect();
            let mut out = Vec::new();
            union_all(&slices, &mut Vec::new(), &mut out);
            let expect: BTreeSet<u32> = sets.into_iter().flatten().collect();
            prop_assert_eq!(out, expect.into_iter().collect::<Vec<_>>());
        }
    }
}
