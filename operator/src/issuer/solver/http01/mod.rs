//! HTTP-01 through somebody else's ingress controller (RFC 8555, section 8.3).
//!
//! One [`responder`] in the operator answers for all issuers. A Service with an `EndpointSlice` leads to it, and one
//! Ingress for each class leads there from port 80 of the names in flight ([`routing`]). There are no Pods, and
//! no self-check that could fail where the CA's would not: NAT hairpins, split DNS.

mod cluster;
mod frontdoor;
mod responder;
mod routing;

use std::sync::Arc;

use async_trait::async_trait;
use gatehouse_crds::solver::Http01Ingress;
use jiff::Timestamp;

use super::{Challenge, Readiness, Solver, SolverError};

pub use cluster::ClusterRoutes;
pub use frontdoor::{Frontdoor, RouteWriter};
pub use responder::{Answers, router};
pub use routing::{RouteKey, Site};

/// The `http01` entry of an Issuer.
pub(super) struct Http01Solver {
    route: RouteKey,
    frontdoor: Arc<Frontdoor>,
}

impl Http01Solver {
    pub(super) fn new(spec: &Http01Ingress, frontdoor: Arc<Frontdoor>) -> Self {
        Self {
            route: RouteKey::new(spec),
            frontdoor,
        }
    }

    fn fits(challenge: &Challenge) -> Result<(), SolverError> {
        if challenge.wildcard {
            return Err(SolverError::InvalidSolver {
                field: "http01".into(),
                detail: format!("*.{} is a wildcard, which needs dns01", challenge.identifier),
            });
        }
        Ok(())
    }
}

#[async_trait]
impl Solver for Http01Solver {
    async fn present(&self, challenge: &Challenge) -> Result<(), SolverError> {
        Self::fits(challenge)?;
        self.frontdoor.open(&self.route, challenge);
        Ok(())
    }

    async fn check(&self, challenge: &Challenge, _: Timestamp, _: Timestamp) -> Result<Readiness, SolverError> {
        Self::fits(challenge)?;
        // The front door's memory ends with the process, and the order does not.
        self.frontdoor.open(&self.route, challenge);
        self.frontdoor.readiness(&self.route, &challenge.identifier)
    }

    async fn clean_up(&self, challenge: &Challenge) -> Result<(), SolverError> {
        self.frontdoor.close(&self.route, challenge);
        Ok(())
    }
}
