//! The map of everything that policies allow, written while it is made.

use super::{Format, PredictArgs, inventory, note_unknown, predictor, render};
use crate::app::terminal::Terminal;
use crate::event::ExitCode;
use crate::inventory::Inventory;
use crate::policy::{Direction, MapEnds, Predictor, WorkloadPods};
use std::cell::Cell;

/// At most so many members of a group are named.
const NAMED_MEMBERS: usize = 5;

/// Prints every connection that the policies allow, or those of `--from` and `--to`.
pub(super) fn predict(args: &PredictArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let inventory = inventory(args, &args.manifests, terminal)?;
    let mut predictor = predictor(&inventory, terminal)?;
    let all = predictor.map_ends();
    if all.is_empty() {
        let why = why_nothing(&inventory);
        terminal.error(&format!("there is nothing to predict: {why}"));
        return Err(ExitCode::Usage);
    }
    if inventory.policies.is_empty() {
        terminal.note("there is no policy: everything is allowed");
    }

    let from = ends(&predictor, &all, args.from.as_deref(), terminal)?;
    let to = ends(&predictor, &all, args.to.as_deref(), terminal)?;
    let (from, to) = match args.output {
        Format::Text => (from.grouped(), to.grouped()),
        Format::Json | Format::Csv | Format::Markdown | Format::Dot => (from, to),
    };
    note_groups([&from, &to], terminal);

    let (of_from, of_to) = (args.from.is_some(), args.to.is_some());
    let links = predictor.links(from, to, |direction| match direction {
        Direction::Egress => !of_to,
        Direction::Ingress => !of_from,
    });
    let is_unknown = Cell::new(false);
    let links = links.inspect(|link| {
        if !link.unknown.is_empty() {
            is_unknown.set(true);
        }
    });
    let written = terminal.stream(|out| render::map(out, args.output, &all, links))?;
    if is_unknown.get() {
        note_unknown(&[&inventory], terminal);
    }
    Ok(written)
}

/// Why an inventory has no pod that a policy could select.
pub(super) fn why_nothing(inventory: &Inventory) -> String {
    let policies = match inventory.policies.len() {
        0 => "no policy".to_owned(),
        1 => "1 policy".to_owned(),
        more => format!("{more} policies"),
    };
    match (inventory.pods.len(), inventory.policies.len()) {
        (0, 0) => "there is no pod and no policy".to_owned(),
        (0, _) => {
            format!("there is no pod, and {policies}: give the manifests of the workloads too")
        }
        _ => "every pod shares its node's network, and no policy selects such a pod".to_owned(),
    }
}

/// The ends with a name; without one, all.
///
/// # Errors
/// [`ExitCode::Usage`] where there is none, which has been shown.
fn ends(
    predictor: &Predictor<'_>,
    all: &MapEnds,
    name: Option<&str>,
    terminal: &Terminal,
) -> Result<MapEnds, ExitCode> {
    let Some(name) = name else {
        return Ok(all.clone());
    };
    let named = predictor.ends_named(all, name);
    if named.is_empty() {
        return Err(show_unknown_name(name, all.workloads(), terminal));
    }
    Ok(named)
}

/// Shows that there is no workload of a name, and which one is probably meant.
pub(super) fn show_unknown_name<'w>(
    name: &str,
    workloads: impl Iterator<Item = &'w WorkloadPods>,
    terminal: &Terminal,
) -> ExitCode {
    let names: Vec<String> = workloads
        .map(|workload| workload.workload.to_string())
        .collect();
    let hint = match (owner_by_name(name, &names), nearest(name, &names)) {
        (Some(owner), _) => format!("did you mean {owner}, whose pods are named like this?"),
        (None, Some(workload)) => format!("did you mean {workload}?"),
        (None, None) => "there is no workload at all".to_owned(),
    };
    terminal.error(&format!("no workload or pod is called {name}; {hint}"));
    ExitCode::Usage
}

fn nearest<'n>(name: &str, names: &'n [String]) -> Option<&'n String> {
    names
        .iter()
        .min_by_key(|workload| strsim::damerau_levenshtein(workload, name))
}

/// The workload whose controller would give a pod this name: its own, a dash and a suffix; the
/// longest of several.
fn owner_by_name<'n>(name: &str, names: &'n [String]) -> Option<&'n String> {
    let (namespace, pod) = name.split_once("/Pod/")?;
    let is_owner = |workload: &&String| {
        let mut parts = workload.split('/');
        let is_in_namespace = parts.next() == Some(namespace);
        let suffix = parts
            .nth(1)
            .and_then(|workload| pod.strip_prefix(workload))
            .and_then(|rest| rest.strip_prefix('-'));
        is_in_namespace && suffix.is_some()
    };
    names
        .iter()
        .filter(is_owner)
        .max_by_key(|workload| workload.len())
}

/// Says who the members of groups are.
fn note_groups(ends: [&MapEnds; 2], terminal: &Terminal) {
    let mut groups: Vec<&WorkloadPods> = ends
        .into_iter()
        .flat_map(MapEnds::workloads)
        .filter(|workload| !workload.equal.is_empty())
        .collect();
    groups.sort();
    groups.dedup();
    for group in groups {
        let named = group.equal.iter().take(NAMED_MEMBERS).map(String::as_str);
        let named: Vec<&str> = named.collect();
        let more = match group.equal.len().saturating_sub(NAMED_MEMBERS) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        terminal.note(&format!(
            "policies treat these like {}: {}{more} (-o csv lists each)",
            group.workload,
            named.join(", ")
        ));
    }
}
