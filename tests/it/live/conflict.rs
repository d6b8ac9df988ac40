//! What stands in the way: another svcproxy, rules of ours in both iptables, a refused rule, too few rights.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use svcproxy::host::{Host, LinuxHost, XtablesVariant};
use svcproxy::net::IpFamily;

use super::{Folder, PROGRAM, Said, dumps, has_tools, lines, must, put_foreign, said, svcproxy, testdata};
use crate::rig::Namespace;

/// A namespace, the cluster of the live tests, and a folder for programs that stand in for real ones.
struct Scene {
    namespace: Namespace,
    folder: Folder,
    manifests: String,
    config: String,
}

impl Scene {
    /// `None` if one of the variants does not work here.
    fn new(variants: &[XtablesVariant]) -> Option<Scene> {
        if !variants.iter().all(|variant| has_tools(*variant)) {
            return None;
        }
        let namespace = Namespace::new("conflict")?;
        let folder = Folder::new();
        fs::create_dir(folder.0.join("bin")).unwrap();
        let manifests = folder.write("cluster.yaml", &testdata("cluster.yaml"));
        let config = folder.write("config.yaml", &testdata("config.yaml"));
        Some(Scene { namespace, folder, manifests, config })
    }

    fn args<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        [words, &["-f", &self.manifests, "--config", &self.config]].concat()
    }

    fn must(&self, words: &[&str]) -> String {
        must(&self.namespace, &self.args(words))
    }

    fn svcproxy(&self, words: &[&str]) -> Said {
        svcproxy(&self.namespace, &self.args(words))
    }

    /// Puts a shell script in the place of a tool for [`Scene::with_scripts`]; `REAL` in it is the tool.
    fn script(&self, tool: &str, text: &str) {
        let real = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"]
            .map(|folder| format!("{folder}/{tool}"))
            .into_iter()
            .find(|path| Path::new(path).exists())
            .unwrap_or_else(|| panic!("where is {tool}?"));
        let path = self
            .folder
            .write(&format!("bin/{tool}"), &format!("#!/bin/sh\n{}\n", text.replace("REAL", &real)));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// `PATH` with the scripts before all others.
    fn path(&self) -> String {
        let others = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
        format!("PATH={}:{others}", self.folder.0.join("bin").display())
    }

    fn with_scripts(&self, words: &[&str]) -> Said {
        let path = self.path();
        let argv = [vec!["env", &path, PROGRAM], self.args(words)].concat();
        said(self.namespace.run_with(&argv, b""))
    }
}

/// Waits until something is so, not for ever.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn who_comes_second_waits_and_is_told_for_whom() {
    let Some(scene) = Scene::new(&[XtablesVariant::Legacy]) else { return };
    let [began, go, out, err] = ["began", "go", "out", "err"].map(|name| scene.folder.0.join(name));
    let wait = "for i in $(seq 200); do [ -e go ] && break; sleep 0.1; done";
    let folder = scene.folder.0.display();
    scene.script("iptables-legacy-restore", &format!("cd '{folder}'; touch began; {wait}; exec REAL \"$@\""));
    let start = |variables: &[&str], out: Stdio, err: Stdio| {
        let argv = [variables, &[PROGRAM], &scene.args(&["apply", "--iptables=legacy"])[..]].concat();
        scene.namespace.inside(|| Command::new("env").args(&argv).stdout(out).stderr(err).spawn().unwrap())
    };
    let mut first = start(&[&scene.path()], Stdio::null(), Stdio::null());
    until("the first apply begins", || began.exists());
    let impatient = scene.svcproxy(&["apply", "--iptables=legacy", "--lock-timeout=0"]);
    let file = |path| Stdio::from(fs::File::create(path).unwrap());
    let mut second = start(&[], file(&out), file(&err));
    let said = || fs::read_to_string(&err).unwrap();
    until("the second apply waits", || said().ends_with('\n'));
    assert!(second.try_wait().unwrap().is_none());
    fs::write(go, "").unwrap();
    assert!(first.wait().unwrap().success());
    assert!(second.wait().unwrap().success());

    let holder = format!("process {} (`svcproxy apply", first.id());
    assert_eq!(impatient.status, Some(2), "{}", impatient.stderr);
    assert!(impatient.stderr.contains(&format!("held by {holder}")), "{}", impatient.stderr);
    assert!(said().starts_with(&format!("waiting for another svcproxy: {holder}")), "{}", said());
    let printed = fs::read_to_string(out).unwrap();
    assert!(printed.starts_with("nothing to do"), "{printed}");
}

#[test]
fn nobody_waits_longer_than_the_limit() {
    let Some(scene) = Scene::new(&[XtablesVariant::Legacy]) else { return };
    let guard = scene.namespace.inside(|| LinuxHost::new().lock(Duration::ZERO, &mut |_| {})).unwrap();
    let before = lines(&dumps(&scene.namespace, XtablesVariant::Legacy));
    let holder = format!("held by process {} (`", std::process::id());
    let tried = [scene.args(&["apply"]), vec!["cleanup"]].map(|args| {
        let began = Instant::now();
        let said = svcproxy(&scene.namespace, &[args, vec!["--lock-timeout=1"]].concat());
        assert!(began.elapsed() >= Duration::from_secs(1));
        said
    });
    // Looking is free.
    assert_eq!(scene.svcproxy(&["diff"]).status, Some(1));
    assert_eq!(scene.svcproxy(&["apply", "--dry-run", "--lock-timeout=0"]).status, Some(0));
    drop(guard);
    for said in tried {
        assert_eq!(said.status, Some(2), "{}", said.stderr);
        assert!(said.stderr.contains(&holder) && said.stderr.contains("waited 1 s"), "{}", said.stderr);
    }
    assert_eq!(lines(&dumps(&scene.namespace, XtablesVariant::Legacy)), before);
}

#[test]
fn rules_of_ours_in_both_are_told_and_cleaned() {
    let Some(scene) = Scene::new(&XtablesVariant::ALL) else { return };
    for variant in XtablesVariant::ALL {
        put_foreign(&scene.namespace, variant);
    }
    let dumps = || XtablesVariant::ALL.map(|variant| lines(&dumps(&scene.namespace, variant)));
    let before = dumps();
    scene.must(&["apply", "--iptables=nft"]);
    // Whatever plain `iptables` is: the one with rules of ours is meant.
    assert!(scene.must(&["apply"]).starts_with("nothing to do with iptables-nft "));
    assert_eq!(scene.must(&["diff"]), "");
    let legacy = scene.svcproxy(&["apply", "--iptables=legacy"]);
    assert_eq!(legacy.status, Some(0));
    let warning = |other: &str, this: &str| {
        format!(
            "warning: iptables-{other} holds Service rules too, and the kernel obeys both; this is about iptables-{this}; \
             `svcproxy cleanup --iptables {other}` removes the others\n"
        )
    };
    assert_eq!(legacy.stderr, warning("nft", "legacy"));
    for (words, other, this) in [
        (["diff", "--iptables=nft"], "legacy", "nft"),
        (["diff", "--iptables=legacy"], "nft", "legacy"),
        (["apply", "--iptables=nft"], "legacy", "nft"),
    ] {
        let said = scene.svcproxy(&words);
        assert_eq!((said.status, said.stderr), (Some(0), warning(other, this)), "{words:?}");
    }
    for words in [["diff", "--iptables=auto"], ["apply", "--iptables=auto"]] {
        let said = scene.svcproxy(&words);
        let (one, other) = (warning("legacy", "nft"), warning("nft", "legacy"));
        assert!(said.stderr == one || said.stderr == other, "{words:?}: {}", said.stderr);
    }
    let cleaned = must(&scene.namespace, &["cleanup"]);
    assert!(cleaned.contains(" with iptables-legacy, iptables-nft and nft in "), "{cleaned}");
    assert_eq!(dumps(), before);
}

/// The tools refuse a rule that a script has spoilt on its way to them.
fn refused(variant: XtablesVariant) {
    let Some(scene) = Scene::new(&[variant]) else { return };
    put_foreign(&scene.namespace, variant);
    let which = format!("--iptables={variant}");
    let tool = format!("iptables-{variant}-restore");
    scene.script(&tool, "sed '/shop\\/open:dns.*-j DNAT/s/ -j DNAT/ -j DNOT/' | REAL \"$@\"");
    let before = lines(&dumps(&scene.namespace, variant));

    let text = testdata("cluster.yaml");
    // The Service's document begins on a line of its own.
    let named = text.find("name: open}").unwrap();
    let begins = text[..named].rfind("apiVersion").unwrap();
    let line = 1 + text[..begins].matches('\n').count();
    let place = format!("rule for: shop/open:dns ({}:{line}:1)\n", scene.manifests);
    let expect = |said: &Said, what: &str| {
        assert_eq!(said.status, Some(2), "{what}: {}", said.stderr);
        let tool = format!("error: cannot run `{tool}`: ");
        for part in [&tool, ": -A KUBE-SEP-", " -j DNAT --to-destination 10.128.", &place] {
            assert!(said.stderr.contains(part), "{what}: no `{part}` in\n{}", said.stderr);
        }
    };
    let rehearsed = scene.with_scripts(&["apply", "--dry-run", &which]);
    expect(&rehearsed, "a rehearsal");
    assert_eq!(lines(&dumps(&scene.namespace, variant)), before);
    let tried = scene.with_scripts(&["apply", &which]);
    expect(&tried, "an apply");
    assert!(tried.stderr.contains(" steps were taken before it"), "{}", tried.stderr);

    // Tables before the one that was refused are in; no jump leads to them, and the next apply goes on from there.
    let half = dumps(&scene.namespace, variant);
    for family in IpFamily::ALL {
        let has_jump = |line: &str| line.starts_with("-A ") && line.contains("-j KUBE-SERVICES");
        assert!(!half.get(family).lines().any(has_jump), "{}", half.get(family));
    }
    assert!(scene.must(&["apply", &which]).contains("taken"));
    assert_eq!(scene.must(&["diff", &which]), "");

    // A refused change leaves the old rules in place.
    let old = lines(&dumps(&scene.namespace, variant));
    let fewer: String =
        text.lines().filter(|line| !line.contains("10.128.1.1")).flat_map(|line| [line, "\n"]).collect();
    scene.folder.write("cluster.yaml", &fewer);
    scene.script(&tool, "sed 's/^COMMIT$/-A KUBE-NOWHERE -j RETURN\\nCOMMIT/' | REAL \"$@\"");
    let refused = scene.with_scripts(&["apply", &which]);
    assert_eq!(refused.status, Some(2), "{}", refused.stderr);
    assert_eq!(lines(&dumps(&scene.namespace, variant)), old);
    assert!(scene.must(&["apply", &which]).contains("taken"));
    assert!(must(&scene.namespace, &["cleanup", &which]).contains("taken"));
    assert_eq!(lines(&dumps(&scene.namespace, variant)), before);
}

#[test]
fn a_refused_rule_is_told_with_its_service_by_iptables_legacy() {
    refused(XtablesVariant::Legacy);
}

#[test]
fn a_refused_rule_is_told_with_its_service_by_iptables_nft() {
    refused(XtablesVariant::Nft);
}

/// A chain of ours that others jump to stays, empty, and so does their rule.
#[test]
fn chains_that_others_need_stay() {
    for variant in XtablesVariant::ALL {
        let Some(scene) = Scene::new(&[variant]) else { continue };
        let which = format!("--iptables={variant}");
        scene.must(&["apply", &which]);
        let tool = format!("iptables-{variant}");
        let rule = ["-t", "nat", "-A", "POSTROUTING", "-s", "198.18.0.0/15", "-j", "KUBE-MARK-MASQ"];
        scene.namespace.run(&[&[tool.as_str()], &rule[..]].concat());
        let said = svcproxy(&scene.namespace, &["cleanup", &which]);
        assert_eq!(said.status, Some(0), "{}", said.stderr);
        assert!(said.stderr.starts_with("warning: nat KUBE-MARK-MASQ is kept"), "{}", said.stderr);
        let left: Vec<String> = lines(&dumps(&scene.namespace, variant))
            .into_iter()
            .filter(|line| line.contains("KUBE-") || line.contains(" -A "))
            .collect();
        let expected = [
            "IPv4 nat :KUBE-MARK-MASQ - [0:0]",
            "IPv4 nat -A POSTROUTING -s 198.18.0.0/15 -j KUBE-MARK-MASQ",
        ];
        assert_eq!(left, expected);
    }
}

#[test]
fn without_rights_nothing_is_done() {
    let variant = XtablesVariant::Legacy;
    let Some(scene) = Scene::new(&[variant]) else { return };
    let without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", PROGRAM];
    for args in [scene.args(&["diff"]), scene.args(&["apply"]), vec!["cleanup"]] {
        let said = said(scene.namespace.run_with(&[&without[..], &args].concat(), b""));
        assert_eq!((said.status, said.stdout.as_str()), (Some(2), ""), "{args:?}");
        for part in ["error: cannot ", "Operation not permitted", "hint: it needs root (CAP_NET_ADMIN)"] {
            assert!(said.stderr.contains(part), "{args:?}: {}", said.stderr);
        }
    }
    assert_eq!(lines(&dumps(&scene.namespace, variant)), Vec::<String>::new());
}
