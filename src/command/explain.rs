//! `svcproxy explain`: why endpoints of a Service get traffic on a node or not, and what each of its addresses means to whom.

use clap::{Args, ValueEnum};

use crate::host::Host;
use crate::model::{Cluster, Node, ServiceName};
use crate::net::IpFamily;
use crate::packet::NodeFacts;
use crate::report;
use crate::resolve::{self, Account, NodeContext};

use super::input::{self, Notes};
use super::options::{InputArgs, OutputArg};
use super::{Console, Error, Outcome};

/// Tell why each endpoint of a Service is used or not, and what becomes of whom at each of its addresses
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ExplainArgs {
    /// What to explain
    pub what: ExplainWhat,

    /// The Service: NAMESPACE/NAME, or a name in --namespace
    pub service: String,

    /// On every Node of the input, a column each, instead of one
    #[arg(long, conflicts_with = "node")]
    pub all_nodes: bool,

    /// How to print it
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
    pub output: OutputArg,

    /// Manifests, node and configuration.
    #[command(flatten)]
    pub input: InputArgs,
}

/// What can be explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExplainWhat {
    /// The endpoints of a Service
    Endpoints,
}

const EXAMPLES: &str = "\
Decided as for `compile`: by traffic policies, conditions (ready, serving, terminating) and the hints of endpoints. A client
`pod` is one that the node can tell (see --detect-local-mode); clients that are endpoints themselves are no part of the table:
one that reaches itself has its source rewritten.

Examples:
  Why does nobody reach this pod?
    svcproxy explain endpoints shop/web -f testdata/quickstart --node node-2

  Who is served where?
    svcproxy explain endpoints shop/web -f testdata/quickstart --all-nodes

Exit status:
  0  done
  2  an error, or some of the input was broken and left out (see --keep-going)";

/// Runs it.
pub fn run(args: &ExplainArgs, host: &mut dyn Host, console: &mut Console<'_>) -> Result<Outcome, Error> {
    let given = &args.input;
    input::read_stdin_once(given.paths())?;
    let texts = input::gather(given, &given.filenames, host)?;
    let mut understood = input::understand(given, texts);
    if args.all_nodes {
        // Which of them this host is does not matter.
        understood.forget("unknown-node");
    }
    let input = input::say(given, understood, Notes::Hidden, console)?;
    input.say_left_out(console)?;
    let name = service_name(&args.service, &given.namespace);
    let cluster = &input.loaded.cluster;
    let Some(service) = cluster.services.get(&name) else { return Err(no_such_service(&name, cluster)) };
    let nodes: Vec<&Node> = if args.all_nodes { cluster.nodes.values().collect() } else { vec![&input.node] };
    if nodes.is_empty() {
        return Err(Error::input("the input has no Node").hint("give --node instead of --all-nodes"));
    }
    let mut accounts: Vec<Vec<Account>> = Vec::new();
    for family in IpFamily::ALL.into_iter().filter(|family| input.families.contains(family)) {
        let of_node = |node: &&Node| {
            let context = NodeContext::new(&input.config, node, &node.addresses);
            let facts = NodeFacts { local_addresses: node.addresses.iter().copied().collect() };
            resolve::account(cluster, &context, &facts, family, service)
        };
        let of_family: Vec<Account> = nodes.iter().map(of_node).collect();
        if !of_family.iter().all(Account::is_empty) {
            accounts.push(of_family);
        }
    }
    match args.output {
        OutputArg::Text => {
            for of_family in &accounts {
                report::explain::write(console.out, &name, of_family, host.terminal_width())?;
            }
        }
        OutputArg::Json => report::explain_json::write(console.out, &name, &accounts.concat())?,
    }
    console.out.flush()?;
    Ok(if input.has_errors() { Outcome::BadInput } else { Outcome::Done })
}

/// `namespace/name`, or a name; a port behind it is not asked.
fn service_name(text: &str, namespace: &str) -> ServiceName {
    let (namespace, name) = text.split_once('/').unwrap_or((namespace, text));
    ServiceName::new(namespace, name.split(':').next().unwrap_or(name))
}

fn no_such_service(name: &ServiceName, cluster: &Cluster) -> Error {
    let error = Error::input(format!("no Service `{}` that gets rules", report::one_line(&name.to_string())))
        .detail("headless and ExternalName Services have none");
    let alike: Vec<String> = cluster
        .services
        .keys()
        .filter(|one| one.name == name.name || one.namespace == name.namespace)
        .take(8)
        .map(ServiceName::to_string)
        .collect();
    if alike.is_empty() { error } else { error.hint(format!("the input has {}", alike.join(", "))) }
}
