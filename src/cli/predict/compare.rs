//! What differs between two sets of manifests, or between a cluster and what it would be with
//! manifests applied.

use super::map::{show_unknown_name, why_nothing};
use super::{PredictArgs, inventory, note_unknown, predictor, render};
use crate::app::terminal::Terminal;
use crate::app::{cluster, load};
use crate::event::ExitCode;
use crate::inventory::Inventory;
use crate::policy::{Comparison, Differences, Link, Predictor, additions_without_effect};
use crate::source::Sources;

/// Compares two sets of manifests.
pub(super) fn manifests(
    args: &PredictArgs,
    before: &str,
    after: &str,
    terminal: &Terminal,
) -> Result<ExitCode, ExitCode> {
    // Both are read before an error of either ends the command, so that all mistakes are shown at
    // once.
    let before = inventory(args, &[before.to_owned()], terminal);
    let after = inventory(args, &[after.to_owned()], terminal)?;
    compare(args, ["BEFORE", "AFTER"], &before?, &after, terminal)
}

/// Compares the cluster as it is with the cluster as it would be after `kubectl apply`.
pub(super) fn applied(args: &PredictArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let manifests = load::manifests(&args.apply, args.strict, &mut Sources::new(), terminal)?;
    let current = cluster::inventory(&args.cluster.options(), &[], terminal)?;
    let names = ["the cluster", "the cluster with the manifests"];
    compare(
        args,
        names,
        &current,
        &current.with_applied(&manifests),
        terminal,
    )
}

fn compare(
    args: &PredictArgs,
    names: [&str; 2],
    before: &Inventory,
    after: &Inventory,
    terminal: &Terminal,
) -> Result<ExitCode, ExitCode> {
    let mut earlier = predictor(before, terminal)?;
    let mut later = predictor(after, terminal)?;
    refuse_nothing(names, [(before, &earlier), (after, &later)], terminal)?;

    let comparison = Comparison::new(&mut earlier, &mut later);
    for name in args.from.iter().chain(&args.to) {
        if !comparison.has(name) {
            return Err(show_unknown_name(name, comparison.workloads(), terminal));
        }
    }
    let differences = comparison.differences(args.from.as_deref(), args.to.as_deref());
    let workloads = later.map_ends();
    terminal.stream(|out| render::changes(out, args.output, &differences, &workloads))?;

    note_differences(&differences, before, after, terminal);
    let is_same = differences.opened.is_empty() && differences.closed.is_empty();
    if args.exit_code && !is_same {
        Ok(ExitCode::Violated)
    } else {
        Ok(ExitCode::Proven)
    }
}

/// Refuses to compare where neither side has a pod that a policy could select: "0 became reachable"
/// would say nothing. Says so where only one side has none.
fn refuse_nothing(
    [first, second]: [&str; 2],
    [(before, earlier), (after, later)]: [(&Inventory, &Predictor<'_>); 2],
    terminal: &Terminal,
) -> Result<(), ExitCode> {
    let effect = match (earlier.map_ends().is_empty(), later.map_ends().is_empty()) {
        (false, false) => return Ok(()),
        (true, true) => {
            terminal.error(&format!(
                "there is nothing to compare: in {first}, {}; in {second}, {}",
                why_nothing(before),
                why_nothing(after)
            ));
            return Err(ExitCode::Usage);
        }
        (true, false) => (first, before, "became reachable"),
        (false, true) => (second, after, "became unreachable"),
    };
    let (side, inventory, verb) = effect;
    let why = why_nothing(inventory);
    terminal.note(&format!("in {side}, {why}; every connection {verb}"));
    Ok(())
}

fn note_differences(
    differences: &Differences,
    before: &Inventory,
    after: &Inventory,
    terminal: &Terminal,
) {
    let Differences {
        opened,
        closed,
        undecided,
    } = differences;
    terminal.note(&format!(
        "{} became reachable, {} became unreachable",
        opened.len(),
        closed.len()
    ));

    let may_differ = |link: &Link| !link.unknown.is_empty();
    if *undecided > 0 {
        terminal.note(&format!(
            "{undecided} more depend on addresses that are not known, before and after: whether they differ is unknown"
        ));
    }
    if *undecided > 0 || opened.iter().chain(closed).any(may_differ) {
        note_unknown(&[before, after], terminal);
    }

    let changes_nothing = opened.is_empty() && closed.is_empty();
    for note in additions_without_effect(before, after, changes_nothing) {
        terminal.note(&note);
    }
}
