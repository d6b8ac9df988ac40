//! Tests in a kernel of its own, which has what that of the machine may lack: IPVS and dummy devices. It is started once for
//! all of them (`tests/uml-run`); outside of it they return at once.

mod inside;

use std::process::{Command, Stdio};

use crate::rig::skip;

const RUNNER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/uml-run");
/// The tests that run inside, by the beginning of their names.
const TESTS: &str = "uml::inside::";
/// Set in the kernel's first process.
const MARK: &str = "SVCPROXY_IN_UML";
/// What the runner ends with when the kernel did not come up.
const NO_KERNEL: i32 = 125;
/// How long all may take, in seconds.
const LIMIT: &str = "900";

/// Whether this process runs in a kernel that is thrown away.
fn is_inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Names of the tests that run inside.
fn names() -> Vec<String> {
    let listed = Command::new(std::env::current_exe().unwrap()).args(["--list", TESTS]).output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

#[test]
fn in_a_kernel_of_its_own() {
    let tried =
        Command::new("linux.uml").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        return skip("needs User-Mode Linux (Debian packages user-mode-linux and kmod)");
    }
    let names = names();
    assert!(!names.is_empty() && names.iter().all(|name| name.starts_with(TESTS)), "{names:?}");
    // In there nothing may be skipped. One at a time: it has one processor.
    let done = Command::new(RUNNER)
        .args(["-t", LIMIT, "--", "env", &format!("{MARK}=1"), "CI=true"])
        .arg(std::env::current_exe().unwrap())
        .args([TESTS, "--test-threads=1", "--show-output"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    let stderr = String::from_utf8_lossy(&done.stderr);
    if done.status.code() == Some(NO_KERNEL) && said.is_empty() {
        return skip(&format!("User-Mode Linux does not start here: {stderr}"));
    }
    assert!(done.status.success(), "{}\n{said}{stderr}", done.status);
    for name in names {
        assert!(said.contains(&format!("test {name} ... ok\n")), "{name} did not run:\n{said}");
    }
    eprintln!("{said}");
}
