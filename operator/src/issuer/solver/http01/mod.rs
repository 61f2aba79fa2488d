//! HTTP-01 through a user's ingress controller (RFC 8555, section 8.3).
//!
//! One [`responder`] in the operator answers for all issuers. A Service with an `EndpointSlice` leads to it, and one
//! Ingress for each class and host leads there from port 80 ([`routing`]). There are no Pods. [`policy`] says what an
//! Issuer may put on the Ingress, and [`probe`] tries the way before the CA does: as advice, since from inside it may
//! look otherwise (NAT hairpins, split DNS).

mod cluster;
mod http01_router;
pub mod policy;
mod probe;
mod responder;
mod routing;
mod writes;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use gatehouse_crds::solver::{Http01, IngressTemplateMetadata};
use jiff::Timestamp;

use self::probe::Prober;
use super::{Challenge, Readiness, Solver, SolverError, http::Http};

pub use cluster::ClusterRoutes;
pub use http01_router::{Http01Router, RouteWriter};
pub use policy::IngressPolicy;
pub use responder::{Answers, router};
pub use routing::{ResponderService, RouteKey};

/// Default of `selfCheck.timeout`.
const SELF_CHECK: Duration = Duration::from_secs(15);

/// The `http01` entry of an Issuer.
pub(super) struct Http01Solver {
    class: String,
    template: IngressTemplateMetadata,
    /// Time for which the path is tried from inside.
    bound: Duration,
    http01_router: Arc<Http01Router>,
    prober: Prober,
}

impl Http01Solver {
    pub(super) fn new(spec: &Http01, http01_router: Arc<Http01Router>, http: Http) -> Self {
        let timeout = spec.self_check.as_ref().and_then(|check| check.timeout);
        let timeout = timeout.filter(|timeout| !timeout.is_negative()).map(Duration::from);
        Self {
            class: spec.ingress.ingress_class_name.clone(),
            template: spec.ingress.ingress_template.clone().unwrap_or_default().metadata,
            bound: timeout.unwrap_or(SELF_CHECK),
            prober: Prober::new(http, http01_router.probes()),
            http01_router,
        }
    }

    /// Opens the way to the answer, and to it alone.
    fn open(&self, challenge: &Challenge) -> Result<RouteKey, SolverError> {
        let route = self.route(challenge)?;
        if !routing::is_token(&challenge.token) {
            return Err(SolverError::InvalidSolver {
                field: "http01".into(),
                detail: format!(
                    "the CA gave a token for {} that is not base64url, and so no path of its own (RFC 8555, section 8.3): see the CA",
                    challenge.identifier
                ),
            });
        }
        self.http01_router.open(&route, &self.template, challenge);
        Ok(route)
    }

    /// Returns the Ingress that leads to the answer.
    fn route(&self, challenge: &Challenge) -> Result<RouteKey, SolverError> {
        if challenge.wildcard {
            return Err(SolverError::InvalidSolver {
                field: "http01".into(),
                detail: format!("*.{} is a wildcard, which needs dns01", challenge.identifier),
            });
        }
        Ok(RouteKey::new(&self.class, &challenge.identifier))
    }
}

#[async_trait]
impl Solver for Http01Solver {
    async fn present(&self, challenge: &Challenge) -> Result<(), SolverError> {
        self.open(challenge).map(drop)
    }

    async fn check(&self, challenge: &Challenge, _: Timestamp, _: Timestamp) -> Result<Readiness, SolverError> {
        // The front door's memory ends with the process, and the order does not.
        let route = self.open(challenge)?;
        self.http01_router
            .readiness(&route, challenge, &self.prober, self.bound)
    }

    async fn clean_up(&self, challenge: &Challenge) -> Result<(), SolverError> {
        let route = self.route(challenge)?;
        self.http01_router.close(&route, challenge);
        Ok(())
    }
}
