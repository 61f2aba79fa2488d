//! `gatehouse status`: how every Certificate and every Gateway does, or the whole story of one.

mod alarms;
pub(super) mod gateways;
pub(super) mod health;
mod overview;
pub(super) mod table;
mod watch;

pub(super) use overview::{certificates, selection};

use std::process::ExitCode;

use clap::Args;

use super::{
    connection::{self, Reach, Trouble},
    describe,
    manifest::Format,
    subject::Subject,
    terminal::Screen,
};

/// Shows the health of all Certificates and Gateways, or the details of one and what to do.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 all is fine, 1 something is unhealthy, 2 wrong usage or no cluster.")]
pub(super) struct Flags {
    /// One Certificate or Gateway: what is wanted, what exists, who signed or who takes the traffic, what happened, what is next. Of two of one name: certificate NAME, gateway NAME, or gateway/NAME.
    #[arg(value_name = "NAME", num_args = 0..=2, conflicts_with_all = ["all_namespaces", "selector"])]
    name: Vec<String>,
    /// Show all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only those with these labels, such as app=shop.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// json or yaml: the objects, as kubectl prints them. wide: of Certificates serial number, failures, next attempt, fingerprint; of Gateways type, provider, Service.
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
    /// Continue, and show what changes, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    reach: Reach,
}

impl Flags {
    /// Which one is meant, and the way to the cluster: for who completes a command.
    pub(super) fn begun(&self) -> (&[String], &Reach) {
        (&self.name, &self.reach)
    }

    /// `-o json` and `-o yaml`.
    fn objects(&self) -> Option<Format> {
        self.output.filter(|format| *format != Format::Wide)
    }
}

/// Runs the command.
pub(super) fn run(flags: &Flags) -> ExitCode {
    connection::run(async {
        if flags.watch && flags.objects().is_some() {
            return Err(Trouble::Usage(
                "--watch shows tables and stories: leave out -o, or use kubectl get -w".to_owned(),
            ));
        }
        let subject = Subject::of(&flags.name)?;
        let screen = Screen::of_stdout();
        let connection = flags.reach.connect().await?;
        match (&subject, flags.watch) {
            (Some(subject), false) => describe::run(&connection, subject, flags.objects(), screen).await,
            (Some(subject), true) => watch::one(&connection, subject, screen).await,
            (None, false) => overview::run(&connection, flags, screen).await,
            (None, true) => watch::all(&connection, flags, screen).await,
        }
    })
}
