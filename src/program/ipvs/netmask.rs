//! Lengths of IPv4 prefixes as masks, and back.

use std::net::Ipv4Addr;

/// The mask with so many bits; more than 32 are 32.
pub(super) fn of_bits(bits: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0))
}

/// The number of bits of a mask; `None` if it has a gap.
pub(super) fn bits(mask: Ipv4Addr) -> Option<u8> {
    let bits = u8::try_from(u32::from(mask).leading_ones()).ok()?;
    (of_bits(bits) == mask).then_some(bits)
}
