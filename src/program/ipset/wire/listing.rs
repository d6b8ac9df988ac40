//! The parts of a listing, put together to sets. What is not modelled is kept as text, as it is when `ipset save` is read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::net::{IpCidr, IpFamily, Protocol};
use crate::program::attributes::{Attributes, WireError, each};
use crate::program::ipset::{Entry, HashType, Set, SetKind, SetName, Sets};

use super::{IPV4, IPV6, address, attribute, data, entry_data, set_data, unmodelled};

/// Reads sets from all parts of a listing, each the body of a reply. A set whose name cannot stand in a rule is left out,
/// since nothing can ask it.
pub fn sets<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Result<Sets, WireError> {
    let mut found: BTreeMap<&[u8], Listed<'_>> = BTreeMap::new();
    for part in parts {
        let part = Attributes::new(part, "set")?;
        let name = part.need(attribute::SETNAME, "name of the set")?;
        let listed = match part.optional(attribute::DATA) {
            // The first part of a set tells what it is.
            Some(settings) => found.entry(name).or_insert(Listed::new(&part, settings)?),
            None => found.get_mut(name).ok_or(WireError::Missing("first part of the set"))?,
        };
        let Some(entries) = part.optional(attribute::ADT) else { continue };
        for entry in each(entries, "entries") {
            let (_, entry) = entry?;
            listed.entries.insert(listed.entry(&Attributes::new(entry, "entry")?));
        }
    }
    let named = found.into_iter().filter_map(|(name, listed)| {
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = SetName::new(std::str::from_utf8(name).ok()?).ok()?;
        Some((name, Set { kind: listed.kind, entries: listed.entries }))
    });
    Ok(named.collect())
}

/// A set of which parts have come.
struct Listed<'a> {
    type_name: &'a str,
    kind: SetKind,
    entries: BTreeSet<Entry>,
}

impl<'a> Listed<'a> {
    fn new(part: &Attributes<'a>, settings: &'a [u8]) -> Result<Listed<'a>, WireError> {
        let what = "type of the set";
        let type_name = part.text(attribute::TYPENAME, what)?.ok_or(WireError::Missing(what))?;
        let family = match part.u8(attribute::FAMILY, "family of the set")? {
            IPV4 => Some(IpFamily::V4),
            IPV6 => Some(IpFamily::V6),
            _ => None,
        };
        let settings = Attributes::new(settings, "settings of a set")?;
        let kind = kind(type_name, family, &settings)
            .unwrap_or_else(|| SetKind::Unmodelled(unmodelled::kind(type_name, family, &settings).into()));
        Ok(Listed { type_name, kind, entries: BTreeSet::new() })
    }

    fn entry(&self, found: &Attributes<'_>) -> Entry {
        modelled(&self.kind, found)
            .unwrap_or_else(|| Entry::Unmodelled(unmodelled::entry(self.type_name, found).into()))
    }
}

/// A kind that is modelled: one with other settings than these is not.
fn kind(type_name: &str, family: Option<IpFamily>, settings: &Attributes<'_>) -> Option<SetKind> {
    use set_data::{BUCKETSIZE, ELEMENTS, HASHSIZE, INITVAL, MAXELEM, MEMSIZE, REFERENCES};
    let has_only = |modelled: &[u16]| {
        let of_kernel = [BUCKETSIZE, ELEMENTS, HASHSIZE, INITVAL, MEMSIZE, REFERENCES];
        settings.iter().all(|(kind, _)| modelled.contains(&kind) || of_kernel.contains(&kind))
    };
    if let Some(hash) = HashType::from_name(type_name) {
        let max_entries = settings.be_u32(MAXELEM, "most entries of the set").ok()?;
        return has_only(&[MAXELEM]).then_some(SetKind::Hash { hash, family: family?, max_entries });
    }
    if type_name == "bitmap:port" {
        let first = settings.be_u16(data::PORT, "first port of the set").ok()?;
        let last = settings.be_u16(data::PORT_TO, "last port of the set").ok()?;
        return has_only(&[data::PORT, data::PORT_TO]).then_some(SetKind::BitmapPort { first, last });
    }
    None
}

/// An entry that is modelled: nothing of what the kernel tells of it is left over.
fn modelled(kind: &SetKind, found: &Attributes<'_>) -> Option<Entry> {
    let has = |n_attributes: usize| (found.iter().count() == n_attributes).then_some(());
    let hash = match kind {
        SetKind::Hash { hash, .. } => hash,
        SetKind::BitmapPort { .. } => {
            has(1)?;
            return found.be_u16(data::PORT, "port").ok().map(Entry::Port);
        }
        SetKind::Unmodelled(_) => return None,
    };
    let addr = addr(found, data::IP)?;
    if *hash == HashType::Ip {
        has(1)?;
        return Some(Entry::Ip(addr));
    }
    let protocol = Protocol::from_number(found.u8(data::PROTO, "protocol").ok()?)?;
    let port = found.be_u16(data::PORT, "port").ok()?;
    match hash {
        HashType::Ip | HashType::IpPort => has(3).map(|()| Entry::IpPort(addr, protocol, port)),
        HashType::IpPortIp => {
            has(4)?;
            Some(Entry::IpPortIp(addr, protocol, port, self::addr(found, entry_data::IP2)?))
        }
        HashType::IpPortNet => {
            let second = self::addr(found, entry_data::IP2)?;
            let length = found.optional(entry_data::CIDR2).and_then(|value| value.first().copied());
            has(if length.is_some() { 5 } else { 4 })?;
            let net = length.map_or(Some(IpCidr::host(second)), |length| IpCidr::new(second, length))?;
            Some(Entry::IpPortNet(addr, protocol, port, net))
        }
    }
}

/// The address in an attribute of an entry.
pub(super) fn addr(found: &Attributes<'_>, kind: u16) -> Option<IpAddr> {
    let found = Attributes::new(found.optional(kind)?, "address").ok()?;
    let v4 = found.array::<4>(address::IPV4, "address").map(IpAddr::from);
    v4.or_else(|_| found.array::<16>(address::IPV6, "address").map(IpAddr::from)).ok()
}
