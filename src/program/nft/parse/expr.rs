//! Expressions and values in the JSON of nft. `None` is: not modelled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use crate::net::{IpCidr, IpFamily};
use crate::program::nft::name::Names;
use crate::program::nft::statement::PROTOCOLS;
use crate::program::nft::value::ends;
use crate::program::nft::{
    Data, Expr, FibType, InterfaceName, Key, Keys, MapRef, Meta, NumgenMode, Payload, Right, Scalar,
    ScalarType, Transport, Values,
};

use super::{only_member, small, statement, text, words};

pub(super) fn expr(value: &Value) -> Option<Expr> {
    let (kind, content) = only_member(value)?;
    match kind {
        "payload" => payload(content).map(Expr::Payload),
        "meta" => match text(content, "key")? {
            "mark" => Some(Expr::MARK),
            key => Meta::from_name(key).map(Expr::Meta),
        },
        "fib" if text(content, "result") == Some("type") => match words(content.get("flags"))?[..] {
            ["saddr"] => Some(Expr::FibType { source: true }),
            ["daddr"] => Some(Expr::FibType { source: false }),
            _ => None,
        },
        "numgen" => {
            let mode = match text(content, "mode")? {
                "random" => NumgenMode::Random,
                "inc" => NumgenMode::Increment,
                _ => return None,
            };
            let modulus = small(content, "mod").filter(|modulus| *modulus > 0)?;
            let offset = small(content, "offset").unwrap_or(0);
            offset.checked_add(modulus)?;
            Some(Expr::Numgen { mode, modulus, offset })
        }
        "&" => match content.as_array()?.as_slice() {
            [left, right] if expr(left)? == Expr::MARK => {
                Some(Expr::Mark { mask: right.as_u64()?.try_into().ok()? })
            }
            _ => None,
        },
        "concat" => {
            let parts = content.as_array()?.iter().map(|part| {
                let part = expr(part)?;
                (part.parts().len() == 1).then_some(part)
            });
            let parts: Box<[Expr]> = parts.collect::<Option<_>>()?;
            (parts.len() > 1).then_some(Expr::Concat(parts))
        }
        _ => None,
    }
}

fn payload(content: &Value) -> Option<Payload> {
    let (protocol, field) = (text(content, "protocol")?, text(content, "field")?);
    let family = match protocol {
        "ip" => IpFamily::V4,
        "ip6" => IpFamily::V6,
        other => {
            let transport = Transport::from_name(other)?;
            return match field {
                "sport" => Some(Payload::SourcePort(transport)),
                "dport" => Some(Payload::DestinationPort(transport)),
                _ => None,
            };
        }
    };
    match (family, field) {
        (_, "saddr") => Some(Payload::SourceAddr(family)),
        (_, "daddr") => Some(Payload::DestinationAddr(family)),
        (IpFamily::V4, "protocol") | (IpFamily::V6, "nexthdr") => Some(Payload::NextProtocol(family)),
        (IpFamily::V4 | IpFamily::V6, _) => None,
    }
}

/// The right side of a match.
pub(super) fn right(value: &Value, types: &[ScalarType], names: &mut Names) -> Option<Right> {
    if let Some(name) = value.as_str().and_then(|text| text.strip_prefix('@')) {
        return names.get(name).map(Right::Set);
    }
    match value.get("set") {
        None => key(value, types).map(|key| Right::Keys(Keys::one(key))),
        Some(Value::Array(keys)) => {
            let keys = keys.iter().map(|one| {
                // An element that has more than its value would be treated in another way.
                key(one, types)
            });
            keys.collect::<Option<Vec<Key>>>().map(|keys| Right::Keys(Keys::new(keys)))
        }
        Some(one) => key(one, types).map(|key| Right::Keys(Keys::one(key))),
    }
}

/// What a map statement or expression looks into.
pub(super) fn map(
    value: &Value,
    types: &[ScalarType],
    names: &mut Names,
    mut data: impl FnMut(&Value, &mut Names) -> Option<Data>,
) -> Option<MapRef> {
    if let Some(name) = value.as_str() {
        return names.get(name.strip_prefix('@')?).map(MapRef::Named);
    }
    let entries = value.get("set")?.as_array()?.iter().map(|entry| {
        let [one, its] = entry.as_array()?.as_slice() else { return None };
        Some((key(one, types)?, data(its, names)?))
    });
    entries.collect::<Option<Vec<_>>>().map(MapRef::anonymous)
}

/// A verdict in a map.
pub(super) fn verdict_data(value: &Value, names: &mut Names) -> Option<Data> {
    statement::verdict(value, names).map(Data::Verdict)
}

/// Where a map sends packets: an address, or an address and a port.
pub(super) fn target_data(value: &Value, family: IpFamily) -> Option<Data> {
    let with_port = [ScalarType::addr(family), ScalarType::InetService];
    let types = if value.get("concat").is_some() { &with_port[..] } else { &with_port[..1] };
    values(value, types).map(Data::values)
}

/// A key: a value, interval or prefix for each type.
pub(super) fn key(value: &Value, types: &[ScalarType]) -> Option<Key> {
    if let [kind] = types {
        if let Some(scalar) = scalar(value, kind) {
            return Some(Key::exact([scalar]));
        }
        return Some(Key::intervals([interval(value, kind)?]));
    }
    let parts = value.get("concat")?.as_array()?;
    if parts.len() != types.len() {
        return None;
    }
    if let Some(exact) = values(value, types) {
        return Some(Key::exact(exact));
    }
    let intervals = parts.iter().zip(types).map(|(part, kind)| match scalar(part, kind) {
        Some(scalar) => Some((scalar, scalar)),
        None => interval(part, kind),
    });
    intervals.collect::<Option<Vec<_>>>().map(Key::intervals)
}

/// Single values, one for each type.
pub(super) fn values(value: &Value, types: &[ScalarType]) -> Option<Values> {
    if let [kind] = types {
        return scalar(value, kind).map(|one| Values::from_slice(&[one]));
    }
    let parts = value.get("concat")?.as_array()?;
    if parts.len() != types.len() {
        return None;
    }
    parts.iter().zip(types).map(|(part, kind)| scalar(part, kind)).collect()
}

fn interval(value: &Value, kind: &ScalarType) -> Option<(Scalar, Scalar)> {
    let (word, content) = only_member(value)?;
    match word {
        "prefix" => {
            let addr = scalar(content.get("addr")?, kind)?.addr()?;
            let len = content.get("len")?.as_u64()?.try_into().ok()?;
            IpCidr::new(addr, len).map(|cidr| ends(&cidr))
        }
        "range" => {
            let [first, last] = content.as_array()?.as_slice() else { return None };
            let (first, last) = (scalar(first, kind)?, scalar(last, kind)?);
            (first <= last).then_some((first, last))
        }
        _ => None,
    }
}

fn scalar(value: &Value, kind: &ScalarType) -> Option<Scalar> {
    match kind {
        ScalarType::Ipv4Addr => value.as_str()?.parse::<Ipv4Addr>().ok().map(Scalar::Ipv4),
        ScalarType::Ipv6Addr => value.as_str()?.parse::<Ipv6Addr>().ok().map(Scalar::Ipv6),
        ScalarType::InetProto => match value.as_str() {
            Some(name) => {
                let known = PROTOCOLS.iter().find(|(_, its)| *its == name);
                known.map(|(number, _)| Scalar::Protocol(*number))
            }
            None => value.as_u64()?.try_into().ok().map(Scalar::Protocol),
        },
        ScalarType::InetService => value.as_u64()?.try_into().ok().map(Scalar::Port),
        ScalarType::Mark => value.as_u64()?.try_into().ok().map(Scalar::Mark),
        ScalarType::Integer => value.as_u64()?.try_into().ok().map(Scalar::Integer),
        ScalarType::Interface => InterfaceName::new(value.as_str()?).map(Scalar::Interface),
        ScalarType::FibType => FibType::from_name(value.as_str()?).map(Scalar::FibType),
        ScalarType::NfProto => match value.as_str()? {
            "ipv4" => Some(Scalar::NfProto(IpFamily::V4)),
            "ipv6" => Some(Scalar::NfProto(IpFamily::V6)),
            _ => None,
        },
        ScalarType::Other(_) => None,
    }
}

/// An address of a family.
pub(super) fn addr(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}
