//! `watertight demo`: the shop of `suites/shop/`, with a mistake in one policy and then without it.

use super::args::{DenyArgs, TestArgs};
use crate::app::lab::{self, PlannedLab};
use crate::app::options::RunOptions;
use crate::app::outputs::Outputs;
use crate::app::terminal::Terminal;
use crate::backend::lab::Deny;
use crate::event::ExitCode;
use crate::inventory::read_manifests;
use crate::source::Sources;
use crate::suite;
use clap::Args;
use std::io::Write;

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    #[command(flatten)]
    deny: DenyArgs,
    #[command(flatten)]
    test: TestArgs,
}

const SUITE: (&str, &str) = (
    "suites/shop/suite.yaml",
    include_str!("../../suites/shop/suite.yaml"),
);

/// The manifests that both runs share.
const MANIFESTS: [(&str, &str); 3] = [
    (
        "suites/shop/manifests/shop.yaml",
        include_str!("../../suites/shop/manifests/shop.yaml"),
    ),
    (
        "suites/shop/manifests/data.yaml",
        include_str!("../../suites/shop/manifests/data.yaml"),
    ),
    (
        "suites/shop/manifests/policies-shop.yaml",
        include_str!("../../suites/shop/manifests/policies-shop.yaml"),
    ),
];

const MISTAKE: (&str, &str) = (
    "suites/shop/mistake/policies-data.yaml",
    include_str!("../../suites/shop/mistake/policies-data.yaml"),
);

const FIX: (&str, &str) = (
    "suites/shop/manifests/policies-data.yaml",
    include_str!("../../suites/shop/manifests/policies-data.yaml"),
);

pub(super) fn demo(args: &DemoArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let (options, deny) = (args.test.options(terminal)?, args.deny.deny());
    let broken = load(MISTAKE, &options, terminal)?;
    let fixed = load(FIX, &options, terminal)?;
    lab::enter(terminal)?;

    say(
        "A shop in network namespaces of this machine: web, api and postgres on two nodes, a payment provider",
    );
    say(
        "outside, a cloud's metadata address. Real sockets, real packets, its own NetworkPolicies.",
    );
    say(&format!("\n1. As it was deployed ({}):\n", MISTAKE.0));
    let (code, complete) = run(broken, deny, &options, terminal)?;
    if !complete {
        return Ok(code);
    }
    if code != ExitCode::Violated {
        // Without its leak the demo shows nothing, and must not look as if it did.
        say("\nThe leak that this demo is about was not found.");
        return Ok(without_leak(code));
    }

    say(&format!("\n2. The fix, {} -> {}:\n", MISTAKE.0, FIX.0));
    for (line, removed, added) in changes(MISTAKE.1, FIX.1) {
        say(&format!("   {line:>3} - {removed}\n   {line:>3} + {added}"));
    }
    say("");
    let (code, _complete) = run(fixed, deny, &options, terminal)?;
    Ok(code)
}

/// The demo's exit code where the first run did not find the leak.
fn without_leak(code: ExitCode) -> ExitCode {
    if code == ExitCode::Proven {
        ExitCode::Defect
    } else {
        code
    }
}

/// Plans the shop with one version of the policy.
fn load(
    policy: (&str, &str),
    options: &RunOptions,
    terminal: &Terminal,
) -> Result<PlannedLab, ExitCode> {
    let mut sources = Sources::new();
    let files: Vec<_> = MANIFESTS
        .iter()
        .chain([&policy])
        .map(|(name, text)| sources.add(name, *text))
        .collect();
    let suite_file = sources.add(SUITE.0, SUITE.1);

    let (suites, mut diagnostics) = suite::read(&[suite_file], &sources);
    let (manifests, of_manifests) = read_manifests(&files, &sources);
    for diagnostic in of_manifests.iter() {
        diagnostics.push(diagnostic.clone());
    }
    if !diagnostics.is_empty() {
        // The files are part of the program.
        terminal.diagnostics(&diagnostics, &sources);
        return Err(ExitCode::Defect);
    }

    let selection = &options.select.selection;
    let families = lab::families(&suites, None, terminal)?;
    lab::place_and_plan(&suites, &manifests, families, selection, &sources, terminal)
}

/// One run: its exit code, and whether it ended without an interruption.
fn run(
    planned: PlannedLab,
    deny: Deny,
    options: &RunOptions,
    terminal: &Terminal,
) -> Result<(ExitCode, bool), ExitCode> {
    let mut outputs = Outputs::open(options, terminal)?;
    outputs.show_console(options, terminal);

    let settings = options.report_settings(Some(deny));
    let result = lab::run_planned(planned, deny, settings, &mut outputs, terminal);
    let code = outputs.conclude(result);
    Ok((outputs.finish(code, terminal), outputs.is_complete()))
}

/// The lines that differ between two texts of the same length, comments left out: their number
/// from 1, and their text before and after.
fn changes<'a>(before: &'a str, after: &'a str) -> Vec<(usize, &'a str, &'a str)> {
    yaml_lines(before)
        .zip(yaml_lines(after))
        .filter(|((_, old), (_, new))| old != new)
        .map(|((index, old), (_, new))| (index + 1, old, new))
        .collect()
}

/// The lines of a text without those that are comments, each with its index in the text.
fn yaml_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.starts_with('#'))
}

/// Writes a line of the story to standard error: it is no data.
fn say(text: &str) {
    let _closed = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistake_and_fix_differ_in_one_line() {
        let changes = changes(MISTAKE.1, FIX.1);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert!(
            changes[0].1.contains("app: postgresql") && changes[0].2.contains("app: postgres }"),
            "{changes:?}"
        );
    }
}
