//! `status.conditions`, set purely.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    True,
    False,
    Unknown,
}

impl Status {
    /// Returns the value in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Status {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// Longest message that the API takes, in characters (`metav1.Condition`).
const MESSAGE_CHARACTERS: usize = 32_768;

/// Update of one type of condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionUpdate {
    /// `CamelCase`, one of each type in a list.
    pub type_: &'static str,
    pub status: Status,
    /// `CamelCase`, never empty.
    pub reason: &'static str,
    /// For humans.
    pub message: String,
}

/// Sets `verdict` in `conditions`, as seen at `generation` and decided at `now`.
///
/// `lastTransitionTime` is kept while the status stays the same (Kubernetes API conventions,
/// "Typical status properties"). Conditions of other types and their order are left alone.
/// Returns whether anything differs from before.
pub fn set(
    conditions: &mut Vec<Condition>,
    verdict: &ConditionUpdate,
    generation: Option<i64>,
    now: Timestamp,
) -> bool {
    let existing = conditions.iter_mut().find(|condition| condition.type_ == verdict.type_);
    let since = existing
        .as_ref()
        .filter(|condition| condition.status == verdict.status.as_str())
        .map_or(Time(whole_seconds(now)), |condition| {
            condition.last_transition_time.clone()
        });
    let condition = Condition {
        type_: verdict.type_.into(),
        status: verdict.status.as_str().into(),
        reason: verdict.reason.into(),
        message: verdict.message.chars().take(MESSAGE_CHARACTERS).collect(),
        observed_generation: generation,
        last_transition_time: since,
    };
    match existing {
        Some(existing) if *existing == condition => false,
        Some(existing) => {
            *existing = condition;
            true
        }
        None => {
            conditions.push(condition);
            true
        }
    }
}

/// Returns the condition of this type, if present.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Returns whether the condition of this type is `True`.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == Status::True.as_str())
}

/// The API keeps whole seconds; a fraction would make every comparison with what we read back differ.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn ready(status: Status, reason: &'static str, message: &str) -> ConditionUpdate {
        ConditionUpdate {
            type_: "Ready",
            status,
            reason,
            message: message.into(),
        }
    }

    #[test]
    fn a_new_condition_says_since_when_and_what_it_has_seen() {
        let mut conditions = Vec::new();
        let now = at("2026-01-02T03:04:05.678Z");
        assert!(set(
            &mut conditions,
            &ready(Status::True, "Issued", "all is well"),
            Some(7),
            now
        ));
        let expected = Condition {
            type_: "Ready".into(),
            status: "True".into(),
            reason: "Issued".into(),
            message: "all is well".into(),
            observed_generation: Some(7),
            last_transition_time: Time(at("2026-01-02T03:04:05Z")),
        };
        assert_eq!(conditions, [expected]);
        assert!(is_true(&conditions, "Ready"));
        assert!(!is_true(&conditions, "Issuing"));
    }

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let mut conditions = Vec::new();
        let (first, second, third) = (
            at("2026-01-01T00:00:00Z"),
            at("2026-01-02T00:00:00Z"),
            at("2026-01-03T00:00:00Z"),
        );
        set(
            &mut conditions,
            &ready(Status::False, "Network", "no route"),
            Some(1),
            first,
        );
        assert!(set(
            &mut conditions,
            &ready(Status::False, "RateLimited", "later"),
            Some(2),
            second
        ));
        assert_eq!(conditions[0].last_transition_time, Time(first));
        assert_eq!(
            (conditions[0].reason.as_str(), conditions[0].observed_generation),
            ("RateLimited", Some(2))
        );
        assert!(set(&mut conditions, &ready(Status::True, "Issued", ""), Some(2), third));
        assert_eq!(conditions[0].last_transition_time, Time(third));
    }

    #[test]
    fn saying_the_same_again_changes_nothing_and_the_others_stay() {
        let mut conditions = Vec::new();
        let issuing = ConditionUpdate {
            type_: "Issuing",
            status: Status::Unknown,
            reason: "Waiting",
            message: String::new(),
        };
        set(&mut conditions, &issuing, Some(1), at("2026-01-01T00:00:00Z"));
        set(
            &mut conditions,
            &ready(Status::True, "Issued", "x"),
            Some(1),
            at("2026-01-01T00:00:00Z"),
        );
        let before = conditions.clone();
        assert!(!set(
            &mut conditions,
            &ready(Status::True, "Issued", "x"),
            Some(1),
            at("2027-01-01T00:00:00Z")
        ));
        assert_eq!(conditions, before);
        assert_eq!(find(&conditions, "Issuing").unwrap().status, "Unknown");
    }

    #[test]
    fn a_message_longer_than_the_api_takes_is_cut_between_characters() {
        let mut conditions = Vec::new();
        set(
            &mut conditions,
            &ready(Status::False, "Invalid", &"ü".repeat(40_000)),
            None,
            at("2026-01-01T00:00:00Z"),
        );
        assert_eq!(conditions[0].message, "ü".repeat(32_768));
    }
}
