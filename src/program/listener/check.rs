//! Tells which listeners could not be, or would not do what they say.

use std::fmt;

use crate::net::Protocol;

use super::{ListenerKey, Listeners};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The listener.
    pub listener: ListenerKey,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listener {}: {}", self.listener, self.text)
    }
}

/// Everything that is wrong, listener by listener.
pub fn check(listeners: &Listeners) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (key, listener) in listeners {
        let mut report = |text: String| problems.push(Problem { listener: *key, text });
        match key.protocol {
            Protocol::Tcp | Protocol::Udp => {}
            Protocol::Sctp => report("a process cannot carry SCTP".to_owned()),
        }
        if key.at.port == 0 {
            report("port 0 is none".to_owned());
        }
        if key.at.addr.is_loopback() {
            report("packets of others do not reach a loopback address".to_owned());
        }
        for target in &listener.targets {
            if target.family() != key.family() {
                report(format!("target {target} is of the other family"));
            }
            if target.port == 0 || target.addr.is_unspecified() {
                report(format!("target {target} is nowhere"));
            }
        }
        if listener.affinity_seconds == Some(0) {
            report("affinity for no time".to_owned());
        }
        if listener.label.contains(['\n', '\r']) {
            report("the label has a line break".to_owned());
        }
    }
    for key in listeners.keys().filter(|key| !key.at.addr.is_unspecified()) {
        let anywhere = key.at_any_address();
        if listeners.contains_key(&anywhere) {
            problems.push(Problem { listener: *key, text: format!("`{anywhere}` has its port already") });
        }
    }
    problems
}
