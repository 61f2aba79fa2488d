//! The destination of a receiver: its policy and its Secrets, read again for each delivery.
//!
//! No error holds a value of a Secret, nor the path of a URL: both may be passwords.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gatehouse_crds::alert::{Format, Webhook};
use gatehouse_crds::secret_ref::{LocalSecretRef, SecretKeySelector};
use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::sign::SigningKeys;
use crate::egress::printable;
use crate::egress::tls::{Identity, Trust};
use crate::issuer::solver::{SecretData, SecretReadError, SecretReader};

const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";
const ALERTMANAGER_PATH: &str = "/api/v2/alerts";
const ROUTING_KEY_HEADER: &str = "x-routing-key";

const TIMEOUT: Duration = Duration::from_secs(15);

/// Limit of all headers from a Secret, in bytes: as common servers accept.
const MAX_HEADERS: usize = 8 * 1024;

/// Headers that are ours, or the connection's (RFC 9110 §7.6.1).
const RESERVED: &[&str] = &[
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Why a receiver cannot be called. Names the field, the Secret and the key, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("{field}: there is no Secret {secret}")]
    SecretMissing { field: &'static str, secret: String },
    #[error("{field}: the Secret {secret} has no key {key}")]
    SecretKeyMissing {
        field: &'static str,
        secret: String,
        key: String,
    },
    /// The API server's fault, not the user's.
    #[error("{field}: the Secret {secret} cannot be read: {detail}")]
    SecretUnreadable {
        field: &'static str,
        secret: String,
        detail: String,
    },
    /// `place` is a field, with the Secret and the key where there is one.
    #[error("{place} {detail}")]
    Invalid { place: String, detail: String },
}

impl TargetError {
    /// Stable name for conditions and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::SecretMissing { .. } => "SecretMissing",
            Self::SecretKeyMissing { .. } => "SecretKeyMissing",
            Self::SecretUnreadable { .. } => "SecretUnreadable",
            Self::Invalid { .. } => "InvalidReceiver",
        }
    }
}

/// A receiver, ready to be called.
pub struct Target {
    pub(super) url: Uri,
    pub(super) format: Format,
    pub(super) signing: Option<SigningKeys>,
    pub(super) headers: HeaderMap,
    /// PagerDuty's integration key.
    pub(super) routing_key: Option<Zeroizing<String>>,
    /// `None`: the platform's roots.
    pub(super) trust: Option<Trust>,
    pub(super) identity: Option<Identity>,
    /// For one request, from the look-up of the name to the end of the answer.
    pub(super) timeout: Duration,
    /// The Secret and key that the URL came from; such a URL is never shown.
    secret_url: Option<String>,
    /// Receiver for which it was read.
    webhook: Webhook,
}

impl Target {
    /// Reads what `webhook` names. `secrets` is bound to the namespace that the policy may read.
    pub async fn read(webhook: &Webhook, secrets: &dyn SecretReader) -> Result<Self, TargetError> {
        let mut secrets = Secrets {
            reader: secrets,
            seen: BTreeMap::new(),
        };
        let format = webhook.format.unwrap_or_default();
        let (url, secret_url) = url(webhook, format, &mut secrets).await?;
        let signing = match &webhook.signing_secret_ref {
            None => None,
            Some(at) => {
                let (text, place) = secrets.text("signingSecretRef", at).await?;
                Some(SigningKeys::parse(&text).map_err(|error| invalid(place, format!("is refused: {error}")))?)
            }
        };
        let mut headers = match &webhook.headers_secret_ref {
            None => HeaderMap::new(),
            Some(at) => headers(&at.name, secrets.whole("headersSecretRef", &at.name).await?)?,
        };
        // Taken out of the headers: PagerDuty wants it in the body, and nowhere else.
        let routing_header = headers
            .remove(ROUTING_KEY_HEADER)
            .filter(|_| format == Format::PagerDuty);
        let routing_key = match (&webhook.routing_key_secret_ref, routing_header) {
            (Some(at), _) => {
                let (text, place) = secrets.text("routingKeySecretRef", at).await?;
                Some(routing_key(&text, place)?)
            }
            (None, Some(value)) => {
                let text = value.to_str().unwrap_or_default();
                Some(routing_key(text, "headersSecretRef: the key X-Routing-Key".into())?)
            }
            (None, None) if format == Format::PagerDuty => {
                let detail = "is missing: name the Secret and key with the service's integration key (Events API v2)";
                return Err(invalid("routingKeySecretRef", detail));
            }
            (None, None) => None,
        };
        let target = Self {
            url,
            format,
            signing,
            headers,
            routing_key,
            trust: webhook.ca_bundle.as_deref().map(trust).transpose()?,
            identity: match &webhook.client_certificate_ref {
                None => None,
                Some(at) => Some(identity(at, &mut secrets).await?),
            },
            timeout: webhook
                .timeout
                .as_ref()
                .map_or(TIMEOUT, gatehouse_crds::duration::Duration::value),
            secret_url,
            webhook: webhook.clone(),
        };
        if !target.is_https() && (target.trust.is_some() || target.identity.is_some()) {
            let detail = "are for https://, but the URL begins with http://: write https://, or leave them out";
            return Err(invalid("caBundle and clientCertificateRef", detail));
        }
        Ok(target)
    }

    /// Returns whether it was read for `webhook`.
    pub fn is_of(&self, webhook: &Webhook) -> bool {
        self.webhook == *webhook
    }

    /// Format of the receiver's messages.
    pub fn format(&self) -> Format {
        self.format
    }

    /// For messages: scheme and host, or where the URL is kept when it is a secret.
    pub fn name(&self) -> String {
        if let Some(place) = &self.secret_url {
            return format!("the receiver of {place}");
        }
        let (scheme, host) = (self.url.scheme_str().unwrap_or_default(), self.host());
        match self.url.port_u16() {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }
    }

    /// Whether its URL may be shown as far as [`Target::name`] does.
    pub(super) fn is_public(&self) -> bool {
        self.secret_url.is_none()
    }

    pub(super) fn host(&self) -> &str {
        self.url.host().unwrap_or_default()
    }

    pub(super) fn is_https(&self) -> bool {
        self.url.scheme_str() == Some("https")
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        f.debug_struct("Target").field("name", &name).finish_non_exhaustive()
    }
}

/// Reads each Secret once, though several fields may name it.
struct Secrets<'a> {
    reader: &'a dyn SecretReader,
    seen: BTreeMap<String, SecretData>,
}

impl Secrets<'_> {
    async fn whole(&mut self, field: &'static str, name: &str) -> Result<&SecretData, TargetError> {
        let slot = match self.seen.entry(name.to_owned()) {
            Entry::Occupied(slot) => return Ok(slot.into_mut()),
            Entry::Vacant(slot) => slot,
        };
        let data = self.reader.read(name).await.map_err(|error| match error {
            SecretReadError::NotFound => TargetError::SecretMissing {
                field,
                secret: name.into(),
            },
            SecretReadError::Failed(detail) => TargetError::SecretUnreadable {
                field,
                secret: name.into(),
                detail: printable(&detail, 300),
            },
        })?;
        Ok(slot.insert(data))
    }

    /// One key as text, less the white space around it that editors and shells leave, and what to call its place.
    async fn text(
        &mut self,
        field: &'static str,
        at: &SecretKeySelector,
    ) -> Result<(Zeroizing<String>, String), TargetError> {
        let place = format!("{field}: Secret {}, key {},", at.name, at.key);
        let bytes = value(self.whole(field, &at.name).await?, field, &at.name, &at.key)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok((Zeroizing::new(text.trim().to_owned()), place)),
            Err(_) => Err(invalid(place, "is not text")),
        }
    }
}

fn value<'a>(data: &'a SecretData, field: &'static str, secret: &str, key: &str) -> Result<&'a [u8], TargetError> {
    let value = data.get(key).ok_or_else(|| TargetError::SecretKeyMissing {
        field,
        secret: secret.into(),
        key: key.into(),
    })?;
    Ok(value.as_slice())
}

fn invalid(place: impl Into<String>, detail: impl Into<String>) -> TargetError {
    TargetError::Invalid {
        place: place.into(),
        detail: detail.into(),
    }
}

/// The URL and, when it came from a Secret, from where.
async fn url(
    webhook: &Webhook,
    format: Format,
    secrets: &mut Secrets<'_>,
) -> Result<(Uri, Option<String>), TargetError> {
    let (text, place, secret) = match (&webhook.url_secret_ref, &webhook.url) {
        (Some(at), _) => {
            let (text, place) = secrets.text("urlSecretRef", at).await?;
            (text, place, Some(format!("the Secret {}, key {}", at.name, at.key)))
        }
        (None, Some(url)) => (Zeroizing::new(url.clone()), "url".into(), None),
        (None, None) if format == Format::PagerDuty => (Zeroizing::new(PAGERDUTY.into()), "url".into(), None),
        (None, None) => return Err(invalid("url", "is missing: write url or urlSecretRef")),
    };
    let wrong = "is not a URL: write https://<host>/<path>, or http:// within the cluster";
    let uri: Uri = text.parse().map_err(|_| invalid(place.clone(), wrong))?;
    let scheme = uri.scheme_str();
    if !matches!(scheme, Some("http" | "https")) || uri.host().unwrap_or_default().is_empty() {
        return Err(invalid(place, wrong));
    }
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        let detail = "has a user or password before the host: put it as Authorization into a Secret and name that in \
                      headersSecretRef";
        return Err(invalid(place, detail));
    }
    let uri = match format {
        Format::Alertmanager => alertmanager(uri).ok_or_else(|| invalid(place, wrong))?,
        _ => uri,
    };
    Ok((uri, secret))
}

/// People know their Alertmanager by its base URL.
fn alertmanager(uri: Uri) -> Option<Uri> {
    let base = uri.path().trim_end_matches('/');
    if base.ends_with(ALERTMANAGER_PATH) {
        return Some(uri);
    }
    let path = match uri.query() {
        Some(query) => format!("{base}{ALERTMANAGER_PATH}?{query}"),
        None => format!("{base}{ALERTMANAGER_PATH}"),
    };
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

fn headers(secret: &str, data: &SecretData) -> Result<HeaderMap, TargetError> {
    let mut headers = HeaderMap::new();
    let mut size = 0;
    for (key, value) in data {
        let place = || format!("headersSecretRef: Secret {secret}, key {key},");
        let name = HeaderName::from_bytes(key.as_bytes())
            .map_err(|_| invalid(place(), "is no name of a header: write one such as Authorization"))?;
        if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("webhook-") {
            return Err(invalid(
                place(),
                "is a header that Gatehouse sets itself: remove the key",
            ));
        }
        let mut value = HeaderValue::from_bytes(value.trim_ascii()).map_err(|_| {
            invalid(
                place(),
                "is no value of a header: write one line without control characters",
            )
        })?;
        value.set_sensitive(true);
        size += key.len() + value.len();
        headers.insert(name, value);
    }
    if size > MAX_HEADERS {
        let detail = format!("has {size} bytes of headers: write {MAX_HEADERS} at most");
        return Err(invalid(format!("headersSecretRef: Secret {secret}"), detail));
    }
    Ok(headers)
}

fn routing_key(text: &str, place: String) -> Result<Zeroizing<String>, TargetError> {
    if text.is_empty() || text.len() > 128 || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        let detail = "is no integration key: write the 32 letters and digits that PagerDuty shows for an Events API \
                      v2 integration of the service";
        return Err(invalid(place, detail));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

fn trust(bundle: &str) -> Result<Trust, TargetError> {
    let compact: String = bundle.split_ascii_whitespace().collect();
    let pem = STANDARD
        .decode(compact)
        .map_err(|_| invalid("caBundle", "is not base64: write the PEM file's base64"))?;
    Trust::bundle(&pem).map_err(|error| invalid("caBundle", format!("cannot be used: {error}")))
}

async fn identity(at: &LocalSecretRef, secrets: &mut Secrets<'_>) -> Result<Identity, TargetError> {
    const FIELD: &str = "clientCertificateRef";
    let data = secrets.whole(FIELD, &at.name).await?;
    let chain = value(data, FIELD, &at.name, "tls.crt")?;
    let key = value(data, FIELD, &at.name, "tls.key")?;
    Identity::new(chain, key).map_err(|error| {
        let place = format!("{FIELD}: Secret {}, keys tls.crt and tls.key,", at.name);
        invalid(place, format!("cannot be used: {error}"))
    })
}

#[cfg(test)]
#[path = "target_tests.rs"]
pub(super) mod tests;
