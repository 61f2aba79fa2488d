//! The tables of `docs/reference/load-balancers.md`.

use super::{
    Clients,
    preset::{Internal, Lack, Marks, NodePorts, Place, Preset, Served, Subnet, Takes, With},
    table::{ALL, preset},
};

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn lines(parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().collect::<Vec<_>>().join("<br>")
}

fn table(head: &str, columns: usize, row: impl Fn(&Preset) -> Vec<String>) -> String {
    let mut text = format!("{head}\n|{}\n", "---|".repeat(columns));
    for provider in ALL {
        let cells = row(preset(provider));
        assert_eq!(cells.len(), columns, "{provider:?}");
        text.extend(["| ", &cells.join(" | "), " |\n"]);
    }
    text
}

fn marks(marks: &Marks) -> Vec<String> {
    let annotations = marks
        .annotations
        .iter()
        .map(|(key, value)| code(&format!("{key}: \"{value}\"")));
    let class = marks.class.map(|class| format!("class {}", code(class)));
    annotations.chain(class).collect()
}

fn internal(row: &Preset) -> String {
    match &row.internal {
        Internal::Marks(how) => lines(marks(how)),
        Internal::Subnet => "by `subnet`".into(),
        Internal::Pool if matches!(row.subnet, Subnet::No(_)) => "by private `addresses`".into(),
        Internal::Pool => "by the pool: `subnet`, or private `addresses`".into(),
        Internal::Never(_) => "**cannot**".into(),
    }
}

fn companions(row: &Preset) -> String {
    let mut parts = Vec::new();
    match &row.subnet {
        Subnet::No(_) => {}
        Subnet::Label => parts.push("`subnet`, as `key=value`: a label".into()),
        Subnet::Annotation {
            key,
            what,
            with,
            needed,
        } => {
            let with = match (with, needed) {
                (_, true) => "; Internal needs it",
                (With::Internal, false) => "; Internal only",
                (With::Both, false) => "",
            };
            parts.push(format!("`subnet`, {what}{with}: {}", code(key)));
        }
    }
    let (inside, outside) = (takes(&row.addresses.internal), takes(&row.addresses.external));
    if inside == outside {
        parts.extend((!inside.is_empty()).then(|| format!("`addresses`: {inside}")));
    } else {
        parts.extend((!inside.is_empty()).then(|| format!("`addresses`, Internal: {inside}")));
        parts.extend((!outside.is_empty()).then(|| format!("`addresses`, External: {outside}")));
    }
    parts.extend(
        row.global_access
            .map(|(key, _)| format!("`globalAccess`: {}", code(key))),
    );
    parts.extend(row.needs.iter().map(|need| {
        let (when, value) = need.when;
        format!(
            "Internal with {} needs {}: {}",
            code(&format!("{when}: {value}")),
            code(need.key),
            need.what
        )
    }));
    parts.extend(
        row.ipv6
            .map(|(key, value)| format!("IPv6: {}", code(&format!("{key}: {value}")))),
    );
    lines(parts)
}

fn takes(takes: &Takes) -> String {
    let place = |place: Place| match place {
        Place::Field => "`spec.loadBalancerIP`, one".to_owned(),
        Place::One(key) => format!("{}, one", code(key)),
        Place::Many(key) => code(key),
    };
    let mut parts = Vec::new();
    match (takes.v4, takes.v6) {
        (Some(v4), Some(v6)) if v4 == v6 => parts.push(place(v4)),
        (v4, v6) => {
            parts.extend(v4.map(|v4| format!("IPv4 {}", place(v4))));
            parts.extend(v6.map(|v6| format!("IPv6 {}", place(v6))));
        }
    }
    parts.extend(takes.named.map(|(at, what)| format!("{what} {}", place(at))));
    let with = takes.requires.map(|(key, value)| match value {
        "" => format!(" with {}", code(key)),
        value => format!(" with {}", code(&format!("{key}: {value}"))),
    });
    parts.join("; ") + &with.unwrap_or_default()
}

fn create_only(row: &Preset) -> String {
    let scope = row.create_only.scope.then(|| "scope".to_owned());
    lines(
        scope
            .into_iter()
            .chain(row.create_only.annotations.iter().map(|key| code(key))),
    )
}

fn cannot(row: &Preset) -> String {
    let lack = |what: &str, lack: &Option<Lack>| {
        let lack = lack.as_ref()?;
        let with = lack.when.iter().map(|(key, value)| code(&format!("{key}: {value}")));
        let with: Vec<String> = with.collect();
        let with = if with.is_empty() {
            String::new()
        } else {
            format!(" with {}", with.join(" or "))
        };
        Some(format!("{what}{with} ({})", lack.instead))
    };
    let never = match &row.internal {
        Internal::Never(instead) => Some(format!("Internal ({instead})")),
        _ => None,
    };
    let subnet = match &row.subnet {
        Subnet::No(instead) => Some(format!("`subnet` ({instead})")),
        _ => None,
    };
    let addresses = |scope: &str, takes: &Takes| takes_nothing(takes).then(|| format!("`addresses`, {scope}"));
    let parts = [
        never,
        lack("UDP", &row.lacks.udp),
        lack("TCP and UDP together", &row.lacks.mixed),
        lack("`loadBalancerSourceRanges`", &row.lacks.source_ranges),
        lack("IPv6", &row.lacks.ipv6),
        lack("IPv6, Internal", &row.lacks.internal_ipv6),
        lack("two IP families", &row.lacks.dual_stack),
        subnet,
        addresses("Internal", &row.addresses.internal),
        addresses("External", &row.addresses.external),
    ];
    lines(parts.into_iter().flatten())
}

fn takes_nothing(takes: &Takes) -> bool {
    takes.v4.is_none() && takes.v6.is_none() && takes.named.is_none()
}

#[test]
fn the_reference_has_what_each_provider_reads() {
    let head = "| `provider` | Internal | External | Companions |";
    let text = table(head, 4, |row| {
        vec![
            format!("**{}**<br>{}", row.key, row.name),
            internal(row),
            lines(marks(&row.external)),
            companions(row),
        ]
    });
    crate::reference::check("load-balancers.md", "presets", &text);
}

#[test]
fn the_reference_has_what_each_provider_cannot_do() {
    let head = "| `provider` | Only at creation | Cannot |";
    let text = table(head, 3, |row| vec![row.key.to_owned(), create_only(row), cannot(row)]);
    crate::reference::check("load-balancers.md", "limits", &text);
}

#[test]
fn the_reference_has_what_each_provider_is_recognised_by() {
    let head =
        "| `provider` | Nodes | Controller | Its classes | Pods see clients | Health checks come from | Node ports |";
    let text = table(head, 7, |row| {
        let known = &row.recognised;
        let ids = known.provider_ids.iter().map(|prefix| code(&format!("{prefix}…")));
        let label = known.node_label.map(|(key, value)| match value {
            "" => format!("label {}", code(key)),
            value => format!("label {}", code(&format!("{key}: {value}"))),
        });
        let pool = match row.key {
            "Cilium" => Some("a `CiliumLoadBalancerIPPool`".to_owned()),
            "KubeVip" => Some("ConfigMap `kube-system/kubevip`".to_owned()),
            _ => None,
        };
        let group = known.api_group.map(|group| format!("API group {}", code(group)));
        let any = known.any_class.then(|| "any that is not another's".to_owned());
        let served = row.served.iter().filter_map(|by| match by {
            Served::Class => None,
            Served::Annotation(key, values) => Some(format!("or {}", code(&format!("{key}: {}", values.join(", "))))),
        });
        let classes = known.classes.iter().filter(|class| class.internal != Some(false));
        let classes = classes.map(|class| code(class.name));
        vec![
            row.key.to_owned(),
            lines(ids.chain(label)),
            lines(group.into_iter().chain(pool)),
            lines(classes.chain(any).chain(served)),
            match row.clients {
                Clients::Seen => "yes",
                Clients::Proxied => "no",
                Clients::Unknown => "",
            }
            .to_owned(),
            lines(row.health_checks.iter().map(|range| code(range))),
            match row.node_ports {
                NodePorts::Needed => String::new(),
                NodePorts::Unneeded => "none, Internal".to_owned(),
                NodePorts::UnneededWith(marks) => {
                    let marks = marks.iter().map(|(key, value)| code(&format!("{key}: {value}")));
                    format!("none, Internal with {}", marks.collect::<Vec<_>>().join(" or "))
                }
            },
        ]
    });
    crate::reference::check("load-balancers.md", "recognised", &text);
}
