//! Rules of alerts.

use std::borrow::Cow;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::duration::Duration;

/// Rules of a policy. Omitted rules are disabled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    /// Fires when this little of the certificate's lifetime is left, and it has not been renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiring: Option<Expiring>,
    /// The certificate has run out. Critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired: Option<Switch>,
    /// Attempts to get a certificate fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_failed: Option<RenewalFailed>,
    /// There has been no valid certificate for the spec for so long. Critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_ready: Option<NotReady>,
    /// The circuit breaker holds its re-issue back. Warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reissue_held: Option<Switch>,
    /// An Internal Gateway has a public address. Critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure_mismatch: Option<Switch>,
    /// A new certificate took the place of the one before. Info; it ends by itself after five minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed: Option<Renewed>,
}

impl Rules {
    /// The rules of a policy that names none.
    pub fn defaults() -> Self {
        Self {
            expiring: Some(Expiring::default()),
            expired: Some(Switch::default()),
            renewal_failed: Some(RenewalFailed::default()),
            not_ready: Some(NotReady::default()),
            reissue_held: Some(Switch::default()),
            exposure_mismatch: Some(Switch::default()),
            renewed: None,
        }
    }
}

/// On by being there, unless switched off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Switch {
    /// Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// Two thresholds: a share of the lifetime (`25%`), or a time (`21d`, `12h`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.warning) || !has(self.critical) || !self.warning.matches('^[0-9]+%$') || !self.critical.matches('^[0-9]+%$') || int(self.critical.replace('%', '')) < int(self.warning.replace('%', ''))")
        .message("critical must be less than warning: less is left of the certificate by then"),
    validation = Rule::new("!has(self.warning) || !has(self.critical) || !self.warning.matches('^[0-9]+d$') || !self.critical.matches('^[0-9]+d$') || int(self.critical.replace('d', '')) < int(self.warning.replace('d', ''))")
        .message("critical must be less than warning: less is left of the certificate by then"),
    validation = Rule::new("!has(self.warning) || !has(self.critical) || !self.warning.matches('^([0-9]+(ms|s|m|h))+$') || !self.critical.matches('^([0-9]+(ms|s|m|h))+$') || duration(self.critical) < duration(self.warning)")
        .message("critical must be less than warning: less is left of the certificate by then")
)]
pub struct Expiring {
    /// Default: 25%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<Threshold>,
    /// Default: 10%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<Threshold>,
}

/// After how many attempts that failed in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.afterAttempts) || !has(self.criticalAfterAttempts) || self.afterAttempts <= self.criticalAfterAttempts")
        .message("criticalAfterAttempts must not be less than afterAttempts")
)]
pub struct RenewalFailed {
    /// Warning. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub after_attempts: Option<i64>,
    /// Critical. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub critical_after_attempts: Option<i64>,
}

/// Time without a valid certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotReady {
    /// Default: 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Duration>,
}

/// Off unless switched on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Renewed {
    /// Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// Severity of the alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// Returns the value in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Remaining lifetime of a certificate: a share in whole percent (`25%`), or a time (`21d`, `36h`, `90s`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    text: String,
    left: Left,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Percent(u8),
    Time(std::time::Duration),
}

impl Threshold {
    /// Returns the rest of a `lifetime` at the threshold.
    pub fn of(&self, lifetime: std::time::Duration) -> std::time::Duration {
        match self.left {
            Left::Percent(percent) => lifetime.mul_f64(f64::from(percent) / 100.0),
            Left::Time(time) => time,
        }
    }
}

impl std::str::FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!("{text:?} is no threshold; write a share of the lifetime such as 25%, or a time such as 21d or 12h")
        };
        let left = if let Some(percent) = text.strip_suffix('%') {
            let percent = percent.parse().ok().filter(|percent| (1..=99).contains(percent));
            Left::Percent(percent.ok_or_else(wrong)?)
        } else if let Some((days, rest)) = text.split_once('d') {
            let days: u64 = days.parse().map_err(|_| wrong())?;
            let rest = if rest.is_empty() {
                std::time::Duration::ZERO
            } else {
                rest.parse::<Duration>().map_err(|_| wrong())?.value()
            };
            let days = std::time::Duration::from_secs(days.checked_mul(86_400).ok_or_else(wrong)?);
            Left::Time(days.checked_add(rest).ok_or_else(wrong)?)
        } else {
            Left::Time(text.parse::<Duration>().map_err(|_| wrong())?.value())
        };
        Ok(Self {
            text: text.to_owned(),
            left,
        })
    }
}

impl Serialize for Threshold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Threshold {
    fn schema_name() -> Cow<'static, str> {
        "Threshold".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 32,
            "pattern": r"^([1-9][0-9]?%|[0-9]{1,4}d(([0-9]+(ms|s|m|h))+)?|([0-9]+(ms|s|m|h))+)$",
            // The pattern's own message names the pattern only.
            "x-kubernetes-validations": [{
                "rule": r"self.matches('^([1-9][0-9]?%|[0-9]{1,4}d(([0-9]+(ms|s|m|h))+)?|([0-9]+(ms|s|m|h))+)$')",
                "message": "write a share of the lifetime, 1% to 99%, or a time such as 21d, 36h or 90s"
            }]
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_threshold_is_a_share_or_a_time() {
        let lifetime = std::time::Duration::from_secs(100 * 86_400);
        for (text, days) in [("25%", 25.0), ("1%", 1.0), ("21d", 21.0), ("12h", 0.5), ("1d12h", 1.5)] {
            let threshold: Threshold = text.parse().unwrap();
            let left = threshold.of(lifetime).as_secs_f64() / 86_400.0;
            assert!((left - days).abs() < 1e-9, "{text}: {left}");
            assert_eq!(serde_json::to_string(&threshold).unwrap(), format!("\"{text}\""));
        }
        for text in [
            "",
            "0%",
            "100%",
            "-1%",
            "25",
            "d",
            "1w",
            "99999999999999999999d",
            "18446744073709551615d",
        ] {
            assert!(text.parse::<Threshold>().is_err(), "{text}");
        }
    }
}
