//! Files → suites, a world, a plan; what is wrong with any of them is shown, all at once.

use super::SelectArgs;
use super::terminal::Terminal;
use crate::backend::kube;
use crate::backend::lab::{Layout, Outside, World};
use crate::engine::Replan;
use crate::event::ExitCode;
use crate::inventory::{self, Inventory, Manifests};
use crate::model::Port;
use crate::plan::{self, BackendProperties, Plan, PlanDiagnostic, PlanError, Selection};
use crate::policy::{self, Explainer};
use crate::source::{Diagnostic, Diagnostics, Place, Sources, Span};
use crate::suite::{self, EndpointId, Line, Locator, PortRef, Subject, Suite, TargetWhat};
use crate::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What is to be tested.
pub(crate) enum SuiteInput<'a> {
    /// Suite files.
    Files(&'a [String]),
    /// One line.
    Line(&'a str),
}

/// Everything that a run in the lab needs.
pub(crate) struct Loaded {
    pub(crate) world: World,
    pub(crate) plan: Plan,
    pub(crate) replan: Replan,
}

/// Reads suites; shows what is wrong.
pub(super) fn suites(
    given: &SuiteInput<'_>,
    strict: bool,
    sources: &mut Sources,
    terminal: &Terminal,
) -> Result<Vec<Suite>, ExitCode> {
    let (suites, diagnostics) = match given {
        SuiteInput::Files(files) => suite::load(files, sources),
        SuiteInput::Line(line) => match suite::load_line(line, sources) {
            Ok(suite) => (vec![suite], Diagnostics::new()),
            Err(diagnostics) => (Vec::new(), diagnostics),
        },
    };
    show(diagnostics, strict, sources, terminal)?;
    Ok(suites)
}

/// Reads suites and manifests, places the world, makes the plan.
pub(super) fn lab(
    given: &SuiteInput<'_>,
    manifests: &[String],
    select: &SelectArgs,
    terminal: &Terminal,
) -> Result<Loaded, ExitCode> {
    let mut sources = Sources::new();
    let (mut suites, manifests) = read(given, manifests, select.strict, &mut sources, terminal)?;
    select.apply(&mut suites);
    world_and_plan(&suites, &manifests, &select.selection(), &sources, terminal)
}

/// Reads suites and manifests.
pub(crate) fn read(
    given: &SuiteInput<'_>,
    manifests: &[String],
    strict: bool,
    sources: &mut Sources,
    terminal: &Terminal,
) -> Result<(Vec<Suite>, Manifests), ExitCode> {
    let suites = suites(given, strict, sources, terminal);
    // Both are read before either is given up, so that all mistakes are shown at once.
    let manifests = self::manifests(manifests, strict, sources, terminal);
    Ok((suites?, manifests?))
}

/// Reads manifests; shows what is wrong.
pub(super) fn manifests(
    paths: &[String],
    strict: bool,
    sources: &mut Sources,
    terminal: &Terminal,
) -> Result<Manifests, ExitCode> {
    let (manifests, diagnostics) = inventory::load_manifests(paths, sources);
    show(diagnostics, strict, sources, terminal)?;
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

/// What is odd about policies: those that select nothing, and what is not certain about those of
/// the whole cluster. A plan tells it among its own notes.
pub(super) fn note_oddities(inventory: &Inventory, terminal: &Terminal) {
    // An invalid policy is told by whoever asks next.
    let caveats = Explainer::new(inventory)
        .map(|explainer| explainer.caveats())
        .unwrap_or_default();
    for note in policy::policies_selecting_no_pod(inventory)
        .iter()
        .chain(&caveats)
    {
        terminal.note(note);
    }
}

/// Places a world for suites and plans them in it.
pub(crate) fn world_and_plan(
    suites: &[Suite],
    manifests: &Manifests,
    selection: &Selection,
    sources: &Sources,
    terminal: &Terminal,
) -> Result<Loaded, ExitCode> {
    let world = World::place(manifests, &outside(suites, selection), Layout::default()).map_err(
        |error| {
            terminal.error(&format!("cannot make the lab: failed to {error}"));
            ExitCode::Usage
        },
    )?;
    let planned = plan_in(&world, suites, selection);
    let plan = planned.map_err(|error| show_plan_error(&error, sources, terminal))?;
    let replan = replan_in(&world, suites, selection);
    Ok(Loaded {
        world,
        plan,
        replan,
    })
}

/// What has to be outside: what suites name, and where a sweep looks for a cloud.
fn outside(suites: &[Suite], selection: &Selection) -> Vec<Outside> {
    let mut outside = outside_hosts(suites);
    if !selection.sweep.is_empty() {
        let ports = vec![(plan::METADATA_PORT, wire::Transport::Tcp)];
        let host = |address| Outside {
            name: None,
            address: Some(address),
            ports: ports.clone(),
        };
        outside.extend(plan::METADATA.map(host));
    }
    outside
}

/// Shows why there is no plan.
pub(super) fn show_plan_error(
    error: &PlanError,
    sources: &Sources,
    terminal: &Terminal,
) -> ExitCode {
    match error {
        PlanError::Invalid(mistakes) => {
            terminal.diagnostics(&diagnostics_of(mistakes, sources), sources);
            ExitCode::Usage
        }
        PlanError::NoWorkload(_) => {
            terminal.error(&error.to_string());
            ExitCode::Usage
        }
        PlanError::NothingSelected | PlanError::AllUnprovable(..) => {
            terminal.error(&error.to_string());
            ExitCode::Impossible
        }
    }
}

/// What suites mean in a cluster.
///
/// # Errors
/// [`PlanError`].
pub(super) fn plan_in_cluster(
    inventory: &Inventory,
    suites: &[Suite],
    selection: &Selection,
) -> Result<Plan, PlanError> {
    plan::resolve(suites, inventory, &kube::properties(inventory), selection)
}

/// What suites mean where nothing will be sent: what could never be proven is planned like the
/// rest.
///
/// # Errors
/// What has been shown already, as an exit code.
pub(super) fn plan_unsent(
    inventory: &Inventory,
    suites: &[Suite],
    sources: &Sources,
    terminal: &Terminal,
) -> Result<Plan, ExitCode> {
    let planned = plan::resolve(
        suites,
        inventory,
        &BackendProperties::none(),
        &Selection::default(),
    );
    planned.map_err(|error| show_plan_error(&error, sources, terminal))
}

/// How the plan is made again when the cluster has changed; outside hosts keep their addresses.
pub(super) fn replan_in_cluster(
    inventory: &Inventory,
    suites: &[Suite],
    selection: &Selection,
) -> Replan {
    let (hosts, suites, selection) = (inventory.hosts.clone(), suites.to_vec(), selection.clone());
    Replan::by(move |inventory| {
        let inventory = Inventory {
            hosts: hosts.clone(),
            ..inventory.clone()
        };
        plan_in_cluster(&inventory, &suites, &selection)
    })
}

/// What suites mean in a world.
///
/// # Errors
/// [`PlanError`].
pub fn plan_in(world: &World, suites: &[Suite], selection: &Selection) -> Result<Plan, PlanError> {
    plan::resolve(suites, world.inventory(), &world.properties(), selection)
}

/// How the plan is made again when that world has changed.
pub fn replan_in(world: &World, suites: &[Suite], selection: &Selection) -> Replan {
    let (properties, suites, selection) = (world.properties(), suites.to_vec(), selection.clone());
    Replan::by(move |inventory| plan::resolve(&suites, inventory, &properties, &selection))
}

/// Shows diagnostics; errors end the command.
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

fn diagnostics_of(mistakes: &[PlanDiagnostic], sources: &Sources) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    for mistake in mistakes {
        let Some(span) = line_span(sources, &mistake.place) else {
            continue;
        };
        let mut diagnostic = Diagnostic::error(span, mistake.message.clone());
        if let Some(other) = mistake
            .other
            .as_ref()
            .and_then(|place| line_span(sources, place))
        {
            diagnostic = diagnostic.with_secondary(other, "the other line");
        }
        diagnostics.push(diagnostic);
    }
    diagnostics
}

/// From a place to the end of its line.
fn line_span(sources: &Sources, place: &Place) -> Option<Span> {
    let file = sources.find(&place.file)?;
    let text = sources.text(file);
    let line_start: usize = text
        .split_inclusive('\n')
        .take(place.line as usize - 1)
        .map(str::len)
        .sum();
    let line = text[line_start..].lines().next().unwrap_or_default();
    let column = line
        .char_indices()
        .nth(place.column as usize - 1)
        .map_or(line.len(), |(at, _)| at);
    Some(Span::new(
        file,
        line_start + column,
        line_start + line.trim_end().len(),
    ))
}

/// Outside hosts by name or address, with their ports.
type HostPorts = BTreeMap<(Option<String>, Option<IpAddr>), BTreeSet<(u16, wire::Transport)>>;

/// The hosts and addresses outside that suites name, with the ports that their lines mention.
pub fn outside_hosts(suites: &[Suite]) -> Vec<Outside> {
    let mut hosts = HostPorts::new();
    for suite in suites {
        for endpoint in &suite.endpoints {
            let Some(key) = outside_key(&endpoint.locator) else {
                continue;
            };
            let ports = hosts.entry(key).or_default();
            for item in endpoint.ports.iter().flatten() {
                if let PortRef::Number(number) = item.port {
                    ports.extend(probed(Port::new(number, item.transport)));
                }
            }
        }
        for line in &suite.lines {
            mention(suite, line, &mut hosts);
        }
    }
    hosts
        .into_iter()
        .map(|((name, address), ports)| Outside {
            name,
            address,
            ports: ports.into_iter().collect(),
        })
        .collect()
}

fn mention(suite: &Suite, line: &Line, hosts: &mut HostPorts) {
    for item in &line.targets {
        let port = match &item.what {
            TargetWhat::Port(port) => match port.port {
                PortRef::Number(number) => Port::new(number, port.transport),
                PortRef::Name(_) => None,
            },
            TargetWhat::Url(url) => {
                let (number, transport) = plan::url_port(url);
                number.and_then(|number| Port::new(number, transport))
            }
            TargetWhat::KnownPorts(_) | TargetWhat::Range { .. } => None,
        };
        let ids = match &item.subject {
            Subject::Endpoint(id) => vec![*id],
            Subject::Group(ids) => ids.clone(),
            Subject::All => (0..suite.endpoints.len()).map(EndpointId).collect(),
        };
        for id in ids {
            let key = outside_key(&suite.endpoints[id.0].locator);
            if let Some(ports) = key.and_then(|key| hosts.get_mut(&key)) {
                ports.extend(probed(port));
            }
        }
    }
}

fn outside_key(locator: &Locator) -> Option<(Option<String>, Option<IpAddr>)> {
    match locator {
        Locator::Host(name) => Some((Some(name.as_str().to_owned()), None)),
        Locator::Address(address) => Some((None, Some(*address))),
        Locator::Workload { .. }
        | Locator::Pods { .. }
        | Locator::Service { .. }
        | Locator::Runner
        | Locator::Nodes => None,
    }
}

fn probed(port: Option<Port>) -> Option<(u16, wire::Transport)> {
    let port = port?;
    Some((port.number(), plan::wire_transport(port.transport())?))
}
