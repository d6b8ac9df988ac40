//! The machine: one seam, [`Host`], that text and bytes cross. The only folder with IO; it decides nothing.
//!
//! [`LinuxHost`] is this machine, in the network namespace of the calling thread; [`FakeHost`] is one in memory.

pub mod cluster;
mod conntrack;
mod error;
pub mod execute;
mod fake;
mod fake_tables;
mod files;
pub mod forward;
mod genl;
mod ipset;
mod ipvs;
mod link;
mod linux;
mod lock;
mod netlink;
mod nf_tables;
mod nfacct;
mod nft;
mod nft_watch;
mod notify;
pub mod serve;
mod sysctl;
mod tool;
mod watch;
mod xtables;
mod xtables_words;

pub use error::{HostError, HostErrorKind, RestoreError};
pub use fake::{FakeDevice, FakeHost};
pub use fake_tables::{FakeChain, FakeTables};
pub use linux::LinuxHost;
pub use lock::LockGuard;
pub use watch::Event;
pub use xtables::unreadable_tables;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::net::{IpFamily, Protocol};
use crate::plan::Landmark;
use crate::program::conntrack::Flow;
use crate::program::ipset::{Change, Sets};
use crate::program::ipvs::{Request, ServiceKey, Timeouts, VirtualServers};
use crate::program::listener::{Listeners, Status};
use crate::program::nft::{Table, wire::Batch};
use cluster::{ClusterOptions, Notice};
use forward::{ForwardError, ForwardOptions};
use serve::Sites;

/// Which of the two iptables implementations: they keep separate rules in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum XtablesVariant {
    /// `iptables-legacy`, on the kernel's own xtables.
    Legacy,
    /// `iptables-nft`, on nf_tables.
    Nft,
}

impl XtablesVariant {
    /// Both.
    pub const ALL: [XtablesVariant; 2] = [XtablesVariant::Legacy, XtablesVariant::Nft];

    /// `legacy` or `nft`, as in the names of the tools.
    pub fn name(self) -> &'static str {
        match self {
            XtablesVariant::Legacy => "legacy",
            XtablesVariant::Nft => "nft",
        }
    }
}

impl fmt::Display for XtablesVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An installed set of iptables tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XtablesTools {
    /// Which implementation.
    pub variant: XtablesVariant,
    /// Its version, as 1.8.9.
    pub version: (u32, u32, u32),
    /// Whether plain `iptables` is this one.
    pub is_default: bool,
}

/// Whether a restore is to change anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreMode {
    /// Load it.
    Commit,
    /// Only ask the tool whether it would (`--test`). It sees less than the kernel would: see [`Host::xtables_restore`].
    Test,
}

/// A packet counter with a name, which rules refer to (`-m nfacct`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NfacctObject {
    /// Its name, at most 31 bytes.
    pub name: String,
    /// Packets counted.
    pub packets: u64,
    /// Bytes counted.
    pub bytes: u64,
}

/// An address, and the device that bears it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalAddress {
    /// Name of the device.
    pub device: Box<str>,
    /// The address.
    pub addr: IpAddr,
}

/// What this program asks of a machine.
pub trait Host: Send {
    /// The iptables tool sets that are installed, legacy first. Empty if there are none.
    fn xtables_variants(&mut self) -> Result<Vec<XtablesTools>, HostError>;

    /// All tables of a family as `iptables-save` prints them, with neither tables nor modules made by the reading.
    /// `Unsupported` if the kernel has no IPv6 and that is asked for. A table can be missing from it although it has rules:
    /// see [`unreadable_tables`].
    fn xtables_save(&mut self, variant: XtablesVariant, family: IpFamily) -> Result<String, HostError>;

    /// The same with what each chain and rule has counted, as `iptables-save -c` prints it.
    fn xtables_save_counted(
        &mut self,
        variant: XtablesVariant,
        family: IpFamily,
    ) -> Result<String, HostError>;

    /// Feeds a document to `iptables-restore --noflush --counters`.
    ///
    /// Each table of it is loaded as a whole or not at all; tables before the one that failed stay loaded. In test mode the
    /// nft variant notices neither jumps to missing chains nor missing nfacct objects, the legacy one not the latter.
    fn xtables_restore(
        &mut self,
        variant: XtablesVariant,
        family: IpFamily,
        document: &[u8],
        mode: RestoreMode,
    ) -> Result<(), RestoreError>;

    /// Deletes the first such rule from a chain of a table (`place`), `args` being all that follows the chain in the
    /// `iptables` command. `NotFound` if there is none.
    fn xtables_delete(
        &mut self,
        variant: XtablesVariant,
        family: IpFamily,
        place: (&str, &str),
        args: &[String],
    ) -> Result<(), HostError>;

    /// Whether a landmark stands.
    fn stands(&mut self, variant: XtablesVariant, landmark: &Landmark) -> Result<bool, HostError>;

    /// The version of the tool `nft`, as 1.0.6. `None` if it is not installed.
    fn nft_version(&mut self) -> Result<Option<(u32, u32, u32)>, HostError>;

    /// A table of nftables as `nft -j list table` prints it, `family` being `ip`, `ip6`, `inet` or another of nft's. `None` if there is no such table.
    fn nft_list(&mut self, family: &str, table: &str) -> Result<Option<Vec<u8>>, HostError>;

    /// Family and name of every table of nftables, those of iptables-nft among them. `Unsupported` if the kernel has none.
    fn nft_tables(&mut self) -> Result<Vec<(String, String)>, HostError>;

    /// Feeds a document to `nft`, which takes all of it as one transaction, or nothing. With `check` it is only asked, and the
    /// kernel with it, whether it would. The line of an error is that of the first command that was refused.
    fn nft_run(&mut self, document: &[u8], check: bool) -> Result<(), RestoreError>;

    /// Puts a table there for as long as the call lasts (`document`: one command a line; the table with `flags owner`), and gives
    /// every line of `nft monitor trace` to `on_line`, until a moment after the first that it says is one to wait for, or until
    /// the limit is over. However this process ends, the table goes with it.
    fn nft_watch(
        &mut self,
        document: &str,
        table: (&str, &str),
        limit: Duration,
        on_line: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(), HostError>;

    /// Changes a table of nftables by netlink: all of it as one transaction, or nothing. The line of an error is that of the
    /// document that says what the first message says which was refused.
    fn nft_change(&mut self, batch: &Batch) -> Result<(), RestoreError>;

    /// A table of nftables, read by netlink, as it was at one moment. `None` if there is no such table; what of it is not
    /// modelled is kept without its words. `Unsupported` if the kernel has no nf_tables.
    fn nft_read(&mut self, family: IpFamily, table: &str) -> Result<Option<Table>, HostError>;

    /// The generation of nf_tables in this network namespace: each transaction, whoever's, makes the next one.
    fn nft_generation(&mut self) -> Result<u32, HostError>;

    /// The value of a kernel setting, as `net/ipv4/conf/all/route_localnet`, without its final newline. `None` if the
    /// kernel has no such setting.
    fn sysctl_read(&self, key: &str) -> Result<Option<String>, HostError>;

    /// Sets a kernel setting. `NotFound` if the kernel has no such setting.
    fn sysctl_write(&mut self, key: &str, value: &str) -> Result<(), HostError>;

    /// All addresses on all devices of this network namespace, each with its device; sorted, each pair once.
    fn local_addresses(&mut self) -> Result<Vec<LocalAddress>, HostError>;

    /// The accounting objects, sorted by name. `Unsupported` if the kernel has none.
    fn nfacct_list(&mut self) -> Result<Vec<NfacctObject>, HostError>;

    /// Makes an accounting object; one that is there already is fine and keeps its counts.
    fn nfacct_add(&mut self, name: &str) -> Result<(), HostError>;

    /// Deletes an accounting object. `NotFound` if there is none, `Busy` if a rule uses it.
    fn nfacct_delete(&mut self, name: &str) -> Result<(), HostError>;

    /// The flows of a family and a protocol that the kernel remembers. `Unsupported` if it does not tell of them.
    fn conntrack_flows(&mut self, family: IpFamily, protocol: Protocol) -> Result<Vec<Flow>, HostError>;

    /// Forgets flows: the rules see their next packets as those of new ones. One that is gone already is fine.
    fn conntrack_forget(&mut self, flows: &[Flow]) -> Result<(), HostError>;

    /// Has the kernel forget those flows of some kinds that are asked for; how many there were.
    fn conntrack_forget_those(
        &mut self,
        kinds: &BTreeSet<(Protocol, IpFamily)>,
        is_asked: &dyn Fn(&Flow) -> bool,
    ) -> Result<usize, HostError> {
        let mut those: Vec<Flow> = Vec::new();
        for (protocol, family) in kinds {
            those.extend(self.conntrack_flows(*family, *protocol)?.into_iter().filter(is_asked));
        }
        if !those.is_empty() {
            self.conntrack_forget(&those)?;
        }
        Ok(those.len())
    }

    /// The version of IPVS in the kernel, as 1.2.1; `None` if it has none. Loads the module if it must.
    fn ipvs_version(&mut self) -> Result<Option<(u8, u8, u8)>, HostError>;

    /// All virtual servers with their real servers, and how many connections these have. `Unsupported` if the kernel has no
    /// IPVS.
    fn ipvs_read(&mut self) -> Result<VirtualServers, HostError>;

    /// Those of these virtual servers that are there, told as [`Host::ipvs_read`] tells them.
    fn ipvs_read_some(&mut self, keys: &[ServiceKey]) -> Result<VirtualServers, HostError>;

    /// Changes virtual servers: requests are taken in their order, each for itself. The error names the first that was
    /// refused by its index; those before it are done, those after it may be done or not.
    fn ipvs_change(&mut self, requests: &[Request]) -> Result<(), (usize, HostError)>;

    /// For how long the kernel remembers connections of virtual servers.
    fn ipvs_timeouts(&mut self) -> Result<Timeouts, HostError>;

    /// The newest version of ipset's protocol that the kernel speaks, 6 or 7; `None` if it has no ipset. Loads the module if
    /// it must.
    fn ipset_protocol(&mut self) -> Result<Option<u8>, HostError>;

    /// All sets with their entries. `Unsupported` if the kernel has no ipset.
    fn ipset_read(&mut self) -> Result<Sets, HostError>;

    /// Changes sets: changes are taken in their order, what is there already, or gone already, is fine. The error names the
    /// first that was refused by its index: what comes before it is done, of its own entries those before the one that is
    /// named; nothing after it is.
    fn ipset_change(&mut self, changes: &[Change]) -> Result<(), (usize, HostError)>;

    /// The addresses of a dummy device, without those that the kernel gave it (link-local IPv6). `None` if there is no such
    /// device; `Exists` if it is no dummy.
    fn dummy_addresses(&mut self, device: &str) -> Result<Option<BTreeSet<IpAddr>>, HostError>;

    /// Makes a dummy device, and leaves it down. `Exists` if there is a device of that name.
    fn dummy_add(&mut self, device: &str) -> Result<(), HostError>;

    /// Deletes a dummy device with its addresses. `NotFound` if there is none, `Exists` if the device is no dummy.
    fn dummy_delete(&mut self, device: &str) -> Result<(), HostError>;

    /// Gives a device addresses, each as a host's (/32, /128). One that it bears already is fine.
    fn addresses_add(&mut self, device: &str, addresses: &[IpAddr]) -> Result<(), HostError>;

    /// Takes addresses (/32, /128) from a device. One that is gone already is fine.
    fn addresses_delete(&mut self, device: &str, addresses: &[IpAddr]) -> Result<(), HostError>;

    /// The version of the kernel, as `uname -r` prints it.
    fn kernel_release(&self) -> Result<String, HostError>;

    /// Waits, up to a limit, until no other svcproxy works on this network namespace, then keeps others out until the guard is
    /// dropped or the process ends. `on_wait` is told once who holds it. `Busy` when the limit is over.
    fn lock(&mut self, limit: Duration, on_wait: &mut dyn FnMut(&str)) -> Result<LockGuard, HostError>;

    /// Begins to carry connections in this network namespace, without listeners yet, and to tell about them at a Unix socket:
    /// the usual one of the namespace, unless a path is given. `Busy` if another process does so there.
    fn forward_start(&mut self, options: &ForwardOptions, socket: Option<&str>) -> Result<(), HostError>;

    /// Opens, changes and closes listeners until they are as wanted. Connections stay.
    fn forward_set(&mut self, wanted: &Listeners) -> Result<(), ForwardError>;

    /// Has listeners that are open lead elsewhere, without a look at the others. Connections stay. `NotFound` if one is not open:
    /// then all lead where they led.
    fn forward_retarget(&mut self, listeners: &Listeners) -> Result<(), HostError>;

    /// Closes all listeners, waits up to a limit until the connections have ended, or until the process is told to end once
    /// more, and cuts those that are left: how many they were.
    fn forward_drain(&mut self, limit: Duration) -> Result<usize, HostError>;

    /// What the process that carries connections in this network namespace tells. `NotFound` if there is none.
    fn forward_status(&mut self, socket: Option<&str>) -> Result<Status, HostError>;

    /// Answers HTTP requests at these addresses, and at no others any more. Those that could not be opened, and why; they are
    /// tried again when this is called again.
    fn serve(&mut self, sites: &Sites) -> Result<Vec<(SocketAddr, HostError)>, HostError>;

    /// Tells a service manager that started this process how it is, as `READY=1` (sd_notify(3)). Nobody may be listening.
    fn notify(&mut self, state: &str) -> Result<(), HostError>;

    /// Begins to watch files and folders. From now on signals to end are events.
    fn watch(&mut self, paths: &[String]) -> Result<(), HostError>;

    /// Begins to watch an API server, after [`Host::watch`]. What it tells are events from now on; that it does not answer is
    /// one, too, and no error.
    fn watch_cluster(&mut self, options: &ClusterOptions) -> Result<(), HostError>;

    /// Has the API server that is watched be told what is wrong with an object. It is not waited for, and may be lost.
    fn report_to_cluster(&mut self, notice: Notice) -> Result<(), HostError>;

    /// Waits up to a limit for an event.
    fn next_event(&mut self, limit: Duration) -> Result<Event, HostError>;

    /// The texts at a path, each with its name: one file (or pipe), `-` for standard input (named `<stdin>`), or all `.yaml`,
    /// `.yml` and `.json` files below a folder, in order of their names.
    fn read_path(&mut self, path: &str) -> Result<Vec<(String, Vec<u8>)>, HostError>;

    /// The bytes of one file or pipe, `-` for standard input. `IsFolder` if it is one.
    fn read_file(&mut self, path: &str) -> Result<Vec<u8>, HostError>;

    /// Writes a file as a whole: a reader sees the old content or the new. Makes missing folders.
    fn write_file(&mut self, path: &str, bytes: &[u8]) -> Result<(), HostError>;

    /// How many CPUs this process may use.
    fn n_cpus(&self) -> usize;

    /// The name of this machine.
    fn host_name(&self) -> String;

    /// Time since the host value was made; never goes back.
    fn now(&self) -> Duration;

    /// The time of day, since 1970 began (UTC).
    fn unix_time(&self) -> Duration;

    /// How many columns the terminal has that standard output is; `None` if it is none.
    fn terminal_width(&self) -> Option<u16>;

    /// An environment variable, if it is set and is text.
    fn env(&self, name: &str) -> Option<String>;
}
