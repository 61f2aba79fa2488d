//! Which object a command is about: `web`, `gateway web`, `gateway/web`.

use super::connection::Trouble;

/// The kinds that have a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Certificate,
    Gateway,
}

impl Kind {
    /// From the words that kubectl takes for it.
    pub fn of(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        match word.strip_suffix(".gatehouse.dev").unwrap_or(&word) {
            "certificate" | "certificates" | "ghcert" => Some(Self::Certificate),
            "gateway" | "gateways" | "ghgw" => Some(Self::Gateway),
            _ => None,
        }
    }
}

/// One object, by its name, and by its kind where that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub kind: Option<Kind>,
    pub name: String,
}

impl Subject {
    /// Returns the subject of the words on the command line: none is all.
    pub fn of(words: &[String]) -> Result<Option<Self>, Trouble> {
        let (kind, name) = match words {
            [] => return Ok(None),
            // One word is a name, also when a kind is called so.
            [word] => match word.split_once('/') {
                None => (None, word),
                Some((kind, name)) => (Some(kind), &name.to_owned()),
            },
            [kind, name, ..] => (Some(kind.as_str()), name),
        };
        let kind = kind.map(|word| {
            Kind::of(word).ok_or_else(|| {
                Trouble::Usage(format!(
                    "there is no story of the kind {word}: write certificate NAME, gateway NAME, or one NAME alone"
                ))
            })
        });
        Ok(Some(Self {
            kind: kind.transpose()?,
            name: name.clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(line: &str) -> Result<Option<Subject>, Trouble> {
        Subject::of(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_kind_is_said_as_kubectl_says_it() {
        for (line, kind, name) in [
            ("web", None, "web"),
            ("gateway", None, "gateway"),
            ("gateway web", Some(Kind::Gateway), "web"),
            ("gateways web", Some(Kind::Gateway), "web"),
            ("ghgw/web", Some(Kind::Gateway), "web"),
            ("gateway.gatehouse.dev/web", Some(Kind::Gateway), "web"),
            ("Certificate web", Some(Kind::Certificate), "web"),
            ("certificates.gatehouse.dev/web", Some(Kind::Certificate), "web"),
        ] {
            let name = name.to_owned();
            assert_eq!(of(line).unwrap(), Some(Subject { kind, name }), "{line}");
        }
        assert_eq!(of("").unwrap(), None);
        assert!(matches!(of("secret web"), Err(Trouble::Usage(words)) if words.contains("kind secret")));
    }
}
