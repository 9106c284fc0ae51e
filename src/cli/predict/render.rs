//! Connection maps and predicted checks, in every format.

use super::Format;
use crate::plan::{Check, Prediction};
use crate::policy::{ConnectionMap, Link};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A connection of one map, or of the difference between two.
pub(super) struct Row<'a> {
    /// `None` for a connection of one map.
    pub(super) change: Option<Change>,
    pub(super) link: &'a Link,
}

/// How a connection differs between two maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    Closed,
}

impl Change {
    fn sign(self) -> &'static str {
        match self {
            Self::Opened => "+",
            Self::Closed => "-",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Closed => "closed",
        }
    }
}

/// The content of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One map.
    Map,
    /// The difference between two, which may be empty.
    Changes,
}

/// The text of connections.
pub(super) fn links(format: Format, kind: Kind, rows: &[Row<'_>], map: &ConnectionMap) -> String {
    match format {
        Format::Text => rows.iter().map(text_of_link).collect(),
        Format::Json => json_links(kind, rows, map),
        Format::Csv => table(kind, rows).iter().map(|cells| csv(cells)).collect(),
        Format::Markdown => markdown(&table(kind, rows)),
        Format::Dot => dot(rows, map),
    }
}

fn family(link: &Link) -> String {
    link.family
        .map(|family| family.to_string())
        .unwrap_or_default()
}

fn text_of_link(row: &Row<'_>) -> String {
    let link = row.link;
    let sign = row
        .change
        .map_or(String::new(), |change| format!("{} ", change.sign()));
    let over = link
        .family
        .map_or(String::new(), |family| format!(" over {family}"));
    format!("{sign}{} -> {}{over}: {}\n", link.from, link.to, link.ports)
}

fn json_links(kind: Kind, rows: &[Row<'_>], map: &ConnectionMap) -> String {
    let document = match kind {
        Kind::Changes => serde_json::to_string_pretty(&Changes {
            opened: links_with(rows, Some(Change::Opened)),
            closed: links_with(rows, Some(Change::Closed)),
        }),
        Kind::Map => serde_json::to_string_pretty(&Map {
            members: &map.workloads,
            links: links_with(rows, None),
        }),
    };
    // Keys are text and numbers finite, so nothing can be refused.
    document.unwrap_or_default() + "\n"
}

/// The links of rows with this change. Borrowed: a map of a thousand workloads has a million links.
fn links_with<'a>(rows: &[Row<'a>], change: Option<Change>) -> Vec<&'a Link> {
    rows.iter()
        .filter(|row| row.change == change)
        .map(|row| row.link)
        .collect()
}

#[derive(Serialize)]
struct Map<'a, M> {
    members: &'a M,
    links: Vec<&'a Link>,
}

#[derive(Serialize)]
struct Changes<'a> {
    opened: Vec<&'a Link>,
    closed: Vec<&'a Link>,
}

fn table(kind: Kind, rows: &[Row<'_>]) -> Vec<Vec<String>> {
    let mut head: Vec<String> = ["from", "to", "family", "ports"].map(str::to_owned).into();
    if kind == Kind::Changes {
        head.insert(0, "change".to_owned());
    }
    std::iter::once(head)
        .chain(rows.iter().map(link_cells))
        .collect()
}

fn link_cells(row: &Row<'_>) -> Vec<String> {
    let link = row.link;
    let mut cells = vec![
        link.from.to_string(),
        link.to.to_string(),
        family(link),
        link.ports.to_string(),
    ];
    if let Some(change) = row.change {
        cells.insert(0, change.word().to_owned());
    }
    cells
}

/// One record (RFC 4180).
fn csv(cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| csv_cell(cell)).collect();
    format!("{}\r\n", cells.join(","))
}

/// A cell, quoted where it holds a comma, a quote or a line break.
fn csv_cell(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

/// A table, of which the first row is the head.
fn markdown(rows: &[Vec<String>]) -> String {
    let Some((head, body)) = rows.split_first() else {
        return String::new();
    };
    let rule = vec!["---".to_owned(); head.len()];
    [markdown_row(head), markdown_row(&rule)]
        .into_iter()
        .chain(body.iter().map(|cells| markdown_row(cells)))
        .collect()
}

fn markdown_row(cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn dot(rows: &[Row<'_>], map: &ConnectionMap) -> String {
    let mut out = String::from("digraph policies {\n    rankdir=LR;\n    node [shape=box];\n");
    let members: BTreeSet<String> = map.workloads.iter().map(ToString::to_string).collect();
    for member in &members {
        out.push_str(&format!("    {};\n", quoted(member)));
    }
    for row in rows {
        let colour = match row.change {
            None => "",
            Some(Change::Opened) => ", color=red",
            Some(Change::Closed) => ", color=gray, style=dashed",
        };
        let link = row.link;
        let over = link
            .family
            .map_or(String::new(), |family| format!(" over {family}"));
        let label = quoted(&format!("{}{over}", link.ports));
        let (from, to) = (quoted(&link.from.to_string()), quoted(&link.to.to_string()));
        out.push_str(&format!("    {from} -> {to} [label={label}{colour}];\n"));
    }
    out.push_str("}\n");
    out
}

/// The text of predicted checks.
pub(super) fn checks(format: Format, checks: &[Check]) -> String {
    match format {
        Format::Text => checks.iter().map(text_of_check).collect(),
        Format::Json => json_checks(checks),
        Format::Csv => check_table(checks).iter().map(|cells| csv(cells)).collect(),
        Format::Markdown => markdown(&check_table(checks)),
        Format::Dot => dot_checks(checks),
    }
}

fn text_of_check(check: &Check) -> String {
    let (name, place) = (&check.name, place(check));
    match (&check.prediction, check.contradiction()) {
        (None, _) => format!("unknown      {name}  ({place})\n"),
        (Some(prediction), None) => format!("{:<12} {name}  ({place})\n", prediction.word()),
        (Some(prediction), Some(why)) => {
            let word = format!("{}!", prediction.word());
            format!("{word:<12} {name}  ({place})\n    {why}\n")
        }
    }
}

/// The place of the check's line in its suite.
fn place(check: &Check) -> String {
    format!("{}:{}", check.line.file, check.line.line)
}

fn predicted_word(check: &Check) -> Option<&'static str> {
    check.prediction.as_ref().map(Prediction::word)
}

fn check_table(checks: &[Check]) -> Vec<Vec<String>> {
    let head = ["check", "expected", "predicted", "contradiction", "line"];
    std::iter::once(head.map(str::to_owned).to_vec())
        .chain(checks.iter().map(check_cells))
        .collect()
}

fn check_cells(check: &Check) -> Vec<String> {
    vec![
        check.name.clone(),
        check.expected.to_string(),
        predicted_word(check).unwrap_or("unknown").to_owned(),
        check.contradiction().unwrap_or_default(),
        place(check),
    ]
}

fn json_checks(checks: &[Check]) -> String {
    let checks: Vec<Value> = checks
        .iter()
        .map(|check| {
            json!({
                "check": check.name,
                "expected": check.expected,
                "predicted": predicted_word(check),
                "contradiction": check.contradiction(),
                "file": check.line.file,
                "line": check.line.line,
            })
        })
        .collect();
    format!("{:#}\n", Value::Array(checks))
}

fn dot_checks(checks: &[Check]) -> String {
    let mut out = String::from("digraph suite {\n    rankdir=LR;\n    node [shape=box];\n");
    for check in checks {
        let colour = if check.contradiction().is_some() {
            "red"
        } else {
            "black"
        };
        let source = check.source.replace('"', "\\\"");
        let target = check.target.replace('"', "\\\"");
        let label = predicted_word(check).unwrap_or("unknown");
        out.push_str(&format!(
            "    \"{source}\" -> \"{target}\" [label=\"{label}\", color={colour}];\n"
        ));
    }
    out.push_str("}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_commas_and_quotes_are_quoted() {
        assert_eq!(
            csv(&["a".into(), "80, 443".into(), "b\"c".into()]),
            "a,\"80, 443\",\"b\"\"c\"\r\n"
        );
        let rows = vec![
            vec!["from".to_owned(), "to".to_owned()],
            vec!["a|b".to_owned(), "c".to_owned()],
        ];
        assert_eq!(
            markdown(&rows),
            "| from | to |\n| --- | --- |\n| a\\|b | c |\n"
        );
    }
}
