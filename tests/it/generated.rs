//! man/ and completions/ are what the command line definition gives. `UPDATE_EXPECT=1 cargo test` renews them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;
use svcproxy::cli::Cli;

/// Every committed file with its wanted content.
fn wanted() -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for (shell, name) in
        [(Shell::Bash, "svcproxy.bash"), (Shell::Zsh, "_svcproxy"), (Shell::Fish, "svcproxy.fish")]
    {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "svcproxy", &mut text);
        files.insert(Path::new("completions").join(name), text);
    }
    let mut top = Cli::command();
    top.build();
    let mut pages = vec![("svcproxy".to_owned(), top.clone())];
    for command in top.get_subcommands().filter(|command| command.get_name() != "help") {
        pages.push((format!("svcproxy-{}", command.get_name()), command.clone()));
    }
    for (name, command) in pages {
        // The parser wants names that live as long as the program.
        let static_name: &'static str = name.clone().leak();
        let command = command.name(static_name).bin_name(name.replacen('-', " ", 1));
        let man = clap_mangen::Man::new(command).source(concat!("svcproxy ", env!("CARGO_PKG_VERSION")));
        let mut text = Vec::new();
        man.render(&mut text).unwrap();
        files.insert(Path::new("man").join(format!("{name}.1")), text);
    }
    files
}

#[test]
fn committed_pages_and_completions_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut stale = Vec::new();
    let wanted = wanted();
    for (path, text) in &wanted {
        if std::fs::read(root.join(path)).ok().as_ref() != Some(text) {
            stale.push(path.display().to_string());
        }
    }
    for folder in ["man", "completions"] {
        for entry in std::fs::read_dir(root.join(folder)).into_iter().flatten() {
            let path = Path::new(folder).join(entry.unwrap().file_name());
            if !wanted.contains_key(&path) {
                stale.push(format!("{} (no longer made)", path.display()));
            }
        }
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        for (path, text) in &wanted {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), text).unwrap();
        }
        return;
    }
    assert!(stale.is_empty(), "renew with UPDATE_EXPECT=1 cargo test: {}", stale.join(", "));
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn every_option_is_explained() {
    fn check(command: &clap::Command, problems: &mut Vec<String>) {
        for argument in command.get_arguments() {
            if argument.get_help().is_none() {
                problems.push(format!("{} {}", command.get_name(), argument.get_id()));
            }
        }
        command.get_subcommands().for_each(|command| check(command, problems));
    }
    let mut problems = Vec::new();
    check(&Cli::command(), &mut problems);
    assert!(problems.is_empty(), "without help: {problems:?}");
}
