//! Limits of what an Issuer may set on an Ingress in the operator's namespace.
//!
//! A namespaced Issuer is written by a tenant. Annotations there are orders to ingress controllers and others that
//! watch Ingresses, given in the operator's name: snippets of configuration, further host names, DNS records,
//! certificates. So a tenant has what the operator's owner permits, and only that. ClusterIssuers are the owner's.

use std::{convert::Infallible, str::FromStr};

use gatehouse_crds::solver::Http01Ingress;

use super::super::{Author, SolverError};

/// Permitted without a word of the owner: what keeps a controller from redirecting the challenge to HTTPS.
pub const DEFAULT_ANNOTATIONS: &str = "nginx.ingress.kubernetes.io/ssl-redirect=false,\
    nginx.ingress.kubernetes.io/force-ssl-redirect=false,\
    nginx.org/redirect-to-https=false,\
    haproxy.org/ssl-redirect=false,\
    haproxy-ingress.github.io/ssl-redirect=false,\
    traefik.ingress.kubernetes.io/router.entrypoints=web";

/// A permitted annotation or label: `KEY` with any value, or `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    key: String,
    value: Option<String>,
}

impl FromStr for Permit {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        Ok(Self {
            key: key.to_owned(),
            value,
        })
    }
}

impl Permit {
    fn covers(&self, key: &str, value: &str) -> bool {
        self.key == key && self.value.as_deref().is_none_or(|permitted| permitted == value)
    }
}

/// `--http01-ingress-annotations`, `--http01-ingress-labels` and `--http01-ingress-classes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressPolicy {
    pub annotations: Vec<Permit>,
    pub labels: Vec<Permit>,
    /// Empty means all: an Ingress of ours leads nowhere but to the responder.
    pub classes: Vec<String>,
}

impl Default for IngressPolicy {
    fn default() -> Self {
        let annotations = DEFAULT_ANNOTATIONS.split(',').map(str::parse);
        Self {
            annotations: annotations.filter_map(Result::ok).collect(),
            labels: Vec::new(),
            classes: Vec::new(),
        }
    }
}

impl IngressPolicy {
    /// Checks the author's wishes. The error names the first that is not permitted, and who can permit it.
    pub fn check(&self, author: &Author, ingress: &Http01Ingress) -> Result<(), SolverError> {
        if *author == Author::Administrator {
            return Ok(());
        }
        let refused = |field, value: String, flag: &str| SolverError::IngressNotPermitted {
            field,
            remedy: format!("remove it, use a ClusterIssuer, or ask the operator's owner to add it to {flag}"),
            value,
        };
        let class = &ingress.ingress_class_name;
        if !self.classes.is_empty() && !self.classes.contains(class) {
            return Err(refused("ingressClassName", class.clone(), "--http01-ingress-classes"));
        }
        let Some(template) = &ingress.ingress_template else {
            return Ok(());
        };
        for (field, wanted, permitted, flag) in [
            (
                "annotation",
                &template.metadata.annotations,
                &self.annotations,
                "--http01-ingress-annotations",
            ),
            (
                "label",
                &template.metadata.labels,
                &self.labels,
                "--http01-ingress-labels",
            ),
        ] {
            let other = wanted
                .iter()
                .find(|(key, value)| !permitted.iter().any(|permit| permit.covers(key, value)));
            if let Some((key, value)) = other {
                let shown = crate::egress::printable(&format!("{key}={value}"), 120);
                return Err(refused(field, shown, flag));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use gatehouse_crds::solver::{IngressTemplate, IngressTemplateMetadata};

    use super::*;

    fn wish(annotation: Option<(&str, &str)>, label: Option<(&str, &str)>) -> Http01Ingress {
        let map = |pair: Option<(&str, &str)>| {
            pair.map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into_iter()
                .collect()
        };
        Http01Ingress {
            ingress_class_name: "nginx".into(),
            ingress_template: Some(IngressTemplate {
                metadata: IngressTemplateMetadata {
                    annotations: map(annotation),
                    labels: map(label),
                },
            }),
        }
    }

    fn tenant() -> Author {
        Author::Tenant("team-a".into())
    }

    #[test]
    fn a_tenant_gives_no_orders_to_controllers_in_the_operators_name() {
        let policy = IngressPolicy::default();
        for annotation in [
            (
                "nginx.ingress.kubernetes.io/server-snippet",
                "location /x { return 200; }",
            ),
            (
                "nginx.ingress.kubernetes.io/configuration-snippet",
                "more_set_headers 'a: b';",
            ),
            ("nginx.ingress.kubernetes.io/auth-url", "http://169.254.169.254/"),
            (
                "nginx.ingress.kubernetes.io/auth-tls-secret",
                "gatehouse-system/account",
            ),
            ("nginx.ingress.kubernetes.io/server-alias", "bank.example.com"),
            ("nginx.ingress.kubernetes.io/mirror-target", "https://evil.example"),
            ("nginx.ingress.kubernetes.io/rewrite-target", "/$1"),
            ("nginx.ingress.kubernetes.io/ssl-redirect", "false\"; lua_code"),
            ("nginx.ingress.kubernetes.io/ssl-redirect", "true"),
            ("kubernetes.io/ingress.class", "internal"),
            ("external-dns.alpha.kubernetes.io/hostname", "bank.example.com"),
            ("external-dns.alpha.kubernetes.io/controller", "dns-controller"),
            ("cert-manager.io/cluster-issuer", "letsencrypt"),
            ("gatehouse.dev/cluster-issuer", "letsencrypt"),
            (
                "traefik.ingress.kubernetes.io/router.middlewares",
                "kube-system-auth@kubernetescrd",
            ),
            ("alb.ingress.kubernetes.io/scheme", "internet-facing"),
            ("argocd.argoproj.io/tracking-id", "x"),
        ] {
            let error = policy.check(&tenant(), &wish(Some(annotation), None)).unwrap_err();
            assert_eq!(error.reason(), "IngressNotPermitted");
            assert!(error.to_string().contains(annotation.0), "{error}");
            assert!(error.to_string().contains("--http01-ingress-annotations"), "{error}");
            let owner = policy.check(&Author::Administrator, &wish(Some(annotation), None));
            assert_eq!(owner, Ok(()), "a ClusterIssuer is the owner's");
        }
        for label in [
            ("app.kubernetes.io/name", "gatehouse"),
            ("app.kubernetes.io/component", "operator"),
            ("gatehouse.dev/managed", "false"),
            ("team", "a"),
        ] {
            let error = policy.check(&tenant(), &wish(None, Some(label))).unwrap_err();
            assert!(error.to_string().contains("--http01-ingress-labels"), "{error}");
        }
    }

    #[test]
    fn what_the_owner_permits_and_what_only_stops_a_redirect_is_taken() {
        let redirect = ("nginx.ingress.kubernetes.io/ssl-redirect", "false");
        let default = IngressPolicy::default();
        assert_eq!(default.annotations.len(), 6);
        assert_eq!(default.check(&tenant(), &wish(Some(redirect), None)), Ok(()));
        let policy = IngressPolicy {
            annotations: vec!["a.example/any".parse().unwrap(), "a.example/one=1".parse().unwrap()],
            labels: vec!["shard".parse().unwrap()],
            classes: vec!["nginx".into()],
        };
        for (annotation, permitted) in [
            (("a.example/any", "x=y"), true),
            (("a.example/one", "1"), true),
            (("a.example/one", "2"), false),
            (redirect, false),
        ] {
            let checked = policy.check(&tenant(), &wish(Some(annotation), Some(("shard", "b"))));
            assert_eq!(checked.is_ok(), permitted, "{annotation:?}");
        }
        let mut other = wish(None, None);
        other.ingress_class_name = "internal".into();
        assert_eq!(
            policy.check(&tenant(), &other).unwrap_err().to_string(),
            "ingressClassName internal is not permitted on an Ingress in the operator's namespace: remove it, use a \
             ClusterIssuer, or ask the operator's owner to add it to --http01-ingress-classes"
        );
        assert_eq!(default.check(&tenant(), &other), Ok(()));
    }
}
