//! `cargo dev bench`: what a certificate costs, an alert, a Gateway.
//!
//! A release build runs against a real control plane, Pebble and Knot that nothing else uses, with the rights that
//! `config/default` gives it. Nothing is asserted: a table says what was measured beside the goals of `tests/bench/goals.yaml`.

mod alerts;
mod gateways;
mod lab;
mod measure;
mod report;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use gatehouse_tests::{Assets, Error, Knot, Pebble, assets, operator, pebble};

use lab::{Lab, Subject};
use measure::{Audit, cpu, memory};
use report::Measured;

const ZONE: &str = "bench.test";
/// All is spread over so many namespaces.
const NAMESPACES: usize = 10;
/// Creates at a time, as a busy deployment tool makes them.
const CLIENTS: usize = 8;
/// One after the other.
const SINGLE: usize = 5;
/// The first question about renewal is asked within a minute.
const ADVICE: Duration = Duration::from_secs(65);
const REST: Duration = Duration::from_secs(10);
/// DNS-01 certificates in a minute: the goal of `dns01.rate`.
const RATE: f64 = 1_200.0;

/// Benchmark to run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    Certificates {
        large: bool,
    },
    /// The rate of DNS-01 alone, in so many runs, each with components of its own.
    Dns01 {
        runs: usize,
    },
    Alerts,
    Gateways {
        large: bool,
    },
}

/// Runs the steps and prints the table.
pub(crate) fn bench(plan: Plan) -> Result<ExitCode, Error> {
    Assets::find()?;
    if matches!(plan, Plan::Certificates { .. } | Plan::Dns01 { .. }) {
        assets::knotd()?;
    }
    step("building Gatehouse with optimization (the first time takes minutes)");
    let binary = operator::release_binary()?;
    let runtime = tokio::runtime::Runtime::new().map_err(|source| io("starting", source))?;
    let mut measured = Measured::new();
    let before = load();
    runtime.block_on(async {
        let large = match plan {
            Plan::Alerts => return alerts::alerts(&binary, &mut measured).await,
            Plan::Gateways { large } => return gateways::gateways(&binary, large, &mut measured).await,
            Plan::Dns01 { runs } => return dns01_rates(&binary, runs, &mut measured).await,
            Plan::Certificates { large } => large,
        };
        authority(&binary, 1_000, "", &mut measured).await?;
        acme(&binary, &mut measured).await?;
        if large {
            authority(&binary, 5_000, "large.", &mut measured).await?;
            authority(&binary, 10_000, "larger.", &mut measured).await?;
        }
        Ok(())
    })?;
    println!("\n{}", report::table(&measured)?);
    println!(
        "{} cores; load average before {before}, after {}. On a machine that does other things at the time believe the \
         counts and the CPU, not the times.",
        std::thread::available_parallelism().map_or(0, usize::from),
        load()
    );
    Ok(ExitCode::SUCCESS)
}

/// Everything about a CA issuer with so many Certificates.
async fn authority(binary: &Path, many: usize, prefix: &str, measured: &mut Measured) -> Result<(), Error> {
    let mut lab = Lab::start(binary, Subject::Ca).await?;
    let mut note = |id: &str, value: f64| measured.insert(format!("{prefix}{id}"), value);
    // The figures of the small run are about the CA issuer; those of the large one are called by its size alone.
    let ca = if prefix.is_empty() { "ca." } else { "" };

    step(&format!("{many} CA certificates at once"));
    let crowd = lab.crowd("bench-ca", many).await?;
    note(&format!("{ca}wall"), crowd.wall.as_secs_f64());
    note(&format!("{ca}cpu"), 1000.0 * crowd.cpu / count(many));
    if prefix.is_empty() {
        note("ca.created", crowd.created.as_secs_f64());
        note("ca.requests", crowd.requests / count(many));
        note("ca.single", 1000.0 * lab.single("bench-ca").await?);
    }

    step("rest");
    tokio::time::sleep(REST).await;
    note(&format!("{ca}memory"), memory(&lab.operator, "VmRSS")?);
    note(&format!("{ca}peak"), memory(&lab.operator, "VmHWM")?);
    if prefix.is_empty() {
        let (mark, used) = (lab.audit.mark(), cpu(&lab.operator)?);
        tokio::time::sleep(REST).await;
        note("idle.cpu", 100.0 * (cpu(&lab.operator)? - used) / REST.as_secs_f64());
        note("idle.requests", total(&lab.audit, mark));
    }

    step("restart");
    note("restart.ready", lab.restart(false).await?.as_secs_f64());
    lab.audit.quiet().await;
    tokio::time::sleep(REST).await;
    note("restart.memory", memory(&lab.operator, "VmRSS")?);

    step("2,000 unrelated Secrets");
    let (used, held) = (cpu(&lab.operator)?, memory(&lab.operator, "VmRSS")?);
    lab.unrelated(2_000).await?;
    tokio::time::sleep(REST).await;
    note("unrelated.cpu", cpu(&lab.operator)? - used);
    note("unrelated.memory", memory(&lab.operator, "VmRSS")? - held);

    if prefix.is_empty() {
        step("the leader is killed");
        note("killed.ready", lab.restart(true).await?.as_secs_f64());
    }
    Ok(())
}

/// The rate of DNS-01 in each of several runs.
async fn dns01_rates(binary: &Path, runs: usize, measured: &mut Measured) -> Result<(), Error> {
    let many = 200;
    let mut rates = Vec::new();
    let mut refused = 0.0;
    for run in 1..=runs {
        step(&format!("run {run} of {runs}: {many} DNS-01 certificates at once"));
        let mut lab = Lab::start(binary, Subject::Acme).await?;
        let crowd = lab.crowd("bench-acme", many).await?;
        let rate = 60.0 * count(many) / crowd.wall.as_secs_f64();
        let refused_now = refused_challenges(lab.test_cluster.pebble());
        eprintln!("  {rate:.0} in a minute, {refused_now} challenges refused");
        rates.push(rate);
        refused += refused_now;
    }
    rates.sort_by(f64::total_cmp);
    let mut note = |id: &str, value: Option<f64>| measured.insert(format!("rates.{id}"), value.unwrap_or(f64::NAN));
    note("runs", Some(count(runs)));
    note("met", Some(count(rates.iter().filter(|rate| **rate >= RATE).count())));
    note("slowest", rates.first().copied());
    note("median", rates.get(runs / 2).copied());
    note("fastest", rates.last().copied());
    note("refused", Some(refused));
    Ok(())
}

/// Challenges that this Pebble found wrong so far.
fn refused_challenges(pebble: &Pebble) -> f64 {
    count(pebble.log().matches("set INVALID by completed challenge").count())
}

/// Everything about DNS-01.
async fn acme(binary: &Path, measured: &mut Measured) -> Result<(), Error> {
    let mut lab = Lab::start(binary, Subject::Acme).await?;
    let mut note = |id: &str, value: f64| measured.insert(id.to_owned(), value);
    let many = 200;

    step(&format!("{many} DNS-01 certificates at once"));
    let (mark, asked) = (lab.audit.mark(), asked(lab.test_cluster.pebble()));
    let crowd = lab.crowd("bench-acme", many).await?;
    note("dns01.rate", 60.0 * count(many) / crowd.wall.as_secs_f64());
    note("dns01.cpu", 1000.0 * crowd.cpu / count(many));
    note("dns01.requests", crowd.requests / count(many));
    note(
        "dns01.acme",
        (self::asked(lab.test_cluster.pebble()) - asked) / count(many),
    );
    note("dns01.refused", refused_challenges(lab.test_cluster.pebble()));
    step("waiting for the first questions about renewal");
    tokio::time::sleep(ADVICE).await;
    note("dns01.requestsLater", total(&lab.audit, mark) / count(many));
    note(
        "dns01.acmeLater",
        (self::asked(lab.test_cluster.pebble()) - asked) / count(many),
    );
    note("dns01.single", lab.single("bench-acme").await?);

    step("DNS-01 with 5 % bad nonces");
    let unkind = lab
        .test_cluster
        .another_pebble(pebble::Options {
            nonce_reject: 5,
            ..authority_of(lab.test_cluster.knot())
        })
        .await;
    lab.acme_issuer("bench-unkind", &unkind).await?;
    let asked = self::asked(&unkind);
    lab.crowd("bench-unkind", many).await?;
    note("nonces.acme", (self::asked(&unkind) - asked) / count(many));
    Ok(())
}

/// Pebble's ways with this Knot.
fn authority_of(knot: &Knot) -> pebble::Options {
    pebble::Options {
        dns: Some(knot.address()),
        retry_after: 3,
        ..pebble::Options::default()
    }
}

/// Requests to an ACME server so far.
fn asked(pebble: &Pebble) -> f64 {
    count(pebble.requests().values().sum())
}

fn total(audit: &Audit, mark: u64) -> f64 {
    count(audit.since(mark).values().sum())
}

#[allow(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn count(number: usize) -> f64 {
    number as f64
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

fn step(what: &str) {
    eprintln!("· {what} …");
}

fn io(what: &str, source: std::io::Error) -> Error {
    Error::Io {
        what: what.to_owned(),
        source,
    }
}
