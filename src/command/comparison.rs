//! Wanted beside live: what `diff` shows and `apply` acts upon.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::IpAddr;

use crate::backend::{self, Changes, LiftedName, PortChange, nftables};
use crate::host::Host;
use crate::model::{Cluster, Config, Mode, Node};
use crate::net::{IpFamily, PerFamily};
use crate::pipeline::{Compiler, Wanted};
use crate::plan::{self, Plan, Step};
use crate::program::ipvs::ServiceKey;
use crate::program::listener::ListenerKey;
use crate::program::xtables::Ruleset;
use crate::program::{NftTable, Program};
use crate::report;
use crate::resolve::NodeContext;

use super::input::{self, Input, Notes, Understood};
use super::live::{self, Abilities, Live, Owned};
use super::options::{FamilyArg, InputArgs, NftArgs, OutputArg, TargetArgs, VariantArg};
use super::{Console, Error, progress, virtual_servers};

/// What must be known of this machine before anything can be compiled for it.
struct Machine {
    abilities: Abilities,
    /// What it is to be spared, though it could.
    target: TargetArgs,
    local_addresses: Vec<IpAddr>,
}

impl Machine {
    fn ask(host: &mut dyn Host, target: TargetArgs, nft: NftArgs) -> Result<Machine, Error> {
        let abilities = live::abilities(host, nft)?;
        let local_addresses = virtual_servers::node_addresses(host)?.into_iter().collect();
        Ok(Machine { abilities, target, local_addresses })
    }

    fn wanted(
        &self,
        args: &InputArgs,
        understood: &Understood,
        families: &BTreeSet<IpFamily>,
    ) -> Option<Result<Wanted, Error>> {
        let (cluster, config, node) = understood.cluster()?;
        Some(self.compiler(args, cluster, config, node, families).map(|compiler| compiler.wanted(cluster)))
    }

    /// For input that has been found fit.
    fn compiler_for(&self, args: &InputArgs, input: &Input) -> Result<Compiler, Error> {
        self.compiler(args, &input.loaded.cluster, &input.config, &input.node, &input.families)
    }

    fn compiler(
        &self,
        args: &InputArgs,
        cluster: &Cluster,
        config: &Config,
        node: &Node,
        families: &BTreeSet<IpFamily>,
    ) -> Result<Compiler, Error> {
        let context = NodeContext::new(config, node, &self.local_addresses);
        let own = input::known_addresses(&context, Some(&self.local_addresses));
        let lowering =
            self.abilities.lowering(args, cluster, config, self.target, &self.local_addresses, own)?;
        Ok(Compiler { node: context, families: families.clone(), lowering })
    }
}

/// Wanted, live, and what separates them.
pub(super) struct Comparison {
    pub(super) wanted: Wanted,
    pub(super) live: Live,
    pub(super) plan: Plan,
    /// What made it, if it was made for this machine.
    pub(super) compiler: Option<Compiler>,
}

impl Comparison {
    /// With this machine: its rules are read while the manifests are understood and compiled.
    pub(super) fn with_machine(
        args: &InputArgs,
        target: TargetArgs,
        (variant, nft): (VariantArg, NftArgs),
        host: &mut dyn Host,
        console: &mut Console<'_>,
    ) -> Result<(Input, Comparison), Error> {
        let texts = input::gather(args, &args.filenames, host)?;
        let families = FamilyArg::families(args.family);
        let spinner = progress::spinner(console, "reading manifests and this machine's rules");
        let machine = Machine::ask(host, target, nft);
        let (understood, wanted, live) = match &machine {
            Ok(machine) => std::thread::scope(|scope| {
                let compiled = scope.spawn(|| {
                    let understood = input::understand(args, texts);
                    let wanted = machine.wanted(args, &understood, &families);
                    (understood, wanted)
                });
                let live = live::read(host, &machine.abilities, variant, &families);
                compiled.join().map(|(understood, wanted)| (understood, wanted, live))
            })
            .map_err(|_| Error::internal("the compiler stopped"))?,
            // It is told when all is said of the input.
            Err(_) => (input::understand(args, texts), None, Ok(Live::of_program(Program::default()))),
        };
        spinner.finish_and_clear();
        // What is wrong with the input is said whatever became of the machine.
        let input = input::say(args, understood, Notes::Hidden, console)?;
        let machine = machine?;
        let live = live?;
        let wanted = wanted.ok_or_else(|| Error::internal("nothing was compiled"))??;
        let compared = Comparison::of_machine(args, &input, wanted, live, &machine, host)?;
        Ok((input, compared))
    }

    /// With this machine, for input that has been found fit: nobody waits for a lock with input that is not.
    pub(super) fn of_input(
        args: &InputArgs,
        input: &Input,
        (variant, nft): (VariantArg, NftArgs),
        host: &mut dyn Host,
        console: &Console<'_>,
    ) -> Result<Comparison, Error> {
        let machine = Machine::ask(host, TargetArgs::default(), nft)?;
        let spinner = progress::spinner(console, "reading this machine's rules");
        let (wanted, live) = std::thread::scope(|scope| {
            let live = scope.spawn(|| live::read(host, &machine.abilities, variant, &input.families));
            // In this thread: with glibc others get their memory page by page.
            let compiler = machine.compiler_for(args, input);
            (compiler.map(|compiler| compiler.wanted(&input.loaded.cluster)), live.join())
        });
        spinner.finish_and_clear();
        // No iptables, no nft: said before what that entails.
        let wanted = wanted?;
        let live = live.map_err(|_| Error::internal("the reader stopped"))??;
        let mut compared = Comparison::of_machine(args, input, wanted, live, &machine, host)?;
        if nft.nft_tool {
            compared.plan.drop_batches();
        }
        Ok(compared)
    }

    /// The same with one thing after the other, for a process that stays: what is made on a thread of its own comes from memory
    /// of its own, and two of these stay larger than one.
    pub(super) fn by_turns(
        args: &InputArgs,
        input: &Input,
        variant: VariantArg,
        host: &mut dyn Host,
    ) -> Result<Comparison, Error> {
        let machine = Machine::ask(host, TargetArgs::default(), NftArgs::default())?;
        let compiler = machine.compiler_for(args, input)?;
        let wanted = compiler.wanted(&input.loaded.cluster);
        let live = live::read(host, &machine.abilities, variant, &input.families)?;
        let compared = Comparison::of_machine(args, input, wanted, live, &machine, host)?;
        Ok(Comparison { compiler: Some(compiler), ..compared })
    }

    /// With what was read of a machine. What other modes left there is not wanted, unless it is to be kept.
    fn of_machine(
        args: &InputArgs,
        input: &Input,
        mut wanted: Wanted,
        mut live: Live,
        machine: &Machine,
        host: &mut dyn Host,
    ) -> Result<Comparison, Error> {
        let uses_iptables = input.config.mode != Mode::Nftables;
        match live.hidden.take() {
            Some(hidden) if uses_iptables => {
                return Err(Error::host(hidden)
                    .hint("move those rules into a table of their own, or choose with --iptables"));
            }
            // What cannot be seen is left alone.
            Some(hidden) => {
                live.warnings.push(hidden);
                live.program.xtables = PerFamily::default();
            }
            None => {}
        }
        let uses_ipvs = input.config.mode == Mode::Ipvs;
        let owned = Owned {
            node_addresses: machine.local_addresses.iter().copied().collect(),
            exclude_cidrs: input.config.ipvs.exclude_cidrs.clone(),
            exclusive: uses_ipvs && args.exclusive,
        };
        if uses_ipvs {
            virtual_servers::require(host)?;
            for family in
                IpFamily::ALL.into_iter().filter(|family| live.program.xtables.get(*family).is_none())
            {
                virtual_servers::leave_out(&mut wanted.program, family);
            }
        }
        if uses_ipvs || virtual_servers::has_leftovers(host, &live.program) {
            read_virtual_servers(&wanted.program, &mut live, &owned, host)?;
        }
        if args.keep_other_modes {
            live.scopes = live::scopes(&live.program, &owned, Some(input.config.mode));
        } else {
            if !uses_ipvs {
                virtual_servers::want_nothing(&mut wanted.program, &input.families);
            }
            for family in &input.families {
                if uses_iptables {
                    *wanted.program.nft.get_mut(*family) = NftTable::Absent;
                } else {
                    *wanted.program.xtables.get_mut(*family) = Some(Ruleset::empty(*family));
                }
            }
        }
        Ok(Comparison::of(wanted, live))
    }

    /// With a program that was read or made elsewhere.
    pub(super) fn of(mut wanted: Wanted, live: Live) -> Comparison {
        for family in IpFamily::ALL {
            if let (NftTable::Present(wanted), NftTable::Present(live)) =
                (wanted.program.nft.get_mut(family), live.program.nft.get(family))
            {
                nftables::adopt(wanted, live);
            }
        }
        wanted.keep_proxy_ports(&live.program);
        let plan = plan::plan(&wanted.program, &live.program, &live.scopes);
        Comparison { wanted, live, plan, compiler: None }
    }

    /// The same without these proxy ports, which are somebody else's.
    pub(super) fn avoiding(mut self, taken: &BTreeSet<ListenerKey>) -> Comparison {
        self.wanted.avoid_ports(taken);
        Comparison { compiler: self.compiler, ..Comparison::of(self.wanted, self.live) }
    }

    fn changes(&self, family: IpFamily, with_lines: bool) -> Changes {
        let (wanted, live) = (&self.wanted.program, &self.live.program);
        let mut changes = Changes::default();
        if let Some(difference) = self.plan.tables.get(family) {
            let (wanted, live) = (wanted.nft.get(family).table(), live.nft.get(family).table());
            changes = backend::table_changes(family, wanted, live, difference, with_lines);
        }
        if let (Some(wanted), Some(live), Some(difference)) =
            (wanted.xtables.get(family), live.xtables.get(family), self.plan.rules.get(family))
        {
            let of_rules = if wanted.tables.is_empty() {
                backend::leftovers(live, difference)
            } else {
                // Where another mode is wanted, it is wanted that there are none.
                let servers = self.wanted.program.ipvs.get(family);
                let is_ipvs = servers.as_ref().is_some_and(|servers| !servers.is_empty());
                let made_for = |tag| {
                    // Of IPVS mode the virtual servers tell.
                    let port = self.wanted.made_for(family, tag).filter(|_| !is_ipvs)?;
                    Some((port.name.to_string(), port.name.protocol))
                };
                let wanted = (wanted, self.wanted.program.listeners.as_ref());
                let live = (live, self.live.program.listeners.as_ref());
                backend::changes(wanted, live, difference, &self.plan.listeners, &made_for, with_lines)
            };
            changes.ports.extend(of_rules.ports);
            changes.chains.extend(of_rules.chains);
        }
        if let Some(view) = self.wanted.views.get(family) {
            let (servers, sets) = (self.plan.servers.get(family).as_ref(), self.plan.sets.as_ref());
            let of_servers =
                backend::server_changes(view, &self.wanted.program, &self.live.program, servers, sets);
            changes.ports.extend(of_servers.ports);
            changes.chains.extend(of_servers.chains);
        }
        changes
    }

    /// The Service ports that differ in any family, in order of their names: `+ shop/web`, `- …` or `~ …`.
    pub(super) fn changed_ports(&self, input: &Input) -> Vec<String> {
        let mut marks: BTreeMap<LiftedName, char> = BTreeMap::new();
        for family in &input.families {
            for (name, change) in self.changes(*family, false).ports {
                let mark = match change {
                    PortChange::Added(_) => '+',
                    PortChange::Removed(_) => '-',
                    PortChange::Changed { .. } => '~',
                };
                // One that comes in one family and has been there in the other is changed.
                marks
                    .entry(name)
                    .and_modify(|other| *other = if *other == mark { mark } else { '~' })
                    .or_insert(mark);
            }
        }
        marks.into_iter().map(|((name, _), mark)| format!("{mark} {name}")).collect()
    }

    /// Writes the difference: Services, then with `rules_from` the rules, whose live side it names. `color`: `out` takes colours.
    pub(super) fn report(
        &self,
        input: &Input,
        output: OutputArg,
        rules_from: Option<&str>,
        (out, color): (&mut dyn Write, bool),
    ) -> Result<(), Error> {
        let placeholders: BTreeSet<String> = input
            .loaded
            .cluster
            .services
            .values()
            .filter(|service| service.placeholders.any())
            .map(|service| service.name.to_string())
            .collect();
        let placeholder =
            |(name, _): &LiftedName| placeholders.contains(name.split(':').next().unwrap_or_default());
        let with_lines = output == OutputArg::Json || rules_from.is_some();
        let changes: Vec<(IpFamily, Changes)> =
            input.families.iter().map(|family| (*family, self.changes(*family, with_lines))).collect();
        let is_setting = |step: &&Step| {
            matches!(
                step,
                Step::SetSysctl { .. }
                    | Step::AddNfacct { .. }
                    | Step::NftTransaction { what: plan::DELETE_TABLE, .. }
            )
        };
        let settings: Vec<String> = self.plan.steps.iter().filter(is_setting).map(Step::to_string).collect();
        if output == OutputArg::Json {
            report::json::write_diff(out, &changes, &settings, self.plan.is_empty(), &placeholder)?;
            out.flush()?;
            return Ok(());
        }
        for (family, changes) in &changes {
            report::diff::write_services(out, changes, *family, &placeholder, color)?;
        }
        report::diff::write_settings(out, &settings, color)?;
        if let Some(from) = rules_from {
            for (family, changes) in &changes {
                report::diff::write_rules(out, changes, *family, from, color)?;
            }
        }
        out.flush()?;
        Ok(())
    }
}

/// Reads what of IPVS mode is there beside rules, in the families whose rules were read, and notes what of it is not ours.
fn read_virtual_servers(
    wanted: &Program,
    live: &mut Live,
    owned: &Owned,
    host: &mut dyn Host,
) -> Result<(), Error> {
    let is_read = |family: &IpFamily| live.program.xtables.get(*family).is_some();
    let families: BTreeSet<IpFamily> = IpFamily::ALL.into_iter().filter(is_read).collect();
    virtual_servers::read(host, &mut live.program, &families)?;
    live.scopes = live::scopes(&live.program, owned, None);
    let is_left = |key: &ServiceKey| {
        // Those for marks no Service has, and kube-proxy leaves them alone, too.
        let ServiceKey::Address { at, .. } = key else { return false };
        !live.scopes.get(key.family()).servers.contains(key)
            && !owned.exclude_cidrs.iter().any(|cidr| cidr.contains(at.addr))
    };
    live.warnings.extend(virtual_servers::foreign(wanted, &live.program, &is_left));
    Ok(())
}
