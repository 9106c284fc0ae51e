//! `watertight explain 'SOURCE -> TARGET:PORT'`: why, policy by policy and rule by rule, in a
//! cluster or with `--lab MANIFESTS...` in the world of manifests.

use super::cluster::{self, ClusterArgs};
use super::load::{self, SuiteInput};
use super::predict::{invalid, written};
use super::terminal::Terminal;
use crate::event::ExitCode;
use crate::inventory::Inventory;
use crate::plan::{Plan, Provability, Selection, explain_flows};
use crate::policy::{Explanation, Selects, Side, SideEffects};
use crate::source::Sources;
use clap::{Args, ValueEnum};
use std::fmt::Write as _;

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Who sends what to whom, as in a suite: 'shop/Deployment/web ->
    /// data/StatefulSet/postgres:5432'
    #[arg(value_name = "FLOW")]
    flow: String,
    /// In the world of these manifests instead of a cluster: files, folders, or - for standard
    /// input
    #[arg(long, value_name = "MANIFESTS", num_args = 1..)]
    lab: Vec<String>,
    /// In the cluster as it would be if these manifests were applied
    #[arg(long, value_name = "MANIFESTS", num_args = 1.., conflicts_with = "lab")]
    apply: Vec<String>,
    /// How it is written
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    output: Format,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

pub(super) fn explain(args: &ExplainArgs, terminal: &Terminal) -> ExitCode {
    explained(args, terminal).unwrap_or_else(|code| code)
}

fn explained(args: &ExplainArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let mut sources = Sources::new();
    let flow = args.flow.trim();
    let stated = ["allowed", "denied"]
        .iter()
        .any(|word| flow.ends_with(word));
    let line = if stated {
        flow.to_owned()
    } else {
        format!("{flow} allowed")
    };
    let (plan, inventory) = planned(args, &line, &mut sources, terminal)?;
    load::note_oddities(&inventory, terminal);
    let explanations =
        explain_flows(&plan, &inventory).map_err(|error| invalid(&error, terminal))?;
    if explanations.is_empty() {
        let absent = plan
            .checks()
            .iter()
            .find_map(|check| match &check.provability {
                Provability::MatchesNothing(what) => Some(what.as_str()),
                Provability::Provable | Provability::Unprovable(_) => None,
            });
        let why = absent.unwrap_or("no packet can be sent between the two ends");
        terminal.error(&format!("there is no flow to explain: {why}"));
        return Err(ExitCode::Usage);
    }
    match args.output {
        Format::Json => {
            let json = serde_json::to_string_pretty(
                &explanations
                    .iter()
                    .map(|(walk, _)| walk)
                    .collect::<Vec<_>>(),
            );
            written(&format!("{}\n", json.unwrap_or_default()), terminal)
        }
        Format::Text => {
            let told: Vec<String> = explanations
                .iter()
                .map(|(walk, alike)| picture(walk, *alike))
                .collect();
            written(&told.join("\n"), terminal)
        }
    }
}

/// The flow in the world that is meant.
fn planned(
    args: &ExplainArgs,
    line: &str,
    sources: &mut Sources,
    terminal: &Terminal,
) -> Result<(Plan, Inventory), ExitCode> {
    if !args.lab.is_empty() {
        let (suites, manifests) =
            load::read(&SuiteInput::Line(line), &args.lab, false, sources, terminal)?;
        let loaded = load::world_and_plan(
            &suites,
            &manifests,
            &Selection::default(),
            sources,
            terminal,
        )?;
        return Ok((loaded.plan, loaded.world.inventory().clone()));
    }
    let (suites, manifests) = load::read(
        &SuiteInput::Line(line),
        &args.apply,
        false,
        sources,
        terminal,
    )?;
    let inventory = cluster::inventory(&args.cluster, &suites, terminal)?.with_applied(&manifests);
    Ok((
        load::plan_unsent(&inventory, &suites, sources, terminal)?,
        inventory,
    ))
}

/// One explanation; `alike` other pairs of pods have the same.
fn picture(walk: &Explanation, alike: usize) -> String {
    let mut out = String::new();
    let more = match alike {
        0 => String::new(),
        1 => "   (and 1 more pair of addresses alike)".to_owned(),
        more => format!("   (and {more} more pairs of addresses alike)"),
    };
    let answer = if walk.allowed { "allowed" } else { "denied" };
    line(
        &mut out,
        &format!(
            "{} -> {}:{} is {answer} by the policies{more}",
            walk.from, walk.to, walk.port
        ),
    );
    if let Some(why) = &walk.beyond_policies {
        line(&mut out, &format!("  no policy is asked: {why}"));
    }
    for side in &walk.sides {
        side_of(side, &mut out);
    }
    for note in &walk.notes {
        line(&mut out, &format!("\n  note: {note}"));
    }
    let turned = if walk.allowed { "denied" } else { "allowed" };
    if !walk.changes.is_empty() {
        line(
            &mut out,
            &format!("\n  for it to be {turned}, the smallest change first (each was tried):"),
        );
    } else if walk.beyond_policies.is_none() {
        line(
            &mut out,
            &format!("\n  for it to be {turned}: no change of a few rules or labels was found"),
        );
    }
    for change in &walk.changes {
        line(&mut out, &format!("    - {}", change.text));
        if let Some(beside) = &change.beside {
            besides(beside, &mut out);
        }
    }
    out
}

/// What else a change does: the first few.
fn besides(beside: &SideEffects, out: &mut String) {
    const TOLD: usize = 4;
    if beside.opens.is_empty() && beside.closes.is_empty() {
        line(out, "        and nothing else changes");
    }
    for (verb, links) in [("opens", &beside.opens), ("closes", &beside.closes)] {
        for link in links.iter().take(TOLD) {
            line(out, &format!("        also {verb} {link}"));
        }
        if links.len() > TOLD {
            line(
                out,
                &format!("        and {verb} {} more", links.len() - TOLD),
            );
        }
    }
}

fn side_of(side: &Side, out: &mut String) {
    let answer = if side.allowed { "allows" } else { "denies" };
    line(
        out,
        &format!(
            "\n  {} of {} {answer} it: {}",
            side.direction.as_str(),
            side.whose,
            side.because
        ),
    );
    for step in &side.policies {
        let selects = match &step.selects {
            Selects::Yes => "selects it".to_owned(),
            Selects::NotThisDirection => {
                format!(
                    "selects it, but its policyTypes leave out {}: nothing below is in force",
                    side.direction.as_str()
                )
            }
            Selects::Nearly(why) => format!("does not select it: {why}"),
        };
        let not_asked = step
            .not_asked
            .as_ref()
            .map_or(String::new(), |why| format!(" and is not asked: {why}"));
        line(out, &format!("    {} {selects}{not_asked}", step.policy));
        if step.not_asked.is_some() {
            continue;
        }
        if step.selects == Selects::Yes && step.rules.is_empty() {
            line(
                out,
                "      it has no rule for this direction, so it admits nothing",
            );
        }
        for rule in &step.rules {
            let name = rule
                .name
                .as_ref()
                .map_or(String::new(), |name| format!(" {name:?}"));
            let place = if rule.origin.is_empty() {
                String::new()
            } else {
                format!(" ({})", rule.origin)
            };
            let is_of_namespace = !step.policy.namespace.is_empty();
            let mark = match (rule.decides, rule.peer.holds && rule.port.holds) {
                (true, _) => "decides",
                (false, true) if is_of_namespace => "matches",
                // Of a cluster-wide policy the first rule that matches decides.
                (false, true) => "would match, but an earlier rule decides",
                (false, false) => "does not match",
            };
            line(
                out,
                &format!(
                    "      rule {}{name}{place} {}: {mark}",
                    rule.number, rule.action
                ),
            );
            let yes_or_no = |holds: bool| if holds { "yes" } else { "no" };
            match rule.peer.text.split(" | ").collect::<Vec<_>>().as_slice() {
                [only] => line(
                    out,
                    &format!("        peer {}: {only}", yes_or_no(rule.peer.holds)),
                ),
                several => {
                    line(out, "        peer no, none of these:");
                    for one in several {
                        line(out, &format!("          {one}"));
                    }
                }
            }
            line(
                out,
                &format!(
                    "        port {}: {}",
                    yes_or_no(rule.port.holds),
                    rule.port.text
                ),
            );
        }
    }
}

fn line(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}
