//! The transport of instant-acme: what it hides is recorded here, and what it cannot read never reaches it.
//!
//! - `HEAD newNonce` is answered from the pool of nonces that all orders at the server share; the nonces of answers go there.
//! - The directory is answered from the one that the client keeps.
//! - An answer that is not 2xx becomes our error, a refused nonce excepted, which instant-acme replaces itself.
//! - Every other answer is read by [`objects`] first, and handed on in the plain form.
//! - What the caller knows already is not asked for: see [`recall`].

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{LOCATION, RETRY_AFTER};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error};
use serde_json::{Value, json};

use super::ari;
use super::client::AcmeClient;
use super::directory::Directory;
use super::error::AcmeError;
use super::http::{Answer, Endpoint, Outgoing};
use super::key::AccountKey;
use super::objects::{self, RawOrder};
use super::signed::{NONCE_ATTEMPTS, sign_again};

/// Number of attempts that instant-acme makes after bad nonces.
const CRATE_ATTEMPTS: u32 = 3;

tokio::task_local! {
    /// Purpose of the request that instant-acme is about to make.
    static STEP: Arc<Step>;
}

/// One call of instant-acme.
pub(super) struct Step {
    endpoint: Endpoint,
    /// Certificate that the order replaces.
    replaces: Option<String>,
    /// The URL and key of an authorization.
    authorization: Option<(String, Arc<AccountKey>)>,
    /// The answer, when it is known beforehand.
    known: Option<Value>,
    answer: Mutex<Option<Answer>>,
}

impl Step {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            replaces: None,
            authorization: None,
            known: None,
            answer: Mutex::default(),
        }
    }

    pub(super) fn replacing(self, replaces: Option<String>) -> Self {
        Self { replaces, ..self }
    }

    pub(super) fn authorization(url: &str, key: Arc<AccountKey>) -> Self {
        Self {
            authorization: Some((url.to_owned(), key)),
            ..Self::new(Endpoint::Authz)
        }
    }

    fn record(&self, answer: Option<Answer>) -> Option<Answer> {
        std::mem::replace(&mut self.answer.lock().unwrap_or_else(PoisonError::into_inner), answer)
    }

    /// Content for instant-acme in place of an answer's body.
    fn plain(&self, answer: &Answer) -> Result<Vec<u8>, AcmeError> {
        let value = match self.endpoint {
            Endpoint::NewOrder | Endpoint::Order | Endpoint::Finalize => {
                RawOrder::read(answer)?.normal(self.replaces.as_deref())
            }
            Endpoint::Authz => match &self.authorization {
                Some((url, key)) => objects::normal_authorization(&objects::authorization(answer, url, key)?),
                None => Value::Null,
            },
            Endpoint::Challenge => objects::normal_challenge(answer),
            Endpoint::Account => objects::account(answer)?,
            Endpoint::RenewalInfo => ari::normal(answer)?,
            Endpoint::Certificate => return objects::chain(answer).map(String::into_bytes),
            Endpoint::Directory | Endpoint::NewNonce | Endpoint::NewAccount | Endpoint::KeyChange => Value::Null,
        };
        Ok(value.to_string().into_bytes())
    }
}

/// Takes a step with instant-acme, and gives its result with the answer that it is from.
///
/// instant-acme gives up with the third refused nonce in a row. That is not the end: the call is made again, which is why
/// this is no function.
macro_rules! take {
    ($step:expr, $call:expr) => {{
        let mut attempts = $crate::transport::Attempts::new($step);
        loop {
            if let Some(result) = attempts.once($call).await {
                break result;
            }
        }
    }};
}
pub(super) use take;

/// The calls of one [`take`].
pub(super) struct Attempts {
    step: Arc<Step>,
    refused: u32,
}

impl Attempts {
    pub(super) fn new(step: Step) -> Self {
        Self {
            step: Arc::new(step),
            refused: 0,
        }
    }

    /// Returns `None` when the call is to be made again.
    pub(super) async fn once<T>(
        &mut self,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Option<Result<(T, Answer), AcmeError>> {
        match STEP.scope(self.step.clone(), call).await.map_err(typed) {
            Ok(value) => {
                let answer = self.step.record(None).ok_or_else(|| unexpected("made no request"));
                Some(answer.map(|answer| (value, answer)))
            }
            Err(AcmeError::BadNonce { attempts }) => {
                self.refused += attempts;
                let attempts = self.refused;
                (attempts >= NONCE_ATTEMPTS).then_some(Err(AcmeError::BadNonce { attempts }))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// Makes instant-acme know what we know already: it asks, and `known` is the answer. No request is made.
pub(super) async fn recall<T>(known: Value, call: impl Future<Output = Result<T, Error>>) -> Result<T, AcmeError> {
    let step = Step {
        known: Some(known),
        ..Step::new(Endpoint::Order)
    };
    STEP.scope(Arc::new(step), call).await.map_err(typed)
}

fn typed(error: Error) -> AcmeError {
    match error {
        Error::Other(inner) => match inner.downcast::<AcmeError>() {
            Ok(error) => *error,
            Err(other) => unexpected(&other.to_string()),
        },
        // The only answer beside 2xx that it gets to see.
        Error::Api(_) => AcmeError::BadNonce {
            attempts: CRATE_ATTEMPTS,
        },
        other => unexpected(&other.to_string()),
    }
}

fn unexpected(what: &str) -> AcmeError {
    AcmeError::Invalid(format!("instant-acme: {what}"))
}

/// The transport of one account.
pub(super) struct Transport {
    pub(super) client: Arc<AcmeClient>,
    pub(super) directory: Arc<Directory>,
    /// The account's key, where instant-acme has a substitute.
    pub(super) key: Option<Arc<AccountKey>>,
}

impl instant_acme::HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let step = STEP.try_with(Clone::clone).ok();
        let Self { client, directory, key } = self;
        let (client, directory, key) = (client.clone(), directory.clone(), key.clone());
        Box::pin(async move {
            let response = match step {
                Some(step) => exchange(&client, key.as_deref(), &step, request).await,
                // An account is being put together.
                None => respond(Response::builder(), directory.normal().to_string().into()),
            };
            response.map_err(|error| Error::Other(Box::new(error)))
        })
    }
}

async fn exchange(
    client: &AcmeClient,
    key: Option<&AccountKey>,
    step: &Step,
    request: Request<BodyWrapper<Bytes>>,
) -> Result<BytesResponse, AcmeError> {
    let (parts, body) = request.into_parts();
    if parts.method == Method::HEAD {
        let nonce = match step.known {
            Some(_) => "unused".to_owned(),
            None => client.nonce().await?,
        };
        return respond(Response::builder().header("replay-nonce", nonce), Bytes::new());
    }
    if let Some(known) = &step.known {
        return respond(Response::builder(), known.to_string().into());
    }
    let url = parts.uri.to_string();
    let outgoing = if parts.method == Method::POST {
        let body = body.collect().await.map(http_body_util::Collected::to_bytes);
        let signed = body.unwrap_or_default();
        let signed = match key {
            Some(key) => sign_again(&signed, key)?,
            None => signed.to_vec(),
        };
        Outgoing::post(&url, step.endpoint, signed)
    } else {
        Outgoing::get(&url, step.endpoint)
    };
    let answer = client.send(outgoing).await?;
    if !answer.is_success() {
        return match AcmeError::from_answer(&answer, step.endpoint.is_of_order()) {
            AcmeError::BadNonce { .. } => {
                let problem = json!({"type": "urn:ietf:params:acme:error:badNonce"});
                respond(Response::builder().status(400), problem.to_string().into())
            }
            error => Err(error),
        };
    }
    let body = step.plain(&answer)?;
    let mut response = Response::builder();
    if let Some(location) = &answer.location {
        response = response.header(LOCATION, location);
    }
    // instant-acme requires it, and servers need not send it (RFC 9773 §4.3); the time is read from the answer.
    response = response.header(RETRY_AFTER, answer.retry_after.unwrap_or_default().as_secs());
    step.record(Some(answer));
    respond(response, body.into())
}

fn respond(builder: http::response::Builder, body: Bytes) -> Result<BytesResponse, AcmeError> {
    let response = builder.body(Full::new(body));
    response
        .map(BytesResponse::from)
        .map_err(|error| unexpected(&error.to_string()))
}
