//! One table: what was measured, beside its goal and what cert-manager needs.

use std::collections::BTreeMap;

use gatehouse_tests::Error;
use serde::Deserialize;

/// `tests/bench/goals.yaml`.
const GOALS: &str = include_str!("../../../../bench/goals.yaml");

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Figure {
    id: String,
    what: String,
    #[serde(default)]
    unit: String,
    goal: Option<f64>,
    at_least: Option<f64>,
    cert_manager: Option<f64>,
}

/// Figures by the id that they have in `goals.yaml`.
pub(super) type Measured = BTreeMap<String, f64>;

/// The table in Markdown. Figures that were not measured are left out.
pub(super) fn table(measured: &Measured) -> Result<String, Error> {
    let figures: Vec<Figure> = serde_saphyr::from_str(GOALS).map_err(|error| Error::Manifest(error.to_string()))?;
    let mut lines = vec![
        "| | measured | goal | | cert-manager 1.21.1 | ratio |".to_owned(),
        "|---|---:|---:|---|---:|---:|".to_owned(),
    ];
    for figure in figures {
        let Some(value) = measured.get(&figure.id).copied() else {
            continue;
        };
        let unit = |number: f64| format!("{} {}", digits(number), figure.unit).trim_end().to_owned();
        let (goal, met) = match (figure.goal, figure.at_least) {
            (Some(most), _) => (format!("≤ {}", unit(most)), Some(value <= most)),
            (None, Some(least)) => (format!("≥ {}", unit(least)), Some(value >= least)),
            (None, None) => (String::new(), None),
        };
        let verdict = met.map_or("", |met| if met { "met" } else { "**missed**" });
        let theirs = figure.cert_manager.map(unit).unwrap_or_default();
        let ratio = figure
            .cert_manager
            .and_then(|theirs| ratio(theirs, value, figure.at_least.is_some()));
        let ratio = ratio.map(|ratio| format!("{}×", digits(ratio))).unwrap_or_default();
        lines.push(format!(
            "| {} | {} | {goal} | {verdict} | {theirs} | {ratio} |",
            figure.what,
            unit(value)
        ));
    }
    Ok(lines.join("\n"))
}

/// Returns the improvement as a factor; nothing where one of them is zero.
fn ratio(theirs: f64, ours: f64, more_is_better: bool) -> Option<f64> {
    let (better, worse) = if more_is_better { (theirs, ours) } else { (ours, theirs) };
    (better > 0.0 && worse > 0.0).then(|| worse / better)
}

/// Three digits say enough.
fn digits(number: f64) -> String {
    let places = match number.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{number:.places$}");
    if places == 0 {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_figure_is_beside_its_goal_and_its_baseline() {
        let measured = Measured::from([
            ("ca.requests".to_owned(), 3.0),
            ("ca.wall".to_owned(), 8.0),
            ("dns01.rate".to_owned(), 2400.0),
            ("idle.requests".to_owned(), 0.0),
        ]);
        let table = table(&measured).unwrap();
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| API requests for a CA certificate | 3 | ≤ 4 | met | 27 | 9× |",
                "| 1,000 CA certificates at once | 8 s | ≤ 7 s | **missed** | 40 s | 5× |",
                "| … API requests but for the Lease | 0 |  |  | 0 |  |",
                "| DNS-01 certificates in a minute, 200 at once | 2400 | ≥ 1200 | met | 4.8 | 500× |",
            ]
        );
    }

    #[test]
    fn three_digits_are_shown() {
        let shown = [0.0, 0.014, 4.96, 30.44, 2349.6, 27.0].map(digits);
        assert_eq!(shown, ["0", "0.01", "4.96", "30.4", "2350", "27"]);
    }
}
