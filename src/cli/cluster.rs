//! One run in a cluster, from suites to an exit code.

use super::interrupt::Interrupts;
use super::lab::new_run;
use super::load::{self, SuiteInput};
use super::outputs::{Sinks, describe};
use super::session::{own_digest, run_and_tear_down};
use super::terminal::Terminal;
use super::{RunOptions, SelectArgs, preflight};
use crate::backend::Backend;
use crate::backend::kube::preflight::{Allowances, rights};
use crate::backend::kube::{
    self, Access, Canaries, CanaryError, Image, Kube, LaunchPreview, PROBE_IMAGE,
};
use crate::engine::{self, Replan, RunnerClock};
use crate::event::ExitCode;
use crate::inventory::Inventory;
use crate::model::parse_duration;
use crate::plan::{Plan, Schedule};
use crate::source::Sources;
use crate::suite::{Locator, Suite};
use clap::{Args, ValueEnum};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// How often a probe gives life signs: its log is bounded.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Which cluster, as whom, and with which probes: the first are kubectl's flags.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cluster, where no lab is given")]
pub(super) struct ClusterArgs {
    /// The kubeconfig file
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The cluster of the kubeconfig
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// The user of the kubeconfig
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Where probes run that stand for no workload
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Act as this user
    #[arg(long = "as", value_name = "USER")]
    act_as: Option<String>,
    /// Act as of this group (repeatable)
    #[arg(long = "as-group", value_name = "GROUP")]
    act_as_groups: Vec<String>,
    /// Act as this uid
    #[arg(long = "as-uid", value_name = "UID")]
    act_as_uid: Option<String>,
    /// How long one request to the API server may take; 0 for as long as is usual here
    #[arg(long, value_name = "TIME", value_parser = parse_timeout)]
    request_timeout: Option<Duration>,
    /// The image of the probe
    #[arg(long, value_name = "IMAGE", env = "WATERTIGHT_PROBE_IMAGE", default_value = PROBE_IMAGE)]
    probe_image: String,
    /// When nodes pull it
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        env = "WATERTIGHT_IMAGE_PULL_POLICY",
        default_value_t
    )]
    image_pull_policy: PullWhen,
    /// Let autoscalers count the probes that have their pods' labels
    #[arg(long, env = "WATERTIGHT_ALLOW_HPA")]
    allow_hpa: bool,
    /// First try, with canaries in this namespace, which must hold no other pods, whether each node
    /// enforces policies on probe pods, and how fast
    #[arg(long, value_name = "NAMESPACE", env = "WATERTIGHT_CANARY")]
    canary: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum PullWhen {
    /// Each time.
    Always,
    /// Where it is not there yet.
    #[default]
    IfNotPresent,
    /// Never: it has to be there.
    Never,
}

impl ClusterArgs {
    pub(super) fn access(&self) -> Access {
        Access {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            cluster: self.cluster.clone(),
            user: self.user.clone(),
            namespace: self.namespace.clone(),
            act_as: self.act_as.clone(),
            act_as_groups: self.act_as_groups.clone(),
            act_as_uid: self.act_as_uid.clone(),
            request_timeout: self.request_timeout,
        }
    }

    fn image(&self) -> Image {
        let pull_policy = match self.image_pull_policy {
            PullWhen::Always => "Always",
            PullWhen::IfNotPresent => "IfNotPresent",
            PullWhen::Never => "Never",
        };
        Image {
            name: self.probe_image.clone(),
            pull_policy: pull_policy.to_owned(),
        }
    }
}

/// As kubectl takes it: a plain 0 means no limit of its own.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    if text == "0" {
        Ok(Duration::ZERO)
    } else {
        parse_duration(text).map_err(|error| error.to_string())
    }
}

/// Suites, and what they mean in a cluster that is connected.
pub(super) struct Loaded {
    kube: Kube,
    pub(super) plan: Plan,
    replan: Replan,
    pub(super) preview: LaunchPreview,
}

/// Reads suites, connects, makes the plan.
///
/// # Errors
/// What has been shown already, as an exit code.
pub(super) async fn load(
    given: &SuiteInput<'_>,
    run: &str,
    cluster: &ClusterArgs,
    select: &SelectArgs,
    resolver: Resolver,
    interrupts: &mut Interrupts,
    terminal: &Terminal,
) -> Result<Loaded, ExitCode> {
    let mut sources = Sources::new();
    let mut suites = load::suites(given, select.strict, &mut sources, terminal)?;
    select.apply(&mut suites);
    let impossible = |error: kube::Error| {
        terminal.error(&describe(&error));
        ExitCode::Impossible
    };
    let mut namespaces = namespaces_of(&suites);
    namespaces.extend(cluster.canary.clone());
    namespaces.extend(
        select
            .sweep
            .iter()
            .map(|workload| workload.namespace.clone()),
    );
    let connect = async {
        let connected = Kube::connect(
            &cluster.access(),
            cluster.image(),
            run.to_owned(),
            &namespaces,
        )
        .await;
        connected.map_err(|error| {
            let forbidden = matches!(error, kube::Error::Forbidden { .. });
            let code = impossible(error);
            if forbidden {
                let needed = rights::needed(&namespaces, &namespaces, &BTreeSet::new());
                let role = rights::role_yaml(&needed, cluster.act_as.as_deref());
                terminal.error(&format!(
                    "this grants what a run needs (kubectl apply -f -):\n\n{role}"
                ));
            }
            code
        })
    };
    let mut kube = interruptible(connect, interrupts).await??;
    for note in kube.notes() {
        terminal.note(note);
    }
    let planning = async {
        let mut inventory = kube.inventory().await.map_err(impossible)?;
        name_hosts(&mut kube, &suites, &mut inventory, resolver, terminal).await;
        let planned = load::plan_in_cluster(&inventory, &suites, &select.selection());
        let plan = planned.map_err(|error| load::show_plan_error(&error, &sources, terminal))?;
        let allowances = Allowances {
            autoscalers: cluster.allow_hpa,
        };
        let preview = kube
            .preview(&plan, &namespaces, allowances)
            .await
            .map_err(impossible)?;
        Ok((
            plan,
            load::replan_in_cluster(&inventory, &suites, &select.selection()),
            preview,
        ))
    };
    match interruptible(Box::pin(planning), interrupts)
        .await
        .flatten()
    {
        Ok((plan, replan, preview)) => Ok(Loaded {
            kube,
            plan,
            replan,
            preview,
        }),
        Err(code) => {
            remove(kube, terminal).await;
            Err(code)
        }
    }
}

fn impossible_canary(error: &CanaryError, terminal: &Terminal) -> ExitCode {
    terminal.error(&describe(error));
    ExitCode::Impossible
}

/// Tells what canaries saw. Where no node enforces policies on probes, what probes see is no
/// evidence, also in a plan that is made again.
fn apply_canary_results(canaries: &Canaries, plan: &mut Plan, replan: &mut Replan) {
    plan.add_notes(canaries.sentences());
    if canaries.nowhere_enforced() {
        plan.withdraw_checks_from_clones(
            "probe pods are not enforced here: no canary was blocked on any node, so what a probe sees says nothing of the pod that it stands for: use ephemeral (source: ephemeral)",
        );
        *replan = Replan::default();
    }
}

/// Before a run there may have been a probe that resolved names.
async fn remove(kube: Kube, terminal: &Terminal) {
    for error in kube.teardown().await {
        terminal.note(&format!("not everything was removed: {}", describe(&error)));
    }
}

/// Ends early when the run is interrupted.
async fn interruptible<T>(
    work: impl Future<Output = T>,
    interrupts: &mut Interrupts,
) -> Result<T, ExitCode> {
    tokio::select! {
        done = work => Ok(done),
        _ = interrupts.next() => Err(ExitCode::Impossible),
    }
}

/// The namespaces that suites name.
fn namespaces_of(suites: &[Suite]) -> BTreeSet<String> {
    let endpoints = suites.iter().flat_map(|suite| &suite.endpoints);
    endpoints
        .filter_map(|endpoint| match &endpoint.locator {
            Locator::Workload { namespace, .. } | Locator::Pods { namespace, .. } => {
                Some(namespace.clone())
            }
            Locator::Service { service } => Some(service.namespace.clone()),
            Locator::Host(_) | Locator::Address(_) | Locator::Runner | Locator::Nodes => None,
        })
        .collect()
}

/// Finds the addresses of outside hosts: as pods of the cluster resolve them, else as the runner
/// does.
async fn name_hosts(
    kube: &mut Kube,
    suites: &[Suite],
    inventory: &mut Inventory,
    by: Resolver,
    terminal: &Terminal,
) {
    let endpoints = suites.iter().flat_map(|suite| &suite.endpoints);
    let names: BTreeSet<String> = endpoints
        .filter_map(|endpoint| endpoint.locator.host().map(str::to_owned))
        .collect();
    let mut missing: Vec<String> = names.into_iter().collect();
    if missing.is_empty() {
        return;
    }
    if by == Resolver::Probe {
        match kube.resolve(inventory, &missing).await {
            Ok(found) => {
                missing.retain(|name| !found.contains_key(name));
                inventory.hosts.extend(found);
            }
            Err(why) => terminal.note(&format!(
                "outside names are resolved where watertight runs, since {why}"
            )),
        }
    }
    for name in missing {
        let looked_up = tokio::net::lookup_host((name.as_str(), 0)).await;
        let Ok(addresses) =
            looked_up.map(|found| found.map(|address| address.ip()).collect::<BTreeSet<_>>())
        else {
            continue;
        };
        inventory
            .hosts
            .insert(name, addresses.into_iter().collect());
    }
}

/// Who resolves outside names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolver {
    /// A probe in the cluster.
    Probe,
    /// This process: nothing may be created.
    Runner,
}

/// Runs in the cluster.
pub(super) fn run(
    given: &SuiteInput<'_>,
    cluster: &ClusterArgs,
    options: &RunOptions,
    terminal: &Terminal,
) -> ExitCode {
    // Reports come first: the file of an earlier run must not outlast a run that never begins.
    let mut sinks = match Sinks::open(options, terminal) {
        Ok(sinks) => sinks,
        Err(code) => return code,
    };
    let code = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => {
            let code = runtime.block_on(in_cluster(given, cluster, options, &mut sinks, terminal));
            // What is still being read belongs to probes that are gone.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            terminal.error(&format!("failed to start the event loop: {error}"));
            sinks.stopped("the event loop did not start", ExitCode::Impossible)
        }
    };
    sinks.finish(code, terminal)
}

async fn in_cluster(
    given: &SuiteInput<'_>,
    cluster: &ClusterArgs,
    options: &RunOptions,
    sinks: &mut Sinks,
    terminal: &Terminal,
) -> ExitCode {
    let digest = tokio::task::spawn_blocking(own_digest);
    let mut interrupts = Interrupts::listen();
    let (id, seed) = new_run();
    let loading = load(
        given,
        &id,
        cluster,
        &options.select,
        Resolver::Probe,
        &mut interrupts,
        terminal,
    );
    let loaded = Box::pin(loading).await;
    let Loaded {
        mut kube,
        mut plan,
        mut replan,
        preview,
    } = match loaded {
        Ok(loaded) => loaded,
        Err(code) => return sinks.stopped("there is nothing that could be tested", code),
    };
    if preflight::stops(&preview, terminal) {
        remove(kube, terminal).await;
        return sinks.stopped("preflight refused it", ExitCode::Impossible);
    }
    if let Some(namespace) = &cluster.canary {
        let flown = interruptible(kube.canaries(namespace), &mut interrupts).await;
        let flown =
            flown.and_then(|flown| flown.map_err(|error| impossible_canary(&error, terminal)));
        match flown {
            Ok(canaries) => apply_canary_results(&canaries, &mut plan, &mut replan),
            Err(code) => {
                remove(kube, terminal).await;
                return sinks.stopped("the canaries could not be tried", code);
            }
        }
    }
    sinks.show(options, terminal);
    let schedule = Schedule {
        run: id,
        seed,
        trust: Vec::new(),
        heartbeat: HEARTBEAT,
    };
    let clock = RunnerClock::read(kube.started().elapsed());
    let mut settings = options.settings(None);
    settings.insert("probeImage".to_owned(), cluster.probe_image.clone().into());
    let about = engine::About {
        digest: digest.await.ok().flatten(),
        probe_digest: None,
        settings,
    };
    let engine_options = engine::Options {
        schedule,
        backend: "cluster",
        clock,
        about,
        replan,
    };
    Box::pin(run_and_tear_down(
        &plan,
        kube,
        engine_options,
        interrupts.next(),
        sinks,
        terminal,
    ))
    .await
}

/// Plans for the cluster; changes nothing.
///
/// # Errors
/// What has been shown already, as an exit code.
pub(super) fn plan(
    given: &SuiteInput<'_>,
    cluster: &ClusterArgs,
    select: &SelectArgs,
    terminal: &Terminal,
) -> Result<(Plan, LaunchPreview), ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            terminal.error(&format!("failed to start the event loop: {error}"));
            ExitCode::Impossible
        })?;
    let (id, _) = new_run();
    let loaded = runtime.block_on(async {
        let mut interrupts = Interrupts::listen();
        Box::pin(load(
            given,
            &id,
            cluster,
            select,
            Resolver::Runner,
            &mut interrupts,
            terminal,
        ))
        .await
    });
    runtime.shutdown_background();
    loaded.map(|loaded| (loaded.plan, loaded.preview))
}

/// What exists in a cluster, for those who only look; with the addresses of the hosts that suites
/// name, as this machine resolves them.
///
/// # Errors
/// What has been shown already, as an exit code.
pub(super) fn inventory(
    cluster: &ClusterArgs,
    suites: &[Suite],
    terminal: &Terminal,
) -> Result<Inventory, ExitCode> {
    let impossible = |error: kube::Error| {
        terminal.error(&describe(&error));
        ExitCode::Impossible
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            terminal.error(&format!("failed to start the event loop: {error}"));
            ExitCode::Impossible
        })?;
    let (id, _) = new_run();
    let inventory = runtime.block_on(async {
        let mut kube = Kube::connect(&cluster.access(), cluster.image(), id, &BTreeSet::new())
            .await
            .map_err(impossible)?;
        for note in kube.notes() {
            terminal.note(note);
        }
        let mut inventory = kube.inventory().await.map_err(impossible)?;
        name_hosts(
            &mut kube,
            suites,
            &mut inventory,
            Resolver::Runner,
            terminal,
        )
        .await;
        Ok(inventory)
    });
    runtime.shutdown_background();
    inventory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_of_zero_is_written_without_a_unit() {
        assert_eq!(parse_timeout("0"), Ok(Duration::ZERO));
        assert_eq!(parse_timeout("5s"), Ok(Duration::from_secs(5)));
        assert!(parse_timeout("five").is_err());
    }
}
