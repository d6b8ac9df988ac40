//! Sets and maps as the kernel lists them, with their elements.

use crate::program::nft::name::Names;
use crate::program::nft::{Data, DataType, Element, Key, ScalarType, Set, SetFlags, Values, Verdict};

use super::super::attribute::{Attributes, ByKind};
use super::super::element::Layout;
use super::super::uapi::{element, set, verdict};
use super::super::{anonymous, datatype, userdata};

/// A set or map that is being read.
#[derive(Debug)]
pub(super) struct LiveSet {
    set: Set,
    key_type: u32,
    is_anonymous: bool,
    /// Whether the bytes of its keys and data can be understood.
    is_known: bool,
    /// Where intervals begin and have ended, until all are there.
    ends: Vec<End>,
}

/// Where an interval begins, or has ended.
#[derive(Debug)]
struct End {
    key: Vec<u8>,
    /// What begins; `None` where something has ended.
    content: Option<Element>,
}

impl LiveSet {
    /// Its name, and it without its elements. `None` if it is one of objects.
    pub(super) fn read(attributes: &ByKind<'_>) -> Option<(Box<str>, LiveSet)> {
        let (noted, description) = (attributes.get(set::USERDATA), attributes.nested(set::DESCRIPTION));
        let flags = attributes.number(set::FLAGS).unwrap_or(0);
        if flags & set::OBJECTS != 0 {
            return None;
        }
        let is_anonymous = flags & set::ANONYMOUS != 0;
        let key_type = attributes.number(set::KEY_TYPE)?;
        let key = match key_type {
            anonymous::CT_STATE if is_anonymous => vec![ScalarType::Mark],
            number => datatype::types(number),
        };
        let mut is_known =
            has_length(&key, attributes.number(set::KEY_LENGTH)) && userdata::has_host_numbers(noted, &key);
        let data = match attributes.number(set::DATA_TYPE) {
            None => None,
            Some(set::VERDICTS) => Some(DataType::Verdict),
            Some(number) => {
                let types = datatype::types(number);
                is_known &= has_length(&types, attributes.number(set::DATA_LENGTH))
                    && userdata::gives_host_numbers(noted, &types);
                Some(DataType::Values(types))
            }
        };
        if (flags & set::MAP != 0) != data.is_some() {
            return None;
        }
        let size = description.and_then(|description| description.number(set::DESCRIPTION_SIZE));
        let seconds = |milliseconds: u64| u32::try_from(milliseconds / 1000).unwrap_or(u32::MAX);
        let content = Set {
            key,
            data,
            flags: SetFlags {
                constant: flags & set::CONSTANT != 0,
                interval: flags & set::INTERVAL != 0,
                timeout: flags & set::HAS_TIMEOUT != 0,
                dynamic: flags & set::EVALUATED != 0,
            },
            timeout: attributes.long_number(set::TIMEOUT).map(seconds),
            // nft gives one that cannot change the size that it happens to have, and does not show it.
            size: size.filter(|_| flags & set::CONSTANT == 0),
            comment: userdata::read_comment(noted, userdata::SET_COMMENT),
            ..Set::default()
        };
        is_known &= Layout::of(&content).takes(&content.key);
        let live = LiveSet { set: content, key_type, is_anonymous, is_known, ends: Vec::new() };
        Some((attributes.text(set::NAME)?.into(), live))
    }

    pub(super) fn is_anonymous(&self) -> bool {
        self.is_anonymous
    }

    /// The number of its keys' type.
    pub(super) fn key_type(&self) -> u32 {
        self.key_type
    }

    /// It; of one that is not complete without its elements.
    pub(super) fn set(&self) -> &Set {
        &self.set
    }

    pub(super) fn into_set(self) -> Set {
        self.set
    }

    /// Takes a list of elements.
    pub(super) fn add(&mut self, list: &[u8], names: &mut Names) {
        for (_, attributes) in Attributes::new(list) {
            let done = if self.is_known { self.element(&ByKind::of(attributes), names) } else { None };
            self.set.has_unmodelled |= done.is_none();
        }
    }

    fn element(&mut self, attributes: &ByKind<'_>, names: &mut Names) -> Option<()> {
        let flags = attributes.number(element::FLAGS).unwrap_or(0);
        let has_more = [element::EXPRESSION, element::OBJECT, element::EXPRESSIONS]
            .iter()
            .any(|kind| attributes.has(*kind));
        if has_more || flags & !element::INTERVAL_END != 0 {
            return None;
        }
        let key = value(attributes, element::KEY)?;
        if flags & element::INTERVAL_END != 0 {
            self.ends.push(End { key: key.to_vec(), content: None });
            return Some(());
        }
        let data = match (&self.set.data, attributes.nested(element::DATA)) {
            (None, None) => None,
            (Some(DataType::Verdict), Some(data)) => Some(Data::Verdict(said(&data, names)?)),
            (Some(DataType::Values(types)), Some(data)) => {
                Some(Data::values(datatype::scalars(types, data.get(element::VALUE)?)?))
            }
            (None, Some(_)) | (Some(_), None) => return None,
        };
        let seconds = |milliseconds: u64| u32::try_from(milliseconds / 1000).unwrap_or(u32::MAX);
        let content = Element {
            data,
            comment: userdata::read_comment(attributes.get(element::USERDATA), userdata::COMMENT),
            timeout: attributes.long_number(element::TIMEOUT).map(seconds),
            tag: None,
        };
        match Layout::of(&self.set) {
            Layout::Ends => self.ends.push(End { key: key.to_vec(), content: Some(content) }),
            Layout::Single => {
                let key = Key::exact(datatype::scalars(&self.set.key, key)?);
                self.set.elements.insert(key, content);
            }
            Layout::Ranges => {
                let first = datatype::scalars(&self.set.key, key)?;
                let last: Values = match value(attributes, element::KEY_END) {
                    None => first.clone(),
                    Some(last) => datatype::scalars(&self.set.key, last)?,
                };
                self.set.elements.insert(Key::intervals(first.into_iter().zip(last)), content);
            }
        }
        Some(())
    }

    /// Makes intervals of where they begin and end: all elements are there.
    pub(super) fn complete(&mut self) {
        let mut ends = std::mem::take(&mut self.ends);
        // Where one has ended the next may begin.
        ends.sort_by(|one, other| {
            (&one.key, one.content.is_some()).cmp(&(&other.key, other.content.is_some()))
        });
        let mut ends = ends.into_iter().peekable();
        while let Some(End { key, content }) = ends.next() {
            let Some(content) = content else { continue };
            let last = match ends.peek() {
                Some(next) => datatype::predecessor(&next.key),
                None => Some(vec![0xff; key.len()]),
            };
            let first = datatype::scalars(&self.set.key, &key);
            let last = last.and_then(|last| datatype::scalars(&self.set.key, &last));
            match first.zip(last) {
                Some((first, last)) => {
                    let key = Key::intervals(first.into_iter().zip(last));
                    self.set.elements.insert(key, content);
                }
                None => self.set.has_unmodelled = true,
            }
        }
    }
}

fn has_length(types: &[ScalarType], length: Option<u32>) -> bool {
    let is_modelled = !types.is_empty() && types.iter().all(|one| datatype::length(one) > 0);
    is_modelled && length.and_then(|length| length.try_into().ok()) == Some(datatype::length_of_all(types))
}

/// The bytes of a value that an attribute holds.
pub(super) fn value<'a>(attributes: &ByKind<'a>, kind: u16) -> Option<&'a [u8]> {
    attributes.nested(kind)?.get(element::VALUE)
}

/// A verdict as data.
pub(super) fn said(data: &ByKind<'_>, names: &mut Names) -> Option<Verdict> {
    let content = data.nested(element::VERDICT)?;
    let mut target = || names.get(content.text(element::VERDICT_CHAIN)?);
    match content.number(element::VERDICT_CODE)?.cast_signed() {
        verdict::ACCEPT => Some(Verdict::Accept),
        verdict::DROP => Some(Verdict::Drop),
        verdict::CONTINUE => Some(Verdict::Continue),
        verdict::RETURN => Some(Verdict::Return),
        verdict::JUMP => target().map(Verdict::Jump),
        verdict::GOTO => target().map(Verdict::Goto),
        _ => None,
    }
}
