//! What `run` says while it runs: a line for each sync that did something and for each thing that is wrong, for people or as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::diagnostic::{Diagnostic, Severity};
use crate::model::ServiceName;
use crate::net::IpFamily;
use crate::report;
use crate::resolve::HealthCheck;
use crate::telemetry;

use super::super::{Console, Error};

/// Names of Service ports in one line of text; of more it says how many.
const MAX_NAMES: usize = 5;
/// The same in JSON.
const MAX_JSON_NAMES: usize = 100;

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormatArg {
    /// For people
    Text,
    /// One JSON object a line, on standard output
    Json,
}

/// What a sync did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Synced {
    /// The mode.
    pub(super) mode: &'static str,
    /// Service ports that differed, each with `+`, `-` or `~` before its name.
    pub(super) ports: Vec<String>,
    /// How many steps were taken.
    pub(super) n_steps: usize,
    /// How many rules, entries and servers these had.
    pub(super) n_rules: usize,
    /// How long it took, the reading of the kernel's rules included.
    pub(super) took: Duration,
    /// The Services that it was about; `None` for all.
    pub(super) services: Option<BTreeSet<ServiceName>>,
    /// What load balancers may ask of this node about them.
    pub(super) checks: Vec<HealthCheck>,
    /// Service ports without the local endpoints that their policy asks for, by policy and family.
    pub(super) no_local_endpoints: BTreeMap<(&'static str, IpFamily), usize>,
    /// Rules of iptables by table and family.
    pub(super) iptables_rules: BTreeMap<(String, IpFamily), usize>,
}

impl Synced {
    fn count(&self, mark: char) -> usize {
        self.ports.iter().filter(|port| port.starts_with(mark)).count()
    }

    /// In one line.
    fn text(&self) -> String {
        let seconds = self.took.as_secs_f64();
        let mut text = format!("synced {} in {seconds:.3} s", self.mode);
        if self.n_steps == 0 && self.ports.is_empty() {
            return text + ": nothing to do";
        }
        text += &format!(": +{} -{} ~{} Service ports", self.count('+'), self.count('-'), self.count('~'));
        let shown: Vec<&str> = self.ports.iter().take(MAX_NAMES).map(String::as_str).collect();
        if !shown.is_empty() {
            text += &format!(" ({}", shown.join(", "));
            if self.ports.len() > MAX_NAMES {
                text += &format!(" and {} more", self.ports.len() - MAX_NAMES);
            }
            text += ")";
        }
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let (steps, rules) = (self.n_steps, self.n_rules);
        text + &format!(", {steps} step{}, {rules} rule{}", plural(steps), plural(rules))
    }
}

/// Where it is said.
pub(super) struct Log<'c, 'w> {
    /// The streams.
    pub(super) console: &'c mut Console<'w>,
    /// How.
    pub(super) format: LogFormatArg,
    /// The time of day that lines in JSON bear, since 1970 began.
    pub(super) time: Duration,
}

impl Log<'_, '_> {
    fn json(&mut self, level: &str, message: &str, more: Value) -> Result<(), Error> {
        let mut line =
            json!({ "time": telemetry::time::rfc3339(self.time), "level": level, "message": message });
        if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
            line.extend(more);
        }
        writeln!(self.console.out, "{line}")?;
        self.console.out.flush()?;
        Ok(())
    }

    /// Says what is as it should be.
    pub(super) fn say(&mut self, message: &str) -> Result<(), Error> {
        match self.format {
            LogFormatArg::Text => {
                writeln!(self.console.out, "{message}")?;
                self.console.out.flush()?;
                Ok(())
            }
            LogFormatArg::Json => self.json("info", message, json!({})),
        }
    }

    /// Says what need not stop anybody.
    pub(super) fn warn(&mut self, message: &str) -> Result<(), Error> {
        match self.format {
            LogFormatArg::Text => self.console.warn(message),
            LogFormatArg::Json => self.json("warning", message, json!({})),
        }
    }

    /// Says what went wrong, and what follows from it.
    pub(super) fn error(&mut self, error: &Error, consequence: &str) -> Result<(), Error> {
        match self.format {
            LogFormatArg::Text => {
                writeln!(self.console.err, "{}", error.text(self.console.color_err))?;
                self.console.warn(consequence)
            }
            LogFormatArg::Json => {
                let more =
                    json!({ "details": error.details, "hints": error.hints, "consequence": consequence });
                self.json("error", &error.message, more)
            }
        }
    }

    /// Says what is wrong with an object of the API server. Notes are of interest with `-v` alone.
    pub(super) fn diagnostic(&mut self, said: &Diagnostic) -> Result<(), Error> {
        if said.severity == Severity::Note && !tracing::enabled!(tracing::Level::INFO) {
            return Ok(());
        }
        match self.format {
            LogFormatArg::Text => {
                let one = std::slice::from_ref(said);
                report::diagnostic::write(self.console.err, one, &[], self.console.color_err)?;
                Ok(())
            }
            LogFormatArg::Json => {
                let level = match said.severity {
                    Severity::Note => "info",
                    Severity::Warning => "warning",
                    Severity::Error => "error",
                };
                let more = json!({ "object": said.object, "code": said.code, "hint": said.hint });
                self.json(level, &said.message, more)
            }
        }
    }

    /// Says what a sync did. One that had nothing to do is of interest with `-v` alone.
    pub(super) fn synced(&mut self, synced: &Synced) -> Result<(), Error> {
        if synced.n_steps == 0 && synced.ports.is_empty() {
            tracing::info!("{}", synced.text());
            return Ok(());
        }
        match self.format {
            LogFormatArg::Text => self.say(&synced.text()),
            LogFormatArg::Json => {
                let names: Vec<&String> = synced.ports.iter().take(MAX_JSON_NAMES).collect();
                let more = json!({
                    "mode": synced.mode, "added": synced.count('+'), "removed": synced.count('-'),
                    "changed": synced.count('~'), "ports": names, "steps": synced.n_steps,
                    "rules": synced.n_rules, "seconds": synced.took.as_secs_f64(),
                });
                self.json("info", "synced", more)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_is_one_line() {
        let ports = ["+ a/a", "+ a/b", "~ a/c", "- a/d", "~ a/e", "~ a/f", "~ a/g"];
        let mut synced = Synced {
            mode: "nftables",
            ports: ports.map(str::to_owned).to_vec(),
            n_steps: 2,
            n_rules: 17,
            took: Duration::from_millis(43),
            ..Synced::default()
        };
        assert_eq!(
            synced.text(),
            "synced nftables in 0.043 s: +2 -1 ~4 Service ports (+ a/a, + a/b, ~ a/c, - a/d, ~ a/e and 2 more), 2 steps, 17 rules"
        );
        synced.ports.clear();
        assert_eq!(synced.text(), "synced nftables in 0.043 s: +0 -0 ~0 Service ports, 2 steps, 17 rules");
        synced.n_steps = 0;
        assert_eq!(synced.text(), "synced nftables in 0.043 s: nothing to do");
    }
}
