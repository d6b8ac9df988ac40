//! Wanted beside live: what `diff` shows and `apply` acts upon.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::backend::{self, Changes, LiftedName};
use crate::host::Host;
use crate::model::{Cluster, Config, Node};
use crate::net::IpFamily;
use crate::pipeline::{self, Wanted};
use crate::plan::{self, Plan};
use crate::program::xtables::Ruleset;
use crate::report;
use crate::resolve::NodeContext;

use super::input::{self, Input, Notes, Understood};
use super::live::{self, Abilities, Live};
use super::options::{FamilyArg, InputArgs, OutputArg, VariantArg};
use super::{Console, Error, progress};

/// What must be known of this machine before anything can be compiled for it.
struct Machine {
    abilities: Abilities,
    local_addresses: Vec<IpAddr>,
}

impl Machine {
    fn ask(host: &mut dyn Host) -> Result<Machine, Error> {
        Ok(Machine { abilities: live::abilities(host)?, local_addresses: host.local_addresses()? })
    }

    fn wanted(&self, understood: &Understood, families: &BTreeSet<IpFamily>) -> Option<Wanted> {
        let (cluster, config, node) = understood.cluster()?;
        Some(self.compile(cluster, config, node, families))
    }

    fn compile(
        &self,
        cluster: &Cluster,
        config: &Config,
        node: &Node,
        families: &BTreeSet<IpFamily>,
    ) -> Wanted {
        let context = NodeContext::new(config, node, &self.local_addresses);
        pipeline::wanted(cluster, &context, families, &self.abilities.lower_options(config))
    }
}

/// Wanted, live, and what separates them.
pub(super) struct Comparison {
    pub(super) wanted: Wanted,
    pub(super) live: Live,
    pub(super) plan: Plan,
}

impl Comparison {
    /// With this machine: its rules are read while the manifests are understood and compiled.
    pub(super) fn with_machine(
        args: &InputArgs,
        variant: VariantArg,
        host: &mut dyn Host,
        console: &mut Console<'_>,
    ) -> Result<(Input, Comparison), Error> {
        let texts = input::gather(args, &args.filenames, host)?;
        let families = FamilyArg::families(args.family);
        let spinner = progress::spinner(console, "reading manifests and this machine's rules");
        let (understood, wanted, live) = match Machine::ask(host) {
            Ok(machine) => std::thread::scope(|scope| {
                let compiled = scope.spawn(|| {
                    let understood = input::understand(args, texts);
                    let wanted = machine.wanted(&understood, &families);
                    (understood, wanted)
                });
                let live = live::read(host, &machine.abilities, variant, &families);
                compiled.join().map(|(understood, wanted)| (understood, wanted, live))
            })
            .map_err(|_| Error::internal("the compiler stopped"))?,
            Err(error) => (input::understand(args, texts), None, Err(error)),
        };
        spinner.finish_and_clear();
        // What is wrong with the input is said whatever became of the machine.
        let input = input::say(args, understood, Notes::Hidden, console)?;
        let live = live?;
        let wanted = wanted.ok_or_else(|| Error::internal("nothing was compiled"))?;
        Ok((input, Comparison::of(wanted, live)))
    }

    /// With this machine, for input that has been found fit: nobody waits for a lock with input that is not.
    pub(super) fn of_input(
        input: &Input,
        variant: VariantArg,
        host: &mut dyn Host,
        console: &Console<'_>,
    ) -> Result<Comparison, Error> {
        let machine = Machine::ask(host)?;
        let spinner = progress::spinner(console, "reading this machine's rules");
        let (wanted, live) = std::thread::scope(|scope| {
            let wanted = scope.spawn(|| {
                machine.compile(&input.loaded.cluster, &input.config, &input.node, &input.families)
            });
            let live = live::read(host, &machine.abilities, variant, &input.families);
            (wanted.join(), live)
        });
        spinner.finish_and_clear();
        let wanted = wanted.map_err(|_| Error::internal("the compiler stopped"))?;
        Ok(Comparison::of(wanted, live?))
    }

    /// With a program that was read or made elsewhere.
    pub(super) fn of(wanted: Wanted, live: Live) -> Comparison {
        let plan = plan::plan(&wanted.program, &live.program, &live.scopes);
        Comparison { wanted, live, plan }
    }

    fn changes(&self, family: IpFamily) -> Option<Changes> {
        let wanted: &Ruleset = self.wanted.program.xtables.get(family).as_ref()?;
        let live = self.live.program.xtables.get(family).as_ref()?;
        let made_for = |tag| {
            let port = self.wanted.made_for(family, tag)?;
            Some((port.name.to_string(), port.name.protocol))
        };
        Some(backend::changes(wanted, live, self.plan.rules.get(family).as_ref()?, &made_for))
    }

    /// Writes the difference: Services, then with `rules_from` the rules, whose live side it names.
    pub(super) fn report(
        &self,
        input: &Input,
        output: OutputArg,
        rules_from: Option<&str>,
        console: &mut Console<'_>,
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
        let changes: Vec<(IpFamily, Changes)> =
            IpFamily::ALL.into_iter().filter_map(|family| Some((family, self.changes(family)?))).collect();
        if output == OutputArg::Json {
            report::json::write_diff(console.out, &changes, self.plan.is_empty(), &placeholder)?;
            return Ok(());
        }
        for (family, changes) in &changes {
            report::diff::write_services(console.out, changes, *family, &placeholder, console.color_out)?;
        }
        for step in &self.plan.steps {
            if matches!(step, plan::Step::SetSysctl { .. } | plan::Step::AddNfacct { .. }) {
                writeln!(console.out, "~ node {step}")?;
            }
        }
        if let Some(from) = rules_from {
            for (family, changes) in &changes {
                report::diff::write_rules(console.out, changes, *family, from, console.color_out)?;
            }
        }
        console.out.flush()?;
        Ok(())
    }
}
