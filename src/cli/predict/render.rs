//! Connection maps and predicted checks, in every format.

use super::Format;
use crate::plan::{Check, Prediction};
use crate::policy::{Differences, Link, MapEnds, PortSet, WorkloadPods};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{self, Write};

/// How a connection differs between two maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
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

/// Writes a map while its links are made; `members` are its workloads.
pub(super) fn map(
    out: &mut dyn Write,
    format: Format,
    members: &MapEnds,
    links: impl Iterator<Item = Link>,
) -> io::Result<()> {
    match format {
        Format::Json => {
            let map = Map {
                members: members.workloads().collect(),
                links: Streamed(RefCell::new(links)),
            };
            json_document(out, &map)
        }
        Format::Text | Format::Csv | Format::Markdown | Format::Dot => {
            let rows = links.map(|link| (None, Cow::Owned(link)));
            write_rows(out, format, members, rows, &LINK_HEAD)
        }
    }
}

/// Writes the differences between two maps; `members` are the workloads of the later one.
pub(super) fn changes(
    out: &mut dyn Write,
    format: Format,
    differences: &Differences,
    members: &MapEnds,
) -> io::Result<()> {
    let Differences { opened, closed, .. } = differences;
    if format == Format::Json {
        return json_document(out, &Changes { opened, closed });
    }
    let opened = opened.iter().map(|link| (Some(Change::Opened), link));
    let closed = closed.iter().map(|link| (Some(Change::Closed), link));
    let rows = opened
        .chain(closed)
        .map(|(change, link)| (change, Cow::Borrowed(link)));
    let head = [&["change"], &LINK_HEAD[..]].concat();
    write_rows(out, format, members, rows, &head)
}

/// The columns of a link.
const LINK_HEAD: [&str; 5] = ["from", "to", "family", "ports", "unknown"];

/// A link, and how it differs; `None` in a map.
type Row<'l> = (Option<Change>, Cow<'l, Link>);

fn write_rows<'l>(
    out: &mut dyn Write,
    format: Format,
    members: &MapEnds,
    rows: impl Iterator<Item = Row<'l>>,
    head: &[&str],
) -> io::Result<()> {
    let start = match format {
        Format::Csv => csv(head),
        Format::Markdown => markdown_head(head),
        Format::Dot => dot_head(members),
        Format::Text | Format::Json => String::new(),
    };
    out.write_all(start.as_bytes())?;
    for (change, link) in rows {
        let text = match format {
            Format::Text => text_of_link(change, &link),
            Format::Csv => csv(&link_cells(change, &link)),
            Format::Markdown => markdown_row(&link_cells(change, &link)),
            Format::Dot => dot_edge(change, &link),
            Format::Json => String::new(),
        };
        out.write_all(text.as_bytes())?;
    }
    if format == Format::Dot {
        writeln!(out, "}}")?;
    }
    Ok(())
}

fn family(link: &Link) -> String {
    link.family
        .map(|family| family.to_string())
        .unwrap_or_default()
}

fn text_of_link(change: Option<Change>, link: &Link) -> String {
    match change {
        None => format!("{link}\n"),
        Some(change) => format!("{} {link}\n", change.sign()),
    }
}

fn json_document(out: &mut dyn Write, document: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    writeln!(out)
}

#[derive(Serialize)]
#[serde(bound(serialize = "L: Iterator<Item = Link>"))]
struct Map<'a, L> {
    members: Vec<&'a WorkloadPods>,
    links: Streamed<L>,
}

/// Links that are serialised as they are made, once.
struct Streamed<L>(RefCell<L>);

impl<L: Iterator<Item = Link>> Serialize for Streamed<L> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&mut *self.0.borrow_mut())
    }
}

#[derive(Serialize)]
struct Changes<'a> {
    opened: &'a [Link],
    closed: &'a [Link],
}

fn link_cells(change: Option<Change>, link: &Link) -> Vec<String> {
    let ports = |ports: &PortSet| {
        if ports.is_empty() {
            String::new()
        } else {
            ports.to_string()
        }
    };
    let cells = [
        link.from.to_string(),
        link.to.to_string(),
        family(link),
        ports(&link.ports),
        ports(&link.unknown),
    ];
    change
        .map(|change| change.word().to_owned())
        .into_iter()
        .chain(cells)
        .collect()
}

/// One record (RFC 4180).
fn csv(cells: &[impl AsRef<str>]) -> String {
    let mut record = String::new();
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            record.push(',');
        }
        record.push_str(&csv_cell(cell.as_ref()));
    }
    record.push_str("\r\n");
    record
}

/// A cell, quoted where it holds a comma, a quote or a line break.
fn csv_cell(cell: &str) -> Cow<'_, str> {
    let has_special = cell
        .bytes()
        .any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r'));
    if has_special {
        format!("\"{}\"", cell.replace('"', "\"\"")).into()
    } else {
        cell.into()
    }
}

/// A table, of which the first row is the head.
fn markdown(rows: &[Vec<String>]) -> String {
    let Some((head, body)) = rows.split_first() else {
        return String::new();
    };
    std::iter::once(markdown_head(head))
        .chain(body.iter().map(|cells| markdown_row(cells)))
        .collect()
}

fn markdown_head(head: &[impl AsRef<str>]) -> String {
    let rule = vec!["---"; head.len()];
    markdown_row(head) + &markdown_row(&rule)
}

fn markdown_row(cells: &[impl AsRef<str>]) -> String {
    let cells: Vec<String> = cells
        .iter()
        .map(|cell| cell.as_ref().replace('|', "\\|"))
        .collect();
    format!("| {} |\n", cells.join(" | "))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn dot_head(members: &MapEnds) -> String {
    let mut out = String::from("digraph policies {\n    rankdir=LR;\n    node [shape=box];\n");
    let members: BTreeSet<String> = members.workloads().map(ToString::to_string).collect();
    for member in &members {
        out.push_str(&format!("    {};\n", quoted(member)));
    }
    out
}

fn dot_edge(change: Option<Change>, link: &Link) -> String {
    let style = match (change, link.ports.is_empty()) {
        (None, false) => "",
        (None, true) => ", style=dotted",
        (Some(Change::Opened), _) => ", color=red",
        (Some(Change::Closed), _) => ", color=gray, style=dashed",
    };
    let over = link
        .family
        .map_or(String::new(), |family| format!(" over {family}"));
    let ports = match (link.ports.is_empty(), link.unknown.is_empty()) {
        (_, true) => link.ports.to_string(),
        (true, false) => format!("unknown for {}", link.unknown),
        (false, false) => format!("{}; unknown for {}", link.ports, link.unknown),
    };
    let label = quoted(&format!("{ports}{over}"));
    let (from, to) = (quoted(&link.from.to_string()), quoted(&link.to.to_string()));
    format!("    {from} -> {to} [label={label}{style}];\n")
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
        (None, _) => {
            let why = why_unknown(check).map_or(String::new(), |why| format!("    {why}\n"));
            format!("unknown      {name}  ({place})\n{why}")
        }
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

/// Why nothing is predicted of a check, where that is known.
fn why_unknown(check: &Check) -> Option<&str> {
    let known = check.prediction_unknown.as_deref();
    known.or_else(|| check.provability.obstacle())
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
                "unknownBecause": check.prediction.is_none().then(|| why_unknown(check)).flatten(),
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
            csv(&["a", "80, 443", "b\"c"]),
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
