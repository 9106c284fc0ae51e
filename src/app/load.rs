//! Suites and manifests from files. Diagnostics are shown, all at once.

use super::options::{SuiteInput, WorldOptions};
use super::terminal::Terminal;
use crate::event::ExitCode;
use crate::inventory::{self, Inventory, Manifests};
use crate::policy::{self, Explainer};
use crate::source::{Diagnostics, Sources};
use crate::suite::{self, Suite};

/// The most files that are named as passed over.
const MAX_PASSED_OVER: usize = 20;

/// Reads suites.
///
/// # Errors
/// [`ExitCode::Usage`]; the diagnostics have been shown.
pub(crate) fn suites(
    input: SuiteInput<'_>,
    strict: bool,
    sources: &mut Sources,
    terminal: &Terminal,
) -> Result<Vec<Suite>, ExitCode> {
    let (suites, diagnostics) = match input {
        SuiteInput::Files(files) => suite::load(files, sources),
        SuiteInput::Line(line) => match suite::load_line(line, sources) {
            Ok(suite) => (vec![suite], Diagnostics::new()),
            Err(diagnostics) => (Vec::new(), diagnostics),
        },
    };
    show(diagnostics, strict, sources, terminal)?;
    Ok(suites)
}

/// Reads manifests.
///
/// # Errors
/// [`ExitCode::Usage`]; the diagnostics have been shown.
pub(crate) fn manifests(
    paths: &[String],
    strict: bool,
    sources: &mut Sources,
    terminal: &Terminal,
) -> Result<Manifests, ExitCode> {
    let (manifests, diagnostics) = inventory::load_manifests(paths, sources);
    show(diagnostics, strict, sources, terminal)?;

    if !manifests.passed_over.is_empty() {
        let files = manifests.passed_over.iter().take(MAX_PASSED_OVER);
        let files: Vec<String> = files.map(|(name, why)| format!("{name} ({why})")).collect();
        let more = match manifests.passed_over.len() - files.len() {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        terminal.note(&format!("passed over: {}{more}", files.join(", ")));
    }
    if !manifests.ignored.is_empty() {
        let kinds: Vec<String> = manifests
            .ignored
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        terminal.note(&format!("not needed and left out: {}", kinds.join(", ")));
    }
    Ok(manifests)
}

/// Shows notes on manifests without a pod, or without a policy.
pub(crate) fn note_what_is_missing(manifests: &Manifests, terminal: &Terminal) {
    if manifests.pods.is_empty() {
        terminal.note("the manifests hold no pod: nothing sends and nothing answers");
    }
    if manifests.policies.is_empty() {
        terminal.note("the manifests hold no policy that is read: every flow is allowed");
    }
}

/// Reads suites and manifests.
///
/// # Errors
/// [`ExitCode::Usage`]; the diagnostics of both have been shown.
pub(crate) fn suites_and_manifests(
    input: SuiteInput<'_>,
    manifests: &[String],
    strict: bool,
    sources: &mut Sources,
    terminal: &Terminal,
) -> Result<(Vec<Suite>, Manifests), ExitCode> {
    // Both are read before an error of either ends the command, so that all mistakes are shown at
    // once.
    let suites = suites(input, strict, sources, terminal);
    let manifests = self::manifests(manifests, strict, sources, terminal);
    Ok((suites?, manifests?))
}

/// Reads suites and the manifests of a world, and gives the suites' hosts their addresses.
///
/// # Errors
/// [`ExitCode::Usage`]; the diagnostics of both, or a mistake in `--resolve`, have been shown.
pub(crate) fn suites_and_world(
    input: SuiteInput<'_>,
    world: &WorldOptions,
    strict: bool,
    sources: &mut Sources,
    terminal: &Terminal,
) -> Result<(Vec<Suite>, Manifests), ExitCode> {
    let (mut suites, manifests) =
        suites_and_manifests(input, &world.manifests, strict, sources, terminal)?;
    suite::apply_resolve(&mut suites, &world.resolve).map_err(|message| {
        terminal.error(&message);
        ExitCode::Usage
    })?;
    Ok((suites, manifests))
}

/// Shows a warning of policies that are not read, and notes on what matches no pod and on
/// cluster-wide policies of which a part is uncertain. A plan's notes contain them already.
pub(crate) fn note_policy_caveats(inventory: &Inventory, terminal: &Terminal) {
    if let Some(warning) = inventory.unread_policies_warning() {
        terminal.warning(&warning);
    }
    // An invalid policy is an error of the command that predicts with it next.
    let caveats = Explainer::new(inventory)
        .map(|explainer| explainer.caveats())
        .unwrap_or_default();
    for note in policy::notes_on_unmatched(inventory).iter().chain(&caveats) {
        terminal.note(note);
    }
}

fn show(
    diagnostics: Diagnostics,
    strict: bool,
    sources: &Sources,
    terminal: &Terminal,
) -> Result<(), ExitCode> {
    let diagnostics = if strict {
        diagnostics.strict()
    } else {
        diagnostics
    };

    terminal.diagnostics(&diagnostics, sources);
    if diagnostics.has_errors() {
        Err(ExitCode::Usage)
    } else {
        Ok(())
    }
}
