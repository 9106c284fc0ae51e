//! Connection maps, and predicted lines, in every format.

use super::Format;
use crate::plan::Check;
use crate::policy::{ConnectionMap, Link};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A connection, and what became of it.
pub(super) struct Row<'a> {
    pub(super) change: Option<Change>,
    pub(super) link: &'a Link,
}

/// What differs.
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

/// What rows are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One map.
    Map,
    /// What differs between two, also where nothing does.
    Changes,
}

/// Connections.
pub(super) fn links(format: Format, kind: Kind, rows: &[Row<'_>], map: &ConnectionMap) -> String {
    match format {
        Format::Text => rows.iter().map(text).collect(),
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

fn text(row: &Row<'_>) -> String {
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
    // Borrowed: a map of a thousand workloads has a million links.
    let of = |change| {
        rows.iter()
            .filter(|row| row.change == change)
            .map(|row| row.link)
            .collect::<Vec<&Link>>()
    };
    let document = match kind {
        Kind::Changes => serde_json::to_string_pretty(&Changes {
            opened: of(Some(Change::Opened)),
            closed: of(Some(Change::Closed)),
        }),
        Kind::Map => serde_json::to_string_pretty(&Map {
            members: &map.members,
            links: of(None),
        }),
    };
    // Keys are text and numbers finite, so nothing can be refused.
    document.unwrap_or_default() + "\n"
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
    let cells = |row: &Row<'_>| {
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
    };
    std::iter::once(head)
        .chain(rows.iter().map(cells))
        .collect()
}

/// One record (RFC 4180): quoted where a comma, a quote or a break stands inside.
fn csv(cells: &[String]) -> String {
    let quoted = cells.iter().map(|cell| {
        if cell.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell.clone()
        }
    });
    format!("{}\r\n", quoted.collect::<Vec<_>>().join(","))
}

fn markdown(rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| {
        format!(
            "| {} |\n",
            cells
                .iter()
                .map(|cell| cell.replace('|', "\\|"))
                .collect::<Vec<_>>()
                .join(" | ")
        )
    };
    let Some((head, body)) = rows.split_first() else {
        return String::new();
    };
    let rule = vec!["---".to_owned(); head.len()];
    [line(head), line(&rule)]
        .into_iter()
        .chain(body.iter().map(|cells| line(cells)))
        .collect()
}

fn dot(rows: &[Row<'_>], map: &ConnectionMap) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut out = String::from("digraph policies {\n    rankdir=LR;\n    node [shape=box];\n");
    let members: BTreeSet<String> = map.members.iter().map(ToString::to_string).collect();
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

/// Predicted checks, in the formats that are not for reading line by line.
pub(super) fn checks(format: Format, checks: &[Check]) -> String {
    let word = |check: &Check| check.prediction.as_ref().map(crate::plan::Prediction::word);
    let cells = |check: &Check| {
        vec![
            check.name.clone(),
            check.expected.to_string(),
            word(check).unwrap_or("unknown").to_owned(),
            check.contradiction().unwrap_or_default(),
            format!("{}:{}", check.line.file, check.line.line),
        ]
    };
    let head = ["check", "expected", "predicted", "contradiction", "line"]
        .map(str::to_owned)
        .to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(head)
        .chain(checks.iter().map(cells))
        .collect();
    match format {
        Format::Csv => rows.iter().map(|cells| csv(cells)).collect(),
        Format::Json => {
            let all: Vec<Value> = checks
                .iter()
                .map(|check| {
                    json!({
                        "check": check.name,
                        "expected": check.expected,
                        "predicted": word(check),
                        "contradiction": check.contradiction(),
                        "file": check.line.file,
                        "line": check.line.line,
                    })
                })
                .collect();
            format!("{:#}\n", Value::Array(all))
        }
        Format::Dot => {
            let mut out = String::from("digraph suite {\n    rankdir=LR;\n    node [shape=box];\n");
            for check in checks {
                let colour = if check.contradiction().is_some() {
                    "red"
                } else {
                    "black"
                };
                let (from, to) = (
                    check.source.replace('"', "\\\""),
                    check.target.replace('"', "\\\""),
                );
                let label = word(check).unwrap_or("unknown");
                out.push_str(&format!(
                    "    \"{from}\" -> \"{to}\" [label=\"{label}\", color={colour}];\n"
                ));
            }
            out.push_str("}\n");
            out
        }
        Format::Markdown | Format::Text => markdown(&rows),
    }
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
