//! What IPVS mode needs beside rules, as documents: addresses for `ip -batch`, settings for `sysctl -p`; and everything
//! together as JSON, virtual servers and addresses as the netlink messages that carry them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;

use serde::Serialize;

use crate::net::{IpFamily, PerFamily};
use crate::program::ipset::{self, Sets};
use crate::program::ipvs::{Request, ServiceKey, VirtualServer, wire};
use crate::program::xtables::{Ruleset, emit};
use crate::program::{Dummy, Program};

/// Writes commands for `ip -batch` that make dummy devices with their addresses. `-force` lets it go on over what is there.
pub fn write_addresses(out: &mut dyn io::Write, dummies: &BTreeMap<Box<str>, Dummy>) -> io::Result<()> {
    for (device, dummy) in dummies {
        writeln!(out, "link add {device} type dummy")?;
        for addr in addresses(dummy) {
            writeln!(out, "address add {addr}/{} dev {device}", IpFamily::of(addr).bits())?;
        }
    }
    Ok(())
}

fn addresses(dummy: &Dummy) -> impl Iterator<Item = IpAddr> + '_ {
    let families = [&dummy.addresses.v4, &dummy.addresses.v6];
    families.into_iter().flatten().flatten().copied()
}

/// Writes kernel settings as `sysctl -p` reads them.
pub fn write_settings(out: &mut dyn io::Write, sysctls: &BTreeMap<String, String>) -> io::Result<()> {
    for (key, value) in sysctls {
        writeln!(out, "{} = {value}", key.replace('/', "."))?;
    }
    Ok(())
}

/// All that is wanted of a node in IPVS mode.
#[derive(Serialize)]
struct Operations<'a> {
    node: &'a str,
    mode: &'static str,
    /// Kernel settings by path below /proc/sys.
    sysctls: &'a BTreeMap<String, String>,
    /// Sets with their entries, as ipset writes both.
    sets: Vec<SetText>,
    /// Documents for iptables-restore and ip6tables-restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    iptables: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip6tables: Option<String>,
    /// Netlink messages in the order in which they are sent.
    operations: Vec<Operation>,
}

#[derive(Serialize)]
struct SetText {
    name: String,
    create: String,
    entries: Vec<String>,
}

/// A message, and what stands in it.
#[derive(Serialize)]
#[serde(tag = "protocol", rename_all = "lowercase")]
enum Operation {
    /// Generic netlink, family IPVS.
    Ipvs {
        command: &'static str,
        service: Service,
        #[serde(skip_serializing_if = "Option::is_none")]
        destination: Option<Destination>,
        /// The attributes of the message, in hexadecimal digits, in the byte order of the machine that printed them.
        attributes: String,
    },
    /// rtnetlink.
    Route {
        command: &'static str,
        device: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<String>,
    },
}

#[derive(Serialize)]
struct Service {
    protocol: &'static str,
    address: IpAddr,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<Settings>,
}

#[derive(Serialize)]
struct Settings {
    scheduler: String,
    flags: u32,
    timeout: u32,
    netmask: u8,
}

#[derive(Serialize)]
struct Destination {
    address: IpAddr,
    port: u16,
    weight: u32,
}

/// Writes all of it as JSON.
pub fn write_json(out: &mut dyn io::Write, node: &str, program: &Program) -> io::Result<()> {
    let rules = |ruleset: &Option<Ruleset>| {
        ruleset.as_ref().map(|ruleset| {
            let mut text = Vec::new();
            emit::write_document(&mut text, ruleset, "");
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let result = Operations {
        node,
        mode: "ipvs",
        sysctls: &program.sysctls,
        sets: program.ipset.iter().flat_map(sets).collect(),
        iptables: rules(&program.xtables.v4),
        ip6tables: rules(&program.xtables.v6),
        operations: operations(program),
    };
    serde_json::to_writer_pretty(&mut *out, &result)?;
    writeln!(out)
}

fn sets(sets: &Sets) -> Vec<SetText> {
    let text = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut text = Vec::new();
        write(&mut text);
        String::from_utf8_lossy(&text).trim_end().to_owned()
    };
    sets.iter()
        .map(|(name, set)| SetText {
            name: name.to_string(),
            create: text(&|out| ipset::emit::write_create(out, name, &set.kind)),
            entries: set.entries.iter().map(ToString::to_string).collect(),
        })
        .collect()
}

fn operations(program: &Program) -> Vec<Operation> {
    let mut operations = Vec::new();
    let devices = || program.dummies.iter().flatten();
    for (device, _) in devices() {
        operations.push(Operation::Route {
            command: "RTM_NEWLINK",
            device: device.to_string(),
            address: None,
        });
    }
    let PerFamily { v4, v6 } = &program.ipvs;
    for (key, server) in [v4, v6].into_iter().flatten().flatten() {
        operations.extend(message(&Request::NewService(*key, server.clone())));
        for (at, real_server) in &server.real_servers {
            operations.extend(message(&Request::NewDestination(*key, *at, *real_server)));
        }
    }
    for (device, dummy) in devices() {
        operations.extend(addresses(dummy).map(|addr| Operation::Route {
            command: "RTM_NEWADDR",
            device: device.to_string(),
            address: Some(format!("{addr}/{}", IpFamily::of(addr).bits())),
        }));
    }
    operations
}

/// A request that makes something for an address; there are no others in what is wanted of a node.
fn message(request: &Request) -> Option<Operation> {
    let (command, key, settings, destination) = match request {
        Request::NewService(key, server) => ("IPVS_CMD_NEW_SERVICE", key, Some(settings(server)), None),
        Request::NewDestination(key, at, real_server) => {
            let destination = Destination { address: at.addr, port: at.port, weight: real_server.weight };
            ("IPVS_CMD_NEW_DEST", key, None, Some(destination))
        }
        Request::SetService(..)
        | Request::DeleteService(_)
        | Request::SetDestination(..)
        | Request::DeleteDestination(..)
        | Request::SetTimeouts(_) => return None,
    };
    let ServiceKey::Address { protocol, at } = key else { return None };
    let service = Service { protocol: protocol.name(), address: at.addr, port: at.port, settings };
    let mut attributes = String::new();
    for byte in wire::encode(request).body {
        // Writing to a String cannot fail.
        let _ = write!(attributes, "{byte:02x}");
    }
    Some(Operation::Ipvs { command, service, destination, attributes })
}

fn settings(server: &VirtualServer) -> Settings {
    Settings {
        scheduler: server.scheduler.to_string(),
        flags: server.flags.bits(),
        timeout: server.persistence_seconds,
        netmask: server.netmask,
    }
}
