//! Compares an issued certificate with the spec: what a CA added, left out or chose otherwise.

use std::time::Duration;

use gatehouse_crds::certificate::CertificateSpec;
use jiff::{SignedDuration, Timestamp};

use super::desired::DesiredCertificate;
use crate::{egress::printable, pki};

/// Differences that are listed; the others are counted.
const MAX_DIFFERENCES: usize = 10;
/// Characters of one difference: a CA chooses how long its names are.
const MAX_CHARACTERS: usize = 300;
/// Differences up to this part of the lifetime come from clocks and backdating.
const TOLERANCE: i32 = 20;

/// Returns the differences, for users. `issued_at` is when the certificate was issued: a CA may count the lifetime
/// from then, or from a `notBefore` that it put back.
pub fn differences(
    leaf: &pki::Certificate,
    desired: &DesiredCertificate,
    spec: &CertificateSpec,
    issued_at: Timestamp,
) -> Vec<String> {
    let deviations = leaf.deviations(&desired.request, !spec.usages.is_empty());
    let validity = (leaf.not_before, leaf.not_after);
    let mut all: Vec<String> = desired
        .duration
        .and_then(|asked| lifetime(validity, asked, issued_at))
        .into_iter()
        .chain(deviations.iter().map(ToString::to_string))
        .map(|difference| printable(&difference, MAX_CHARACTERS))
        .collect();
    let more = all.len().saturating_sub(MAX_DIFFERENCES);
    all.truncate(MAX_DIFFERENCES);
    if more > 0 {
        all.push(format!("and {more} more"));
    }
    all
}

/// Returns how the lifetime differs from `asked`, the spec's duration, if it does.
pub fn lifetime(
    (not_before, not_after): (Timestamp, Timestamp),
    asked: Duration,
    issued_at: Timestamp,
) -> Option<String> {
    let asked = SignedDuration::try_from(asked).ok()?;
    let given = not_after.duration_since(not_before);
    let left = not_after.duration_since(issued_at);
    let tolerance = (asked / TOLERANCE).max(SignedDuration::from_secs(2));
    let is_close = |span: SignedDuration| {
        span.checked_sub(asked)
            .is_some_and(|difference| difference.abs() <= tolerance)
    };
    (!is_close(given) && !is_close(left)).then(|| {
        format!(
            "the lifetime is {}, spec.duration is {}",
            in_words(not_after.duration_since(super::renewal::start(not_before, not_after, Some(issued_at)))),
            in_words(asked)
        )
    })
}

/// `2160h`, `1h30m`, `90s`, as `spec.duration` is written.
fn in_words(span: SignedDuration) -> String {
    let seconds = (span.as_secs() + i64::from(span.subsec_nanos() > 0)).max(0);
    // Many CAs count the last second: 89d23h59m59s are 90 days.
    let seconds = if seconds % 60 == 59 { seconds + 1 } else { seconds };
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let parts: Vec<_> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if parts.is_empty() {
        "0s".to_owned()
    } else {
        parts.concat()
    }
}

#[cfg(test)]
#[path = "differences_tests.rs"]
mod tests;
