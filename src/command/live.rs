//! Reading what a machine, or a folder of dumps, has: which of the two iptables it uses, its rules, its settings.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::iptables::{self, LowerOptions};
use crate::host::{Host, HostErrorKind, XtablesTools, XtablesVariant, unreadable_tables};
use crate::model::Config;
use crate::net::{IpFamily, PerFamily};
use crate::program::xtables::{Ruleset, parse};
use crate::program::{Program, Scope};

use super::Error;
use super::options::VariantArg;

/// What one set of tools shows.
struct Reading {
    tools: XtablesTools,
    /// A table that is there but that these tools cannot show.
    hidden: Option<String>,
    rules: PerFamily<Option<Ruleset>>,
}

impl Reading {
    fn rulesets(&self) -> impl Iterator<Item = &Ruleset> {
        [&self.rules.v4, &self.rules.v6].into_iter().flatten()
    }

    fn holds_ours(&self) -> bool {
        self.rulesets().any(iptables::holds_ours)
    }

    fn n_rules(&self) -> usize {
        self.rulesets().map(Ruleset::n_rules).sum()
    }
}

/// What a machine has.
pub(super) struct Live {
    /// The tools that its rules are changed with; `None` for dumps.
    pub(super) tools: Option<XtablesTools>,
    /// Its rules and settings.
    pub(super) program: Program,
    /// What of them is ours.
    pub(super) scopes: PerFamily<Scope>,
    /// What the user should know: rules of ours in both implementations.
    pub(super) warnings: Vec<String>,
}

impl Live {
    /// A program that was compiled, in the place of one that was read.
    pub(super) fn of_program(mut program: Program) -> Live {
        // Its tags point into the list of another side: its comments tell whose the rules are, as in the kernel.
        let rulesets = [&mut program.xtables.v4, &mut program.xtables.v6].into_iter().flatten();
        let chains = rulesets
            .flat_map(|ruleset| ruleset.tables.values_mut())
            .flat_map(|table| table.chains.values_mut());
        chains.flat_map(|chain| &mut chain.rules).for_each(|rule| rule.tag = None);
        Live { tools: None, scopes: scopes(&program.xtables), program, warnings: Vec::new() }
    }
}

/// What lowering must know of a machine before anything is read from it.
pub(super) struct Abilities {
    /// Installed tools.
    pub(super) tools: Vec<XtablesTools>,
    nfacct: bool,
    tcp_be_liberal: bool,
}

const TCP_BE_LIBERAL: &str = "net/netfilter/nf_conntrack_tcp_be_liberal";

/// Asks a machine what it can do.
pub(super) fn abilities(host: &mut dyn Host) -> Result<Abilities, Error> {
    let tools = host.xtables_variants()?;
    if tools.is_empty() {
        return Err(Error::host("no iptables on this machine").hint("Debian: apt-get install iptables"));
    }
    let nfacct = match host.nfacct_list() {
        Ok(_) => true,
        // Without it rules count nothing, and mean the same.
        Err(error) if error.kind == HostErrorKind::Unsupported => false,
        Err(error) => return Err(error.into()),
    };
    // An unreadable setting counts as 0, as in kube-proxy.
    let liberal = host.sysctl_read(TCP_BE_LIBERAL).ok().flatten().unwrap_or_default();
    Ok(Abilities { tools, nfacct, tcp_be_liberal: !matches!(liberal.trim(), "" | "0") })
}

impl Abilities {
    /// Options for rules that this machine takes with any of its tools.
    pub(super) fn lower_options(&self, config: &Config) -> PerFamily<LowerOptions> {
        let random_fully = self.tools.iter().all(|tools| tools.version >= (1, 6, 2));
        PerFamily::from_fn(|_| LowerOptions {
            masquerade_mark: 1 << config.masquerade_bit,
            random_fully,
            nfacct: self.nfacct,
            tcp_be_liberal: config.conntrack.tcp_be_liberal || self.tcp_be_liberal,
        })
    }
}

/// Reads the machine's rules and settings.
pub(super) fn read(
    host: &mut dyn Host,
    abilities: &Abilities,
    asked: VariantArg,
    families: &BTreeSet<IpFamily>,
) -> Result<Live, Error> {
    let mut readings = Vec::new();
    for tools in &abilities.tools {
        let mut reading = Reading { tools: tools.clone(), hidden: None, rules: PerFamily::default() };
        for family in families {
            let read = read_family(host, tools.variant, *family, families.len() == 1)?;
            if let Some((ruleset, hidden)) = read {
                *reading.rules.get_mut(*family) = Some(ruleset);
                reading.hidden = reading.hidden.or(hidden);
            }
        }
        readings.push(reading);
    }
    let chosen = choose(&readings, asked)?;
    for (index, reading) in readings.iter().enumerate() {
        let (used, ours) = (
            if index == chosen { "used" } else { "not used" },
            if reading.holds_ours() { "" } else { "no " },
        );
        tracing::info!(
            "iptables-{}: {} rules, {ours}Service rules, {used}",
            reading.tools.variant,
            reading.n_rules()
        );
    }
    let warnings = warnings(&readings, chosen);
    let reading = readings.swap_remove(chosen);
    if let Some(hidden) = reading.hidden {
        return Err(
            Error::host(hidden).hint("move those rules into a table of their own, or choose with --iptables")
        );
    }
    let nfacct = host.nfacct_list().unwrap_or_default().into_iter().map(|object| object.name).collect();
    let mut sysctls = BTreeMap::new();
    for key in iptables::SYSCTLS {
        if let Some(value) = host.sysctl_read(key)? {
            sysctls.insert(key.to_owned(), value);
        }
    }
    let scopes = scopes(&reading.rules);
    let program = Program { xtables: reading.rules, nfacct, sysctls };
    Ok(Live { tools: Some(reading.tools), program, scopes, warnings })
}

fn read_family(
    host: &mut dyn Host,
    variant: XtablesVariant,
    family: IpFamily,
    insist: bool,
) -> Result<Option<(Ruleset, Option<String>)>, Error> {
    match host.xtables_save(variant, family) {
        Ok(text) => {
            let hidden = unreadable_tables(&text).find(|table| iptables::uses_table(table)).map(|table| {
                format!(
                    "iptables-{variant} cannot show table `{table}` of {family}: nft put other rules into it"
                )
            });
            let ruleset = parsed(&text, family, &format!("what {variant} {family} tools print"))?;
            Ok(Some((ruleset, hidden)))
        }
        // A machine without IPv6 has no IPv6 Services, unless somebody asks for them.
        Err(error) if error.kind == HostErrorKind::Unsupported && !insist => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn parsed(text: &str, family: IpFamily, name: &str) -> Result<Ruleset, Error> {
    parse::parse(text, family).map_err(|error| Error::host(format!("{name}: {error}")))
}

fn choose(readings: &[Reading], asked: VariantArg) -> Result<usize, Error> {
    let of = |variant| readings.iter().position(|reading| reading.tools.variant == variant);
    let missing = |name| Error::usage(format!("iptables-{name} is not on this machine"));
    match asked {
        VariantArg::Legacy => return of(XtablesVariant::Legacy).ok_or_else(|| missing("legacy")),
        VariantArg::Nft => return of(XtablesVariant::Nft).ok_or_else(|| missing("nft")),
        VariantArg::Auto => {}
    }
    let rank = |reading: &Reading| {
        let kubelet = reading.rulesets().any(iptables::holds_kubelet_chains);
        (reading.holds_ours(), kubelet, reading.n_rules() > 0 && reading.tools.is_default, reading.n_rules())
    };
    let with_default_last = |index: &usize| (rank(&readings[*index]), readings[*index].tools.is_default);
    (0..readings.len())
        .max_by_key(with_default_last)
        .ok_or_else(|| Error::host("no iptables on this machine"))
}

fn warnings(readings: &[Reading], chosen: usize) -> Vec<String> {
    let others =
        readings.iter().enumerate().filter(|(index, _)| *index != chosen).map(|(_, reading)| reading);
    let used = readings[chosen].tools.variant;
    others
        .clone()
        .filter(|other| other.holds_ours())
        .map(|other| {
            let other = other.tools.variant;
            format!(
                "iptables-{other} holds Service rules too, and the kernel obeys both; this is about iptables-{used}; \
                 `svcproxy cleanup --iptables {other}` removes the others"
            )
        })
        .chain(others.clone().filter_map(|other| other.hidden.clone()))
        .collect()
}

fn scopes(rules: &PerFamily<Option<Ruleset>>) -> PerFamily<Scope> {
    PerFamily::from_fn(|family| {
        let none = Ruleset::empty(family);
        iptables::scope(rules.get(family).as_ref().unwrap_or(&none))
    })
}

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
    let scopes = scopes(&rules);
    let program = Program { xtables: rules, nfacct: BTreeSet::new(), sysctls: BTreeMap::new() };
    Ok((Live { tools: None, program, scopes, warnings }, traits))
}

fn read_dump_family(
    host: &mut dyn Host,
    folder: &str,
    family: IpFamily,
    names: &[&str],
) -> Result<Option<Ruleset>, Error> {
    for name in names {
        let path = format!("{}/{name}", folder.trim_end_matches('/'));
        match host.read_file(&path) {
            Ok(bytes) => return parsed(&text_of(bytes, &path)?, family, &path).map(Some),
            Err(error) if error.kind == HostErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn text_of(bytes: Vec<u8>, path: &str) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|_| Error::input(format!("`{path}` is not UTF-8 text")))
}
