//! A run in a cluster, from suites to an exit code; and what the commands that only read take from
//! a cluster.

use super::hosts::{Resolver, namespaces_of, resolve_hosts};
use super::interrupt::Interrupts;
use super::options::{ClusterOptions, RunOptions, SelectOptions, SuiteInput};
use super::outputs::Outputs;
use super::planning::{plan_in_cluster, replan_in_cluster, secrets_of, show_plan_error};
use super::run::{Stopped, new_run_id, new_schedule, own_digest, run_and_tear_down};
use super::runtime::EventLoop;
use super::terminal::{Terminal, describe};
use super::{load, preflight};
use crate::backend::Backend;
use crate::backend::kube::preflight::{Allowances, rights};
use crate::backend::kube::{self, Access, Canaries, Cleaned, Kube, LaunchPreview, Runs};
use crate::engine::{self, Replan, RunnerClock};
use crate::event::ExitCode;
use crate::inventory::Inventory;
use crate::plan::Plan;
use crate::source::Sources;
use crate::suite::Suite;
use std::collections::BTreeSet;
use std::time::Duration;

/// The interval between the heartbeats of a probe. The log of a container is bounded, so it is
/// longer than in the lab.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Suites, planned in a cluster that is connected.
struct PlannedCluster {
    kube: Kube,
    plan: Plan,
    replan: Replan,
    preview: LaunchPreview,
}

/// What planning needs beside the connection.
struct PlanRequest<'a> {
    input: SuiteInput<'a>,
    cluster: &'a ClusterOptions,
    select: &'a SelectOptions,
    resolver: Resolver,
    terminal: &'a Terminal,
}

/// Tests suites in the cluster.
pub(super) fn run(
    input: SuiteInput<'_>,
    cluster: &ClusterOptions,
    options: &RunOptions,
    outputs: &mut Outputs,
    terminal: &Terminal,
) -> Result<ExitCode, Stopped> {
    let request = PlanRequest {
        input,
        cluster,
        select: &options.select,
        resolver: Resolver::Probe,
        terminal,
    };
    EventLoop::Cluster.block_on(terminal, run_request(&request, options, outputs))?
}

async fn run_request(
    request: &PlanRequest<'_>,
    options: &RunOptions,
    outputs: &mut Outputs,
) -> Result<ExitCode, Stopped> {
    let terminal = request.terminal;
    let digest = tokio::task::spawn_blocking(own_digest);
    let mut interrupts = Interrupts::listen();
    let schedule = new_schedule(Vec::new(), HEARTBEAT);

    let mut planned = Box::pin(request.plan(&schedule.run, &mut interrupts))
        .await
        .map_err(|code| Stopped::new("there is nothing that could be tested", code))?;
    if let Err(stopped) = request.check_cluster(&mut planned, &mut interrupts).await {
        remove(planned.kube, terminal).await;
        return Err(stopped);
    }
    outputs.show_console(options, terminal);

    let mut settings = options.report_settings(None);
    settings.insert(
        "probeImage".to_owned(),
        request.cluster.image.name.clone().into(),
    );
    let engine_options = engine::Options {
        schedule,
        backend: "cluster",
        clock: RunnerClock::read(planned.kube.started().elapsed()),
        about: engine::About {
            digest: digest.await.ok().flatten(),
            probe_digest: None,
            settings,
            limits: Vec::new(),
        },
        replan: planned.replan,
    };
    Box::pin(run_and_tear_down(
        &planned.plan,
        planned.kube,
        engine_options,
        interrupts.next(),
        outputs,
        terminal,
    ))
    .await
}

impl PlanRequest<'_> {
    /// Reads suites, connects, makes the plan. What was created on the way, such as a probe that
    /// resolves names, is removed when a later step fails.
    ///
    /// # Errors
    /// The cause has been shown.
    async fn plan(
        &self,
        run: &str,
        interrupts: &mut Interrupts,
    ) -> Result<PlannedCluster, ExitCode> {
        let mut sources = Sources::new();
        let mut suites = load::suites(self.input, self.select.strict, &mut sources, self.terminal)?;
        self.select.apply(&mut suites);
        let namespaces = self.namespaces(&suites);

        let connect = connect(self.cluster, run.to_owned(), &namespaces, self.terminal);
        let mut kube = interrupts.unless_interrupted(connect).await??;
        kube.provide(secrets_of(&suites));

        let planning = self.plan_connected(&mut kube, &suites, &sources, &namespaces);
        let planned = interrupts.unless_interrupted(Box::pin(planning)).await;
        match planned.flatten() {
            Ok((plan, replan, preview)) => Ok(PlannedCluster {
                kube,
                plan,
                replan,
                preview,
            }),
            Err(code) => {
                remove(kube, self.terminal).await;
                Err(code)
            }
        }
    }

    /// The namespaces of suites, canaries and sweeps.
    fn namespaces(&self, suites: &[Suite]) -> BTreeSet<String> {
        let mut namespaces = namespaces_of(suites);
        namespaces.extend(self.cluster.canary.clone());

        let swept = &self.select.selection.sweep;
        namespaces.extend(swept.iter().map(|workload| workload.namespace.clone()));
        namespaces
    }

    async fn plan_connected(
        &self,
        kube: &mut Kube,
        suites: &[Suite],
        sources: &Sources,
        namespaces: &BTreeSet<String>,
    ) -> Result<(Plan, Replan, LaunchPreview), ExitCode> {
        let terminal = self.terminal;
        let selection = &self.select.selection;
        let mut inventory = kube
            .inventory()
            .await
            .map_err(|error| impossible(&error, terminal))?;
        resolve_hosts(kube, suites, &mut inventory, self.resolver, terminal).await;

        let mut plan = plan_in_cluster(&inventory, suites, selection)
            .map_err(|error| show_plan_error(&error, sources, terminal))?;
        plan.add_notes(kube.annotated_by_others());
        let replan = replan_in_cluster(&inventory, suites, selection);

        let allowances = Allowances {
            autoscalers: self.cluster.allow_autoscalers,
        };
        let preview = kube
            .preview(&plan, namespaces, allowances)
            .await
            .map_err(|error| impossible(&error, terminal))?;
        Ok((plan, replan, preview))
    }

    /// Ends the run where preflight refuses it, and runs canaries where they are asked for.
    async fn check_cluster(
        &self,
        planned: &mut PlannedCluster,
        interrupts: &mut Interrupts,
    ) -> Result<(), Stopped> {
        if preflight::refuses(&planned.preview, self.terminal) {
            return Err(Stopped::new("preflight refused it", ExitCode::Impossible));
        }

        if let Some(namespace) = &self.cluster.canary {
            let canaries = run_canaries(&mut planned.kube, namespace, interrupts, self.terminal)
                .await
                .map_err(|code| Stopped::new("the canaries could not be tried", code))?;
            apply_canary_results(&canaries, &mut planned.plan, &mut planned.replan);
        }
        Ok(())
    }
}

async fn run_canaries(
    kube: &mut Kube,
    namespace: &str,
    interrupts: &mut Interrupts,
    terminal: &Terminal,
) -> Result<Canaries, ExitCode> {
    let canaries = interrupts.unless_interrupted(kube.canaries(namespace));
    canaries
        .await?
        .map_err(|error| impossible(&error, terminal))
}

/// Adds the results of the canaries to the plan's notes. Where no node enforces policies on probe
/// pods, their attempts are no evidence, also not for a plan that is made again.
fn apply_canary_results(canaries: &Canaries, plan: &mut Plan, replan: &mut Replan) {
    plan.add_notes(canaries.sentences());
    if canaries.nowhere_enforced() {
        plan.withdraw_checks_from_clones(
            "probe pods are not enforced here: no canary was blocked on any node, so the attempts of a probe pod say nothing of the workload's own pods: use ephemeral (source: ephemeral)",
        );
        *replan = Replan::default();
    }
}

/// Connects, and shows the notes on the connection. Where a right is missing, shows the Role that
/// grants what a run needs.
async fn connect(
    cluster: &ClusterOptions,
    run: String,
    namespaces: &BTreeSet<String>,
    terminal: &Terminal,
) -> Result<Kube, ExitCode> {
    let (access, image) = (&cluster.access, cluster.image.clone());
    match Kube::connect(access, image, run, namespaces).await {
        Ok(kube) => {
            for note in kube.notes() {
                terminal.note(note);
            }
            Ok(kube)
        }
        Err(error) => {
            let code = impossible(&error, terminal);
            if matches!(error, kube::Error::Forbidden { .. }) {
                let needed = rights::needed(namespaces, namespaces, &BTreeSet::new());
                let role = rights::role_yaml(&needed, access.act_as.as_deref());
                terminal.error(&format!(
                    "this grants what a run needs (kubectl apply -f -):\n\n{role}"
                ));
            }
            Err(code)
        }
    }
}

/// Removes what was created before the run.
async fn remove(kube: Kube, terminal: &Terminal) {
    for error in kube.teardown().await {
        terminal.note(&format!("not everything was removed: {}", describe(&error)));
    }
}

fn impossible(error: &dyn std::error::Error, terminal: &Terminal) -> ExitCode {
    terminal.error(&describe(error));
    ExitCode::Impossible
}

/// Plans suites in the cluster; changes nothing.
///
/// # Errors
/// The cause has been shown.
pub(crate) fn plan(
    input: SuiteInput<'_>,
    cluster: &ClusterOptions,
    select: &SelectOptions,
    terminal: &Terminal,
) -> Result<(Plan, LaunchPreview), ExitCode> {
    let request = PlanRequest {
        input,
        cluster,
        select,
        resolver: Resolver::Runner,
        terminal,
    };
    let planned = EventLoop::Cluster.block_on(terminal, async {
        let mut interrupts = Interrupts::listen();
        Box::pin(request.plan(&new_run_id(), &mut interrupts)).await
    })??;
    Ok((planned.plan, planned.preview))
}

/// The inventory of the cluster for a command that only reads, with the addresses of the hosts that
/// suites name, as this machine resolves them.
///
/// # Errors
/// The cause has been shown.
pub(crate) fn inventory(
    cluster: &ClusterOptions,
    suites: &[Suite],
    terminal: &Terminal,
) -> Result<Inventory, ExitCode> {
    EventLoop::Cluster.block_on(terminal, read_inventory(cluster, suites, terminal))?
}

async fn read_inventory(
    cluster: &ClusterOptions,
    suites: &[Suite],
    terminal: &Terminal,
) -> Result<Inventory, ExitCode> {
    let (access, image) = (&cluster.access, cluster.image.clone());
    let mut kube = Kube::connect(access, image, new_run_id(), &BTreeSet::new())
        .await
        .map_err(|error| impossible(&error, terminal))?;
    for note in kube.notes() {
        terminal.note(note);
    }

    let mut inventory = kube
        .inventory()
        .await
        .map_err(|error| impossible(&error, terminal))?;
    resolve_hosts(
        &mut kube,
        suites,
        &mut inventory,
        Resolver::Runner,
        terminal,
    )
    .await;
    Ok(inventory)
}

/// Removes what killed runs left.
///
/// # Errors
/// [`ExitCode::Impossible`] where the cluster cannot be read; the cause has been shown.
pub(crate) fn clean(access: &Access, runs: Runs, terminal: &Terminal) -> Result<Cleaned, ExitCode> {
    let cleaning = kube::clean(access, runs, jiff::Timestamp::now());
    let cleaned = EventLoop::Cluster.block_on(terminal, cleaning)?;
    cleaned.map_err(|error| impossible(&error, terminal))
}
