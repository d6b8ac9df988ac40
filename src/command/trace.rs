//! `svcproxy trace`: the way of a packet through the rules of a node, hook by hook, and its fate as a distribution.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::Args;

use crate::backend::{iptables, nftables, userspace};
use crate::host::Host;
use crate::net::{AddrPort, IpFamily, PerFamily};
use crate::packet::{self, NodeFacts, Packet, PacketContext};
use crate::pipeline;
use crate::program::Action;
use crate::report;
use crate::trace::{self, End, Source, Step};

use super::input::{self, Input, Notes};
use super::observed::{self, Observed};
use super::options::{FamilyArg, ModeArg, OptionalInput, OutputArg, SocketArgs, TargetArgs};
use super::{Console, Error, Outcome, watch};

/// Follow a packet through the rules of a node: every hook, every rule that matches, and what becomes of it
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct TraceArgs {
    /// The packet: `pod ADDRESS -> ADDRESS:PORT/PROTOCOL`; `outside` and `node` are the other places where one can start
    ///
    /// `pod` comes in from a pod of this node, `outside` from another machine, `node` is sent by the node itself. `via NAME`
    /// behind the source is the interface that it comes in by. `node:PORT` as destination is the node's own address. Where a
    /// source port counts, it follows the source: `pod 10.128.0.9:4000`. `bridged` or `unbridged` before the arrow says whether a
    /// pod hangs on a bridge, where that counts.
    pub packet: String,

    /// Follow it through recorded rules instead of this machine's: needs no root
    ///
    /// A folder with iptables-save.txt and ip6tables-save.txt, in userspace mode with `listeners` as `compile --output-dir`
    /// writes it or listeners.json as `inspect listeners -o json` prints it; or nft.json as `nft -j list ruleset` prints it, or both
    /// (iptables-nft-save.txt and iptables-legacy-save.txt tell the two iptables apart); or one such file.
    #[arg(long, value_name = "PATH")]
    pub from_dump: Option<String>,

    /// An address of the node, beside those that the Node has; for recorded rules
    #[arg(long, value_name = "ADDRESS")]
    pub local_address: Vec<IpAddr>,

    /// Follow it for a client that was sent to this endpoint not long ago: with session affinity it goes there again
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub sent_before: Option<SocketAddr>,

    /// Wait for a real packet of the flow, and hold its way against the foretold one
    ///
    /// Nothing is sent. A table of its own asks the kernel (nftrace) for the first packet of the next flow from this source to this
    /// destination, and goes with the command. Rules of iptables-legacy are not seen so.
    #[arg(long, conflicts_with = "from_dump", conflicts_with = "filenames")]
    pub live: bool,

    /// Where listeners are told of.
    #[command(flatten)]
    pub socket: SocketArgs,

    /// How long --live waits, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "live")]
    pub timeout: u64,

    /// How to print it
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
    pub output: OutputArg,

    /// Manifests, node and configuration: follow it through what would be compiled. With --from-dump only the node's addresses
    /// are taken from them.
    #[command(flatten)]
    pub input: OptionalInput,

    /// What the machine that loads the rules can do.
    #[command(flatten)]
    pub target: TargetArgs,
}

const EXAMPLES: &str = "\
The packet is the first one of a flow. Where chance decides, each turn is told with its share. A rule that svcproxy does not
understand, and that may decide, is named; what becomes of that share is then unknown.

Examples:
  Where does a question to DNS go on this node?
    svcproxy trace 'pod 10.128.0.9 -> 10.96.0.10:53/udp'

  And with rules that were recorded on another one? Node ports need --local-address then.
    svcproxy trace 'pod 10.128.0.9 -> 10.96.0.10:53/udp' --from-dump dump/

  And with the rules that these manifests give?
    svcproxy trace 'node -> 10.96.12.7:80/tcp' -f testdata/quickstart --node node-1 --mode nftables

  Does a real packet go so? Send one meanwhile.
    svcproxy trace 'pod 10.128.0.9 -> 10.96.0.10:53/udp' --live

Exit status:
  0  done
  1  something on the way is not understood, so the fate is not certain; with --live also: the real packet went otherwise
  2  an error";

/// Runs it.
pub fn run(args: &TraceArgs, host: &mut dyn Host, console: &mut Console<'_>) -> Result<Outcome, Error> {
    let given = &args.input.0;
    let input = if given.filenames.is_empty() {
        None
    } else {
        input::read_stdin_once(given.paths().chain(&args.from_dump))?;
        let input = input::read(given, &given.filenames, Notes::Hidden, host, console)?;
        input.say_left_out(console)?;
        Some(input)
    };
    let observed = observe(args, input.as_ref(), host)?;
    let packet = packet(args, input.as_ref(), &observed)?;
    let facts = NodeFacts { local_addresses: observed.local_addresses.clone() };
    let rules = observed.rules(packet.family());
    let mut trace = match args.sent_before.map(|before| AddrPort::new(before.ip(), before.port())) {
        Some(before) => trace::trace_remembered(&rules, &packet, &facts, before),
        None => trace::trace(&rules, &packet, &facts),
    };
    if observed.lacks_listeners() {
        let of_node = |(_, end): &(f64, End)| match end {
            End::Forwarded { endpoint, .. } if facts.is_local(endpoint.addr) => Some(*endpoint),
            End::Forwarded { .. } | End::Untouched { .. } | End::Rejected | End::Dropped | End::Unknown => {
                None
            }
        };
        let at_process = trace.ends.iter().find_map(of_node);
        let untold = at_process.map(|at| format!("where it goes from {at}: no listeners are known"));
        trace.unknown.extend(untold);
    }
    let seen = if args.live {
        let limit = Duration::from_secs(args.timeout);
        let seen = watch::watch(&trace, &observed, limit, host, console)?;
        Some(seen.ok_or_else(|| {
            Error::host(format!("no packet of this flow came within {} s", args.timeout))
                .hint("only the first packet of a new flow counts; --timeout waits longer")
        })?)
    } else {
        None
    };
    match args.output {
        OutputArg::Text => {
            report::trace::write(console.out, &trace, &service_of, console.color_out)?;
            if let Some(seen) = &seen {
                report::trace::write_observation(console.out, seen, console.color_out)?;
            }
        }
        OutputArg::Json => report::trace_json::write(console.out, &trace, seen.as_ref(), &service_of)?,
    }
    console.out.flush()?;
    let is_as_foretold = seen.is_none_or(|seen| seen.differences.is_empty());
    Ok(if trace.unknown.is_empty() && is_as_foretold { Outcome::Done } else { Outcome::Differs })
}

fn observe(args: &TraceArgs, input: Option<&Input>, host: &mut dyn Host) -> Result<Observed, Error> {
    let given = &args.input.0;
    let families = FamilyArg::families(given.family);
    let mode = given.mode.map(ModeArg::mode);
    let mut addresses: BTreeSet<IpAddr> = args.local_address.iter().copied().collect();
    match input {
        Some(input) => addresses.extend(&input.node.addresses),
        None => addresses.extend(&given.node_options.node_ip),
    }
    let mut observed = match (&args.from_dump, input) {
        (Some(path), _) => observed::recorded(host, path, &families, mode)?,
        (None, Some(input)) => {
            let lowering = input.offline_lowering(given, args.target)?;
            let context = input.node_context(None);
            let wanted = pipeline::wanted(&input.loaded.cluster, &context, &families, &lowering);
            Observed::compiled(wanted.program, BTreeSet::new())
        }
        (None, None) => Observed::live(host, &families, false, &args.socket)?,
    };
    observed.retain_mode(mode);
    observed.local_addresses.extend(addresses);
    Ok(observed)
}

/// Reads the packet. Its `node` is the Node's first address, else the first that the machine has.
fn packet(args: &TraceArgs, input: Option<&Input>, observed: &Observed) -> Result<Packet, Error> {
    let first = |family: IpFamily| {
        let in_family = |addr: &IpAddr| IpFamily::of(*addr) == family;
        let given = args.local_address.iter().chain(&args.input.0.node_options.node_ip);
        let of_node = input.into_iter().flat_map(|input| &input.node.addresses);
        // Link-local addresses are no address of the node to anybody else.
        let is_its_own = |addr: &IpAddr| match addr {
            IpAddr::V4(addr) => !addr.is_loopback() && !addr.is_link_local(),
            IpAddr::V6(addr) => !addr.is_loopback() && !addr.is_unicast_link_local(),
        };
        let of_machine = observed.local_addresses.iter().filter(|addr| is_its_own(addr));
        of_node.chain(given).chain(of_machine).copied().find(in_family)
    };
    let context =
        PacketContext { node_addresses: PerFamily::from_fn(first), pod_interface: None, uplink: None };
    packet::parse_packet(&args.packet, &context).map_err(|error| {
        let usage = Error::usage(format!("the packet `{}`: {error}", report::one_line(&args.packet)));
        if error.message.contains("the node has no") {
            usage.hint("give --local-address")
        } else {
            usage.hint("one is written as `pod 10.128.0.9 -> 10.96.0.10:53/udp`")
        }
    })
}

/// The Service port that a rule was made for.
fn service_of(source: Source, step: &Step) -> Option<String> {
    let comment = step.comment.as_deref();
    match source {
        Source::XtablesLegacy | Source::XtablesNft | Source::Xtables => {
            userspace::service_of(&step.chain, comment).or_else(|| iptables::service_of(&step.chain, comment))
        }
        Source::Ipvs => None,
        Source::Nft => {
            let called = if let Action::Jump(chain) = &step.action { Some(chain.as_str()) } else { None };
            nftables::service_of(&step.chain, called, comment)
        }
    }
}
