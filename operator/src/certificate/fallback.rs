//! Whether a failed attempt is one for the next issuer: a fallback is for a CA that cannot, not for one that is slow.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::failure::{Class, Failure};

/// Failures in a row after which a CA counts as one that cannot: the default of the alert rule's
/// `criticalAfterAttempts`.
const MIN_FAILURES: u32 = 3;
/// A pause that is waited for also when no certificate serves.
const SHORT_WAIT: Duration = Duration::from_secs(30);

/// An attempt that failed.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    pub failure: &'a Failure,
    /// Failures in a row at this issuer, this one included.
    pub failures: u32,
    /// The lifetime of the certificate that serves meanwhile, and what is left of it. None when none serves.
    pub serves: Option<(SignedDuration, SignedDuration)>,
    /// When this issuer would be asked again.
    pub pause: Duration,
}

/// Checks whether the next issuer is asked now:
///
/// - for everything but our own side's trouble, which would be the same there;
/// - at once when the CA looked and said no;
/// - after [`MIN_FAILURES`] failures in a row;
/// - when no certificate serves, unless the pause is a moment;
/// - when less than a sixth of the lifetime is left, or the pause is more than half of what is left.
pub fn is_due(attempt: &Attempt<'_>) -> bool {
    if !attempt.failure.may_fall_back() {
        return false;
    }
    if attempt.failure.class == Class::Refused || attempt.failures >= MIN_FAILURES {
        return true;
    }
    match attempt.serves {
        None => attempt.pause > SHORT_WAIT,
        Some((lifetime, left)) => {
            let pause = SignedDuration::try_from(attempt.pause).unwrap_or(SignedDuration::MAX);
            left < lifetime / 6 || pause > left / 2
        }
    }
}

/// The lifetime of a certificate and what is left of it, when it is good now.
pub fn serves(
    not_before: Option<Timestamp>,
    not_after: Option<Timestamp>,
    now: Timestamp,
) -> Option<(SignedDuration, SignedDuration)> {
    let (start, end) = (not_before?, not_after?);
    (end > now).then(|| (end.duration_since(start), end.duration_since(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_secs(86_400);

    #[allow(clippy::unnecessary_wraps, reason = "as the input has it")]
    fn days(left: i64) -> Option<(SignedDuration, SignedDuration)> {
        Some((
            SignedDuration::from_hours(90 * 24),
            SignedDuration::from_hours(left * 24),
        ))
    }

    #[test]
    fn a_fallback_is_for_a_ca_that_cannot() {
        let away = Class::Away(MINUTE);
        // The case; the failure; failures in a row; days left of 90; the pause; whether the next issuer is asked.
        let table = [
            ("a timeout, plenty of time", away, "Network", 1, days(30), MINUTE, false),
            ("a 503 with Retry-After: 1", away, "Network", 1, days(30), SECOND, false),
            ("the second of them", away, "Network", 2, days(30), MINUTE, false),
            ("the third", away, "Network", 3, days(30), MINUTE, true),
            ("a refusal", Class::Refused, "Rejected", 1, days(30), MINUTE, true),
            ("little time", away, "Network", 1, days(14), MINUTE, true),
            ("just enough time", away, "Network", 1, days(15), MINUTE, false),
            (
                "a limit for an hour",
                Class::RetryAfter(DAY / 24),
                "RateLimited",
                1,
                days(30),
                DAY / 24,
                false,
            ),
            (
                "a limit for a week",
                Class::RetryAfter(DAY * 7),
                "RateLimited",
                1,
                days(30),
                DAY * 7,
                false,
            ),
            (
                "a limit for too long",
                Class::RetryAfter(DAY * 16),
                "RateLimited",
                1,
                days(30),
                DAY * 16,
                true,
            ),
            (
                "others met it",
                Class::Held(MINUTE),
                "Network",
                1,
                days(30),
                MINUTE,
                false,
            ),
            (
                "others met it thrice",
                Class::Held(MINUTE),
                "Network",
                3,
                days(30),
                MINUTE,
                true,
            ),
            ("none serves", away, "Network", 1, None, MINUTE, true),
            ("none serves, back in a moment", away, "Network", 1, None, SECOND, false),
            ("none serves, thrice a moment", away, "Network", 3, None, SECOND, true),
            (
                "an issuer not ready",
                Class::Waiting(MINUTE),
                "IssuerNotReady",
                1,
                days(30),
                MINUTE,
                false,
            ),
            (
                "none serves, not ready",
                Class::Waiting(MINUTE),
                "IssuerNotReady",
                1,
                None,
                MINUTE,
                true,
            ),
            ("the spec", Class::Spec, "Invalid", 9, None, DAY, false),
            (
                "our Secret",
                Class::Waiting(MINUTE),
                "SecretConflict",
                9,
                None,
                DAY,
                false,
            ),
        ];
        for (case, class, reason, failures, serves, pause, expected) in table {
            let failure = Failure::new(class, reason, "no");
            let attempt = Attempt {
                failure: &failure,
                failures,
                serves,
                pause,
            };
            assert_eq!(is_due(&attempt), expected, "{case}");
        }
    }

    #[test]
    fn a_certificate_that_has_run_out_serves_nobody() {
        let at = |second| Timestamp::from_second(second).ok();
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(serves(at(-10), at(0), now), None);
        assert_eq!(serves(None, at(10), now), None);
        let lived = SignedDuration::from_secs(20);
        assert_eq!(serves(at(-10), at(10), now), Some((lived, lived / 2)));
    }
}
