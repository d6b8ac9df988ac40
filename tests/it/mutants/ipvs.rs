//! Every way to break one thing in virtual servers, sets, and addresses of the dummy device.

use svcproxy::net::{AddrPort, IpFamily};
use svcproxy::program::Program;
use svcproxy::program::ipset::{Entry, SetKind};
use svcproxy::program::ipvs::{Flags, RealServer, ServiceKey, VirtualServer, VirtualServers};

use super::next;

/// All programs that differ from one in a single thing of one family, each with a word on what that is.
pub(super) fn mutants(program: &Program, family: IpFamily) -> Vec<(String, Program)> {
    let mut all = Vec::new();
    if let Some(servers) = program.ipvs.get(family) {
        broken_servers(servers, &mut |what, servers| {
            let mut mutant = program.clone();
            *mutant.ipvs.get_mut(family) = Some(servers);
            all.push((what, mutant));
        });
    }
    for (name, set) in program.ipset.iter().flatten() {
        if matches!(set.kind, SetKind::Hash { family: of, .. } if of != family) {
            continue;
        }
        let mut add = |what: String, out: &Entry, into: Option<Entry>| {
            let mut mutant = program.clone();
            let entries = &mut mutant.ipset.as_mut().unwrap().get_mut(name).unwrap().entries;
            entries.remove(out);
            entries.extend(into);
            all.push((format!("{name}: {what}"), mutant));
        };
        for entry in &set.entries {
            add(format!("{entry:?} dropped"), entry, None);
            if let Some(other) = moved(entry) {
                add(format!("{entry:?} changed"), entry, Some(other));
            }
        }
    }
    for (name, dummy) in program.dummies.iter().flatten() {
        for addr in dummy.addresses.get(family).iter().flatten() {
            let mut mutant = program.clone();
            let dummy = mutant.dummies.as_mut().unwrap().get_mut(name).unwrap();
            dummy.addresses.get_mut(family).as_mut().unwrap().remove(addr);
            all.push((format!("{name}: {addr} dropped"), mutant));
        }
    }
    all
}

/// An entry with another port or address.
fn moved(entry: &Entry) -> Option<Entry> {
    Some(match entry {
        Entry::Ip(addr) => Entry::Ip(next(*addr)),
        Entry::IpPort(addr, protocol, port) => Entry::IpPort(*addr, *protocol, port + 1),
        Entry::IpPortIp(addr, protocol, port, other) => {
            Entry::IpPortIp(*addr, *protocol, *port, next(*other))
        }
        Entry::IpPortNet(addr, protocol, port, net) => Entry::IpPortNet(next(*addr), *protocol, *port, *net),
        Entry::Port(port) => Entry::Port(port + 1),
        Entry::Unmodelled(_) => return None,
    })
}

fn broken_servers(servers: &VirtualServers, add: &mut dyn FnMut(String, VirtualServers)) {
    for (key, server) in servers {
        let mut change = |what: &str, change: &dyn Fn(&mut VirtualServer)| {
            let mut mutant = servers.clone();
            change(mutant.get_mut(key).unwrap());
            add(format!("virtual server {key}: {what}"), mutant);
        };
        change("affinity turned round", &|server| {
            server.flags = if server.flags.contains(Flags::PERSISTENT) {
                Flags::default()
            } else {
                server.persistence_seconds = 60;
                Flags::PERSISTENT
            };
        });
        if server.flags.contains(Flags::PERSISTENT) {
            change("affinity shorter", &|server| server.persistence_seconds -= 1);
        }
        for at in server.real_servers.keys() {
            change(&format!("{at} dropped"), &|server| {
                server.real_servers.remove(at);
            });
            change(&format!("{at} without weight"), &|server| {
                server.real_servers.insert(*at, RealServer::masqueraded(0));
            });
            change(&format!("{at} moved"), &|server| {
                server.real_servers.remove(at);
                let to = AddrPort::new(at.addr, at.port + 1);
                server.real_servers.insert(to, RealServer::masqueraded(1));
            });
        }
        let mut without = servers.clone();
        without.remove(key);
        if let ServiceKey::Address { protocol, at } = key {
            let mut moved = without.clone();
            let to = AddrPort::new(at.addr, at.port + 1);
            moved.insert(ServiceKey::Address { protocol: *protocol, at: to }, server.clone());
            add(format!("virtual server {key}: moved"), moved);
        }
        add(format!("virtual server {key} dropped"), without);
    }
}
