//! Sets of small numbers as bits.

/// A set of numbers below a fixed length. Operations on two sets expect the same length.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Bits {
    words: Vec<u64>,
    length: usize,
}

impl Bits {
    pub(super) fn none(length: usize) -> Self {
        Self {
            words: vec![0; length.div_ceil(64)],
            length,
        }
    }

    pub(super) fn all(length: usize) -> Self {
        let mut all = Self::none(length);
        all.flip();
        all
    }

    pub(super) fn insert(&mut self, number: usize) {
        self.words[number / 64] |= 1 << (number % 64);
    }

    pub(super) fn contains(&self, number: usize) -> bool {
        self.words
            .get(number / 64)
            .is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Adds the numbers of another set.
    pub(super) fn add(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    /// Keeps the numbers that another set has too.
    pub(super) fn keep(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= other;
        }
    }

    /// Removes the numbers of another set.
    pub(super) fn remove(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= !other;
        }
    }

    /// Becomes the complement.
    fn flip(&mut self) {
        for word in &mut self.words {
            *word = !*word;
        }

        // Bits from the length on stay clear.
        if !self.length.is_multiple_of(64)
            && let Some(last) = self.words.last_mut()
        {
            *last &= (1 << (self.length % 64)) - 1;
        }
    }

    /// The numbers, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros() as usize;
                word &= word.wrapping_sub(1);
                (bit < 64).then_some(index * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iteration_is_ascending() {
        let mut set = Bits::none(130);
        for number in [129, 0, 64, 63] {
            set.insert(number);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 129]);
        assert_eq!(
            (0..200)
                .filter(|number| set.contains(*number))
                .collect::<Vec<_>>(),
            [0, 63, 64, 129]
        );

        let mut rest = Bits::all(130);
        rest.remove(&set);
        assert_eq!(rest.iter().count(), 126);
        rest.keep(&set);
        assert!(rest.is_empty());
        assert_eq!(
            (Bits::all(64).iter().count(), Bits::all(0).iter().count()),
            (64, 0)
        );
    }
}
