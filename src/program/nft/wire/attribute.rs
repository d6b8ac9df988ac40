//! Netlink messages and attributes: written into one buffer, nested ones with their length filled in afterwards, and read.

/// linux/netlink.h: NLA_F_NESTED, and the bits of an attribute's type that are its kind.
const NESTED: u16 = 1 << 15;
const KIND: u16 = (1 << 14) - 1;
/// Bytes before a message's body (`struct nlmsghdr`) and before an attribute's value (`struct nlattr`).
const MESSAGE_HEADER: usize = 16;
const HEADER: usize = 4;

/// Messages in the making.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    /// Whether an attribute has got longer than its length can say.
    pub(super) is_too_long: bool,
}

impl Buffer {
    /// An attribute with any value.
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        let start = self.begin(kind);
        self.bytes.extend_from_slice(value);
        self.end(start);
    }

    /// A text, which netlink ends with a NUL.
    pub(super) fn put_text(&mut self, kind: u16, text: &str) {
        let start = self.begin(kind);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.end(start);
    }

    /// A number of 32 bits: nf_tables has them in network order.
    pub(super) fn put_u32(&mut self, kind: u16, number: u32) {
        self.put(kind, &number.to_be_bytes());
    }

    /// A number of 64 bits, in network order too.
    pub(super) fn put_u64(&mut self, kind: u16, number: u64) {
        self.put(kind, &number.to_be_bytes());
    }

    /// An attribute that holds others.
    pub(super) fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Buffer)) {
        let start = self.begin(kind | NESTED);
        write(self);
        self.end(start);
    }

    /// Begins a message: where its length goes.
    pub(super) fn begin_message(&mut self, kind: u16, flags: u16, sequence: u32, header: [u8; 4]) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&header);
        start
    }

    /// Ends the message that began there.
    pub(super) fn end_message(&mut self, start: usize) {
        let length = self.bytes.len() - start;
        match u32::try_from(length) {
            Ok(length) => self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.is_too_long = true,
        }
    }

    /// Begins an attribute: where its length goes. The kind of one that holds others says so.
    pub(super) fn begin(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    /// Begins an attribute that holds others.
    pub(super) fn begin_nest(&mut self, kind: u16) -> usize {
        self.begin(kind | NESTED)
    }

    /// Ends the attribute that began there, and pads it to four bytes.
    pub(super) fn end(&mut self, start: usize) {
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.is_too_long = true,
        }
        let padded = self.bytes.len().next_multiple_of(HEADER);
        self.bytes.resize(padded, 0);
    }
}

/// Attributes side by side, each with its kind. Ends at the first that is malformed.
#[derive(Debug, Clone)]
pub(super) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Attributes<'a> {
        Attributes { rest: bytes }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let [a, b, c, d, ..] = *self.rest else { return None };
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = self.rest.get(HEADER..length)?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & KIND, value))
    }
}

/// The values of attributes by their kind. Of several of one kind the last counts, as in the kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByKind<'a>([Option<&'a [u8]>; ByKind::KINDS]);

impl<'a> ByKind<'a> {
    /// No attribute that is looked at has a kind beyond.
    const KINDS: usize = 16;

    pub(super) fn of(bytes: &'a [u8]) -> ByKind<'a> {
        let mut found = [None; ByKind::KINDS];
        for (kind, value) in Attributes::new(bytes) {
            if let Some(place) = found.get_mut(usize::from(kind)) {
                *place = Some(value);
            }
        }
        ByKind(found)
    }

    /// The value of the attribute of this kind, if there is one.
    pub(super) fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.0.get(usize::from(kind)).copied().flatten()
    }

    /// Whether there is an attribute of this kind.
    pub(super) fn has(&self, kind: u16) -> bool {
        self.get(kind).is_some()
    }

    /// The attributes within one that holds others.
    pub(super) fn nested(&self, kind: u16) -> Option<ByKind<'a>> {
        self.get(kind).map(ByKind::of)
    }

    /// A number of 32 bits in network order.
    pub(super) fn number(&self, kind: u16) -> Option<u32> {
        self.get(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// A number of 64 bits in network order.
    pub(super) fn long_number(&self, kind: u16) -> Option<u64> {
        self.get(kind)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// A text up to its NUL.
    pub(super) fn text(&self, kind: u16) -> Option<&'a str> {
        std::str::from_utf8(self.get(kind)?.split(|byte| *byte == 0).next()?).ok()
    }
}

/// Where in a message the attribute of this kind has its value, and the value.
pub(super) fn place_of(message: &[u8], kind: u16) -> Option<(usize, &[u8])> {
    // `struct nfgenmsg` comes before the attributes.
    let mut at = MESSAGE_HEADER + HEADER;
    for (its, value) in Attributes::new(message.get(at..)?) {
        if its == kind {
            return Some((at + HEADER, value));
        }
        at += HEADER + value.len().next_multiple_of(HEADER);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_read_back() {
        let mut buffer = Buffer::default();
        buffer.put_text(1, "abc");
        buffer.nest(2, |buffer| {
            buffer.put(1, &[7]);
            buffer.put_u32(2, 9);
        });
        assert_eq!(buffer.bytes.len() % 4, 0);
        let all = ByKind::of(&buffer.bytes);
        assert_eq!(all.text(1), Some("abc"));
        let inner: Vec<(u16, &[u8])> = Attributes::new(all.get(2).unwrap()).collect();
        assert_eq!(inner, [(1, &[7][..]), (2, &[0, 0, 0, 9])]);
        assert_eq!(all.nested(2).unwrap().number(2), Some(9));
        assert!(!all.has(3) && all.get(99).is_none());
        assert!(!buffer.is_too_long);
        buffer.put(3, &[0; 70_000]);
        assert!(buffer.is_too_long);
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        assert_eq!(Attributes::new(&[8, 0, 1, 0, 5]).count(), 0);
        assert_eq!(Attributes::new(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(Attributes::new(&[5, 0, 1, 0, 5]).collect::<Vec<_>>(), [(1, &[5][..])]);
    }
}
