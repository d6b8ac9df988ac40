//! All rules of a machine for the inspector, whoever made them: both iptables, every table of nft, virtual servers and
//! listeners, live, recorded, or as they would be compiled.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::backend::{nftables, userspace};
use crate::host::{Host, HostErrorKind, XtablesVariant, unreadable_tables};
use crate::inspect::Held;
use crate::model::Mode;
use crate::net::{IpFamily, PerFamily};
use crate::program::xtables::{Counters, Match, Rule, Ruleset, TableName, parse};
use crate::program::{Kernel, NftTable, Program, nft};
use crate::resolve::NodeView;
use crate::trace::{Rules, Source};

use super::options::SocketArgs;
use super::{Error, dump, listeners, live, virtual_servers};

/// The rules of one iptables.
#[derive(Debug, Clone)]
pub(super) struct Xtables {
    /// Which iptables.
    pub(super) source: Source,
    /// Its rules in each family, with what they have counted.
    pub(super) rules: PerFamily<Option<(Ruleset, Counters)>>,
}

/// The rules of a machine.
#[derive(Debug, Clone, Default)]
pub(super) struct Observed {
    /// Those of iptables.
    pub(super) xtables: Vec<Xtables>,
    /// Those of nft, apart from the tables of iptables-nft.
    pub(super) nft: nft::Ruleset,
    /// What goes with rules: virtual servers, sets, dummy devices, listeners. It has no rules itself.
    pub(super) beside: Program,
    /// What the node is to do, if manifests tell.
    pub(super) views: PerFamily<Option<NodeView>>,
    /// The addresses on its interfaces, as far as they are known.
    pub(super) local_addresses: BTreeSet<IpAddr>,
}

impl Observed {
    /// What packets of a family meet.
    pub(super) fn rules(&self, family: IpFamily) -> Rules<'_> {
        let of_family = |one: &'_ Xtables| one.rules.get(family).is_some();
        let xtables = self.xtables.iter().filter(|one| of_family(one));
        Rules {
            xtables: xtables
                .filter_map(|one| Some((one.source, &one.rules.get(family).as_ref()?.0)))
                .collect(),
            nft: Some(&self.nft),
            kernel: Kernel::of(&self.beside, family),
        }
    }

    /// The same with what it has counted, for readings.
    pub(super) fn held(&self, family: IpFamily) -> Held<'_> {
        let of_family = |one: &'_ Xtables| one.rules.get(family).is_some();
        let xtables = self.xtables.iter().filter(|one| of_family(one));
        let sees = |of: nft::Family| of.ip().is_none_or(|of| of == family);
        Held {
            xtables: xtables
                .filter_map(|one| {
                    let (ruleset, counters) = one.rules.get(family).as_ref()?;
                    Some((one.source, ruleset, counters))
                })
                .collect(),
            nft: self.nft.tables.values().filter(|table| sees(table.family)).collect(),
            kernel: Kernel::of(&self.beside, family),
            view: self.views.get(family).as_ref(),
        }
    }

    /// Leaves the rules that a mode makes, and others in the same language.
    pub(super) fn retain_mode(&mut self, mode: Option<Mode>) {
        match mode {
            Some(Mode::Nftables) => {
                self.xtables.clear();
                self.beside = Program::default();
            }
            Some(mode @ (Mode::Iptables | Mode::Ipvs | Mode::Userspace)) => {
                if mode != Mode::Ipvs {
                    self.beside.ipvs = PerFamily::default();
                }
                self.nft.tables.retain(|_, table| !nftables::owns_table(table));
            }
            None => {}
        }
    }

    /// Addresses of dummy devices are the node's too.
    fn add_addresses(&mut self) {
        for family in IpFamily::ALL {
            self.local_addresses.extend(Kernel::of(&self.beside, family).addresses());
        }
    }

    /// What was compiled.
    pub(super) fn compiled(program: Program, local_addresses: BTreeSet<IpAddr>) -> Observed {
        let Program { xtables: PerFamily { v4, v6 }, nft: tables, .. } = program;
        let beside = Program {
            ipvs: program.ipvs,
            ipset: program.ipset,
            dummies: program.dummies,
            listeners: program.listeners,
            ..Program::default()
        };
        let mut observed = Observed { local_addresses, beside, ..Observed::default() };
        observed.add_addresses();
        if v4.is_some() || v6.is_some() {
            let counted = |rules: Option<Ruleset>| rules.map(|rules| (rules, Counters::default()));
            let rules = PerFamily { v4: counted(v4), v6: counted(v6) };
            observed.xtables.push(Xtables { source: Source::Xtables, rules });
        }
        for table in [tables.v4, tables.v6] {
            if let NftTable::Present(table) = table {
                observed.nft.tables.insert((table.family, table.name.clone()), table);
            }
        }
        observed
    }

    /// What this machine has.
    pub(super) fn live(
        host: &mut dyn Host,
        families: &BTreeSet<IpFamily>,
        counters: bool,
        socket: &SocketArgs,
    ) -> Result<Observed, Error> {
        let mut observed = Observed {
            local_addresses: host.local_addresses()?.into_iter().map(|local| local.addr).collect(),
            ..Observed::default()
        };
        let mut hidden = BTreeSet::new();
        for tools in host.xtables_variants()? {
            let source = match tools.variant {
                XtablesVariant::Legacy => Source::XtablesLegacy,
                XtablesVariant::Nft => Source::XtablesNft,
            };
            let mut one = Xtables { source, rules: PerFamily::default() };
            for family in families {
                let Some(text) = saved(host, tools.variant, *family, counters)? else { continue };
                let name = format!("what {} {family} tools print", tools.variant);
                *one.rules.get_mut(*family) = Some(counted(&text, *family, &name)?);
                if tools.variant == XtablesVariant::Nft {
                    hidden.extend(unreadable_tables(&text).map(|table| (*family, table.to_owned())));
                }
            }
            observed.xtables.push(one);
        }
        observed.read_nft(host, families, &hidden)?;
        observed.read_beside(host, families)?;
        if observed.leads_to_listeners() {
            observed.beside.listeners = listeners::of_process(host, socket)?;
        }
        Ok(observed)
    }

    /// Whether rules of userspace mode lead to a process.
    fn leads_to_listeners(&self) -> bool {
        let rulesets = self.xtables.iter().flat_map(|one| [&one.rules.v4, &one.rules.v6]).flatten();
        rulesets.into_iter().any(|(ruleset, _)| userspace::holds_ours(ruleset))
    }

    /// Whether rules lead to a process of which nothing is known.
    pub(super) fn lacks_listeners(&self) -> bool {
        self.beside.listeners.is_none() && self.leads_to_listeners()
    }

    /// Reads virtual servers and what goes with them if there are any, and sets if rules ask some.
    fn read_beside(&mut self, host: &mut dyn Host, families: &BTreeSet<IpFamily>) -> Result<(), Error> {
        if virtual_servers::is_loaded(host)? {
            return virtual_servers::read(host, &mut self.beside, families);
        }
        let rulesets = self.xtables.iter().flat_map(|one| [&one.rules.v4, &one.rules.v6]).flatten();
        let tables = rulesets.flat_map(|(ruleset, _)| ruleset.tables.values());
        let mut rules = tables.flat_map(|table| table.chains.values()).flat_map(|chain| &chain.rules);
        let asks = |rule: &Rule| rule.matches.iter().any(|one| matches!(one, Match::Set(_)));
        if rules.any(asks) {
            self.beside.ipset = virtual_servers::read_sets(host)?;
        }
        Ok(())
    }

    fn read_nft(
        &mut self,
        host: &mut dyn Host,
        families: &BTreeSet<IpFamily>,
        hidden: &BTreeSet<(IpFamily, String)>,
    ) -> Result<(), Error> {
        let tables = match host.nft_tables() {
            Ok(tables) => tables,
            // A kernel without nf_tables has none.
            Err(error) if error.kind == HostErrorKind::Unsupported => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let has_nft = host.nft_version()?.is_some();
        for (family, table) in tables {
            let Some(of) = nft::Family::from_name(&family) else { continue };
            let is_asked = of.ip().is_none_or(|ip| families.contains(&ip));
            let is_shown = of
                .ip()
                .is_some_and(|ip| self.has_table(ip, &table) && !hidden.contains(&(ip, table.clone())));
            if !is_asked || is_shown {
                continue;
            }
            if let Some(ip) = of.ip() {
                match live::read_by_netlink(host, ip, &table, has_nft) {
                    Ok(Some(NftTable::Present(read))) => {
                        self.nft.tables.insert((of, read.name.clone()), read);
                        continue;
                    }
                    // One that has gone meanwhile has no rules.
                    Ok(Some(NftTable::Absent | NftTable::Unspoken)) => continue,
                    Err(error) if !has_nft => return Err(error.into()),
                    // nft says it, or says why not.
                    Ok(None) | Err(_) => {}
                }
            }
            if !has_nft {
                continue;
            }
            let Some(json) = host.nft_list(&family, &table)? else { continue };
            let read = nft::parse::parse(&json).map_err(|error| {
                Error::host(format!("what nft prints of table {family} {table}: {error}"))
            })?;
            self.nft.tables.extend(read.tables);
            self.nft.unmodelled.extend(read.unmodelled);
        }
        Ok(())
    }

    /// Whether iptables-nft has shown a table.
    fn has_table(&self, family: IpFamily, table: &str) -> bool {
        let of_nft = self.xtables.iter().filter(|one| one.source == Source::XtablesNft);
        let mut rulesets = of_nft.filter_map(|one| one.rules.get(family).as_ref());
        TableName::from_name(table)
            .is_some_and(|name| rulesets.any(|(ruleset, _)| ruleset.tables.contains_key(&name)))
    }
}

fn saved(
    host: &mut dyn Host,
    variant: XtablesVariant,
    family: IpFamily,
    counters: bool,
) -> Result<Option<String>, Error> {
    let text = match counters {
        true => host.xtables_save_counted(variant, family),
        false => host.xtables_save(variant, family),
    };
    match text {
        Ok(text) => Ok(Some(text)),
        // A machine without IPv6 has no IPv6 rules.
        Err(error) if error.kind == HostErrorKind::Unsupported => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn counted(text: &str, family: IpFamily, name: &str) -> Result<(Ruleset, Counters), Error> {
    parse::parse_counted(text, family).map_err(|error| Error::host(format!("{name}: {error}")))
}

/// Names of recorded output in a folder: who printed it, of which family.
const XTABLES_DUMPS: [(Source, IpFamily, &str); 10] = [
    (Source::XtablesLegacy, IpFamily::V4, "iptables-legacy-save.txt"),
    (Source::XtablesLegacy, IpFamily::V6, "ip6tables-legacy-save.txt"),
    (Source::XtablesNft, IpFamily::V4, "iptables-nft-save.txt"),
    (Source::XtablesNft, IpFamily::V6, "ip6tables-nft-save.txt"),
    (Source::Xtables, IpFamily::V4, "iptables-save.txt"),
    (Source::Xtables, IpFamily::V6, "ip6tables-save.txt"),
    (Source::Xtables, IpFamily::V4, "iptables.rules"),
    (Source::Xtables, IpFamily::V6, "ip6tables.rules"),
    (Source::Xtables, IpFamily::V4, "iptables-save"),
    (Source::Xtables, IpFamily::V6, "ip6tables-save"),
];

/// Names of recorded `nft -j list ruleset` output.
const NFT_DUMPS: [&str; 2] = ["nft.json", "ruleset.json"];

/// The rules that a folder, or one file, has recorded; of a mode, or of all.
pub(super) fn recorded(
    host: &mut dyn Host,
    path: &str,
    families: &BTreeSet<IpFamily>,
    mode: Option<Mode>,
) -> Result<Observed, Error> {
    let mut observed = Observed::default();
    match host.read_file(path) {
        Ok(bytes) => observed.add_file(path, bytes, families)?,
        Err(error) if error.kind == HostErrorKind::IsFolder && is_of_ipvs(host, path, mode)? => {
            let live = dump::read_ipvs_dump(host, path, families)?;
            observed = Observed::compiled(live.program, BTreeSet::new());
            if mode.is_none() {
                observed.add_nft_of(host, path)?;
            }
        }
        Err(error) if error.kind == HostErrorKind::IsFolder => observed.add_folder(host, path, mode)?,
        Err(error) => return Err(error.into()),
    }
    if observed.leads_to_listeners() {
        observed.beside.listeners = dump::read_listeners(host, path, families)?;
    }
    for one in &mut observed.xtables {
        for family in IpFamily::ALL {
            if !families.contains(&family) {
                *one.rules.get_mut(family) = None;
            }
        }
    }
    observed.nft.tables.retain(|(family, _), _| family.ip().is_none_or(|family| families.contains(&family)));
    Ok(observed)
}

/// Whether a folder is to be read as a recording of IPVS mode.
fn is_of_ipvs(host: &mut dyn Host, folder: &str, mode: Option<Mode>) -> Result<bool, Error> {
    Ok(match mode {
        Some(Mode::Ipvs) => true,
        Some(Mode::Iptables | Mode::Nftables | Mode::Userspace) => false,
        None => dump::has_ipvs_dump(host, folder)?,
    })
}

fn read_in(host: &mut dyn Host, folder: &str, name: &str) -> Result<Option<(String, Vec<u8>)>, Error> {
    let path = format!("{}/{name}", folder.trim_end_matches('/'));
    match host.read_file(&path) {
        Ok(bytes) => Ok(Some((path, bytes))),
        Err(error) if error.kind == HostErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Observed {
    /// A file of iptables is of the family that is asked for, if it is one; else its name tells.
    fn add_file(&mut self, path: &str, bytes: Vec<u8>, families: &BTreeSet<IpFamily>) -> Result<(), Error> {
        if bytes.trim_ascii_start().starts_with(b"{") {
            return self.add_nft(path, &bytes);
        }
        let name = path.rsplit('/').next().unwrap_or(path);
        let guessed = if name.contains("ip6") { IpFamily::V6 } else { IpFamily::V4 };
        let family = families.first().copied().filter(|_| families.len() == 1).unwrap_or(guessed);
        self.add_xtables(Source::Xtables, family, path, bytes)
    }

    fn add_folder(&mut self, host: &mut dyn Host, folder: &str, mode: Option<Mode>) -> Result<(), Error> {
        let folder = folder.trim_end_matches('/');
        let mut found = false;
        if mode != Some(Mode::Nftables) {
            for (source, family, name) in XTABLES_DUMPS {
                if self.has(source, family) {
                    continue;
                }
                if let Some((path, bytes)) = read_in(host, folder, name)? {
                    self.add_xtables(source, family, &path, bytes)?;
                    found = true;
                }
            }
        }
        if mode.is_none_or(|mode| mode == Mode::Nftables) {
            found |= self.add_nft_of(host, folder)?;
        }
        if found {
            return Ok(());
        }
        Err(Error::input(format!("`{folder}` has no recorded rules")).hint(
            "record them with `iptables-save -c > iptables-save.txt`, `ip6tables-save -c > ip6tables-save.txt` and \
             `nft -j list ruleset > nft.json`",
        ))
    }

    /// Adds the recorded tables of nft, if there are any.
    fn add_nft_of(&mut self, host: &mut dyn Host, folder: &str) -> Result<bool, Error> {
        for name in NFT_DUMPS {
            if let Some((path, bytes)) = read_in(host, folder, name)? {
                self.add_nft(&path, &bytes)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has(&self, source: Source, family: IpFamily) -> bool {
        self.xtables.iter().any(|one| one.source == source && one.rules.get(family).is_some())
    }

    fn add_xtables(
        &mut self,
        source: Source,
        family: IpFamily,
        path: &str,
        bytes: Vec<u8>,
    ) -> Result<(), Error> {
        let text =
            String::from_utf8(bytes).map_err(|_| Error::input(format!("`{path}` is not UTF-8 text")))?;
        let rules = parse::parse_counted(&text, family)
            .map_err(|error| Error::input(format!("`{path}`: {error}")))?;
        let at = self.xtables.iter().position(|one| one.source == source).unwrap_or_else(|| {
            self.xtables.push(Xtables { source, rules: PerFamily::default() });
            self.xtables.len() - 1
        });
        *self.xtables[at].rules.get_mut(family) = Some(rules);
        Ok(())
    }

    fn add_nft(&mut self, path: &str, bytes: &[u8]) -> Result<(), Error> {
        let mut read =
            nft::parse::parse(bytes).map_err(|error| Error::input(format!("`{path}`: {error}")))?;
        // What iptables-nft prints of its tables tells more than what nft prints.
        let is_shown = |family: nft::Family, name: &nft::Name| {
            let recorded = family.ip().is_some_and(|family| self.has(Source::XtablesNft, family));
            recorded && TableName::from_name(name.as_str()).is_some()
        };
        read.tables.retain(|(family, name), _| !is_shown(*family, name));
        self.nft.tables.extend(read.tables);
        self.nft.unmodelled.extend(read.unmodelled);
        Ok(())
    }
}
