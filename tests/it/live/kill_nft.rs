//! `kill -9` at many moments of an apply and of a cleanup in nftables mode: every packet meets the old table or the new one, and
//! the next run gets there.

use std::time::Duration;

use svcproxy::host::{Host, LinuxHost};
use svcproxy::packet::{Fate, NodeFacts, Packet};
use svcproxy::program::nft::eval::{Memory, eval};
use svcproxy::program::nft::{self, Ruleset, parse};

use super::kill::{cluster, measure, packets, start_and_kill};
use super::{Folder, Way, must, testdata};
use crate::rig::Namespace;

const N_POINTS: u32 = 10;

/// A namespace with manifests.
struct Trial {
    namespace: Namespace,
    folder: Folder,
    packets: Vec<Packet>,
}

impl Trial {
    fn apply(&self, manifests: &str) -> Vec<String> {
        let path = |name: &str| self.folder.0.join(name).to_str().unwrap().to_owned();
        let (manifests, config) = (path(manifests), path("config.yaml"));
        ["apply", "--mode=nftables", "-f", &manifests, "--config", &config].map(str::to_owned).to_vec()
    }

    fn tables(&self) -> Ruleset {
        let mut all = nft::Ruleset::default();
        for family in ["ip", "ip6"] {
            let json = self.namespace.inside(|| LinuxHost::new().nft_list(family, "kube-proxy")).unwrap();
            all.tables.extend(json.map(|json| parse::parse(&json).unwrap().tables).unwrap_or_default());
        }
        all
    }

    fn fates(&self) -> Vec<Fate> {
        let facts = NodeFacts {
            local_addresses: ["192.168.77.10", "fd00:77::10"].map(|addr| addr.parse().unwrap()).into(),
        };
        let tables = self.tables();
        self.packets.iter().map(|packet| eval(&tables, packet, &facts, &Memory::default()).fate).collect()
    }

    /// Kills a run that leads from one state to another at many moments; `back` leads back.
    fn killed(&self, run: &[String], back: &[String]) {
        let must =
            |args: &[String]| must(&self.namespace, &args.iter().map(String::as_str).collect::<Vec<_>>());
        let before = self.fates();
        let took = measure(&self.namespace, run);
        let after = self.fates();
        assert_ne!(before, after);
        let mut problems = Vec::new();
        let (mut n_old, mut n_new) = (0, 0);
        for point in 0..N_POINTS {
            must(back);
            // The last ones come late even if the machine has become slow.
            let share = f64::from(point) / f64::from(N_POINTS - 4);
            let share = if point + 2 < N_POINTS { share } else { share * 4.0 };
            let wait = took.mul_f64(share).max(Duration::from_millis(1));
            start_and_kill(&self.namespace, run, wait, point % 2 == 0);
            let now = self.fates();
            n_old += u32::from(now == before);
            n_new += u32::from(now == after);
            for (packet, fate) in self.packets.iter().zip(&now).zip(before.iter().zip(&after)).filter_map(
                |((packet, now), (old, new))| {
                    (!now.is_same(old) && !now.is_same(new)).then_some((packet, now))
                },
            ) {
                problems.push(format!("killed after {wait:?}: {packet}: {fate}"));
            }
            must(run);
            if self.fates() != after || !must(run).starts_with("nothing to ") {
                problems.push(format!("killed after {wait:?}: the next run does not get there"));
            }
        }
        assert!(problems.is_empty(), "{}", problems.join("\n"));
        eprintln!("{} in {took:?} killed {n_old} times before, {n_new} times after the changes", run[0]);
        assert!(n_old > 0 && n_new > 0, "{n_old} before, {n_new} after");
    }
}

#[test]
fn a_killed_run_in_nftables_mode_leaves_an_old_or_a_new_table() {
    if !Way::Nftables.works() {
        return;
    }
    let Some(namespace) = Namespace::new("kill") else { return };
    let trial = Trial { namespace, folder: Folder::new(), packets: packets() };
    trial.folder.write("config.yaml", &testdata("config.yaml"));
    trial.folder.write("first.yaml", &cluster(false));
    trial.folder.write("second.yaml", &cluster(true));
    let cleanup = vec!["cleanup".to_owned()];
    let (first, second) = (trial.apply("first.yaml"), trial.apply("second.yaml"));
    trial.killed(&first, &cleanup);
    trial.killed(&second, &first);
    trial.killed(&cleanup, &second);
}
