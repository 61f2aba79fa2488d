//! Reads how long a server asks us to wait.

use std::time::Duration;

use http::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// Longest wait that is accepted from a server: longer ones make no sense, and sums cannot overflow.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(30 * 24);

/// RFC 9110 §10.2.3: seconds or a date. A date is measured against the server's own `Date`, so that
/// a clock that is wrong on either side does not matter; `now` is used where there is none.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = text(headers, &RETRY_AFTER)?;
    let wait = if let Ok(seconds) = value.parse::<u64>() {
        Duration::from_secs(seconds)
    } else {
        let parser = DateTimeParser::new();
        let until = parser.parse_timestamp(value).ok()?;
        let from = text(headers, &DATE)
            .and_then(|date| parser.parse_timestamp(date).ok())
            .unwrap_or(now);
        // A moment that is past means now.
        Duration::try_from(until.duration_since(from)).unwrap_or(Duration::ZERO)
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date_by_the_servers_clock() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let late = "Sat, 21 Nov 2026 10:02:00 GMT";
        let table = [
            (vec![("retry-after", "120")], Some(120)),
            (vec![("retry-after", " 0 ")], Some(0)),
            (vec![("retry-after", late)], Some(120)),
            (
                vec![("retry-after", late), ("date", "Sat, 21 Nov 2026 10:01:30 GMT")],
                Some(30),
            ),
            (vec![("retry-after", "Sat, 21 Nov 2026 09:00:00 GMT")], Some(0)),
            (vec![("retry-after", "99999999999")], Some(30 * 24 * 3600)),
            (vec![("retry-after", "soon")], None),
            (vec![("retry-after", "-5")], None),
            (vec![], None),
        ];
        for (pairs, expected) in table {
            let got = retry_after(&headers(&pairs), now);
            assert_eq!(got, expected.map(Duration::from_secs), "{pairs:?}");
        }
    }
}
