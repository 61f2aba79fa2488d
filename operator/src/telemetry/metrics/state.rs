//! Metrics read from the state of the world at each scrape.

use std::fmt;

use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet},
    metrics::MetricType,
};

/// One Certificate as metrics show it.
#[derive(Debug, Clone, Copy)]
pub struct CertificateSample<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    /// Status of its condition Ready; `None` is Unknown.
    pub ready: Option<bool>,
    pub not_before: Option<Timestamp>,
    pub not_after: Option<Timestamp>,
    pub renewal: Option<Timestamp>,
    pub failed_attempts: u32,
}

/// One Gateway as metrics show it.
#[derive(Debug, Clone)]
pub struct GatewaySample<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    /// Whether its condition Programmed is True.
    pub programmed: bool,
    /// Whether its condition ExposureVerified is True; `None` while it is Unknown.
    pub exposure_verified: Option<bool>,
    /// By listener.
    pub ready_endpoints: Vec<(&'a str, i32)>,
}

/// The Certificates and Gateways as the caches have them now.
pub trait Snapshot: fmt::Debug + Send + Sync + 'static {
    /// Shows every Certificate. It is called once for each metric, and as fast as the scraper reads: hold no lock over it.
    fn certificates(&self, visit: &mut dyn FnMut(&CertificateSample<'_>));

    /// Shows every Gateway, in the same manner.
    fn gateways(&self, visit: &mut dyn FnMut(&GatewaySample<'_>));

    /// Challenges that wait for the CA's verdict, by type (`http-01`, `dns-01`).
    fn challenges_in_flight(&self) -> Vec<(&'static str, u64)>;
}

/// `gatehouse_leader`.
pub(super) struct Leader(pub(super) Box<dyn Fn() -> bool + Send + Sync>);

impl fmt::Debug for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leader")
    }
}

impl Collector for Leader {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        encoder
            .encode_descriptor("leader", "Whether this process is the leader.", None, MetricType::Gauge)?
            .encode_gauge(&u32::from((self.0)()))
    }
}

/// `gatehouse_certificate_*`, `gatehouse_gateway_*` and `gatehouse_challenges_in_flight`.
#[derive(Debug)]
pub(super) struct Objects<S>(pub(super) S);

type Time = fn(&CertificateSample<'_>) -> Option<Timestamp>;

const TIMES: [(&str, &str, Time); 3] = [
    (
        "certificate_not_before_timestamp_seconds",
        "Start of validity.",
        |certificate| certificate.not_before,
    ),
    (
        "certificate_not_after_timestamp_seconds",
        "End of validity.",
        |certificate| certificate.not_after,
    ),
    (
        "certificate_renewal_timestamp_seconds",
        "When it is to be renewed.",
        |certificate| certificate.renewal,
    ),
];

impl<S: Snapshot> Collector for Objects<S> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Status of the condition Ready: 1 for the one that holds.";
        self.family(&mut encoder, "certificate_ready_status", help, |certificate, family| {
            for (condition, status) in [("True", Some(true)), ("False", Some(false)), ("Unknown", None)] {
                let [namespace, name] = labels(certificate);
                let holds = u32::from(certificate.ready == status);
                family.sample(&[namespace, name, ("condition", condition)], &holds)?;
            }
            Ok(())
        })?;
        for (metric, help, time) in TIMES {
            self.family(&mut encoder, metric, help, |certificate, family| {
                match time(certificate) {
                    Some(time) => family.sample(&labels(certificate), &time.as_second()),
                    None => Ok(()),
                }
            })?;
        }
        let help = "Attempts to issue that failed since the last success.";
        self.family(
            &mut encoder,
            "certificate_failed_attempts",
            help,
            |certificate, family| family.sample(&labels(certificate), &certificate.failed_attempts),
        )?;
        let help = "Challenges that wait for the verdict of the CA.";
        let mut family = Family(encoder.encode_descriptor("challenges_in_flight", help, None, MetricType::Gauge)?);
        for (type_, count) in self.0.challenges_in_flight() {
            family.sample(&[("type", type_)], &count)?;
        }
        self.gateways(&mut encoder)
    }
}

impl<S: Snapshot> Objects<S> {
    fn gateways(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = |name: &str, help: &str, write: GatewayWrite| {
            let mut family = Family(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?);
            let mut result = Ok(());
            self.0.gateways(&mut |gateway| {
                if result.is_ok() {
                    result = write(gateway, &mut family);
                }
            });
            result
        };
        let help = "Whether the Service exists and has its address.";
        family("gateway_programmed", help, |gateway, family| {
            family.sample(&gateway_labels(gateway), &u32::from(gateway.programmed))
        })?;
        let help = "Whether the addresses are as private as the scope asks.";
        family("gateway_exposure_verified", help, |gateway, family| {
            // Neither 1 nor 0 would be true of one that has no address yet, and 0 is an alarm.
            let known = gateway.exposure_verified;
            known.map_or(Ok(()), |verified| {
                family.sample(&gateway_labels(gateway), &u32::from(verified))
            })
        })?;
        let help = "Endpoints that take the traffic of a listener.";
        family("gateway_ready_endpoints", help, |gateway, family| {
            for (listener, count) in &gateway.ready_endpoints {
                let [namespace, name] = gateway_labels(gateway);
                family.sample(&[namespace, name, ("listener", *listener)], count)?;
            }
            Ok(())
        })
    }

    /// One metric over all Certificates; the first error ends the writing.
    fn family(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        mut write: impl FnMut(&CertificateSample<'_>, &mut Family<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let mut family = Family(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?);
        let mut result = Ok(());
        self.0.certificates(&mut |certificate| {
            if result.is_ok() {
                result = write(certificate, &mut family);
            }
        });
        result
    }
}

struct Family<'a>(prometheus_client::encoding::MetricEncoder<'a>);

impl Family<'_> {
    fn sample(&mut self, labels: &impl EncodeLabelSet, value: &impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_family(labels)?.encode_gauge(value)
    }
}

type GatewayWrite = fn(&GatewaySample<'_>, &mut Family<'_>) -> fmt::Result;

fn gateway_labels<'a>(gateway: &GatewaySample<'a>) -> [(&'static str, &'a str); 2] {
    [("namespace", gateway.namespace), ("name", gateway.name)]
}

fn labels<'a>(certificate: &CertificateSample<'a>) -> [(&'static str, &'a str); 2] {
    [("namespace", certificate.namespace), ("name", certificate.name)]
}
