//! The program itself: streams, colours, pipes, rights, limits.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_svcproxy");
const COMPILE: [&str; 5] = ["compile", "-f", "testdata/quickstart", "--node", "node-1"];

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

/// A shell line, `$0` being the program.
fn shell(line: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", line, PROGRAM]).current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("NO_COLOR");
    command
}

/// Status, standard output and standard error.
fn ran(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs as nobody; only root can.
fn as_nobody(args: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", PROGRAM]).args(args);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("svcproxy-process-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_broken_pipe_is_success() {
    let (status, out, err) = ran(&mut shell(&format!("set -o pipefail; $0 {} | head -1", COMPILE.join(" "))));
    assert_eq!((status, err.as_str()), (0, ""));
    assert_eq!(out.lines().count(), 1);
    // A reader that is gone before the first byte.
    for args in [&COMPILE[..], &["--help"], &["help", "diff"], &["completions", "bash"], &["--version"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (status, _, err) = ran(program(args).stdout(writer));
        assert_eq!((status, err.as_str()), (0, ""), "{args:?}");
    }
    // Nobody listens to what is wrong: the status tells it.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let (status, ..) =
        ran(program(&["compile", "-f", "testdata/errors/bad-port", "--node", "x"]).stderr(writer));
    assert_eq!(status, 2);
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (status, _, err) = ran(program(&COMPILE).stdout(full));
    assert_eq!(
        (status, err.as_str()),
        (2, "error: cannot write the output: No space left on device (os error 28)\n")
    );
}

#[test]
fn colours_only_where_they_are_wanted() {
    let folder = Folder::new("colours");
    let bad = ["compile", "-f", "testdata/errors/bad-port", "--node", "node-1"];
    let diff =
        ["diff", "-f", "testdata/cases/udp/cluster.yaml", "--base", "testdata/cases/sctp/cluster.yaml"];
    let diff = [&diff[..], &["--node", "node-1", "--rules"]].concat();
    let is_coloured = |text: &str| text.contains('\x1b');
    assert!(!is_coloured(&ran(&mut program(&bad)).2));
    assert!(!is_coloured(&ran(&mut program(&diff)).1));
    assert!(is_coloured(&ran(program(&bad).arg("--color=always")).2));
    assert!(is_coloured(&ran(program(&diff).arg("--color=always")).1));
    assert!(is_coloured(&ran(program(&bad).arg("--color=always").env("NO_COLOR", "1")).2), "said is said");

    // On a terminal.
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped: no `script` to make a terminal with");
        return;
    }
    let on_terminal = |options: &str, no_color: &str| {
        let typescript = folder.0.join("typescript").display().to_string();
        let line = format!("{PROGRAM} {} {options}", bad.join(" "));
        let mut script = Command::new("script");
        script.args(["-qec", &line, &typescript]).current_dir(env!("CARGO_MANIFEST_DIR"));
        let (_, out, _) = ran(script.env("NO_COLOR", no_color).env("TERM", "xterm").stdin(Stdio::null()));
        assert!(out.contains("is not between 1 and 65535") || out.contains("1e+20"), "{out}");
        is_coloured(&out)
    };
    assert!(on_terminal("", ""), "an empty NO_COLOR is none");
    assert!(!on_terminal("", "1"));
    assert!(!on_terminal("--color=never", ""));
}

#[test]
fn reads_standard_input_and_pipes() {
    let file = "testdata/quickstart/shop.yaml";
    let (status, out, err) = ran(&mut shell(&format!("$0 compile -f - --node node-1 < {file}")));
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(out.contains("# From <stdin>: ") && out.contains("shop/web:http"));
    let (status, out, err) = ran(&mut shell(&format!("$0 compile -f <(cat {file}) --node node-1")));
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(out.contains("# From /dev/fd/") && out.contains("shop/web:http"));
    // Rules on standard input, as a shell on a node would send them.
    let rules = "$0 compile -f testdata/quickstart --node node-1 --family ipv4 --no-nfacct";
    let diff = "$0 diff -f testdata/quickstart --node node-1 --family ipv4 --against -";
    assert_eq!(ran(&mut shell(&format!("{rules} | {diff}"))), (0, String::new(), String::new()));
}

#[test]
fn files_that_cannot_be_read() {
    let read = |path: &str| ran(&mut program(&["compile", "-f", path, "--node", "node-1"]));
    let (status, out, err) = read("nothere.yaml");
    assert_eq!((status, out.as_str()), (2, ""));
    assert_eq!(err, "error: cannot read `nothere.yaml`: No such file or directory\n");
    assert!(read("/dev/zero").2.contains("it is a character device, not a file, folder or pipe"));
    let folder = Folder::new("unreadable");
    let empty = folder.0.join("empty");
    std::fs::create_dir(&empty).unwrap();
    let (status, _, err) = read(&empty.display().to_string());
    assert!(status == 2 && err.contains("there is no .yaml, .yml or .json file in it"), "{err}");
    if is_root() {
        let secret = folder.write("secret.yaml", "kind: Service\n");
        ran(Command::new("chmod").args(["600", &secret]));
        let (status, _, err) = ran(&mut as_nobody(&["compile", "-f", &secret, "--node", "node-1"]));
        assert_eq!(status, 2);
        assert!(err.starts_with(&format!("error: cannot read `{secret}`: Permission denied")), "{err}");
    }
}

#[test]
fn help_teaches_and_wrong_options_end_with_2() {
    for args in
        [&["--help"][..], &["help", "compile"], &["compile", "--help"], &["diff", "-h"], &["--version"]]
    {
        let (status, out, err) = ran(&mut program(args));
        assert_eq!((status, err.as_str()), (0, ""), "{args:?}");
        assert!(out.contains("svcproxy"), "{args:?}: {out}");
    }
    assert!(ran(&mut program(&["help", "compile"])).1.contains("Examples:"));
    assert_eq!(ran(&mut program(&["--version"])).1, concat!("svcproxy ", env!("CARGO_PKG_VERSION"), "\n"));
    let wrong = [
        &["compile"][..],
        &["compile", "-f", "x", "--nod", "y"],
        &["frobnicate"],
        &[],
        &["diff", "-o", "xml"],
    ];
    for args in wrong {
        let (status, out, err) = ran(&mut program(args));
        assert_eq!((status, out.as_str()), (2, ""), "{args:?}");
        assert!(err.contains("Usage: svcproxy") || err.contains("--help"), "{args:?}: {err}");
    }
}

#[test]
fn says_more_with_v() {
    let (status, _, err) = ran(program(&COMPILE).arg("-v"));
    assert_eq!(status, 0);
    assert!(err.contains("INFO") && err.contains("the node is node-1"), "{err}");
}

#[test]
fn a_machine_without_rights_or_tools() {
    if !is_root() {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    for args in [&["diff", "-f", "testdata/quickstart", "--node", "node-1"][..], &["cleanup"]] {
        let (status, out, err) = ran(&mut as_nobody(args));
        assert_eq!((status, out.as_str()), (2, ""));
        assert!(err.lines().count() == 2 && err.contains("\nhint: it needs root"), "{err}");
    }
    let (status, out, _) = ran(&mut as_nobody(&COMPILE));
    assert!(status == 0 && out.contains("shop/web:http"), "compile needs no rights");

    // Folders of tools, empty.
    let hide = "for dir in /usr/sbin /sbin /usr/bin/iptables /usr/local/sbin; do \
                [ -d $dir ] && mount -t tmpfs none $dir; done; exec $0 diff -f testdata/quickstart --node node-1";
    let mut unshare = Command::new("unshare");
    unshare.args(["-m", "sh", "-c", hide, PROGRAM]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let (status, _, err) = ran(&mut unshare);
    if err.contains("unshare") || err.contains("mount:") {
        eprintln!("skipped: {err}");
        return;
    }
    assert_eq!(
        (status, err.as_str()),
        (2, "error: no iptables on this machine\nhint: Debian: apt-get install iptables\n")
    );
}

/// The limits are for a release build; a debug build gets five times the time.
#[test]
fn alias_bombs_are_refused_in_a_second_and_200_megabytes() {
    let merges = |keys: u32, lines: u32| {
        format!(
            "echo '--- # next'; echo 'a: &a {{'; seq -f ' k%.0f: v,' {keys}; echo ' }}'; \
             seq -f 'b%.0f: {{<<: *a, x: 1}}' {lines};"
        )
    };
    let texts = [
        "cat testdata/errors/alias-bomb/cluster.yaml;".to_owned(),
        merges(20_000, 2_000),
        format!("for i in $(seq 100); do {} done;", merges(500, 400)),
    ];
    for text in texts {
        // Kilobytes of writable memory: more is refused to the process, which then could not end with 2.
        let line = format!("{{ {text} }} | {{ ulimit -d 204800; exec $0 compile -f - --node node-1; }}");
        let began = Instant::now();
        let (status, _, err) = ran(&mut shell(&line));
        let took = began.elapsed();
        assert_eq!(status, 2, "{err}");
        assert!(err.contains("this alias makes the text too large"), "{err}");
        assert!(took < Duration::from_secs(if cfg!(debug_assertions) { 5 } else { 1 }), "{took:?}");
    }
}

#[test]
fn a_slow_writer_is_waited_for() {
    let mut child = program(&["compile", "-f", "-", "--node", "node-1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"apiVersion: v1\nkind: Service\nmetadata: {name: slow}\n").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    stdin.write_all(b"spec: {clusterIP: 10.96.1.1, ports: [{port: 80}]}\n").unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("default/slow"));
}
