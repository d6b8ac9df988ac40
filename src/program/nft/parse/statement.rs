//! Statements in the JSON of nft.

use serde_json::Value;

use crate::net::IpFamily;
use crate::program::nft::name::Names;
use crate::program::nft::{CtState, Expr, Family, NatFlags, NatTarget, RejectWith, SetOp, Stmt, Verdict};

use super::{expr, only_member, small, text, words};

/// A statement; what is not modelled is kept as it is.
pub(super) fn stmt(value: &Value, family: Family, names: &mut Names) -> Stmt {
    modelled(value, family, names).unwrap_or_else(|| Stmt::Unmodelled(value.to_string().into()))
}

fn modelled(value: &Value, family: Family, names: &mut Names) -> Option<Stmt> {
    let (kind, content) = only_member(value)?;
    match kind {
        "match" => matched(content, names),
        "vmap" => {
            let key = expr::expr(content.get("key")?)?;
            let map = expr::map(content.get("data")?, &key.types(), names, expr::verdict_data)?;
            Some(Stmt::Vmap { key, map })
        }
        "mangle" => mangle(content),
        "dnat" => dnat(content, family, names),
        "masquerade" => masquerade(content).map(Stmt::Masquerade),
        "reject" => reject(content, family).map(Stmt::Reject),
        "set" => update_set(content, names),
        "counter" => (content.is_null() || content.get("packets").is_some()).then_some(Stmt::Counter),
        "notrack" => Some(Stmt::Notrack),
        _ => verdict(value, names).map(Stmt::Verdict),
    }
}

/// A verdict, as a statement or in a map.
pub(super) fn verdict(value: &Value, names: &mut Names) -> Option<Verdict> {
    let (kind, content) = only_member(value)?;
    match kind {
        "accept" => Some(Verdict::Accept),
        "drop" => Some(Verdict::Drop),
        "continue" => Some(Verdict::Continue),
        "return" => Some(Verdict::Return),
        "jump" => names.get(text(content, "target")?).map(Verdict::Jump),
        "goto" => names.get(text(content, "target")?).map(Verdict::Goto),
        _ => None,
    }
}

fn matched(content: &Value, names: &mut Names) -> Option<Stmt> {
    let (op, left, right) = (text(content, "op")?, content.get("left")?, content.get("right")?);
    if let Some(ct) = left.get("ct") {
        let key = ct.get("key").and_then(Value::as_str).filter(|_| ct.get("dir").is_none())?;
        return match key {
            "state" => ct_state(op, right),
            "status" => ct_nat(op, right),
            _ => None,
        };
    }
    let negated = match op {
        "==" => false,
        "!=" => true,
        _ => return None,
    };
    let left = expr::expr(left)?;
    let right = expr::right(right, &left.types(), names)?;
    Some(Stmt::Match { left, negated, right })
}

/// A connection is in one state: in one of several is the same as the one being one of several.
fn ct_state(op: &str, right: &Value) -> Option<Stmt> {
    let (list, is_set) = match right.get("set") {
        Some(set) => (set, true),
        None => (right, false),
    };
    let mut states = 0;
    for word in words(Some(list))? {
        states |= CtState::NAMES.iter().find(|(_, name)| *name == word)?.0;
    }
    let several = states.count_ones() > 1;
    match op {
        "in" => Some(Stmt::CtState { states, negated: false }),
        "==" if is_set || !several => Some(Stmt::CtState { states, negated: false }),
        "!=" if is_set || !several => Some(Stmt::CtState { states, negated: true }),
        _ => None,
    }
}

fn ct_nat(op: &str, right: &Value) -> Option<Stmt> {
    let words = words(Some(right))?;
    let (snat, dnat) = (words.contains(&"snat"), words.contains(&"dnat"));
    let no_others = words.iter().all(|word| matches!(*word, "snat" | "dnat"));
    (op == "in" && no_others && (snat || dnat)).then_some(Stmt::CtNat { snat, dnat })
}

fn mangle(content: &Value) -> Option<Stmt> {
    let key = content.get("key")?.get("meta")?;
    if text(key, "key") != Some("mark") {
        return None;
    }
    let (keep, turn) = mark(content.get("value")?)?;
    Some(Stmt::SetMark { mask: !keep, value: turn })
}

/// What becomes of the mark: (mark AND keep) XOR turn.
fn mark(value: &Value) -> Option<(u32, u32)> {
    if let Some(number) = value.as_u64() {
        return Some((0, number.try_into().ok()?));
    }
    let (op, content) = only_member(value)?;
    if op == "meta" {
        return (text(content, "key") == Some("mark")).then_some((u32::MAX, 0));
    }
    let [left, right] = content.as_array()?.as_slice() else { return None };
    let (keep, turn) = mark(left)?;
    let operand: u32 = right.as_u64()?.try_into().ok()?;
    match op {
        "&" => Some((keep & operand, turn & operand)),
        "|" => Some((keep & !operand, (turn & !operand) ^ operand)),
        "^" => Some((keep, turn ^ operand)),
        _ => None,
    }
}

fn masquerade(content: &Value) -> Option<NatFlags> {
    if content.is_null() {
        return Some(NatFlags::default());
    }
    let has_flags_alone = content.as_object()?.keys().all(|key| key == "flags");
    if has_flags_alone { nat_flags(content) } else { None }
}

fn nat_flags(content: &Value) -> Option<NatFlags> {
    let mut flags = NatFlags::default();
    for word in words(content.get("flags"))? {
        match word {
            "random" => flags.random = true,
            "fully-random" => flags.fully_random = true,
            "persistent" => flags.persistent = true,
            _ => return None,
        }
    }
    Some(flags)
}

fn dnat(content: &Value, family: Family, names: &mut Names) -> Option<Stmt> {
    let known = |key: &String| matches!(key.as_str(), "addr" | "port" | "family" | "flags");
    if !content.as_object()?.keys().all(known) {
        return None;
    }
    let family = match text(content, "family") {
        Some("ip") => Some(IpFamily::V4),
        Some("ip6") => Some(IpFamily::V6),
        Some(_) => return None,
        None => family.ip(),
    };
    let port = match content.get("port") {
        None => None,
        Some(port) => Some(port.as_u64()?.try_into().ok()?),
    };
    let to = match content.get("addr") {
        None => NatTarget::Port(port?),
        Some(addr) => match addr.get("map") {
            None => NatTarget::Addr(expr::addr(addr)?, port),
            Some(map) if port.is_none() => {
                let family = family?;
                let key: Expr = expr::expr(map.get("key")?)?;
                let types = key.types();
                let map =
                    expr::map(map.get("data")?, &types, names, |data, _| expr::target_data(data, family))?;
                NatTarget::Map { family, key, map }
            }
            Some(_) => return None,
        },
    };
    Some(Stmt::Dnat { to, flags: nat_flags(content)? })
}

fn reject(content: &Value, family: Family) -> Option<RejectWith> {
    if content.is_null() {
        return Some(RejectWith::PortUnreachable);
    }
    let code = text(content, "expr").unwrap_or_default();
    let fits = |ip: IpFamily| family.ip() == Some(ip);
    match text(content, "type")? {
        "tcp reset" => return Some(RejectWith::TcpReset),
        "icmp" if fits(IpFamily::V4) => {}
        "icmpv6" if fits(IpFamily::V6) => {}
        "icmpx" => {}
        _ => return None,
    }
    match code {
        "port-unreachable" => Some(RejectWith::PortUnreachable),
        "admin-prohibited" => Some(RejectWith::AdminProhibited),
        "host-unreachable" | "addr-unreachable" => Some(RejectWith::HostUnreachable),
        "net-unreachable" | "no-route" => Some(RejectWith::NetUnreachable),
        _ => None,
    }
}

fn update_set(content: &Value, names: &mut Names) -> Option<Stmt> {
    let known = |key: &String| matches!(key.as_str(), "op" | "elem" | "set");
    if !content.as_object()?.keys().all(known) {
        return None;
    }
    let op = match text(content, "op")? {
        "add" => SetOp::Add,
        "update" => SetOp::Update,
        "delete" => SetOp::Delete,
        _ => return None,
    };
    let set = names.get(text(content, "set")?.strip_prefix('@')?)?;
    let elem = content.get("elem")?;
    let (key, timeout) = match elem.get("elem") {
        None => (elem, None),
        Some(wrapped) => {
            let known = |key: &String| matches!(key.as_str(), "val" | "timeout");
            if !wrapped.as_object()?.keys().all(known) {
                return None;
            }
            (wrapped.get("val")?, small(wrapped, "timeout"))
        }
    };
    Some(Stmt::UpdateSet { op, set, key: expr::expr(key)?, timeout })
}
