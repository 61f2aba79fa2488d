//! When a certificate is due.

use std::time::Duration;

use gatehouse_crds::certificate::{AriStatus, Certificate, CertificateSpec, CertificateStatus};
use jiff::{SignedDuration, Timestamp};

use crate::{clock, kubernetes::names};

/// Lifetimes below this are renewed at their half instead of their last third (Let's Encrypt's
/// advice for short-lived certificates).
const SHORT: i64 = 10 * 86_400;

/// CAs set notBefore back, for peers whose clocks are behind: Let's Encrypt by an hour. More than this is no allowance for clocks.
const BACKDATED: SignedDuration = SignedDuration::from_hours(24);

/// From when the lifetime counts: the issue, or notBefore where it is not known when that was.
pub fn start(not_before: Timestamp, not_after: Timestamp, issued_at: Option<Timestamp>) -> Timestamp {
    issued_at
        .filter(|issued| *issued < not_after && issued.duration_since(not_before) <= BACKDATED)
        .map_or(not_before, |issued| issued.max(not_before))
}

/// As [`start`], of the certificate that a status speaks of.
pub fn start_of(status: &CertificateStatus) -> Option<Timestamp> {
    Some(start(status.not_before?, status.not_after?, status.issued_at))
}

/// When a certificate whose lifetime is from `start` to `not_after` is to be renewed by the clock alone.
///
/// `renewBefore`, or its share of the lifetime, if it leaves at least something of the lifetime;
/// else a third of the lifetime before the end, half if the lifetime is below 10 days. `seed`
/// brings it forward by up to a twentieth of that span, so that certificates issued in one second
/// are not renewed in one second.
pub fn renewal_time(start: Timestamp, not_after: Timestamp, spec: &CertificateSpec, seed: u64) -> Timestamp {
    let lifetime = not_after.duration_since(start).as_millis().max(0);
    let asked = spec
        .renew_before
        .as_ref()
        .map(|before| i128::try_from(before.value().as_millis()).unwrap_or(i128::MAX))
        .or_else(|| {
            spec.renew_before_percentage
                .map(|share| lifetime * i128::from(share) / 100)
        })
        // The issuer may have given less than requested: renewing at once, forever, does not help.
        .filter(|before| *before < lifetime);
    let before = asked.unwrap_or(if lifetime < i128::from(SHORT) * 1000 {
        lifetime / 2
    } else {
        lifetime / 3
    });
    let spread = (before / 20).min(lifetime - before).max(1);
    let before = before + i128::from(seed) % spread;
    let before = Duration::from_millis(u64::try_from(before).unwrap_or_default());
    whole_seconds(not_after.checked_sub(before).unwrap_or(start))
}

/// No renewal by the clock comes sooner after the issue: a twentieth of the time that was left then.
///
/// A `renewBefore` of nearly the whole lifetime, or one that a CA shortens by backdating, would
/// otherwise renew as fast as the CA can sign.
pub fn soonest(issued_at: Timestamp, not_after: Timestamp) -> Timestamp {
    let left = not_after.duration_since(issued_at).max(SignedDuration::ZERO);
    whole_seconds(issued_at.checked_add(left / 20).unwrap_or(issued_at))
}

/// The moment at which the CA would like the renewal, if it said so: a stable random one in its window
/// (RFC 9773 section 4.2). Whether it is followed says [`follows_advice`].
pub fn advised_time(ari: &AriStatus, seed: u64) -> Option<Timestamp> {
    let (start, end) = (ari.window_start?, ari.window_end?);
    let span = u64::try_from(end.duration_since(start).as_millis())
        .ok()
        .filter(|span| *span > 0)?;
    start
        .checked_add(Duration::from_millis(seed % span))
        .ok()
        .map(whole_seconds)
}

/// Returns whether advice is followed. Not while the present certificate was itself issued by such advice and is not half through its
/// life: a CA that always says "now" must not be able to make us renew without end.
pub fn follows_advice(by_advice: bool, not_before: Timestamp, not_after: Timestamp, now: Timestamp) -> bool {
    let half = SignedDuration::from_millis(
        i64::try_from(not_after.duration_since(not_before).as_millis() / 2).unwrap_or(i64::MAX),
    );
    !by_advice || now.duration_since(not_before) >= half
}

/// Whether the CA took back what it had advised for this certificate: its window was ahead, and now lies wholly in the past. So
/// does a CA that revokes it, and not one that always says "now".
pub fn is_recalled(before: &AriStatus, advice: &AriStatus, now: Timestamp) -> bool {
    before.window_start.is_some_and(|start| start > now) && advice.window_end.is_some_and(|end| end <= now)
}

/// When the certificate that the status speaks of was issued: by the clock of then, or by the CA's if that was ahead.
pub fn issued_at(status: &CertificateStatus, now: Timestamp) -> Option<Timestamp> {
    clock::past(status.issued_at, now).or_else(|| status.issued_at.and(clock::past(status.not_before, now)))
}

/// The owner's request for a renewal. One whose time is yet to come is due then, not before.
pub fn requested(certificate: &Certificate) -> Option<Timestamp> {
    let notes = certificate.metadata.annotations.as_ref()?;
    notes.get(names::RENEW_REQUESTED_AT)?.parse().ok()
}

/// Status times have whole seconds.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The next whole second: for times before which nothing may happen.
pub fn whole_seconds_up(time: Timestamp) -> Timestamp {
    let whole = whole_seconds(time);
    if whole < time {
        whole.checked_add(Duration::from_secs(1)).unwrap_or(time)
    } else {
        whole
    }
}

/// A number that is always the same for the same texts, and otherwise as good as random.
pub fn seed(texts: &[&str]) -> u64 {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for text in texts {
        context.update(text.as_bytes());
        context.update(&[0]);
    }
    let digest = context.finish();
    digest
        .as_ref()
        .iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn spec(more: &str) -> CertificateSpec {
        serde_saphyr::from_str(&format!(
            "secretName: a\nissuerRef: {{name: ca}}\ndnsNames: [a]\n{more}"
        ))
        .unwrap()
    }

    fn due(days: i64, more: &str) -> f64 {
        let start = at("2026-01-01T00:00:00Z");
        let end = start.checked_add(SignedDuration::from_hours(days * 24)).unwrap();
        end.duration_since(renewal_time(start, end, &spec(more), 0))
            .as_secs_f64()
            / 86_400.0
    }

    #[test]
    fn the_last_third_or_half_of_a_short_life() {
        for (days, more, before) in [
            (90, "", 30.0),
            (45, "", 15.0),
            (10, "", 10.0 / 3.0),
            (6, "", 3.0),
            (90, "renewBefore: 240h", 10.0),
            (90, "renewBeforePercentage: 20", 18.0),
            // More than there is: the default, not an endless renewal.
            (90, "renewBefore: 2400h", 30.0),
            (6, "renewBefore: 360h", 3.0),
        ] {
            assert!(
                (due(days, more) - before).abs() < 0.001,
                "{days} d {more}: {}",
                due(days, more)
            );
        }
    }

    #[test]
    fn the_lifetime_counts_from_the_issue_and_not_from_a_notbefore_that_was_set_back() {
        let issued = at("2026-01-01T00:00:00Z");
        let back = |by: i64| issued.checked_sub(SignedDuration::from_secs(by)).unwrap();
        let end = |after: i64| issued.checked_add(SignedDuration::from_secs(after)).unwrap();
        for (not_before, not_after, known, expected) in [
            (back(60), end(30), Some(issued), issued),
            (back(3_600), end(86_400), Some(issued), issued),
            (back(60), end(30), None, back(60)),
            // Taken over long after it was issued.
            (back(30 * 86_400), end(86_400), Some(issued), back(30 * 86_400)),
            // A clock that was turned, or a status of another certificate.
            (issued, end(30), Some(back(60)), issued),
            (back(60), end(30), Some(end(31)), back(60)),
        ] {
            assert_eq!(start(not_before, not_after, known), expected, "{not_before} {known:?}");
        }
        // A certificate for 30 s is renewed at half of those, whatever its notBefore is.
        let time = renewal_time(
            start(back(60), end(30), Some(issued)),
            end(30),
            &spec("duration: 30s"),
            0,
        );
        assert_eq!(time, end(15));
        let share = renewal_time(
            start(back(60), end(100), Some(issued)),
            end(100),
            &spec("renewBeforePercentage: 20"),
            0,
        );
        assert_eq!(share, end(80));
    }

    #[test]
    fn no_renewal_follows_straight_on_the_issue() {
        let (issued, end) = (at("2026-01-01T01:00:00Z"), at("2026-01-01T02:00:00Z"));
        assert_eq!(soonest(issued, end), at("2026-01-01T01:03:00Z"));
        assert_eq!(soonest(end, issued), end);
    }

    fn window(start: &str, end: &str) -> AriStatus {
        AriStatus {
            window_start: Some(at(start)),
            window_end: Some(at(end)),
            ..AriStatus::default()
        }
    }

    #[test]
    fn advice_is_a_stable_moment_in_the_window() {
        let ari = window("2026-02-01T00:00:00Z", "2026-02-03T00:00:00Z");
        let first = advised_time(&ari, 12_345_678).unwrap();
        assert_eq!(advised_time(&ari, 12_345_678), Some(first));
        assert!(ari.window_start.unwrap() <= first && first < ari.window_end.unwrap());
    }

    #[test]
    fn advice_twice_in_half_a_life_is_not_followed() {
        let (start, end) = (at("2026-01-01T00:00:00Z"), at("2026-01-11T00:00:00Z"));
        assert!(!follows_advice(true, start, end, at("2026-01-05T23:00:00Z")));
        assert!(follows_advice(true, start, end, at("2026-01-06T00:00:00Z")));
        assert!(follows_advice(false, start, end, at("2026-01-01T02:00:00Z")));
    }

    #[test]
    fn a_window_that_was_ahead_and_is_past_is_news_and_one_that_was_always_past_is_not() {
        let now = at("2026-01-05T00:00:00Z");
        let ahead = window("2026-01-08T00:00:00Z", "2026-01-09T00:00:00Z");
        let nearer = window("2026-01-06T00:00:00Z", "2026-01-07T00:00:00Z");
        let current = window("2026-01-04T00:00:00Z", "2026-01-06T00:00:00Z");
        let past = window("2026-01-04T22:00:00Z", "2026-01-04T23:00:00Z");
        assert!(is_recalled(&ahead, &past, now));
        for (before, advice) in [
            (&past, &past),
            (&current, &past),
            (&AriStatus::default(), &past),
            (&ahead, &nearer),
            (&ahead, &current),
            (&ahead, &AriStatus::default()),
        ] {
            assert!(!is_recalled(before, advice, now), "{before:?} {advice:?}");
        }
    }

    #[test]
    fn an_empty_or_turned_window_is_no_advice() {
        let (a, b) = (at("2026-01-01T00:00:00Z"), at("2026-01-11T00:00:00Z"));
        for (start, end) in [(Some(b), Some(a)), (Some(a), Some(a)), (None, Some(a)), (Some(a), None)] {
            let ari = AriStatus {
                window_start: start,
                window_end: end,
                ..AriStatus::default()
            };
            assert_eq!(advised_time(&ari, 7), None);
        }
    }

    proptest! {
        #[test]
        fn renewal_falls_within_the_life(life in 30i64..100_000_000, share in 1i32..99, seed: u64) {
            let start = at("2026-01-01T00:00:00Z");
            let end = start.checked_add(SignedDuration::from_secs(life)).unwrap();
            for more in [String::new(), format!("renewBeforePercentage: {share}"), "renewBefore: 720h".into()] {
                let time = renewal_time(start, end, &spec(&more), seed);
                prop_assert!(start <= time && time < end, "{more}: {time}");
            }
        }
    }
}
