//! What is in `deploy/`: that its parts fit together, and that the program takes what they give it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::Parser;
use serde_json::Value;
use svcproxy::cli::{Cli, Command};
use svcproxy::diagnostic::{Source, SourceId};
use svcproxy::host::cluster::ClusterResource;
use svcproxy::manifest;

fn text(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)).unwrap()
}

fn objects() -> Vec<Value> {
    serde_saphyr::from_multiple(&text("svcproxy.yaml")).unwrap()
}

fn object(kind: &str) -> Value {
    let mut found = objects().into_iter().filter(|object| object["kind"] == kind);
    let object = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "one {kind}");
    object
}

fn names(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

/// The arguments of `run`, which must be ones that the program has.
fn run_args(args: &[&str]) -> svcproxy::command::run::RunArgs {
    let cli = Cli::try_parse_from(std::iter::once("svcproxy").chain(args.iter().copied()));
    let command = cli.unwrap_or_else(|error| panic!("{error}")).command;
    let Command::Run(run) = command else { panic!("{command:?}") };
    *run
}

#[test]
fn the_account_may_do_what_is_done_and_no_more() {
    let role = object("ClusterRole");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut allowed = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for (resource, verb) in
            rule["resources"].as_array().unwrap().iter().flat_map(|resource| {
                rule["verbs"].as_array().unwrap().iter().map(move |verb| (resource, verb))
            })
        {
            allowed.insert((text(resource), text(verb)));
        }
    }
    let watched =
        ClusterResource::ALL.iter().flat_map(|of| ["list", "watch"].map(|verb| (of.to_string(), verb)));
    let written = ["create", "patch"].map(|verb| ("events".to_owned(), verb));
    let done: BTreeSet<(String, String)> =
        watched.chain(written).map(|(resource, verb)| (resource, verb.to_owned())).collect();
    assert_eq!(allowed, done);
    let (binding, account) = (object("ClusterRoleBinding"), object("ServiceAccount"));
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    assert_eq!(binding["subjects"][0]["name"], account["metadata"]["name"]);
    assert_eq!(binding["subjects"][0]["namespace"], account["metadata"]["namespace"]);
    assert_eq!(
        object("DaemonSet")["spec"]["template"]["spec"]["serviceAccountName"],
        account["metadata"]["name"]
    );
}

#[test]
fn the_pods_run_what_there_is() {
    let set = object("DaemonSet");
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(set["spec"]["selector"]["matchLabels"], set["spec"]["template"]["metadata"]["labels"]);
    let container = &pod["containers"][0];
    // What may change settings makes them, from the same configuration, and ends; what stays may do no more than it must.
    let first = &pod["initContainers"][0];
    let mut args_of_both = container["args"].as_array().unwrap().clone();
    args_of_both.push("--init-only".into());
    assert_eq!(first["args"], Value::from(args_of_both));
    assert_eq!(first["image"], container["image"]);
    assert_eq!(first["securityContext"]["privileged"], true);
    let rights = &container["securityContext"];
    let capabilities = serde_json::json!({"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]});
    assert_eq!((&rights["capabilities"], &rights["privileged"]), (&capabilities, &Value::Null));
    let args: Vec<&str> =
        container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
    let run = run_args(&args);
    assert_eq!(run.input.0.node.as_deref(), Some("$(NODE_NAME)"));
    assert!(names(&container["env"]).contains("NODE_NAME"));
    let mounted: BTreeSet<String> =
        [first, container].into_iter().flat_map(|container| names(&container["volumeMounts"])).collect();
    assert_eq!(mounted, names(&pod["volumes"]));
    assert!(run.forward.drain < pod["terminationGracePeriodSeconds"].as_u64().unwrap());
    let config = object("ConfigMap");
    assert_eq!(pod["volumes"][0]["configMap"]["name"], config["metadata"]["name"]);
    let folder = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
    let file = run.input.0.config.unwrap();
    let file = file.strip_prefix(&format!("{folder}/")).unwrap();
    let source = Source { name: file.to_owned(), text: config["data"][file].as_str().unwrap().to_owned() };
    let (read, said) = manifest::load_config(&source, SourceId(0), None);
    assert!(said.is_empty(), "{said:?}");
    let healthz = read.unwrap().healthz_bind_address;
    for probe in ["livenessProbe", "readinessProbe"] {
        let port = container[probe]["httpGet"]["port"].to_string();
        assert!(healthz.ends_with(&format!(":{port}")), "{probe} asks at {port}, {healthz} answers");
    }
    let tag = container["image"].as_str().unwrap().rsplit(':').next().unwrap();
    assert_eq!(tag, env!("CARGO_PKG_VERSION"));
}

#[test]
fn image_and_unit_start_the_program() {
    let program = "/usr/sbin/svcproxy";
    let image = text("Dockerfile");
    assert!(image.contains(&format!("/release/svcproxy {program}\n")), "{image}");
    assert!(image.contains(&format!("ENTRYPOINT [\"{program}\"]\n")), "{image}");
    assert!(image.contains(&format!("svcproxy:{}", env!("CARGO_PKG_VERSION"))), "{image}");
    // The manifest names files of targets that are not built, too.
    let left_out = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".dockerignore")).unwrap();
    let left_out: BTreeSet<&str> = left_out.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(left_out, BTreeSet::from([".git", "target", "testdata"]));
    let unit = text("svcproxy.service");
    let of = |key: &str| {
        let prefix = format!("{key}=");
        unit.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_else(|| panic!("no {key}"))
    };
    let (started, args) = of("ExecStart").split_once(' ').unwrap();
    assert_eq!(started, program);
    run_args(&args.split(' ').collect::<Vec<_>>());
    assert_eq!(of("Type"), "notify");
    // It drains for thirty seconds.
    assert_eq!(of("TimeoutStopSec"), "60s");
}
