//! Dynamic updates (RFC 2136), signed with TSIG (RFC 8945).
//!
//! Through hickory's messages and not through dns-update, whose errors are text: here a refused key, a wrong
//! secret, a wrong clock and an unknown zone must be distinguished.

use std::net::SocketAddr;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use gatehouse_crds::solver::{Rfc2136, TsigAlgorithm};
use hickory_proto::{
    op::{Message, ResponseCode, update_message},
    rr::{
        Name, RData, RecordSet, RecordType, TSigner,
        rdata::{TXT, tsig},
    },
};
use zeroize::Zeroizing;

use super::{
    super::{Reach, SolverError},
    Record, Server, TxtWriter, plain, wire,
};

/// Seconds. Challenges live for minutes, and a resolver in between should not keep an old set.
const TTL: u32 = 60;
/// Seconds that the clocks may differ (RFC 8945, section 10, recommends 300).
const FUDGE: u16 = 300;

/// Writes TXT records to one server.
pub(in super::super) struct Rfc2136Writer {
    server: Server,
    key_name: String,
    algorithm: &'static str,
    signer: TSigner,
    secret: (String, String),
    reach: Reach,
}

impl Rfc2136Writer {
    /// `secret` is the text in the Secret: base64, as the server's configuration shows it.
    pub(in super::super) fn new(
        spec: &Rfc2136,
        server: Server,
        secret: &Zeroizing<String>,
        reach: Reach,
    ) -> Result<Self, SolverError> {
        let reference = &spec.tsig_secret_secret_ref;
        let malformed = |detail: &str| SolverError::SecretMalformed {
            name: reference.name.clone(),
            key: reference.key.clone(),
            detail: detail.into(),
        };
        let key = STANDARD.decode(secret.as_bytes()).map_err(|_| {
            malformed("is not base64: put in the text that the DNS server's configuration shows as secret")
        })?;
        let (algorithm, algorithm_name) = match spec.tsig_algorithm.unwrap_or_default() {
            TsigAlgorithm::HmacSha256 => (tsig::TsigAlgorithm::HmacSha256, "HMACSHA256"),
            TsigAlgorithm::HmacSha384 => (tsig::TsigAlgorithm::HmacSha384, "HMACSHA384"),
            TsigAlgorithm::HmacSha512 => (tsig::TsigAlgorithm::HmacSha512, "HMACSHA512"),
        };
        let invalid = |detail: String| SolverError::InvalidSolver {
            field: "rfc2136.tsigKeyName".into(),
            detail,
        };
        let name = Name::from_ascii(&spec.tsig_key_name)
            .map_err(|error| invalid(format!("{} is not the name of a key: {error}", spec.tsig_key_name)))?;
        let signer =
            TSigner::new(key, algorithm, name.to_lowercase(), FUDGE).map_err(|error| invalid(error.to_string()))?;
        Ok(Self {
            server,
            key_name: spec.tsig_key_name.clone(),
            algorithm: algorithm_name,
            signer,
            secret: (reference.name.clone(), reference.key.clone()),
            reach,
        })
    }

    async fn update(&self, record: &Record, mut message: Message) -> Result<(), SolverError> {
        let addresses = self.server.addresses(self.reach).await?;
        let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
        let verifier = message
            .finalize(&self.signer, now)
            .map_err(|error| self.failed(error.to_string()))?;
        let answer = self.send(&addresses, &message).await?;
        self.judge(record, &answer.message)?;
        if let Some(mut verifier) = verifier {
            verifier.verify(&answer.bytes).map_err(|error| {
                self.failed(format!(
                    "its answer is not signed with the key {} ({error})",
                    self.key_name
                ))
            })?;
        }
        Ok(())
    }

    async fn send(&self, addresses: &[SocketAddr], message: &Message) -> Result<wire::Answer, SolverError> {
        let mut detail = String::from("it has no address");
        for address in addresses {
            match wire::exchange(*address, message).await {
                Ok(answer) => return Ok(answer),
                Err(error) => detail = format!("{error} (DNS update to {address})"),
            }
        }
        Err(SolverError::DnsUnreachable {
            server: self.server.to_string(),
            detail,
        })
    }

    /// Explains the response codes of RFC 2136, section 2.2, and RFC 8945, section 5.3.
    fn judge(&self, record: &Record, message: &Message) -> Result<(), SolverError> {
        let tsig_error = message.signature().and_then(|signature| signature.data.error);
        let (key, algorithm) = (&self.key_name, self.algorithm);
        match (message.response_code, tsig_error) {
            (ResponseCode::NoError, _) => Ok(()),
            // Knot says so, too, of a key that it knows but that may not update the zone.
            (_, Some(tsig::TsigError::BadKey)) => Err(self.refused(format!(
                "it does not take the TSIG key {key} with {algorithm} for the zone {} (BADKEY): check tsigKeyName, \
                 tsigAlgorithm, and that the server lets the key update the zone",
                plain(&record.zone)
            ))),
            (_, Some(tsig::TsigError::BadSig)) => Err(self.refused(format!(
                "the TSIG signature is wrong (BADSIG): the Secret {}, key {}, does not hold the server's secret for the \
                 key {key}",
                self.secret.0, self.secret.1
            ))),
            (_, Some(tsig::TsigError::BadTime)) => Err(self.refused(
                "the TSIG signature is out of time (BADTIME): the clocks of the server and of this Pod differ".into(),
            )),
            (_, Some(error)) => Err(self.refused(format!("TSIG error {error:?} with the key {key}"))),
            (ResponseCode::Refused, None) => {
                Err(self.refused(format!("the TSIG key {key} may not update the zone {}", plain(&record.zone))))
            }
            (ResponseCode::NotAuth | ResponseCode::NotZone, None) => Err(SolverError::DnsZoneNotFound {
                name: plain(&record.name),
                detail: format!("{} is not the primary server of the zone {}", self.server, plain(&record.zone)),
            }),
            (code, None) => Err(self.failed(format!("{code} for an update of the zone {}", plain(&record.zone)))),
        }
    }

    fn refused(&self, detail: String) -> SolverError {
        SolverError::DnsRefused {
            server: self.server.to_string(),
            detail,
        }
    }

    fn failed(&self, detail: String) -> SolverError {
        SolverError::DnsFailed {
            server: self.server.to_string(),
            detail,
        }
    }

    fn set(record: &Record, ttl: u32, value: &str) -> Result<RecordSet, SolverError> {
        // hickory asserts it.
        if !record.zone.zone_of(&record.name) {
            return Err(SolverError::DnsZoneNotFound {
                name: plain(&record.name),
                detail: format!("{} does not hold it", plain(&record.zone)),
            });
        }
        let mut set = RecordSet::with_ttl(record.name.clone(), RecordType::TXT, ttl);
        set.add_rdata(RData::TXT(TXT::new(vec![value.to_owned()])));
        Ok(set)
    }
}

#[async_trait]
impl TxtWriter for Rfc2136Writer {
    async fn add(&self, record: &Record, value: &str) -> Result<(), SolverError> {
        let set = Self::set(record, TTL, value)?;
        self.update(record, update_message::append(set, record.zone.clone(), false, true))
            .await
    }

    async fn remove(&self, record: &Record, value: &str) -> Result<(), SolverError> {
        let set = Self::set(record, 0, value)?;
        self.update(record, update_message::delete_by_rdata(set, record.zone.clone(), true))
            .await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use gatehouse_crds::secret_ref::SecretKeySelector;

    use super::*;

    fn judged(code: ResponseCode, error: Option<tsig::TsigError>) -> Result<(), (&'static str, String)> {
        let spec = Rfc2136 {
            nameserver: "ns.test".into(),
            tsig_key_name: "k".into(),
            tsig_algorithm: None,
            tsig_secret_secret_ref: SecretKeySelector {
                name: "s".into(),
                key: "t".into(),
            },
        };
        let server = Server::parse(&spec.nameserver, "nameserver").unwrap();
        let secret = Zeroizing::new("c2VjcmV0".to_owned());
        let writer = Rfc2136Writer::new(&spec, server, &secret, Reach::default()).unwrap();
        let record = Record {
            name: Name::from_ascii("_acme-challenge.a.test.").unwrap(),
            zone: Name::from_ascii("a.test.").unwrap(),
        };
        let mut message = Message::query();
        message.metadata.response_code = code;
        if let Some(error) = error {
            let algorithm = tsig::TsigAlgorithm::HmacSha256;
            let data = tsig::TSIG::new(algorithm, 0, FUDGE, vec![], 0, Some(error), vec![]);
            let signature = tsig::make_tsig_record(Name::from_ascii("k.").unwrap(), data);
            message.set_signature(Box::new(signature));
        }
        writer
            .judge(&record, &message)
            .map_err(|error| (error.reason(), error.to_string()))
    }

    #[test]
    fn every_answer_of_a_server_has_its_reason() {
        assert_eq!(judged(ResponseCode::NoError, None), Ok(()));
        for (code, error, reason, part) in [
            (
                ResponseCode::Refused,
                None,
                "DnsRefused",
                "the TSIG key k may not update the zone a.test",
            ),
            (
                ResponseCode::NotAuth,
                Some(tsig::TsigError::BadKey),
                "DnsRefused",
                "BADKEY",
            ),
            (
                ResponseCode::NotAuth,
                Some(tsig::TsigError::BadSig),
                "DnsRefused",
                "the Secret s, key t, does not hold",
            ),
            (
                ResponseCode::NotAuth,
                Some(tsig::TsigError::BadTime),
                "DnsRefused",
                "the clocks",
            ),
            (
                ResponseCode::NotAuth,
                Some(tsig::TsigError::BadTrunc),
                "DnsRefused",
                "BadTrunc",
            ),
            (
                ResponseCode::NotAuth,
                None,
                "DnsZoneNotFound",
                "is not the primary server of the zone a.test",
            ),
            (
                ResponseCode::NotZone,
                None,
                "DnsZoneNotFound",
                "is not the primary server of the zone a.test",
            ),
            (
                ResponseCode::ServFail,
                None,
                "DnsFailed",
                "for an update of the zone a.test",
            ),
        ] {
            let (got, message) = judged(code, error).unwrap_err();
            assert_eq!(got, reason, "{message}");
            assert!(message.contains(part), "{message}");
        }
    }
}
