//! The iptables tools: which are installed, `iptables-save`, `iptables-restore`, single rules through crate `iptables`.
#![allow(clippy::disallowed_methods, reason = "host is the folder with IO")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use iptables::IPTables;
use iptables::error::IptablesError;

use super::error::{HostError, HostErrorKind, RestoreError};
use super::xtables_words::{self, Said};
use super::{RestoreMode, XtablesTools, XtablesVariant, nf_tables, tool};
use crate::net::IpFamily;
use crate::program::nft::Family;
use crate::program::xtables::TableName;

/// How long one of the tools may take: a large ruleset takes minutes with iptables-nft.
const LIMIT: Duration = Duration::from_secs(300);
/// How long `iptables -V` may take.
const VERSION_LIMIT: Duration = Duration::from_secs(10);
/// How many seconds a tool waits for the lock that all iptables-legacy programs share.
const WAIT: &str = "5";
/// The first `iptables-restore` that knows `--wait`.
const RESTORE_WAIT_SINCE: Version = (1, 6, 2);

/// As 1.8.9.
type Version = (u32, u32, u32);

/// The tools of this machine, looked for once.
#[derive(Debug, Default)]
pub(super) struct Xtables {
    installed: Option<Vec<Installed>>,
    /// Paths that live as long as the program, as crate `iptables` wants them.
    commands: BTreeMap<PathBuf, &'static str>,
}

#[derive(Debug, Clone)]
struct Installed {
    tools: XtablesTools,
    /// What stands between `iptables` and `-save`: `-legacy`, `-nft` or nothing.
    infix: &'static str,
}

impl Xtables {
    pub(super) fn variants(&mut self) -> Result<Vec<XtablesTools>, HostError> {
        Ok(self.installed()?.iter().map(|installed| installed.tools.clone()).collect())
    }

    pub(super) fn save(
        &mut self,
        variant: XtablesVariant,
        family: IpFamily,
        counters: bool,
    ) -> Result<String, HostError> {
        need_family(family, "read")?;
        if variant == XtablesVariant::Legacy && legacy_has_no_tables(family)? {
            return Ok(String::new());
        }
        let (program, _) = self.program(variant, family, "-save")?;
        if variant == XtablesVariant::Nft && nft_has_no_tables(family) {
            return Ok(String::new());
        }
        let args: &[&str] = if counters { &["--counters"] } else { &[] };
        let done = tool::run(&program, args, b"", LIMIT)?;
        if !done.status.success() {
            return Err(refused(&program, xtables_words::read(&done.stderr), done.status));
        }
        note(&program, &done.stderr);
        String::from_utf8(done.stdout).map_err(|error| {
            HostError::new(
                format!("read what {} printed", quoted(&program)),
                HostErrorKind::Other,
                error.to_string(),
            )
        })
    }

    pub(super) fn restore(
        &mut self,
        variant: XtablesVariant,
        family: IpFamily,
        document: &[u8],
        mode: RestoreMode,
    ) -> Result<(), RestoreError> {
        let nowhere = |error| RestoreError { line: None, error };
        need_family(family, "change").map_err(nowhere)?;
        let (program, version) = self.program(variant, family, "-restore").map_err(nowhere)?;
        let mut args = vec!["--noflush", "--counters"];
        if version >= RESTORE_WAIT_SINCE {
            args.extend(["--wait", WAIT]);
        }
        if mode == RestoreMode::Test {
            args.push("--test");
        }
        let done = tool::run(&program, &args, document, LIMIT).map_err(nowhere)?;
        if done.status.success() {
            note(&program, &done.stderr);
            return Ok(());
        }
        let said = xtables_words::read(&done.stderr);
        // iptables-nft-restore looks for the target at COMMIT and names that line: the jump itself tells more.
        let jump = said.missing_chain.as_deref().and_then(|chain| line_of_jump(document, chain));
        Err(RestoreError { line: jump.or(said.line), error: refused(&program, said, done.status) })
    }

    pub(super) fn delete(
        &mut self,
        variant: XtablesVariant,
        family: IpFamily,
        (table, chain): (&str, &str),
        args: &[String],
    ) -> Result<(), HostError> {
        need_family(family, "change")?;
        let (program, _) = self.program(variant, family, "")?;
        let Some(rule) = rule_text(args) else {
            return delete_by_argv(&program, table, chain, args);
        };
        // Not the crate's own `--wait`: that one waits without end. It may stand behind the rule.
        let rule = format!("{rule} --wait {WAIT}");
        let cmd = self.command(&program);
        let tables = IPTables { cmd, has_check: true, has_wait: false, is_numeric: false };
        tables.delete(table, chain, &rule).map_err(|error| {
            crate_error(
                &format!("delete `{}` in chain `{chain}` of table `{table}`", args.join(" ")),
                &*error,
            )
        })
    }

    /// Whether a chain has a rule.
    pub(super) fn has(
        &mut self,
        variant: XtablesVariant,
        family: IpFamily,
        (table, chain): (&str, &str),
        args: &[String],
    ) -> Result<bool, HostError> {
        need_family(family, "read")?;
        let (program, _) = self.program(variant, family, "")?;
        let mut argv = vec!["--wait", WAIT, "-t", table, "-C", chain];
        argv.extend(args.iter().map(String::as_str));
        let done = tool::run(&program, &argv, b"", LIMIT)?;
        match done.status.code() {
            Some(0) => Ok(true),
            // No such rule, no such chain.
            Some(1) => Ok(false),
            _ => Err(refused(&program, xtables_words::read(&done.stderr), done.status)),
        }
    }

    fn command(&mut self, program: &Path) -> &'static str {
        self.commands
            .entry(program.to_owned())
            .or_insert_with(|| Box::leak(program.to_string_lossy().into_owned().into_boxed_str()))
    }

    fn program(
        &mut self,
        variant: XtablesVariant,
        family: IpFamily,
        suffix: &str,
    ) -> Result<(PathBuf, Version), HostError> {
        let prefix = match family {
            IpFamily::V4 => "iptables",
            IpFamily::V6 => "ip6tables",
        };
        let found = self.installed()?.iter().find(|installed| installed.tools.variant == variant);
        let Some(Installed { tools, infix }) = found else {
            return Err(tool::missing(&format!("{prefix}-{variant}{suffix}")));
        };
        let name = format!("{prefix}{infix}{suffix}");
        Ok((tool::find(&name).ok_or_else(|| tool::missing(&name))?, tools.version))
    }

    fn installed(&mut self) -> Result<&[Installed], HostError> {
        if self.installed.is_none() {
            self.installed = Some(look()?);
        }
        Ok(self.installed.as_deref().unwrap_or_default())
    }
}

/// The tables of which `iptables-nft-save` could not print all, since somebody filled them with what iptables has no words
/// for. It then says so in a comment, and succeeds.
pub fn unreadable_tables(dump: &str) -> impl Iterator<Item = &str> {
    dump.lines().filter_map(|line| {
        let (table, complaint) = line.strip_prefix("# Table `")?.split_once('\'')?;
        complaint.contains("incompatible").then_some(table)
    })
}

fn look() -> Result<Vec<Installed>, HostError> {
    let plain = version_of("iptables")?;
    // Mostly one of them is the other one, too: it need not say its version twice.
    let plain_file = file_of("iptables");
    let mut all = Vec::new();
    for variant in XtablesVariant::ALL {
        let is_default = plain.is_some_and(|(of, _)| of == variant);
        let infix = match variant {
            XtablesVariant::Legacy => "-legacy",
            XtablesVariant::Nft => "-nft",
        };
        let name = format!("iptables{infix}");
        let is_plain = is_default && plain_file.is_some() && file_of(&name) == plain_file;
        let own = if is_plain { plain } else { version_of(&name)? };
        let (infix, version) = match (own, plain) {
            (Some((_, version)), _) => (infix, version),
            (None, Some((_, version))) if is_default => ("", version),
            (None, _) => continue,
        };
        all.push(Installed { tools: XtablesTools { variant, version, is_default }, infix });
    }
    Ok(all)
}

/// The file that a program is after all links. Tools that are one file are of one version.
fn file_of(program: &str) -> Option<PathBuf> {
    fs::canonicalize(tool::find(program)?).ok()
}

fn version_of(program: &str) -> Result<Option<(XtablesVariant, Version)>, HostError> {
    let Some(path) = tool::find(program) else { return Ok(None) };
    let done = tool::run(&path, &["-V"], b"", VERSION_LIMIT)?;
    Ok(read_version(&String::from_utf8_lossy(&done.stdout)))
}

/// Reads `iptables v1.8.9 (nf_tables)`. Before 1.8 there was only what is now called legacy, and no word for it.
fn read_version(text: &str) -> Option<(XtablesVariant, Version)> {
    let version = tool::version(text)?;
    let variant = if text.contains("(nf_tables)") { XtablesVariant::Nft } else { XtablesVariant::Legacy };
    Some((variant, version))
}

/// Looks in the calling thread's namespace: `/proc/net` would be that of the process.
fn legacy_has_no_tables(family: IpFamily) -> Result<bool, HostError> {
    let path = match family {
        IpFamily::V4 => "/proc/thread-self/net/ip_tables_names",
        IpFamily::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    match fs::read_to_string(path) {
        Ok(names) => Ok(names.trim().is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(HostError::io(format!("read `{path}`"), &error)),
    }
}

/// Whether it is certain that iptables-nft has nothing to print. If the kernel does not tell, the tool says why.
fn nft_has_no_tables(family: IpFamily) -> bool {
    let word = Family::from(family).as_str();
    let is_shown = |(of, name): &(String, String)| of == word && TableName::from_name(name).is_some();
    nf_tables::tables().is_ok_and(|tables| !tables.iter().any(is_shown))
}

fn need_family(family: IpFamily, verb: &str) -> Result<(), HostError> {
    if family == IpFamily::V4 || fs::exists("/proc/thread-self/net/if_inet6").unwrap_or(false) {
        return Ok(());
    }
    Err(HostError::new(
        format!("{verb} ip6tables rules"),
        HostErrorKind::Unsupported,
        "IPv6 is off in this kernel (no /proc/net/if_inet6)",
    ))
}

fn refused(program: &Path, said: Said, status: std::process::ExitStatus) -> HostError {
    let words = if said.words.is_empty() { status.to_string() } else { said.words };
    HostError::new(format!("run {}", quoted(program)), said.kind, words)
}

fn note(program: &Path, stderr: &str) {
    if !stderr.trim().is_empty() {
        tracing::debug!(tool = %quoted(program), said = stderr.trim(), "done, with words");
    }
}

fn quoted(program: &Path) -> String {
    format!("`{}`", program.file_name().unwrap_or(program.as_os_str()).to_string_lossy())
}

fn crate_error(action: &str, error: &(dyn Error + 'static)) -> HostError {
    if let Some(refused) = error.downcast_ref::<IptablesError>() {
        let said = xtables_words::read(&refused.msg);
        let words = if said.words.is_empty() { format!("exit status {}", refused.code) } else { said.words };
        return HostError::new(action, said.kind, words);
    }
    match error.downcast_ref::<io::Error>() {
        Some(error) => HostError::io(action, error),
        None => HostError::new(action, HostErrorKind::Other, error.to_string()),
    }
}

/// The arguments as one text that crate `iptables` splits into the same arguments again; `None` if there is none. It splits
/// at blanks, keeps together what stands between two quotes of any sort, and knows no escapes.
fn rule_text(args: &[String]) -> Option<String> {
    let mut text = String::new();
    for arg in args {
        if arg.is_empty() || arg.contains(['"', '\'', '\n', '\r']) {
            return None;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        if arg.contains(' ') {
            text.extend(["\"", arg, "\""]);
        } else {
            text.push_str(arg);
        }
    }
    Some(text)
}

/// For arguments that crate `iptables` cannot carry.
fn delete_by_argv(program: &Path, table: &str, chain: &str, args: &[String]) -> Result<(), HostError> {
    let mut argv = vec!["--wait", WAIT, "-t", table, "-D", chain];
    argv.extend(args.iter().map(String::as_str));
    let done = tool::run(program, &argv, b"", LIMIT)?;
    if done.status.success() {
        return Ok(());
    }
    Err(refused(program, xtables_words::read(&done.stderr), done.status))
}

/// The first line of a document that jumps to a chain.
fn line_of_jump(document: &[u8], chain: &str) -> Option<usize> {
    let jumps = |line: &[u8]| {
        let mut words = line.split(|byte| *byte == b' ').rev();
        let target = words.find(|word| !word.is_empty());
        target == Some(chain.as_bytes())
            && matches!(words.next(), Some(b"-j" | b"-g" | b"--jump" | b"--goto"))
    };
    document.split(|byte| *byte == b'\n').position(jumps).map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        use XtablesVariant::{Legacy, Nft};
        for (text, expected) in [
            ("iptables v1.8.9 (nf_tables)\n", Some((Nft, (1, 8, 9)))),
            ("iptables v1.8.9 (legacy)\n", Some((Legacy, (1, 8, 9)))),
            ("iptables v1.8.10 (nf_tables)", Some((Nft, (1, 8, 10)))),
            ("iptables v1.6.1\n", Some((Legacy, (1, 6, 1)))),
            ("iptables v1.9\n", Some((Legacy, (1, 9, 0)))),
            ("iptables: not found", None),
            ("", None),
        ] {
            assert_eq!(read_version(text), expected, "{text}");
        }
    }

    #[test]
    fn quotes_what_the_crate_can_carry() {
        let text = |args: &[&str]| rule_text(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            text(&["-m", "comment", "--comment", "kubernetes service portals", "-j", "KUBE-SERVICES"])
                .as_deref(),
            Some("-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES")
        );
        assert_eq!(text(&["--comment", "it's"]), None);
        assert_eq!(text(&["--comment", ""]), None);
        assert_eq!(text(&[]).as_deref(), Some(""));
    }

    #[test]
    fn names_tables_that_are_not_iptables_own() {
        let dump = "# Generated by iptables-nft-save\n*filter\nCOMMIT\n# Table `nat' is incompatible, use 'nft' tool.\n";
        assert_eq!(unreadable_tables(dump).collect::<Vec<_>>(), ["nat"]);
        let dump = "# Table `raw' contains incompatible base-chains, use 'nft' tool to list them.\n";
        assert_eq!(unreadable_tables(dump).collect::<Vec<_>>(), ["raw"]);
    }

    #[test]
    fn finds_the_jump_to_a_chain() {
        let document =
            b"*nat\n:A - [0:0]\n-A A -m comment --comment \"-j NOPE\" -j RETURN\n-A A -j NOPE\nCOMMIT\n";
        assert_eq!(line_of_jump(document, "NOPE"), Some(4));
        assert_eq!(line_of_jump(document, "B"), None);
    }
}
