//! Attributes of netlink messages, written and read: length, kind, value, padded to four bytes.

use netlink_packet_core::{NLA_F_NESTED, NLA_HEADER_SIZE, NlasIterator};

/// Appends an attribute.
pub fn push(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    push_with(body, kind, |body| body.extend_from_slice(value));
}

/// Appends an attribute that is made of attributes, and says so.
pub fn push_nested(body: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    push_with(body, kind | NLA_F_NESTED, fill);
}

/// Appends an attribute with the value that `fill` appends.
pub fn push_with(body: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = body.len();
    body.extend_from_slice(&[0; NLA_HEADER_SIZE]);
    fill(body);
    // Nothing that is written comes near the limit.
    let length = u16::try_from(body.len() - start).unwrap_or(u16::MAX);
    body[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    body[start + 2..start + NLA_HEADER_SIZE].copy_from_slice(&kind.to_ne_bytes());
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The attributes of a body, each with its kind and value. Ends at the first that is malformed.
pub fn read(body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(body).map_while(|attribute| {
        let attribute = attribute.ok()?;
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        Some((kind, attribute.into_inner().get(NLA_HEADER_SIZE..length)?))
    })
}
