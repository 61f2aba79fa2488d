//! The Certificates and Gateways as the caches have them, for the metrics.

use std::{fmt, sync::Arc};

use crate::{
    certificate::{context::Context, status::READY},
    gateway::{
        cache::Cache as GatewayCache,
        status::{EXPOSURE_VERIFIED, PROGRAMMED},
    },
    kubernetes::conditions,
    telemetry::metrics::{CertificateSample, GatewaySample, Snapshot},
};

/// Reads the caches at each scrape: no copy of them is kept.
pub(super) struct State {
    pub(super) context: Arc<Context>,
    pub(super) gateways: Vec<Arc<GatewayCache>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("State")
    }
}

impl Snapshot for State {
    fn certificates(&self, visit: &mut dyn FnMut(&CertificateSample<'_>)) {
        for cache in &self.context.caches {
            for object in cache.certificates.state() {
                let Ok(certificate) = &object.0 else { continue };
                let status = certificate.status.as_ref();
                let ready = status.and_then(|status| conditions::find(&status.conditions, READY));
                visit(&CertificateSample {
                    namespace: certificate.metadata.namespace.as_deref().unwrap_or_default(),
                    name: certificate.metadata.name.as_deref().unwrap_or_default(),
                    ready: ready.and_then(|ready| match ready.status.as_str() {
                        "True" => Some(true),
                        "False" => Some(false),
                        _ => None,
                    }),
                    not_before: status.and_then(|status| status.not_before),
                    not_after: status.and_then(|status| status.not_after),
                    renewal: status.and_then(|status| status.renewal_time),
                    failed_attempts: status
                        .and_then(|status| status.failed_attempts)
                        .and_then(|count| u32::try_from(count).ok())
                        .unwrap_or_default(),
                });
            }
        }
    }

    fn gateways(&self, visit: &mut dyn FnMut(&GatewaySample<'_>)) {
        for cache in &self.gateways {
            for object in cache.gateways.state() {
                let Ok(gateway) = &object.0 else { continue };
                let Some(status) = &gateway.status else { continue };
                let listeners = status.listeners.iter();
                visit(&GatewaySample {
                    namespace: gateway.metadata.namespace.as_deref().unwrap_or_default(),
                    name: gateway.metadata.name.as_deref().unwrap_or_default(),
                    programmed: conditions::is_true(&status.conditions, PROGRAMMED),
                    exposure_verified: conditions::find(&status.conditions, EXPOSURE_VERIFIED).and_then(|verified| {
                        match verified.status.as_str() {
                            "True" => Some(true),
                            "False" => Some(false),
                            _ => None,
                        }
                    }),
                    ready_endpoints: listeners
                        .map(|listener| (listener.name.as_str(), listener.ready_endpoints))
                        .collect(),
                });
            }
        }
    }

    fn challenges_in_flight(&self) -> Vec<(&'static str, u64)> {
        self.context.orders.challenges()
    }
}
