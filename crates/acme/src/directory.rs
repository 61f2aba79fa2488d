//! The directory of a server (RFC 8555 §7.1.1, RFC 9773 §4, and the profiles extension).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use gatehouse_egress::printable;

use super::answer::Answer;
use super::error::AcmeError;
use super::fields::Fields;

/// Profiles of one server; Let's Encrypt has three.
const MAX_PROFILES: usize = 100;

/// URLs and metadata of an ACME server. Fields that we don't use are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    pub(super) new_nonce: String,
    pub(super) new_account: String,
    pub(super) new_order: String,
    pub(super) key_change: Option<String>,
    /// Absent where the CA has no ARI; without a slash at its end.
    pub(super) renewal_info: Option<String>,
    pub meta: DirectoryMeta,
}

/// Metadata of a CA.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirectoryMeta {
    pub terms_of_service: Option<String>,
    pub external_account_required: bool,
    /// Name to description; empty where the CA has no profiles.
    pub profiles: BTreeMap<String, String>,
}

impl Directory {
    /// Whether the CA gives renewal information (RFC 9773).
    pub fn has_renewal_info(&self) -> bool {
        self.renewal_info.is_some()
    }

    pub(super) fn read(answer: &Answer) -> Result<Self, AcmeError> {
        let what = "the directory";
        let mut fields = Fields::read(answer, what)?;
        let needed = |name| fields.url(name)?.ok_or_else(|| fields.wrong(name, "is missing"));
        let (new_nonce, new_account, new_order) = (needed("newNonce")?, needed("newAccount")?, needed("newOrder")?);
        // What a CA may leave out, and has wrong, it has not.
        let offered = |name| fields.url(name).ok().flatten();
        let key_change = offered("keyChange");
        let renewal_info = offered("renewalInfo").map(|url| url.trim_end_matches('/').to_owned());
        let meta = match fields.take("meta") {
            Some(Value::Object(meta)) => DirectoryMeta::of(Fields::within(answer, what, meta)),
            _ => DirectoryMeta::default(),
        };
        Ok(Self {
            new_nonce,
            new_account,
            new_order,
            key_change,
            renewal_info,
            meta,
        })
    }

    /// The fields that instant-acme requires.
    pub(super) fn normal(&self) -> Value {
        json!({
            "newNonce": self.new_nonce,
            "newAccount": self.new_account,
            "newOrder": self.new_order,
            "renewalInfo": self.renewal_info,
        })
    }
}

impl DirectoryMeta {
    fn of(mut fields: Fields<'_>) -> Self {
        let profiles = match fields.take("profiles") {
            Some(Value::Object(profiles)) => profiles
                .into_iter()
                .filter(|(name, _)| !name.is_empty() && name.len() <= 100)
                .take(MAX_PROFILES)
                .map(|(name, text)| (name, printable(text.as_str().unwrap_or_default(), 200)))
                .collect(),
            _ => BTreeMap::new(),
        };
        Self {
            terms_of_service: fields.url("termsOfService").ok().flatten(),
            external_account_required: fields.flag("externalAccountRequired"),
            profiles,
        }
    }
}
