//! Numbers without order, the same for the same seed.

/// Where they come from (splitmix64).
pub(crate) struct Numbers(u64);

/// What lengths, counts and pointers are not.
const EXTREME: [u64; 14] = [
    0,
    1,
    2,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 32,
    1 << 40,
    (1 << 47) - 8,
    1 << 47,
    (1 << 57) - 8,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 7,
    u64::MAX,
];

impl Numbers {
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// A word for the one at `address`: where a pointer to something else, to itself, a length, a small step or nonsense may be most
    /// confusing.
    pub(crate) fn instead_of(&mut self, word: u64, address: u64, pointers: &[u64]) -> u64 {
        match self.below(100) {
            0..25 => *self.one_of(pointers),
            25..30 => address,
            30..45 => *self.one_of(&EXTREME),
            45..60 => word ^ (1 << self.below(64)),
            60..80 => word.wrapping_add_signed(*self.one_of(&[-1, 1, 7, 8, -8, 16, 4096, -4096])),
            _ => self.next() >> self.one_of(&[0, 17, 24, 32, 48, 56]),
        }
    }
}
