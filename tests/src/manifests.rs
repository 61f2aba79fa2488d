//! Manifests as a user would write them, with what only a run knows filled in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::knot::Knot;
use crate::pki::Ca;

/// An Issuer over ACME by DNS-01 at Knot, and the Secret with its TSIG key. `ca_pem` vouches for the `directory`.
pub fn acme_dns01(name: &str, directory: &str, ca_pem: &str, knot: &Knot) -> String {
    let (address, key, algorithm) = (knot.address(), Knot::KEY_NAME, Knot::ALGORITHM);
    let (bundle, secret) = (STANDARD.encode(ca_pem), knot.secret());
    format!(
        r#"
apiVersion: v1
kind: Secret
metadata: {{name: {name}-tsig}}
stringData: {{secret: "{secret}"}}
---
apiVersion: gatehouse.dev/v1alpha1
kind: Issuer
metadata: {{name: {name}}}
spec:
  acme:
    server: {directory}
    caBundle: {bundle}
    privateKeySecretRef: {{name: {name}-account}}
    solvers:
    - dns01:
        rfc2136:
          nameserver: {address}
          tsigKeyName: {key}
          tsigAlgorithm: {algorithm}
          tsigSecretSecretRef: {{name: {name}-tsig, key: secret}}
        propagation: {{nameservers: ["{address}"]}}
"#
    )
}

/// An Issuer over a CA, and the CA's Secret.
pub fn ca(name: &str, ca: &Ca) -> String {
    let (certificate, key) = (STANDARD.encode(ca.pem()), STANDARD.encode(ca.key_pem()));
    format!(
        r"
apiVersion: v1
kind: Secret
metadata: {{name: {name}-pair}}
type: kubernetes.io/tls
data: {{tls.crt: {certificate}, tls.key: {key}}}
---
apiVersion: gatehouse.dev/v1alpha1
kind: Issuer
metadata: {{name: {name}}}
spec:
  ca: {{secretName: {name}-pair}}
"
    )
}

/// A Certificate by an Issuer, in the Secret `<name>-tls`.
pub fn certificate(name: &str, issuer: &str, dns_names: &[&str]) -> String {
    let names = dns_names.join("\", \"");
    format!(
        r#"
apiVersion: gatehouse.dev/v1alpha1
kind: Certificate
metadata: {{name: {name}}}
spec:
  secretName: {name}-tls
  issuerRef: {{name: {issuer}}}
  dnsNames: ["{names}"]
"#
    )
}

/// A Certificate that is never ready, for its Issuer `absent` does not exist; it has the label `team: shop`.
pub fn orphan(name: &str) -> String {
    format!(
        "apiVersion: gatehouse.dev/v1alpha1\nkind: Certificate\nmetadata: {{name: {name}, labels: {{team: shop}}}}\n\
         spec: {{secretName: {name}-tls, issuerRef: {{name: absent}}, dnsNames: [{name}.test]}}\n"
    )
}

/// An Issuer whose certificates sign themselves.
pub fn self_signed(name: &str) -> String {
    format!(
        "apiVersion: gatehouse.dev/v1alpha1\nkind: Issuer\nmetadata: {{name: {name}}}\nspec: {{selfSigned: {{}}}}\n"
    )
}

/// An AlertPolicy.
pub fn alert_policy(name: &str, rules: &Value, receivers: &Value) -> String {
    json!({
        "apiVersion": "gatehouse.dev/v1alpha1", "kind": "AlertPolicy", "metadata": {"name": name},
        "spec": {"rules": rules, "receivers": receivers}
    })
    .to_string()
}
