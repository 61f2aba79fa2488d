//! A JSON object of a server, read as leniently as the meaning of its members allows.
//!
//! An optional value (a date, a note, a problem's text) is absent when it cannot be read. A required one that is missing or wrong
//! is an error that names the member and where the object came from.

use jiff::Timestamp;
use serde_json::{Map, Value};

use gatehouse_egress::printable;

use super::answer::{Answer, absolute};
use super::error::AcmeError;

/// The members of one object.
pub(super) struct Fields<'a> {
    answer: &'a Answer,
    what: &'static str,
    members: Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// Reads the body of an answer. `what` is its name in errors.
    pub(super) fn read(answer: &'a Answer, what: &'static str) -> Result<Self, AcmeError> {
        // Some servers write a byte order mark.
        let body = answer.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&answer.body);
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Ok(Self { answer, what, members }),
            Ok(_) => Err(wrong(answer, what, "is no JSON object", &answer.excerpt())),
            // Where and what, cut: the text itself may be anything.
            Err(error) => Err(wrong(
                answer,
                what,
                &format!("cannot be read: {error}"),
                &answer.excerpt(),
            )),
        }
    }

    /// The members of an object within the answer.
    pub(super) fn within(answer: &'a Answer, what: &'static str, members: Map<String, Value>) -> Self {
        Self { answer, what, members }
    }

    /// An error that names a member and shows its value.
    pub(super) fn wrong(&self, name: &str, problem: &str) -> AcmeError {
        let shown = self.members.get(name).map(Value::to_string).unwrap_or_default();
        wrong(self.answer, self.what, &format!("{name} {problem}"), &shown)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|value| !value.is_null())
    }

    /// A text that is not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let text = self.members.get(name)?.as_str()?.trim();
        (!text.is_empty()).then_some(text)
    }

    /// A word of the protocol, in lower case.
    pub(super) fn word(&self, name: &str) -> Option<String> {
        self.text(name)
            .map(|text| text.chars().take(32).collect::<String>().to_ascii_lowercase())
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        match self.members.get(name) {
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
            _ => false,
        }
    }

    /// A date that cannot be read is as good as none: it is only a hint.
    pub(super) fn timestamp(&self, name: &str) -> Option<Timestamp> {
        self.text(name)?.parse().ok()
    }

    /// A URL, made whole; none when the member is absent, null or empty.
    pub(super) fn url(&self, name: &str) -> Result<Option<String>, AcmeError> {
        match self.members.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(value) => value
                .as_str()
                .and_then(|reference| absolute(&self.answer.url, reference))
                .map(Some)
                .ok_or_else(|| self.wrong(name, "is no URL")),
        }
    }

    /// A list; none is an empty one.
    pub(super) fn list(&mut self, name: &str, most: usize) -> Result<Vec<Value>, AcmeError> {
        match self.members.get(name) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(list)) if list.len() > most => {
                let problem = format!("lists {} entries, more than {most}", list.len());
                return Err(wrong(self.answer, self.what, &format!("{name} {problem}"), ""));
            }
            Some(Value::Array(_)) => {}
            Some(_) => return Err(self.wrong(name, "is no list")),
        }
        match self.members.remove(name) {
            Some(Value::Array(list)) => Ok(list),
            _ => Ok(Vec::new()),
        }
    }
}

fn wrong(answer: &Answer, what: &str, problem: &str, shown: &str) -> AcmeError {
    let url = printable(&answer.url, 120);
    let shown = printable(shown, 200);
    let colon = if shown.is_empty() { "" } else { ": " };
    AcmeError::malformed(answer, &format!("{what} from {url}: {problem}{colon}{shown}"))
}
