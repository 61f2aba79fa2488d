//! `gatehouse inspect`: what is inside of things, decoded.

mod chain;
mod report;

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{ArgGroup, Args, Subcommand};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use zeroize::Zeroizing;

use super::{
    FINE, UNHEALTHY,
    connection::{self, Reach, Trouble},
    terminal::{self, Screen},
};
use report::Subject;

/// Files above this are no certificates.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Decodes what is inside of a Secret or a file.
#[derive(Debug, Args)]
pub(super) struct Flags {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Secret(SecretFlags),
}

/// Decodes a TLS Secret, or PEM from a file: each certificate, the key, the chain. Private keys are never shown.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["name", "file"]))]
#[command(
    after_help = "Exit codes: 0 all fits, 1 something is wrong with what is inside, 2 wrong usage or no cluster."
)]
struct SecretFlags {
    /// The Secret.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// PEM from this file in place of a Secret; - is the standard input.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    reach: Reach,
}

/// Runs the command.
pub(super) fn run(flags: &Flags) -> ExitCode {
    let What::Secret(flags) = &flags.what;
    connection::run(async {
        let subject = match (&flags.file, &flags.name) {
            (Some(file), _) => from_file(file)?,
            (None, name) => from_secret(&flags.reach, name.as_deref().unwrap_or_default()).await?,
        };
        let (text, fine) = report::report(&subject, Timestamp::now(), Screen::of_stdout());
        terminal::show(&text);
        Ok(ExitCode::from(if fine { FINE } else { UNHEALTHY }))
    })
}

async fn from_secret(reach: &Reach, name: &str) -> Result<Subject, Trouble> {
    let connection = reach.connect().await?;
    let api: Api<Secret> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let secret = connection::ask(api.get(name)).await?;
    let kind = secret.type_.unwrap_or_else(|| "Opaque".to_owned());
    let data = secret.data.unwrap_or_default();
    Ok(Subject {
        title: format!("Secret {}/{name}, of type {kind}", connection.namespace),
        labels: secret.metadata.labels.unwrap_or_default(),
        annotations: secret.metadata.annotations.unwrap_or_default(),
        is_file: false,
        data: data
            .into_iter()
            .map(|(key, value)| (key, Zeroizing::new(value.0)))
            .collect(),
    })
}

/// A file may hold all of it: certificates, key, roots.
fn from_file(file: &Path) -> Result<Subject, Trouble> {
    let stdin = file == Path::new("-");
    let title = if stdin {
        "The standard input".to_owned()
    } else {
        format!("File {}", file.display())
    };
    let unreadable = |error: std::io::Error| Trouble::Usage(format!("{title} cannot be read: {error}"));
    let mut bytes = Zeroizing::new(Vec::new());
    let read = if stdin {
        std::io::stdin().lock().take(LARGEST).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|open| open.take(LARGEST).read_to_end(&mut bytes))
    };
    read.map_err(unreadable)?;
    let mut data = BTreeMap::new();
    let labels = String::from_utf8_lossy(&bytes).contains("PRIVATE KEY-----");
    if labels {
        data.insert("tls.key".to_owned(), bytes.clone());
    }
    data.insert("tls.crt".to_owned(), bytes);
    Ok(Subject {
        title,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        is_file: true,
        data,
    })
}
