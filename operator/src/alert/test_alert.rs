//! A test alert through every receiver of a policy, past its queue.

use futures::future::join_all;
use gatehouse_crds::alert::{TestResult, TestStatus};
use jiff::Timestamp;

use super::{
    message::{Content, Message},
    outbox::message_id,
    policy::{PolicyKey, Receiver},
    ports::Effects,
    queue::Outcome,
};

/// Sends it and says how it came out.
pub(super) async fn run<H: Effects>(
    effects: &H,
    policy: &PolicyKey,
    requested_at: Timestamp,
    receivers: Vec<Receiver>,
) -> TestStatus {
    let tests = receivers.iter().map(|receiver| async {
        let message = Message {
            id: message_id(),
            time: effects.now(),
            policy: policy.to_string(),
            content: Content::Test,
        };
        let started = tokio::time::Instant::now();
        let outcome = effects.send(policy, receiver, &message, false).await;
        let (delivered, message) = match outcome.failure() {
            None if outcome == Outcome::NotSent => (false, "its format has no message for a test".to_owned()),
            None => (true, format!("taken within {} ms", started.elapsed().as_millis())),
            Some(message) => (false, message.to_owned()),
        };
        TestResult {
            name: receiver.name.clone(),
            delivered,
            message,
        }
    });
    TestStatus {
        requested_at,
        receivers: join_all(tests).await,
    }
}
