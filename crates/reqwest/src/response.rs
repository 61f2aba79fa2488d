//! Answers, as dns-update reads them.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use super::Error;

/// A whole answer.
#[derive(Debug)]
pub struct Response(http::Response<Bytes>);

impl Response {
    pub(super) const fn new(response: http::Response<Bytes>) -> Self {
        Self(response)
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    /// The body as text; bytes that are not UTF-8 are replaced.
    #[allow(clippy::unused_async, reason = "reqwest's is")]
    pub async fn text(self) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(self.0.body()).into_owned())
    }

    /// The body as JSON.
    #[allow(clippy::unused_async, reason = "reqwest's is")]
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        // serde's own message would quote the value that it stumbled over.
        serde_json::from_slice(self.0.body()).map_err(|error| {
            Error::Decode(format!(
                "HTTP {}, no JSON of the expected form (line {}, column {})",
                self.0.status().as_u16(),
                error.line(),
                error.column()
            ))
        })
    }
}
