//! The story itself, made purely.

use gatehouse_crds::certificate::{AriStatus, Certificate, CertificateSpec, CertificateStatus, RotationPolicy};
use gatehouse_crds::duration::Duration;
use jiff::Timestamp;

use super::{
    advice::{self, Of},
    exists::Pair,
    gather::{Known, Seen},
    page::Page,
};
use crate::{
    certificate::{
        renewal,
        status::{self, ISSUING, READY},
    },
    cli::{
        moment::{both, relative, stamp},
        status::health::{self, Health, State},
        terminal::{Paint, Screen},
    },
    kubernetes::conditions,
};

/// Names that are listed; of more, how many.
const NAMES: usize = 12;
/// Maximum number of shown events.
const EVENTS: usize = 10;

/// Renders it.
pub(super) fn render(known: &Known, health: &Health, now: Timestamp, screen: Screen) -> String {
    let teller = Describer {
        known,
        certificate: &known.certificate,
        spec: &known.certificate.spec,
        status: known.certificate.status.clone().unwrap_or_default(),
        health,
        now,
    };
    let mut page = Page::new(screen);
    teller.title(&mut page);
    teller.wanted(&mut page);
    teller.exists(&mut page);
    teller.signed(&mut page);
    teller.happened(&mut page);
    teller.next(&mut page);
    teller.advice(&mut page);
    page.end()
}

struct Describer<'a> {
    known: &'a Known,
    certificate: &'a Certificate,
    spec: &'a CertificateSpec,
    status: CertificateStatus,
    health: &'a Health,
    now: Timestamp,
}

impl Describer<'_> {
    fn full_name(&self) -> (&str, &str) {
        let metadata = &self.certificate.metadata;
        (
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default(),
        )
    }

    fn title(&self, page: &mut Page) {
        let (namespace, name) = self.full_name();
        let paint = match self.health.state {
            State::Failing => Paint::Bad,
            State::Fine => Paint::Good,
            _ => Paint::Warn,
        };
        let why = [self.health.reason.as_deref().unwrap_or_default(), &self.health.detail];
        let why: Vec<_> = why.into_iter().filter(|part| !part.is_empty()).collect();
        let colon = if why.is_empty() { "" } else { ": " };
        page.title(
            &format!(
                "Certificate {namespace}/{name} is {}{colon}{}",
                self.health.state.word(),
                why.join(", ")
            ),
            paint,
        );
    }

    fn wanted(&self, page: &mut Page) {
        let spec = self.spec;
        page.heading("What is wanted");
        let mut names = spec.dns_names.clone();
        names.extend(
            spec.ip_addresses
                .iter()
                .chain(&spec.uris)
                .chain(&spec.email_addresses)
                .cloned(),
        );
        if !names.is_empty() {
            page.line("Names", &listed(&names));
        }
        if let Some(name) = &spec.common_name {
            page.line("Common name", name);
        }
        page.line("Secret", &spec.secret_name);
        let issuers = std::iter::once(&spec.issuer_ref).chain(&spec.fallback_issuer_refs);
        let issuers: Vec<_> = issuers
            .map(|issuer| format!("{} {}", issuer.kind(), issuer.name))
            .collect();
        page.line("Issuer", &issuers.join(", else "));
        page.line("Key", &key(spec));
        let lifetime = spec
            .duration
            .as_ref()
            .map_or_else(|| "what the issuer gives".to_owned(), ToString::to_string);
        page.line(
            "Lifetime",
            &format!("{lifetime}, renewed {}", by_the_clock(&self.status, spec)),
        );
        if spec.is_ca == Some(true) {
            page.line("CA", "yes: it may sign others");
        }
        if !spec.usages.is_empty() {
            page.line("Usages", &spec.usages.join(", "));
        }
        if spec.suspend == Some(true) {
            page.painted("Suspended", "yes: nothing is issued, renewed or healed", Paint::Warn);
        }
    }

    fn exists(&self, page: &mut Page) {
        page.heading("What exists");
        let secret = &self.spec.secret_name;
        let namespace = self.full_name().0;
        match &self.known.secret {
            Seen::Missing => page.painted("Secret", &format!("{secret} does not exist"), Paint::Bad),
            Seen::Failed(why) => page.painted("Secret", &format!("{secret} cannot be read: {why}"), Paint::Warn),
            Seen::Forbidden => {
                page.painted(
                    "Secret",
                    &format!(
                        "you may not read {secret} (get secrets, in namespace {namespace}); what Gatehouse noted of it:"
                    ),
                    Paint::Warn,
                );
                match (self.status.not_before, self.status.not_after) {
                    (Some(start), Some(end)) => self.validity(page, start, end),
                    _ => page.line("Valid", "nothing: there is no certificate yet"),
                }
                if let Some(serial) = &self.status.serial_number {
                    page.line("Serial", serial);
                }
            }
            Seen::There(contents) => {
                let owner = contents.owner.as_deref();
                match owner {
                    Some(owner) if owner == self.full_name().1 => page.line("Secret", secret),
                    Some(owner) => page.painted(
                        "Secret",
                        &format!("{secret}, which belongs to Certificate {owner}"),
                        Paint::Bad,
                    ),
                    None => page.painted(
                        "Secret",
                        &format!("{secret}, which Gatehouse did not write"),
                        Paint::Warn,
                    ),
                }
                match &contents.pair {
                    Ok(pair) => self.pair(page, pair),
                    Err(damage) => page.painted("Contents", &format!("cannot serve: {damage}"), Paint::Bad),
                }
            }
        }
    }

    fn validity(&self, page: &mut Page, start: Timestamp, end: Timestamp) {
        page.line("Valid from", &both(start, self.now));
        let paint = if end <= self.now { Paint::Bad } else { Paint::Plain };
        page.painted("Valid to", &both(end, self.now), paint);
    }

    fn pair(&self, page: &mut Page, pair: &Pair) {
        self.validity(page, pair.not_before, pair.not_after);
        page.line("Names", &listed(&pair.names));
        page.line("Key", &format!("{}, and it fits the certificate", pair.key));
        page.line("Serial", &pair.serial);
        if pair.mismatches.is_empty() && pair.differences.is_empty() {
            page.line("Compared", "it is what the spec asks for");
        } else if pair.mismatches.is_empty() {
            let differs = format!(
                "it serves the spec, with what its CA decided: {}",
                pair.differences.join("; ")
            );
            page.painted("Compared", &differs, Paint::Warn);
        } else {
            let differs = format!("it is not what the spec asks for: {}", pair.mismatches.join("; "));
            page.painted("Compared", &differs, Paint::Bad);
        }
        if self
            .status
            .serial_number
            .as_ref()
            .is_some_and(|known| *known != pair.serial)
        {
            page.painted("Compared", "Gatehouse has not seen this certificate yet", Paint::Warn);
        }
    }

    fn signed(&self, page: &mut Page) {
        page.heading("Who signed");
        let pair = match &self.known.secret {
            Seen::There(contents) => contents.pair.as_ref().ok(),
            _ => None,
        };
        let by = pair.map(|pair| format!("signed by {}", pair.signer));
        match &self.status.issuer {
            Some(issuer) => {
                let asked = &self.spec.issuer_ref;
                let first = (issuer.kind, &issuer.name) == (asked.kind(), &asked.name);
                let mut words = format!("{} {}", issuer.kind, issuer.name);
                if !first {
                    words.push_str(", which is not the one that is asked first");
                }
                words.extend(by.map(|by| format!("; the certificate is {by}")));
                page.line("Issuer", &words);
            }
            None => page.line("Issuer", &by.unwrap_or_else(|| "none yet".to_owned())),
        }
        let ready = conditions::find(&self.status.conditions, READY).filter(|ready| ready.status == "True");
        if let Some(remarks) = ready.and_then(|ready| status::remarks_in(&ready.message)) {
            page.painted("Remarks", remarks, Paint::Warn);
        }
        for (wanted, seen) in &self.known.issuers {
            let name = format!("{} {}", wanted.kind(), wanted.name);
            let (words, paint) = match seen {
                Seen::There(status) => match conditions::find(&status.conditions, READY) {
                    Some(ready) if ready.status == "True" => continue,
                    Some(ready) => (
                        format!("{name} is not ready: {}: {}", ready.reason, ready.message),
                        Paint::Bad,
                    ),
                    None => (format!("{name}: the operator has not looked at it"), Paint::Warn),
                },
                Seen::Missing => (format!("{name} does not exist"), Paint::Bad),
                Seen::Forbidden => (format!("{name}: you may not read it"), Paint::Faint),
                Seen::Failed(why) => (format!("{name} cannot be read: {why}"), Paint::Warn),
            };
            page.painted("", &words, paint);
        }
    }

    fn happened(&self, page: &mut Page) {
        page.heading("What happened");
        match (self.status.revision, self.status.issued_at) {
            (Some(revision), Some(at)) => {
                page.line("Revision", &format!("{revision}, issued {}", both(at, self.now)));
            }
            _ => page.line("Revision", "none: nothing was issued yet"),
        }
        if let Some(last) = &self.status.last_failure {
            let count = self.status.failed_attempts.unwrap_or_default();
            if count > 0 {
                page.line("Failures", &format!("{count} in a row"));
            }
            page.painted(
                "Last failure",
                &format!("{}, {}: {}", stamp(last.time), last.reason, last.message),
                Paint::Bad,
            );
        }
        match &self.known.events {
            Seen::There(events) => {
                let skipped = events.len().saturating_sub(EVENTS);
                for (number, event) in events.iter().skip(skipped).enumerate() {
                    let paint = if event.warning { Paint::Warn } else { Paint::Plain };
                    let words = format!("{} {}: {}", relative(event.at, self.now), event.reason, event.note);
                    page.painted(if number == 0 { "Events" } else { "" }, &words, paint);
                }
            }
            Seen::Missing => {}
            Seen::Forbidden => page.line("Events", "you may not list them"),
            Seen::Failed(why) => page.line("Events", &format!("cannot be listed: {why}")),
        }
    }

    fn next(&self, page: &mut Page) {
        page.heading("What is next");
        let status = &self.status;
        let requested =
            renewal::requested(self.certificate).filter(|asked| status.issued_at.is_none_or(|issued| *asked > issued));
        if let Some(asked) = requested {
            page.line("Requested", &format!("a renewal, at {}", both(asked, self.now)));
        }
        if self.health.reason.as_deref() == Some(health::SUSPENDED) {
            page.line("Nothing", "it is left alone until spec.suspend is taken away");
            return;
        }
        let issuing = conditions::find(&status.conditions, ISSUING);
        if let Some(issuing) = issuing.filter(|issuing| issuing.status == "True") {
            page.line("Under way", &issuing.message);
            let acme = status.acme.clone().unwrap_or_default();
            if let Some(url) = &acme.order_url {
                page.line("Order", url);
            }
            for challenge in &acme.challenges {
                let message = challenge.message.as_ref().map(|words| format!(": {words}"));
                page.line(
                    "Challenge",
                    &format!(
                        "{} for {}: {:?}{}",
                        challenge.kind,
                        challenge.identifier,
                        challenge.state,
                        message.unwrap_or_default()
                    ),
                );
            }
            if let Some(time) = status.next_attempt_time {
                page.line("Next step", &format!("{}, at the latest", both(time, self.now)));
            }
            return;
        }
        if let Some(time) = status.next_attempt_time {
            let words = if time > self.now {
                both(time, self.now)
            } else {
                format!("was due at {}", both(time, self.now))
            };
            page.line("Next attempt", &words);
        } else if let Some(time) = status.renewal_time {
            page.line("Renewal", &both(time, self.now));
            page.line("Because", &self.renewal_reason(time));
            let ari = status.acme.as_ref().and_then(|acme| acme.ari.as_ref());
            if let Some(check) = ari.and_then(|ari| ari.next_check_time) {
                page.line("CA's advice", &format!("is asked for {}", relative(check, self.now)));
            }
        } else {
            page.line("Nothing", "the operator has to look at it first");
        }
    }

    fn renewal_reason(&self, renewal: Timestamp) -> String {
        let ari = self.status.acme.as_ref().and_then(|acme| acme.ari.as_ref());
        if let Some(AriStatus {
            window_start: Some(start),
            window_end: Some(end),
            explanation_url,
            ..
        }) = ari
            && (*start..=*end).contains(&renewal)
        {
            let page = explanation_url
                .as_ref()
                .map(|url| format!(": {url}"))
                .unwrap_or_default();
            return format!(
                "the CA would like it between {} and {}{page}",
                stamp(*start),
                stamp(*end)
            );
        }
        format!("it is renewed {}", by_the_clock(&self.status, self.spec))
    }

    fn advice(&self, page: &mut Page) {
        if !self.health.state.is_unhealthy()
            || self.health.state == State::Issuing && self.status.last_failure.is_none()
        {
            return;
        }
        let (namespace, name) = self.full_name();
        page.heading("What to do");
        let reason = self.reason();
        let message = self.message();
        let words = advice::solver_words(&message);
        if words.is_empty() {
            let advice = advice::advice(Of::Certificate, &reason);
            let unknown = "See docs/reference/conditions.md of the operator's version; the message above says more.";
            page.line(&reason, advice.unwrap_or(unknown));
        }
        for word in words {
            page.line(word, advice::advice(Of::Solver, word).unwrap_or_default());
        }
        for (wanted, seen) in &self.known.issuers {
            let reason = match seen {
                Seen::Missing => "NotFound".to_owned(),
                Seen::There(status) => match conditions::find(&status.conditions, READY) {
                    Some(ready) if ready.status == "True" => continue,
                    Some(ready) => ready.reason.clone(),
                    None => health::UNSEEN.to_owned(),
                },
                Seen::Forbidden | Seen::Failed(_) => continue,
            };
            if let Some(advice) = advice::advice(Of::Issuer, &reason) {
                page.line(
                    "The issuer",
                    &format!("{} {}, {reason}: {advice}", wanted.kind(), wanted.name),
                );
            }
        }
        if matches!(self.health.state, State::Failing | State::Held) && reason != health::SUSPENDED {
            page.line(
                "Then",
                &format!(
                    "to have it tried at once: {} renew -n {namespace} {name} --wait",
                    crate::cli::called()
                ),
            );
        }
    }

    /// The failure to fix. While another attempt is under way, that of the last one.
    fn reason(&self) -> String {
        let last = self.status.last_failure.as_ref().map(|last| last.reason.clone());
        match self.health.state {
            State::Issuing => last.unwrap_or_default(),
            _ => self.health.reason.clone().unwrap_or_default(),
        }
    }

    fn message(&self) -> String {
        let last = self.status.last_failure.as_ref();
        let reason = self.reason();
        last.filter(|last| last.reason == reason)
            .map(|last| last.message.clone())
            .unwrap_or_default()
    }
}

fn listed(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES).map(String::as_str).collect();
    match names.len().saturating_sub(NAMES) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn key(spec: &CertificateSpec) -> String {
    let wanted = spec.private_key.clone().unwrap_or_default();
    let keeps = wanted.rotation_policy == Some(RotationPolicy::Never);
    let kind = crate::certificate::desired::DesiredCertificate::parse(spec)
        .map_or_else(|error| error.to_string(), |wanted| wanted.key.to_string());
    format!(
        "{kind}, {}",
        if keeps {
            "kept as long as it fits"
        } else {
            "a new one for each certificate"
        }
    )
}

/// `30d before its end`, in the words of the spec.
fn by_the_clock(status: &CertificateStatus, spec: &CertificateSpec) -> String {
    let lifetime = status.not_before.zip(status.not_after);
    let lifetime = lifetime.map(|(start, end)| end.duration_since(start));
    // A renewBefore of more than the issuer gave is passed over.
    let fits =
        |before: &&Duration| lifetime.is_none_or(|whole| before.value().as_secs() < whole.as_secs().unsigned_abs());
    if let Some(before) = spec.renew_before.as_ref().filter(fits) {
        return format!("{before} before its end");
    }
    if let Some(share) = spec.renew_before_percentage {
        return format!("when {share}% of its lifetime are left");
    }
    match lifetime.map(|whole| whole.as_hours()) {
        Some(hours) if hours < 240 => "at half of its lifetime".to_owned(),
        Some(_) => "when a third of its lifetime is left".to_owned(),
        None => "when a third of its lifetime is left (half, below 10 days)".to_owned(),
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
