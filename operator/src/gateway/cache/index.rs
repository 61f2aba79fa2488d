//! Which Gateways name something: found without looking at all of them.

use std::collections::{BTreeSet, HashMap};

use gatehouse_crds::gateway::Gateway;
use kube::ResourceExt;

use super::Key;
use crate::gateway::listener_certificates;

/// Gateways by what their specs name, in their own namespaces.
#[derive(Debug, Default)]
pub struct Index {
    /// By the name of a Service that is not the Gateway's own.
    by_service: HashMap<Key, BTreeSet<Box<str>>>,
    /// By the name of a Certificate, or of a Secret.
    by_certificate: HashMap<Key, BTreeSet<Box<str>>>,
}

impl Index {
    /// Takes in a Gateway in place of what it was before.
    pub fn put(&mut self, before: Option<&Gateway>, now: Option<&Gateway>) {
        if let Some(gateway) = before {
            self.change(gateway, |names, gateway| {
                names.remove(gateway);
            });
        }
        if let Some(gateway) = now {
            self.change(gateway, |names, gateway| {
                names.insert(gateway.into());
            });
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns the Gateways that want a Service of this name, but for the one that is called so itself.
    pub fn of_service(&self, service: &Key) -> Vec<Box<str>> {
        self.by_service.get(service).into_iter().flatten().cloned().collect()
    }

    /// Returns the Gateways whose listeners have a Certificate or a Secret of this name.
    pub fn of_certificate(&self, certificate: &Key) -> Vec<Box<str>> {
        let found = self.by_certificate.get(certificate);
        found.into_iter().flatten().cloned().collect()
    }

    /// Returns all Gateways whose listeners have one, each by its namespace and name.
    pub fn with_certificates(&self) -> BTreeSet<(String, Box<str>)> {
        let all = self.by_certificate.iter();
        all.flat_map(|((namespace, _), gateways)| gateways.iter().map(|name| (namespace.clone(), name.clone())))
            .collect()
    }

    fn change(&mut self, gateway: &Gateway, change: impl Fn(&mut BTreeSet<Box<str>>, &str)) {
        let (namespace, name) = (gateway.namespace().unwrap_or_default(), gateway.name_any());
        let fixed = gateway.spec.service.as_ref().and_then(|service| service.name.clone());
        if let Some(service) = fixed.filter(|service| *service != name) {
            apply(&mut self.by_service, &(namespace.clone(), service), &name, &change);
        }
        for listener in &gateway.spec.listeners {
            let Some(tls) = &listener.tls else { continue };
            let named = tls.certificate_refs.iter().map(|reference| reference.name.clone());
            for certificate in named.chain([listener_certificates::name(&name, &listener.name)]) {
                apply(
                    &mut self.by_certificate,
                    &(namespace.clone(), certificate),
                    &name,
                    &change,
                );
            }
        }
    }
}

fn apply(
    map: &mut HashMap<Key, BTreeSet<Box<str>>>,
    key: &Key,
    gateway: &str,
    change: &impl Fn(&mut BTreeSet<Box<str>>, &str),
) {
    let names = map.entry(key.clone()).or_default();
    change(names, gateway);
    if names.is_empty() {
        map.remove(key);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "made in place by json!")]
    fn gateway(name: &str, service: Value, listeners: Value) -> Gateway {
        serde_json::from_value(json!({
            "apiVersion": "gatehouse.dev/v1alpha1", "kind": "Gateway",
            "metadata": {"name": name, "namespace": "app", "uid": name},
            "spec": {"service": service, "target": {"selector": {"app": "shop"}}, "listeners": listeners}
        }))
        .unwrap()
    }

    fn key(name: &str) -> Key {
        ("app".into(), name.into())
    }

    #[test]
    fn a_gateway_is_found_by_what_it_names_until_it_names_something_else() {
        let tls = json!([
            {"name": "https", "port": 443, "protocol": "HTTPS", "hostname": "a.test", "tls": {"certificateRefs": [{"name": "mine"}]}},
            {"name": "http", "port": 80, "protocol": "HTTP"}
        ]);
        let shop = gateway("shop", json!({"name": "edge"}), tls);
        let mut index = Index::default();
        index.put(None, Some(&shop));
        // Its own name is looked up as such and takes no room.
        let plain = gateway(
            "plain",
            json!({}),
            json!([{"name": "http", "port": 80, "protocol": "HTTP"}]),
        );
        index.put(None, Some(&plain));
        assert_eq!(index.of_service(&key("edge")), ["shop".into()]);
        assert_eq!(index.of_certificate(&key("mine")), ["shop".into()]);
        assert_eq!(index.of_certificate(&key("shop-https")), ["shop".into()]);
        assert!(index.of_certificate(&key("shop-http")).is_empty());
        assert!(index.of_service(&("other".into(), "edge".into())).is_empty());
        assert_eq!(index.with_certificates(), [("app".to_owned(), "shop".into())].into());
        let moved = gateway("shop", json!({"name": "front"}), json!([]));
        index.put(Some(&shop), Some(&moved));
        assert!(index.of_service(&key("edge")).is_empty());
        assert!(index.of_certificate(&key("mine")).is_empty());
        assert_eq!(index.of_service(&key("front")), ["shop".into()]);
        index.put(Some(&moved), None);
        assert!(index.by_service.is_empty() && index.by_certificate.is_empty());
    }
}
