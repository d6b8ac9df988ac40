//! What a difference of virtual servers, sets and addresses means for Services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::net::IpFamily;
use crate::program::Program;
use crate::program::ipset::diff::{SetChange, SetsDiff};
use crate::program::ipset::{Entry, SetName, Sets};
use crate::program::ipvs::diff::{ServerChange, ServersDiff};
use crate::program::ipvs::{self as language, ServiceKey, VirtualServer, VirtualServers};
use crate::resolve::NodeView;

use super::change::{ChainDelta, Changes, ObjectChange, PortChange, port_differences};
use super::{LiftedName, ipvs};

/// Explains the difference between two programs in IPVS mode, or to none of it. The view names the Services; without one
/// that it knows a virtual server goes by its own address.
pub fn server_changes(
    view: &NodeView,
    wanted: &Program,
    live: &Program,
    servers: Option<&ServersDiff>,
    sets: Option<&SetsDiff>,
) -> Changes {
    let family = view.family;
    let mut changes = Changes::default();
    if let (Some(difference), Some(wanted_servers), Some(live_servers)) =
        (servers, wanted.ipvs.get(family), live.ipvs.get(family))
    {
        changes.chains.extend(server_deltas(difference, wanted_servers, live_servers));
        if !difference.servers.is_empty() || sets.is_some_and(|sets| !sets.is_empty()) {
            changes.ports = port_changes(view, difference, (wanted_servers, wanted), (live_servers, live));
        }
    }
    if let (Some(difference), Some(wanted), Some(live)) = (sets, &wanted.ipset, &live.ipset) {
        let of_family = |name: &SetName| ipvs::set_family(name) == Some(family);
        changes.chains.extend(set_deltas(difference, wanted, live, &of_family));
    }
    changes.chains.extend(address_delta(family, wanted, live));
    changes
}

fn server_deltas<'a>(
    difference: &'a ServersDiff,
    wanted: &'a VirtualServers,
    live: &'a VirtualServers,
) -> impl Iterator<Item = ChainDelta> + 'a {
    difference.servers.iter().map(|(key, change)| ChainDelta {
        table: "ipvs".to_owned(),
        chain: key.to_string(),
        change: match change.change {
            ServerChange::Create => ObjectChange::Create,
            ServerChange::Change => ObjectChange::Rewrite,
            ServerChange::Delete => ObjectChange::Delete,
        },
        live: live.get(key).map(|server| server_lines(key, server)).unwrap_or_default(),
        wanted: wanted.get(key).map(|server| server_lines(key, server)).unwrap_or_default(),
        is_fixed: false,
    })
}

fn server_lines(key: &ServiceKey, server: &VirtualServer) -> Vec<String> {
    let mut text = Vec::new();
    language::emit::write_document(&mut text, &[(*key, server.clone())].into(), "");
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}

/// Service ports of which a virtual server or a policy differs.
fn port_changes(
    view: &NodeView,
    difference: &ServersDiff,
    (wanted_servers, wanted): (&VirtualServers, &Program),
    (live_servers, live): (&VirtualServers, &Program),
) -> BTreeMap<LiftedName, PortChange> {
    let none = Sets::new();
    let mut differing = BTreeSet::new();
    let mut read = |servers: &VirtualServers, program: &Program| {
        let sets = program.ipset.as_ref().unwrap_or(&none);
        // All virtual servers of a Service port are lifted together: its others tell what it is.
        let lifted = ipvs::lift(servers, sets, Some(view));
        let differ = lifted.iter().filter(|server| difference.servers.contains_key(&server.key()));
        differing.extend(differ.map(|server| server.name.clone()));
        (ipvs::ports(&lifted, sets, Some(view)), ipvs::policies(&lifted, sets))
    };
    let (wanted, live) = (read(wanted_servers, wanted), read(live_servers, live));
    let mut changes = port_differences(wanted, live, &|name| differing.contains(name));
    let is_of_policy =
        |change: &PortChange| matches!(change, PortChange::Changed { live, wanted } if live == wanted);
    // What is of nobody that changes is of others, and stays.
    changes.retain(|name, change| differing.contains(name) || is_of_policy(change));
    changes
}

fn set_deltas<'a>(
    difference: &'a SetsDiff,
    wanted: &'a Sets,
    live: &'a Sets,
    of_family: &'a dyn Fn(&SetName) -> bool,
) -> impl Iterator<Item = ChainDelta> + 'a {
    let names: BTreeSet<&SetName> = difference.sets.keys().chain(difference.entries.keys()).collect();
    names.into_iter().filter(|name| of_family(name)).map(|name| {
        let change = difference.sets.get(name);
        let entries = difference.entries.get(name);
        let lines = |entries: Option<&[Entry]>| -> Vec<String> {
            entries.unwrap_or_default().iter().map(Entry::to_string).collect()
        };
        let goes = |sets: &Sets| -> Vec<String> {
            sets.get(name).into_iter().flat_map(|set| set.entries.iter().map(Entry::to_string)).collect()
        };
        ChainDelta {
            table: "ipset".to_owned(),
            chain: name.to_string(),
            change: match change {
                Some(SetChange::Create) => ObjectChange::Create,
                Some(SetChange::Delete) => ObjectChange::Delete,
                Some(SetChange::Replace | SetChange::Remake) | None => ObjectChange::Rewrite,
            },
            live: if change.is_some() { goes(live) } else { lines(entries.map(|it| &it.delete[..])) },
            wanted: if change.is_some() { goes(wanted) } else { lines(entries.map(|it| &it.add[..])) },
            is_fixed: change.is_some(),
        }
    })
}

fn address_delta(family: IpFamily, wanted: &Program, live: &Program) -> Option<ChainDelta> {
    let device = ipvs::device();
    let of = |program: &Program| -> Option<BTreeSet<IpAddr>> {
        let dummy = program.dummies.as_ref()?.get(device)?;
        dummy.addresses.get(family).clone()
    };
    let (_, _) = (wanted.dummies.as_ref()?, live.dummies.as_ref()?);
    let (to, from) = (of(wanted), of(live));
    if to == from {
        return None;
    }
    let change = match (&to, &from) {
        (Some(_), None) => ObjectChange::Create,
        (None, _) => ObjectChange::Delete,
        (Some(_), Some(_)) => ObjectChange::Rewrite,
    };
    let (to, from) = (to.unwrap_or_default(), from.unwrap_or_default());
    let lines = |addresses: &mut dyn Iterator<Item = &IpAddr>| addresses.map(ToString::to_string).collect();
    Some(ChainDelta {
        table: "link".to_owned(),
        chain: device.to_owned(),
        change,
        live: lines(&mut from.difference(&to)),
        wanted: lines(&mut to.difference(&from)),
        is_fixed: change != ObjectChange::Rewrite,
    })
}
