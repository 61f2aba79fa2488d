#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use std::collections::BTreeMap;

use aws_lc_rs::{encoding::AsDer, rsa};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::*;
use crate::issuer::solver::dns01::catalogue;

/// A value that the provider's constructor takes.
fn sample(name: &str, pem: &str) -> String {
    match name {
        "serviceAccount" => {
            r#"{"client_email": "a@b.test", "private_key": "k", "token_uri": "https://oauth2.googleapis.com/token"}"#
                .into()
        }
        "privateKey" => pem.into(),
        "iamToken" => STANDARD.encode(r#"{"id": "i", "service_account_id": "s", "private_key": "k"}"#),
        "endpoint" => "ovh-eu".into(),
        "region" => "eu-frankfurt-1".into(),
        "host" | "baseURL" | "serverURL" => "https://192.0.2.1".into(),
        _ => format!("value-of-{name}"),
    }
}

fn required(kind: ProviderType, pem: &str) -> HashMap<String, Zeroizing<String>> {
    let mut values: HashMap<_, _> = catalogue::entry(kind)
        .fields
        .iter()
        .filter(|field| field.required)
        .map(|field| (field.name.to_owned(), Zeroizing::new(sample(field.name, pem))))
        .collect();
    if kind == ProviderType::Pdns {
        values.insert("endpoint".into(), Zeroizing::new("http://192.0.2.1:8081".into()));
    }
    if kind == ProviderType::ClouDns {
        values.insert("authID".into(), Zeroizing::new("1".into()));
    }
    if kind == ProviderType::Joker {
        values.insert("apiKey".into(), Zeroizing::new("value".into()));
    }
    values
}

#[test]
fn every_provider_can_be_made_of_its_required_fields_and_says_which_are_missing() {
    let key = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key).unwrap();
    let pem = pem::encode(&pem::Pem::new("PRIVATE KEY", der.as_ref().to_vec()));
    for kind in ProviderType::ALL.iter().copied() {
        let entry = catalogue::entry(kind);
        let fields = Fields::new(kind, &entry, required(kind, &pem), "the Secret s").unwrap();
        if let Err(error) = (entry.build)(&fields) {
            panic!("{kind:?}: {error:?}");
        }
        let Some(needed) = entry.fields.iter().find(|field| field.required) else {
            continue;
        };
        let mut without = required(kind, &pem);
        without.remove(needed.name);
        let error = Fields::new(kind, &entry, without, "the Secret s")
            .err()
            .unwrap()
            .to_string();
        let start = format!("{}: {} not found in the Secret s; it takes", kind.as_str(), needed.name);
        assert!(error.starts_with(&start), "{error}");
    }
}

#[test]
fn every_provider_takes_a_credential_and_names_no_field_twice() {
    for kind in ProviderType::ALL {
        let fields = catalogue::entry(*kind).fields;
        assert!(fields.iter().any(|field| field.secret), "{kind:?}");
        let names: BTreeMap<_, _> = fields.iter().map(|field| (field.name, field)).collect();
        assert_eq!(names.len(), fields.len(), "{kind:?}");
    }
}

#[test]
fn credentials_in_the_manifest_and_unknown_settings_are_refused() {
    let check = |name: &str| {
        check_config(ProviderType::Vercel, &[(name.to_owned(), "v".to_owned())].into())
            .map_err(|error| error.to_string())
    };
    assert_eq!(check("teamID"), Ok(()));
    assert_eq!(
        check("token").unwrap_err(),
        "provider.config.token: it is a credential: put it into the Secret of credentialsSecretRef"
    );
    assert_eq!(
        check("team").unwrap_err(),
        "provider.config.team: vercel does not know it; it takes in the Secret of credentialsSecretRef: token; in config \
         or there: teamID (optional)"
    );
}

#[test]
fn a_service_account_cannot_send_its_token_elsewhere() {
    let key = r#"{"client_email": "a", "private_key": "k", "token_uri": "https://169.254.169.254/x.googleapis.com"}"#;
    let values = [("serviceAccount", key), ("project", "p")];
    let values = values
        .map(|(name, value)| (name.to_owned(), Zeroizing::new(value.to_owned())))
        .into();
    let kind = ProviderType::GoogleCloudDns;
    let fields = Fields::new(kind, &catalogue::entry(kind), values, "the solver").unwrap();
    assert!(matches!(google(&fields), Err(Error::Parse(message)) if message.contains("token_uri")));
}

#[test]
fn the_reference_lists_every_provider_with_its_fields() {
    let named = |fields: &[Field], secret: bool| {
        let names: Vec<_> = fields
            .iter()
            .filter(|field| field.secret == secret)
            .map(|field| format!("`{}`{}", field.name, if field.required { "" } else { " (optional)" }))
            .collect();
        names.join(", ")
    };
    let mut table = String::from("| `type` | Keys of the Secret | Settings | TTL |\n|---|---|---|---|\n");
    for kind in ProviderType::ALL {
        let entry = catalogue::entry(*kind);
        let (keys, settings) = (named(entry.fields, true), named(entry.fields, false));
        table.extend([
            "| `",
            kind.as_str(),
            "` | ",
            &keys,
            " | ",
            &settings,
            " | ",
            &entry.ttl.to_string(),
            " s |\n",
        ]);
    }
    crate::reference::check("dns-providers.md", "providers", &table);
}
