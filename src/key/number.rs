//! A number of 256 bits, with the arithmetic that distances need.
//!
//! Knows nothing of keys. Nothing here panics: what may not fit is `checked` or saturates.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitXor, Not, Shl, Shr};

/// A number of 256 bits without a sign.
///
/// Differs from `libp2p-kad`'s type of this name: sums, products and quotients are not operators, which panic, but
/// `checked_*` and `saturating_*`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct U256 {
    pub(super) high: u128,
    pub(super) low: u128,
}

impl U256 {
    /// Nothing.
    pub const ZERO: Self = Self { high: 0, low: 0 };
    /// One.
    pub const ONE: Self = Self { high: 0, low: 1 };
    /// The greatest number there is.
    pub const MAX: Self = Self { high: u128::MAX, low: u128::MAX };

    /// Returns [`ZERO`](Self::ZERO).
    pub const fn zero() -> Self {
        Self::ZERO
    }

    /// Returns [`ONE`](Self::ONE).
    pub const fn one() -> Self {
        Self::ONE
    }

    /// Returns [`MAX`](Self::MAX).
    pub const fn max_value() -> Self {
        Self::MAX
    }

    /// Reads 32 bytes, most significant first.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        let (Some(high), Some(low)) = (bytes.first_chunk(), bytes.last_chunk()) else { return Self::ZERO };
        Self { high: u128::from_be_bytes(*high), low: u128::from_be_bytes(*low) }
    }

    /// Reads bytes, most significant first. Of more than 32 the last ones count.
    pub fn from_big_endian(bytes: &[u8]) -> Self {
        bytes.iter().fold(Self::ZERO, |number, byte| number << 8 | Self::from(u64::from(*byte)))
    }

    /// Returns 32 bytes, most significant first.
    pub const fn to_big_endian(&self) -> [u8; 32] {
        let (high, low) = (self.high.to_be_bytes(), self.low.to_be_bytes());
        let (mut bytes, mut at) = ([0; 32], 0);
        while at < 16 {
            bytes[at] = high[at];
            bytes[at + 16] = low[at];
            at += 1;
        }
        bytes
    }

    /// Returns whether the number is zero.
    pub const fn is_zero(&self) -> bool {
        self.high == 0 && self.low == 0
    }

    /// Returns how many of the highest bits are not set: 256 of zero.
    pub const fn leading_zeros(&self) -> u32 {
        if self.high == 0 { 128 + self.low.leading_zeros() } else { self.high.leading_zeros() }
    }

    /// Returns how many bits the number has: 0 of zero.
    pub const fn bits(&self) -> usize {
        256 - self.leading_zeros() as usize
    }

    /// Returns the sum without what exceeds 256 bits, and whether anything did.
    pub const fn overflowing_add(self, other: Self) -> (Self, bool) {
        let (low, carries) = self.low.overflowing_add(other.low);
        let (high, first) = self.high.overflowing_add(other.high);
        let (high, second) = high.overflowing_add(carries as u128);
        (Self { high, low }, first || second)
    }

    /// Returns the sum; `None` if it exceeds 256 bits.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        let (sum, exceeds) = self.overflowing_add(other);
        if exceeds { None } else { Some(sum) }
    }

    /// Returns the sum, at most [`MAX`](Self::MAX).
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        self.checked_add(other).unwrap_or(Self::MAX)
    }

    /// Returns the difference; `None` if the other is greater.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        let (low, borrows) = self.low.overflowing_sub(other.low);
        let Some(high) = self.high.checked_sub(other.high) else { return None };
        match high.checked_sub(borrows as u128) {
            Some(high) => Some(Self { high, low }),
            None => None,
        }
    }

    /// Returns the difference, at least zero.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        self.checked_sub(other).unwrap_or(Self::ZERO)
    }

    /// Returns the product; `None` if it exceeds 256 bits.
    pub fn checked_mul(self, other: Self) -> Option<Self> {
        // A shift and a sum for each bit of the other.
        let (mut product, mut rest) = (Self::ZERO, other);
        let mut shifted = Some(self);
        while !rest.is_zero() {
            if rest.low & 1 == 1 {
                product = product.checked_add(shifted?)?;
            }
            shifted = shifted.and_then(|shifted| shifted.checked_add(shifted));
            rest = rest >> 1;
        }
        Some(product)
    }

    /// Returns the product, at most [`MAX`](Self::MAX).
    #[must_use]
    pub fn saturating_mul(self, other: Self) -> Self {
        self.checked_mul(other).unwrap_or(Self::MAX)
    }

    /// Returns the quotient without its rest; `None` if the other is zero.
    pub fn checked_div(self, other: Self) -> Option<Self> {
        if other.is_zero() {
            return None;
        }
        let (mut quotient, mut rest) = (Self::ZERO, Self::ZERO);
        for bit in (0..256).rev() {
            let (doubled, exceeds) = rest.overflowing_add(rest);
            let (next, _) = doubled.overflowing_add(self >> bit & Self::ONE);
            quotient = quotient << 1;
            rest = next;
            if exceeds || next >= other {
                // What has gone beyond 256 bits is less than the other and comes back.
                rest = next.overflowing_add(!other).0.overflowing_add(Self::ONE).0;
                quotient = quotient | Self::ONE;
            }
        }
        Some(quotient)
    }
}

impl Shl<u32> for U256 {
    type Output = Self;

    /// Drops so many of the highest bits; it is zero from 256 on.
    fn shl(self, bits: u32) -> Self {
        let Self { high, low } = self;
        match bits {
            0 => self,
            1..128 => Self { high: high << bits | low >> (128 - bits), low: low << bits },
            128..256 => Self { high: low << (bits - 128), low: 0 },
            256.. => Self::ZERO,
        }
    }
}

impl Shr<u32> for U256 {
    type Output = Self;

    /// Drops so many of the lowest bits; it is zero from 256 on.
    fn shr(self, bits: u32) -> Self {
        let Self { high, low } = self;
        match bits {
            0 => self,
            1..128 => Self { high: high >> bits, low: low >> bits | high << (128 - bits) },
            128..256 => Self { high: 0, low: high >> (bits - 128) },
            256.. => Self::ZERO,
        }
    }
}

impl BitAnd for U256 {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self { high: self.high & other.high, low: self.low & other.low }
    }
}

impl BitOr for U256 {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self { high: self.high | other.high, low: self.low | other.low }
    }
}

impl BitXor for U256 {
    type Output = Self;

    fn bitxor(self, other: Self) -> Self {
        Self { high: self.high ^ other.high, low: self.low ^ other.low }
    }
}

impl Not for U256 {
    type Output = Self;

    fn not(self) -> Self {
        Self { high: !self.high, low: !self.low }
    }
}

impl From<u128> for U256 {
    fn from(low: u128) -> Self {
        Self { high: 0, low }
    }
}

impl From<u64> for U256 {
    fn from(number: u64) -> Self {
        u128::from(number).into()
    }
}

impl From<u32> for U256 {
    fn from(number: u32) -> Self {
        u128::from(number).into()
    }
}

impl From<usize> for U256 {
    fn from(number: usize) -> Self {
        // No machine has more than 128 bits.
        u128::try_from(number).unwrap_or(u128::MAX).into()
    }
}

impl fmt::LowerHex for U256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.high == 0 {
            return fmt::LowerHex::fmt(&self.low, f);
        }
        f.pad_integral(true, "0x", &format!("{:x}{:032x}", self.high, self.low))
    }
}

impl fmt::Debug for U256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn random(rng: &mut Rng) -> U256 {
        let (mut bytes, mut bits) = ([0; 32], [0; 2]);
        rng.fill(&mut bytes);
        rng.fill(&mut bits);
        // Short numbers as often as long ones.
        U256::from_bytes(bytes) >> (u32::from(u16::from_le_bytes(bits)) % 257)
    }

    #[test]
    fn bytes_and_bits_are_the_numbers() {
        let number = U256 { high: 1, low: 0xff };
        assert_eq!(U256::from_bytes(number.to_big_endian()), number);
        assert_eq!(U256::from_big_endian(&[1, 0]), U256::from(256u64));
        assert_eq!(U256::from_big_endian(&[&[7; 8][..], &number.to_big_endian()].concat()), number);
        assert_eq!((number.bits(), U256::ZERO.bits(), U256::MAX.bits()), (129, 0, 256));
        assert_eq!(format!("{number:?}"), format!("0x1{:032x}", 0xff));
        assert_eq!(format!("{:064x}", U256::ONE), format!("{:064x}", 1));
        for bits in [0, 1, 127, 128, 129, 255, 256, 1000] {
            assert_eq!((U256::ONE << bits) >> bits, if bits < 256 { U256::ONE } else { U256::ZERO });
            assert_eq!(
                !(U256::MAX << bits),
                if bits == 0 { U256::ZERO } else { U256::MAX >> (256 - bits.min(256)) }
            );
        }
    }

    #[test]
    fn arithmetic_agrees_with_itself() {
        let mut rng = Rng::from_seed([7; 32]);
        let (mut exceeded, mut fitted) = (0, 0);
        for _ in 0..2000 {
            let (a, b) = (random(&mut rng), random(&mut rng));
            match a.checked_add(b) {
                Some(sum) => assert_eq!((sum.checked_sub(a), sum.checked_sub(b)), (Some(b), Some(a))),
                None => assert_eq!((a.saturating_add(b), a > !b), (U256::MAX, true)),
            }
            assert_eq!(a.checked_sub(b).is_some(), a >= b);
            match (a.checked_mul(b), b.is_zero()) {
                (Some(product), false) => {
                    fitted += 1;
                    assert_eq!(product.checked_div(b), Some(a));
                }
                (Some(product), true) => assert_eq!(product, U256::ZERO),
                (None, _) => {
                    exceeded += 1;
                    assert!(a.bits() + b.bits() > 256);
                    assert_eq!(a.saturating_mul(b), U256::MAX);
                }
            }
            if let Some(quotient) = a.checked_div(b) {
                let rest = quotient.checked_mul(b).and_then(|whole| a.checked_sub(whole)).unwrap();
                assert!(rest < b, "{a:?} / {b:?}");
            }
        }
        assert!(exceeded > 100 && fitted > 100, "{exceeded} {fitted}");
        assert_eq!(
            (U256::ONE.checked_div(U256::ZERO), U256::ZERO.saturating_sub(U256::ONE)),
            (None, U256::ZERO)
        );
    }
}
