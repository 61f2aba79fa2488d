//! The command line: one binary, one command for each job.

mod crds;
mod operator;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Keeps the keys of a Kubernetes cluster: certificates that are requested by a custom resource,
/// issued by ACME or a CA, written to Secrets, and renewed for ever.
#[derive(Debug, Parser)]
#[command(name = "gatehouse", version, propagate_version = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the controllers: this is what the Deployment starts.
    Operator(Box<operator::Flags>),
    /// Prints the CustomResourceDefinitions: gatehouse crds | kubectl apply --server-side -f -
    Crds,
}

/// Reads the arguments and does what they say. Exit codes: 0 fine, 1 something went wrong, 2 wrong usage or no cluster.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Operator(flags) => operator::run(&flags),
        Command::Crds => crds::print(),
    }
}

#[cfg(test)]
mod tests {
    use clap::{ArgAction, CommandFactory};

    use super::*;

    /// A row of the reference: flag, environment variable, default, meaning.
    fn row(flag: &clap::Arg) -> Option<String> {
        let name = flag.get_long()?;
        let value = match flag.get_action() {
            ArgAction::SetTrue => String::new(),
            _ => flag
                .get_value_names()
                .and_then(<[_]>::first)
                .map(|value| format!(" {value}"))
                .unwrap_or_default(),
        };
        let variable = flag.get_env()?.to_string_lossy();
        let default = flag.get_default_values().first().map(|value| value.to_string_lossy());
        let default = default
            .filter(|_| !matches!(flag.get_action(), ArgAction::SetTrue))
            .map_or_else(String::new, |value| format!("`{value}`"));
        let help = flag.get_long_help().or_else(|| flag.get_help())?.to_string();
        Some(format!("| `--{name}{value}` | `{variable}` | {default} | {help} |\n"))
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
}
