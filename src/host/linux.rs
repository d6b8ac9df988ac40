//! This machine, in the network namespace of the calling thread.
#![allow(clippy::disallowed_methods, reason = "host is the folder with IO")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::cluster::{self, ClusterOptions, Notice};
use super::error::{HostError, HostErrorKind, RestoreError};
use super::forward::{self, ForwardError, ForwardOptions, Forwarder};
use super::ipvs::Ipvs;
use super::netlink::Netlink;
use super::serve::{Server, Sites};
use super::watch::Watch;
use super::xtables::Xtables;
use super::{Event, Host, LocalAddress, LockGuard, NfacctObject, RestoreMode, XtablesTools, XtablesVariant};
use super::{conntrack, files, ipset, link, lock, nf_tables, nfacct, nft, nft_watch, notify, sysctl};
use crate::net::{IpFamily, Protocol};
use crate::plan::Landmark;
use crate::program::conntrack::Flow;
use crate::program::ipset::{Change, Sets};
use crate::program::ipvs;
use crate::program::listener::{Listeners, Status};
use crate::program::nft::{Table, wire::Batch};
use crate::program::xtables::emit;

/// The machine that this program runs on.
#[derive(Debug)]
pub struct LinuxHost {
    xtables: Xtables,
    ipvs: Ipvs,
    started: Instant,
    stdin_is_read: bool,
    forwarder: Option<Forwarder>,
    watch: Option<Watch>,
    server: Option<Server>,
    /// For changes of nftables.
    transactions: Option<Netlink>,
}

impl LinuxHost {
    /// This machine. Nothing is read until it is asked for.
    pub fn new() -> LinuxHost {
        LinuxHost {
            xtables: Xtables::default(),
            ipvs: Ipvs::default(),
            started: Instant::now(),
            stdin_is_read: false,
            forwarder: None,
            watch: None,
            server: None,
            transactions: None,
        }
    }
}

impl Default for LinuxHost {
    fn default() -> LinuxHost {
        LinuxHost::new()
    }
}

impl LinuxHost {
    fn read_stdin(&mut self) -> Result<(String, Vec<u8>), HostError> {
        if std::mem::replace(&mut self.stdin_is_read, true) {
            let detail = "`-` can be given once only";
            return Err(HostError::new("read standard input", HostErrorKind::Other, detail));
        }
        files::read_stream("<stdin>", std::io::stdin().lock(), files::SIZE_LIMIT)
    }
}

/// Where the process that carries connections is asked.
fn socket_path(asked: Option<&str>) -> Result<PathBuf, HostError> {
    asked.map_or_else(|| lock::namespace_path("sock"), |path| Ok(PathBuf::from(path)))
}

fn not_started(action: &str) -> HostError {
    HostError::new(action, HostErrorKind::Other, "it has not been started")
}

impl Host for LinuxHost {
    fn xtables_variants(&mut self) -> Result<Vec<XtablesTools>, HostError> {
        self.xtables.variants()
    }

    fn xtables_save(&mut self, variant: XtablesVariant, family: IpFamily) -> Result<String, HostError> {
        self.xtables.save(variant, family, false)
    }

    fn xtables_save_counted(
        &mut self,
        variant: XtablesVariant,
        family: IpFamily,
    ) -> Result<String, HostError> {
        self.xtables.save(variant, family, true)
    }

    fn xtables_restore(
        &mut self,
        variant: XtablesVariant,
        family: IpFamily,
        document: &[u8],
        mode: RestoreMode,
    ) -> Result<(), RestoreError> {
        self.xtables.restore(variant, family, document, mode)
    }

    fn xtables_delete(
        &mut self,
        variant: XtablesVariant,
        family: IpFamily,
        place: (&str, &str),
        args: &[String],
    ) -> Result<(), HostError> {
        self.xtables.delete(variant, family, place, args)
    }

    fn stands(&mut self, variant: XtablesVariant, landmark: &Landmark) -> Result<bool, HostError> {
        match landmark {
            Landmark::Jump { family, table, chain, rule } => {
                let args = emit::rule_args(rule, *family);
                self.xtables.has(variant, *family, (table.as_str(), chain.as_str()), &args)
            }
            Landmark::Rules { family, table, chain, n_rules } => {
                Ok(nf_tables::n_rules(*family, table, chain)? >= *n_rules)
            }
            Landmark::VirtualServer(key) => self.ipvs.has(key),
        }
    }

    fn nft_version(&mut self) -> Result<Option<(u32, u32, u32)>, HostError> {
        nft::version()
    }

    fn nft_list(&mut self, family: &str, table: &str) -> Result<Option<Vec<u8>>, HostError> {
        nft::list(family, table)
    }

    fn nft_tables(&mut self) -> Result<Vec<(String, String)>, HostError> {
        nf_tables::tables()
    }

    fn nft_run(&mut self, document: &[u8], check: bool) -> Result<(), RestoreError> {
        nft::run(document, check)
    }

    fn nft_watch(
        &mut self,
        document: &str,
        table: (&str, &str),
        limit: Duration,
        on_line: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(), HostError> {
        nft_watch::watch(document, table, limit, on_line)
    }

    fn nft_change(&mut self, batch: &Batch) -> Result<(), RestoreError> {
        nf_tables::change(&mut self.transactions, batch)
    }

    fn nft_read(&mut self, family: IpFamily, table: &str) -> Result<Option<Table>, HostError> {
        nf_tables::read(family, table)
    }

    fn nft_generation(&mut self) -> Result<u32, HostError> {
        nf_tables::generation()
    }

    fn sysctl_read(&self, key: &str) -> Result<Option<String>, HostError> {
        sysctl::read(key)
    }

    fn sysctl_write(&mut self, key: &str, value: &str) -> Result<(), HostError> {
        sysctl::write(key, value)
    }

    fn local_addresses(&mut self) -> Result<Vec<LocalAddress>, HostError> {
        link::local_addresses()
    }

    fn nfacct_list(&mut self) -> Result<Vec<NfacctObject>, HostError> {
        nfacct::list()
    }

    fn nfacct_add(&mut self, name: &str) -> Result<(), HostError> {
        nfacct::add(name)
    }

    fn nfacct_delete(&mut self, name: &str) -> Result<(), HostError> {
        nfacct::delete(name)
    }

    fn conntrack_flows(&mut self, family: IpFamily, protocol: Protocol) -> Result<Vec<Flow>, HostError> {
        conntrack::flows(family, protocol)
    }

    fn conntrack_forget(&mut self, flows: &[Flow]) -> Result<(), HostError> {
        conntrack::forget(flows)
    }

    fn ipvs_version(&mut self) -> Result<Option<(u8, u8, u8)>, HostError> {
        self.ipvs.version()
    }

    fn ipvs_read(&mut self) -> Result<ipvs::VirtualServers, HostError> {
        self.ipvs.read()
    }

    fn ipvs_read_some(&mut self, keys: &[ipvs::ServiceKey]) -> Result<ipvs::VirtualServers, HostError> {
        self.ipvs.read_some(keys)
    }

    fn ipvs_change(&mut self, requests: &[ipvs::Request]) -> Result<(), (usize, HostError)> {
        self.ipvs.change(requests)
    }

    fn ipvs_timeouts(&mut self) -> Result<ipvs::Timeouts, HostError> {
        self.ipvs.timeouts()
    }

    fn ipset_protocol(&mut self) -> Result<Option<u8>, HostError> {
        ipset::protocol()
    }

    fn ipset_read(&mut self) -> Result<Sets, HostError> {
        ipset::read()
    }

    fn ipset_change(&mut self, changes: &[Change]) -> Result<(), (usize, HostError)> {
        ipset::change(changes)
    }

    fn dummy_addresses(&mut self, device: &str) -> Result<Option<BTreeSet<IpAddr>>, HostError> {
        link::dummy_addresses(device)
    }

    fn dummy_add(&mut self, device: &str) -> Result<(), HostError> {
        link::dummy_add(device)
    }

    fn dummy_delete(&mut self, device: &str) -> Result<(), HostError> {
        link::dummy_delete(device)
    }

    fn addresses_add(&mut self, device: &str, addresses: &[IpAddr]) -> Result<(), HostError> {
        link::addresses_add(device, addresses)
    }

    fn addresses_delete(&mut self, device: &str, addresses: &[IpAddr]) -> Result<(), HostError> {
        link::addresses_delete(device, addresses)
    }

    fn kernel_release(&self) -> Result<String, HostError> {
        let uname = rustix::system::uname();
        uname.release().to_str().map(str::to_owned).map_err(|error| {
            HostError::new("ask for the version of the kernel", HostErrorKind::Other, error.to_string())
        })
    }

    fn lock(&mut self, limit: Duration, on_wait: &mut dyn FnMut(&str)) -> Result<LockGuard, HostError> {
        lock::lock(limit, on_wait)
    }

    fn forward_start(&mut self, options: &ForwardOptions, socket: Option<&str>) -> Result<(), HostError> {
        let path = socket_path(socket)?;
        self.forwarder = Some(Forwarder::start(options, Some(&path))?);
        Ok(())
    }

    fn forward_set(&mut self, wanted: &Listeners) -> Result<(), ForwardError> {
        match &mut self.forwarder {
            Some(forwarder) => forwarder.set(wanted),
            None => Err(ForwardError::Host(not_started("listen"))),
        }
    }

    fn forward_retarget(&mut self, listeners: &Listeners) -> Result<(), HostError> {
        self.forwarder.as_mut().ok_or_else(|| not_started("lead ports elsewhere"))?.retarget(listeners)
    }

    fn forward_drain(&mut self, limit: Duration) -> Result<usize, HostError> {
        let mut forwarder = self.forwarder.take().ok_or_else(|| not_started("drain"))?;
        let watch = &mut self.watch;
        Ok(forwarder.drain(limit, || watch.as_mut().is_some_and(Watch::is_stopped)))
    }

    fn forward_status(&mut self, socket: Option<&str>) -> Result<Status, HostError> {
        forward::ask(&socket_path(socket)?)
    }

    fn serve(&mut self, sites: &Sites) -> Result<Vec<(SocketAddr, HostError)>, HostError> {
        let server = match &mut self.server {
            Some(server) => server,
            None => self.server.insert(Server::start()?),
        };
        Ok(server.set(sites))
    }

    fn notify(&mut self, state: &str) -> Result<(), HostError> {
        notify::notify(state)
    }

    fn watch(&mut self, paths: &[String]) -> Result<(), HostError> {
        self.watch = Some(Watch::start(paths)?);
        Ok(())
    }

    fn watch_cluster(&mut self, options: &ClusterOptions) -> Result<(), HostError> {
        let watch = self.watch.as_mut().ok_or_else(|| not_started("watch the cluster"))?;
        watch.attach(cluster::start(options)?);
        Ok(())
    }

    fn report_to_cluster(&mut self, notice: Notice) -> Result<(), HostError> {
        self.watch.as_ref().ok_or_else(|| not_started("report to the cluster"))?.report(notice);
        Ok(())
    }

    fn next_event(&mut self, limit: Duration) -> Result<Event, HostError> {
        self.watch.as_mut().ok_or_else(|| not_started("wait for events"))?.next(limit)
    }

    fn read_path(&mut self, path: &str) -> Result<Vec<(String, Vec<u8>)>, HostError> {
        if path != "-" {
            return files::read_path(path, files::SIZE_LIMIT);
        }
        Ok(vec![self.read_stdin()?])
    }

    fn read_file(&mut self, path: &str) -> Result<Vec<u8>, HostError> {
        if path != "-" {
            return files::read_file(path, files::SIZE_LIMIT);
        }
        Ok(self.read_stdin()?.1)
    }

    fn write_file(&mut self, path: &str, bytes: &[u8]) -> Result<(), HostError> {
        files::write_file(path, bytes)
    }

    fn host_name(&self) -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn n_cpus(&self) -> usize {
        rustix::thread::sched_getaffinity(None).map_or(1, |set| usize::try_from(set.count()).unwrap_or(1))
    }

    fn unix_time(&self) -> Duration {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
    }

    fn terminal_width(&self) -> Option<u16> {
        let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
        Some(size.ws_col).filter(|columns| *columns > 0)
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}
