//! The Secrets that an issuer depends on, and what was in them.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest;
use gatehouse_crds::issuer::{AcmeIssuer, IssuerConfig};

use super::solver::{SecretData, SecretReadError, SecretReader};
use crate::kubernetes::dependency::{Dependency, secret_names};

/// Returns the Secrets whose change is to enqueue an issuer that reads those of `namespace`.
pub fn of(config: Option<IssuerConfig<'_>>, namespace: &str) -> BTreeSet<Dependency> {
    let names = match config {
        Some(IssuerConfig::Acme(spec)) => secret_names(spec),
        Some(IssuerConfig::Ca(spec)) => [spec.secret_name.clone()].into(),
        Some(IssuerConfig::SelfSigned(_)) | None => BTreeSet::new(),
    };
    names.iter().map(|name| Dependency::secret(namespace, name)).collect()
}

/// A Secret's content as far as it is remembered.
type Digest = [u8; 32];

/// Digests of the Secrets of an ACME issuer; none for a Secret that did not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    account: BTreeMap<String, Option<Digest>>,
    solvers: BTreeMap<String, Option<Digest>>,
}

/// Changes between two reads of the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    Nothing,
    /// Those of solvers alone.
    Solvers,
    /// Secrets by which the account is established.
    Account,
}

impl Credentials {
    /// Reads them.
    pub async fn read(spec: &AcmeIssuer, secrets: &dyn SecretReader) -> Result<Self, SecretReadError> {
        let of_solvers = secret_names(&spec.solvers);
        let mut of_account = BTreeSet::from([spec.private_key_secret_ref.name.clone()]);
        of_account.extend(spec.ca_bundle_secret_ref.as_ref().map(|bundle| bundle.name.clone()));
        let binding = spec.external_account_binding.as_ref();
        of_account.extend(binding.map(|binding| binding.key_secret_ref.name.clone()));
        Ok(Self {
            account: digests(of_account, secrets).await?,
            solvers: digests(of_solvers, secrets).await?,
        })
    }

    /// Takes `now` in the place of what was known. What has gone is remembered: an account that works does so without the
    /// Secrets that it was made with, and one that comes back as it was is no news.
    pub fn update(&mut self, now: Self) -> Difference {
        let account = update(&mut self.account, now.account);
        let solvers = update(&mut self.solvers, now.solvers);
        match (account, solvers) {
            (true, _) => Difference::Account,
            (false, true) => Difference::Solvers,
            (false, false) => Difference::Nothing,
        }
    }
}

fn update(known: &mut BTreeMap<String, Option<Digest>>, now: BTreeMap<String, Option<Digest>>) -> bool {
    let mut differs = false;
    known.retain(|name, _| now.contains_key(name));
    for (name, digest) in now {
        let before = known.entry(name).or_default();
        if digest.is_some() && *before != digest {
            *before = digest;
            differs = true;
        }
    }
    differs
}

async fn digests(
    names: BTreeSet<String>,
    secrets: &dyn SecretReader,
) -> Result<BTreeMap<String, Option<Digest>>, SecretReadError> {
    let mut all = BTreeMap::new();
    for name in names {
        let digest = match secrets.read(&name).await {
            Ok(data) => Some(digest(&data)),
            Err(SecretReadError::NotFound) => None,
            Err(error) => return Err(error),
        };
        all.insert(name, digest);
    }
    Ok(all)
}

fn digest(data: &SecretData) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for (key, value) in data {
        for part in [key.as_bytes(), value.as_slice()] {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
    }
    let mut digest = Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use async_trait::async_trait;
    use gatehouse_crds::issuer::IssuerSpec;
    use zeroize::Zeroizing;

    use super::*;

    #[derive(Clone, Default)]
    struct Fixed(BTreeMap<&'static str, &'static str>);

    #[async_trait]
    impl SecretReader for Fixed {
        async fn read(&self, name: &str) -> Result<SecretData, SecretReadError> {
            let value = self.0.get(name).ok_or(SecretReadError::NotFound)?;
            Ok([("key".to_owned(), Zeroizing::new(value.as_bytes().to_vec()))].into())
        }
    }

    fn spec() -> IssuerSpec {
        serde_saphyr::from_str(
            "acme:
  server: https://acme.test/directory
  caBundleSecretRef: {name: bundle, key: ca.crt}
  privateKeySecretRef: {name: account}
  externalAccountBinding: {keyID: kid, keySecretRef: {name: eab, key: secret}}
  solvers:
  - http01: {ingress: {ingressClassName: nginx}}
  - dns01: {rfc2136: {nameserver: '192.0.2.1:53', tsigKeyName: k, tsigAlgorithm: HMACSHA256, tsigSecretSecretRef: {name: tsig, key: secret}}}
  - dns01: {route53: {accessKeyIDSecretRef: {name: aws-id, key: id}, secretAccessKeySecretRef: {name: aws, key: key}}}
  - dns01: {acmeDNS: {host: 'https://auth.test', accountSecretRef: {name: acme-dns, key: json}}}
  - dns01: {provider: {type: hetzner, config: {}, credentialsSecretRef: {name: hetzner}}}
",
        )
        .unwrap()
    }

    #[test]
    fn every_secret_that_an_issuer_names_is_watched() {
        let names =
            |spec: &IssuerSpec| -> Vec<String> { of(spec.config(), "app").into_iter().map(|one| one.name).collect() };
        assert_eq!(
            names(&spec()),
            [
                "account", "acme-dns", "aws", "aws-id", "bundle", "eab", "hetzner", "tsig"
            ]
        );
        assert_eq!(
            names(&serde_saphyr::from_str("ca: {secretName: internal-ca}").unwrap()),
            ["internal-ca"]
        );
        assert_eq!(names(&serde_saphyr::from_str("selfSigned: {}").unwrap()), [""; 0]);
    }

    #[tokio::test]
    async fn a_rotated_credential_is_told_from_one_that_stayed() {
        let spec = spec();
        let acme = spec.acme.as_ref().unwrap();
        let secrets = Fixed([("account", "a"), ("bundle", "b"), ("eab", "e"), ("tsig", "t")].into());
        let start = Credentials::read(acme, &secrets).await.unwrap();
        for (name, value, expected) in [
            ("account", "a", Difference::Nothing),
            ("account", "a2", Difference::Account),
            ("bundle", "b2", Difference::Account),
            ("eab", "e2", Difference::Account),
            ("tsig", "t2", Difference::Solvers),
            ("hetzner", "made later", Difference::Solvers),
            ("another", "x", Difference::Nothing),
        ] {
            let mut changed = secrets.clone();
            changed.0.insert(name, value);
            let mut known = start.clone();
            let now = Credentials::read(acme, &changed).await.unwrap();
            assert_eq!(known.update(now.clone()), expected, "{name}");
            assert_eq!(known.update(now), Difference::Nothing, "{name}: once");
        }
        // What goes and comes back as it was is no news.
        let mut known = start.clone();
        let now = Credentials::read(acme, &Fixed::default()).await.unwrap();
        assert_eq!(known.update(now), Difference::Nothing);
        assert_eq!(known.update(start), Difference::Nothing);
    }
}
