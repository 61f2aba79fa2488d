//! Help texts of the commands, and the pages that are made of them.

use clap::{ArgAction, CommandFactory};

use super::*;

/// The way to write a flag or an argument: `-n, --namespace NAME`.
fn spelled(argument: &clap::Arg) -> String {
    let value = match argument.get_action() {
        ArgAction::SetTrue => None,
        _ => argument
            .get_value_names()
            .and_then(<[_]>::first)
            .map(ToString::to_string),
    };
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let flag: Vec<_> = short.into_iter().chain(long).collect();
    let parts = [Some(flag.join(", ")).filter(|flag| !flag.is_empty()), value];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn default(argument: &clap::Arg) -> String {
    let default = argument
        .get_default_values()
        .first()
        .map(|value| value.to_string_lossy());
    default
        .filter(|_| !matches!(argument.get_action(), ArgAction::SetTrue))
        .map_or_else(String::new, |value| format!("`{value}`"))
}

fn help(argument: &clap::Arg) -> Option<String> {
    Some(
        argument
            .get_long_help()
            .or_else(|| argument.get_help())?
            .to_string()
            .replace('|', "\\|"),
    )
}

/// A row of the operator's reference: flag, environment variable, default, meaning.
fn row(flag: &clap::Arg) -> Option<String> {
    let (name, default, help) = (spelled(flag), default(flag), help(flag)?);
    let variable = flag.get_env()?.to_string_lossy();
    Some(format!("| `{name}` | `{variable}` | {default} | {help} |\n"))
}

/// A section of the commands' reference.
fn section(command: &clap::Command, path: &str) -> String {
    let path = format!("{path} {}", command.get_name());
    let nested: String = command.get_subcommands().map(|nested| section(nested, &path)).collect();
    if !nested.is_empty() {
        return nested;
    }
    let about = command.get_long_about().or_else(|| command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let rows: String = command
        .get_arguments()
        .filter(|argument| argument.get_help_heading().is_none())
        .filter_map(|argument| {
            Some(format!(
                "| `{}` | {} | {} |\n",
                spelled(argument),
                default(argument),
                help(argument)?
            ))
        })
        .collect();
    let table = if rows.is_empty() {
        String::new()
    } else {
        format!("\n| Argument | Default | Meaning |\n|---|---|---|\n{rows}")
    };
    let codes = command
        .get_after_help()
        .map_or_else(String::new, |codes| format!("\n{codes}\n"));
    let about = about.trim_end_matches('.');
    format!("## `{}`\n\n{about}.\n{table}{codes}\n", path.trim_start())
}

#[test]
fn the_commands_are_sound() {
    command().debug_assert();
}

#[test]
fn the_reference_lists_every_flag_of_the_operator() {
    let all = Arguments::command();
    let operator = all.get_subcommands().find(|command| command.get_name() == "operator");
    let rows: String = operator
        .into_iter()
        .flat_map(clap::Command::get_arguments)
        .filter_map(row)
        .collect();
    let table = format!("| Flag | Environment | Default | Meaning |\n|---|---|---|---|\n{rows}");
    crate::reference::check("flags.md", "flags", &table);
}

#[test]
fn the_reference_lists_every_command_that_people_call() {
    let all = Arguments::command();
    let sections: String = all
        .get_subcommands()
        .filter(|command| command.get_name() != "operator")
        .map(|command| section(command, "gatehouse"))
        .collect();
    crate::reference::check("commands.md", "commands", &sections);
}

#[test]
fn the_reference_lists_the_flags_of_every_command_that_asks_a_cluster() {
    let all = Arguments::command();
    let status = all.get_subcommands().find(|command| command.get_name() == "status");
    let rows: String = status
        .into_iter()
        .flat_map(clap::Command::get_arguments)
        .filter(|argument| argument.get_help_heading() == Some("Cluster"))
        .filter_map(|argument| Some(format!("| `{}` | {} |\n", spelled(argument), help(argument)?)))
        .collect();
    crate::reference::check(
        "commands.md",
        "cluster",
        &format!("| Flag | Meaning |\n|---|---|\n{rows}"),
    );
}

#[test]
fn a_plugin_of_kubectl_says_so() {
    for (program, called) in [
        ("/usr/local/bin/kubectl-gatehouse", "kubectl gatehouse"),
        ("kubectl-gatehouse.exe", "kubectl gatehouse"),
        ("./gatehouse", "gatehouse"),
        ("/usr/bin/gh", "gatehouse"),
    ] {
        assert_eq!(name_of(Some(OsStr::new(program))), called);
    }
    assert_eq!(name_of(None), "gatehouse");
}

#[test]
fn renew_wants_to_know_which_and_only_in_one_way() {
    let parse = |line: &str| Arguments::try_parse_from(line.split(' ')).is_ok();
    for line in [
        "gatehouse renew web",
        "gatehouse renew web shop -n app --wait --timeout 2m",
        "gatehouse renew --all -A",
        "gatehouse renew -l app=shop",
    ] {
        assert!(parse(line), "{line}");
    }
    for line in [
        "gatehouse renew",
        "gatehouse renew web --all",
        "gatehouse renew -A",
        "gatehouse renew web -A",
        "gatehouse renew web --selector a=b",
        "gatehouse renew web --timeout 2m",
        "gatehouse renew web --wait --timeout soon",
        "gatehouse status web -A",
        "gatehouse status -o table",
        "gatehouse inspect secret",
        "gatehouse inspect secret web -f a.pem",
    ] {
        assert!(!parse(line), "{line}");
    }
}
