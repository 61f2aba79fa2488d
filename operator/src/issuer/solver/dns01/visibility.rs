//! Public and private zones of one name: a CA sees the public one only, and of several accounts' zones the delegated one.
//!
//! If a cloud has both kinds in one list, the library takes the first zone that fits. So the list is read on its
//! way to the library: zones of the other kind are left out, and two that could both be meant are an error.

use bytes::Bytes;
use gatehouse_crds::solver::ProviderType;
use serde_json::Value;

/// Which kind of zone is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Visibility {
    #[default]
    Public,
    /// Asked for by `privateZoneOnly` or `privateZone`.
    Private,
}

/// A zone of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Zone {
    name: String,
    id: String,
    private: bool,
}

/// Format of a cloud's list of zones in JSON.
struct Listing {
    /// End of the URL's path.
    path: &'static str,
    /// JSON pointer to the list in the answer.
    list: &'static str,
    name: &'static str,
    id: &'static str,
    /// Whether a CA cannot see it: it is private, or not delegated to.
    is_private: fn(&Value) -> bool,
}

/// The field by which the user chooses the zone.
fn choice(kind: ProviderType) -> &'static str {
    match kind {
        ProviderType::Route53 => "hostedZoneID",
        ProviderType::GoogleCloudDns => "hostedZoneName (config.managedZone of provider)",
        _ => "another account for one of them",
    }
}

fn listing(kind: ProviderType) -> Option<Listing> {
    let (path, list, [name, id], is_private): (_, _, _, fn(&Value) -> bool) = match kind {
        // A token may see several accounts with a zone of the name, of which one is active.
        ProviderType::Cloudflare => ("/client/v4/zones", "/result", ["name", "id"], |zone| {
            zone.get("status").is_some() && !field_is(zone, "status", "active")
        }),
        ProviderType::GoogleCloudDns => ("/managedZones", "/managedZones", ["dnsName", "name"], |zone| {
            field_is(zone, "visibility", "private")
        }),
        ProviderType::HuaweiCloud => ("/v2/zones", "/zones", ["name", "id"], |zone| {
            field_is(zone, "zone_type", "private")
        }),
        ProviderType::OracleCloud => ("/20180115/zones", "", ["name", "id"], |zone| {
            field_is(zone, "scope", "PRIVATE")
        }),
        ProviderType::YandexCloud => ("/dns/v1/zones", "/dnsZones", ["zone", "id"], |zone| {
            has(zone, "privateVisibility") && !has(zone, "publicVisibility")
        }),
        _ => return None,
    };
    Some(Listing {
        path,
        list,
        name,
        id,
        is_private,
    })
}

fn field_is(zone: &Value, field: &str, value: &str) -> bool {
    let text = zone.get(field).and_then(Value::as_str);
    text.is_some_and(|text| text.eq_ignore_ascii_case(value))
}

fn has(zone: &Value, field: &str) -> bool {
    zone.get(field).is_some_and(|value| !value.is_null())
}

/// The zones that one call is shown.
#[derive(Debug, Default)]
pub(super) struct Zones {
    kind: Option<ProviderType>,
    /// The name of the record.
    record: String,
    wanted: Visibility,
    /// Zones that hold the record, by kind.
    shown: Vec<Zone>,
    hidden: Vec<Zone>,
}

impl Zones {
    pub(super) fn new(kind: ProviderType, record: &str, wanted: Visibility) -> Self {
        Self {
            kind: Some(kind),
            record: record.to_ascii_lowercase(),
            wanted,
            ..Self::default()
        }
    }

    /// Leaves out of a list of zones those that are not to be written. Other answers stay as they are.
    pub(super) fn filter(&mut self, path: &str, body: Bytes) -> Bytes {
        let Some(kind) = self.kind.filter(|kind| lists_zones(*kind, path)) else {
            return body;
        };
        let filtered = if kind == ProviderType::Route53 {
            std::str::from_utf8(&body).ok().map(|text| self.filter_xml(text))
        } else {
            listing(kind).and_then(|listing| self.filter_json(&listing, &body))
        };
        filtered.map_or(body, Bytes::from)
    }

    fn filter_json(&mut self, listing: &Listing, body: &[u8]) -> Option<String> {
        let mut answer: Value = serde_json::from_slice(body).ok()?;
        let zones = answer.pointer_mut(listing.list)?.as_array_mut()?;
        let text = |zone: &Value, field: &str| zone.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        zones.retain(|zone| {
            self.keep(Zone {
                name: text(zone, listing.name),
                id: text(zone, listing.id),
                private: (listing.is_private)(zone),
            })
        });
        Some(answer.to_string())
    }

    /// Route 53 answers in XML, of which only these parts are of interest.
    fn filter_xml(&mut self, text: &str) -> String {
        const START: &str = "<HostedZone>";
        const END: &str = "</HostedZone>";
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, zone)) = rest.split_once(START) {
            let Some((zone, after)) = zone.split_once(END) else {
                break;
            };
            out.push_str(before);
            let keep = self.keep(Zone {
                name: element(zone, "Name"),
                id: element(zone, "Id").trim_start_matches("/hostedzone/").to_owned(),
                private: element(zone, "PrivateZone").eq_ignore_ascii_case("true"),
            });
            if keep {
                out.extend([START, zone, END]);
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }

    /// Returns true when the library may see the zone: it is of the wanted kind and holds the record.
    fn keep(&mut self, mut zone: Zone) -> bool {
        zone.name = zone.name.trim_end_matches('.').to_ascii_lowercase();
        let holds = self
            .record
            .strip_suffix(&zone.name)
            .is_some_and(|rest| !zone.name.is_empty() && (rest.is_empty() || rest.ends_with('.')));
        if !holds {
            return false;
        }
        let fits = zone.private == (self.wanted == Visibility::Private);
        let list = if fits { &mut self.shown } else { &mut self.hidden };
        if !list.contains(&zone) {
            list.push(zone);
        }
        fits
    }

    /// Says which zones could both be meant, before the library reads or writes one of them.
    pub(super) fn ambiguous(&self, path: &str) -> Option<String> {
        let kind = self.kind.filter(|kind| !lists_zones(*kind, path))?;
        let longest = self.shown.iter().map(|zone| zone.name.len()).max()?;
        let mut fitting = self.shown.iter().filter(|zone| zone.name.len() == longest);
        let (first, second) = (fitting.next()?, fitting.next()?);
        Some(format!(
            "{} has two {} zones {}, {} and {}: choose one by {}",
            kind.as_str(),
            self.wanted.as_str(),
            first.name,
            first.id,
            second.id,
            choice(kind)
        ))
    }

    /// Describes what was left out, for the message when no zone was found.
    pub(super) fn hint(&self) -> Option<String> {
        let (kind, zone) = (self.kind?, self.hidden.first().filter(|_| self.shown.is_empty())?);
        let only = match self.wanted {
            Visibility::Public if kind == ProviderType::Cloudflare => {
                return Some(format!(
                    "the zone {} ({}) is not active, so that a CA cannot see it; delegate the domain to its name servers first",
                    zone.name, zone.id
                ));
            }
            Visibility::Public => "is private, and a CA cannot see it",
            Visibility::Private => "is public, and the solver asks for a private one",
        };
        Some(format!(
            "the zone {} ({}) {only}; to write it all the same, name it by {}",
            zone.name,
            zone.id,
            choice(kind)
        ))
    }
}

impl Visibility {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
        }
    }
}

fn lists_zones(kind: ProviderType, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    match kind {
        ProviderType::Route53 => path.ends_with("/hostedzonesbyname"),
        _ => listing(kind).is_some_and(|listing| path.ends_with(listing.path)),
    }
}

/// The text of the first element of this name.
fn element(xml: &str, name: &str) -> String {
    xml.split_once(&format!("<{name}>"))
        .and_then(|(_, rest)| rest.split_once('<'))
        .map(|(text, _)| text.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
#[path = "visibility_tests.rs"]
mod tests;
