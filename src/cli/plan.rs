//! `watertight plan SUITE...`: what a run would do, in a cluster or in the lab.

use super::cluster::{self, ClusterArgs};
use super::load::{self, SuiteInput};
use super::terminal::Terminal;
use super::traffic::Traffic;
use super::{LabArgs, SelectArgs, preflight};
use crate::backend::kube::LaunchPreview;
use crate::event::{ExitCode, describe_request};
use crate::model::show_duration;
use crate::plan::{Coverage, Plan, Provability, floor};
use clap::Args;
use std::io::{self, Write};
use std::net::SocketAddr;

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

pub(super) fn plan(args: &PlanArgs, terminal: &Terminal) -> ExitCode {
    let given = SuiteInput::Files(&args.suites);
    let planned = if args.lab.lab.is_empty() {
        let planned = cluster::plan(&given, &args.cluster, &args.select, terminal);
        planned.map(|(plan, preview)| (plan, Some(preview)))
    } else {
        load::lab(&given, &args.lab.lab, &args.select, terminal).map(|loaded| (loaded.plan, None))
    };
    match planned {
        Ok((plan, preview)) => {
            match write_all(
                &plan,
                preview.as_ref(),
                args.select.verbose,
                &mut io::stdout().lock(),
            ) {
                Ok(()) => ExitCode::Proven,
                // Whoever closed the pipe has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::Proven,
                Err(error) => {
                    terminal.error(&format!("failed to write the plan: {error}"));
                    ExitCode::Defect
                }
            }
        }
        Err(code) => code,
    }
}

/// The plan; what the checks leave untouched; in a cluster what would be created, and what speaks
/// against it.
fn write_all(
    plan: &Plan,
    preview: Option<&LaunchPreview>,
    verbose: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    write(plan, verbose, out)?;
    if let Some(coverage) = plan.coverage() {
        covered(coverage, verbose, out)?;
    }
    preview.map_or(Ok(()), |preview| preflight::write(preview, out))
}

/// What the checks leave untouched: as numbers, and with `-v` by name.
fn covered(coverage: &Coverage, verbose: bool, out: &mut impl Write) -> io::Result<()> {
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

fn write(plan: &Plan, verbose: bool, out: &mut impl Write) -> io::Result<()> {
    let hopeless = plan
        .checks()
        .iter()
        .filter(|check| check.provability != Provability::Provable)
        .count();
    writeln!(
        out,
        "{} checks, {} flows, {} probes; at least {} once the probes are up",
        plan.checks().len(),
        plan.flows().len(),
        plan.probes().len(),
        show_duration(floor(plan)),
    )?;
    for check in plan.checks() {
        let suite = &plan.suites()[check.suite].name;
        writeln!(out, "\n{suite} / {}   ({})", check.name, check.line.place())?;
        match &check.provability {
            Provability::Provable => {}
            Provability::Unprovable(why) => writeln!(out, "    can never be proven: {why}")?,
            Provability::MatchesNothing(what) => writeln!(out, "    {what}")?,
        }
        if let Some(prediction) = &check.prediction {
            match check.contradiction() {
                Some(why) => writeln!(out, "    predicted {}: {why}", prediction.word())?,
                None => writeln!(out, "    predicted {}", prediction.word())?,
            }
        }
        for flow in &check.flows {
            let of = plan.flow(*flow);
            let to = SocketAddr::new(of.to.address, of.to.port);
            let request = if of.to.request.is_usual_in_lab() {
                String::new()
            } else {
                format!(": {}", describe_request(&of.to.request))
            };
            writeln!(
                out,
                "    {} -> {} {to}{request}",
                plan.source(of.probe),
                of.target_kind
            )?;
            if verbose {
                for control in plan
                    .target_controls()
                    .get(&of.to)
                    .into_iter()
                    .flatten()
                    .filter(|control| plan.flow(**control).probe != of.probe)
                {
                    writeln!(
                        out,
                        "        control: {}",
                        plan.source(plan.flow(*control).probe)
                    )?;
                }
                let composite = plan
                    .composites()
                    .get(&of.to)
                    .map(|composite| &composite.through);
                for through in composite.into_iter().flatten() {
                    let node = plan.source(plan.flow(*through).probe);
                    writeln!(
                        out,
                        "        control: {node}, together with its pods' other nodes"
                    )?;
                }
            }
        }
    }
    Traffic::of(plan).write(out)?;
    for note in plan.notes() {
        writeln!(out, "\nnote: {note}")?;
    }
    let contradicted = plan
        .checks()
        .iter()
        .filter(|check| check.contradiction().is_some())
        .count();
    if contradicted > 0 {
        writeln!(
            out,
            "\n{contradicted} of {} checks are not what the policies say",
            plan.checks().len()
        )?;
    }
    if !plan.swept().is_empty() {
        writeln!(
            out,
            "\n{} ports beyond the checks are tried once, and must not open",
            plan.swept().len()
        )?;
        for check in plan.swept().iter().filter(|_| verbose) {
            match &check.prediction {
                Some(prediction) => {
                    writeln!(out, "    {}   predicted {}", check.name, prediction.word())?
                }
                None => writeln!(out, "    {}", check.name)?,
            }
        }
    }
    if hopeless > 0 {
        writeln!(
            out,
            "\n{hopeless} of {} checks will be unproven whatever the network does",
            plan.checks().len()
        )?;
    }
    Ok(())
}
