//! What the walks of a packet through rules of any language share: what may be known of an interface, an answer that may not
//! be known, and the fate that the parts of a packet come to.

use std::collections::BTreeMap;

use crate::net::AddrPort;
use crate::packet::{Choice, Fate};

/// An interface, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub(super) enum Interface<'a> {
    /// At this hook there is none.
    None,
    /// This one.
    Named(&'a str),
    /// Some one, only not the loopback device.
    NotLoopback,
}

/// An answer that may not be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// It cannot be told.
    Unknown,
}

impl From<bool> for Answer {
    fn from(known: bool) -> Answer {
        if known { Answer::Yes } else { Answer::No }
    }
}

/// Shares of a packet below this are rounding.
const NEGLIGIBLE: f64 = 1e-9;

/// The fate of a packet whose parts were rejected, dropped and delivered. Each delivered part comes with its share, and, if
/// its destination was translated, with that and whether its source becomes the node's.
pub(super) fn fate(
    rejected: f64,
    dropped: f64,
    delivered: impl Iterator<Item = (f64, Option<(AddrPort, bool)>)>,
) -> Fate {
    let mut choices: BTreeMap<(AddrPort, bool), f64> = BTreeMap::new();
    let mut untouched = 0.0;
    for (weight, translated) in delivered {
        match translated {
            Some(choice) => *choices.entry(choice).or_default() += weight,
            None => untouched += weight,
        }
    }
    let shares = [
        ("forwarded", choices.values().sum()),
        ("rejected", rejected),
        ("dropped", dropped),
        ("untouched", untouched),
    ];
    let shares: Vec<&(&str, f64)> = shares.iter().filter(|(_, share)| *share > NEGLIGIBLE).collect();
    if shares.len() > 1 {
        let shares: Vec<String> = shares.iter().map(|(what, share)| format!("{what} {share:.4}")).collect();
        return Fate::Unknown(format!("mixed: {}", shares.join(", ")));
    }
    if rejected > NEGLIGIBLE {
        Fate::Rejected
    } else if dropped > NEGLIGIBLE {
        Fate::Dropped
    } else if choices.is_empty() {
        Fate::Untouched
    } else {
        let choice = |((endpoint, source_nat), probability)| Choice { endpoint, probability, source_nat };
        Fate::Forwarded(choices.into_iter().map(choice).collect())
    }
}
