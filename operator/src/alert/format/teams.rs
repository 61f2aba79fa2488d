//! A Workflows webhook of Microsoft Teams: an Adaptive Card.
//!
//! <https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>

use gatehouse_crds::alert::Severity;
use serde_json::{Value, json};

use super::{Envelope, escaped};
use crate::alert::message::Status;
use crate::alert::render;

/// So that a card stays below the 28 KB that Teams takes, in characters after escaping.
const SUMMARY: usize = 1000;
const FALLBACK: usize = 300;
const FACT: usize = 600;

pub(super) fn body(envelope: &Envelope) -> Value {
    let news = &envelope.news;
    let summary = news.summary(envelope.time, &envelope.policy);
    let mut facts = news.facts();
    facts.push(("Policy", render::policy(&envelope.policy)));
    let facts: Vec<_> = facts
        .iter()
        .map(|(name, value)| json!({"title": name, "value": escaped(value, FACT, escape)}))
        .collect();
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "fallbackText": escaped(&summary, FALLBACK, |_| None),
        "body": [
            {"type": "TextBlock", "text": news.headline(), "size": "Large", "weight": "Bolder", "wrap": true,
             "color": colour(news.weight())},
            {"type": "TextBlock", "text": escaped(&summary, SUMMARY, escape), "wrap": true},
            {"type": "FactSet", "facts": facts},
        ],
    });
    if let (Some(rule), Some(card)) = (news.rule(), card.as_object_mut()) {
        let action = json!({"type": "Action.OpenUrl", "title": "What to do", "url": render::runbook(rule)});
        card.insert("actions".into(), json!([action]));
    }
    json!({
        "type": "message",
        "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}],
    })
}

/// Cards read a part of Markdown, and HTML, in which a backslash takes the meaning from any ASCII punctuation
/// (CommonMark §2.4). Parentheses make a link only after brackets, and `#` a title only where a line begins, which our
/// words or names do. A client that knows no backslash shows as few of them as can be.
fn escape(c: char) -> Option<&'static str> {
    Some(match c {
        '\\' => "\\\\",
        '`' => "\\`",
        '*' => "\\*",
        '_' => "\\_",
        '~' => "\\~",
        '[' => "\\[",
        ']' => "\\]",
        '{' => "\\{",
        '}' => "\\}",
        '<' => "\\<",
        '>' => "\\>",
        '&' => "\\&",
        _ => return None,
    })
}

fn colour(weight: Option<(Status, Severity)>) -> &'static str {
    match weight {
        Some((Status::Resolved, _)) => "Good",
        Some((_, Severity::Critical)) => "Attention",
        Some((_, Severity::Warning)) => "Warning",
        Some((_, Severity::Info)) | None => "Accent",
    }
}
