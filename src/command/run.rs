//! `svcproxy run`: keeps this node as it is wanted while manifests change, and carries its connections.
//!
//! Three parts: `Source` reads the manifests, `reconcile` compares them with the node, `act` makes the node so. Every
//! change, and every sync period without one, goes through all three.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;

use crate::host::forward::{ForwardError, ForwardOptions};
use crate::host::{Event, Host};
use crate::model::{Config, Mode};
use crate::pipeline;
use crate::program::conntrack::Answerers;
use crate::program::listener::{ListenerKey, Listeners};

use super::comparison::Comparison;
use super::input::{self, Input, Notes, Texts};
use super::options::{InputArgs, LockArgs, OutputArg, VariantArg};
use super::{Console, Error, Outcome, apply, flows, lock, steps};

/// Keep this node as it is wanted while manifests change, and carry its connections
///
/// In userspace mode the node's rules lead to local ports, and this process takes the connections there and makes one of its
/// own to an endpoint for each: past those that refuse or do not answer. Files and folders are watched; what is broken in
/// them leaves everything as it was.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct RunArgs {
    /// Manifests, node and configuration.
    #[command(flatten)]
    pub input: InputArgs,

    /// Which iptables to use
    #[arg(long, value_name = "WHICH", default_value = "auto")]
    pub iptables: VariantArg,

    /// How connections are carried.
    #[command(flatten)]
    pub forward: ForwardArgs,

    /// Where `svcproxy inspect` asks [default: /run/svcproxy/, by network namespace]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<String>,

    /// How others at work are treated.
    #[command(flatten)]
    pub lock: LockArgs,
}

/// How connections are carried.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connections")]
pub struct ForwardArgs {
    /// On SIGTERM: how long connections may go on that are open
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub drain: u64,

    /// How many connections and UDP flows there may be at once; more are refused [default: as many as file descriptors
    /// allow]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: Option<u32>,

    /// After how long without a byte a TCP connection is cut [default: conntrack.tcpEstablishedTimeout of --config, else a
    /// day]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub tcp_idle_timeout: Option<u32>,

    /// After how long without a datagram a UDP flow is forgotten [default: udpIdleTimeout of --config, else 250]
    #[arg(long, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub udp_timeout: Option<u32>,
}

const EXAMPLES: &str = "\
Examples:
  svcproxy run --mode userspace -f /etc/svcproxy/ --node node-1
  svcproxy run --mode userspace -f cluster.yaml --proxy-port-range 40000-40999 --drain 60

Signals:
  SIGTERM, SIGINT  take no new connections, let those go on that are open, end; once more: end now
  SIGHUP           read the manifests again

The rules stay when the process ends, and lead nowhere until it runs again, on the same ports; `svcproxy cleanup` removes
them.

Exit status:
  0  told to end
  2  an error at the start";

/// The longest time a client may be idle that kube-proxy lets connection tracking remember (tcpEstablishedTimeout).
const TCP_IDLE: Duration = Duration::from_secs(24 * 60 * 60);
/// The same when one side has ended (tcpCloseWaitTimeout).
const TCP_HALF_CLOSED_IDLE: Duration = Duration::from_secs(60 * 60);
/// How often other ports are tried when somebody else has those that were chosen.
const MAX_PORT_ROUNDS: usize = 8;

/// Where manifests come from: files and folders that are watched.
struct Source<'a> {
    args: &'a InputArgs,
    /// What was read last.
    last: Option<Texts>,
}

impl<'a> Source<'a> {
    fn new(args: &'a InputArgs) -> Source<'a> {
        Source { args, last: None }
    }

    fn watch(&self, host: &mut dyn Host) -> Result<(), Error> {
        let paths: Vec<String> = self.args.paths().cloned().collect();
        if paths.iter().any(|path| path == "-") {
            return Err(Error::usage("standard input (`-`) cannot be watched").hint("put it into a file"));
        }
        Ok(host.watch(&paths)?)
    }

    /// What the manifests say; `None` if it is what they said the last time.
    fn read(&mut self, host: &mut dyn Host, console: &mut Console<'_>) -> Result<Option<Input>, Error> {
        let texts = input::gather(self.args, &self.args.filenames, host)?;
        if self.last.as_ref() == Some(&texts) {
            return Ok(None);
        }
        self.last = Some(texts.clone());
        let understood = input::understand(self.args, texts);
        let input = input::say(self.args, understood, Notes::Hidden, console)?;
        apply::refuse_unfit(&input)?;
        input.say_left_out(console)?;
        Ok(Some(input))
    }
}

/// What lasts from one reconciliation to the next.
#[derive(Default)]
struct Kept {
    /// Ports that somebody else has.
    taken: BTreeSet<ListenerKey>,
    /// The listeners that are open.
    listeners: Listeners,
    /// Who may answer UDP flows, as the rules that are in say.
    answerers: Answerers,
}

/// Runs it.
pub fn run(args: &RunArgs, host: &mut dyn Host, console: &mut Console<'_>) -> Result<Outcome, Error> {
    let mut source = Source::new(&args.input);
    source.watch(host)?;
    let first = source.read(host, console)?;
    let mut input = first.ok_or_else(|| Error::internal("nothing was read"))?;
    if input.config.mode != Mode::Userspace {
        let message =
            format!("`run` carries connections in userspace mode alone, not in {}", input.config.mode.name());
        return Err(Error::usage(message).hint("give --mode userspace, or use `svcproxy apply`"));
    }
    host.forward_start(&forward_options(&args.forward, &input.config), args.socket.as_deref())?;
    let mut kept = Kept::default();
    reconcile(args, &input, &mut kept, host, console)?;
    let n_listeners = kept.listeners.len();
    writeln!(console.out, "listening on {n_listeners} proxy ports; SIGTERM ends it")?;
    console.out.flush()?;
    loop {
        match host.next_event(input.config.sync_periods.sync)? {
            Event::Stop => break,
            Event::TimeUp => {}
            Event::Changed => match source.read(host, console) {
                Ok(Some(changed)) if changed.config.mode != Mode::Userspace => {
                    console.warn("the mode has changed: everything stays as it was until the next start")?;
                }
                Ok(Some(changed)) => input = changed,
                Ok(None) => continue,
                Err(error) => {
                    say_unchanged(&error, console)?;
                    continue;
                }
            },
        }
        if let Err(error) = reconcile(args, &input, &mut kept, host, console) {
            say_unchanged(&error, console)?;
        }
    }
    let n_cut = host.forward_drain(Duration::from_secs(args.forward.drain))?;
    let cut = if n_cut == 0 { String::new() } else { format!("; {n_cut} connections were cut") };
    writeln!(console.out, "ended{cut}")?;
    console.out.flush()?;
    Ok(Outcome::Done)
}

/// What is wrong now did not stop what was right before.
fn say_unchanged(error: &Error, console: &mut Console<'_>) -> Result<(), Error> {
    writeln!(console.err, "{}", error.text(console.color_err))?;
    console.warn("what was there before goes on")
}

fn forward_options(args: &ForwardArgs, config: &Config) -> ForwardOptions {
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    // Zero keeps the kernel's setting, which is not ours.
    let told = |timeout: Option<Duration>| timeout.filter(|timeout| !timeout.is_zero());
    let established = told(config.conntrack.tcp_established_timeout).unwrap_or(TCP_IDLE);
    let close_wait = told(config.conntrack.tcp_close_wait_timeout).unwrap_or(TCP_HALF_CLOSED_IDLE);
    let tcp_idle = args.tcp_idle_timeout.map_or(established, seconds);
    ForwardOptions {
        max_connections: args.max_connections.and_then(|max| usize::try_from(max).ok()),
        tcp_idle,
        tcp_half_closed_idle: close_wait.min(tcp_idle),
        udp_idle: args
            .udp_timeout
            .map_or(config.userspace.udp_idle_timeout, |timeout| Duration::from_millis(timeout.into())),
    }
}

/// Compares what is wanted with what there is, and makes it so: listeners that rules will lead to come first, those that no
/// rule leads to any more go last.
fn reconcile(
    args: &RunArgs,
    input: &Input,
    kept: &mut Kept,
    host: &mut dyn Host,
    console: &mut Console<'_>,
) -> Result<(), Error> {
    let _lock = lock::take(args.lock, host, console)?;
    let compared = Comparison::of_input(&args.input, input, args.iptables, host, console)?;
    let compared = open_listeners(compared.avoiding(&kept.taken), input, kept, host, console)?;
    pipeline::check(&compared.wanted.program).map_err(Error::internal)?;
    act(&compared, input, host, console)?;
    let answerers = compared.wanted.answerers;
    if answerers != kept.answerers {
        flows::forget_stale(&answerers, &kept.answerers, host, console)?;
        kept.answerers = answerers;
    }
    kept.listeners = compared.wanted.program.listeners.clone().unwrap_or_default();
    set_listeners(&kept.listeners, host)?.map_err(|in_use| no_ports(&in_use))
}

/// Opens what is wanted beside what there is. Where somebody else has a port, another one is wanted instead.
fn open_listeners(
    mut compared: Comparison,
    input: &Input,
    kept: &mut Kept,
    host: &mut dyn Host,
    console: &mut Console<'_>,
) -> Result<Comparison, Error> {
    let mut in_use = Vec::new();
    for _ in 0..MAX_PORT_ROUNDS {
        input.refuse_small_port_range(&compared.wanted)?;
        let mut both = kept.listeners.clone();
        both.extend(compared.wanted.program.listeners.clone().unwrap_or_default());
        in_use = match set_listeners(&both, host)? {
            Ok(()) => return Ok(compared),
            Err(in_use) => in_use,
        };
        for key in &in_use {
            console.warn(&format!("{key} is in use by another program: another proxy port is taken"))?;
            kept.taken.insert(*key);
            kept.listeners.remove(key);
        }
        compared = compared.avoiding(&kept.taken);
    }
    Err(no_ports(&in_use))
}

fn no_ports(in_use: &[ListenerKey]) -> Error {
    let listed: Vec<String> = in_use.iter().take(4).map(ListenerKey::to_string).collect();
    Error::host(format!("proxy ports are in use by other programs: {}", listed.join(", ")))
        .hint("give another --proxy-port-range")
}

fn set_listeners(listeners: &Listeners, host: &mut dyn Host) -> Result<Result<(), Vec<ListenerKey>>, Error> {
    match host.forward_set(listeners) {
        Ok(()) => Ok(Ok(())),
        Err(ForwardError::PortsInUse(in_use)) => Ok(Err(in_use)),
        Err(ForwardError::Host(error)) => Err(error.into()),
    }
}

/// Makes the node's rules as they are wanted, and says what changes.
fn act(
    compared: &Comparison,
    input: &Input,
    host: &mut dyn Host,
    console: &mut Console<'_>,
) -> Result<(), Error> {
    for warning in &compared.live.warnings {
        console.warn(warning)?;
    }
    let steps = &compared.plan.steps;
    if steps.is_empty() {
        return Ok(());
    }
    compared.report(input, OutputArg::Text, None, console)?;
    steps::take(compared, input, host, console)?;
    writeln!(console.out, "{}", steps::summary(steps, "taken"))?;
    console.out.flush()?;
    Ok(())
}
