//! `cargo dev bench --alerts`: what policies cost with 10,000 Certificates, how soon an alert leaves, and what a storm does.
//!
//! The Certificates are suspended and their status is written here: what alarms is their dates, so nothing has to be issued.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use gatehouse_crds::alert::{AlertPolicy, ClusterAlertPolicy};
use gatehouse_crds::certificate::Certificate;
use gatehouse_tests::receiver::{Answer, Received};
use gatehouse_tests::shared_operator::SOON;
use gatehouse_tests::{Error, Receiver};
use jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::lab::{Lab, Subject, create};
use super::measure::{cpu, memory};
use super::report::Measured;
use super::{CLIENTS, NAMESPACES, REST, count, step, total};

const CERTIFICATES: usize = 10_000;
/// One for all namespaces among them.
const POLICIES: usize = 20;
/// Certificates that expire during the benchmark.
const MOMENTS: i64 = 5;
/// Single certificates before the storm.
const BEFORE: usize = 20;
/// Time that a receiver takes for each request in the storm.
const SLOW: Duration = Duration::from_millis(100);
/// The policy whose rules make the storm.
const STORM: &str = "storm";
const TIMEOUT: Duration = Duration::from_mins(5);
/// The issuer of the single certificates.
const ISSUER: &str = "bench-ca";

/// All of it.
pub(super) async fn alerts(binary: &Path, measured: &mut Measured) -> Result<(), Error> {
    let mut lab = Lab::start(binary, Subject::Ca).await?;
    let mut note = |id: &str, value: f64| measured.insert(format!("alerts.{id}"), value);
    step(&format!("{CERTIFICATES} Certificates"));
    stream::iter(0..CERTIFICATES)
        .map(|number| {
            still(
                &lab,
                format!("still-{number}"),
                number,
                SignedDuration::from_hours(90 * 24),
            )
        })
        .buffer_unordered(CLIENTS)
        .try_collect::<Vec<()>>()
        .await?;
    lab.audit.quiet().await;
    lab.restart(false).await?;
    lab.audit.quiet().await;
    tokio::time::sleep(REST).await;
    let without = memory(&lab.operator, "VmRSS")?;
    note("without", without);

    step(&format!("{POLICIES} policies"));
    let mut receivers = Receivers::start().await;
    policies(&lab, &receivers).await?;
    lab.audit.quiet().await;
    tokio::time::sleep(REST).await;
    note("memory", memory(&lab.operator, "VmRSS")? - without);
    let (mark, used) = (lab.audit.mark(), cpu(&lab.operator)?);
    tokio::time::sleep(REST).await;
    note("idle.cpu", 100.0 * (cpu(&lab.operator)? - used) / REST.as_secs_f64());
    note("idle.requests", total(&lab.audit, mark));
    lab.restart(false).await?;
    lab.audit.quiet().await;
    tokio::time::sleep(REST).await;
    note("memoryRestart", memory(&lab.operator, "VmRSS")? - without);

    step("certificates that run out");
    note("moment", moments(&lab, &receivers.quick).await?.as_secs_f64());

    step("single certificates, before the storm");
    let mut before = Vec::new();
    for _ in 0..BEFORE {
        before.push(one(&mut lab).await?);
    }
    note("single", millis(&median(&mut before)));

    step(&format!("a storm of {CERTIFICATES} alerts"));
    let (mark, used, began) = (lab.audit.mark(), cpu(&lab.operator)?, Instant::now());
    rules(&lab, true).await?;
    let mut during = Vec::new();
    // All the while certificates are issued, one after the other.
    while receivers.reported().0 < CERTIFICATES && began.elapsed() < TIMEOUT {
        during.push(one(&mut lab).await?);
    }
    note("storm", began.elapsed().as_secs_f64());
    note("lost", count(CERTIFICATES - receivers.reported().0));
    note("single.storm", millis(&median(&mut during)));
    note("single.worst", during.last().map_or(f64::NAN, millis));
    let groups = receivers.groups();
    note("groups", count(groups.len()));
    let reported = groups.into_iter().max().unwrap_or_default();
    note("untold", count(CERTIFICATES.saturating_sub(reported)));
    lab.audit.quiet().await;
    note("storm.cpu", cpu(&lab.operator)? - used);
    note("storm.requests", total(&lab.audit, mark) - 3.0 * count(during.len()));
    note("storm.memory", memory(&lab.operator, "VmRSS")? - without);
    note("storm.peak", memory(&lab.operator, "VmHWM")?);

    step("its end");
    let began = Instant::now();
    rules(&lab, false).await?;
    let ended = wait(|| receivers.reported().1 == CERTIFICATES).await;
    note("end", ended.duration_since(began).as_secs_f64());
    note("lost.end", count(CERTIFICATES - receivers.reported().1));

    step("a storm in which the operator is killed");
    let mut receivers = Receivers::start().await;
    policies(&lab, &receivers).await?;
    lab.audit.quiet().await;
    rules(&lab, true).await?;
    wait(|| receivers.reported().0 > CERTIFICATES / 3).await;
    lab.restart(true).await?;
    wait(|| receivers.reported().0 == CERTIFICATES).await;
    note("lost.killed", count(CERTIFICATES - receivers.reported().0));
    Ok(())
}

/// Three receivers: one that answers at once, one for people and one for machines that take their time.
struct Receivers {
    quick: Receiver,
    people: Receiver,
    machine: Receiver,
    /// Requests to the machine that were read.
    seen: usize,
    firing: HashSet<String>,
    resolved: HashSet<String>,
}

impl Receivers {
    async fn start() -> Self {
        let [quick, people, machine] = [
            Receiver::start().await,
            Receiver::start().await,
            Receiver::start().await,
        ];
        for receiver in [&people, &machine] {
            receiver.answer(Answer {
                after: SLOW,
                ..Answer::default()
            });
        }
        Self {
            quick,
            people,
            machine,
            seen: 0,
            firing: HashSet::new(),
            resolved: HashSet::new(),
        }
    }

    /// Reads the messages since the last read.
    fn read(&mut self) {
        let received = self.machine.received();
        for message in received.iter().skip(self.seen) {
            for alert in message.json().as_array().into_iter().flatten() {
                let until: Option<Timestamp> = alert
                    .get("endsAt")
                    .and_then(Value::as_str)
                    .and_then(|text| text.parse().ok());
                let over = until.is_some_and(|until| until <= message.at);
                let name = alert
                    .pointer("/labels/certificate")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                if name.starts_with("still-") {
                    let names = if over { &mut self.resolved } else { &mut self.firing };
                    names.insert(name.to_owned());
                }
            }
        }
        self.seen = received.len();
    }

    /// Returns the numbers of Certificates that were reported as firing, and as resolved.
    fn reported(&mut self) -> (usize, usize) {
        self.read();
        (self.firing.len(), self.resolved.len())
    }

    /// Returns the number in each group message; the single alerts before the storm are none.
    fn groups(&self) -> Vec<usize> {
        let counts = self.people.received().into_iter().filter_map(|received| {
            let count = received.json().pointer("/data/count")?.as_u64()?;
            usize::try_from(count).ok()
        });
        counts.collect()
    }
}

/// A Certificate that is left alone and runs out after `left`.
async fn still(lab: &Lab, name: String, number: usize, left: SignedDuration) -> Result<(), Error> {
    let api: Api<Certificate> = Api::namespaced(lab.cluster.client(), &format!("bench-{}", number % NAMESPACES));
    let host = format!("{name}.bench.test");
    let certificate = json!({"metadata": {"name": name}, "spec": {
        "secretName": format!("{name}-tls"), "dnsNames": [host], "suspend": true,
        "issuerRef": {"kind": "ClusterIssuer", "name": ISSUER}}});
    create(&api, certificate).await?;
    let now = Timestamp::now();
    let whole = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap_or(time);
    let start = whole(now - SignedDuration::from_hours(24));
    let status = json!({"status": {
        "notBefore": start, "notAfter": whole(now + left), "serialNumber": format!("{:032x}", number + 1),
        "issuer": {"kind": "ClusterIssuer", "name": ISSUER}, "issuedAt": start, "revision": 1}});
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    Ok(())
}

/// Makes the policies, or turns them to these receivers.
async fn policies(lab: &Lab, receivers: &Receivers) -> Result<(), Error> {
    let quick = json!([{"name": "ops", "webhook": {"url": receivers.quick.url("/hook")}}]);
    for number in 0..POLICIES - 1 {
        let policy = json!({"apiVersion": "gatehouse.dev/v1alpha1", "kind": "AlertPolicy",
            "metadata": {"name": format!("policy-{}", number / NAMESPACES)}, "spec": {"receivers": quick}});
        let namespace = format!("bench-{}", number % NAMESPACES);
        lab.cluster.try_apply(&namespace, &policy.to_string()).await?;
    }
    let slow = json!([
        {"name": "people", "webhook": {"url": receivers.people.url("/hook")}},
        {"name": "machine", "webhook": {"url": receivers.machine.url(""), "format": "Alertmanager"}}
    ]);
    let policy = json!({"apiVersion": "gatehouse.dev/v1alpha1", "kind": "ClusterAlertPolicy",
        "metadata": {"name": STORM}, "spec": {"receivers": slow, "rules": {"expired": {}}}});
    lab.cluster.try_apply("", &policy.to_string()).await?;
    let (one, all) = (
        lab.cluster.api::<AlertPolicy>("bench-0"),
        Api::<ClusterAlertPolicy>::all(lab.cluster.client()),
    );
    lab.cluster
        .wait_condition(&one, "policy-0", "Ready", "True", SOON)
        .await;
    lab.cluster.wait_condition(&all, STORM, "Ready", "True", SOON).await;
    Ok(())
}

/// Makes everything fire under one policy, or nothing.
async fn rules(lab: &Lab, storm: bool) -> Result<(), Error> {
    let expiring = if storm {
        json!({"warning": "4000h", "critical": "1h"})
    } else {
        Value::Null
    };
    let patch = json!({"spec": {"rules": {"expiring": expiring}}});
    let api: Api<ClusterAlertPolicy> = Api::all(lab.cluster.client());
    api.patch(STORM, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

/// From the moment that a certificate runs out until the receiver has been asked: the longest of some.
async fn moments(lab: &Lab, receiver: &Receiver) -> Result<Duration, Error> {
    for number in 0..MOMENTS {
        still(lab, format!("short-{number}"), 0, SignedDuration::from_secs(4 + number)).await?;
    }
    let expired = |received: &Received| {
        let event = received.json();
        event
            .get("type")
            .is_some_and(|kind| kind == "dev.gatehouse.certificate.expired")
    };
    // Two policies look after that namespace.
    let all = || receiver.received().into_iter().filter(expired).collect::<Vec<_>>();
    wait(|| all().len() == 10).await;
    let late = all().into_iter().filter_map(|received| {
        let event = received.json();
        let end: Timestamp = event.pointer("/data/certificate/notAfter")?.as_str()?.parse().ok()?;
        Duration::try_from(received.at.duration_since(end)).ok()
    });
    late.max().ok_or_else(|| Error::Deadline {
        what: "alerts of certificates that ran out".to_owned(),
        after: TIMEOUT,
        detail: String::new(),
    })
}

/// Measures the time of one certificate, from creation to Ready.
async fn one(lab: &mut Lab) -> Result<Duration, Error> {
    let began = Instant::now();
    let names = lab.create(ISSUER, 1).await?;
    let ready = lab.ready.all(&names).await?;
    Ok(ready.into_iter().max().map_or(Duration::ZERO, |ready| ready - began))
}

/// Waits until it is so, or patience ends; the moment.
async fn wait(mut so: impl FnMut() -> bool) -> Instant {
    let deadline = Instant::now() + TIMEOUT;
    while !so() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Instant::now()
}

/// Sorts them.
fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn millis(time: &Duration) -> f64 {
    1000.0 * time.as_secs_f64()
}
