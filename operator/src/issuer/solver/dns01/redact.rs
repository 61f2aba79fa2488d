//! Keeps credentials out of the texts that providers and the library give.
//!
//! Some APIs take their token in the URL, some answer with what they were sent, and the library quotes answers that
//! it cannot read.

use base64::{Engine, alphabet, engine};
use http::HeaderMap;
use zeroize::Zeroizing;

use crate::egress::printable;

/// Shorter ones would strike out words.
const MIN_LENGTH: usize = 4;
/// Characters of a text of others.
const MAX_TEXT_LENGTH: usize = 300;
/// Shorter parts of a header are words such as `Bearer`.
const MIN_PART_LENGTH: usize = 8;

/// base64 as it is met: padded or not, for URLs or not.
const LENIENT: engine::GeneralPurposeConfig = engine::GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(engine::DecodePaddingMode::Indifferent);
const ENGINES: [engine::GeneralPurpose; 2] = [
    engine::GeneralPurpose::new(&alphabet::STANDARD, LENIENT),
    engine::GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT),
];

/// Returns what may be a credential in headers that are sent: all but those that are known to hold none.
pub(super) fn of_headers(headers: &HeaderMap) -> Vec<Zeroizing<String>> {
    const PLAIN: [&str; 9] = [
        "accept",
        "content-length",
        "content-type",
        "date",
        "x-amz-date",
        "x-amz-target",
        "x-tc-action",
        "x-tc-region",
        "x-tc-version",
    ];
    headers
        .iter()
        .filter(|(name, _)| !PLAIN.contains(&name.as_str()))
        .filter_map(|(_, value)| value.to_str().ok())
        .flat_map(|value| value.split([' ', ',', ';']))
        .filter(|part| part.len() >= MIN_PART_LENGTH)
        .map(|part| Zeroizing::new(part.to_owned()))
        .collect()
}

/// Returns the text without secrets, answers that could not be read and queries of URLs, fit for a status.
pub(super) fn strike_out<'a>(text: &str, secrets: impl IntoIterator<Item = &'a Zeroizing<String>>) -> String {
    // The library's words before an answer that it could not read: it may be the answer to a login.
    let text = text.split(" (body: ").next().unwrap_or_default();
    let mut message = text.to_owned();
    let mut secrets: Vec<&str> = secrets
        .into_iter()
        .map(|secret| secret.as_str())
        .filter(|secret| secret.len() >= MIN_LENGTH)
        .collect();
    // One may be a part of another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in &secrets {
        for form in forms(secret) {
            message = message.replace(form.as_str(), "…");
        }
    }
    let words = message.split(' ').map(|word| match word.split_once('?') {
        Some((start, _)) if word.contains("://") => format!("{start}?…"),
        _ => without_encoded(word, &secrets),
    });
    printable(&words.collect::<Vec<_>>().join(" "), MAX_TEXT_LENGTH)
}

/// A secret as it is, in a URL, in a form, and in JSON.
fn forms(secret: &str) -> Vec<Zeroizing<String>> {
    let percent: String = secret
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    let lower = percent
        .split('%')
        .enumerate()
        .map(|(index, part)| match (index, part.split_at_checked(2)) {
            (0, _) | (_, None) => part.to_owned(),
            (_, Some((code, rest))) => format!("{}{rest}", code.to_ascii_lowercase()),
        })
        .collect::<Vec<_>>()
        .join("%");
    let form = percent.replace("%20", "+");
    let json = serde_json::json!(secret).to_string();
    let json = json.trim_matches('"').to_owned();
    [secret.to_owned(), json, percent, lower, form]
        .into_iter()
        .map(Zeroizing::new)
        .collect()
}

/// Strikes out runs of base64 that hold a secret, such as the credentials of Basic authentication.
fn without_encoded(word: &str, secrets: &[&str]) -> String {
    let of_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_');
    let mut out = word.to_owned();
    for run in word.split(|c| !of_base64(c)).filter(|run| run.len() >= MIN_PART_LENGTH) {
        let holds = ENGINES.iter().any(|engine| {
            let decoded = engine.decode(run).map(Zeroizing::new).unwrap_or_default();
            let text = Zeroizing::new(String::from_utf8_lossy(&decoded).into_owned());
            secrets.iter().any(|secret| text.contains(secret))
        });
        if holds {
            out = out.replace(run, "…");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn secrets(texts: &[&str]) -> Vec<Zeroizing<String>> {
        texts.iter().map(|text| Zeroizing::new((*text).to_owned())).collect()
    }

    #[test]
    fn credentials_and_queries_are_struck_out_of_messages() {
        let secrets = secrets(&["s3cret-token", "no"]);
        assert_eq!(
            strike_out(
                "Failed to send request to https://api.test/update?key=a%20b: not with s3cret-token",
                &secrets
            ),
            "Failed to send request to https://api.test/update?… not with …"
        );
    }

    #[test]
    fn a_secret_is_struck_out_in_every_form_that_a_provider_may_give_back() {
        let secret = "p&ss \"word\"/1+é";
        let basic = ENGINES[0].encode(format!("user:{secret}"));
        let url_safe = ENGINES[1].encode(format!("user:{secret}"));
        for text in [
            "p&ss \"word\"/1+é",
            r#"{"password": "p&ss \"word\"/1+é"}"#,
            "password=p%26ss%20%22word%22%2F1%2B%C3%A9",
            "password=p%26ss%20%22word%22%2f1%2b%c3%a9",
            "password=p%26ss+%22word%22%2F1%2B%C3%A9",
            &format!("Authorization: Basic {basic}"),
            &format!("{{\"authorization\":\"Basic {url_safe}\"}}"),
        ] {
            let struck = strike_out(text, &secrets(&[secret]));
            for part in [
                "p&ss",
                "%26ss",
                "1+é",
                "1%2",
                basic.trim_end_matches('='),
                url_safe.trim_end_matches('='),
            ] {
                assert!(!struck.contains(part), "{text}: {struck}");
            }
            assert!(struck.contains('…'), "{struck}");
        }
    }

    #[test]
    fn an_answer_that_could_not_be_read_is_not_quoted_and_long_texts_are_cut() {
        assert_eq!(
            strike_out(
                "Failed to deserialize response: EOF (body: {\"access_token\": \"x\"})",
                &[]
            ),
            "Failed to deserialize response: EOF"
        );
        assert_eq!(strike_out(&"ü\u{1b}".repeat(900), &[]).chars().count(), MAX_TEXT_LENGTH);
    }

    #[test]
    fn tokens_in_headers_are_secrets_and_dates_are_not() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer abcdefgh.ijk".parse().unwrap());
        headers.insert("x-api-key", "0123456789".parse().unwrap());
        headers.insert("content-type", "application/json".parse().unwrap());
        let mut found = of_headers(&headers);
        found.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        assert_eq!(found, secrets(&["0123456789", "abcdefgh.ijk"]));
    }
}
