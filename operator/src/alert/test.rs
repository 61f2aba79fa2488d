//! A test alert through every receiver of a policy, past its queue.

use futures::future::join_all;
use gatehouse_crds::alert::{TestResult, TestStatus};
use jiff::Timestamp;

use super::{
    engine::Hands,
    message::{Content, Message},
    policy::{PolicyKey, Receiver},
    queue::Outcome,
    tell::message_id,
};

/// Sends it and says how it came out.
pub(super) async fn run<H: Hands>(
    hands: &H,
    policy: &PolicyKey,
    requested_at: Timestamp,
    receivers: Vec<Receiver>,
) -> TestStatus {
    let tests = receivers.iter().map(|receiver| async {
        let message = Message {
            id: message_id(),
            time: hands.now(),
            policy: policy.to_string(),
            content: Content::Test,
        };
        let started = tokio::time::Instant::now();
        let (delivered, message) = match hands.send(policy, receiver, &message).await {
            Outcome::Accepted => (true, format!("taken within {} ms", started.elapsed().as_millis())),
            Outcome::Gone { message } | Outcome::Refused { message, .. } | Outcome::Unavailable { message, .. } => {
                (false, message)
            }
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
