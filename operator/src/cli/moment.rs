//! Times as people say them: `in 62d`, `3h ago`.

use jiff::{SignedDuration, Timestamp};

/// The time as the API writes it, in whole seconds.
pub(super) fn stamp(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// `in 62d`, `3h ago`, `now`.
pub(super) fn relative(at: Timestamp, now: Timestamp) -> String {
    let ahead = at.as_second().saturating_sub(now.as_second());
    match ahead {
        0 => "now".to_owned(),
        1.. => format!("in {}", span(SignedDuration::from_secs(ahead))),
        _ => format!("{} ago", span(SignedDuration::from_secs(ahead.saturating_neg()))),
    }
}

/// `2026-11-21T12:00:00Z (in 62d)`.
pub(super) fn both(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", stamp(at), relative(at, now))
}

/// Rounded down to the unit of which there are at least two: `45s`, `90m`, `30h`, `62d`.
pub(super) fn span(span: SignedDuration) -> String {
    let seconds = span.as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if days >= 2 {
        format!("{days}d")
    } else if hours >= 2 {
        format!("{hours}h")
    } else if minutes >= 2 {
        format!("{minutes}m")
    } else {
        format!("{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_time_is_said_in_the_largest_unit_of_which_there_are_two() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (seconds, words) in [
            (0, "now"),
            (1, "in 1s"),
            (119, "in 119s"),
            (120, "in 2m"),
            (7_199, "in 119m"),
            (7_200, "in 2h"),
            (172_799, "in 47h"),
            (172_800, "in 2d"),
            (-59, "59s ago"),
            (-400 * 86_400, "400d ago"),
        ] {
            let at = now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
            assert_eq!(relative(at, now), words);
        }
        assert_eq!(both(now, now), "2026-01-01T00:00:00Z (now)");
    }

    #[test]
    fn the_ends_of_time_are_no_trouble() {
        assert_eq!(relative(Timestamp::MAX, Timestamp::MIN), "in 7304481d");
        assert_eq!(relative(Timestamp::MIN, Timestamp::MAX), "7304481d ago");
    }
}
