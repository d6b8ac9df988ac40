//! Kernel settings of connection tracking, as kube-proxy makes them when it starts, in every mode (reference section 6.2).

use std::time::Duration;

use crate::host::Host;
use crate::model::Conntrack;

use super::super::Error;
use super::log::Log;

/// `maxPerCore`, if nothing is said: connections for each CPU.
const MAX_PER_CORE: u32 = 32_768;
/// `min`, if nothing is said: connections, however few CPUs there are.
const MIN: u32 = 131_072;
/// However many CPUs there are, they are no more than that.
const MOST: u64 = 1_048_576;
/// How many connections share a bucket of the kernel's table.
const PER_BUCKET: u64 = 4;
/// `tcpEstablishedTimeout`, if nothing is said.
pub(super) const ESTABLISHED: Duration = Duration::from_secs(24 * 60 * 60);
/// `tcpCloseWaitTimeout`, if nothing is said.
pub(super) const CLOSE_WAIT: Duration = Duration::from_secs(60 * 60);

/// How many buckets the kernel's table has.
const BUCKETS: &str = "nf_conntrack_buckets";

/// The settings below `net/netfilter/` that are wanted with so many CPUs. Zero in the configuration keeps the kernel's.
fn wanted(conntrack: &Conntrack, n_cpus: usize) -> Vec<(&'static str, u64)> {
    let mut settings = Vec::new();
    let per_core = conntrack.max_per_core.unwrap_or(MAX_PER_CORE);
    if per_core > 0 {
        let scaled = u64::from(per_core).saturating_mul(u64::try_from(n_cpus).unwrap_or(u64::MAX));
        let max = if scaled > MOST { MOST } else { scaled.max(conntrack.min.unwrap_or(MIN).into()) };
        settings.push(("nf_conntrack_max", max));
        settings.push((BUCKETS, max / PER_BUCKET));
    }
    for (name, timeout) in [
        ("nf_conntrack_tcp_timeout_established", conntrack.tcp_established_timeout.unwrap_or(ESTABLISHED)),
        ("nf_conntrack_tcp_timeout_close_wait", conntrack.tcp_close_wait_timeout.unwrap_or(CLOSE_WAIT)),
        ("nf_conntrack_udp_timeout", conntrack.udp_timeout),
        ("nf_conntrack_udp_timeout_stream", conntrack.udp_stream_timeout),
    ] {
        if !timeout.is_zero() {
            settings.push((name, timeout.as_secs()));
        }
    }
    if conntrack.tcp_be_liberal {
        settings.push(("nf_conntrack_tcp_be_liberal", 1));
    }
    settings
}

/// Makes them. A kernel that has no such setting has no such limit; one that cannot be changed, as in a namespace that is not
/// the first, is told and left.
pub(super) fn make(conntrack: &Conntrack, host: &mut dyn Host, log: &mut Log<'_, '_>) -> Result<(), Error> {
    for (name, value) in wanted(conntrack, host.n_cpus()) {
        let key = format!("net/netfilter/{name}");
        let Some(held) = host.sysctl_read(&key)? else { continue };
        let held: Option<u64> = held.trim().parse().ok();
        // The table may be larger than it need be.
        let is_fine = if name == BUCKETS { held >= Some(value) } else { held == Some(value) };
        if is_fine {
            continue;
        }
        match host.sysctl_write(&key, &value.to_string()) {
            Ok(()) => tracing::info!("{key} = {value}"),
            Err(error) => log.warn(&error.to_string())?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn max(conntrack: &Conntrack, n_cpus: usize) -> Option<u64> {
        wanted(conntrack, n_cpus)
            .into_iter()
            .find(|(name, _)| *name == "nf_conntrack_max")
            .map(|(_, max)| max)
    }

    #[test]
    fn the_limit_grows_with_the_cpus_between_its_bounds() {
        let defaults = Conntrack::default();
        assert_eq!(
            [1, 4, 5, 32, 33, 500].map(|n| max(&defaults, n)),
            [Some(131_072), Some(131_072), Some(163_840), Some(1_048_576), Some(1_048_576), Some(1_048_576),]
        );
        let none = Conntrack { max_per_core: Some(0), ..Conntrack::default() };
        assert_eq!(max(&none, 8), None);
        let few = Conntrack { max_per_core: Some(1), min: Some(0), ..Conntrack::default() };
        assert_eq!(max(&few, 8), Some(8));
    }

    #[test]
    fn zero_keeps_what_the_kernel_has() {
        let given = Conntrack {
            max_per_core: Some(0),
            tcp_established_timeout: Some(Duration::ZERO),
            udp_timeout: Duration::from_secs(10),
            tcp_be_liberal: true,
            ..Conntrack::default()
        };
        assert_eq!(
            wanted(&given, 1),
            [
                ("nf_conntrack_tcp_timeout_close_wait", 3600),
                ("nf_conntrack_udp_timeout", 10),
                ("nf_conntrack_tcp_be_liberal", 1),
            ]
        );
    }
}
