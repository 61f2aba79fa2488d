//! A span of time as people write it in Kubernetes: `90s`, `2160h`, `1h30m`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A non-negative duration in Go's notation (`300ms`, `90s`, `10m`, `2160h`, `1h30m`).
///
/// The text is kept as written, so that an object read and written again is the same object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duration {
    text: String,
    value: std::time::Duration,
}

impl Duration {
    /// The span itself.
    pub fn value(&self) -> std::time::Duration {
        self.value
    }
}

impl From<std::time::Duration> for Duration {
    fn from(value: std::time::Duration) -> Self {
        Self {
            text: format!("{}s", value.as_secs()),
            value: std::time::Duration::from_secs(value.as_secs()),
        }
    }
}

impl std::str::FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is not a duration; write one such as 90s, 10m or 2160h");
        if !text.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(wrong());
        }
        let parsed: kube::core::Duration = text.parse().map_err(|_| wrong())?;
        Ok(Self {
            text: text.to_owned(),
            value: parsed.into(),
        })
    }
}

impl std::fmt::Display for Duration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 32,
            "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$",
            // The pattern's own message names the pattern only.
            "x-kubernetes-validations": [{
                "rule": r"self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$')",
                "message": "write hours, minutes and seconds, such as 2160h for 90 days, 1h30m or 90s; there are no units above h"
            }]
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_written_is_kept() {
        let duration: Duration = serde_json::from_str("\"1h30m\"").unwrap();
        assert_eq!(duration.value().as_secs(), 5400);
        assert_eq!(serde_json::to_string(&duration).unwrap(), "\"1h30m\"");
    }

    #[test]
    fn rubbish_and_negative_spans_are_refused() {
        for text in ["", "90", "-1h", "1 day", "h"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }
}
