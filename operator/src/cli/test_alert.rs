//! `gatehouse test-alert`: asks the operator to send a test through each receiver of a policy.

use std::{collections::BTreeSet, fmt::Debug, process::ExitCode, time::Duration};

use clap::Args;
use futures::StreamExt;
use gatehouse_crds::alert::{AlertPolicy, AlertPolicyStatus, ClusterAlertPolicy, Receiver, TestStatus};
use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    FINE, UNHEALTHY,
    connection::{self, Reach, Trouble},
    renew::FIELD_MANAGER,
    terminal,
};
use crate::{
    certificate::renewal,
    kubernetes::{names, watch::Pauses},
};

/// Sends a test alert through each receiver of an AlertPolicy, and says what came of it.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 every receiver accepted it, 1 one did not or there was no answer, 2 wrong usage or no cluster."
)]
pub(super) struct Flags {
    /// The AlertPolicy, or with --cluster the ClusterAlertPolicy.
    #[arg(value_name = "POLICY")]
    name: String,
    /// POLICY is a ClusterAlertPolicy.
    #[arg(long)]
    cluster: bool,
    /// Longest wait for the receivers.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    timeout: gatehouse_crds::duration::Duration,
    #[command(flatten)]
    reach: Reach,
}

/// Kinds of policies.
trait Policy {
    fn receivers(&self) -> &[Receiver];
    fn status(&self) -> Option<&AlertPolicyStatus>;
}

impl Policy for AlertPolicy {
    fn receivers(&self) -> &[Receiver] {
        &self.spec.receivers
    }
    fn status(&self) -> Option<&AlertPolicyStatus> {
        self.status.as_ref()
    }
}

impl Policy for ClusterAlertPolicy {
    fn receivers(&self) -> &[Receiver] {
        &self.spec.receivers
    }
    fn status(&self) -> Option<&AlertPolicyStatus> {
        self.status.as_ref()
    }
}

/// Runs the command.
pub(super) fn run(flags: &Flags) -> ExitCode {
    connection::run(async {
        let connection = flags.reach.connect().await?;
        let client = connection.client.clone();
        if flags.cluster {
            test(&Api::<ClusterAlertPolicy>::all(client), flags).await
        } else {
            test(&Api::<AlertPolicy>::namespaced(client, &connection.namespace), flags).await
        }
    })
}

async fn test<K>(api: &Api<K>, flags: &Flags) -> Result<ExitCode, Trouble>
where
    K: Policy + Resource + Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
{
    let name = &flags.name;
    let policy = connection::ask(api.get(name)).await?;
    let before = policy.status().and_then(|status| status.test.as_ref());
    let time = request_time(before, Timestamp::now());
    let patch = json!({"metadata": {"annotations": {names::TEST_REQUESTED_AT: time.to_string()}}});
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    connection::ask(api.patch_metadata(name, &parameters, &Patch::Merge(&patch))).await?;

    let patience: Duration = flags.timeout.value();
    let mut latest = policy;
    let answered = tokio::time::timeout(patience, async {
        let mut states = std::pin::pin!(watcher::watch_object(api.clone(), name).backoff(Pauses::default()));
        while let Some(state) = states.next().await {
            match state {
                Ok(Some(policy)) => latest = policy,
                Ok(None) => break,
                Err(error) => {
                    terminal::say(&format!("the watch broke off and is taken up again: {error}"));
                    continue;
                }
            }
            if is_complete(&latest, time) {
                break;
            }
        }
    });
    let in_time = answered.await.is_ok();
    let (text, fine) = report(&latest, time, (!in_time).then_some(patience));
    terminal::show(&text);
    Ok(ExitCode::from(if fine { FINE } else { UNHEALTHY }))
}

/// Now in whole seconds, as the status has it, but another time than that of the last test.
fn request_time(before: Option<&TestStatus>, now: Timestamp) -> Timestamp {
    let now = renewal::whole_seconds(now);
    let last = before.map(|test| test.requested_at).filter(|last| *last >= now);
    last.map_or(now, |last| {
        last.checked_add(SignedDuration::from_secs(1)).unwrap_or(now)
    })
}

fn answer<K: Policy>(policy: &K, time: Timestamp) -> Option<&TestStatus> {
    let test = policy.status()?.test.as_ref()?;
    (test.requested_at == time).then_some(test)
}

fn is_complete<K: Policy>(policy: &K, time: Timestamp) -> bool {
    answer(policy, time).is_some_and(|test| {
        let reported: BTreeSet<&str> = test.receivers.iter().map(|result| result.name.as_str()).collect();
        policy
            .receivers()
            .iter()
            .all(|receiver| reported.contains(receiver.name.as_str()))
    })
}

/// A line a receiver, and whether each took it. `too_late`: what was waited.
fn report<K: Policy>(policy: &K, time: Timestamp, too_late: Option<Duration>) -> (String, bool) {
    let Some(test) = answer(policy, time) else {
        let refused = policy.status().and_then(|status| {
            let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready")?;
            (ready.status == "False")
                .then(|| format!("The policy is not carried out: {}: {}", ready.reason, ready.message))
        });
        let waited = too_late.map_or_else(String::new, |patience| format!(" within {} s", patience.as_secs()));
        let why = refused.unwrap_or_else(|| "Does the operator run, and does it watch this namespace?".to_owned());
        return (format!("no answer{waited}. {}\n", terminal::plain(&why)), false);
    };
    let mut fine = true;
    let lines = policy.receivers().iter().map(|receiver| {
        let result = test.receivers.iter().find(|result| result.name == receiver.name);
        fine &= result.is_some_and(|result| result.delivered);
        let words = match result {
            Some(result) if result.delivered => format!("delivered: {}", result.message),
            Some(result) => format!("failed: {}", result.message),
            None => "no answer yet".to_owned(),
        };
        format!("{}: {}\n", receiver.name, terminal::plain(&words))
    });
    (lines.collect(), fine)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn policy(status: &str) -> AlertPolicy {
        serde_saphyr::from_str(&format!(
            "apiVersion: gatehouse.dev/v1alpha1\nkind: AlertPolicy\nmetadata: {{name: ops}}\nspec:\n  receivers:\n  - {{name: chat, webhook: {{url: 'https://chat.test/'}}}}\n  - {{name: mail, webhook: {{url: 'https://mail.test/'}}}}\n{status}"
        ))
        .unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_test_is_answered_when_every_receiver_is() {
        let time = at("2026-11-21T12:00:00Z");
        let result = |status: &str| {
            let policy = policy(status);
            (is_complete(&policy, time), report(&policy, time, None))
        };
        let all = "status: {test: {requestedAt: 2026-11-21T12:00:00Z, receivers: [{name: chat, delivered: true, message: in 12 ms}, {name: mail, delivered: false, message: it answered 500}]}}";
        assert_eq!(
            result(all),
            (
                true,
                (
                    "chat: delivered: in 12 ms\nmail: failed: it answered 500\n".into(),
                    false
                )
            )
        );
        let one = "status: {test: {requestedAt: 2026-11-21T12:00:00Z, receivers: [{name: chat, delivered: true, message: in 12 ms}]}}";
        assert_eq!(
            result(one),
            (
                false,
                ("chat: delivered: in 12 ms\nmail: no answer yet\n".into(), false)
            )
        );
        let earlier = all.replace("12:00:00", "11:00:00");
        assert!(!result(&earlier).0);
        let fine = all.replace("delivered: false", "delivered: true");
        assert!(result(&fine).1.1);
    }

    #[test]
    fn silence_is_explained() {
        let time = at("2026-11-21T12:00:00Z");
        let (text, fine) = report(&policy(""), time, Some(Duration::from_secs(60)));
        assert_eq!(
            (text.as_str(), fine),
            (
                "no answer within 60 s. Does the operator run, and does it watch this namespace?\n",
                false
            )
        );
        let refused = "status: {conditions: [{type: Ready, status: 'False', reason: Invalid, message: no such Secret, lastTransitionTime: 2026-11-21T12:00:00Z}]}";
        assert!(
            report(&policy(refused), time, None)
                .0
                .contains("Invalid: no such Secret")
        );
    }

    #[test]
    fn each_test_has_a_time_of_its_own() {
        let before = TestStatus {
            requested_at: at("2026-11-21T12:00:00Z"),
            receivers: Vec::new(),
        };
        assert_eq!(
            request_time(None, at("2026-11-21T12:00:00.7Z")),
            at("2026-11-21T12:00:00Z")
        );
        assert_eq!(
            request_time(Some(&before), at("2026-11-21T12:00:00.7Z")),
            at("2026-11-21T12:00:01Z")
        );
    }
}
