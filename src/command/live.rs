//! Reading what a machine has: which of the two iptables it uses, its rules, its table of nft, its settings.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::backend::iptables::{self, LowerOptions};
use crate::backend::{self, ipvs, nftables};
use crate::host::{Host, HostError, HostErrorKind, XtablesTools, XtablesVariant, unreadable_tables};
use crate::model::{Cluster, Config, Mode};
use crate::net::{IpCidr, IpFamily, PerFamily};
use crate::pipeline::Lowering;
use crate::program::xtables::{Ruleset, parse};
use crate::program::{NftTable, Program, Scope, nft};

use super::Error;
use super::options::{InputArgs, NftArgs, TargetArgs, VariantArg};

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
        self.rulesets().any(backend::holds_ours)
    }

    fn n_rules(&self) -> usize {
        self.rulesets().map(Ruleset::n_rules).sum()
    }
}

/// What a machine has.
pub(super) struct Live {
    /// The iptables that its rules are changed with; `None` for dumps, and where there is none.
    pub(super) tools: Option<XtablesTools>,
    /// Why iptables does not show all that it has.
    pub(super) hidden: Option<String>,
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
        let tables = [&mut program.nft.v4, &mut program.nft.v6].into_iter();
        for table in
            tables.filter_map(|table| if let NftTable::Present(table) = table { Some(table) } else { None })
        {
            table.chains.values_mut().flat_map(|chain| &mut chain.rules).for_each(|rule| rule.tag = None);
        }
        let scopes = scopes(&program, &Owned::default(), None);
        Live { tools: None, hidden: None, scopes, program, warnings: Vec::new() }
    }
}

/// What lowering must know of a machine before anything is read from it.
pub(super) struct Abilities {
    /// Installed tools.
    pub(super) tools: Vec<XtablesTools>,
    /// Version of nft, if it is installed.
    nft: Option<(u32, u32, u32)>,
    /// Whether nothing but nft may be used to reach nftables.
    nft_tool: bool,
    /// Names of its nfacct objects; `None` if it knows none.
    nfacct: Option<BTreeSet<String>>,
    tcp_be_liberal: bool,
    nf_tables: NfTables,
    /// Major and minor version of the kernel, if it tells.
    kernel: Option<(u32, u32)>,
}

/// What nf_tables of a kernel can do.
enum NfTables {
    /// All that nftables mode needs.
    Full,
    /// All but comments of tables, chains and sets.
    NoObjectComments,
    /// Too little; its release.
    TooOld(String),
}

/// The oldest kernel that kube-proxy's nftables mode works with, and the variable that lets it try others (reference
/// section 4.1).
const OLDEST_KERNEL: (u32, u32) = (5, 13);
const SKIP_KERNEL_CHECK: &str = "KUBE_PROXY_NFTABLES_SKIP_KERNEL_VERSION_CHECK";

/// `5.10.0-9-amd64`: 5 and 10.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|text| text.parse::<u32>().ok());
    numbers.next().zip(numbers.next())
}

/// Newer kernels need not be asked: they can.
fn nf_tables(host: &mut dyn Host, has_nft: bool, release: String, kernel: Option<(u32, u32)>) -> NfTables {
    // A kernel that does not say its version is not refused for it.
    if kernel.is_none_or(|kernel| kernel >= OLDEST_KERNEL) {
        return NfTables::Full;
    }
    if host.env(SKIP_KERNEL_CHECK).is_none_or(|value| value.is_empty()) {
        return NfTables::TooOld(release);
    }
    let mut takes = |object_comments| {
        let mut document = Vec::new();
        nft::emit::write_document(&mut document, &nftables::bare_table(nft::Family::Ip, object_comments), "");
        host.nft_run(&document, true).is_ok()
    };
    // If it takes neither, what it says of the whole is of more use.
    if has_nft && !takes(true) && takes(false) { NfTables::NoObjectComments } else { NfTables::Full }
}

const TCP_BE_LIBERAL: &str = "net/netfilter/nf_conntrack_tcp_be_liberal";

/// Asks a machine what it can do.
pub(super) fn abilities(host: &mut dyn Host, args: NftArgs) -> Result<Abilities, Error> {
    let tools = host.xtables_variants()?;
    let nfacct = match host.nfacct_list() {
        Ok(objects) => Some(objects.into_iter().map(|object| object.name).collect()),
        // Without it rules count nothing, and mean the same.
        Err(error) if error.kind == HostErrorKind::Unsupported => None,
        Err(error) => return Err(error.into()),
    };
    // An unreadable setting counts as 0, as in kube-proxy.
    let liberal = host.sysctl_read(TCP_BE_LIBERAL).ok().flatten().unwrap_or_default();
    let nft = host.nft_version()?;
    let release = host.kernel_release().unwrap_or_default();
    let kernel = version(&release);
    Ok(Abilities {
        tools,
        kernel,
        nf_tables: nf_tables(host, nft.is_some(), release, kernel),
        nft,
        nft_tool: args.nft_tool,
        nfacct,
        tcp_be_liberal: !matches!(liberal.trim(), "" | "0"),
    })
}

impl Abilities {
    /// Whether tables of nftables can be read.
    pub(super) fn reads_nft(&self) -> bool {
        !self.nft_tool || self.nft.is_some()
    }

    /// How decisions become rules that this machine takes, `own_addresses` being those of the node that it has. An error if it has not the tools of the mode.
    pub(super) fn lowering(
        &self,
        input: &InputArgs,
        cluster: &Cluster,
        config: &Config,
        target: TargetArgs,
        node_addresses: &[IpAddr],
        own_addresses: PerFamily<Option<IpAddr>>,
    ) -> Result<Lowering, Error> {
        let random_fully =
            !target.no_random_fully && self.tools.iter().all(|tools| tools.version >= (1, 6, 2));
        match config.mode {
            Mode::Userspace if self.tools.is_empty() => Err(no_iptables()),
            Mode::Userspace => Ok(Lowering::Userspace(input.userspace_options(config, own_addresses))),
            Mode::Iptables | Mode::Ipvs if self.tools.is_empty() => Err(no_iptables()),
            Mode::Ipvs => {
                let elsewhere = node_addresses.iter().copied().collect();
                InputArgs::ipvs_lowering(config, random_fully, elsewhere, self.kernel)
            }
            Mode::Iptables => Ok(Lowering::Iptables(PerFamily::from_fn(|_| LowerOptions {
                masquerade_mark: 1 << config.masquerade_bit,
                random_fully,
                nfacct: self.nfacct.is_some() && !target.no_nfacct,
                tcp_be_liberal: config.conntrack.tcp_be_liberal || self.tcp_be_liberal,
                layout: input.layout.layout(),
            }))),
            Mode::Nftables => match self.nft {
                None if self.nft_tool => {
                    Err(Error::host("no nft on this machine").hint("Debian: apt-get install nftables"))
                }
                Some((major, minor, patch)) if self.nft_tool && (major, minor, patch) < OLDEST_NFT => {
                    let said = format!("nft {major}.{minor}.{patch} is too old for nftables mode");
                    Err(Error::host(said).hint("it needs 1.0.1 or newer"))
                }
                Some(_) | None => match &self.nf_tables {
                    NfTables::TooOld(release) => {
                        let said = format!("kernel {release} is too old for nftables mode");
                        let (major, minor) = OLDEST_KERNEL;
                        Err(Error::host(said).hint(format!(
                            "it needs {major}.{minor} or newer; {SKIP_KERNEL_CHECK}=1 tries all the same"
                        )))
                    }
                    able @ (NfTables::Full | NfTables::NoObjectComments) => {
                        let comments = matches!(able, NfTables::Full) && !target.no_object_comments;
                        Ok(Lowering::Nftables(input.nftables_options(config, cluster, comments)))
                    }
                },
            },
        }
    }
}

/// The mode needs iptables, and there is none.
pub(super) fn no_iptables() -> Error {
    Error::host("no iptables on this machine").hint("Debian: apt-get install iptables")
}

/// The oldest nft that kube-proxy works with (reference section 4.1).
const OLDEST_NFT: (u32, u32, u32) = (1, 0, 1);

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
    let nfacct = abilities.nfacct.clone().unwrap_or_default();
    let mut sysctls = BTreeMap::new();
    for key in iptables::SYSCTLS {
        if let Some(value) = host.sysctl_read(key)? {
            sysctls.insert(key.to_owned(), value);
        }
    }
    let nft =
        if abilities.reads_nft() { read_tables(host, abilities, families)? } else { PerFamily::default() };
    let mut program = Program { nft, nfacct, sysctls, ..Program::default() };
    if readings.is_empty() {
        return Ok(Live::of_program(program));
    }
    let chosen = choose(&readings, asked)?;
    for (index, reading) in readings.iter().enumerate() {
        // Counted only if somebody listens.
        tracing::info!(
            "iptables-{}: {} rules, {}Service rules, {}",
            reading.tools.variant,
            reading.n_rules(),
            if reading.holds_ours() { "" } else { "no " },
            if index == chosen { "used" } else { "not used" },
        );
    }
    let warnings = warnings(&readings, chosen);
    let reading = readings.swap_remove(chosen);
    program.xtables = reading.rules;
    let scopes = scopes(&program, &Owned::default(), None);
    Ok(Live { tools: Some(reading.tools), hidden: reading.hidden, program, scopes, warnings })
}

/// The tables of nftables mode.
pub(super) fn read_tables(
    host: &mut dyn Host,
    abilities: &Abilities,
    families: &BTreeSet<IpFamily>,
) -> Result<PerFamily<NftTable>, Error> {
    let mut tables = PerFamily::default();
    for family in families {
        *tables.get_mut(*family) = read_table(host, abilities, *family)?;
    }
    Ok(tables)
}

/// A table of nftables, read by netlink; `None` if nft is to be asked, which has words for what is not modelled.
pub(super) fn read_by_netlink(
    host: &mut dyn Host,
    family: IpFamily,
    name: &str,
    has_nft: bool,
) -> Result<Option<NftTable>, HostError> {
    match host.nft_read(family, name) {
        Ok(Some(table)) if !table.is_modelled() && has_nft => Ok(None),
        Ok(table) => Ok(Some(table.map_or(NftTable::Absent, NftTable::Present))),
        // A kernel without nf_tables has no table.
        Err(error) if error.kind == HostErrorKind::Unsupported => Ok(Some(NftTable::Absent)),
        Err(error) => Err(error),
    }
}

fn read_table(host: &mut dyn Host, abilities: &Abilities, family: IpFamily) -> Result<NftTable, Error> {
    let (word, name) = (nft::Family::from(family), nftables::table_name());
    if !abilities.nft_tool
        && let Some(table) = read_by_netlink(host, family, name, abilities.nft.is_some())?
    {
        return Ok(table);
    }
    match host.nft_list(word.as_str(), name) {
        Ok(Some(json)) => parsed_table(&json, family, &format!("what nft prints of table {word} {name}")),
        Ok(None) => Ok(NftTable::Absent),
        // A kernel without nf_tables has no table.
        Err(error) if error.kind == HostErrorKind::Unsupported => Ok(NftTable::Absent),
        Err(error) => Err(error.into()),
    }
}

/// The table of nftables mode among those that nft printed.
pub(super) fn parsed_table(json: &[u8], family: IpFamily, name: &str) -> Result<NftTable, Error> {
    let ruleset = nft::parse::parse(json).map_err(|error| Error::host(format!("{name}: {error}")))?;
    let ours = ruleset
        .tables
        .into_values()
        .find(|table| nftables::owns_table(table) && table.family.ip() == Some(family));
    Ok(ours.map_or(NftTable::Absent, NftTable::Present))
}

fn read_family(
    host: &mut dyn Host,
    variant: XtablesVariant,
    family: IpFamily,
    insist: bool,
) -> Result<Option<(Ruleset, Option<String>)>, Error> {
    match host.xtables_save(variant, family) {
        Ok(text) => {
            // Only the tools on nf_tables hide any: a legacy listing of megabytes need not be searched.
            let listing = if variant == XtablesVariant::Nft { text.as_str() } else { "" };
            let hidden = unreadable_tables(listing).find(|table| iptables::uses_table(table)).map(|table| {
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

pub(super) fn parsed(text: &str, family: IpFamily, name: &str) -> Result<Ruleset, Error> {
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

/// By what virtual servers are told to be ours.
#[derive(Debug, Default)]
pub(super) struct Owned {
    /// Addresses of the node, those of the dummy device apart.
    pub(super) node_addresses: BTreeSet<IpAddr>,
    /// Networks in which none is ours.
    pub(super) exclude_cidrs: Vec<IpCidr>,
    /// All others are ours.
    pub(super) exclusive: bool,
}

/// What is ours: of every mode, or of those that are not left alone by one `only`.
pub(super) fn scopes(program: &Program, owned: &Owned, only: Option<Mode>) -> PerFamily<Scope> {
    let ownership = ipvs::Ownership {
        node_addresses: &owned.node_addresses,
        exclude_cidrs: &owned.exclude_cidrs,
        exclusive: owned.exclusive,
    };
    PerFamily::from_fn(|family| {
        // Of a family of which nothing was read nothing goes.
        let is_read = program.xtables.get(family).is_some() || program.ipvs.get(family).is_some();
        if is_read { backend::scope(program, family, &ownership, only) } else { Scope::default() }
    })
}
