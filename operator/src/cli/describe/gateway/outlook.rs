//! The end of a Gateway's story: what is next, and what to do.

use std::collections::BTreeSet;

use super::Describer;
use crate::{
    cli::{
        describe::{
            advice::{self, Of},
            page::Page,
        },
        status::{
            gateways::health::{self, State},
            health::UNSEEN,
        },
    },
    gateway::status::{ACCEPTED, EXPOSURE_VERIFIED, PROGRAMMED},
    kubernetes::conditions,
};

impl Describer<'_> {
    pub(super) fn next(&self, page: &mut Page) {
        page.heading("What is next");
        let words = match (self.health.state, self.health.reason.as_deref()) {
            (State::Fine, _) => {
                "nothing: the address is checked whenever it changes, and the Service is repaired when another client damages it"
            }
            (_, Some(UNSEEN)) => "the operator has to look at it first",
            (_, Some("RecreateRequired")) => "nothing by itself: the present Service continues to serve, as it is",
            (_, Some("Recreating")) => "the new Service gets its address, then the old one goes",
            (_, Some("AddressPending")) => {
                "the address, as soon as the cloud or the load balancer gives it to the Service"
            }
            (_, Some("Withdrawn" | "ExposureMismatch")) => {
                "nothing by itself: a user has to fix it; it is checked again at once then"
            }
            (_, Some("NoMatchingPods" | "PodsNotReady" | "TargetPortMissing" | "EndpointsPending")) => {
                "it follows the Pods at once"
            }
            (_, Some(reason)) if reason.starts_with("Certificate") => "it follows its Certificate or Secret at once",
            (State::Pending, _) => "it is on its way",
            (State::Failing, _) => "it is checked again as soon as the Gateway changes, and every few minutes anyway",
        };
        page.line("Next", words);
    }

    pub(super) fn advice(&self, page: &mut Page) {
        if self.health.state == State::Fine {
            return;
        }
        let mut reasons: Vec<&str> = self.health.reason.as_deref().into_iter().collect();
        reasons.extend(
            [EXPOSURE_VERIFIED, ACCEPTED, PROGRAMMED]
                .into_iter()
                .filter_map(|type_| conditions::find(&self.status.conditions, type_))
                .filter(|condition| condition.status == "False")
                .map(|condition| condition.reason.as_str()),
        );
        let listeners = self.status.listeners.iter();
        reasons.extend(listeners.filter_map(|one| Some(health::trouble(&one.conditions)?.reason.as_str())));
        page.heading("What to do");
        let mut advised = BTreeSet::new();
        for reason in reasons {
            // What only points to another condition has nothing of its own to be done.
            if reason == "NotAccepted" || !advised.insert(reason) {
                continue;
            }
            let unknown = "See docs/reference/conditions.md of the operator's version; the message above says more.";
            page.line(reason, advice::advice(Of::Gateway, reason).unwrap_or(unknown));
        }
    }
}
