//! Every command line in README.md and in the help texts is one that the parser takes, and every link leads somewhere.

use std::path::Path;

use clap::{CommandFactory, Parser};
use svcproxy::cli::Cli;

fn readme() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// Lines of blocks of the languages `console` and `sh`, without their prompts.
fn block_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            inside = !inside && matches!(language, "console" | "sh");
        } else if inside {
            lines.push(line.trim_start_matches(['$', '#', ' ']).to_owned());
        }
    }
    lines
}

/// Words between blanks; what stands in single quotes is one word.
fn quoted_words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (nth, part) in command.split('\'').enumerate() {
        if nth % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// The commands of ours in a line of shell: those on either side of a pipe, without redirections.
fn commands(line: &str) -> Vec<Vec<String>> {
    let line = line.replace("cargo run --release -- ", "svcproxy ");
    let words = |command: &str| -> Vec<String> {
        let mut words = quoted_words(command);
        words.truncate(words.iter().position(|word| word.starts_with(['>', '<'])).unwrap_or(words.len()));
        words
    };
    line.split('|').map(words).filter(|words| words.first().is_some_and(|word| word == "svcproxy")).collect()
}

fn check(lines: &[String]) -> usize {
    let commands: Vec<Vec<String>> = lines.iter().flat_map(|line| commands(line)).collect();
    for words in &commands {
        if let Err(error) = Cli::try_parse_from(words) {
            panic!("{}: {error}", words.join(" "));
        }
    }
    commands.len()
}

#[test]
fn commands_of_the_readme_are_commands() {
    assert!(check(&block_lines(&readme())) >= 10);
}

#[test]
fn examples_of_the_help_are_commands() {
    let mut help = Cli::command();
    let mut lines: Vec<String> =
        help.render_long_help().to_string().lines().map(|line| line.trim().to_owned()).collect();
    for command in help.get_subcommands_mut() {
        lines.extend(command.render_long_help().to_string().lines().map(|line| line.trim().to_owned()));
    }
    // Headings like `svcproxy compile [OPTIONS]` are no examples.
    lines.retain(|line| !line.contains("[OPTIONS]") && !line.starts_with("svcproxy reads"));
    assert!(check(&lines) >= 12);
}

#[test]
fn links_lead_to_files() {
    let text = readme();
    let links: Vec<&str> = text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() >= 5);
    for link in links {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(link).exists(), "{link}");
    }
}
