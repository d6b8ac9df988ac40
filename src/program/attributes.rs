//! Attributes of netlink messages: written into a body, read from one.
//!
//! Numbers are in the order of this machine unless a name says otherwise.

use netlink_packet_core::{NLA_F_NESTED, NLA_F_NET_BYTEORDER, NLA_HEADER_SIZE, NlasIterator};
use smallvec::SmallVec;

/// Why a reply is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Attributes that do not fit into each other.
    #[error("the attributes of the {0} are malformed")]
    Malformed(&'static str),
    /// An attribute that must be there.
    #[error("the {0} is missing")]
    Missing(&'static str),
    /// An attribute with a value that is not modelled, or of another length.
    #[error("the {0} is not understood")]
    Value(&'static str),
}

/// Appends an attribute, padded to four bytes.
pub fn push(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    fill(body, kind, |body| body.extend_from_slice(value));
}

/// Appends a number in the order of the network, marked as such.
pub fn push_be(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    push(body, kind | NLA_F_NET_BYTEORDER, value);
}

/// Appends a text with the zero at its end.
pub fn push_text(body: &mut Vec<u8>, kind: u16, text: &str) {
    fill(body, kind, |body| {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    });
}

/// Appends an attribute that is made of attributes.
pub fn nested(body: &mut Vec<u8>, kind: u16, attributes: impl FnOnce(&mut Vec<u8>)) {
    fill(body, kind | NLA_F_NESTED, attributes);
}

fn fill(body: &mut Vec<u8>, kind: u16, value: impl FnOnce(&mut Vec<u8>)) {
    let start = body.len();
    body.extend_from_slice(&[0; NLA_HEADER_SIZE]);
    value(body);
    // Nothing that is written comes near the limit.
    let length = u16::try_from(body.len() - start).unwrap_or(u16::MAX);
    body[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    body[start + 2..start + NLA_HEADER_SIZE].copy_from_slice(&kind.to_ne_bytes());
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The attributes of a body, or of an attribute.
pub(super) struct Attributes<'a>(SmallVec<[(u16, &'a [u8]); 20]>);

impl<'a> Attributes<'a> {
    /// Reads the outermost ones; `what` they describe is for errors.
    pub(super) fn new(bytes: &'a [u8], what: &'static str) -> Result<Attributes<'a>, WireError> {
        each(bytes, what).collect::<Result<_, _>>().map(Attributes)
    }

    /// The kinds and values, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, &'a [u8])> + '_ {
        self.0.iter().copied()
    }

    pub(super) fn optional(&self, kind: u16) -> Option<&'a [u8]> {
        self.0.iter().find(|(found, _)| *found == kind).map(|(_, value)| *value)
    }

    pub(super) fn need(&self, kind: u16, what: &'static str) -> Result<&'a [u8], WireError> {
        self.optional(kind).ok_or(WireError::Missing(what))
    }

    pub(super) fn array<const N: usize>(&self, kind: u16, what: &'static str) -> Result<[u8; N], WireError> {
        self.need(kind, what)?.try_into().map_err(|_| WireError::Value(what))
    }

    pub(super) fn u8(&self, kind: u16, what: &'static str) -> Result<u8, WireError> {
        self.array(kind, what).map(u8::from_ne_bytes)
    }

    pub(super) fn u16(&self, kind: u16, what: &'static str) -> Result<u16, WireError> {
        self.array(kind, what).map(u16::from_ne_bytes)
    }

    pub(super) fn u32(&self, kind: u16, what: &'static str) -> Result<u32, WireError> {
        self.array(kind, what).map(u32::from_ne_bytes)
    }

    /// In the order of the network.
    pub(super) fn be_u16(&self, kind: u16, what: &'static str) -> Result<u16, WireError> {
        self.array(kind, what).map(u16::from_be_bytes)
    }

    /// In the order of the network.
    pub(super) fn be_u32(&self, kind: u16, what: &'static str) -> Result<u32, WireError> {
        self.array(kind, what).map(u32::from_be_bytes)
    }

    /// Up to the zero at its end.
    pub(super) fn text(&self, kind: u16, what: &'static str) -> Result<Option<&'a str>, WireError> {
        let Some(bytes) = self.optional(kind) else { return Ok(None) };
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        std::str::from_utf8(text).map(Some).map_err(|_| WireError::Value(what))
    }
}

/// Kinds and values one by one, without the marks of what is nested or in the order of the network.
pub(super) fn each<'a>(
    bytes: &'a [u8],
    what: &'static str,
) -> impl Iterator<Item = Result<(u16, &'a [u8]), WireError>> {
    NlasIterator::new(bytes).map(move |attribute| {
        let attribute = attribute.map_err(|_| WireError::Malformed(what))?;
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        let value = attribute.into_inner().get(NLA_HEADER_SIZE..length);
        Ok((kind, value.ok_or(WireError::Malformed(what))?))
    })
}

/// The same up to the first that is malformed.
pub fn well_formed(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    each(bytes, "message").map_while(Result::ok)
}

/// Those of a body that begins with a fixed header of `skip` bytes.
pub fn after(body: &[u8], skip: usize) -> impl Iterator<Item = (u16, &[u8])> {
    well_formed(body.get(skip..).unwrap_or_default())
}
