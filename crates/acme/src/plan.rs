//! Decides the next step of an order, and when to look again: pure.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::problem::Problem;
use super::view::{AuthorizationStatus, AuthorizationView, ChallengeStatus, OrderStatus, OrderView};

/// The next move.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Some authorizations are unread: `refresh` at once.
    Fetch,
    /// Answer one challenge of each, and submit it to the CA.
    Present(Vec<&'a AuthorizationView>),
    /// The CA has the move: `refresh` after [`poll_after`].
    Poll,
    /// `finalize` with the CSR.
    Finalize,
    /// `certificate`.
    Collect,
    /// This order will never give a certificate: a new one is needed, later.
    Failed(Failure),
}

/// Why an order failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    /// Per identifier; the identifier is empty where the problem is the order's.
    pub problems: Vec<(String, Problem)>,
}

/// The sort of a [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The CA did not find the answer to a challenge.
    ChallengeFailed,
    /// The CA will not issue this.
    Rejected,
    RateLimited,
    /// The CA failed.
    ServerFailed,
    /// The order expired, or an authorization did, or was deactivated or revoked.
    Lapsed,
}

impl Failure {
    /// The stable word for conditions, events and metrics; the same words as [`super::AcmeError::reason`].
    pub fn reason(&self) -> &'static str {
        match self.kind {
            FailureKind::ChallengeFailed => "ChallengeFailed",
            FailureKind::Rejected => "Rejected",
            FailureKind::RateLimited => "RateLimited",
            FailureKind::ServerFailed => "Network",
            FailureKind::Lapsed => "OrderGone",
        }
    }

    /// See [`super::AcmeError::is_permanent_for_spec`].
    pub fn is_permanent_for_spec(&self) -> bool {
        self.problems.iter().any(|(_, problem)| problem.is_permanent_for_spec())
    }

    fn lapsed(identifier: String, what: &str) -> Self {
        let problem = Problem {
            detail: what.to_owned(),
            ..Problem::default()
        };
        Self {
            kind: FailureKind::Lapsed,
            problems: vec![(identifier, problem)],
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (identifier, problem)) in self.problems.iter().take(3).enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            if !identifier.is_empty() {
                write!(f, "{identifier}: ")?;
            }
            problem.fmt(f)?;
        }
        match self.problems.len() {
            0 => f.write_str("the CA made the order invalid and did not say why"),
            1..=3 => Ok(()),
            more => write!(f, "; and {} more", more - 3),
        }
    }
}

/// Returns the next step of an order as last read from the CA.
pub fn next_step(order: &OrderView, now: Timestamp) -> Step<'_> {
    match order.status {
        OrderStatus::Valid => return Step::Collect,
        OrderStatus::Processing => return Step::Poll,
        OrderStatus::Invalid => return Step::Failed(invalid(order)),
        OrderStatus::Pending | OrderStatus::Ready => {}
    }
    if is_past(order.expires, now) {
        return Step::Failed(Failure::lapsed(String::new(), "the order expired"));
    }
    if order.status == OrderStatus::Ready {
        return Step::Finalize;
    }
    if let Some(failure) = order.authorizations.iter().find_map(|a| lost(a, now)) {
        // One is lost, and so is the order; report all that failed, and not those that fell with them.
        let failed = invalid(order);
        let is_explained = !failed.problems.is_empty() && failure.kind != FailureKind::Lapsed;
        return Step::Failed(if is_explained { failed } else { failure });
    }
    if !order.unread.is_empty() {
        return Step::Fetch;
    }
    let pending = || {
        order
            .authorizations
            .iter()
            .filter(|authorization| authorization.status == AuthorizationStatus::Pending)
    };
    let unanswered: Vec<_> = pending().filter(|a| !a.is_answered()).collect();
    if !unanswered.is_empty() {
        return Step::Present(unanswered);
    }
    // Also when all are valid: the session makes the order ready then, unless it knows the CA to
    // be slow about it.
    Step::Poll
}

fn is_past(expires: Option<Timestamp>, now: Timestamp) -> bool {
    expires.is_some_and(|expires| expires <= now)
}

fn lost(authorization: &AuthorizationView, now: Timestamp) -> Option<Failure> {
    let lapsed = |what| Some(Failure::lapsed(authorization.name(), what));
    match authorization.status {
        AuthorizationStatus::Invalid => Some(Failure {
            kind: FailureKind::ChallengeFailed,
            problems: Vec::new(),
        }),
        AuthorizationStatus::Expired => lapsed("the authorization expired"),
        AuthorizationStatus::Deactivated => lapsed("the authorization was deactivated"),
        AuthorizationStatus::Revoked => lapsed("the authorization was revoked"),
        AuthorizationStatus::Pending if is_past(authorization.expires, now) => lapsed("the authorization expired"),
        AuthorizationStatus::Pending | AuthorizationStatus::Valid => None,
    }
}

/// Gathers what the CA says of an order that is, or is about to be, invalid.
fn invalid(order: &OrderView) -> Failure {
    let mut problems: Vec<_> = order
        .authorizations
        .iter()
        .filter(|authorization| authorization.status == AuthorizationStatus::Invalid)
        .flat_map(|authorization| {
            authorization
                .challenges
                .iter()
                .filter(|challenge| challenge.status == ChallengeStatus::Invalid)
                .filter_map(|challenge| challenge.error.clone())
                .map(|problem| (authorization.name(), problem))
        })
        .collect();
    let of_challenge = !problems.is_empty();
    if !of_challenge {
        problems.extend(order.error.clone().map(|problem| (String::new(), problem)));
    }
    let authorization_failed = order
        .authorizations
        .iter()
        .any(|authorization| authorization.status == AuthorizationStatus::Invalid);
    let kind = match problems.first().map(|(_, problem)| problem) {
        Some(problem) if problem.is_challenge_failure() => FailureKind::ChallengeFailed,
        Some(problem) => match problem.kind.as_str() {
            "rateLimited" => FailureKind::RateLimited,
            "serverInternal" => FailureKind::ServerFailed,
            _ => FailureKind::Rejected,
        },
        None if authorization_failed => FailureKind::ChallengeFailed,
        None => FailureKind::Rejected,
    };
    Failure { kind, problems }
}

/// Returns the wait before the poll number `attempt` (from 0) after a challenge or finalization.
///
/// `Retry-After` is obeyed from the third poll on. The first two come early whatever it says: most CAs are done
/// within a fraction of a second, while Pebble and others send a flat 3 s with everything.
pub fn poll_after(attempt: u32, retry_after: Option<Duration>) -> Duration {
    let ours = Duration::from_millis(match attempt {
        0 => 100,
        1 => 250,
        2 => 500,
        3 => 1_000,
        4 => 2_000,
        5..=19 => 5_000,
        // Some two minutes on: a CA that checks by hand, or one that is in trouble.
        _ => 30_000,
    });
    match retry_after {
        Some(theirs) if attempt >= 2 => ours.max(theirs),
        _ => ours,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::super::view::{ChallengeKind, ChallengeView, Identifier};
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().unwrap()
    }

    fn problem(kind: &str) -> Problem {
        Problem {
            kind: kind.to_owned(),
            ..Problem::default()
        }
    }

    fn authorization(name: &str, status: AuthorizationStatus) -> AuthorizationView {
        AuthorizationView {
            url: format!("https://ca.test/authz/{name}"),
            identifier: Identifier::Dns(name.to_owned()),
            wildcard: false,
            status,
            expires: None,
            challenges: vec![ChallengeView {
                kind: ChallengeKind::Http01,
                url: format!("https://ca.test/challenge/{name}"),
                token: "token".to_owned(),
                key_authorization: "token.thumbprint".to_owned(),
                dns_txt_value: "digest".to_owned(),
                status: match status {
                    AuthorizationStatus::Valid => ChallengeStatus::Valid,
                    AuthorizationStatus::Invalid => ChallengeStatus::Invalid,
                    _ => ChallengeStatus::Pending,
                },
                submitted: false,
                error: (status == AuthorizationStatus::Invalid).then(|| problem("dns")),
            }],
        }
    }

    fn order(status: OrderStatus, authorizations: Vec<AuthorizationView>) -> OrderView {
        OrderView {
            url: "https://ca.test/order/1".to_owned(),
            status,
            expires: None,
            replaces: None,
            not_after_refused: None,
            error: None,
            authorizations,
            unread: Vec::new(),
            polls: 0,
            retry_after: None,
        }
    }

    /// A word for a step, and for a failure its reason.
    fn word(order: &OrderView) -> String {
        match next_step(order, now()) {
            Step::Fetch => "fetch".to_owned(),
            Step::Present(all) => {
                let names: Vec<_> = all.iter().map(|a| a.name()).collect();
                format!("present {}", names.join(" "))
            }
            Step::Poll => "poll".to_owned(),
            Step::Finalize => "finalize".to_owned(),
            Step::Collect => "collect".to_owned(),
            Step::Failed(failure) => format!("{}: {failure}", failure.reason()),
        }
    }

    #[test]
    fn the_orders_status_comes_first() {
        let lost = || vec![authorization("a.test", AuthorizationStatus::Expired)];
        let table = [
            (OrderStatus::Ready, "finalize"),
            (OrderStatus::Processing, "poll"),
            (OrderStatus::Valid, "collect"),
            (
                OrderStatus::Invalid,
                "Rejected: the CA made the order invalid and did not say why",
            ),
        ];
        for (status, expected) in table {
            assert_eq!(word(&order(status, lost())), expected);
        }
    }

    #[test]
    fn a_pending_order_goes_by_its_authorizations() {
        use AuthorizationStatus::{Deactivated, Expired, Invalid, Pending, Revoked, Valid};
        let table: [(&[AuthorizationStatus], &str); 9] = [
            (&[Pending], "present a.test"),
            (&[Pending, Pending], "present a.test b.test"),
            (&[Valid, Pending], "present b.test"),
            (&[Valid, Valid], "poll"),
            (&[Valid, Invalid], "ChallengeFailed: b.test: dns"),
            (&[Pending, Invalid], "ChallengeFailed: b.test: dns"),
            (&[Expired], "OrderGone: a.test: the authorization expired"),
            (
                &[Valid, Deactivated],
                "OrderGone: b.test: the authorization was deactivated",
            ),
            (&[Revoked], "OrderGone: a.test: the authorization was revoked"),
        ];
        for (statuses, expected) in table {
            let names = ["a.test", "b.test"].into_iter();
            let all = names.zip(statuses).map(|(name, s)| authorization(name, *s));
            assert_eq!(word(&order(OrderStatus::Pending, all.collect())), expected);
        }
    }

    #[test]
    fn what_was_told_is_polled_and_only_the_rest_is_presented() {
        let pending = |name| authorization(name, AuthorizationStatus::Pending);
        let mut view = order(OrderStatus::Pending, vec![pending("a.test"), pending("b.test")]);
        view.authorizations[0].challenges[0].submitted = true;
        assert_eq!(word(&view), "present b.test");
        view.authorizations[1].challenges[0].status = ChallengeStatus::Processing;
        assert_eq!(word(&view), "poll");
        view.unread.push("https://ca.test/authz/c".to_owned());
        assert_eq!(word(&view), "fetch");
        view.authorizations[0].status = AuthorizationStatus::Revoked;
        assert_eq!(word(&view), "OrderGone: a.test: the authorization was revoked");
    }

    #[test]
    fn what_has_expired_by_the_clock_is_not_waited_for() {
        let past = Some(now());
        let mut view = order(
            OrderStatus::Pending,
            vec![authorization("a.test", AuthorizationStatus::Pending)],
        );
        view.authorizations[0].expires = past;
        assert_eq!(word(&view), "OrderGone: a.test: the authorization expired");
        for (status, expected) in [
            (OrderStatus::Pending, "OrderGone: the order expired"),
            (OrderStatus::Ready, "OrderGone: the order expired"),
            // The certificate is being issued, or exists: worth a request.
            (OrderStatus::Processing, "poll"),
            (OrderStatus::Valid, "collect"),
        ] {
            view.status = status;
            view.expires = past;
            assert_eq!(word(&view), expected);
        }
    }

    #[test]
    fn an_invalid_order_is_told_by_the_cas_own_reason() {
        let table = [
            ("caa", "Rejected: caa"),
            ("rejectedIdentifier", "Rejected: rejectedIdentifier"),
            ("unauthorized", "ChallengeFailed: unauthorized"),
            ("rateLimited", "RateLimited: rateLimited"),
            ("serverInternal", "Network: serverInternal"),
        ];
        for (kind, expected) in table {
            let mut view = order(OrderStatus::Invalid, Vec::new());
            view.error = Some(problem(kind));
            assert_eq!(word(&view), expected);
        }
    }

    #[test]
    fn polls_start_early_grow_and_then_obey_the_server() {
        let millis =
            |attempt, retry_after: Option<u64>| poll_after(attempt, retry_after.map(Duration::from_secs)).as_millis();
        let alone: Vec<_> = (0..7).map(|attempt| millis(attempt, None)).collect();
        assert_eq!(alone, [100, 250, 500, 1_000, 2_000, 5_000, 5_000]);
        assert_eq!(millis(50, None), 30_000);
        let waits: Vec<_> = (0..7).map(|attempt| millis(attempt, Some(3))).collect();
        assert_eq!(waits, [100, 250, 3_000, 3_000, 3_000, 5_000, 5_000]);
        assert_eq!(millis(2, Some(3600)), 3_600_000);
    }
}
