//! Numbers that a peer cannot guess: a keyed hash (SipHash-2-4) and a generator made of it.
//!
//! The key comes with the configuration, so that the engine asks nobody for randomness and a test can repeat a run.

use std::hash::{BuildHasher, Hasher};

/// A secret of 128 bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(pub [u64; 2]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// A key for one purpose, which tells nothing about the others.
    pub(crate) fn derive(self, purpose: u64) -> Key {
        Key([hash(self, &[purpose, 0]), hash(self, &[purpose, 1])])
    }
}

/// SipHash-2-4 as a streaming state over words of 64 bits.
#[derive(Debug, Clone)]
#[doc(hidden)]
pub struct Sip {
    v: [u64; 4],
    tail: u64,
    filled: u32,
    length: u64,
}

impl Sip {
    fn new(key: Key) -> Sip {
        let [k0, k1] = key.0;
        let v = [k0 ^ 0x736f_6d65_7073_6575, k1 ^ 0x646f_7261_6e64_6f6d, k0 ^ 0x6c79_6765_6e65_7261, k1 ^ 0x7465_6462_7974_6573];
        Sip { v, tail: 0, filled: 0, length: 0 }
    }

    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.v;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.v = [a, b, c, d];
    }

    fn word(&mut self, word: u64) {
        self.v[3] ^= word;
        self.round();
        self.round();
        self.v[0] ^= word;
    }
}

impl Hasher for Sip {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.tail |= u64::from(byte) << (8 * self.filled);
            self.filled += 1;
            if self.filled == 8 {
                let word = std::mem::take(&mut self.tail);
                self.filled = 0;
                self.word(word);
            }
        }
        self.length = self.length.wrapping_add(bytes.len() as u64);
    }

    fn finish(&self) -> u64 {
        let mut last = self.clone();
        last.word((self.length << 56) | self.tail);
        last.v[2] ^= 0xff;
        for _ in 0..4 {
            last.round();
        }
        last.v.iter().fold(0, |all, word| all ^ word)
    }
}

/// The keyed hash of some words.
pub(crate) fn hash(key: Key, words: &[u64]) -> u64 {
    let mut state = Sip::new(key);
    for word in words {
        state.write(&word.to_le_bytes());
    }
    state.finish()
}

/// The keyed hash of anything that can be hashed.
pub(crate) fn hash_of(key: Key, value: &impl std::hash::Hash) -> u64 {
    key.hash_one(value)
}

impl BuildHasher for Key {
    type Hasher = Sip;

    fn build_hasher(&self) -> Sip {
        Sip::new(*self)
    }
}

/// A generator: the hash of a counter.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    key: Key,
    counter: u64,
}

impl Random {
    pub(crate) fn new(key: Key) -> Random {
        Random { key, counter: 0 }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        hash(self.key, &[self.counter])
    }

    /// A number below `bound`, or zero if that is zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_siphash_2_4() {
        // The reference vectors of the paper: key 00..0f, messages 00, 01, .. of growing length.
        let key = Key([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
        let of = |length: u8| {
            let mut state = Sip::new(key);
            state.write(&(0..length).collect::<Vec<u8>>());
            state.finish()
        };
        assert_eq!(of(0), 0x726f_db47_dd0e_0e31);
        assert_eq!(of(1), 0x74f8_39c5_93dc_67fd);
        assert_eq!(of(15), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn numbers_below_a_bound_stay_below_it() {
        let mut random = Random::new(Key([1, 2]));
        assert!((0..1000).all(|_| random.below(7) < 7));
        assert_eq!(random.below(0), 0);
    }
}
