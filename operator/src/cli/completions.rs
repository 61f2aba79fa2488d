//! `gatehouse completions` and `gatehouse man`: made from the commands themselves.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Command, Parser};
use clap_complete::Shell;
use kube::ResourceExt;

use super::{
    Arguments, FINE, UNHEALTHY,
    connection::{self, Trouble},
    status::{self, gateways},
    subject::Kind,
    terminal,
};

/// Prints a completion script (source <(gatehouse completions bash))
#[derive(Debug, Args)]
pub(super) struct CompletionFlags {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Prints the manual page, or writes the pages of all commands into a folder.
#[derive(Debug, Args)]
pub(super) struct ManFlags {
    /// Folder for gatehouse.1, gatehouse-status.1 and so on; created when missing.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// The command of kubectl for completing `kubectl gatehouse …`, as `kubectl_complete-gatehouse`.
pub(super) const HOOK: &str = "__complete";

/// The end of an answer in kubectl's protocol (Cobra's): no names of files are to be offered.
const NO_FILES: &str = ":4\n";

/// Longest wait for a cluster: completion must feel immediate.
const COMPLETION_TIMEOUT: Duration = Duration::from_secs(3);

/// Answers it: `words` are those so far, the last of them is to be completed.
pub(super) fn complete(words: &[String], command: &Command) -> ExitCode {
    let mut answer = candidates(command, words);
    if answer.is_empty() {
        answer = names(words);
    }
    let mut answer = answer.join("\n");
    if !answer.is_empty() {
        answer.push('\n');
    }
    terminal::show(&format!("{answer}{NO_FILES}"));
    ExitCode::from(FINE)
}

/// Returns completions of the last word, each with a tab and its meaning.
fn candidates(command: &Command, words: &[String]) -> Vec<String> {
    let Some((begun, before)) = words.split_last() else {
        return Vec::new();
    };
    let command = before.iter().fold(command, |command, word| {
        command.find_subcommand(word).unwrap_or(command)
    });
    let wants_value = |flag: &&clap::Arg| flag.get_action().takes_values();
    if let Some(flag) = before.last().and_then(|word| flag(command, word)).filter(wants_value) {
        let values = flag.get_possible_values();
        let names = values.iter().map(|value| value.get_name().to_owned());
        return names.filter(|name| name.starts_with(begun)).collect();
    }
    let described = |name: String, about: Option<&clap::builder::StyledStr>| {
        let about = about.map(ToString::to_string).unwrap_or_default();
        name.starts_with(begun).then(|| format!("{name}\t{about}"))
    };
    if begun.starts_with('-') {
        return command
            .get_arguments()
            .filter_map(|flag| described(format!("--{}", flag.get_long()?), flag.get_help()))
            .collect();
    }
    let values = command.get_positionals().flat_map(clap::Arg::get_possible_values);
    let values = values
        .map(|value| value.get_name().to_owned())
        .filter(|name| name.starts_with(begun));
    command
        .get_subcommands()
        .filter_map(|nested| described(nested.get_name().to_owned(), nested.get_about()))
        .chain(values)
        .collect()
}

/// Returns completions of what `status` can describe: Certificates and Gateways, as they are in the cluster now.
fn names(words: &[String]) -> Vec<String> {
    let Some((begun, before)) = words.split_last().filter(|(begun, _)| !begun.starts_with('-')) else {
        return Vec::new();
    };
    let line = std::iter::once("gatehouse").chain(before.iter().map(String::as_str));
    // What is no whole command so far waits for a flag's value.
    let Ok(Arguments {
        command: super::Command::Status(flags),
    }) = Arguments::try_parse_from(line)
    else {
        return Vec::new();
    };
    let (said, reach) = flags.begun();
    let Some(kinds) = kinds(said, begun) else {
        return Vec::new();
    };
    let prefix = begun.split_once('/').map_or("", |(kind, _)| kind);
    let mut found = Vec::new();
    let _ = connection::quietly(COMPLETION_TIMEOUT, async {
        let connection = reach.connect().await?;
        for kind in kinds {
            let (api, word) = match kind {
                Kind::Certificate => (
                    status::certificates(&connection, Some(&connection.namespace)),
                    "Certificate",
                ),
                Kind::Gateway => (gateways::api(&connection, Some(&connection.namespace)), "Gateway"),
            };
            let objects = connection::list(&api, &status::selection(None))
                .await
                .unwrap_or_default();
            let separator = if prefix.is_empty() { "" } else { "/" };
            let offers = objects
                .iter()
                .map(|object| format!("{prefix}{separator}{}", object.name_any()));
            let fits = offers.filter(|name| name.starts_with(begun.as_str()));
            found.extend(fits.map(|name| format!("{name}\t{word}")));
        }
        Ok::<_, Trouble>(())
    });
    found
}

/// Returns the kinds whose names can follow; none when nothing can.
fn kinds(said: &[String], begun: &str) -> Option<Vec<Kind>> {
    match (said, begun.split_once('/')) {
        ([], None) => Some(vec![Kind::Certificate, Kind::Gateway]),
        ([], Some((kind, _))) => Kind::of(kind).map(|kind| vec![kind]),
        ([kind], None) => Kind::of(kind).map(|kind| vec![kind]),
        _ => None,
    }
}

fn flag<'a>(command: &'a Command, word: &str) -> Option<&'a clap::Arg> {
    let long = word.strip_prefix("--");
    let short = word.strip_prefix('-').filter(|rest| rest.len() == 1);
    command.get_arguments().find(|flag| {
        long.is_some_and(|long| flag.get_long() == Some(long))
            || short.is_some_and(|short| flag.get_short() == short.chars().next())
    })
}

pub(super) fn completions(flags: &CompletionFlags, command: &mut Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, command, "gatehouse", &mut script);
    terminal::show(&String::from_utf8_lossy(&script));
    ExitCode::from(FINE)
}

pub(super) fn man(flags: &ManFlags, command: Command) -> ExitCode {
    let written = if let Some(folder) = &flags.folder {
        std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder))
    } else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(command).render(&mut page);
        terminal::show(&String::from_utf8_lossy(&page));
        rendered
    };
    match written {
        Ok(()) => ExitCode::from(FINE),
        Err(error) => {
            terminal::say(&format!("error: the manual pages cannot be written: {error}"));
            ExitCode::from(UNHEALTHY)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::{CommandFactory, ValueEnum};

    use super::*;
    use crate::cli::Arguments;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_commands() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "gatehouse", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["renew", "test-alert", "selector"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn kubectl_is_told_what_a_word_can_become() {
        let offered = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let all = candidates(&Arguments::command(), &words);
            let names = all.iter().map(|offer| offer.split('\t').next().unwrap().to_owned());
            names.collect::<Vec<_>>().join(" ")
        };
        for (line, words) in [
            ("st", "status"),
            ("", "operator status renew inspect test-alert crds completions man"),
            ("status --wa", "--watch"),
            ("status -o ", "json yaml wide"),
            ("status --output=x --output y", "yaml"),
            ("status -n app --sel", "--selector"),
            ("inspect ", "secret"),
            ("inspect secret --f", "--file"),
            ("completions z", "zsh"),
            ("status we", ""),
            ("status -n k", ""),
        ] {
            assert_eq!(offered(line), words, "{line:?}");
        }
    }

    #[test]
    fn names_of_both_kinds_follow_status_and_of_one_where_it_is_said() {
        let of = |said: &str, begun: &str| {
            let said: Vec<String> = said.split_whitespace().map(str::to_owned).collect();
            kinds(&said, begun)
        };
        assert_eq!(of("", "sh"), Some(vec![Kind::Certificate, Kind::Gateway]));
        assert_eq!(of("", "gateway/sh"), Some(vec![Kind::Gateway]));
        assert_eq!(of("gateway", "sh"), Some(vec![Kind::Gateway]));
        assert_eq!(of("certificate", ""), Some(vec![Kind::Certificate]));
        assert_eq!(of("", "secret/sh"), None);
        assert_eq!(of("web", ""), None, "one name is enough");
        assert_eq!(of("gateway web", ""), None);
        let words = ["renew".to_owned(), String::new()];
        assert_eq!(
            names(&words),
            Vec::<String>::new(),
            "no cluster is asked for other commands"
        );
    }

    #[test]
    fn every_command_has_a_manual_page() {
        let folder = tempfile::tempdir().unwrap();
        let flags = ManFlags {
            folder: Some(folder.path().join("man1")),
        };
        assert_eq!(man(&flags, Arguments::command()), ExitCode::from(FINE));
        for page in [
            "gatehouse",
            "gatehouse-status",
            "gatehouse-inspect-secret",
            "gatehouse-operator",
        ] {
            let text = std::fs::read_to_string(folder.path().join(format!("man1/{page}.1"))).unwrap();
            assert!(text.starts_with(".ie") || text.contains(".TH"), "{page}");
        }
    }
}
