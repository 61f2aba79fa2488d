//! Answers `GET /.well-known/acme-challenge/<token>`.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
};

use axum::{
    Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, StatusCode, header, uri::Authority};

use super::super::{Challenge, Identifier};

/// Key authorizations by identifier and token: a CA of one tenant's that hands out another's token changes nothing
/// for another host.
#[derive(Debug, Default)]
pub struct Answers(RwLock<HashMap<(Identifier, String), String>>);

impl Answers {
    pub(super) fn put(&self, challenge: &Challenge) {
        let key = (challenge.identifier.clone(), challenge.token.clone());
        let mut answers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // The first has the token: the CA of another tenant, which repeats it for the same host, takes nothing away.
        answers
            .entry(key)
            .or_insert_with(|| challenge.key_authorization.clone());
    }

    pub(super) fn remove(&self, challenge: &Challenge) {
        let key = (challenge.identifier.clone(), challenge.token.clone());
        let mut answers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if answers.get(&key) == Some(&challenge.key_authorization) {
            answers.remove(&key);
        }
    }

    /// Only for the host that is being proved: another site behind the same ingress controller is not an oracle.
    fn get(&self, host: &Identifier, token: &str) -> Option<String> {
        let answers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        answers.get(&(host.clone(), token.to_owned())).cloned()
    }
}

/// The responder, to be served on the address that the `EndpointSlice` names.
pub fn router(answers: Arc<Answers>) -> Router {
    Router::new()
        .route("/.well-known/acme-challenge/{token}", get(answer))
        .with_state(answers)
}

async fn answer(State(answers): State<Arc<Answers>>, Path(token): Path<String>, headers: HeaderMap) -> Response {
    match host(&headers).and_then(|host| answers.get(&host, &token)) {
        Some(answer) => ([(header::CONTENT_TYPE, "application/octet-stream")], answer).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The host of the request, without its port.
fn host(headers: &HeaderMap) -> Option<Identifier> {
    let authority: Authority = headers.get(header::HOST)?.to_str().ok()?.parse().ok()?;
    let host = authority.host();
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => Some(Identifier::Ip(address)),
        Err(_) => Some(Identifier::Dns(host.trim_end_matches('.').to_ascii_lowercase())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use tower::Service;

    use super::{super::super::ChallengeKind, *};

    fn challenge(identifier: Identifier, token: &str) -> Challenge {
        Challenge {
            kind: ChallengeKind::Http01,
            identifier,
            wildcard: false,
            token: token.into(),
            key_authorization: format!("{token}.thumbprint"),
            dns_value: String::new(),
        }
    }

    async fn fetch(answers: &Arc<Answers>, host: &str, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).header("host", host).body(Body::empty()).unwrap();
        let response = router(answers.clone()).call(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_token_is_answered_for_its_host_only_and_until_it_is_removed() {
        let answers = Arc::new(Answers::default());
        answers.put(&challenge(Identifier::Dns("a.test".into()), "tok1"));
        answers.put(&challenge(Identifier::Ip("192.0.2.7".parse().unwrap()), "tok2"));
        answers.put(&challenge(Identifier::Ip("2001:db8::7".parse().unwrap()), "tok3"));
        let found = |token: &str| (StatusCode::OK, format!("{token}.thumbprint"));
        let missing = (StatusCode::NOT_FOUND, String::new());
        for (host, token, expected) in [
            ("a.test", "tok1", found("tok1")),
            ("A.Test:80", "tok1", found("tok1")),
            ("a.test.", "tok1", found("tok1")),
            ("192.0.2.7", "tok2", found("tok2")),
            ("[2001:db8::7]:80", "tok3", found("tok3")),
            ("b.test", "tok1", missing.clone()),
            ("192.0.2.8", "tok2", missing.clone()),
            ("a.test", "tok2", missing.clone()),
            ("a.test", "other", missing.clone()),
            ("a b", "tok1", missing.clone()),
        ] {
            let path = format!("/.well-known/acme-challenge/{token}");
            assert_eq!(fetch(&answers, host, &path).await, expected, "{host} {token}");
        }
        assert_eq!(fetch(&answers, "a.test", "/").await.0, StatusCode::NOT_FOUND);
        // Another tenant's CA gives out the same token for another host.
        let path = "/.well-known/acme-challenge/tok1";
        let other = challenge(Identifier::Dns("evil.test".into()), "tok1");
        answers.put(&other);
        assert_eq!(fetch(&answers, "a.test", path).await, found("tok1"));
        answers.remove(&other);
        assert_eq!(fetch(&answers, "a.test", path).await, found("tok1"));
        // And for the same host, with the tenant's own account.
        let mut same = challenge(Identifier::Dns("a.test".into()), "tok1");
        same.key_authorization = "tok1.evil".into();
        answers.put(&same);
        assert_eq!(fetch(&answers, "a.test", path).await, found("tok1"));
        answers.remove(&same);
        assert_eq!(fetch(&answers, "a.test", path).await, found("tok1"));
        answers.remove(&challenge(Identifier::Dns("a.test".into()), "tok1"));
        assert_eq!(fetch(&answers, "a.test", path).await, missing);
    }
}
