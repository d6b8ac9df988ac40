//! A machine in memory, for tests: what it holds is public, what it was asked to change is recorded, failures come on demand.

mod kernel;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::cluster::{ClusterOptions, Notice};
use super::error::{HostError, HostErrorKind, RestoreError};
use super::fake_tables::{FakeTables, Known, Refusal};
use super::forward::{ForwardError, ForwardOptions};
use super::serve::Sites;
use super::{Event, Host, LocalAddress, LockGuard, NfacctObject, RestoreMode, XtablesTools, XtablesVariant};
use crate::net::{IpFamily, Port, Protocol};
use crate::plan::Landmark;
use crate::program::conntrack::Flow;
use crate::program::listener::{ListenerKey, Listeners, Status};
use crate::program::nft::{Family, Table, parse, wire::Batch};
use crate::program::{ipset, ipvs};

/// Schedulers of Linux 6.1.
const SCHEDULERS: [&str; 13] =
    ["dh", "fo", "lblc", "lblcr", "lc", "mh", "nq", "ovf", "rr", "sed", "sh", "wlc", "wrr"];

/// Events come this long after one another: whoever has something to do before that can do it.
const EVENT_GAP: Duration = Duration::from_secs(10);
/// An event that nothing happens takes this long: whoever looks at things now and then has done so.
const QUIET: Duration = Duration::from_secs(40);

/// A network device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FakeDevice {
    /// Whether it is a dummy.
    pub is_dummy: bool,
    /// What it bears.
    pub addresses: BTreeSet<IpAddr>,
}

/// A machine in memory.
#[derive(Debug, Clone, Default)]
pub struct FakeHost {
    /// The installed tools.
    pub variants: Vec<XtablesTools>,
    /// The rules of each variant and family.
    pub tables: BTreeMap<(XtablesVariant, IpFamily), FakeTables>,
    /// What `iptables-save -c` prints, where it is not just the rules.
    pub counted: BTreeMap<(XtablesVariant, IpFamily), String>,
    /// The version of `nft`; `None` if it is not installed.
    pub nft_installed: Option<(u32, u32, u32)>,
    /// What `nft -j list table` prints, by family (`ip`, `ip6`) and table. Changes, by either way, do not show in it.
    pub nft: BTreeMap<(String, String), Vec<u8>>,
    /// How many transactions of nf_tables there have been.
    pub generation: u32,
    /// What `nft monitor trace` prints.
    pub traced: Vec<String>,
    /// Whether the kernel has no IPv6.
    pub no_ipv6: bool,
    /// Kernel settings.
    pub sysctls: BTreeMap<String, String>,
    /// Flows that are remembered.
    pub flows: Vec<Flow>,
    /// The version of IPVS; `None` for a kernel that has none.
    pub ipvs_version: Option<(u8, u8, u8)>,
    /// The schedulers of IPVS that the kernel has or can load.
    pub schedulers: BTreeSet<String>,
    /// Virtual servers.
    pub virtual_servers: ipvs::VirtualServers,
    /// For how long connections of virtual servers are remembered.
    pub timeouts: ipvs::Timeouts,
    /// The version of ipset's protocol; `None` for a kernel that has no ipset.
    pub ipset_protocol: Option<u8>,
    /// The sets.
    pub sets: ipset::Sets,
    /// Names of accounting objects; `None` for a kernel that has none.
    pub nfacct: Option<BTreeSet<String>>,
    /// Its network devices.
    pub devices: BTreeMap<Box<str>, FakeDevice>,
    /// What `uname -r` prints.
    pub kernel_release: String,
    /// Contents by path; `-` is standard input.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The columns of its terminal.
    pub terminal_width: Option<u16>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Its name.
    pub host_name: String,
    /// Who else holds the lock.
    pub lock_holder: Option<String>,
    /// Every call that changes something, one line each, also those that failed.
    pub calls: Vec<String>,
    /// Every document that was restored or tested, or run or checked by `nft`.
    pub documents: Vec<(RestoreMode, String)>,
    /// Every request that was taken.
    pub requests: Vec<ipvs::Request>,
    /// What is to happen to a process that waits, in turn, each with contents of files that then are other ones; after the
    /// last it is told to end.
    pub events: VecDeque<(Event, BTreeMap<String, Vec<u8>>)>,
    /// What it was told to answer, and where.
    pub sites: Sites,
    /// The API server that it was told to watch.
    pub cluster: Option<ClusterOptions>,
    /// What the API server was told.
    pub notices: Vec<Notice>,
    /// The time since it was made. Only waiting takes any.
    pub clock: Duration,
    /// For how long it has waited since the last event.
    waited: Duration,
    /// Ports that somebody else listens on.
    pub ports_in_use: BTreeSet<(Protocol, Port)>,
    /// The listeners that it has been told to have; `None` before it was told to carry connections.
    pub listeners: Option<Listeners>,
    /// What a process that carries connections tells; `None` if there is none.
    pub status: Option<Status>,
    /// Every change of nftables by netlink.
    pub batches: Vec<Batch>,
    failures: BTreeMap<String, VecDeque<(Option<usize>, HostError)>>,
}

/// Kernel settings that it has, all of them 0.
const SYSCTLS: [&str; 8] = [
    "net/ipv4/conf/all/arp_announce",
    "net/ipv4/conf/all/arp_ignore",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/ip_forward",
    "net/ipv4/vs/conn_reuse_mode",
    "net/ipv4/vs/conntrack",
    "net/ipv4/vs/expire_nodest_conn",
    "net/ipv4/vs/expire_quiescent_template",
];

impl FakeHost {
    /// A machine called `node1` with both iptables variants (1.8.9, `iptables` is the nft one), `nft` 1.0.6, accounting
    /// objects, IPVS, ipset, loopback addresses, Linux 6.1 and no rules.
    pub fn new() -> FakeHost {
        let loopback = FakeDevice {
            is_dummy: false,
            addresses: [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])].into(),
        };
        let tools = |variant, is_default| XtablesTools { variant, version: (1, 8, 9), is_default };
        FakeHost {
            variants: vec![tools(XtablesVariant::Legacy, false), tools(XtablesVariant::Nft, true)],
            nft_installed: Some((1, 0, 6)),
            sysctls: SYSCTLS.map(|key| (key.to_owned(), "0".to_owned())).into(),
            ipvs_version: Some((1, 2, 1)),
            schedulers: SCHEDULERS.iter().map(|name| (*name).to_owned()).collect(),
            timeouts: ipvs::Timeouts { tcp: 900, tcp_fin: 120, udp: 300 },
            ipset_protocol: Some(7),
            nfacct: Some(BTreeSet::new()),
            devices: BTreeMap::from([("lo".into(), loopback)]),
            kernel_release: "6.1.0".to_owned(),
            host_name: "node1".to_owned(),
            ..FakeHost::default()
        }
    }

    /// Puts rules there, as `iptables-save` prints them. What is wrong with them, if something is.
    pub fn put_rules(&mut self, variant: XtablesVariant, family: IpFamily, dump: &str) -> Result<(), String> {
        let known = self.known();
        let tables = self.tables.entry((variant, family)).or_default();
        tables.load(dump, &known).map_err(|refusal| format!("line {:?}: {}", refusal.line, refusal.words))
    }

    /// The rules of a variant and family as `iptables-save` would print them.
    pub fn rules(&self, variant: XtablesVariant, family: IpFamily) -> String {
        self.tables.get(&(variant, family)).map(FakeTables::save).unwrap_or_default()
    }

    /// Lets the next restore (not test) fail at a line with these words. Several calls stand in a queue.
    pub fn fail_next_restore(&mut self, line: Option<usize>, words: &str) {
        let error = HostError::new("run `iptables-restore`", HostErrorKind::Other, words);
        self.failures.entry("xtables_restore".to_owned()).or_default().push_back((line, error));
    }

    /// Lets the next run (not check) of `nft` fail at a line with these words. Several calls stand in a queue.
    pub fn fail_next_nft_run(&mut self, line: Option<usize>, words: &str) {
        let error = HostError::new("run `nft`", HostErrorKind::Other, words);
        self.failures.entry("nft_run".to_owned()).or_default().push_back((line, error));
    }

    /// Lets the next change of sets fail at a change, by its index, after those before it.
    pub fn fail_next_ipset_change(&mut self, index: usize, error: HostError) {
        self.failures.entry("ipset_change".to_owned()).or_default().push_back((Some(index), error));
    }

    /// Lets the next change of virtual servers fail at a request, by its index, after those before it.
    pub fn fail_next_ipvs_change(&mut self, index: usize, error: HostError) {
        self.failures.entry("ipvs_change".to_owned()).or_default().push_back((Some(index), error));
    }

    /// Lets the next change of nftables by netlink fail, at what a line of the document says. Several calls stand in a queue.
    pub fn fail_next_nft_change(&mut self, line: Option<usize>, words: &str) {
        let error = HostError::new("change nftables", HostErrorKind::Other, words);
        self.failures.entry("nft_change".to_owned()).or_default().push_back((line, error));
    }

    /// Lets the next call of a method, by its name, fail. That of `nft_run` is called `nft_check` when it only checks.
    pub fn fail_next(&mut self, method: &str, error: HostError) {
        self.failures.entry(method.to_owned()).or_default().push_back((None, error));
    }

    fn failure(&mut self, method: &str) -> Option<(Option<usize>, HostError)> {
        self.failures.get_mut(method)?.pop_front()
    }

    fn fails(&mut self, method: &str) -> Result<(), HostError> {
        self.failure(method).map_or(Ok(()), |(_, error)| Err(error))
    }

    fn need(&self, variant: XtablesVariant, family: IpFamily) -> Result<(), HostError> {
        let tool = match family {
            IpFamily::V4 => format!("iptables-{variant}"),
            IpFamily::V6 => format!("ip6tables-{variant}"),
        };
        if !self.variants.iter().any(|tools| tools.variant == variant) {
            return Err(super::tool::missing(&tool));
        }
        if self.no_ipv6 && family == IpFamily::V6 {
            return Err(HostError::new(
                format!("run `{tool}`"),
                HostErrorKind::Unsupported,
                "IPv6 is off in this kernel",
            ));
        }
        Ok(())
    }

    fn need_nft(&self) -> Result<(), HostError> {
        if self.nft_installed.is_some() { Ok(()) } else { Err(super::tool::missing("nft")) }
    }

    fn jump(
        &mut self,
        (variant, family): (XtablesVariant, IpFamily),
        table: &str,
        command: &str,
    ) -> Result<(), HostError> {
        self.calls.push(format!("{variant} {family} -t {table} {command}"));
        self.need(variant, family)?;
        let action = || format!("run `iptables -t {table} {command}`");
        let known = self.known();
        self.tables
            .entry((variant, family))
            .or_default()
            .change(table, command, &known)
            .map_err(|refusal| HostError::new(action(), refusal.kind, refusal.words))
    }

    fn known(&self) -> Known {
        Known {
            counters: self.nfacct.clone().unwrap_or_default(),
            sets: self.sets.keys().map(|name| name.as_str().to_owned()).collect(),
        }
    }

    fn need_ipvs(&self, action: &str) -> Result<(), HostError> {
        let missing = || HostError::new(action, HostErrorKind::Unsupported, "this kernel has no IPVS");
        self.ipvs_version.map(|_| ()).ok_or_else(missing)
    }

    fn need_ipset(&self, action: &str) -> Result<(), HostError> {
        let missing = || HostError::new(action, HostErrorKind::Unsupported, "this kernel has no ipset");
        self.ipset_protocol.map(|_| ()).ok_or_else(missing)
    }

    fn counters(&mut self, action: &str) -> Result<&mut BTreeSet<String>, HostError> {
        let unsupported =
            || HostError::new(action, HostErrorKind::Unsupported, "this kernel has no accounting objects");
        self.nfacct.as_mut().ok_or_else(unsupported)
    }
}

impl Host for FakeHost {
    fn xtables_variants(&mut self) -> Result<Vec<XtablesTools>, HostError> {
        self.fails("xtables_variants")?;
        Ok(self.variants.clone())
    }

    fn xtables_save(&mut self, variant: XtablesVariant, family: IpFamily) -> Result<String, HostError> {
        self.fails("xtables_save")?;
        self.need(variant, family)?;
        Ok(self.rules(variant, family))
    }

    fn xtables_save_counted(
        &mut self,
        variant: XtablesVariant,
        family: IpFamily,
    ) -> Result<String, HostError> {
        self.fails("xtables_save_counted")?;
        self.need(variant, family)?;
        Ok(self.counted.get(&(variant, family)).cloned().unwrap_or_else(|| self.rules(variant, family)))
    }

    fn xtables_restore(
        &mut self,
        variant: XtablesVariant,
        family: IpFamily,
        document: &[u8],
        mode: RestoreMode,
    ) -> Result<(), RestoreError> {
        let text = String::from_utf8_lossy(document).into_owned();
        let word = match mode {
            RestoreMode::Commit => "restore",
            RestoreMode::Test => "test",
        };
        self.calls.push(format!("{variant} {family} {word} of {} lines", text.lines().count()));
        self.documents.push((mode, text.clone()));
        self.need(variant, family).map_err(|error| RestoreError { line: None, error })?;
        let asked = if mode == RestoreMode::Commit { self.failure("xtables_restore") } else { None };
        if let Some((line, error)) = asked {
            return Err(RestoreError { line, error });
        }
        let mut tables = self.tables.get(&(variant, family)).cloned().unwrap_or_default();
        let mut known = self.known();
        if mode == RestoreMode::Test {
            // No tool notices in test mode that one is missing.
            let named =
                text.split("--nfacct-name ").skip(1).filter_map(|rest| rest.split_whitespace().next());
            known.counters.extend(named.map(str::to_owned));
        }
        let result = tables.load(&text, &known);
        if mode == RestoreMode::Commit {
            self.tables.insert((variant, family), tables);
        }
        result.map_err(|Refusal { line, kind, words }| RestoreError {
            line,
            error: HostError::new("run `iptables-restore`", kind, words),
        })
    }

    fn xtables_delete(
        &mut self,
        variant: XtablesVariant,
        family: IpFamily,
        (table, chain): (&str, &str),
        args: &[String],
    ) -> Result<(), HostError> {
        self.fails("xtables_delete")?;
        self.jump((variant, family), table, &format!("-D {chain} {}", as_saved(args)))
    }

    /// All landmarks stand unless it is told to fail with `NotFound`.
    fn stands(&mut self, _variant: XtablesVariant, _landmark: &Landmark) -> Result<bool, HostError> {
        match self.fails("stands") {
            Err(error) if error.kind == HostErrorKind::NotFound => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn nft_version(&mut self) -> Result<Option<(u32, u32, u32)>, HostError> {
        self.fails("nft_version")?;
        Ok(self.nft_installed)
    }

    fn nft_list(&mut self, family: &str, table: &str) -> Result<Option<Vec<u8>>, HostError> {
        self.fails("nft_list")?;
        self.need_nft()?;
        Ok(self.nft.get(&(family.to_owned(), table.to_owned())).cloned())
    }

    fn nft_tables(&mut self) -> Result<Vec<(String, String)>, HostError> {
        self.fails("nft_tables")?;
        self.need_nft()?;
        Ok(self.nft.keys().cloned().collect())
    }

    fn nft_run(&mut self, document: &[u8], check: bool) -> Result<(), RestoreError> {
        let text = String::from_utf8_lossy(document).into_owned();
        let (word, mode) = if check { ("check", RestoreMode::Test) } else { ("run", RestoreMode::Commit) };
        self.calls.push(format!("nft {word} of {} lines", text.lines().count()));
        self.documents.push((mode, text));
        self.need_nft().map_err(|error| RestoreError { line: None, error })?;
        if let Some((line, error)) = self.failure(&format!("nft_{word}")) {
            return Err(RestoreError { line, error });
        }
        self.generation += u32::from(!check);
        Ok(())
    }

    fn nft_watch(
        &mut self,
        document: &str,
        (family, table): (&str, &str),
        _limit: Duration,
        on_line: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(), HostError> {
        self.calls.push(format!("nft watch with {family} {table}"));
        self.documents.push((RestoreMode::Commit, document.to_owned()));
        self.fails("nft_watch")?;
        self.need_nft()?;
        for line in &self.traced {
            on_line(line);
        }
        Ok(())
    }

    fn nft_change(&mut self, batch: &Batch) -> Result<(), RestoreError> {
        self.calls.push(format!("nft change of {} messages", batch.n_messages()));
        self.batches.push(batch.clone());
        if let Some((line, error)) = self.failure("nft_change") {
            return Err(RestoreError { line, error });
        }
        self.generation += 1;
        Ok(())
    }

    fn nft_generation(&mut self) -> Result<u32, HostError> {
        Ok(self.generation)
    }

    fn nft_read(&mut self, family: IpFamily, table: &str) -> Result<Option<Table>, HostError> {
        self.fails("nft_read")?;
        let family = Family::from(family);
        let Some(json) = self.nft.get(&(family.to_string(), table.to_owned())) else { return Ok(None) };
        let ruleset = parse::parse(json).map_err(|error| {
            HostError::new(format!("read table `{family} {table}`"), HostErrorKind::Other, error.to_string())
        })?;
        Ok(ruleset.table(family, table).cloned())
    }

    fn sysctl_read(&self, key: &str) -> Result<Option<String>, HostError> {
        Ok(self.sysctls.get(key).cloned())
    }

    fn sysctl_write(&mut self, key: &str, value: &str) -> Result<(), HostError> {
        self.calls.push(format!("sysctl {key}={value}"));
        self.fails("sysctl_write")?;
        match self.sysctls.get_mut(key) {
            Some(held) => {
                value.clone_into(held);
                Ok(())
            }
            None => Err(not_found(format!("set the kernel setting `{key}` to `{value}`"))),
        }
    }

    fn local_addresses(&mut self) -> Result<Vec<LocalAddress>, HostError> {
        self.fails("local_addresses")?;
        let local = self.devices.iter().flat_map(|(device, held)| {
            held.addresses.iter().map(|addr| LocalAddress { device: device.clone(), addr: *addr })
        });
        Ok(local.collect())
    }

    fn nfacct_list(&mut self) -> Result<Vec<NfacctObject>, HostError> {
        let names = self.counters("list accounting objects")?;
        let object = |name: &String| NfacctObject { name: name.clone(), packets: 0, bytes: 0 };
        Ok(names.iter().map(object).collect())
    }

    fn nfacct_add(&mut self, name: &str) -> Result<(), HostError> {
        self.calls.push(format!("nfacct add {name}"));
        self.fails("nfacct_add")?;
        self.counters(&format!("add accounting object `{name}`"))?.insert(name.to_owned());
        Ok(())
    }

    fn nfacct_delete(&mut self, name: &str) -> Result<(), HostError> {
        self.calls.push(format!("nfacct delete {name}"));
        self.fails("nfacct_delete")?;
        let action = format!("delete accounting object `{name}`");
        if self.counters(&action)?.remove(name) { Ok(()) } else { Err(not_found(action)) }
    }

    fn conntrack_flows(&mut self, family: IpFamily, protocol: Protocol) -> Result<Vec<Flow>, HostError> {
        self.fails("conntrack_flows")?;
        let is_asked = |flow: &&Flow| flow.family() == family && flow.protocol == protocol;
        Ok(self.flows.iter().filter(is_asked).copied().collect())
    }

    fn conntrack_forget(&mut self, flows: &[Flow]) -> Result<(), HostError> {
        self.calls.push(format!("conntrack forget {}", flows.len()));
        self.fails("conntrack_forget")?;
        self.flows.retain(|flow| !flows.contains(flow));
        Ok(())
    }

    fn ipvs_version(&mut self) -> Result<Option<(u8, u8, u8)>, HostError> {
        self.fails("ipvs_version")?;
        Ok(self.ipvs_version)
    }

    fn ipvs_read(&mut self) -> Result<ipvs::VirtualServers, HostError> {
        self.fails("ipvs_read")?;
        self.need_ipvs("read virtual servers")?;
        let mut servers = self.virtual_servers.clone();
        // A kernel knows nothing of what they are made for.
        servers.values_mut().for_each(|server| server.tag = None);
        Ok(servers)
    }

    fn ipvs_read_some(&mut self, keys: &[ipvs::ServiceKey]) -> Result<ipvs::VirtualServers, HostError> {
        Ok(self.ipvs_read()?.into_iter().filter(|(key, _)| keys.contains(key)).collect())
    }

    fn ipvs_change(&mut self, requests: &[ipvs::Request]) -> Result<(), (usize, HostError)> {
        self.calls.push(format!("ipvs change of {} requests", requests.len()));
        self.need_ipvs("change virtual servers").map_err(|error| (0, error))?;
        let failure = self.failure("ipvs_change").map(|(index, error)| (index.unwrap_or_default(), error));
        for (index, request) in requests.iter().enumerate() {
            match &failure {
                Some((at, error)) if *at == index => return Err((index, error.clone())),
                _ => self.take(request).map_err(|error| (index, error))?,
            }
        }
        Ok(())
    }

    fn ipvs_timeouts(&mut self) -> Result<ipvs::Timeouts, HostError> {
        self.fails("ipvs_timeouts")?;
        self.need_ipvs("read the timeouts of IPVS")?;
        Ok(self.timeouts)
    }

    fn ipset_protocol(&mut self) -> Result<Option<u8>, HostError> {
        self.fails("ipset_protocol")?;
        Ok(self.ipset_protocol)
    }

    fn ipset_read(&mut self) -> Result<ipset::Sets, HostError> {
        self.fails("ipset_read")?;
        self.need_ipset("read sets")?;
        Ok(self.sets.clone())
    }

    fn ipset_change(&mut self, changes: &[ipset::Change]) -> Result<(), (usize, HostError)> {
        self.calls.push(format!("ipset change of {}", changes.len()));
        self.need_ipset("change sets").map_err(|error| (0, error))?;
        let failure = self.failure("ipset_change").map(|(index, error)| (index.unwrap_or_default(), error));
        for (index, change) in changes.iter().enumerate() {
            match &failure {
                Some((at, error)) if *at == index => return Err((index, error.clone())),
                _ => self.change_sets(change).map_err(|error| (index, error))?,
            }
        }
        Ok(())
    }

    fn dummy_addresses(&mut self, device: &str) -> Result<Option<BTreeSet<IpAddr>>, HostError> {
        self.fails("dummy_addresses")?;
        match self.devices.get(device) {
            None => Ok(None),
            Some(held) if held.is_dummy => Ok(Some(held.addresses.clone())),
            Some(_) => Err(no_dummy(format!("read the addresses of `{device}`"), device)),
        }
    }

    fn dummy_add(&mut self, device: &str) -> Result<(), HostError> {
        self.calls.push(format!("link add {device} type dummy"));
        self.fails("dummy_add")?;
        if self.devices.contains_key(device) {
            let action = format!("add the dummy device `{device}`");
            return Err(HostError::new(action, HostErrorKind::Exists, "File exists"));
        }
        self.devices.insert(device.into(), FakeDevice { is_dummy: true, addresses: BTreeSet::new() });
        Ok(())
    }

    fn dummy_delete(&mut self, device: &str) -> Result<(), HostError> {
        self.calls.push(format!("link delete {device}"));
        self.fails("dummy_delete")?;
        let action = format!("delete the dummy device `{device}`");
        match self.devices.get(device) {
            None => Err(no_device(action)),
            Some(held) if !held.is_dummy => Err(no_dummy(action, device)),
            Some(_) => {
                self.devices.remove(device);
                Ok(())
            }
        }
    }

    fn addresses_add(&mut self, device: &str, addresses: &[IpAddr]) -> Result<(), HostError> {
        self.calls.push(format!("address add {} to {device}", joined(addresses)));
        self.fails("addresses_add")?;
        let action = || no_device(format!("add addresses to `{device}`"));
        self.devices.get_mut(device).ok_or_else(action)?.addresses.extend(addresses);
        Ok(())
    }

    fn addresses_delete(&mut self, device: &str, addresses: &[IpAddr]) -> Result<(), HostError> {
        self.calls.push(format!("address delete {} from {device}", joined(addresses)));
        self.fails("addresses_delete")?;
        let action = || no_device(format!("delete addresses from `{device}`"));
        let held = self.devices.get_mut(device).ok_or_else(action)?;
        held.addresses.retain(|held| !addresses.contains(held));
        Ok(())
    }

    fn kernel_release(&self) -> Result<String, HostError> {
        Ok(self.kernel_release.clone())
    }

    fn lock(&mut self, _limit: Duration, on_wait: &mut dyn FnMut(&str)) -> Result<LockGuard, HostError> {
        self.calls.push("lock".to_owned());
        self.fails("lock")?;
        let Some(holder) = &self.lock_holder else { return Ok(LockGuard::of_nothing()) };
        on_wait(holder);
        Err(HostError::new("lock this network namespace", HostErrorKind::Busy, format!("held by {holder}")))
    }

    fn forward_start(&mut self, options: &ForwardOptions, _socket: Option<&str>) -> Result<(), HostError> {
        self.calls.push(format!("forward at most {:?} connections", options.max_connections));
        self.fails("forward_start")?;
        self.listeners = Some(Listeners::new());
        Ok(())
    }

    fn forward_set(&mut self, wanted: &Listeners) -> Result<(), ForwardError> {
        self.fails("forward_set").map_err(ForwardError::Host)?;
        let is_taken = |key: &&ListenerKey| self.ports_in_use.contains(&(key.protocol, key.at.port));
        let taken: Vec<ListenerKey> = wanted.keys().filter(is_taken).copied().collect();
        let mut listeners = wanted.clone();
        listeners.retain(|key, _| !taken.contains(key));
        self.calls.push(format!("listen on {} ports", listeners.len()));
        self.listeners = Some(listeners);
        if taken.is_empty() { Ok(()) } else { Err(ForwardError::PortsInUse(taken)) }
    }

    fn forward_retarget(&mut self, listeners: &Listeners) -> Result<(), HostError> {
        self.calls.push(format!("lead {} ports elsewhere", listeners.len()));
        self.fails("forward_retarget")?;
        let open = self.listeners.as_mut().filter(|open| listeners.keys().all(|key| open.contains_key(key)));
        open.ok_or_else(|| not_found("lead ports elsewhere".to_owned()))?.extend(listeners.clone());
        Ok(())
    }

    fn forward_drain(&mut self, limit: Duration) -> Result<usize, HostError> {
        self.calls.push(format!("drain for {} s", limit.as_secs()));
        self.listeners = None;
        Ok(0)
    }

    fn forward_status(&mut self, socket: Option<&str>) -> Result<Status, HostError> {
        let action = || format!("ask at `{}`", socket.unwrap_or("/run/svcproxy/1.sock"));
        let nobody = || HostError::new(action(), HostErrorKind::NotFound, "no `svcproxy run` answers there");
        self.status.clone().ok_or_else(nobody)
    }

    fn serve(&mut self, sites: &Sites) -> Result<Vec<(SocketAddr, HostError)>, HostError> {
        self.fails("serve")?;
        let is_taken = |address: &&SocketAddr| self.ports_in_use.contains(&(Protocol::Tcp, address.port()));
        let in_use = |address: &SocketAddr| {
            let action = format!("listen at {address}");
            (*address, HostError::new(action, HostErrorKind::Busy, "address already in use"))
        };
        let failed = sites.keys().filter(is_taken).map(in_use).collect();
        self.sites = sites.clone();
        Ok(failed)
    }

    fn notify(&mut self, state: &str) -> Result<(), HostError> {
        self.calls.push(format!("notify {state}"));
        self.fails("notify")
    }

    fn watch(&mut self, paths: &[String]) -> Result<(), HostError> {
        self.calls.push(format!("watch {}", paths.join(" ")));
        self.fails("watch")
    }

    fn watch_cluster(&mut self, options: &ClusterOptions) -> Result<(), HostError> {
        self.calls.push(format!("watch the cluster as {}", options.node));
        self.cluster = Some(options.clone());
        self.fails("watch_cluster")
    }

    fn report_to_cluster(&mut self, notice: Notice) -> Result<(), HostError> {
        self.notices.push(notice);
        Ok(())
    }

    fn next_event(&mut self, limit: Duration) -> Result<Event, HostError> {
        let gap = if matches!(self.events.front(), Some((Event::TimeUp, _))) { QUIET } else { EVENT_GAP };
        let left = gap.saturating_sub(self.waited);
        if limit < left {
            self.clock += limit;
            self.waited += limit;
            return Ok(Event::TimeUp);
        }
        self.waited = Duration::ZERO;
        let Some((event, files)) = self.events.pop_front() else { return Ok(Event::Stop) };
        self.clock += left;
        self.files.extend(files);
        Ok(event)
    }

    fn read_file(&mut self, path: &str) -> Result<Vec<u8>, HostError> {
        if let Some(bytes) = self.files.get(path) {
            return Ok(bytes.clone());
        }
        let folder = format!("{}/", path.trim_end_matches('/'));
        if self.files.keys().any(|name| name.starts_with(&folder)) {
            let action = format!("read `{path}`");
            return Err(HostError::new(action, HostErrorKind::IsFolder, "it is a folder, not a file"));
        }
        Err(not_found(format!("read `{path}`")))
    }

    fn read_path(&mut self, path: &str) -> Result<Vec<(String, Vec<u8>)>, HostError> {
        if path == "-" {
            let text = self.files.remove(path).ok_or_else(|| not_found("read standard input".to_owned()))?;
            return Ok(vec![("<stdin>".to_owned(), text)]);
        }
        if let Some(bytes) = self.files.get(path) {
            return Ok(vec![(path.to_owned(), bytes.clone())]);
        }
        let folder = format!("{}/", path.trim_end_matches('/'));
        let inside = self.files.iter().filter(|(name, _)| name.starts_with(&folder));
        let read: Vec<_> = inside.map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
        if read.is_empty() { Err(not_found(format!("read `{path}`"))) } else { Ok(read) }
    }

    fn write_file(&mut self, path: &str, bytes: &[u8]) -> Result<(), HostError> {
        self.calls.push(format!("write {path}"));
        self.fails("write_file")?;
        self.files.insert(path.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn host_name(&self) -> String {
        self.host_name.clone()
    }

    fn now(&self) -> Duration {
        self.clock
    }

    fn n_cpus(&self) -> usize {
        8
    }

    fn unix_time(&self) -> Duration {
        Duration::from_secs(1_800_000_000) + self.clock
    }

    fn terminal_width(&self) -> Option<u16> {
        self.terminal_width
    }

    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }
}

fn not_found(action: String) -> HostError {
    HostError::new(action, HostErrorKind::NotFound, "No such file or directory")
}

fn no_device(action: String) -> HostError {
    HostError::new(action, HostErrorKind::NotFound, "there is no such device")
}

fn no_dummy(action: String, device: &str) -> HostError {
    HostError::new(action, HostErrorKind::Exists, format!("`{device}` is there, and is no dummy device"))
}

fn joined(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ")
}

/// Arguments as `iptables-save` prints them: quotes around what has blanks.
fn as_saved(args: &[String]) -> String {
    let quoted = |arg: &String| if arg.contains(' ') { format!("\"{arg}\"") } else { arg.clone() };
    args.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
