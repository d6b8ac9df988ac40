//! Reading recorded rules: a folder of dumps, or one file.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::backend::{self, iptables};
use crate::host::{Host, HostErrorKind};
use crate::net::{IpFamily, PerFamily};
use crate::program::listener::Listeners;
use crate::program::xtables::Ruleset;
use crate::program::{Program, ipset, ipvs, listener};

use super::live::{Live, parsed, parsed_table};
use super::{Error, virtual_servers};

/// Names of recorded `iptables-save` and `ip6tables-save` output in a folder, in the order in which they are looked for.
const DUMP_NAMES: [(IpFamily, [&str; 3]); 2] = [
    (IpFamily::V4, ["iptables-save.txt", "iptables.rules", "iptables-save"]),
    (IpFamily::V6, ["ip6tables-save.txt", "ip6tables.rules", "ip6tables-save"]),
];

/// Reads recorded rules: a folder with both families, or a file of one.
pub(super) fn read_dump(
    host: &mut dyn Host,
    path: &str,
    families: &BTreeSet<IpFamily>,
) -> Result<(Live, PerFamily<Option<iptables::Traits>>), Error> {
    let mut rules: PerFamily<Option<Ruleset>> = PerFamily::default();
    let mut warnings = Vec::new();
    match host.read_file(path) {
        Ok(bytes) => {
            let name = path.rsplit('/').next().unwrap_or(path);
            let guessed = if name.contains("ip6") { IpFamily::V6 } else { IpFamily::V4 };
            let family = families.first().copied().filter(|_| families.len() == 1).unwrap_or(guessed);
            *rules.get_mut(family) = Some(parsed(&text_of(bytes, path)?, family, path)?);
            if families.len() > 1 {
                warnings
                    .push(format!("`{path}` is taken for {family} rules; the other family is not compared"));
            }
        }
        Err(error) if error.kind == HostErrorKind::IsFolder => {
            for (family, names) in DUMP_NAMES {
                if !families.contains(&family) {
                    continue;
                }
                *rules.get_mut(family) = read_dump_family(host, path, family, &names)?;
                if rules.get(family).is_none() {
                    warnings.push(format!("`{path}` has no {}: {family} is not compared", names[0]));
                }
            }
        }
        Err(error) => return Err(error.into()),
    }
    if rules.v4.is_none() && rules.v6.is_none() {
        return Err(Error::input(format!("`{path}` has no recorded rules")).hint(
            "record them with `iptables-save > iptables-save.txt` and `ip6tables-save > ip6tables-save.txt`",
        ));
    }
    let traits = PerFamily::from_fn(|family| rules.get(family).as_ref().map(iptables::Traits::of));
    let program = Program { xtables: rules, ..Program::default() };
    Ok((Live { warnings, ..Live::of_program(program) }, traits))
}

/// What `compile --output-dir` calls the listeners of userspace mode.
pub(super) const LISTENERS_FILE: &str = "listeners";
/// What `inspect listeners -o json` prints of a running process, if that was recorded.
const STATUS_FILE: &str = "listeners.json";

/// Reads recorded rules of userspace mode, with the listeners that lie beside them, if any do.
pub(super) fn read_userspace_dump(
    host: &mut dyn Host,
    path: &str,
    families: &BTreeSet<IpFamily>,
) -> Result<Live, Error> {
    let (mut live, _) = read_dump(host, path, families)?;
    live.program.listeners = read_listeners(host, path, families)?;
    Ok(live)
}

/// Reads the listeners that lie in a folder, if any do.
pub(super) fn read_listeners(
    host: &mut dyn Host,
    folder: &str,
    families: &BTreeSet<IpFamily>,
) -> Result<Option<Listeners>, Error> {
    for (name, parse) in [(LISTENERS_FILE, compiled as ParseListeners), (STATUS_FILE, told)] {
        let path = format!("{}/{name}", folder.trim_end_matches('/'));
        let bytes = match host.read_file(&path) {
            Ok(bytes) => bytes,
            // Beside one file there is nothing.
            Err(error) if matches!(error.kind, HostErrorKind::NotFound | HostErrorKind::Other) => continue,
            Err(error) => return Err(error.into()),
        };
        let read =
            parse(&text_of(bytes, &path)?).map_err(|error| Error::input(format!("{path}: {error}")))?;
        return Ok(Some(read.into_iter().filter(|(key, _)| families.contains(&key.family())).collect()));
    }
    Ok(None)
}

type ParseListeners = fn(&str) -> Result<Listeners, String>;

fn compiled(text: &str) -> Result<Listeners, String> {
    listener::parse::parse(text).map_err(|error| error.to_string())
}

fn told(json: &str) -> Result<Listeners, String> {
    let status: listener::Status = serde_json::from_str(json).map_err(|error| error.to_string())?;
    status.listeners().map_err(|text| format!("`{text}` is not understood"))
}

/// Whether a folder has recorded rules of iptables, in either family.
pub(super) fn has_iptables_dump(host: &mut dyn Host, folder: &str) -> Result<bool, Error> {
    has_any(host, folder, DUMP_NAMES.iter().flat_map(|(_, names)| names))
}

/// Whether a folder has recorded virtual servers that belong to its rules of iptables. Where several modes were recorded
/// side by side, the rules that go with them have a name of their own.
pub(super) fn has_ipvs_dump(host: &mut dyn Host, folder: &str) -> Result<bool, Error> {
    let of_ipvs_alone = IPVS_RULES_NAMES.iter().map(|(_, [first, ..])| first);
    Ok(has_any(host, folder, &IPVS_DUMP_NAMES)?
        && (!has_any(host, folder, of_ipvs_alone)? || !has_iptables_dump(host, folder)?))
}

fn has_any<'a>(
    host: &mut dyn Host,
    folder: &str,
    names: impl IntoIterator<Item = &'a &'static str>,
) -> Result<bool, Error> {
    for name in names {
        match host.read_file(&format!("{}/{name}", folder.trim_end_matches('/'))) {
            Ok(_) => return Ok(true),
            Err(error) if error.kind == HostErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// Names of recorded `nft -j list` output in a folder.
const NFT_DUMP_NAMES: [&str; 2] = ["nft.json", "ruleset.json"];

/// Reads recorded `nft -j list ruleset` output: a folder with it, or the file.
pub(super) fn read_nft_dump(
    host: &mut dyn Host,
    path: &str,
    families: &BTreeSet<IpFamily>,
) -> Result<Live, Error> {
    let (name, json) = match host.read_file(path) {
        Ok(bytes) => (path.to_owned(), bytes),
        Err(error) if error.kind == HostErrorKind::IsFolder => find_nft_dump(host, path)?,
        Err(error) => return Err(error.into()),
    };
    let mut program = Program::default();
    for family in families {
        *program.nft.get_mut(*family) = parsed_table(&json, *family, &name)?;
    }
    Ok(Live::of_program(program))
}

/// Names of recorded virtual servers, sets and addresses of the dummy device in a folder.
const IPVS_DUMP_NAMES: [&str; 2] = ["ipvs-save.txt", "ipvs.rules"];
const IPSET_DUMP_NAMES: [&str; 2] = ["ipset-save.txt", "ipset.rules"];
const ADDRESS_DUMP_NAMES: [&str; 2] = ["ipvs-addr.txt", "addresses.batch"];
/// Names of the rules beside them; where other modes were recorded too, they have names of their own.
const IPVS_RULES_NAMES: [(IpFamily, [&str; 3]); 2] = [
    (IpFamily::V4, ["ipvs-iptables-save.txt", "iptables-save.txt", "iptables.rules"]),
    (IpFamily::V6, ["ipvs-ip6tables-save.txt", "ip6tables-save.txt", "ip6tables.rules"]),
];

/// Reads a folder with what was recorded of IPVS mode. What is not there is not compared.
pub(super) fn read_ipvs_dump(
    host: &mut dyn Host,
    folder: &str,
    families: &BTreeSet<IpFamily>,
) -> Result<Live, Error> {
    let mut program = Program::default();
    let mut warnings = Vec::new();
    let mut find = |host: &mut dyn Host, names: &[&str]| -> Result<Option<(String, String)>, Error> {
        let found = find_text(host, folder, names)?;
        if found.is_none() {
            warnings.push(format!("`{folder}` has no {}: it is not compared", names[0]));
        }
        Ok(found)
    };
    if let Some((path, text)) = find(host, &IPVS_DUMP_NAMES)? {
        let servers = ipvs::parse::parse(&text).map_err(|error| Error::host(format!("{path}: {error}")))?;
        program.ipvs = virtual_servers::split(servers, families);
    }
    if let Some((path, text)) = find(host, &IPSET_DUMP_NAMES)? {
        let sets = ipset::parse::parse(&text).map_err(|error| Error::host(format!("{path}: {error}")))?;
        program.ipset = Some(sets);
    }
    if let Some((_, text)) = find(host, &ADDRESS_DUMP_NAMES)? {
        let addresses: BTreeSet<IpAddr> = text.lines().filter_map(address_in).collect();
        let dummy = virtual_servers::dummy(&addresses, families);
        program.dummies = Some([(backend::ipvs::device().into(), dummy)].into());
    }
    for (family, names) in IPVS_RULES_NAMES.into_iter().filter(|(family, _)| families.contains(family)) {
        if let Some((path, text)) = find(host, &names)? {
            *program.xtables.get_mut(family) = Some(parsed(&text, family, &path)?);
        }
    }
    if program == Program::default() {
        return Err(Error::input(format!("`{folder}` has nothing recorded of IPVS mode")).hint(
            "record `ipvsadm -Sn > ipvs-save.txt`, `ipset save > ipset-save.txt`, \
             `ip -br address show kube-ipvs0 > ipvs-addr.txt` and `iptables-save > iptables-save.txt`",
        ));
    }
    Ok(Live { warnings, ..Live::of_program(program) })
}

/// The address in a line such as `10.96.0.1/32` or `address add 10.96.0.1/32 dev kube-ipvs0`, if it is a host's.
fn address_in(line: &str) -> Option<IpAddr> {
    line.split_whitespace().find_map(|word| {
        let (addr, bits) = word.split_once('/')?;
        let addr: IpAddr = addr.parse().ok()?;
        (bits.parse() == Ok(IpFamily::of(addr).bits())).then_some(addr)
    })
}

/// The first file of these names in a folder, with its path.
fn find_text(host: &mut dyn Host, folder: &str, names: &[&str]) -> Result<Option<(String, String)>, Error> {
    for name in names {
        let path = format!("{}/{name}", folder.trim_end_matches('/'));
        match host.read_file(&path) {
            Ok(bytes) => return text_of(bytes, &path).map(|text| Some((path, text))),
            Err(error) if error.kind == HostErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn find_nft_dump(host: &mut dyn Host, folder: &str) -> Result<(String, Vec<u8>), Error> {
    for name in NFT_DUMP_NAMES {
        let path = format!("{}/{name}", folder.trim_end_matches('/'));
        match host.read_file(&path) {
            Ok(bytes) => return Ok((path, bytes)),
            Err(error) if error.kind == HostErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::input(format!("`{folder}` has no recorded table"))
        .hint("record it with `nft -j list ruleset > nft.json`"))
}

fn read_dump_family(
    host: &mut dyn Host,
    folder: &str,
    family: IpFamily,
    names: &[&str],
) -> Result<Option<Ruleset>, Error> {
    let Some((path, text)) = find_text(host, folder, names)? else { return Ok(None) };
    parsed(&text, family, &path).map(Some)
}

fn text_of(bytes: Vec<u8>, path: &str) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|_| Error::input(format!("`{path}` is not UTF-8 text")))
}
