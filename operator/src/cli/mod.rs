//! The command line: one binary, one command for each job.

mod completions;
mod connection;
mod crds;
mod describe;
mod grid;
mod inspect;
mod manifest;
mod moment;
mod operator;
mod renew;
#[cfg(test)]
mod samples;
mod status;
mod subject;
mod terminal;
mod test_alert;

use std::{ffi::OsStr, path::Path, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Exit codes of the commands: all is well; something is unhealthy; wrong usage, or no cluster.
const FINE: u8 = 0;
const UNHEALTHY: u8 = 1;
const USAGE: u8 = 2;

/// Keeps the keys of a Kubernetes cluster: certificates that are requested by a custom resource,
/// issued by ACME or a CA, written to Secrets, and renewed before they expire.
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
    Status(status::Flags),
    Renew(renew::Flags),
    Inspect(inspect::Flags),
    TestAlert(test_alert::Flags),
    /// Prints the CustomResourceDefinitions (gatehouse crds | kubectl apply --server-side -f -)
    Crds,
    Completions(completions::CompletionFlags),
    Man(completions::ManFlags),
}

/// Reads the arguments and does what they say. Exit codes: 0 fine, 1 something went wrong, 2 wrong usage or no cluster.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned());
    // Not one of the commands, so that it is in no help, page or script.
    if words.next().as_deref() == Some(completions::HOOK) {
        return completions::complete(&words.collect::<Vec<_>>(), &Arguments::command());
    }
    let matches = command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match arguments.command {
        Command::Operator(flags) => operator::run(&flags),
        Command::Status(flags) => status::run(&flags),
        Command::Renew(flags) => renew::run(&flags),
        Command::Inspect(flags) => inspect::run(&flags),
        Command::TestAlert(flags) => test_alert::run(&flags),
        Command::Crds => crds::print(),
        Command::Completions(flags) => completions::completions(&flags, &mut Arguments::command()),
        Command::Man(flags) => completions::man(&flags, Arguments::command()),
    }
}

/// The command as it was called: kubectl finds its plugins by the name of the file.
fn command() -> clap::Command {
    Arguments::command().bin_name(called())
}

/// Returns the name by which the user calls this program.
fn called() -> &'static str {
    let by = std::env::args_os().next();
    name_of(by.as_deref())
}

fn name_of(program: Option<&OsStr>) -> &'static str {
    match program.map(Path::new).and_then(Path::file_stem) {
        Some(name) if name == "kubectl-gatehouse" => "kubectl gatehouse",
        _ => "gatehouse",
    }
}

#[cfg(test)]
mod tests;
