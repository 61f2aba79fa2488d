//! Which orders of this process need an answer that is in place.
//!
//! CAs may give one pending authorization to several orders (RFC 8555, section 7.4): the first that ends leaves its answer to
//! the others.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use super::super::solver::{Challenge, ChallengeKind, Identifier};

/// One answer. The key authorization names the account, too.
type Answer = (ChallengeKind, Identifier, String);

/// URLs of orders, by the answers that they need.
#[derive(Debug, Default)]
pub struct InUse(Mutex<HashMap<Answer, HashSet<String>>>);

impl InUse {
    /// Notes that an order needs the answer.
    pub fn hold(&self, order: &str, challenge: &Challenge) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(answer(challenge)).or_default().insert(order.to_owned());
    }

    /// Ends an order's need; returns true when no other order has one, so that the answer can be removed.
    pub fn release(&self, order: &str, challenge: &Challenge) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answer(challenge);
        let Some(orders) = all.get_mut(&answer) else {
            return true;
        };
        orders.remove(order);
        let is_last = orders.is_empty();
        if is_last {
            all.remove(&answer);
        }
        is_last
    }
}

fn answer(challenge: &Challenge) -> Answer {
    let identifier = challenge.identifier.clone();
    (challenge.kind, identifier, challenge.key_authorization.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_two_orders_need_goes_with_the_last_of_them() {
        let challenge = |token: &str| Challenge {
            kind: ChallengeKind::Dns01,
            identifier: Identifier::Dns("a.test".into()),
            wildcard: false,
            token: token.into(),
            key_authorization: format!("{token}.thumbprint"),
            dns_value: String::new(),
        };
        let (shared, other) = (challenge("shared"), challenge("other"));
        let in_use = InUse::default();
        for order in ["one", "two", "two"] {
            in_use.hold(order, &shared);
        }
        in_use.hold("one", &other);
        assert!(!in_use.release("one", &shared));
        assert!(!in_use.release("one", &shared), "also when it is released again");
        assert!(in_use.release("two", &shared));
        assert!(in_use.release("one", &other));
        assert!(in_use.release("resumed", &shared), "an answer of an earlier process");
        assert!(in_use.0.lock().is_ok_and(|all| all.is_empty()));
    }
}
