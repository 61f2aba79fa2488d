//! Problem documents (RFC 7807, RFC 8555 §6.7).

use std::fmt;

use serde_json::{Map, Value};

use super::error::MAX_DETAIL;
use gatehouse_egress::printable;

/// The second is that of servers from before the RFC.
const URNS: [&str; 2] = ["urn:ietf:params:acme:error:", "urn:acme:error:"];

/// A problem document, its texts already cut and printable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problem {
    /// The type without `urn:ietf:params:acme:error:`, for example `rejectedIdentifier`; another
    /// URI whole; empty when there is none.
    pub kind: String,
    pub detail: String,
    /// Problems of single identifiers (§6.7.1).
    pub subproblems: Vec<Subproblem>,
}

/// One identifier's part in a [`Problem`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subproblem {
    /// The name or address, empty when the server names none.
    pub identifier: String,
    pub kind: String,
    pub detail: String,
}

/// The terms of service changed, or a user has to do something else at the CA (RFC 8555 §7.3.3).
const USER_ACTION_REQUIRED: &str = "userActionRequired";

/// Longest shown URL of a page, in bytes: two of them leave room for the CA's text.
const MAX_PAGE: usize = 200;

/// As many as a certificate of a public CA has names.
const MAX_SUBPROBLEMS: usize = 100;

fn text(members: &Map<String, Value>, name: &str) -> Option<String> {
    members.get(name)?.as_str().map(str::to_owned)
}

fn kind(members: &Map<String, Value>) -> String {
    let urn = text(members, "type").unwrap_or_default();
    let kind = URNS.iter().find_map(|prefix| urn.strip_prefix(prefix));
    printable(kind.unwrap_or(&urn), 100)
}

fn detail(members: &Map<String, Value>) -> String {
    printable(&text(members, "detail").unwrap_or_default(), MAX_DETAIL)
}

fn subproblem(value: &Value) -> Option<Subproblem> {
    let members = value.as_object()?;
    let identifier = members.get("identifier").and_then(Value::as_object);
    let identifier = identifier.and_then(|identifier| text(identifier, "value"));
    Some(Subproblem {
        identifier: printable(&identifier.unwrap_or_default(), 255),
        kind: kind(members),
        detail: detail(members),
    })
}

impl Problem {
    /// Returns the problem in a body, or `None` when the body is none: a problem has a type or a detail.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let members = value.as_object()?;
        let is_problem = text(members, "type").is_some() || text(members, "detail").is_some();
        is_problem.then(|| Self::of(members))
    }

    /// Reads a member that says what went wrong; a server may write a mere text.
    pub(super) fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Object(members) => Some(Self::of(&members)),
            Value::String(detail) => Some(Self {
                detail: printable(&detail, MAX_DETAIL),
                ..Self::default()
            }),
            _ => None,
        }
    }

    fn of(members: &Map<String, Value>) -> Self {
        let subproblems = members.get("subproblems").and_then(Value::as_array);
        let subproblems = subproblems.into_iter().flatten().filter_map(subproblem);
        let mut problem = Self {
            kind: kind(members),
            detail: detail(members),
            subproblems: subproblems.take(MAX_SUBPROBLEMS).collect(),
        };
        if let Some(page) = text(members, "instance") {
            problem.add_page("visit", &page);
        }
        problem
    }

    /// Adds a page that a user needs to act (RFC 8555 §7.3.3). Its URL is never cut: the CA's text is.
    pub(super) fn add_page(&mut self, what: &str, url: &str) {
        let page = format!(" {}", printable(&format!("({what} {url})"), MAX_DETAIL));
        if self.kind != USER_ACTION_REQUIRED || self.detail.contains(url) || url.len() > MAX_PAGE {
            return;
        }
        // Pages that were added before stay whole, too.
        let (text, pages) = self
            .detail
            .split_at(self.detail.find(" (visit ").unwrap_or(self.detail.len()));
        let room = MAX_DETAIL.saturating_sub(pages.chars().count() + page.chars().count());
        let text: String = text.chars().take(room).collect();
        self.detail = format!("{text}{pages}{page}");
    }

    /// Whether the CA serves the account only after a user has done something there.
    pub fn requires_user_action(&self) -> bool {
        self.kind == USER_ACTION_REQUIRED
    }

    /// The CA looked for the answer to a challenge and did not find it.
    pub fn is_challenge_failure(&self) -> bool {
        let failed = |kind: &str| {
            matches!(
                kind,
                "connection" | "dns" | "incorrectResponse" | "tls" | "unauthorized"
            )
        };
        failed(&self.kind) || (self.kind == "compound" && self.subproblems.iter().any(|sub| failed(&sub.kind)))
    }

    /// See [`super::AcmeError::is_permanent_for_spec`].
    pub fn is_permanent_for_spec(&self) -> bool {
        let permanent = |kind: &str| {
            matches!(
                kind,
                "rejectedIdentifier"
                    | "unsupportedIdentifier"
                    | "badCSR"
                    | "badPublicKey"
                    | "badSignatureAlgorithm"
                    | "invalidContact"
                    | "unsupportedContact"
                    | "invalidProfile"
            )
        };
        permanent(&self.kind) || (self.kind == "compound" && self.subproblems.iter().any(|sub| permanent(&sub.kind)))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind.is_empty(), self.detail.is_empty()) {
            (false, false) => write!(f, "{}: {}", self.kind, self.detail)?,
            (false, true) => f.write_str(&self.kind)?,
            (true, false) => f.write_str(&self.detail)?,
            (true, true) => f.write_str("no reason given")?,
        }
        // The first few say what is wrong; a status is no place for a hundred.
        for sub in self.subproblems.iter().take(3) {
            write!(f, "; {}: {} ({})", sub.identifier, sub.detail, sub.kind)?;
        }
        match self.subproblems.len().saturating_sub(3) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn a_compound_problem_names_its_identifiers() {
        let problem = Problem::parse(
            br#"{"type":"urn:ietf:params:acme:error:compound","detail":"two","status":400,"subproblems":[
                {"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"no","identifier":{"type":"dns","value":"bad.example"}},
                {"type":"urn:ietf:params:acme:error:caa","detail":"never"}]}"#,
        )
        .unwrap();
        assert_eq!(
            problem.to_string(),
            "compound: two; bad.example: no (rejectedIdentifier); : never (caa)"
        );
        assert!(problem.is_permanent_for_spec());
        assert!(!problem.is_challenge_failure());
    }

    #[test]
    fn the_pages_that_a_user_needs_are_shown_whole_beside_a_long_text() {
        let words = "x".repeat(2 * MAX_DETAIL);
        let body = format!(
            r#"{{"type":"urn:ietf:params:acme:error:userActionRequired","detail":"{words}","instance":"https://ca.test/agree"}}"#
        );
        let mut problem = Problem::parse(body.as_bytes()).unwrap();
        problem.add_page("terms of service:", "https://ca.test/terms/2");
        assert!(problem.detail.contains("(visit https://ca.test/agree)"), "{problem}");
        assert!(
            problem.detail.ends_with("(terms of service: https://ca.test/terms/2)"),
            "{problem}"
        );
        assert!(problem.detail.chars().count() <= MAX_DETAIL);
        let before = problem.clone();
        problem.add_page("terms of service:", &format!("https://ca.test/{words}"));
        assert_eq!(problem, before, "one that is too long is left out");
    }

    #[test]
    fn what_is_no_problem_is_none() {
        for body in ["", "<html>", "{}", "[]", "null", r#"{"status":"valid"}"#] {
            assert_eq!(Problem::parse(body.as_bytes()), None, "{body}");
        }
    }
}
