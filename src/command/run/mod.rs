//! `svcproxy run`: keeps this node as it is wanted while the cluster changes, and in userspace mode carries its connections.
//!
//! It goes round: `source` learns what has changed, `schedule` says when it is time, `reconcile` makes the node so, `log` and
//! `vitals` tell of it. `settings` is what the kernel is told once, at the start.

mod drift;
mod follow;
mod log;
mod reconcile;
mod schedule;
mod settings;
mod source;
mod trouble;
mod vitals;

use std::time::Duration;

use clap::Args;

use crate::host::forward::ForwardOptions;
use crate::host::{Event, Host, execute};
use crate::model::{Config, Mode};
use crate::plan::Step;

use super::comparison::Comparison;
use super::options::{LockArgs, OptionalInput, VariantArg};
use super::{Console, Error, Outcome, steps};
use log::{Log, LogFormatArg};
use reconcile::Reconciler;
use schedule::{PeriodArgs, Schedule};
use source::{ClusterArgs, Source};
use vitals::{ServeArgs, Vitals};

/// Keep this node as it is wanted while the cluster changes
///
/// Services, EndpointSlices and the Node come from an API server, or from files and folders (-f); both are watched. What is
/// broken in them is left out, and what was there goes on when the server is gone. In userspace mode the node's rules lead to
/// local ports, and this process takes the connections there and makes one of its own to an endpoint for each: past those that
/// refuse or do not answer.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct RunArgs {
    /// Make the kernel settings, then end: for an init container that may do more than the one that stays
    #[arg(long, conflicts_with = "cleanup")]
    pub init_only: bool,

    /// Remove all Service rules from this node, as `svcproxy cleanup` does, then end
    #[arg(long)]
    pub cleanup: bool,

    /// Manifests, node and configuration.
    #[command(flatten)]
    pub input: OptionalInput,

    /// Which API server is watched.
    #[command(flatten)]
    pub cluster: ClusterArgs,

    /// How often the node is looked at.
    #[command(flatten)]
    pub periods: PeriodArgs,

    /// Which iptables to use
    #[arg(long, value_name = "WHICH", default_value = "auto")]
    pub iptables: VariantArg,

    /// How others at work are treated.
    #[command(flatten)]
    pub lock: LockArgs,

    /// Where it is asked how it is.
    #[command(flatten)]
    pub serve: ServeArgs,

    /// How is told what is done
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormatArg,

    /// How connections are carried.
    #[command(flatten)]
    pub forward: ForwardArgs,

    /// Where `svcproxy inspect` asks [default: /run/svcproxy/, by network namespace]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<String>,
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
  svcproxy run --config /var/lib/svcproxy/config.conf --node node-1
  svcproxy run --mode nftables --kubeconfig ~/.kube/config
  svcproxy run --mode userspace -f /etc/svcproxy/ --node node-1
  svcproxy run --mode userspace -f cluster.yaml --proxy-port-range 40000-40999 --drain 60

Signals:
  SIGTERM, SIGINT  take no new connections, let those go on that are open, end; once more: end now
  SIGHUP           read the manifests and the configuration again

The rules stay when the process ends; `svcproxy cleanup` removes them. Those of userspace mode lead nowhere until it runs again,
on the same ports.

Exit status:
  0  told to end
  2  an error at the start";

/// Runs it.
pub fn run(args: &RunArgs, host: &mut dyn Host, console: &mut Console<'_>) -> Result<Outcome, Error> {
    let mut log = Log { console, format: args.log_format, time: host.unix_time() };
    if args.init_only {
        return initialise(args, host, &mut log);
    }
    let mut source = Source::start(args, host, &mut log)?;
    settings::make(&source.input.config.conntrack, host, &mut log)?;
    let carries = source.input.config.mode == Mode::Userspace;
    if carries {
        host.forward_start(&forward_options(&args.forward, &source.input.config), args.socket.as_deref())?;
    }
    keep(args, &mut source, host, &mut log)?;
    host.notify("STOPPING=1")?;
    if carries {
        let n_cut = host.forward_drain(Duration::from_secs(args.forward.drain))?;
        let cut = if n_cut == 0 { String::new() } else { format!("; {n_cut} connections were cut") };
        log.say(&format!("ended{cut}"))?;
    } else {
        log.say("ended; the rules stay")?;
    }
    Ok(Outcome::Done)
}

/// Makes the kernel settings, and no rules.
fn initialise(args: &RunArgs, host: &mut dyn Host, log: &mut Log<'_, '_>) -> Result<Outcome, Error> {
    let input = source::read_once(args, host, log)?;
    let compared = Comparison::by_turns(&args.input.0, &input, args.iptables, host)?;
    let is_setting = |step: &&Step| matches!(step, Step::SetSysctl { .. });
    let variant = steps::variant_of(&compared);
    for step in compared.plan.steps.iter().filter(is_setting) {
        execute::execute(host, variant, step).map_err(|refused| Error::from(refused.error))?;
    }
    // A look at IPVS loads its module, and with it connection tracking.
    settings::make(&input.config.conntrack, host, log)?;
    log.say("the kernel settings are made")?;
    Ok(Outcome::Done)
}

/// Goes round until it is told to end.
fn keep(
    args: &RunArgs,
    source: &mut Source<'_>,
    host: &mut dyn Host,
    log: &mut Log<'_, '_>,
) -> Result<(), Error> {
    let mut vitals = Vitals::start(&args.serve, source, host, log)?;
    let mut reconciler = Reconciler::new(args);
    let mut schedule = Schedule::new(source.input.config.sync_periods);
    // What the next sync is for; after one that failed, that is for the one after it, too.
    let mut touched = source.take_touched();
    let mut is_ready = false;
    loop {
        log.time = host.unix_time();
        let due = source.ready_at().map(|ready| ready.max(schedule.due()));
        let now = host.now();
        if due.is_some_and(|due| due <= now) {
            schedule.begins();
            let synced = reconciler.sync(&mut source.input, &touched, host, log);
            log.time = host.unix_time();
            schedule.ends(now, host.now(), synced.is_ok());
            source.refuse(reconciler.set_aside(), host)?;
            match synced {
                Ok(synced) => {
                    log.synced(&synced)?;
                    vitals.synced(
                        synced,
                        &std::mem::take(&mut touched),
                        source.n_left_out(),
                        host.unix_time(),
                    );
                    if !std::mem::replace(&mut is_ready, true) {
                        say_ready(&reconciler, &source.input.config, log)?;
                        host.notify("READY=1")?;
                    }
                }
                // Whoever starts it with files of his own wants to know at once.
                Err(error) if !is_ready && source.is_files() => return Err(error),
                Err(error) => {
                    vitals.failed(host.now().saturating_sub(now), host.unix_time());
                    log.error(&error, UNCHANGED)?;
                }
            }
            vitals.serve(host, log)?;
            continue;
        }
        if schedule.look_due().is_some_and(|at| at <= now) {
            let stands = reconciler.stands(host);
            schedule.looked(now, host.now());
            if !stands {
                log.warn("somebody else has taken rules away: everything is compared")?;
                touched.everything = true;
                schedule.request();
            }
            continue;
        }
        let next = [due, schedule.look_due()].into_iter().flatten().min();
        let wait = next.map_or(source.input.config.sync_periods.sync, |next| next.saturating_sub(now));
        let event = host.next_event(wait)?;
        log.time = host.unix_time();
        if event == Event::Stop {
            return Ok(());
        }
        match source.take(event, host, log) {
            Ok(true) => {
                let news = source.take_touched();
                vitals.changed(&news, source, host.unix_time());
                touched.append(news);
                schedule.set_periods(source.input.config.sync_periods);
                schedule.request();
            }
            Ok(false) => {}
            Err(error) => log.error(&error, UNCHANGED)?,
        }
    }
}

/// What is wrong now did not stop what was right before.
const UNCHANGED: &str = "what was there before goes on";

fn say_ready(reconciler: &Reconciler<'_>, config: &Config, log: &mut Log<'_, '_>) -> Result<(), Error> {
    match config.mode {
        Mode::Userspace => {
            let n_listeners = reconciler.listeners.len();
            log.say(&format!("listening on {n_listeners} proxy ports; SIGTERM ends it"))
        }
        mode @ (Mode::Iptables | Mode::Ipvs | Mode::Nftables) => {
            log.say(&format!("the node is in step, in {} mode; SIGTERM ends it", mode.name()))
        }
    }
}

fn forward_options(args: &ForwardArgs, config: &Config) -> ForwardOptions {
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    // Zero keeps the kernel's setting, which is not ours.
    let told = |timeout: Option<Duration>| timeout.filter(|timeout| !timeout.is_zero());
    let established = told(config.conntrack.tcp_established_timeout).unwrap_or(settings::ESTABLISHED);
    let close_wait = told(config.conntrack.tcp_close_wait_timeout).unwrap_or(settings::CLOSE_WAIT);
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
