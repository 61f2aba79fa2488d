//! An incoming webhook of Slack.
//!
//! <https://docs.slack.dev/reference/block-kit/blocks>

use gatehouse_crds::alert::Severity;
use serde_json::{Value, json};

use super::{Envelope, escaped};
use crate::alert::message::Status;
use crate::alert::render;

/// Limits of Slack, in characters; and ours for the text of a notification.
const TEXT: usize = 3000;
const FIELD: usize = 2000;
const HEADER: usize = 150;
const NOTIFICATION: usize = 3000;

/// So many fields a section takes.
const FIELDS: usize = 10;

pub(super) fn body(envelope: &Envelope) -> Value {
    let news = &envelope.news;
    let summary = news.summary(envelope.time, &envelope.policy);
    let headline = news.headline();
    // Of our own words only.
    let header = format!("{} {headline}", sign(news.weight()));
    let mut blocks = vec![
        json!({"type": "header", "text": {"type": "plain_text", "text": escaped(&header, HEADER, |_| None), "emoji": true}}),
        json!({"type": "section", "text": text(&escaped(&summary, TEXT, escape))}),
    ];
    let facts = news.facts();
    if !facts.is_empty() {
        let fields = facts.iter().take(FIELDS).map(|(name, value)| {
            let room = FIELD - name.len() - 3;
            text(&format!("*{name}*\n{}", escaped(value, room, escape)))
        });
        blocks.push(json!({"type": "section", "fields": fields.collect::<Vec<_>>()}));
    }
    let policy = escaped(&render::policy(&envelope.policy), FIELD, escape);
    let footer = match news.rule() {
        Some(rule) => format!("<{}|What to do> · {policy}", render::runbook(rule)),
        None => policy,
    };
    blocks.push(json!({"type": "context", "elements": [text(&footer)]}));
    json!({
        "text": format!("{headline}: {}", escaped(&summary, NOTIFICATION, escape)),
        "blocks": blocks,
    })
}

/// Without Slack's own search for links, channels and people to call.
fn text(mrkdwn: &str) -> Value {
    json!({"type": "mrkdwn", "text": mrkdwn, "verbatim": true})
}

/// All that Slack wants escaped, which keeps out links and mentions such as `<!channel>`.
fn escape(c: char) -> Option<&'static str> {
    match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        _ => None,
    }
}

fn sign(weight: Option<(Status, Severity)>) -> &'static str {
    match weight {
        Some((Status::Resolved, _)) => ":white_check_mark:",
        Some((_, Severity::Critical)) => ":rotating_light:",
        Some((_, Severity::Warning)) => ":warning:",
        Some((_, Severity::Info)) | None => ":information_source:",
    }
}
