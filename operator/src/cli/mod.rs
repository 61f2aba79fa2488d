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
