//! What becomes of the first packet of a flow.

use std::fmt;

use crate::net::AddrPort;

/// One way a forwarded packet can go.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The endpoint it is sent to.
    pub endpoint: AddrPort,
    /// How likely, 0 to 1; the choices of a fate add up to 1.
    pub probability: f64,
    /// Whether the source address is rewritten to the node's.
    pub source_nat: bool,
}

/// The fate of a packet.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// Sent to an endpoint: the choices sorted by endpoint.
    Forwarded(Vec<Choice>),
    /// Refused with an ICMP error.
    Rejected,
    /// Silently discarded.
    Dropped,
    /// No Service has anything to do with it.
    Untouched,
    /// Not to be told: a rule that is not modelled stands in the way. The text names it.
    Unknown(String),
}

impl Fate {
    /// How far two probabilities may be apart and still be the same: the kernel stores 31-bit fractions and a pool of
    /// thousands multiplies their rounding.
    const TOLERANCE: f64 = 1e-5;

    /// Whether two fates mean the same to the sender.
    pub fn is_same(&self, other: &Fate) -> bool {
        match (self, other) {
            (Fate::Forwarded(left), Fate::Forwarded(right)) => {
                left.len() == right.len()
                    && left.iter().zip(right).all(|(left, right)| {
                        left.endpoint == right.endpoint
                            && left.source_nat == right.source_nat
                            && (left.probability - right.probability).abs() < Fate::TOLERANCE
                    })
            }
            (Fate::Unknown(_), _) | (_, Fate::Unknown(_)) => false,
            (left, right) => left == right,
        }
    }
}

impl fmt::Display for Fate {
    /// As in a flows file: `10.0.0.1:80|10.0.0.2:80 masq`, `reject`, `drop`, `none`. A choice that differs from the
    /// others in source NAT carries its own `+masq`; probabilities, as `@0.25`, are told unless all are equal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fate::Forwarded(choices) => {
                let all = choices.iter().all(|choice| choice.source_nat);
                let share = 1.0 / choices.len() as f64;
                let equal = choices.iter().all(|choice| (choice.probability - share).abs() < Fate::TOLERANCE);
                for (index, choice) in choices.iter().enumerate() {
                    if index > 0 {
                        f.write_str("|")?;
                    }
                    write!(f, "{}", choice.endpoint)?;
                    if choice.source_nat && !all {
                        f.write_str("+masq")?;
                    }
                    if !equal {
                        write!(f, "@{}", (choice.probability * 1e6).round() / 1e6)?;
                    }
                }
                if all && !choices.is_empty() {
                    f.write_str(" masq")?;
                }
                Ok(())
            }
            Fate::Rejected => f.write_str("reject"),
            Fate::Dropped => f.write_str("drop"),
            Fate::Untouched => f.write_str("none"),
            Fate::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}
