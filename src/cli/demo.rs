//! `watertight demo`: the shop of `suites/shop/`, with a mistake in one policy and then without it.

use super::load::{self, Loaded};
use super::outputs::Sinks;
use super::terminal::Terminal;
use super::{DenyArgs, RunOptions, lab};
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
    options: RunOptions,
}

const SUITE: (&str, &str) = (
    "suites/shop/suite.yaml",
    include_str!("../../suites/shop/suite.yaml"),
);

/// The manifests that are right from the start.
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

pub(super) fn demo(args: &DemoArgs, terminal: &Terminal) -> ExitCode {
    let both = load(MISTAKE, &args.options, terminal)
        .and_then(|broken| Ok((broken, load(FIX, &args.options, terminal)?)));
    let (broken, fixed) = match both {
        Ok(both) => both,
        Err(code) => return code,
    };
    if let Err(code) = lab::enter(terminal) {
        return code;
    }
    say(
        "A shop in network namespaces of this machine: web, api and postgres on two nodes, a payment provider",
    );
    say(
        "outside, a cloud's metadata address. Real sockets, real packets, its own NetworkPolicies.",
    );
    say(&format!("\n1. As it was deployed ({}):\n", MISTAKE.0));
    let (first, complete) = match once(broken, args, terminal) {
        Ok(ended) => ended,
        Err(code) => return code,
    };
    if !complete {
        return first;
    }
    if first != ExitCode::Violated {
        // Without its leak the demo shows nothing, and must not look as if it did.
        say("\nThe leak that this demo is about was not found.");
        return if first == ExitCode::Proven {
            ExitCode::Defect
        } else {
            first
        };
    }
    say(&format!("\n2. The fix, {} -> {}:\n", MISTAKE.0, FIX.0));
    for (line, removed, added) in changes(MISTAKE.1, FIX.1) {
        say(&format!("   {line:>3} - {removed}\n   {line:>3} + {added}"));
    }
    say("");
    match once(fixed, args, terminal) {
        Ok((code, _)) | Err(code) => code,
    }
}

fn load(
    policy: (&str, &str),
    options: &RunOptions,
    terminal: &Terminal,
) -> Result<Loaded, ExitCode> {
    let mut sources = Sources::new();
    let files: Vec<_> = MANIFESTS
        .iter()
        .chain([&policy])
        .map(|(name, text)| sources.add(name, *text))
        .collect();
    let suite_file = sources.add(SUITE.0, SUITE.1);
    let (suites, mut diagnostics) = suite::read(&[suite_file], &sources);
    let (manifests, more) = read_manifests(&files, &sources);
    for diagnostic in more.iter() {
        diagnostics.push(diagnostic.clone());
    }
    if !diagnostics.is_empty() {
        // The files are part of the program.
        terminal.diagnostics(&diagnostics, &sources);
        return Err(ExitCode::Defect);
    }
    load::world_and_plan(
        &suites,
        &manifests,
        &options.select.selection(),
        &sources,
        terminal,
    )
}

/// One run: its exit code, and whether it came to its own end.
fn once(
    loaded: Loaded,
    args: &DemoArgs,
    terminal: &Terminal,
) -> Result<(ExitCode, bool), ExitCode> {
    let mut sinks = Sinks::open(&args.options, terminal)?;
    sinks.show(&args.options, terminal);
    let deny = args.deny.how();
    let code = lab::in_lab(
        loaded,
        deny,
        args.options.settings(Some(deny)),
        &mut sinks,
        terminal,
    );
    Ok((sinks.finish(code, terminal), sinks.complete))
}

/// Lines that differ between two texts of the same length, comments left out.
fn changes<'a>(before: &'a str, after: &'a str) -> Vec<(usize, &'a str, &'a str)> {
    let yaml = |text: &'a str| {
        text.lines()
            .enumerate()
            .filter(|(_, line)| !line.starts_with('#'))
    };
    let pairs = yaml(before).zip(yaml(after));
    pairs
        .filter(|((_, old), (_, new))| old != new)
        .map(|((number, old), (_, new))| (number + 1, old, new))
        .collect()
}

/// The story between the runs is no data.
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
