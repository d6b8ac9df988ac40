//! Proxy ports: a pure function of what needs one and of what had one before, so that a restart, or another compilation,
//! gives the same ports.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::backend::LiftedName;
use crate::backend::hash::hash16;
use crate::net::{Port, Protocol};

/// Which listener of a Service port. Nearly all have one alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Endpoints for policy Cluster.
    Cluster,
    /// Endpoints for policy Local.
    Local,
    /// No endpoints: for clients that no source range lets in.
    NotLetIn,
}

impl Role {
    /// What stands behind the Service's name in comments and labels; kube-proxy, which knows the first role alone, writes
    /// nothing.
    const SUFFIXES: [(Role, &'static str); 3] =
        [(Role::Cluster, ""), (Role::Local, " local endpoints"), (Role::NotLetIn, " not let in")];

    /// The name of a Service port with the role.
    pub(super) fn label(self, name: &str) -> String {
        let suffix = Role::SUFFIXES.iter().find(|(role, _)| *role == self).map_or("", |(_, suffix)| suffix);
        format!("{name}{suffix}")
    }

    /// Both, read back. A text that is no label is taken for a name.
    pub(super) fn of_label(label: &str) -> (&str, Role) {
        let with_suffix = Role::SUFFIXES.iter().rev().find_map(|(role, suffix)| {
            label.strip_suffix(suffix).filter(|_| !suffix.is_empty()).map(|name| (name, *role))
        });
        with_suffix.unwrap_or((label, Role::Cluster))
    }
}

/// What has a proxy port: the display name of a Service port, its protocol, a role.
pub type PortOwner = (LiftedName, Role);

/// Proxy ports by owner, in one family.
pub type ProxyPorts = BTreeMap<PortOwner, Port>;

/// What proxy ports are taken from, if nobody says otherwise: below the ports that kernels choose for connections, and
/// below node ports.
pub const DEFAULT_RANGE: RangeInclusive<Port> = 20000..=29999;

/// Gives every owner a port of the range. What it had before it keeps, if that is in the range and nobody else's;
/// otherwise it gets the first free one from where the hash of its name points. Ports in `taken` are somebody else's.
/// An owner for which there is none left is not in the result.
pub fn assign(
    owners: &BTreeSet<PortOwner>,
    previous: &ProxyPorts,
    range: &RangeInclusive<Port>,
    taken: &BTreeSet<(Protocol, Port)>,
) -> ProxyPorts {
    let mut used = taken.clone();
    let mut ports = ProxyPorts::new();
    for owner in owners {
        let ((_, protocol), _) = owner;
        let kept = previous.get(owner).filter(|port| range.contains(port));
        if let Some(port) = kept.filter(|port| used.insert((*protocol, **port))) {
            ports.insert(owner.clone(), *port);
        }
    }
    let mut free: BTreeMap<Protocol, BTreeSet<Port>> = BTreeMap::new();
    let size = u64::from(range.end().saturating_sub(*range.start())) + 1;
    for owner in owners {
        if ports.contains_key(owner) {
            continue;
        }
        let ((name, protocol), role) = owner;
        let hash = hash16(format!("{}/{protocol}", role.label(name)).as_bytes());
        let place = hash.iter().fold(0_u64, |all, byte| all.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        // Within the range: its size is that of a port at most.
        let start = range.start().saturating_add(Port::try_from(place % size).unwrap_or_default());
        let free = free
            .entry(*protocol)
            .or_insert_with(|| range.clone().filter(|port| !used.contains(&(*protocol, *port))).collect());
        if let Some(port) = free.range(start..).next().or_else(|| free.first()).copied() {
            free.remove(&port);
            ports.insert(owner.clone(), port);
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(n: usize) -> BTreeSet<PortOwner> {
        (0..n).map(|n| ((format!("ns/svc-{n}:http"), Protocol::Tcp), Role::Cluster)).collect()
    }

    #[test]
    fn names_alone_decide() {
        let none = (ProxyPorts::new(), BTreeSet::new());
        let all = assign(&owners(200), &none.0, &DEFAULT_RANGE, &none.1);
        assert_eq!(all.len(), 200);
        assert_eq!(all.values().collect::<BTreeSet<_>>().len(), 200, "each has its own");
        assert_eq!(assign(&owners(200), &none.0, &DEFAULT_RANGE, &none.1), all);
        // Few collide: nearly all have the same port when others go.
        let half = assign(&owners(100), &none.0, &DEFAULT_RANGE, &none.1);
        assert!(half.iter().filter(|(owner, port)| all[*owner] == **port).count() >= 95);
    }

    #[test]
    fn what_was_is_kept_if_it_can_be() {
        let none = BTreeSet::new();
        let first = assign(&owners(3), &ProxyPorts::new(), &(7000..=7002), &none);
        assert_eq!(first.values().copied().collect::<BTreeSet<_>>(), [7000, 7001, 7002].into());
        assert_eq!(assign(&owners(3), &first, &(7000..=7099), &none), first);
        // Two cannot keep one port, none can keep what is not in the range.
        let odd: ProxyPorts = owners(3).into_iter().zip([7005, 7005, 9]).collect();
        let second = assign(&owners(3), &odd, &(7000..=7099), &none);
        assert_eq!(second.values().copied().collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(second.values().next(), Some(&7005));
        assert!(second.values().all(|port| (7000..=7099).contains(port)));
        // Somebody else has taken it.
        let third = assign(&owners(3), &first, &(7000..=7099), &[(Protocol::Tcp, 7000)].into());
        assert!(third.values().all(|port| *port != 7000));
        assert_eq!(third.values().collect::<BTreeSet<_>>().len(), 3);
        // Each protocol has its own ports.
        let other = assign(&owners(3), &first, &(7000..=7099), &[(Protocol::Udp, 7000)].into());
        assert_eq!(other, first);
    }

    #[test]
    fn a_small_range_leaves_some_without() {
        let none = BTreeSet::new();
        let some = assign(&owners(5), &ProxyPorts::new(), &(65534..=65535), &none);
        assert_eq!(some.values().copied().collect::<BTreeSet<_>>(), [65534, 65535].into());
    }

    #[test]
    fn labels_are_read_back() {
        for role in [Role::Cluster, Role::Local, Role::NotLetIn] {
            assert_eq!(Role::of_label(&role.label("ns/a:b")), ("ns/a:b", role));
        }
    }
}
