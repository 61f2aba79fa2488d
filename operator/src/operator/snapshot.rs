//! The Certificates as the caches have them, for the metrics.

use std::{fmt, sync::Arc};

use crate::{
    certificate::{context::Context, outcome::READY},
    kubernetes::conditions,
    telemetry::metrics::{CertificateSample, Snapshot},
};

/// Reads the caches at each scrape: no copy of them is kept.
pub(super) struct State(pub(super) Arc<Context>);

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("State")
    }
}

impl Snapshot for State {
    fn certificates(&self, visit: &mut dyn FnMut(&CertificateSample<'_>)) {
        for cache in &self.0.caches {
            for object in cache.certificates().state() {
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

    fn challenges_in_flight(&self) -> Vec<(&'static str, u64)> {
        self.0.orders.challenges()
    }
}
