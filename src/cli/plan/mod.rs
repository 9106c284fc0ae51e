//! `watertight plan SUITE...`: what a run would do, in a cluster or in the lab.

mod preflight;
mod traffic;

use super::args::{LabArgs, SelectArgs};
use super::cluster_args::ClusterArgs;
use crate::app::options::SuiteInput;
use crate::app::terminal::Terminal;
use crate::app::{cluster, lab};
use crate::backend::kube::LaunchPreview;
use crate::event::{ExitCode, describe_request};
use crate::model::show_duration;
use crate::plan::{Check, Coverage, Flow, Plan, Provability, floor};
use clap::Args;
use std::io::{self, Write};
use std::net::SocketAddr;
use traffic::Traffic;

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// Suite files, - for standard input
    #[arg(required = true, value_name = "SUITE")]
    suites: Vec<String>,
    #[command(flatten)]
    lab: LabArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    select: SelectArgs,
}

pub(super) fn plan(args: &PlanArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let input = SuiteInput::Files(&args.suites);
    let select = args.select.options();
    let (plan, preview) = if let Some(lab) = args.lab.options() {
        let planned = lab::load(input, &lab.world, &select, terminal)?;
        (planned.plan, None)
    } else {
        let cluster = args.cluster.options();
        let (plan, preview) = cluster::plan(input, &cluster, &select, terminal)?;
        (plan, Some(preview))
    };

    let verbose = args.select.verbose;
    match write_all(&plan, preview.as_ref(), verbose, &mut io::stdout().lock()) {
        Ok(()) => Ok(ExitCode::Proven),
        // The reader of the pipe has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::Proven),
        Err(error) => {
            terminal.error(&format!("failed to write the plan: {error}"));
            Err(ExitCode::Defect)
        }
    }
}

/// Writes the checks, the traffic, the totals, the coverage; in a cluster also what would be
/// created, and the risks.
fn write_all(
    plan: &Plan,
    preview: Option<&LaunchPreview>,
    verbose: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(
        out,
        "{} checks, {} flows, {} probes; at least {} once the probes are up",
        plan.checks().len(),
        plan.flows().len(),
        plan.probes().len(),
        show_duration(floor(plan)),
    )?;
    for check in plan.checks() {
        write_check(plan, check, verbose, out)?;
    }

    Traffic::of(plan).write(out)?;
    for note in plan.notes() {
        writeln!(out, "\nnote: {note}")?;
    }
    write_totals(plan, verbose, out)?;

    if let Some(coverage) = &plan.coverage() {
        write_coverage(coverage, verbose, out)?;
    }
    if let Some(preview) = preview {
        preflight::write(preview, out)?;
    }
    Ok(())
}

/// Writes a check, its prediction and its flows; with `verbose` also the controls of each flow.
fn write_check(plan: &Plan, check: &Check, verbose: bool, out: &mut impl Write) -> io::Result<()> {
    let suite = &plan.suites()[check.suite].name;
    writeln!(out, "\n{suite} / {}   ({})", check.name, check.line.place())?;
    match &check.provability {
        Provability::Provable => {}
        Provability::Unprovable(why) => writeln!(out, "    can never be proven: {why}")?,
        Provability::MatchesNothing(what)
        | Provability::AddressUnknown(what)
        | Provability::NothingReady(what)
        | Provability::Incomplete(what)
        | Provability::PoliciesAdmitMore(what) => {
            writeln!(out, "    will not be proven: {what}")?;
        }
    }

    if let Some(prediction) = &check.prediction {
        match check.contradiction() {
            Some(why) => writeln!(out, "    predicted {}: {why}", prediction.word())?,
            None => writeln!(out, "    predicted {}", prediction.word())?,
        }
    }

    for id in &check.flows {
        let flow = plan.flow(*id);
        write_flow(plan, flow, out)?;
        if verbose {
            write_controls(plan, flow, out)?;
        }
    }
    Ok(())
}

fn write_flow(plan: &Plan, flow: &Flow, out: &mut impl Write) -> io::Result<()> {
    let to = SocketAddr::new(flow.to.address, flow.to.port);
    let request = if flow.to.request.is_usual_in_lab() {
        String::new()
    } else {
        format!(": {}", describe_request(&flow.to.request))
    };
    let (source, target) = (plan.source(flow.probe), &flow.target_kind);
    writeln!(out, "    {source} -> {target} {to}{request}")
}

/// Writes the target controls of a flow that other probes send.
fn write_controls(plan: &Plan, flow: &Flow, out: &mut impl Write) -> io::Result<()> {
    let controls = plan.target_controls().get(&flow.to).into_iter().flatten();
    for control in controls {
        let probe = plan.flow(*control).probe;
        if probe != flow.probe {
            writeln!(out, "        control: {}", plan.source(probe))?;
        }
    }

    let composite = plan.composites().get(&flow.to);
    let through = composite.map(|composite| &composite.through);
    for control in through.into_iter().flatten() {
        let node = plan.source(plan.flow(*control).probe);
        writeln!(
            out,
            "        control: {node}, together with its pods' other nodes"
        )?;
    }
    Ok(())
}

/// Writes how many checks contradict the policies, how many ports are swept, and how many checks
/// can never be proven.
fn write_totals(plan: &Plan, verbose: bool, out: &mut impl Write) -> io::Result<()> {
    let checks = plan.checks();
    let contradicted = checks
        .iter()
        .filter(|check| check.contradiction().is_some());
    let contradicted = contradicted.count();
    if contradicted > 0 {
        writeln!(
            out,
            "\n{contradicted} of {} checks are not what the policies say",
            checks.len()
        )?;
    }

    if !plan.swept().is_empty() {
        writeln!(
            out,
            "\n{} ports beyond the checks are tried once, and must not open",
            plan.swept().iter().map(ports_tried).sum::<usize>()
        )?;
    }
    for check in plan.swept().iter().filter(|_| verbose) {
        match &check.prediction {
            Some(prediction) => {
                writeln!(out, "    {}   predicted {}", check.name, prediction.word())?;
            }
            None => writeln!(out, "    {}", check.name)?,
        }
    }

    let unprovable = checks
        .iter()
        .filter(|check| check.provability != Provability::Provable)
        .count();
    if unprovable > 0 {
        writeln!(
            out,
            "\n{unprovable} of {} checks will not be proven, whatever the network does",
            checks.len()
        )?;
    }
    Ok(())
}

/// The ports that an entry of a sweep stands for: one, or a sample of those that policies admit.
fn ports_tried(swept: &Check) -> usize {
    match swept.provability {
        Provability::PoliciesAdmitMore(_) => swept.flows.len(),
        Provability::Provable
        | Provability::Unprovable(_)
        | Provability::MatchesNothing(_)
        | Provability::AddressUnknown(_)
        | Provability::NothingReady(_)
        | Provability::Incomplete(_) => 1,
    }
}

/// Writes how much of the inventory the checks touch; with `verbose` also the names of the rest.
fn write_coverage(coverage: &Coverage, verbose: bool, out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    for (what, touched) in coverage.parts() {
        writeln!(
            out,
            "{} of {} {what} are touched by a check",
            touched.touched, touched.all
        )?;
        for name in touched.left.iter().filter(|_| verbose) {
            writeln!(out, "    not: {name}")?;
        }
    }
    Ok(())
}
