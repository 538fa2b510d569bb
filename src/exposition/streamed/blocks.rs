//! A list that grows without being moved: what a large page brings is too much to be copied in one turn.

/// Items of a block: 64 KiB of 16 bytes each.
const BLOCK: usize = 4096;

#[derive(Clone, Debug, PartialEq)]
pub struct Blocks<T> {
    blocks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Blocks { blocks: Vec::new(), len: 0 }
    }
}

impl<T> Blocks<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn push(&mut self, item: T) {
        if self.len == self.blocks.len() * BLOCK {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        self.blocks[self.len / BLOCK].push(item);
        self.len += 1;
    }

    #[inline]
    pub fn get(&self, at: usize) -> Option<&T> {
        self.blocks.get(at / BLOCK)?.get(at % BLOCK)
    }

    #[inline]
    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.blocks.get_mut(at / BLOCK)?.get_mut(at % BLOCK)
    }

    /// Heap bytes.
    pub fn bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Vec<T>>() + self.blocks.len() * BLOCK * size_of::<T>()
    }
}

impl<T> std::ops::Index<usize> for Blocks<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        &self.blocks[at / BLOCK][at % BLOCK]
    }
}

impl<T> std::ops::IndexMut<usize> for Blocks<T> {
    #[inline]
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut self.blocks[at / BLOCK][at % BLOCK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_where_they_were_put() {
        let mut list = Blocks::default();
        assert!(list.is_empty() && list.get(0).is_none());
        (0..2 * BLOCK + 3).for_each(|i| list.push(i));
        list[BLOCK] = 7;
        assert_eq!(
            (list.len(), list[BLOCK - 1], list[BLOCK], list.get(2 * BLOCK + 3)),
            (2 * BLOCK + 3, BLOCK - 1, 7, None)
        );
    }
}
