//! The developer's command: `cargo dev run` runs Gatehouse on a real control plane on this machine, `cargo dev test`
//! passes all tests, `cargo dev bench` measures.

mod bench;
mod run;
mod summary;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gatehouse_tests::{Assets, Error, assets};

#[derive(Parser)]
#[command(
    name = "cargo dev",
    about = "Runs and tests Gatehouse on real components on this machine"
)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Starts etcd, kube-apiserver, kube-controller-manager and Pebble, applies CRDs and samples, and runs the operator
    /// in the foreground until Ctrl-C
    Run {
        /// Keep the state in this folder (and use its content) in place of a temporary one
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
        /// Apply the CRDs only
        #[arg(long)]
        no_samples: bool,
        /// Further flags of `gatehouse operator`, after `--`
        #[arg(last = true)]
        operator: Vec<String>,
    },
    /// Builds everything and runs all tests: units, then the suites on real components
    Test {
        /// Tests at a time; the default is two for each core, at least four
        #[arg(long, value_name = "N")]
        threads: Option<usize>,
        /// Further arguments of `cargo test`, after `--`: a package, a test's name
        #[arg(last = true)]
        cargo: Vec<String>,
    },
    /// Measures what certificates cost: requests, CPU, memory and time, each beside its goal and cert-manager's figure
    Bench {
        /// Also with 5,000 and with 10,000 Certificates; with `--gateways`, with 10,000 Gateways
        #[arg(long)]
        large: bool,
        /// The rate of DNS-01 alone, in so many runs (13 when no number is given)
        #[arg(long, value_name = "RUNS", num_args = 0..=1, default_missing_value = "13", conflicts_with_all = ["large", "alerts", "gateways"])]
        dns01: Option<usize>,
        /// The alerts in place of the certificates: 10,000 Certificates, 20 policies, a storm
        #[arg(long, conflicts_with = "large")]
        alerts: bool,
        /// Gateways in place of the certificates: 1,000 at once, in front of Pods
        #[arg(long, conflicts_with = "alerts")]
        gateways: bool,
    },
    /// Builds the tools that tests and `run` start into the cache, and prints where they are
    Tools,
}

fn main() -> ExitCode {
    let task = Cli::parse().command;
    let done = assets::check_prerequisites().and_then(|()| match task {
        Task::Run {
            state,
            no_samples,
            operator,
        } => run::run(state, !no_samples, &operator),
        Task::Test { threads, cargo } => test::test(threads, &cargo),
        Task::Bench { alerts: true, .. } => bench::bench(bench::Plan::Alerts),
        Task::Bench {
            gateways: true, large, ..
        } => bench::bench(bench::Plan::Gateways { large }),
        Task::Bench { dns01: Some(runs), .. } => bench::bench(bench::Plan::Dns01 { runs }),
        Task::Bench { large, .. } => bench::bench(bench::Plan::Certificates { large }),
        Task::Tools => tools(),
    });
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tools() -> Result<ExitCode, Error> {
    let assets = Assets::find()?;
    for tool in gatehouse_tests::Tool::ALL {
        println!("{}", assets.path(tool).display());
    }
    println!("{}", assets::knotd()?.display());
    Ok(ExitCode::SUCCESS)
}
